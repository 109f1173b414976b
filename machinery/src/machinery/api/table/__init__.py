"""Tables: what `kubectl get` prints, made by the server (meta.k8s.io/v1 Table).

Each kind has a row printer that yields all cells, the wide ones included; clients hide columns of priority 1 unless asked
for `-o wide`. Kinds without a printer of their own show Name and Created At, as upstream does for roles. Own kinds print
their CustomResourceDefinition-like columns. Ages are relative to the `now` that is handed in, so a cached row is wrong by
its own age: rows are computed at every request.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from machinery.api.scheme import ServedKind
from machinery.api.table import custom, printers
from machinery.api.table.cells import Printer
from machinery.meta.resource import Document

IncludeObject = Literal["None", "Metadata", "Object"]

_BOOKMARKED = "resourceVersion"
_POD_CONDITIONS = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


def to_table(
    kind: ServedKind,
    documents: Iterable[Document],
    now: dt.datetime,
    *,
    include_object: IncludeObject = "Metadata",
    list_metadata: Mapping[str, Any] | None = None,
    with_columns: bool = True,
) -> Document:
    """A Table of the documents. `list_metadata` is the list's metadata; of one object it carries its resourceVersion.

    The first event of a watch has the columns, the later ones have `with_columns=False`.
    """
    printer = printer_of(kind)
    rows = [_row(kind, printer, document, now, include_object) for document in documents]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(list_metadata or {}),
        "columnDefinitions": printer.definitions if with_columns else None,
        "rows": rows,
    }


def printer_of(kind: ServedKind) -> Printer:
    """How objects of that kind are printed."""
    if kind.custom or kind.columns:
        return custom.printer(kind)
    return printers.builtin(kind)


def partial_metadata(document: Document) -> Document:
    """The PartialObjectMetadata of an object."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": document.get("metadata") or {},
    }


def partial_metadata_list(
    documents: Iterable[Document], list_metadata: Mapping[str, Any]
) -> Document:
    """The PartialObjectMetadataList of a list."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(list_metadata),
        "items": [partial_metadata(document) for document in documents],
    }


def _row(
    kind: ServedKind,
    printer: Printer,
    document: Document,
    now: dt.datetime,
    include_object: IncludeObject,
) -> Document:
    row: Document = {"cells": printer.cells(document, now)}
    if kind.group_kind == ("", "Pod"):
        phase = (document.get("status") or {}).get("phase")
        if phase in _POD_CONDITIONS:
            row["conditions"] = [
                {
                    "type": "Completed",
                    "status": "True",
                    "reason": phase,
                    "message": _POD_CONDITIONS[phase],
                }
            ]
    row["object"] = _embedded(kind, document, include_object)
    return row


def _embedded(
    kind: ServedKind, document: Document, include_object: IncludeObject
) -> Document | None:
    if include_object == "None":
        return None
    if include_object == "Metadata":
        return partial_metadata(document)
    return {"kind": kind.kind, "apiVersion": kind.api_version, **document}

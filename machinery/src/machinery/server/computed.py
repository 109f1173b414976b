"""Kinds whose objects are made when they are asked for: metrics.

A program gives a `Source` for such a kind; here its objects are selected by labels and fields, and shown in the form that the
client accepts. There is no revision to begin a watch from, and a list is always whole: both as metrics-server has it.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from machinery.api import table
from machinery.api.fieldselectors import value_of
from machinery.api.scheme import ServedKind
from machinery.meta.errors import NotFound, not_found
from machinery.meta.resource import Document
from machinery.server import render
from machinery.server.cache import Selection
from machinery.server.listing import list_query
from machinery.server.negotiate import Accepted, Form
from machinery.server.request import RequestInfo


@dataclass(frozen=True, slots=True)
class Computed:
    """What there is now. `warnings` say whose part is missing."""

    items: Sequence[Document] = ()
    warnings: Sequence[str] = ()


class Source(Protocol):
    """Who makes the objects of one kind; whole documents, with kind and apiVersion."""

    async def get(self, namespace: str, name: str) -> Document | None:
        """One; None: there is none. Raises StatusError."""
        ...

    async def list(self, selection: Selection) -> Computed:
        """Those of the selection at least; what does not match is sorted out afterwards. Raises StatusError."""
        ...


Sources = Mapping[tuple[str, str], Source]
"""By (group, plural)."""


class ComputedKinds:
    """Reads of such kinds."""

    def __init__(self, sources: Sources) -> None:
        self._sources = dict(sources)

    def _source(self, kind: ServedKind) -> Source:
        found = self._sources.get((kind.group, kind.plural))
        if found is None:
            raise NotFound("the server could not find the requested resource", details={})
        return found

    async def get(self, kind: ServedKind, namespace: str, name: str) -> Document:
        """Raises NotFound, StatusError."""
        found = await self._source(kind).get(namespace, name)
        if found is None:
            raise not_found(kind.plural, kind.group, name)
        return found

    async def list(self, kind: ServedKind, selection: Selection) -> Computed:
        """By namespace and name. Raises StatusError."""
        given = await self._source(kind).list(selection)
        items = [item for item in given.items if matches(kind, selection, item)]
        items.sort(key=lambda d: (d["metadata"].get("namespace", ""), d["metadata"]["name"]))
        return Computed(items, given.warnings)

    async def answer(
        self, kind: ServedKind, info: RequestInfo, accepted: Accepted, now: dt.datetime
    ) -> tuple[Document, Sequence[str]]:
        """The document of a GET or LIST in its form, and warnings. Raises StatusError."""
        include = render.include_object(info.first("includeObject"))
        if info.verb == "get":
            found = await self.get(kind, info.namespace, info.name)
            return render.shown(kind, found, accepted, include, now), ()
        given = await self.list(kind, list_query(kind, info).selection)
        return _list_shown(kind, given.items, accepted, include, now), given.warnings


def matches(kind: ServedKind, selection: Selection, document: Document) -> bool:
    """Whether a list with that selection has the object."""
    metadata = document["metadata"]
    if selection.namespace and metadata.get("namespace", "") != selection.namespace:
        return False
    if selection.name and metadata["name"] != selection.name:
        return False
    labels = metadata.get("labels") or {}
    if not all(term.matches(labels) for term in selection.labels):
        return False
    return all(
        term.matches({term.key: value_of(kind, document, term.key)}) for term in selection.fields
    )


def _list_shown(
    kind: ServedKind,
    items: Sequence[Document],
    accepted: Accepted,
    include: render.IncludeObject,
    now: dt.datetime,
) -> Document:
    if accepted.form is Form.TABLE:
        found = table.to_table(kind, items, now, include_object=include)
    elif accepted.form is Form.PARTIAL:
        found = table.partial_metadata_list(items, {})
    else:
        return render.plain_list(kind, [render.item(kind, one) for one in items], {})
    if accepted.version != "v1":
        found = {**found, "apiVersion": f"meta.k8s.io/{accepted.version}"}
    return found

"""Objects and lists in the form that the client asked for: as they are, as Table, as PartialObjectMetadata.

Built kinds leave kind and apiVersion out of a list's items, own kinds keep them, as upstream's typed and unstructured
lists do. The plain JSON of a list is joined from cached bytes without decoding anything.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast

import orjson

from machinery.api import table
from machinery.api.scheme import ServedKind
from machinery.meta.errors import BadRequest
from machinery.meta.resource import Document
from machinery.server import codec, faces
from machinery.server.cache import Entry
from machinery.server.negotiate import Accepted, Form
from machinery.server.replies import dumps

IncludeObject = Literal["None", "Metadata", "Object"]
View = Callable[[Document], Document]


def include_object(text: str) -> IncludeObject:
    """The query parameter of a Table. Raises BadRequest."""
    if text in ("", "Metadata"):
        return "Metadata"
    if text in ("None", "Object"):
        return cast("IncludeObject", text)
    raise BadRequest(
        f'Unable to convert to Table as requested: includeObject: Invalid value: "{text}": '
        "must be 'Metadata', 'Object', 'None', or empty"
    )


def view_of(kind: ServedKind) -> View | None:
    """How a stored document becomes the served one; None when it is the same."""
    return faces.outward(kind)


def shown(
    kind: ServedKind,
    document: Document,
    accepted: Accepted,
    include: IncludeObject,
    now: dt.datetime,
) -> Document:
    """One object in its form."""
    if accepted.form is Form.TABLE:
        metadata = {"resourceVersion": document["metadata"].get("resourceVersion", "")}
        found = table.to_table(
            kind, [document], now, include_object=include, list_metadata=metadata
        )
    elif accepted.form is Form.PARTIAL:
        found = table.partial_metadata(document)
    else:
        return document
    if accepted.version != "v1":
        found = {**found, "apiVersion": f"meta.k8s.io/{accepted.version}"}
    return found


def documents_of(kind: ServedKind, entries: Iterable[Entry]) -> Iterable[Document]:
    """The objects as they are served; not for kinds that webhooks convert."""
    view = view_of(kind)
    documents = (entry.document() for entry in entries)
    return documents if view is None else (view(document) for document in documents)


def shown_list(
    kind: ServedKind,
    documents: Iterable[Document],
    metadata: Document,
    accepted: Accepted,
    include: IncludeObject,
    now: dt.datetime,
) -> Document:
    """A list in a form that needs its objects decoded."""
    if accepted.form is Form.TABLE:
        found = table.to_table(kind, documents, now, include_object=include, list_metadata=metadata)
    elif accepted.form is Form.PARTIAL:
        found = table.partial_metadata_list(documents, metadata)
        if not found["items"]:
            found["items"] = None  # upstream's oddity
    else:
        return plain_list(kind, [item(kind, document) for document in documents], metadata)
    if accepted.version != "v1":
        found = {**found, "apiVersion": f"meta.k8s.io/{accepted.version}"}
    return found


def item(kind: ServedKind, document: Document) -> Document:
    """An object as an item of a list."""
    if kind.custom:
        return document
    return {key: value for key, value in document.items() if key not in ("kind", "apiVersion")}


def plain_list(kind: ServedKind, items: Sequence[Document], metadata: Document) -> Document:
    if kind.dynamic is not None:
        metadata = {"continue": "", **metadata}
    return {
        "kind": kind.list_kind,
        "apiVersion": kind.api_version,
        "metadata": metadata,
        "items": list(items),
    }


def list_head(kind: ServedKind, metadata: Document) -> bytes:
    """A list's JSON up to its first item."""
    return b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        kind.list_kind.encode(), kind.api_version.encode(), orjson.dumps(metadata),
    )  # fmt: skip


LIST_TAIL = b"]}\n"


def items(kind: ServedKind, entries: Sequence[Entry], head: int) -> bytes:
    """The items' JSON, joined by commas, from stored bytes."""
    if kind.custom:
        return b",".join([codec.splice(e.value, e.revision, head) for e in entries])
    return b",".join(
        [b'{"metadata":{"resourceVersion":"%d",%b' % (e.revision, e.value[head:]) for e in entries]
    )


def event_encoder(
    kind: ServedKind,
    stored: ServedKind,
    accepted: Accepted,
    include: IncludeObject,
    now: Callable[[], dt.datetime],
) -> tuple[Callable[[str, bytes, int], bytes], str]:
    """(how a watch encodes an event, the name under which watchers may share it; empty: not at all)."""
    head = len(codec.head_of(stored))
    view = view_of(kind)
    if accepted.form is Form.OBJECT and view is None:
        bookmark = b'{"type":"BOOKMARK","object":{"kind":"%b","apiVersion":"%b","metadata":{"resourceVersion":"%%d"}}}\n'
        bookmark %= (kind.kind.encode(), kind.api_version.encode())

        def plain(event: str, value: bytes, revision: int) -> bytes:
            if not value:
                return bookmark % revision
            return b'{"type":"%b","object":%b}\n' % (
                event.encode(), codec.splice(value, revision, head),
            )  # fmt: skip

        return plain, "json"
    first = True

    def transformed(event: str, value: bytes, revision: int) -> bytes:
        nonlocal first
        if not value:
            return dumps({"type": event, "object": _bookmark(kind, accepted, revision)})
        document = codec.decode(value, revision)
        if view is not None:
            document = view(document)
        if accepted.form is Form.TABLE:
            metadata = {"resourceVersion": str(revision)}
            document = table.to_table(
                kind, [document], now(), include_object=include, list_metadata=metadata,
                with_columns=first,
            )  # fmt: skip
            first = False
        elif accepted.form is Form.PARTIAL:
            document = table.partial_metadata(document)
        if accepted.form is not Form.OBJECT and accepted.version != "v1":
            document = {**document, "apiVersion": f"meta.k8s.io/{accepted.version}"}
        return dumps({"type": event, "object": document})

    shared = "" if accepted.form is Form.TABLE else f"{kind.api_version} {accepted.form.value}"
    return transformed, shared


def _bookmark(kind: ServedKind, accepted: Accepted, revision: int) -> Document:
    metadata = {"resourceVersion": str(revision)}
    if accepted.form is Form.TABLE:
        return {
            "kind": "Table", "apiVersion": f"meta.k8s.io/{accepted.version}", "metadata": metadata,
            "columnDefinitions": None, "rows": None,
        }  # fmt: skip
    if accepted.form is Form.PARTIAL:
        return {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"meta.k8s.io/{accepted.version}",
            "metadata": metadata,
        }
    return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}

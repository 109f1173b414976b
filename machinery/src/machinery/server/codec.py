"""How an object lies in the store, and how it gets its resourceVersion.

The stored value is JSON in canonical order, kind and apiVersion first, then metadata, without resourceVersion (which
is the row's revision and known only after the commit):

    {"kind":"Pod","apiVersion":"v1","metadata":{"name":…

So the resourceVersion is spliced in at an offset that is the same for all objects of a kind, without decoding. Objects of
dynamic kinds lie in whatever was their storage version when they were written; they are decoded to be read.
"""

from typing import Any

import orjson

from machinery.api.customresources import conversion
from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document

REGISTRY = "/registry/"
_FRAME_SIZE = len('{"kind":"","apiVersion":"","metadata":{')


def storage_prefix(kind: ServedKind) -> str:
    """Where a kind's objects lie."""
    return f"{REGISTRY}{kind.group or 'core'}/{kind.plural}/"


def storage_key(kind: ServedKind, namespace: str, name: str) -> str:
    """The key of one object; the namespace of a cluster-scoped one is empty."""
    return f"{REGISTRY}{kind.group or 'core'}/{kind.plural}/{namespace}/{name}"


def head_of(kind: ServedKind) -> bytes:
    """What every stored value of the kind begins with."""
    return f'{{"kind":"{kind.kind}","apiVersion":"{kind.api_version}","metadata":{{'.encode()


def head_size(kind: ServedKind) -> int:
    """len(head_of(kind)), without making it."""
    version = len(kind.version) + (len(kind.group) + 1 if kind.group else 0)
    return _FRAME_SIZE + len(kind.kind) + version


def encode(kind: ServedKind, document: Document) -> bytes:
    """The value to store."""
    if kind.dynamic is not None:
        document = conversion.inward(kind, document)
        return orjson.dumps(_bare(document))
    metadata: dict[str, Any] = document.get("metadata") or {}
    if "resourceVersion" in metadata:
        metadata = {key: value for key, value in metadata.items() if key != "resourceVersion"}
    value = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    value.update(
        (key, field)
        for key, field in document.items()
        if key not in ("kind", "apiVersion", "metadata")
    )
    return orjson.dumps(value)


def _bare(document: Document) -> Document:
    """Without its resourceVersion."""
    metadata = {k: v for k, v in document["metadata"].items() if k != "resourceVersion"}
    return {**document, "metadata": metadata}


def splice(value: bytes, revision: int, head: int) -> bytes:
    """The object as it travels: `value` with its resourceVersion. `head` is len(head_of(kind))."""
    return b'%b"resourceVersion":"%d",%b' % (value[:head], revision, value[head:])


def decode(value: bytes, revision: int) -> Document:
    """The object as a document of its own, resourceVersion included (0: none)."""
    document: Document = orjson.loads(value)
    if revision:
        document["metadata"]["resourceVersion"] = str(revision)
    return document

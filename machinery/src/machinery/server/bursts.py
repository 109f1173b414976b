"""Pods come in bursts: a ReplicaSet asks for the same pod a hundred times over, only the names differ.

What a create computes without looking at the name is a pure function of the wish: the decoded body, the defaults, the set
of fields that the creator owns, whether its metadata is sound. It is kept for the last few hundred wishes, keyed by their bytes. Documents are shared
and never changed, as everywhere in the server. What depends on other objects (admission) or on the moment is not kept.
"""

from typing import Generic, NamedTuple, TypeVar

import orjson

from machinery.api import decode, defaults
from machinery.api.decode import Decoded
from machinery.api.managed_fields import FieldSet, created_fields
from machinery.api.scheme import ServedKind
from machinery.api.validation.metadata import is_sound
from machinery.api.warnings import spec_advice
from machinery.meta.resource import Document

KEPT_MAX = 256
KEY_BYTES_MAX = 16 * 1024
"""Larger wishes are worked out every time: 256 of this size are all that is ever kept."""
T = TypeVar("T")


class _Recent(Generic[T]):
    """The last answers by key, the oldest dropped first."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, bytes], T] = {}

    def get(self, key: tuple[str, str, bytes]) -> T | None:
        return self._kept.get(key)

    def keep(self, key: tuple[str, str, bytes], answer: T) -> list[T]:
        """Keep it, unless it is large; what was dropped for it."""
        if len(key[2]) > KEY_BYTES_MAX:
            return []
        gone = []
        if len(self._kept) >= KEPT_MAX:
            gone.append(self._kept.pop(next(iter(self._kept))))
        self._kept[key] = answer
        return gone


class Wish(NamedTuple):
    """A new pod with its defaults (named or not yet), and what its creator owns of it."""

    document: Document
    fields: FieldSet
    advice: tuple[str, ...]
    """Warnings, those of the name aside."""
    sound: bool
    """Whether its metadata has no fault, the name aside."""


class _Body:
    """A decoded body, and the wish that it last was, in which namespace."""

    __slots__ = ("decoded", "namespace", "wish")

    def __init__(self, decoded: Decoded) -> None:
        self.decoded = decoded
        self.namespace = ""
        self.wish: Wish | None = None


class Bursts:
    """The memory of one server."""

    def __init__(self) -> None:
        self._bodies: _Recent[_Body] = _Recent()
        self._by_document: dict[int, _Body] = {}
        self._wishes: _Recent[Wish] = _Recent()

    def body(self, kind: ServedKind, raw: bytes, media: str, field_validation: str) -> Decoded:
        """`decode_body`, remembered for pods. Raises as it does."""
        if not is_pod(kind):
            return decode.decode_body(kind, raw, media, field_validation)
        key = (media, field_validation, raw)
        found = self._bodies.get(key)
        if found is None:
            found = _Body(decode.decode_body(kind, raw, media, field_validation))
            for gone in self._bodies.keep(key, found):
                self._by_document.pop(id(gone.decoded.document), None)
            if found is self._bodies.get(key):
                self._by_document[id(found.decoded.document)] = found
        return found.decoded

    def wish(self, kind: ServedKind, document: Document, origin: Document) -> Wish:
        """A pod's defaults and its creator's fields. `document` has metadata, without managedFields.

        `origin` is what it was made of by giving it a namespace and a name: the document of a body that is remembered
        here spares comparing the bytes.
        """
        metadata = document["metadata"]
        body = self._by_document.get(id(origin))
        if body is None or body.decoded.document is not origin:
            found = self._compared(kind, document)
        else:
            if body.wish is None or body.namespace != metadata.get("namespace"):
                body.wish, body.namespace = self._compared(kind, document), metadata["namespace"]
            found = body.wish
        if not metadata.get("name"):
            return found
        return found._replace(document={**found.document, "metadata": metadata})

    def _compared(self, kind: ServedKind, document: Document) -> Wish:
        """The wish without its name, by its bytes."""
        metadata = document["metadata"]
        if "name" in metadata:
            nameless = {key: value for key, value in metadata.items() if key != "name"}
            document = {**document, "metadata": nameless}
        key = ("", "", orjson.dumps(document))
        found = self._wishes.get(key)
        if found is None:
            filled = defaults.apply_defaults(kind, document)
            fields, advice = created_fields(kind, filled), spec_advice(filled)
            found = Wish(filled, fields, advice, is_sound(kind, filled))
            _ = self._wishes.keep(key, found)
        return found


def is_pod(kind: ServedKind) -> bool:
    """Whether wishes of the kind are worth remembering."""
    return kind.kind == "Pod" and not kind.group

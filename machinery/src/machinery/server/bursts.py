"""Pods come in bursts: a ReplicaSet asks for the same pod a hundred times over, only the names differ.

What a create computes without looking at the name is a pure function of the wish: the decoded body, the defaults, the set
of fields that the creator owns. It is kept for the last few hundred wishes, keyed by their bytes. Documents are shared
and never changed, as everywhere in the server. What depends on other objects (admission) or on the moment is not kept.
"""

from typing import Generic, NamedTuple, TypeVar

import orjson

from machinery.api import decode, defaults
from machinery.api.decode import Decoded
from machinery.api.managed_fields import FieldSet, created_fields
from machinery.api.scheme import ServedKind
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

    def keep(self, key: tuple[str, str, bytes], answer: T) -> None:
        if len(key[2]) > KEY_BYTES_MAX:
            return
        if len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = answer


class Wish(NamedTuple):
    """A new pod with its defaults (named or not yet), and what its creator owns of it."""

    document: Document
    fields: FieldSet
    advice: tuple[str, ...]
    """Warnings, those of the name aside."""


class Bursts:
    """The memory of one server."""

    def __init__(self) -> None:
        self._bodies: _Recent[Decoded] = _Recent()
        self._wishes: _Recent[Wish] = _Recent()

    def body(self, kind: ServedKind, raw: bytes, media: str, field_validation: str) -> Decoded:
        """`decode_body`, remembered for pods. Raises as it does."""
        if not is_pod(kind):
            return decode.decode_body(kind, raw, media, field_validation)
        key = (media, field_validation, raw)
        found = self._bodies.get(key)
        if found is None:
            found = decode.decode_body(kind, raw, media, field_validation)
            self._bodies.keep(key, found)
        return found

    def wish(self, kind: ServedKind, document: Document) -> Wish:
        """A pod's defaults and its creator's fields. `document` has metadata, without managedFields."""
        metadata = document["metadata"]
        name = metadata.get("name", "")
        if name:
            nameless = {key: value for key, value in metadata.items() if key != "name"}
            document = {**document, "metadata": nameless}
        key = ("", "", orjson.dumps(document))
        found = self._wishes.get(key)
        if found is None:
            filled = defaults.apply_defaults(kind, document)
            found = Wish(filled, created_fields(kind, filled), spec_advice(filled))
            self._wishes.keep(key, found)
        if not name:
            return found
        return Wish({**found.document, "metadata": metadata}, found.fields, found.advice)


def is_pod(kind: ServedKind) -> bool:
    """Whether wishes of the kind are worth remembering."""
    return kind.kind == "Pod" and not kind.group

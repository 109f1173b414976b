"""Committed objects of one server, read without waiting: for admission that judges one object by others.

Views are shared by everybody in the process and must not be changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import msgspec

from machinery.api.customresources.conversion import ConversionWanted
from machinery.api.scheme import Scheme, ServedKind
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server import codec, faces
from machinery.server.cache import KindCache, WatchCache
from machinery.store.interface import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Labelled:
    """An object that has a label: of which kind, and its other labels."""

    kind: ServedKind
    name: str
    labels: dict[str, str]


class Committed:
    """One object as the store has it; many as the watch cache does, which hears of a commit a moment later."""

    def __init__(self, scheme: Scheme, store: Store, cache: WatchCache) -> None:
        self._scheme, self._store, self._cache = scheme, store, cache

    def _of(self, resource: Resource[Any]) -> KindCache | None:
        kind = self._scheme.by_plural(resource.group, resource.version, resource.plural)
        return None if kind is None else self._cache.of(self._scheme.stored(kind))

    def get(self, resource: Resource[T], key: ObjectKey) -> T | None:
        """The object's view; None when it is not there, or its kind is not served. Not for plain documents."""
        cache = self._of(resource)
        if cache is None:
            return None
        row = self._store.get(f"{cache.prefix}{key.namespace}/{key.name}")
        if row is None:
            return None
        view: Any = resource.view
        if cache.kind.dynamic is not None:
            document = _live(cache.kind, codec.decode(row.value, row.revision))
            return cast("T", msgspec.convert(document, view))
        entry = cache.entries.get(f"{key.namespace}/{key.name}")
        if entry is not None and entry.revision == row.revision:
            return cast("T", entry.view(view, cache.head))
        raw = codec.splice(row.value, row.revision, cache.head)
        return cast("T", msgspec.json.decode(raw, type=view))

    def labelled(self, namespace: str, label: str, value: str) -> list[Labelled]:
        """Objects of the namespace, of whatever kind, that have the label with this value."""
        return [
            Labelled(cache.kind, entry.name, dict(entry.labels))
            for cache in self._cache.all()
            for entry in cache.labelled(label, value)
            if entry.namespace == namespace
        ]

    def list(self, resource: Resource[T], namespace: str = "") -> Iterator[T]:
        """Of one namespace, or of all."""
        cache = self._of(resource)
        if cache is None:
            return
        view: Any = resource.view
        for key in cache.ordered(namespace):
            if cache.kind.dynamic is not None:
                document = _live(cache.kind, cache.entries[key].document())
                yield cast("T", msgspec.convert(document, view))
                continue
            yield cast("T", cache.entries[key].view(view, cache.head))


def _live(kind: ServedKind, document: Document) -> Document:
    """In the version of the kind; as it lies where that would have to be waited for."""
    try:
        return faces.live(kind, document)
    except ConversionWanted:
        return document

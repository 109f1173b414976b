"""Looking at committed objects from the side: admission asks for the same namespace and account at every create.

The decoded document of a row is kept until the row is another one. Callers must not change it.
"""

from machinery.meta.resource import Document
from machinery.server.codec import REGISTRY, decode
from machinery.store.interface import Row, Store

KEPT_MAX = 2048


class Peek:
    """`peek("core/pods", namespace, name)`: the committed object, without waiting; None when there is none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, tuple[Row, Document]] = {}

    def __call__(self, path: str, namespace: str, name: str) -> Document | None:
        key = f"{REGISTRY}{path}/{namespace}/{name}"
        row = self._store.get(key)
        if row is None:
            return None
        kept = self._kept.get(key)
        if kept is not None and kept[0] is row:
            return kept[1]
        document = decode(row.value, row.revision)
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[key] = (row, document)
        return document

"""Whether a write would change nothing: then it is answered and not written, so that no watcher is woken for it."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from machinery.meta.resource import Document


def unchanged(live: Document, new: Document) -> bool:
    """Whether a write would change nothing but times of field managers."""
    old_meta, new_meta = live["metadata"], new["metadata"]
    if not _same({**live, "metadata": None}, {**new, "metadata": None}):
        return False
    if old_meta == new_meta:
        return True
    skip = ("managedFields", "resourceVersion")
    if {k: v for k, v in old_meta.items() if k not in skip} != {
        k: v for k, v in new_meta.items() if k not in skip
    }:
        return False
    return _managers(old_meta) == _managers(new_meta)


def _same(live: Document, new: Document) -> bool:
    """Equality as JSON has it: to Python `1 == True == 1.0`. Metadata needs no such care, its schema has no room for it."""
    return live == new and _sorted(live) == _sorted(new)


def _sorted(document: Document) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _managers(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries: Sequence[Mapping[str, Any]] = metadata.get("managedFields") or ()
    plain = [{k: v for k, v in entry.items() if k != "time"} for entry in entries]
    return sorted(plain, key=lambda entry: (entry.get("manager", ""), entry.get("operation", "")))

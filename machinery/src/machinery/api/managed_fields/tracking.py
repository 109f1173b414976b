"""Who has set what: create, update and patch record their manager in metadata.managedFields.

A write takes the fields that it adds or changes from every other manager, and gives up for all of them the fields that it
removes. An object that was made without managers stays without them (as upstream skips objects that were never applied).
"""

from functools import lru_cache

from machinery.api import structure
from machinery.api.managed_fields import entries
from machinery.api.managed_fields.entries import UPDATE, Entry
from machinery.api.managed_fields.sets import FieldSet, difference, union
from machinery.api.managed_fields.walk import compare
from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document

_SCALE = "scale"
_STATUS = frozenset({"status"})
_SPEC = frozenset({"spec"})
_NOTHING: frozenset[str] = frozenset()


def update_manager(
    kind: ServedKind,
    live: Document | None,
    new: Document,
    manager: str,
    time: str,
    subresource: str = "",
) -> Document:
    """`new` with its managedFields after a create (`live` is None) or an update by `manager`.

    Call it with the object as the client wants it, defaults included, before admission and strategies change it: what the
    server adds of its own accord belongs to nobody.
    """
    held = known(live, new, subresource)
    if live is not None and not held:
        return strip(new)
    shape = structure.of_kind(kind)
    before = live if live is not None else blank(kind)
    changed, removed = compare(before, new, shape, skipped(kind, subresource))
    if live is None:
        removed = {}
    mine = (manager, UPDATE, kind.api_version, subresource)
    rows = [
        _after(entry, changed, removed) if entry.api_version == kind.api_version else entry
        for entry in held
    ]
    if changed:
        rows = _with_own(held, rows, Entry(*mine, "" if subresource == _SCALE else time, changed))
    return with_entries(new, rows)


def _after(entry: Entry, changed: FieldSet, removed: FieldSet) -> Entry:
    left = difference(difference(entry.fields, changed), removed)
    return entry if left is entry.fields else entry._replace(fields=left)


def _with_own(held: list[Entry], rows: list[Entry], own: Entry) -> list[Entry]:
    """The rows with the writer's: what it still has, and what it has just set."""
    for index, entry in enumerate(held):
        if entry.identity == own.identity:
            merged = own._replace(fields=union(rows[index].fields, own.fields))
            return [*rows[:index], merged, *rows[index + 1 :]]
    return [*rows, own]


def known(live: Document | None, new: Document, subresource: str) -> list[Entry]:
    """The entries to go on from: those the client sent back, else the live ones. `[{}]` resets them."""
    given = (new.get("metadata") or {}).get("managedFields")
    stored = (live or {}).get("metadata", {}).get("managedFields")
    if not subresource:
        if given == [{}]:
            return []
        found = entries.read(given)
        if found:
            return found
    return entries.read(stored) or []


def skipped(kind: ServedKind, subresource: str) -> frozenset[str]:
    """Root fields that an endpoint does not set."""
    if subresource == "status":
        return _SPEC
    if not subresource and kind.has_status:
        return _STATUS
    return _NOTHING


@lru_cache(maxsize=1024)
def blank(kind: ServedKind) -> Document:
    """The object that a create begins from: Go's zero value of a built kind, nothing of an own one."""
    if kind.schema is not None:
        return {}
    found: Document = structure.zero(structure.of_kind(kind))
    return found


def strip(document: Document) -> Document:
    """The document without managedFields; itself if it has none."""
    metadata = document.get("metadata") or {}
    if "managedFields" not in metadata:
        return document
    left = {key: value for key, value in metadata.items() if key != "managedFields"}
    return {**document, "metadata": left}


def with_entries(document: Document, rows: list[Entry]) -> Document:
    """The document with these managers."""
    written = entries.write(rows)
    if not written:
        return strip(document)
    return {**document, "metadata": {**document["metadata"], "managedFields": written}}

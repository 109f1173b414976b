"""The managedFields list of an object: entries by manager, their order, and the bound on their number."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from machinery.api.managed_fields.sets import SELF, FieldSet, union
from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document

APPLY = "Apply"
UPDATE = "Update"
UPDATE_MANAGERS_MAX = 10
"""Update entries of one object; beyond it the oldest are merged."""
OLD_UPDATES = "ancient-changes"
BEFORE_FIRST_APPLY = "before-first-apply"


class Entry(NamedTuple):
    """One manager's fields. The same name on another subresource, version or operation is another manager."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: FieldSet

    @property
    def identity(self) -> tuple[str, str, str, str]:
        return (self.manager, self.operation, self.api_version, self.subresource)

    def document(self) -> Document:
        found: Document = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
        }
        if self.time:
            found["time"] = self.time
        found |= {"fieldsType": "FieldsV1", "fieldsV1": self.fields}
        if self.subresource:
            found["subresource"] = self.subresource
        return found


def comparable(kind: ServedKind, entry: Entry) -> bool:
    """Whether an entry names fields as this version does. All versions of a custom kind do: nothing is converted."""
    if kind.dynamic is None:
        return entry.api_version == kind.api_version
    return entry.api_version.rpartition("/")[0] == kind.group


def read(rows: Any) -> list[Entry] | None:
    """The entries of a managedFields list; None where it is not one (upstream then starts anew)."""
    entries: list[Entry] = []
    for row in rows or ():
        if not isinstance(row, dict) or row.get("operation") not in (APPLY, UPDATE):
            return None
        fields = row.get("fieldsV1")
        entries.append(
            Entry(
                row.get("manager", ""),
                row["operation"],
                row.get("apiVersion", ""),
                row.get("subresource", ""),
                row.get("time") or "",
                fields if isinstance(fields, dict) else {},
            )
        )
    return entries


def sound(rows: Any) -> bool:
    """Whether the sets of a managedFields list that a client sent are sets: nodes within nodes, and elements that can be read."""
    return all(_is_set(row.get("fieldsV1") or {}) for row in rows or () if isinstance(row, dict))


def _is_set(node: Any) -> bool:
    if not isinstance(node, dict):
        return False
    return all(_is_element(key) and _is_set(inner) for key, inner in node.items())


def _is_element(text: str) -> bool:
    kind, rest = text[:2], text[2:]
    if text == SELF or kind == "f:":
        return True
    if kind == "i:":
        return rest.lstrip("-").isdecimal()
    if kind not in ("k:", "v:"):
        return False
    try:
        found = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) if kind == "k:" else True


def write(entries: Sequence[Entry]) -> list[Document]:
    """The managedFields list: Apply before Update, then by time and name. Managers of nothing are left out."""
    kept = [entry for entry in entries if entry.fields]
    if len(kept) > UPDATE_MANAGERS_MAX:
        kept = _capped(kept)
    if len(kept) > 1:
        kept.sort(key=lambda e: (e.operation, e.time, e.manager, e.api_version, e.subresource))
    return [entry.document() for entry in kept]


def _capped(entries: list[Entry]) -> list[Entry]:
    """At most ten Update managers: the oldest become one, version by version."""
    updates = sorted(
        (e for e in entries if e.operation == UPDATE), key=lambda e: (e.time, e.manager)
    )
    kept = {e.identity: e for e in entries}
    excess = len(updates) - UPDATE_MANAGERS_MAX
    first: dict[str, Entry] = {}
    for entry in updates:
        if excess <= 0:
            break
        bucket = Entry(OLD_UPDATES, UPDATE, entry.api_version, "", entry.time, {})
        if entry.api_version not in first:
            first[entry.api_version] = entry
            continue
        if bucket.identity not in kept:
            founder = first[entry.api_version]
            kept.pop(founder.identity, None)
            kept[bucket.identity] = bucket._replace(fields=founder.fields)
        held = kept[bucket.identity]
        kept[bucket.identity] = bucket._replace(fields=union(held.fields, entry.fields))
        if entry.identity != bucket.identity:
            kept.pop(entry.identity, None)
        excess -= 1
    return list(kept.values())

"""Who has set what: create, update and patch record their manager in metadata.managedFields.

A write takes the fields that it adds or changes from every other manager, and gives up for all of them the fields that it
removes. An object that was made without managers stays without them (as upstream skips objects that were never applied).
"""

from functools import cache

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
_SEALED = {("certificates.k8s.io", "CertificateSigningRequest"): _SPEC | _STATUS}
"""Kinds whose spec nobody owns, because it cannot be changed."""


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
    stamp = "" if subresource == _SCALE else time
    own = Entry(manager, UPDATE, kind.api_version, subresource, stamp, changed)
    return with_entries(new, _rows(kind, held, own, removed))


def created_fields(kind: ServedKind, new: Document) -> FieldSet:
    """What the creator of an object owns of it. The object's name plays no part."""
    changed, _ = compare(blank(kind), new, structure.of_kind(kind), skipped(kind, ""))
    return changed


def with_creator(
    kind: ServedKind, new: Document, fields: FieldSet, manager: str, time: str
) -> Document:
    """A new object with its first manager: what `update_manager` makes of it, its fields known before."""
    if not fields:
        return strip(new)
    row = Entry(manager, UPDATE, kind.api_version, "", time, fields).document()
    return {**new, "metadata": {**new["metadata"], "managedFields": [row]}}


def _rows(kind: ServedKind, held: list[Entry], own: Entry, removed: FieldSet) -> list[Entry]:
    """The entries after a write: `own` has what it set, nobody has what was removed."""
    changed, found = own.fields, False
    rows: list[Entry] = []
    for entry in held:
        fields = entry.fields
        if not entries.comparable(kind, entry):
            rows.append(entry)
        elif changed and entry.identity == own.identity:
            found = True
            rows.append(own._replace(fields=union(difference(fields, removed), changed)))
        else:
            left = difference(difference(fields, changed), removed)
            rows.append(entry if left is fields else entry._replace(fields=left))
    return rows if found or not changed else [*rows, own]


def known(live: Document | None, new: Document, subresource: str) -> list[Entry]:
    """The entries to go on from: those the client sent back, else the live ones. `[{}]` resets them."""
    given = (new.get("metadata") or {}).get("managedFields")
    stored = (live or {}).get("metadata", {}).get("managedFields")
    if not subresource:
        if given == [{}]:
            return []
        found = entries.read(given) if given == stored or entries.sound(given) else None
        if found:
            return found
    return entries.read(stored) or []


def skipped(kind: ServedKind, subresource: str) -> frozenset[str]:
    """Root fields that an endpoint does not set."""
    if subresource == "status":
        return _SPEC
    if not subresource and kind.has_status:
        return _SEALED.get(kind.group_kind, _STATUS)
    return _NOTHING


def blank(kind: ServedKind) -> Document:
    """The object that a create begins from: Go's zero value of a built kind, nothing of an own one."""
    return {} if kind.schema is not None else _zero(kind.schema_name)


@cache
def _zero(schema_name: str) -> Document:
    found: Document = structure.zero(structure.of(schema_name))
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

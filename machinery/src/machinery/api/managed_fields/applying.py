"""Server-side apply: a manager states the fields it wants; the server merges, removes what it no longer states, and refuses
to take fields from others unless forced.

An object without managers is first attributed to `before-first-apply`, so that the first apply meets conflicts instead of
overwriting. kubectl may take over what it had set by client-side apply: what stands in the last-applied annotation is its.
Entries of other API versions of a built kind are left alone; the versions of a custom kind name their fields alike and count as one.
"""

from typing import Any

import orjson

from machinery.api import structure
from machinery.api.managed_fields import entries, typed
from machinery.api.managed_fields.conflicts import conflict
from machinery.api.managed_fields.entries import APPLY, BEFORE_FIRST_APPLY, UPDATE, Entry
from machinery.api.managed_fields.merging import has_null, merged, pruned, without_marks
from machinery.api.managed_fields.sets import FieldSet, difference, intersection, union
from machinery.api.managed_fields.tracking import blank, skipped, strip, with_entries
from machinery.api.managed_fields.walk import META_SKIPPED, ROOT_SKIPPED, compare, named_fields
from machinery.api.scheme import ServedKind
from machinery.api.structure import UNTYPED, Shape
from machinery.meta.errors import BadRequest
from machinery.meta.resource import Document

_KUBECTL = "kubectl"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def apply(
    kind: ServedKind,
    live: Document | None,
    applied: Document,
    manager: str,
    force: bool,
    time: str,
    subresource: str = "",
) -> Document:
    """The live object (None: a new one) with the configuration applied, before defaults, strategies and admission.

    Raises BadRequest for another kind or an own managedFields, InternalError for what does not fit the schema, Conflict.
    """
    _check(kind, applied)
    shape = structure.of_kind(kind)
    ignored = skipped(kind, subresource)
    typed.check(kind, applied, shape)
    applied = {key: value for key, value in applied.items() if key not in ignored}
    return _Apply(kind, shape, ignored, subresource).run(live, applied, manager, force, time)


def _check(kind: ServedKind, applied: Document) -> None:
    version, name = applied.get("apiVersion", ""), applied.get("kind", "")
    if (version, name) != (kind.api_version, kind.kind):
        shown = version if "/" in version else f"/{version}"
        raise BadRequest(f"invalid object type: {shown}, Kind={name}")
    if (applied.get("metadata") or {}).get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil")


class _Apply:
    """One apply: what it works on, so that the steps below need not pass it about."""

    def __init__(
        self, kind: ServedKind, shape: Shape, ignored: frozenset[str], subresource: str
    ) -> None:
        self.kind = kind
        self.shape = shape
        self.ignored = ignored
        self.subresource = subresource

    def run(
        self, live: Document | None, applied: Document, manager: str, force: bool, time: str
    ) -> Document:
        held = self._held(live, time)
        base = strip(live) if live is not None else blank(self.kind)
        identity = (manager, APPLY, self.kind.api_version, self.subresource)
        mine = next((e for e in held if e.identity == identity), None)
        others = [e for e in held if e.identity != identity]
        wanted = field_set(applied, self.shape, self.ignored)
        result = self._result(base, applied, mine, others, wanted)
        changed, removed = compare(base, result, self.shape, self.ignored)
        disputed = self._disputed(others, changed)
        if disputed and not force:
            disputed = self._without_own_past(disputed, base, manager)
            if disputed:
                raise conflict(disputed)
        others = [self._reduced(e, changed, removed) for e in others]
        touched = bool(changed or removed) or mine is None
        row = Entry(*identity, time if touched or mine is None else mine.time, wanted)
        result = _annotated(
            without_marks(result) if has_null(applied) else result, applied, manager
        )
        result = {"apiVersion": self.kind.api_version, "kind": self.kind.kind, **result}
        return with_entries(_without_zeros(result) if live is None else result, [row, *others])

    def _held(self, live: Document | None, time: str) -> list[Entry]:
        if live is None:
            return []
        held = entries.read(live["metadata"].get("managedFields"))
        if held:
            return held
        everything, _ = compare(blank(self.kind), live, self.shape, frozenset())
        return [Entry(BEFORE_FIRST_APPLY, UPDATE, self.kind.api_version, "", time, everything)]

    def _result(
        self,
        base: Document,
        applied: Document,
        mine: Entry | None,
        others: list[Entry],
        wanted: FieldSet,
    ) -> Document:
        result: Document = merged(base, applied, self.shape)
        if mine is None:
            return result
        owned = wanted
        for entry in others:
            if entries.comparable(self.kind, entry):
                owned = union(owned, entry.fields)
        left = pruned(result, mine.fields, owned, self.shape)
        return left if isinstance(left, dict) else {}

    def _disputed(self, others: list[Entry], changed: FieldSet) -> list[tuple[Entry, FieldSet]]:
        found = [
            (entry, intersection(entry.fields, changed))
            for entry in others
            if entries.comparable(self.kind, entry)
        ]
        return [(entry, fields) for entry, fields in found if fields]

    def _reduced(self, entry: Entry, changed: FieldSet, removed: FieldSet) -> Entry:
        if not entries.comparable(self.kind, entry):
            return entry
        return entry._replace(fields=difference(difference(entry.fields, changed), removed))

    def _without_own_past(
        self, disputed: list[tuple[Entry, FieldSet]], base: Document, manager: str
    ) -> list[tuple[Entry, FieldSet]]:
        """kubectl's conflicts with what it applied client-side are none."""
        past = _last_applied(base) if manager == _KUBECTL else None
        if past is None:
            return disputed
        own = field_set(past, self.shape, frozenset())
        rows = [(entry, difference(fields, own)) for entry, fields in disputed]
        return [(entry, fields) for entry, fields in rows if fields]


def field_set(applied: Document, shape: Shape, ignored: frozenset[str]) -> FieldSet:
    """The fields that a configuration names, without those that nobody owns."""
    fields = named_fields(applied, shape, ignored | ROOT_SKIPPED | {"metadata"})
    metadata = applied.get("metadata")
    if isinstance(metadata, dict):
        below = named_fields(metadata, (shape.fields or {}).get("metadata", UNTYPED), META_SKIPPED)
        if below:
            fields["f:metadata"] = below
    return fields


def _last_applied(base: Document) -> Document | None:
    text = ((base.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    if not text:
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _annotated(result: Document, applied: Document, manager: str) -> Document:
    """kubectl keeps the last-applied annotation true where an object has one, for those who still apply client-side."""
    metadata = result.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if manager != _KUBECTL or LAST_APPLIED not in annotations:
        return result
    text = orjson.dumps(_clean(applied), option=orjson.OPT_SORT_KEYS).decode() + "\n"
    return {
        **result,
        "metadata": {**metadata, "annotations": {**annotations, LAST_APPLIED: text}},
    }


def _clean(applied: Document) -> Document:
    metadata: Any = applied.get("metadata") or {}
    annotations = metadata.get("annotations")
    if not annotations or LAST_APPLIED not in annotations:
        return applied
    left = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return {**applied, "metadata": {**metadata, "annotations": left}}


def _without_zeros(document: Document) -> Document:
    """A new object without the nulls that Go's zero value brought."""
    out: Document = {}
    for key, value in document.items():
        if isinstance(value, dict):
            out[key] = _without_zeros(value)
        elif value is not None:
            out[key] = value
    return out

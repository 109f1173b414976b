"""From documents to sets of fields: what an object has, and what differs between two.

`compare` is on the path of every write. Python compares equal subtrees in C, and a path-copied update shares most of them,
so only what changed is walked.
"""

from typing import Any

import orjson

from machinery.api.managed_fields.sets import LEAF, SELF, FieldSet
from machinery.api.structure import UNTYPED, Shape
from machinery.meta.resource import Document


class _Absent:
    """No value at all, which is not null."""

    def __bool__(self) -> bool:
        return False


_ABSENT: Any = _Absent()
_PARTS: frozenset[type] = frozenset({dict, list})
META_SKIPPED = frozenset(
    {
        "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation",
        "managedFields", "resourceVersion",
    }
)  # fmt: skip
"""Metadata that nobody owns: the server's, and the object's identity."""
ROOT_SKIPPED = frozenset({"apiVersion", "kind"})
_ROOT = ROOT_SKIPPED | {"metadata"}


def element_of(item: Any, shape: Shape) -> str:
    """The path element of a list's item."""
    if shape.list_type != "map":
        return "v:" + orjson.dumps(item, option=orjson.OPT_SORT_KEYS).decode()
    if len(shape.keys) == 1 and item.__class__ is dict:
        key = shape.keys[0]
        if key in item:
            return f'k:{{"{key}":{orjson.dumps(item[key]).decode()}}}'
    return "k:" + orjson.dumps(keys_of(item, shape), option=orjson.OPT_SORT_KEYS).decode()


def keys_of(item: Any, shape: Shape) -> Document:
    """The key fields of a keyed list's item, defaults included."""
    if not isinstance(item, dict):
        return {}
    found = {key: item[key] for key in shape.keys if key in item}
    for key, value in shape.key_defaults.items():
        found.setdefault(key, value)
    return found


def child_of(shape: Shape, name: str) -> Shape:
    fields = shape.fields
    if fields is None:
        return shape.item if shape.type == "object" else UNTYPED
    return fields.get(name, UNTYPED)


# ------------------------------------------------------------------------------------------ what an added part has
def whole(value: Any, shape: Shape) -> FieldSet:
    """The node of a part that is new: it is a member itself, and so is everything in it."""
    if not value or shape.atomic:
        return LEAF
    if value.__class__ is dict:
        out: FieldSet = {SELF: LEAF}
        fields = shape.fields
        if fields is None:
            item = shape.item if shape.type == "object" else UNTYPED
            for key, inner in value.items():
                out["f:" + key] = whole(inner, item) if inner.__class__ in _PARTS else LEAF
        else:
            for key, inner in value.items():
                if inner and inner.__class__ in _PARTS:
                    out["f:" + key] = whole(inner, fields.get(key, UNTYPED))
                else:
                    out["f:" + key] = LEAF
        return out
    if value.__class__ is list and shape.type == "array":
        item = shape.item
        out = {SELF: LEAF}
        for inner in value:
            out[element_of(inner, shape)] = whole(inner, item)
        return out
    return LEAF


# --------------------------------------------------------------------------------------- what an applied part names
def named(value: Any, shape: Shape) -> FieldSet | None:
    """The node of a part that an applied configuration has; None where it names nothing."""
    if value is None or shape.atomic:
        return LEAF
    if isinstance(value, dict):
        return named_fields(value, shape) or LEAF
    if isinstance(value, list) and shape.type == "array":
        item = shape.item
        found: FieldSet = {}
        for inner in value:
            node = named(inner, item) or LEAF
            found[element_of(inner, shape)] = {SELF: LEAF, **node} if node else LEAF
        return found or None
    return LEAF


def named_fields(value: Document, shape: Shape, skipped: frozenset[str] = frozenset()) -> FieldSet:
    """The set of an applied map or struct."""
    out: FieldSet = {}
    declared = shape.fields
    for key, inner in value.items():
        if key in skipped:
            continue
        node = named(inner, child_of(shape, key))
        if node is None:
            continue
        if node and (declared is None or key not in declared):
            node = {SELF: LEAF, **node}
        out["f:" + key] = node
    return out


# ----------------------------------------------------------------------------------------------- what has changed
def compare(
    old: Document, new: Document, shape: Shape, skipped: frozenset[str]
) -> tuple[FieldSet, FieldSet]:
    """What `new` has changed or added, and what it has no more. `skipped` names root fields that are not looked at."""
    changed: FieldSet = {}
    removed: FieldSet = {}
    fields = shape.fields or {}
    _maps(old, new, shape, (changed, removed), skipped | _ROOT)
    before, after = old.get("metadata") or {}, new.get("metadata") or {}
    if before is not after:
        below: tuple[FieldSet, FieldSet] = ({}, {})
        _maps(before, after, fields.get("metadata", UNTYPED), below, META_SKIPPED)
        if below[0]:
            changed["f:metadata"] = below[0]
        if below[1]:
            removed["f:metadata"] = below[1]
    return changed, removed


def _maps(
    old: Document,
    new: Document,
    shape: Shape,
    out: tuple[FieldSet, FieldSet],
    skipped: frozenset[str] = frozenset(),
) -> None:
    changed, removed = out
    held = old.get
    for key, value in new.items():
        before = held(key, _ABSENT)
        if before is value or key in skipped or before == value:
            continue
        if value.__class__ is not dict and value.__class__ is not list and not before:
            changed["f:" + key] = LEAF
        elif before is _ABSENT:
            changed["f:" + key] = whole(value, child_of(shape, key))
        else:
            _put(out, "f:" + key, before, value, child_of(shape, key))
    if len(old) + len(changed) == len(new):
        return  # nothing can be missing: every old key is among the new ones
    for key, value in old.items():
        if key not in new and key not in skipped:
            removed["f:" + key] = whole(value, child_of(shape, key))


def _put(out: tuple[FieldSet, FieldSet], element: str, old: Any, new: Any, shape: Shape) -> None:
    """What two different values of one field differ in."""
    if not shape.atomic and (old or new):
        below: tuple[FieldSet, FieldSet] | None = None
        if _both(old, new, dict):
            below = ({}, {})
            _maps(old or {}, new or {}, shape, below)
        elif shape.type == "array" and _both(old, new, list):
            below = ({}, {})
            _lists(old or [], new or [], shape, below)
        if below is not None:
            if below[0]:
                out[0][element] = below[0]
            if below[1]:
                out[1][element] = below[1]
            return
    out[0][element] = LEAF


def _both(old: Any, new: Any, kind: type) -> bool:
    """Both sides of that type; null goes with everything."""
    if old is None:
        return isinstance(new, kind)
    return isinstance(old, kind) and (new is None or isinstance(new, kind))


def _lists(old: list[Any], new: list[Any], shape: Shape, out: tuple[FieldSet, FieldSet]) -> None:
    item = shape.item
    if _aligned(old, new, shape):
        for held, value in zip(old, new, strict=True):
            if held is not value and held != value:
                _put(out, element_of(value, shape), held, value, item)
        return
    changed, removed = out
    before = {element_of(value, shape): value for value in old}
    for value in new:
        element = element_of(value, shape)
        held = before.pop(element, _ABSENT)
        if held is _ABSENT:
            changed[element] = whole(value, item)
        elif held != value:
            _put(out, element, held, value, item)
    for element, value in before.items():
        removed[element] = whole(value, item)


def _aligned(old: list[Any], new: list[Any], shape: Shape) -> bool:
    """Whether both lists have the same items, told apart by one key, in the same order: what most writes leave alone."""
    if len(old) != len(new) or shape.list_type != "map" or len(shape.keys) != 1:
        return False
    key = shape.keys[0]
    for held, value in zip(old, new, strict=True):
        if held.__class__ is not dict or value.__class__ is not dict:
            return False
        if key not in held or held[key] != value.get(key):
            return False
    return True

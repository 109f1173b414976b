"""Merging an applied configuration into an object, and taking out of it what its manager has dropped.

Maps merge by field and keyed lists by item, in the order of the configuration with the live items between; atomic parts are
replaced. A null in the configuration stands as `NULL` until the end, because it is a value that was named (and may be in
conflict), and then means absence.
"""

from typing import Any, Final

from machinery.api.managed_fields.sets import LEAF, SELF, FieldSet, is_member
from machinery.api.managed_fields.walk import child_of, element_of
from machinery.api.structure import Shape
from machinery.meta.resource import Document


class _Null:
    """A null that was named."""

    def __bool__(self) -> bool:
        return False


NULL: Final = _Null()


def merged(live: Any, applied: Any, shape: Shape) -> Any:
    """The live value with the applied one on top."""
    if applied is None:
        return live if live and isinstance(live, (dict, list)) and not shape.atomic else NULL
    if shape.atomic or not live or not applied:
        if not applied and live and isinstance(live, type(applied)) and not shape.atomic:
            return live if isinstance(applied, (dict, list)) else applied
        return _marked(applied)
    if isinstance(live, dict) and isinstance(applied, dict):
        out = dict(live)
        for key, value in applied.items():
            child = child_of(shape, key)
            out[key] = merged(live[key], value, child) if key in live else _fresh(value, child)
        return out
    if isinstance(live, list) and isinstance(applied, list) and shape.type == "array":
        return _merged_lists(live, applied, shape)
    return _marked(applied)


def _fresh(value: Any, shape: Shape) -> Any:
    return merged(None, value, shape)


def _marked(value: Any) -> Any:
    """The value with its nulls marked."""
    if value is None:
        return NULL
    if isinstance(value, dict):
        return {key: _marked(inner) for key, inner in value.items()}
    return value


def without_marks(value: Any) -> Any:
    """The value without the nulls that were named."""
    if isinstance(value, dict):
        return {key: without_marks(inner) for key, inner in value.items() if inner is not NULL}
    if isinstance(value, list):
        return [without_marks(inner) for inner in value]
    return value


def has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(has_null, value.values()))
    if isinstance(value, list):
        return any(map(has_null, value))
    return value is None


def _merged_lists(live: list[Any], applied: list[Any], shape: Shape) -> list[Any]:
    """Live and applied items in one order: the applied one, live-only items staying behind their predecessors."""
    item = shape.item
    mine = [element_of(value, shape) for value in live]
    theirs = [element_of(value, shape) for value in applied]
    held = dict(zip(reversed(mine), reversed(live), strict=True))  # the first of duplicates
    wanted = dict(zip(theirs, applied, strict=True))
    shared = [element for element in theirs if element in held]
    done: set[str] = set()
    out: list[Any] = []
    i = j = 0

    def take_applied(element: str) -> None:
        done.add(element)
        out.append(merged(held.get(element), wanted[element], item))
        if shared and shared[0] == element:
            shared.pop(0)

    while i < len(mine) or j < len(theirs):
        if i < len(mine) and j < len(theirs):
            if mine[i] == theirs[j]:
                take_applied(theirs[j])
                i, j = i + 1, j + 1
                continue
            if mine[i] in wanted and shared and shared[0] != mine[i]:
                i += 1  # a shared item, but not the next one: it comes with the applied order
                continue
        if i < len(mine):
            if mine[i] not in wanted:
                out.append(live[i])
                i += 1
                continue
            if mine[i] in done:
                i += 1
        if j < len(theirs):
            take_applied(theirs[j])
            j += 1
    return out


# ------------------------------------------------------------------------------------------------------- pruning
def pruned(value: Any, last: FieldSet, owned: FieldSet, shape: Shape) -> Any:
    """The value without what was in the manager's `last` set and is in nobody's now; NULL where nothing is left."""
    if isinstance(value, dict):
        return _pruned_map(value, last, owned, shape)
    if isinstance(value, list) and shape.type == "array" and not shape.atomic:
        return _pruned_list(value, last, owned, shape)
    return value


def _pruned_map(value: Document, last: FieldSet, owned: FieldSet, shape: Shape) -> Any:
    out: Document | None = None
    for element, before in last.items():
        key = element[2:]
        if element == SELF or not element.startswith("f:") or key not in value:
            continue
        now = owned.get(element)
        if now is None:
            left: Any = NULL
        elif before:
            left = pruned(value[key], before, now, child_of(shape, key))
        else:
            continue
        if left is value[key]:
            continue
        if out is None:
            out = dict(value)
        if left is NULL:
            del out[key]
        else:
            out[key] = left
    if out is None:
        return value
    return out or NULL


def _pruned_list(value: list[Any], last: FieldSet, owned: FieldSet, shape: Shape) -> Any:
    item = shape.item
    out: list[Any] = []
    for inner in value:
        element = element_of(inner, shape)
        before = last.get(element)
        now = owned.get(element)
        if before is None:
            out.append(inner)
        elif is_member(before) and (now is None or not is_member(now)):
            continue
        elif before:
            out.append(pruned(inner, before, LEAF if now is None else now, item))
        else:
            out.append(inner)
    if len(out) == len(value) and all(a is b for a, b in zip(out, value, strict=True)):
        return value
    return out or NULL

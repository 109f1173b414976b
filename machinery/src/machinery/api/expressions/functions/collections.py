"""Lists and sets: `isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`; `sets.contains`, `.equivalent`, `.intersects`."""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

from machinery.api.expressions.functions.shape import Function, NoOverload, Value, free, same

_LIST: Final = "list<~A>"


def _is_sorted(items: Sequence[Value]) -> bool:
    return all(not _less(after, before) for before, after in zip(items, items[1:], strict=False))


def _less(left: Value, right: Value) -> bool:
    try:
        return bool(left < right)
    except TypeError:
        raise NoOverload from None


def _sum(items: Sequence[Value]) -> Value:
    if not items:
        return 0
    start: Any = dt.timedelta() if isinstance(items[0], dt.timedelta) else 0
    try:
        return sum(items, start)
    except TypeError:
        raise NoOverload from None


def _least(items: Sequence[Value]) -> Value:
    if not items:
        raise ValueError("min called on empty list")
    found = items[0]
    for one in items[1:]:
        if _less(one, found):
            found = one
    return found


def _greatest(items: Sequence[Value]) -> Value:
    if not items:
        raise ValueError("max called on empty list")
    found = items[0]
    for one in items[1:]:
        if _less(found, one):
            found = one
    return found


def _index(items: Sequence[Value], wanted: Value) -> int:
    return next((at for at, one in enumerate(items) if same(one, wanted)), -1)


def _last_index(items: Sequence[Value], wanted: Value) -> int:
    return next(
        (at for at in range(len(items) - 1, -1, -1) if same(items[at], wanted)), -1
    )  # fmt: skip


def _contains(whole: Sequence[Value], part: Sequence[Value]) -> bool:
    return all(any(same(one, other) for other in whole) for one in part)


def _equivalent(left: Sequence[Value], right: Sequence[Value]) -> bool:
    return _contains(left, right) and _contains(right, left)


def _intersects(left: Sequence[Value], right: Sequence[Value]) -> bool:
    return any(same(one, other) for one in left for other in right)


_SUMMED: Final = ("int", "uint", "double", "duration")
FUNCTIONS: Final = (
    Function("isSorted", "list_a_is_sorted_bool", (_LIST,), "bool", _is_sorted),
    *(Function("sum", f"list_{of}_sum_{of}", (f"list<{of}>",), of, _sum) for of in _SUMMED),
    Function("min", "list_a_min_a", (_LIST,), "~A", _least),
    Function("max", "list_a_max_a", (_LIST,), "~A", _greatest),
    Function("indexOf", "list_a_index_of_int", (_LIST, "~A"), "int", _index),
    Function("lastIndexOf", "list_a_last_index_of_int", (_LIST, "~A"), "int", _last_index),
    free("sets.contains", "list_sets_contains_list", (_LIST, _LIST), "bool", _contains),
    free("sets.equivalent", "list_sets_equivalent_list", (_LIST, _LIST), "bool", _equivalent),
    free("sets.intersects", "list_sets_intersects_list", (_LIST, _LIST), "bool", _intersects),
)

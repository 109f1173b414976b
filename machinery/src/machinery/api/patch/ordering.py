"""The order of a merged list: the patch's items as the patch has them, the live ones between them as they were.

Items are told apart by their merge key, or by their value in a list of scalars (the key is then empty).
"""

from typing import Any

from machinery.api.patch import errors, gotext

_DIRECTIVE = "$patch"


def _identity(item: Any, key: str) -> Any:
    if key and (not isinstance(item, dict) or key not in item):
        raise errors.broken(f"map: {gotext.text(item)} does not contain declared merge key: {key}")
    found = item[key] if key else item
    if isinstance(found, (dict, list)):
        raise errors.broken(f"not a scalar in a list of scalars: {gotext.text(found)}")
    return found


def _positions(items: list[Any], key: str) -> dict[Any, int]:
    """Identity -> its first place."""
    found: dict[Any, int] = {}
    for index, item in enumerate(items):
        found.setdefault(_identity(item, key), index)
    return found


def in_place(items: list[Any], wanted: list[Any], key: str, *, whole: bool = False) -> bool:
    """Whether `wanted` names items of the list in the list's order, none twice, so that nothing has to move; `whole`: all of them.

    No is always a right answer: then the order is worked out, and whoever makes no sense is told.
    """
    if whole and len(items) != len(wanted):
        return False
    places = _places(items, key)
    named = None if places is None else _places(wanted, key)
    if places is None or named is None:
        return False
    last = -1
    for identity in named:
        place = places.get(identity, -1)
        if place <= last:
            return False
        last = place
    return True


def _places(items: list[Any], key: str) -> dict[Any, int] | None:
    """Identity -> place; None where one is there twice or cannot be told."""
    found: dict[Any, int] = {}
    for index, item in enumerate(items):
        identity = item.get(key) if key and item.__class__ is dict else None
        if identity.__class__ is not str or identity in found:
            return None
        found[identity] = index
    return found


def partition(items: list[Any], wanted: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """The items that `wanted` names, and the others; both in their order."""
    named = _positions(wanted, key)
    mine: list[Any] = []
    others: list[Any] = []
    for item in items:
        (mine if _identity(item, key) in named else others).append(item)
    return mine, others


def order_like(items: list[Any], order: list[Any], key: str) -> list[Any]:
    """The items in the order of another list; those it does not name come last."""
    places = _positions(order, key)
    return sorted(items, key=lambda item: places.get(_identity(item, key), len(places)))


def merge_sorted(left: list[Any], right: list[Any], order: list[Any], key: str) -> list[Any]:
    """Both lists in one: an item of `left` goes before the first one of `right` that stood behind it in `order`."""
    places = _positions(order, key)
    result: list[Any] = []
    i = j = 0
    while i < len(left) and j < len(right):
        mine, theirs = places.get(_identity(left[i], key)), places.get(_identity(right[j], key))
        if mine is not None and theirs is not None and mine < theirs:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]


def validate_order(patch: list[Any], order: list[Any], key: str) -> None:
    """The patch's list must be a subsequence of the order that it asks for."""
    if not patch or not order:
        return
    kept = [p for p in patch if not (key and isinstance(p, dict) and p.get(_DIRECTIVE) == "delete")]
    wanted = iter([_identity(item, key) for item in order])
    if all(_identity(item, key) in wanted for item in kept):
        return
    raise errors.broken(
        f"The order in patch list:\n{gotext.text(patch)}\n"
        f" doesn't match $setElementOrder list:\n{gotext.text(order)}\n"
    )

"""Sets of fields in the form in which they travel (FieldsV1), and their algebra.

A set is a dict from path element to node: `f:<field>`, `k:<keys>` for an item of a keyed list, `v:<value>` for an item of a
set. A node `{}` is a member; a node with children is one only if it also has `"."`. Working on the wire form spares decoding
every entry of every object at every write. Nodes are shared between sets and never written to.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import orjson

FieldSet: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str, ...]

LEAF: Final[FieldSet] = {}
"""A member without children. Shared: never write to it."""
SELF: Final = "."


def is_member(node: FieldSet) -> bool:
    return not node or SELF in node


def _node(member: bool, children: FieldSet) -> FieldSet | None:
    """A node in its canonical form, None where nothing is left of it."""
    if not children:
        return LEAF if member else None
    return {SELF: LEAF, **children} if member else children


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in `left` and not in `right`; `left` itself when they do not meet."""
    if not right:
        return left
    out: FieldSet | None = None
    for element, theirs in right.items():
        mine = left.get(element)
        if mine is None or element == SELF:
            continue
        below = difference(mine, theirs) if theirs and mine else mine
        lost = is_member(theirs) and is_member(mine)
        if below is mine and not lost:
            continue
        if out is None:
            out = dict(left)
        left_over = _node(is_member(mine) and not lost, _children(below))
        if left_over is None:
            del out[element]
        else:
            out[element] = left_over
    return left if out is None else out


def _children(node: FieldSet) -> FieldSet:
    if SELF not in node:
        return node
    return {element: child for element, child in node.items() if element != SELF}


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in either; `left` itself when it has everything of `right`."""
    if not left:
        return right
    out: FieldSet | None = None
    for element, theirs in right.items():
        mine = left.get(element)
        if mine is None:
            merged = theirs
        elif element == SELF or mine is theirs:
            continue
        else:
            below = _union_of_children(mine, theirs)
            gained = is_member(theirs) and not is_member(mine)
            if below is mine and not gained:
                continue
            merged = {SELF: LEAF, **below} if gained or is_member(mine) else below
        if out is None:
            out = dict(left)
        out[element] = merged
    return left if out is None else out


def _union_of_children(mine: FieldSet, theirs: FieldSet) -> FieldSet:
    if not theirs:
        return mine
    return union(mine, theirs) if mine else _children(theirs) or mine


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in both."""
    out: FieldSet = {}
    for element, mine in left.items():
        theirs = right.get(element)
        if theirs is None or element == SELF:
            continue
        found = _node(
            is_member(mine) and is_member(theirs),
            intersection(_children(mine), _children(theirs)),
        )
        if found is not None:
            out[element] = found
    return out


def paths(fields: FieldSet) -> Iterator[Path]:
    """Every member: those of a level before those below it, each in order."""
    for element in sorted(fields):
        if element != SELF and is_member(fields[element]):
            yield (element,)
    for element in sorted(fields):
        if element != SELF:
            for below in paths(_children(fields[element])):
                yield (element, *below)


def path_text(path: Path) -> str:
    """A path as messages show it: `.spec.containers[name="c"].image`."""
    return "".join(map(_element_text, path))


def _element_text(element: str) -> str:
    kind, rest = element[:2], element[2:]
    if kind == "f:":
        return "." + rest
    if kind == "v:":
        return f"[={rest}]"
    if kind == "k:":
        return f"[{keys_text(orjson.loads(rest))}]"
    return f"[{rest}]"


def keys_text(keys: dict[str, Any]) -> str:
    """`name="c"`; several by commas."""
    return ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in sorted(keys.items()))


def without(fields: FieldSet, path: Path) -> FieldSet:
    """The set without a field and all below it."""
    head, rest = path[0], path[1:]
    node = fields.get(head)
    if node is None:
        return fields
    out = dict(fields)
    left = without(node, rest) if rest else LEAF
    if left and left != {SELF: LEAF}:
        out[head] = left
    elif left is not node:
        del out[head]
    return out

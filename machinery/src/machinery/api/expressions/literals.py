"""What upstream's compiler refuses, and the library lets through. Pure.

Lists and maps whose parts are of different types; durations, timestamps and patterns that are none; fields of values that have
none for users.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from machinery.api.expressions import checked, source
from machinery.api.expressions.functions.shape import MADE
from machinery.api.patterns import known

_DURATION: Final = re.compile(r"[-+]?(?:0|(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)  # fmt: skip
_STAMP: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})", re.ASCII)  # fmt: skip
Complaint = tuple[int, str]
"""(where, what)."""


def complaints(found: checked.Checked, *, mixed: bool = False) -> Iterator[Complaint]:
    """Of an expression whose types fit."""
    positions = found.positions
    for node, within in _nodes(found.root):
        if node.HasField("call_expr"):
            yield from _call(node, positions)
            if source.title_of(node.call_expr.function) == "JSONPatch":
                yield from _patch(found, node.call_expr.args[0], positions)
        elif node.HasField("select_expr"):
            kind = checked.text_of(found.types.get(node.select_expr.operand.id))
            if kind in MADE:
                told = f"type '{kind}' does not support field selection"
                yield positions.get(node.id, 0), told
        elif not within and not mixed:
            yield from _mixed(found, node, positions)


def _nodes(root: checked.Node) -> Iterator[tuple[checked.Node, bool]]:
    """Every node, and whether it is the fields of a structure: those may be of any types."""
    fields = {
        node.call_expr.args[0].id
        for node in checked.walk(root)
        if node.HasField("call_expr") and source.title_of(node.call_expr.function)
    }
    for node in checked.walk(root):
        yield node, node.id in fields


def _mixed(
    found: checked.Checked, node: checked.Node, positions: Mapping[int, int]
) -> Iterator[Complaint]:
    if node.HasField("list_expr"):
        optional = set(node.list_expr.optional_indices)
        groups = [[one for at, one in enumerate(node.list_expr.elements) if at not in optional]]
    elif node.HasField("struct_expr") and not node.struct_expr.message_name:
        entries = [one for one in node.struct_expr.entries if not one.optional_entry]
        groups = [[one.map_key for one in entries], [one.value for one in entries]]
    else:
        return
    for group in groups:
        expected = ""
        for one in group:
            kind = checked.text_of(found.types.get(one.id))
            if not expected or "dyn" in expected:
                expected = kind
            elif kind != expected and "dyn" not in kind and not _empty(one):
                yield (
                    positions.get(one.id, 0),
                    f"expected type '{expected}' but found '{kind}'",
                )


_PATCH: Final = {"op": "string", "path": "string", "from": "string", "value": ""}


def _patch(
    found: checked.Checked, fields: checked.Node, positions: Mapping[int, int]
) -> Iterator[Complaint]:
    for entry in fields.struct_expr.entries:
        name = str(checked.constant(entry.map_key))
        at = positions.get(entry.map_key.id, 0)
        wanted = _PATCH.get(name)
        kind = checked.text_of(found.types.get(entry.value.id))
        if wanted is None:
            yield at, f"undefined field '{name}'"
        elif wanted and kind not in (wanted, "dyn"):
            yield (
                at,
                f"expected type of field '{name}' is '{wanted}' but provided type is '{kind}'",
            )


def _empty(node: checked.Node) -> bool:
    """Whether it is `[]` or `{}`, which are of any type."""
    return (node.HasField("list_expr") and not node.list_expr.elements) or (
        node.HasField("struct_expr") and not node.struct_expr.entries
    )


def _is_stamp(text: str) -> bool:
    if not _STAMP.fullmatch(text):
        return False
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


_LITERALS: Final[Mapping[str, Callable[[str], bool]]] = {
    "duration": lambda text: _DURATION.fullmatch(text) is not None,
    "timestamp": _is_stamp,
    "matches": lambda text: known(text) is not None,
}


def _call(node: checked.Node, positions: Mapping[int, int]) -> Iterator[Complaint]:
    call = node.call_expr
    check = _LITERALS.get(call.function)
    if check is None or not call.args:
        return
    argument = call.args[-1]
    text = checked.constant(argument)
    if isinstance(text, str) and not check(text):
        yield positions.get(argument.id, 0), f"invalid {call.function} argument"

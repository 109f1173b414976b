"""The protobuf wire: varints, tags, lengths, and the loop that reads a message by a table of fields.

The loop knows nothing of Kubernetes; what a field's bytes mean is its reader's business. It is on the path of every typed
Go client, so it reads single-byte varints in place and looks a whole tag (number and wire type) up at once.
"""

import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from machinery.meta.resource import Document

NESTING_MAX = 160
"""How deep messages may nest. Objects of the API need about twenty; a definition's schema needs two or three for each of
its own levels. Python's stack has room for twice as many."""
VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
_ONE_BYTE = 0x80

Reader: TypeAlias = Callable[[bytes, int, int, int], Any]
"""Reads one value from `data[start:end]`, at a depth."""


class Malformed(Exception):
    """The bytes are no message of that kind; the message is upstream's."""


class Field(NamedTuple):
    """What to do with a tag. A varint has no reader; its `form` is `int`, `bool` or `ints`."""

    name: str
    read: Reader | None
    form: str
    """`one`, `many`, `map` or `inline`; or of a varint `int`, `bool`, `ints`."""
    keep_zero: bool


Fields: TypeAlias = dict[int, Field]
"""By tag. Doubles stand under the negative of theirs: they are few, and so no other field pays for a look at its wire type."""
_DOUBLE = struct.Struct("<d")
_EXACT = 1e21
"""From here on Go writes a double with an exponent."""


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """An unsigned varint and the place behind it."""
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _ONE_BYTE:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift >= 64:
            raise Malformed("proto: integer overflow")
    raise Malformed("unexpected EOF")


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def message(data: bytes, at: int, end: int, depth: int, fields: Fields) -> Document:
    """The members of the message in `data[at:end]`."""
    if depth > NESTING_MAX:
        raise Malformed("proto: nested too deep")
    out: Document = {}
    known = fields.get
    while at < end:
        tag = data[at]
        at += 1
        if tag >= _ONE_BYTE:
            tag, at = varint(data, at - 1, end)
        field = known(tag)
        if field is None:
            double = known(-tag)
            if double is None:
                at = _skip_unknown(data, at, end, tag, fields)
            else:
                out[double.name] = _double(data, at, end)
                at += _DOUBLE.size
            continue
        if at < end and data[at] < _ONE_BYTE:
            value = data[at]
            at += 1
        else:
            value, at = varint(data, at, end)
        name, read, form, keep_zero = field
        if read is None:
            if value or keep_zero:
                _put_varint(out, name, form, value)
            continue
        stop = at + value
        if stop > end:
            raise Malformed("unexpected EOF")
        found = read(data, at, stop, depth)
        at = stop
        if form != "one":
            _put(out, name, form, found)
        elif found or keep_zero:
            out[name] = found
    return out


def _double(data: bytes, at: int, end: int) -> float:
    """A double as Go's JSON has it: an integer where it is one, nothing for what JSON cannot say."""
    if at + _DOUBLE.size > end:
        raise Malformed("unexpected EOF")
    value: float = _DOUBLE.unpack_from(data, at)[0]
    if not math.isfinite(value):
        raise Malformed(f"json: unsupported value: {value}")
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _put(out: Document, name: str, form: str, found: Any) -> None:
    if form == "many":
        out.setdefault(name, []).append(found)
    elif form == "map":
        key, value = found
        out.setdefault(name, {})[key] = value
    else:
        out.update(found)


def _put_varint(out: Document, name: str, form: str, value: int) -> None:
    if form == "bool":
        out[name] = bool(value)
    elif form == "int":
        out[name] = signed(value)
    else:
        out.setdefault(name, []).append(signed(value))


def _skip_unknown(data: bytes, at: int, end: int, tag: int, fields: Fields) -> int:
    """The place behind a field that the table does not know."""
    number, wire = tag >> 3, tag & 7
    if number == 0:
        raise Malformed(f"proto: illegal tag {number} (wire type {wire})")
    if wire == END_GROUP:
        raise Malformed("proto: wiretype end group for non-group")
    if any(abs(known) >> 3 == number for known in fields):
        raise Malformed(f"proto: wrong wireType = {wire} for field {number}")
    return _skip(data, at, end, wire, 0)


def _skip(data: bytes, at: int, end: int, wire: int, depth: int) -> int:
    if wire == VARINT:
        return varint(data, at, end)[1]
    if wire == GROUP and depth < NESTING_MAX:
        while True:
            tag, at = varint(data, at, end)
            if tag & 7 == END_GROUP:
                return at
            at = _skip(data, at, end, tag & 7, depth + 1)
    size = {FIXED64: 8, FIXED32: 4}.get(wire)
    if wire == BYTES:
        size, at = varint(data, at, end)
    if size is None:
        raise Malformed(f"proto: illegal wireType {wire}")
    if at + size > end:
        raise Malformed("unexpected EOF")
    return at + size

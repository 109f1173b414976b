"""Protocol Buffers by hand, for the few containerd services that CRI's stubs do not cover (tasks, events, containers).

Only what those messages need: varints and length-delimited fields. Unknown fields are kept in the decoded map and
ignored by its readers.
"""

from collections.abc import Iterator

Value = int | bytes


def varint(number: int) -> bytes:
    """Base-128, least significant group first."""
    assert number >= 0
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(**fields: int | str | bytes | bool) -> bytes:
    """`message(_1="a", _3=True)`: fields by number; empty and zero ones are left out, as proto3 does."""
    out = b""
    for name, value in fields.items():
        number = int(name.removeprefix("_"))
        if not value:
            continue
        if isinstance(value, int):
            out += varint(number << 3) + varint(int(value))
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(number, value) of each field. Raises ValueError on anything malformed."""
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _read_varint(data, position)
            yield number, value
        elif kind == 2:
            size, position = _read_varint(data, position)
            if position + size > len(data):
                raise ValueError("truncated message")
            yield number, data[position : position + size]
            position += size
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")


def first(data: bytes, number: int) -> Value | None:
    """The last value of a field, as proto3 decides; None when absent."""
    found: Value | None = None
    for key, value in fields(data):
        if key == number:
            found = value
    return found


def text(data: bytes, number: int) -> str:
    """A string field."""
    value = first(data, number)
    return value.decode() if isinstance(value, bytes) else ""


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("truncated varint")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7

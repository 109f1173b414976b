"""The careful walk over a body: what is unknown is dropped and named, what has a wrong type is refused in Go's words.

It follows Go's decoder, because its answers are part of the API: null means absent, an empty value that `omitempty` would
leave out is dropped, structs by value and fields without `omitempty` are written even when the body did not have them,
times and quantities take their canonical form. The input is never changed.

Limits: a number is named by its value, not by its letters (`1e3` is told as `1000.0`).
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, Final

from machinery.api.customresources.pruning import UNKNOWN_MAX
from machinery.api.fieldpath import PATH_MAX
from machinery.api.plans import SECOND, Field, Node, node_of
from machinery.kit.clock import parse_time, rfc3339, rfc3339_micro
from machinery.meta import quantity
from machinery.meta.resource import Document

_ABSENT: Final = object()
_GO_NAMES: Final = {str: "string", bool: "bool", list: "array", dict: "object"}
_TIME_PARTS: Final = (
    ("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T"), ("15", r"\d\d"),
    (":", ":"), ("04", r"\d\d"), (":", ":"), ("05", r"\d\d"),
)  # fmt: skip
_ZONE: Final = r"(Z|[+-]\d\d:\d\d)"
_AS_WRITTEN: Final = re.compile(SECOND + "Z", re.ASCII)
_AS_WRITTEN_MICRO: Final = re.compile(SECOND + r"\.\d{6}Z", re.ASCII)
"""Times in the form in which they are answered: nearly all that are sent."""


class Mismatch(Exception):
    """A value has a type or form that the field cannot take; the message is Go's."""


Link = tuple[Any, str | int, str] | None
"""Where a value stands: the link of its parent, its key or index, and the struct whose field it is (empty in a map)."""


class Walk:
    """One pass over one body. `unknown` collects field paths; the first mismatch is kept until the end, as Go does."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self._first: Mismatch | None = None

    def run(self, name: str, document: Document) -> Document:
        """The tidied body. Raises Mismatch."""
        tidy = self._struct(node_of(name), document, None)
        if self._first is not None:
            raise self._first
        return tidy

    def _struct(self, node: Node, value: Document, link: Link) -> Document:
        out: Document = {}
        fields, name = node.fields, node.struct_name
        for key, item in value.items():
            part = fields.get(key)
            if part is None:
                if len(self.unknown) < UNKNOWN_MAX:
                    self.unknown.append(_path((link, key, name))[:PATH_MAX])
                continue
            if item is None:
                continue
            tidy = item
            if item.__class__ is not part.python:
                tidy = self._value(part.node, part.go, item, (link, key, name))
            if tidy is not _ABSENT and (tidy or not part.absent_when_zero):
                out[key] = tidy
        for key, part in node.always:
            if key not in out:
                out[key] = _blank(part)
        return out

    def _value(self, node: Node, go: str, item: Any, link: Link) -> Any:
        if item is None:
            return _ABSENT
        sort = node.sort
        if sort == "struct":
            if type(item) is not dict:
                return self._refuse(item, go, link)
            return self._struct(node, item, link)
        if sort == "either":
            return self._either(node, item, link)
        if sort in ("list", "map"):
            return self._collection(node, go, item, link)
        return self._scalar(sort, go, item, link)

    def _either(self, node: Node, item: Any, link: Link) -> Any:
        assert node.child is not None
        if type(item) is dict:
            return self._struct(node.child, item, link)
        if type(item) is list:
            return [self._value(node.child, "", one, (link, i, "")) for i, one in enumerate(item)]
        return item

    def _collection(self, node: Node, go: str, item: Any, link: Link) -> Any:
        assert node.child is not None
        child, element = node.child, node.go
        if node.sort == "list":
            if type(item) is not list:
                return self._refuse(item, go, link)
            found = [self._value(child, element, one, (link, i, "")) for i, one in enumerate(item)]
            return [_zero(child) if one is _ABSENT else one for one in found]
        if type(item) is not dict:
            return self._refuse(item, go, link)
        pairs = {k: self._value(child, element, one, (link, k, "")) for k, one in item.items()}
        return {key: _zero(child) if one is _ABSENT else one for key, one in pairs.items()}

    def _scalar(self, sort: str, go: str, item: Any, link: Link) -> Any:
        if special := _SPECIAL.get(sort):
            return special(item)
        if sort == "string":
            return item if type(item) is str else self._refuse(item, go, link)
        if sort == "bool":
            return item if type(item) is bool else self._refuse(item, go, link)
        if sort in ("int32", "int64"):
            bound = 1 << (31 if sort == "int32" else 63)
            if type(item) is int and -bound <= item < bound:
                return item
            return self._refuse(item, go, link, numeric=True)
        if sort == "bytes":
            return self._bytes(item, link)
        if sort == "number":
            return item if type(item) in (int, float) else self._refuse(item, go, link)
        return item

    def _bytes(self, item: Any, link: Link) -> Any:
        if type(item) is not str:
            return self._refuse(item, "[]uint8", link)
        packed = item.replace("\n", "").replace("\r", "")
        try:
            return base64.b64encode(base64.b64decode(packed, validate=True)).decode()
        except (binascii.Error, ValueError):
            if self._first is None:
                self._first = Mismatch(
                    f"illegal base64 data at input byte {_first_bad_byte(packed)}"
                )
            return _ABSENT

    def _refuse(self, item: Any, go: str, link: Link, *, numeric: bool = False) -> Any:
        if self._first is None:
            name = _GO_NAMES.get(type(item))
            if name is None:
                name = f"number {item!r}" if numeric else "number"
            self._first = Mismatch(
                f"json: cannot unmarshal {name} into Go struct field {_trail(link)} of type {go}"
            )
        return _ABSENT


def _path(link: Link) -> str:
    """`spec.containers[0].name`."""
    text = ""
    while link is not None:
        link, key, _ = link
        text = f"[{key}]{text}" if type(key) is int else f".{key}{text}"
    return text.removeprefix(".")


def _trail(link: Link) -> str:
    """`Container.spec.containers.name`: the innermost struct, then the fields from the top, without indices and map keys."""
    keys: list[str] = []
    struct = ""
    while link is not None:
        link, key, owner = link
        if owner:
            keys.append(str(key))
            struct = struct or owner
    return ".".join([struct, *reversed(keys)])


def _zero(node: Node) -> Any:
    """What Go makes of a null inside a list or map."""
    if node.sort == "struct":
        return _filled(node)
    return {"string": "", "bytes": "", "int32": 0, "int64": 0, "quantity": "0", "bool": False}.get(
        node.sort
    )


def _blank(part: Field) -> Any:
    return _filled(part.node) if part.node.sort == "struct" else part.zero


def _filled(node: Node) -> Document:
    return {key: _blank(part) for key, part in node.always}


def _first_bad_byte(text: str) -> int:
    plain = re.match(r"[A-Za-z0-9+/]*", text)
    end = plain.end() if plain else 0
    return end if end < len(text) and text[end] != "=" else len(text) - len(text) % 4


# --------------------------------------------------------------------------------------------------- special leaves
def _time(item: Any) -> str:
    if type(item) is str and _AS_WRITTEN.fullmatch(item):
        return item
    return rfc3339(parse_time(_time_text(item, "2006-01-02T15:04:05Z07:00", "")))


def _micro(item: Any) -> str:
    if type(item) is str and _AS_WRITTEN_MICRO.fullmatch(item):
        return item
    layout = "2006-01-02T15:04:05.000000Z07:00"
    return rfc3339_micro(parse_time(_time_text(item, layout, r"\.\d{6}")))


def _time_text(item: Any, layout: str, fraction: str) -> str:
    if type(item) is not str:
        raise Mismatch(
            f"json: cannot unmarshal {_GO_NAMES.get(type(item), 'number')} into Go value of type string"
        )
    rest = item
    parts = [*_TIME_PARTS, (".000000", fraction)] if fraction else list(_TIME_PARTS)
    for name, pattern in parts:
        found = re.match(pattern, rest, re.ASCII)
        if found is None:
            raise _unparsed(item, layout, rest, name)
        rest = rest[found.end() :]
    if not fraction and (extra := re.match(r"\.\d+", rest)):
        rest = rest[extra.end() :]
    zone = re.match(_ZONE, rest)
    if zone is None:
        raise _unparsed(item, layout, rest, "Z07:00")
    if zone.end() != len(rest):
        raise Mismatch(f'parsing time "{item}": extra text: "{rest[zone.end() :]}"')
    try:
        parse_time(item)
    except ValueError:
        raise Mismatch(f'parsing time "{item}": {_out_of_range(item)} out of range') from None
    return item


def _unparsed(item: str, layout: str, rest: str, name: str) -> Mismatch:
    return Mismatch(f'parsing time "{item}" as "{layout}": cannot parse "{rest}" as "{name}"')


def _out_of_range(item: str) -> str:
    numbers = [int(part) for part in re.findall(r"\d+", item)[:6]]
    bounds = (("month", 1, 1, 12), ("day", 2, 1, 31), ("hour", 3, 0, 23), ("minute", 4, 0, 59))
    for name, index, low, high in bounds:
        if not low <= numbers[index] <= high:
            return name
    return "second" if numbers[5] > 59 else "day"


def _quantity(item: Any) -> str:
    if type(item) not in (str, int, float):
        raise Mismatch(quantity.PATTERN_MESSAGE)
    try:
        return quantity.canonical_of(item)
    except ValueError as error:
        raise Mismatch(str(error)) from None


def _int_or_string(item: Any) -> int | str:
    if type(item) is str or (type(item) is int and -(1 << 31) <= item < 1 << 31):
        return item
    name = _GO_NAMES.get(type(item)) or f"number {item!r}"
    raise Mismatch(f"json: cannot unmarshal {name} into Go value of type int32")


_SPECIAL: Final[dict[str, Callable[[Any], Any]]] = {
    "time": _time,
    "micro": _micro,
    "quantity": _quantity,
    "intstr": _int_or_string,
    "any": lambda item: item,
}

"""What the bytes of each type of field mean, and the table that says which field has which type.

The table (data/protobuf.json.zlib, made by machinery/tools/build_protobuf.py) is read on first use, and each message's rows
become readers when the message is first met.
"""

import base64
import datetime as dt
import zlib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import orjson

from machinery.api.protobuf.wire import (
    BYTES,
    FIXED64,
    VARINT,
    Field,
    Fields,
    Malformed,
    Reader,
    message,
)
from machinery.meta.resource import Document, split_api_version

PREFIX = b"k8s\x00"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DELETE_OPTIONS = "DeleteOptions"


def envelope(raw: bytes, depth: int) -> Document:
    """The object behind a prefix. Raises Malformed."""
    if not raw:
        raise Malformed("empty data")
    if not raw.startswith(PREFIX):
        expected = " ".join(map(str, PREFIX))
        raise Malformed(
            f"provided data does not appear to be a protobuf message, expected prefix [{expected}]"
        )
    if len(raw) == len(PREFIX):
        raise Malformed("empty body")
    unknown = message(raw, len(PREFIX), len(raw), depth, _UNKNOWN)
    stamp = unknown.get("typeMeta") or {}
    api_version, kind = stamp.get("apiVersion", ""), stamp.get("kind", "")
    fields = fields_of(_message_of(api_version, kind))
    body: bytes = unknown.get("raw", b"")
    return {
        "apiVersion": api_version,
        "kind": kind,
        **message(body, 0, len(body), depth, fields),
    }


def _message_of(api_version: str, kind: str) -> str:
    """The message of a kind. Deletion options are of every group."""
    if kind == _DELETE_OPTIONS:
        return "meta/v1.DeleteOptions"
    group, version = split_api_version(api_version)
    name = f"{group.split('.', 1)[0] or 'core'}/{version}.{kind}"
    if name not in _table():
        if not kind:
            raise Malformed("Object 'Kind' is missing in protobuf body")
        raise Malformed(
            f'no kind "{kind}" is registered for version "{api_version}"'
            ' in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"'
        )
    return name


def _string(data: bytes, at: int, end: int, _depth: int) -> str:
    return data[at:end].decode("utf-8", "replace")


def _bytes(data: bytes, at: int, end: int, _depth: int) -> bytes:
    return data[at:end]


def _base64(data: bytes, at: int, end: int, _depth: int) -> str:
    return base64.b64encode(data[at:end]).decode()


def _quantity(data: bytes, at: int, end: int, depth: int) -> str:
    return str(message(data, at, end, depth + 1, _QUANTITY).get("string") or "0")


def _int_or_string(data: bytes, at: int, end: int, depth: int) -> int | str:
    parts = message(data, at, end, depth + 1, _INT_OR_STRING)
    return str(parts.get("strVal", "")) if parts.get("type") else int(parts.get("intVal", 0))


def _moment(data: bytes, at: int, end: int, depth: int) -> dt.datetime | None:
    """A Time; the zero Time is null."""
    parts = message(data, at, end, depth + 1, _TIMESTAMP)
    seconds, nanos = parts.get("seconds", 0), parts.get("nanos", 0)
    if not seconds and not nanos:
        return None
    try:
        return _EPOCH + dt.timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        raise Malformed("Time.MarshalJSON: year outside of range [0,9999]") from None


def _time(data: bytes, at: int, end: int, depth: int) -> str | None:
    moment = _moment(data, at, end, depth)
    return None if moment is None else moment.isoformat(timespec="seconds")[:-6] + "Z"


def _micro_time(data: bytes, at: int, end: int, depth: int) -> str | None:
    moment = _moment(data, at, end, depth)
    return None if moment is None else moment.isoformat(timespec="microseconds")[:-6] + "Z"


def _raw(data: bytes, at: int, end: int, depth: int) -> Any:
    """A RawExtension or FieldsV1: JSON, or once more an envelope."""
    inner: bytes = message(data, at, end, depth + 1, _RAW).get("raw", b"")
    if not inner:
        return None
    if inner.startswith(PREFIX):
        return envelope(inner, depth + 1)
    try:
        return orjson.loads(inner)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"error decoding raw JSON: {error}") from None


def _strings(data: bytes, at: int, end: int, depth: int) -> list[str]:
    found: list[str] = message(data, at, end, depth + 1, _STRINGS).get("items", [])
    return found


def _schema_or_array(parts: Document) -> Any:
    return parts.get("schemas") or parts.get("schema")


def _schema_or_bool(parts: Document) -> Any:
    return parts["schema"] if "schema" in parts else parts.get("allows", False)


def _schema_or_strings(parts: Document) -> Any:
    return parts.get("property") or parts.get("schema")


_FOLDED: dict[str, Callable[[Document], Any]] = {
    "apiextensions/v1.JSONSchemaPropsOrArray": _schema_or_array,
    "apiextensions/v1.JSONSchemaPropsOrBool": _schema_or_bool,
    "apiextensions/v1.JSONSchemaPropsOrStringArray": _schema_or_strings,
}
"""Messages that are one of several things in JSON."""


def _reader_of_message(name: str) -> Reader:
    fields: Fields | None = None
    fold = _FOLDED.get(name)

    def read(data: bytes, at: int, end: int, depth: int) -> Any:
        nonlocal fields
        if fields is None:
            fields = fields_of(name)
        found = message(data, at, end, depth + 1, fields)
        return found if fold is None else fold(found)

    return read


def _reader_of_entry(inner: str) -> Reader:
    """A map's entry: key 1, value 2."""
    if inner in _VARINTS:
        value = {2 << 3 | VARINT: Field("value", None, _VARINTS[inner], True)}
        zero: Any = False if inner == "bool" else 0
    else:
        value = {2 << 3 | BYTES: Field("value", _reader(inner), "one", True)}
        zero = "" if inner in ("string", "bytes") else "0" if inner == "quantity" else None
    fields = {1 << 3 | BYTES: Field("key", _string, "one", True), **value}

    def read(data: bytes, at: int, end: int, depth: int) -> tuple[str, Any]:
        entry = message(data, at, end, depth + 1, fields)
        return entry.get("key", ""), entry.get("value", zero)

    return read


_READERS: dict[str, Reader] = {
    "string": _string,
    "bytes": _base64,
    "quantity": _quantity,
    "intstr": _int_or_string,
    "time": _time,
    "micro": _micro_time,
    "raw": _raw,
    "json": _raw,
    "value": _raw,
    "strings": _strings,
}
_VARINTS = {"int": "int", "bool": "bool"}
_DROPPED_WHEN_EMPTY = frozenset({"string", "bytes", "time", "micro", "raw", "json", "strings"})


@cache
def _reader(kind: str) -> Reader:
    return _READERS.get(kind) or _reader_of_message(kind)


@cache
def _table() -> dict[str, list[tuple[int, str, str, int]]]:
    packed = (resources.files("machinery.api") / "data" / "protobuf.json.zlib").read_bytes()
    found: dict[str, list[tuple[int, str, str, int]]] = orjson.loads(zlib.decompress(packed))
    return found


@cache
def fields_of(name: str) -> Fields:
    """Tag (number and wire type) -> field."""
    fields: Fields = {}
    for number, field, kind, pointer in _table()[name]:
        fields |= _field(number, field, kind, pointer=bool(pointer))
    return fields


def _field(number: int, name: str, kind: str, *, pointer: bool) -> Fields:
    many = kind.startswith("[]")
    inner = kind.removeprefix("[]")
    if inner in _VARINTS:
        form = "ints" if many else _VARINTS[inner]
        return {number << 3 | VARINT: Field(name, None, form, pointer or many)}
    if inner == "float":
        return {-(number << 3 | FIXED64): Field(name, None, inner, True)}
    tag = number << 3 | BYTES
    if kind.startswith("map<"):
        return {tag: Field(name, _reader_of_entry(kind[4:-1]), "map", True)}
    if many:
        return {tag: Field(name, _reader(inner), "many", True)}
    if name == "-":
        return {tag: Field(name, _reader(inner), "inline", True)}
    keep = inner not in _DROPPED_WHEN_EMPTY or (pointer and inner in ("string", "bytes"))
    return {tag: Field(name, _reader(inner), "one", keep)}


_STRINGS: Fields = _field(1, "items", "[]string", pointer=False)
_QUANTITY: Fields = _field(1, "string", "string", pointer=False)
_TIMESTAMP: Fields = _field(1, "seconds", "int", pointer=False) | _field(
    2, "nanos", "int", pointer=False
)
_INT_OR_STRING: Fields = {
    **_field(1, "type", "int", pointer=False),
    **_field(2, "intVal", "int", pointer=False),
    **_field(3, "strVal", "string", pointer=False),
}
_RAW: Fields = {1 << 3 | BYTES: Field("raw", _bytes, "one", True)}
_TYPE_META: Fields = _field(1, "apiVersion", "string", pointer=False) | _field(
    2, "kind", "string", pointer=False
)


def _type_meta(data: bytes, at: int, end: int, depth: int) -> Document:
    return message(data, at, end, depth + 1, _TYPE_META)


_UNKNOWN: Fields = {
    1 << 3 | BYTES: Field("typeMeta", _type_meta, "one", True),
    2 << 3 | BYTES: Field("raw", _bytes, "one", True),
    3 << 3 | BYTES: Field("contentEncoding", _string, "one", False),
    4 << 3 | BYTES: Field("contentType", _string, "one", False),
}

"""Why the result of a strategic merge patch is not of its kind, in the words of upstream's converter.

A strategic merge patch is never JSON again on upstream's server: its map is poured into the Go struct, and the first value
that does not fit is named by Go's kinds (`cannot restore slice from map`), without its path.
"""

from typing import Any

from machinery.api import schemas, structure
from machinery.api.structure import Shape
from machinery.meta.resource import Document

_SCALARS = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}
_GO_TYPES = {"string": "string", "boolean": "bool", "number": "float64"}


def complaint(schema_name: str, document: Document) -> str:
    """The first value that cannot be restored, the empty string when all can."""
    return _value(document, structure.of(schema_name), "")


def _value(value: Any, shape: Shape, go_type: str) -> str:
    if value is None or shape.type in ("", "scalar"):
        return ""
    if shape.type == "array":
        if not isinstance(value, list):
            return f"cannot restore slice from {_kind(value)}"
        return _first(_value(item, shape.item, go_type.removeprefix("[]")) for item in value)
    if shape.type == "object":
        return _object(value, shape)
    if isinstance(value, _SCALARS[shape.type]) and (shape.type == "boolean") == isinstance(
        value, bool
    ):
        return ""
    wanted = go_type.lstrip("*") or _GO_TYPES.get(shape.type) or shape.node.get("format", "int64")
    return f"cannot convert {_kind(value)} to {wanted}"


def _object(value: Any, shape: Shape) -> str:
    fields = shape.fields
    if not isinstance(value, dict):
        return (
            f"cannot restore map from {_kind(value)}"
            if fields is None
            else f"cannot restore struct from: {_kind(value)}"
        )
    if fields is None:
        return _first(_value(item, shape.item, "") for item in value.values())
    go = schemas.go_fields(structure.reference(shape.node))
    return _first(
        _value(value[name], fields[name], go[name].go_type if name in go else "")
        for name in (*go, *(n for n in fields if n not in go))
        if name in value and name in fields
    )


def _first(complaints: Any) -> str:
    return next(filter(None, complaints), "")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, dict):
        return "map"
    return "slice" if isinstance(value, list) else "string"

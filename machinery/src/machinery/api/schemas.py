"""The OpenAPI schemas of the built kinds, and the few facts of their Go types that a schema does not say.

The data file is made by `machinery/tools/build_schemas.py` and read on first use (about 10 ms). References have upstream's
v3 form, `{"allOf": [{"$ref": "#/components/schemas/<name>"}]}`; `resolve` follows them. Schemas are shared: never change
one that was handed out.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import orjson

from machinery.api.scheme import ServedKind

REFERENCE = "#/components/schemas/"
Schema = Mapping[str, Any]
_EMPTY: Schema = {}


@dataclass(frozen=True, slots=True)
class GoField:
    """One JSON field of a Go struct. `omitempty`: left out when it has its zero value and is no pointer."""

    name: str
    go_type: str
    omitempty: bool

    @property
    def pointer(self) -> bool:
        return self.go_type.startswith("*")


@cache
def _data() -> dict[str, Any]:
    packed = (resources.files("machinery.api") / "data" / "schemas.json.zlib").read_bytes()
    data: dict[str, Any] = orjson.loads(zlib.decompress(packed))
    return data


def definitions() -> Mapping[str, Schema]:
    """Every definition by name."""
    found: Mapping[str, Schema] = _data()["definitions"]
    return found


def definition(name: str) -> Schema:
    """The schema of that name. Raises KeyError for a name that is not in the data."""
    found: Schema = _data()["definitions"][name]
    return found


def go_fields(name: str) -> Mapping[str, GoField]:
    """The struct fields of a definition in Go's order; empty where the definition is no struct."""
    return _go_fields(name)


@cache
def _go_fields(name: str) -> dict[str, GoField]:
    rows = _data()["go"].get(name, ())
    return {key: GoField(key, go, omit == "o") for key, go, omit in rows}


def reference_of(schema: Schema) -> str:
    """The definition that a schema refers to, or the empty string."""
    target = schema.get("$ref")
    if target is None:
        parts = schema.get("allOf") or ()
        target = parts[0].get("$ref") if isinstance(parts, list) and len(parts) == 1 else None
    return target.removeprefix(REFERENCE) if isinstance(target, str) else ""


def resolve(schema: Schema) -> Schema:
    """The schema itself, or the definition that it refers to. List and patch attributes stand on the referring side."""
    while name := reference_of(schema):
        schema = _data()["definitions"].get(name, _EMPTY)
    return schema


def schema_of(kind: ServedKind) -> Schema:
    """The schema of a kind: its own, or the data file's."""
    return kind.schema if kind.schema is not None else definition(kind.schema_name)

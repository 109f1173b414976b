"""Own kinds against their structural schema, with the complaints of custom resources upstream.

The subset that our schemas use: types, required, enum, bounds, lengths, pattern, counts, list types, nullable, int-or-string,
and date-time. Rules in CEL are not part of it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from machinery.api import schemas, structural
from machinery.api.validation.causes import Causes, shown
from machinery.kit.clock import parse_time
from machinery.meta.resource import Document

Schema = Mapping[str, Any]
_NAMES: Final = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}  # fmt: skip


def validate(
    schema: Schema,
    document: Document,
    causes: Causes,
    old: Document | None = None,
    *,
    lasting: bool = False,
) -> None:
    """Everything but metadata, apiVersion and kind, and but for what is the very part of `old`: that was judged before.

    `lasting`: the schema is one of ours, and lives as long as the process.
    """
    properties = schemas.resolve(schema).get("properties") or {}
    before = old or {}
    for key in schemas.resolve(schema).get("required") or ():
        if key not in document:
            causes.required(key)
    for key, part in properties.items():
        if key not in document or key in ("apiVersion", "kind", "metadata"):
            continue
        if key in before and document[key] is before[key]:
            continue
        if not (lasting and structural.plain(part, document[key])):
            _value(part, document[key], key, causes)


def _value(schema: Schema, value: Any, path: str, causes: Causes) -> None:
    schema = schemas.resolve(schema)
    if value is None and schema.get("nullable"):
        return
    wanted = _wanted(schema)
    if wanted and not _fits(value, wanted):
        name = _NAMES[type(value)]
        causes.type_invalid(
            path, name, f'{path} in body must be of type {",".join(wanted)}: "{name}"'
        )
        return
    if (choices := schema.get("enum")) and value not in choices:
        causes.unsupported(path, value, [str(one) for one in choices])
    if type(value) is dict:
        _object(schema, value, path, causes)
    elif type(value) is list:
        _list(schema, value, path, causes)
    elif type(value) is str:
        _text(schema, value, path, causes)
    elif type(value) in (int, float):
        _number(schema, value, path, causes)


def _wanted(schema: Schema) -> tuple[str, ...]:
    if schema.get("x-kubernetes-int-or-string"):
        return ("integer", "string")
    kind = schema.get("type")
    return (kind,) if isinstance(kind, str) else ()


def _fits(value: Any, wanted: tuple[str, ...]) -> bool:
    name = _NAMES[type(value)]
    if name == "integer" and "number" in wanted:
        return True
    if name == "number" and "integer" in wanted:
        return bool(float(value).is_integer())
    return name in wanted


def _object(schema: Schema, value: Document, path: str, causes: Causes) -> None:
    for key in schema.get("required") or ():
        if key not in value:
            causes.required(f"{path}.{key}")
    properties: Schema = schema.get("properties") or {}
    others = schema.get("additionalProperties")
    for key, one in value.items():
        part = properties.get(key) or (others if isinstance(others, Mapping) else None)
        if part is not None:
            _value(part, one, f"{path}.{key}", causes)
    limit = schema.get("maxProperties")
    if limit is not None and len(value) > limit:
        causes.too_many(path, len(value), limit)


def _list(schema: Schema, value: list[Any], path: str, causes: Causes) -> None:
    least, most = schema.get("minItems"), schema.get("maxItems")
    if least is not None and len(value) < least:
        causes.invalid(path, len(value), f"{path} in body should have at least {least} items")
    if most is not None and len(value) > most:
        causes.too_many(path, len(value), most)
    items = schema.get("items") or {}
    for index, one in enumerate(value):
        _value(items, one, f"{path}[{index}]", causes)
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("map", "set"):
        return
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    seen: list[Any] = []
    for index, one in enumerate(value):
        mark = {k: one.get(k) for k in keys} if kind == "map" and type(one) is dict else one
        if mark in seen:
            causes.duplicate(f"{path}[{index}]", mark)
        seen.append(mark)


def _text(schema: Schema, value: str, path: str, causes: Causes) -> None:
    least, most, pattern = (schema.get(k) for k in ("minLength", "maxLength", "pattern"))
    if least is not None and len(value) < least:
        causes.invalid(path, value, f"{path} in body should be at least {least} chars long")
    if most is not None and len(value) > most:
        causes.too_long(path, most)
    if pattern is not None and not re.search(pattern, value):
        causes.invalid(path, value, f"{path} in body should match '{pattern}'")
    if schema.get("format") == "date-time" and not _is_time(value):
        causes.type_invalid(
            path, value, f"{path} in body must be of type date-time: {shown(value)}"
        )


def _is_time(value: str) -> bool:
    try:
        parse_time(value)
    except ValueError:
        return False
    return True


def _number(schema: Schema, value: int | float, path: str, causes: Causes) -> None:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and value < least:
        causes.invalid(path, value, f"{path} in body should be greater than or equal to {least}")
    if most is not None and value > most:
        causes.invalid(path, value, f"{path} in body should be less than or equal to {most}")

"""A value against a structural schema, with the complaints of kube-openapi as apiextensions-apiserver words them.

The order is that library's: type, allOf and its like, text, number, list, enum, object; a wrong type does not keep the
others from being looked at. List types (sets, keyed lists) are a second pass over the whole, as upstream.

With `old`, what did not change is not judged again, so that a schema may become stricter than objects that are there
(ratcheting): maps are compared key by key, keyed lists item by item, other lists whole.

Patterns are Go's and run in time that grows with the text (`patterns`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from machinery.api import patterns, schemas
from machinery.api.fieldpath import below, item
from machinery.api.formats import FORMATS, IN_RANGE
from machinery.api.validation.causes import Causes
from machinery.meta.resource import Document

Schema = Mapping[str, Any]
_NAMES: Final = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}  # fmt: skip
ABSENT: Final = object()
"""No old value."""


class Sink:
    """Where complaints go. `prefix` is put before the fields, not before the paths that the texts name."""

    def __init__(self, causes: Causes, prefix: str = "") -> None:
        self.causes, self._prefix = causes, prefix

    def into(self, causes: Causes) -> "Sink":
        """The same for another list."""
        return Sink(causes, self._prefix)

    def field(self, path: str) -> str:
        """The field of a cause."""
        if not self._prefix:
            return path or "<nil>"
        return f"{self._prefix}.{path}" if path else self._prefix


def check(schema: Schema, value: Any, path: str, sink: Sink, old: Any = ABSENT) -> None:
    """Every complaint about a value, but for its list types."""
    schema = schemas.resolve(schema)
    if _same(value, old) or (value is None and schema.get("nullable")):
        return
    _type(schema, value, path, sink)
    _combined(schema, value, path, sink)
    shape = value.__class__
    if shape is str:
        _text(schema, value, path, sink)
    elif shape is int or shape is float:
        _number(schema, value, path, sink)
    elif shape is list:
        _list(schema, value, path, sink, old)
    if (choices := schema.get("enum")) and not any(_same(value, one) for one in choices):
        texts = [c if isinstance(c, str) else orjson.dumps(c).decode() for c in choices]
        sink.causes.unsupported(sink.field(path), value, texts)
    if shape is dict:
        _object(schema, value, path, sink, old)


def fits(schema: Schema, value: Any) -> bool:
    """Whether there is no complaint."""
    causes = Causes()
    check(schema, value, "", Sink(causes))
    return not causes


def _same(value: Any, old: Any) -> bool:
    return value is old or (value.__class__ is old.__class__ and bool(value == old))


# ---------------------------------------------------------------------------------------------------------------- types
def _wanted(schema: Schema) -> tuple[str, ...]:
    if schema.get("x-kubernetes-int-or-string"):
        return ("integer", "string")
    kind = schema.get("type")
    return (kind,) if isinstance(kind, str) and kind else ()


def _type(schema: Schema, value: Any, path: str, sink: Sink) -> None:
    wanted = _wanted(schema)
    if not wanted:
        return
    name = _NAMES[type(value)]
    if name in wanted or (name == "integer" and "number" in wanted):
        return
    if name == "number" and "integer" in wanted and float(value).is_integer():
        return
    text = f'{path} in body must be of type {",".join(wanted)}: "{name}"'
    sink.causes.type_invalid(sink.field(path), name, text)


def _combined(schema: Schema, value: Any, path: str, sink: Sink) -> None:
    """allOf, anyOf, oneOf, not. Each part is judged once, or nested ones would double the work with every level."""
    if parts := schema.get("anyOf"):
        found = _each(parts, value, path, sink)
        if all(found):
            _whole(sink, f'"{path}" must validate at least one schema (anyOf)')
            sink.causes.extend(found[0])
    if parts := schema.get("oneOf"):
        _one_of(_each(parts, value, path, sink), path, sink)
    if parts := schema.get("allOf"):
        found = _each(parts, value, path, sink)
        for causes in found:
            sink.causes.extend(causes)
        if any(found):
            more = ". None validated" if all(found) else ""
            _whole(sink, f'"{path}" must validate all the schemas (allOf){more}')
    if (part := schema.get("not")) is not None and fits(part, value):
        _whole(sink, f'"{path}" must not validate the schema (not)')


def _each(parts: Sequence[Schema], value: Any, path: str, sink: Sink) -> list[Causes]:
    """The complaints of each alternative."""
    found = []
    for part in parts:
        causes = Causes()
        check(part, value, path, sink.into(causes))
        found.append(causes)
    return found


def _one_of(found: list[Causes], path: str, sink: Sink) -> None:
    valid = sum(not causes for causes in found)
    if valid == 1:
        return
    told = f"Found {valid} valid alternatives" if valid else "Found none valid"
    _whole(sink, f'"{path}" must validate one and only one schema (oneOf). {told}')
    if not valid:
        sink.causes.extend(found[0])


def _whole(sink: Sink, text: str) -> None:
    """A complaint that names its path in the text alone."""
    sink.causes.invalid(sink.field(""), "", text)


# -------------------------------------------------------------------------------------------------------------- scalars
def _text(schema: Schema, value: str, path: str, sink: Sink) -> None:
    field, causes = sink.field(path), sink.causes
    least, most, pattern = (schema.get(k) for k in ("minLength", "maxLength", "pattern"))
    if most is not None and len(value) > most:
        causes.too_long(field, most)
    elif least is not None and len(value) < least:
        causes.invalid(field, value, f"{path} in body should be at least {least} chars long")
    elif pattern and not _matches(pattern, value):
        causes.invalid(field, value, f"{path} in body should match '{pattern}'")
    form = str(schema.get("format") or "").replace("-", "")
    fits_form = FORMATS.get(form)
    if fits_form is not None and not fits_form(value):
        name = schema["format"]
        text = f'{path} in body must be of type {name}: "{value}"'
        causes.type_invalid(field, value, text)


def _matches(pattern: str, value: str) -> bool:
    """What is no pattern matches everything: the definition was refused or warned."""
    search = patterns.known(pattern)
    return search is None or search(value) is not None


def _number(schema: Schema, value: float, path: str, sink: Sink) -> None:
    field, causes = sink.field(path), sink.causes
    kind, form = schema.get("type"), schema.get("format") or ""
    if kind == "integer" and not IN_RANGE.get(form, _is_integer)(value):
        how = f"with format {form}" if form in IN_RANGE else "(default format)"
        text = f"Checked value must be of type integer {how} in {path}"
        causes.invalid(sink.field(""), "", text)
    step, least, most = (schema.get(k) for k in ("multipleOf", "minimum", "maximum"))
    if step and not float(value / step).is_integer():
        causes.invalid(field, value, f"{path} in body should be a multiple of {_go(step)}")
    if most is not None:
        open_ = schema.get("exclusiveMaximum")
        if value > most or (open_ and value == most):
            word = "less than" if open_ else "less than or equal to"
            causes.invalid(field, value, f"{path} in body should be {word} {_go(most)}")
    if least is not None:
        open_ = schema.get("exclusiveMinimum")
        if value < least or (open_ and value == least):
            word = "greater than" if open_ else "greater than or equal to"
            causes.invalid(field, value, f"{path} in body should be {word} {_go(least)}")


def _is_integer(value: float) -> bool:
    return float(value).is_integer()


def _go(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)


# -------------------------------------------------------------------------------------------------- lists and objects
def _list(schema: Schema, value: list[Any], path: str, sink: Sink, old: Any) -> None:
    items = schema.get("items")
    if isinstance(items, Mapping):
        before = _counterparts(schema, value, old)
        for index, one in enumerate(value):
            check(items, one, item(path, index), sink, before[index])
    field, causes = sink.field(path), sink.causes
    least, most = schema.get("minItems"), schema.get("maxItems")
    if least is not None and len(value) < least:
        causes.invalid(
            field, len(value), f"{path} in body should have at least {least} items"
        )  # fmt: skip
    if most is not None and len(value) > most:
        causes.too_many(field, len(value), most)
    if schema.get("uniqueItems") and len({_mark(one) for one in value}) < len(value):
        causes.invalid(field, value, f"{path} in body shouldn't contain duplicates")


def _mark(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def keys_of(schema: Schema, item: Any) -> Document | None:
    """What tells an item of a keyed list from the others, defaults of absent keys included; None for what is no object."""
    if item.__class__ is not dict:
        return None
    properties = (schema.get("items") or {}).get("properties") or {}
    found = {}
    for key in schema.get("x-kubernetes-list-map-keys") or ():
        if key in item:
            found[key] = item[key]
        elif "default" in properties.get(key, {}):
            found[key] = properties[key]["default"]
    return found


def _counterparts(schema: Schema, value: list[Any], old: Any) -> list[Any]:
    """For each item the one that it was before."""
    if old.__class__ is not list or schema.get("x-kubernetes-list-type") != "map":
        return [ABSENT] * len(value)
    known = {_mark(keys_of(schema, one)): one for one in old}
    return [known.get(_mark(keys_of(schema, one)), ABSENT) for one in value]


def _object(schema: Schema, value: Document, path: str, sink: Sink, old: Any) -> None:
    field, causes = sink.field(path), sink.causes
    least, most = schema.get("minProperties"), schema.get("maxProperties")
    if least is not None and len(value) < least:
        text = f"{path} in body should have at least {least} properties"
        causes.invalid(field, value, text)
        return
    if most is not None and len(value) > most:
        causes.too_many(field, len(value), most)
        return
    properties: Schema = schema.get("properties") or {}
    others = schema.get("additionalProperties")
    before: Document = old if old.__class__ is dict else {}
    for key, one in value.items():
        part = properties.get(key)
        if part is None:
            part = others if isinstance(others, Mapping) else None
        if part is not None:
            check(part, one, below(path, key), sink, before.get(key, ABSENT))
    for key in schema.get("required") or ():
        if key not in value:
            causes.required(sink.field(below(path, key)))


# ----------------------------------------------------------------------------------------------------------- list types
def check_list_types(schema: Schema, value: Any, path: str, sink: Sink, old: Any = ABSENT) -> None:
    """Sets without duplicates, keyed lists whose items are objects with different keys; embedded objects that say what they are."""
    schema = schemas.resolve(schema)
    if _same(value, old):
        return
    if value.__class__ is list:
        items = schema.get("items") or {}
        kind = schema.get("x-kubernetes-list-type")
        if kind in ("map", "set"):
            _distinct(schema, value, path, sink, keyed=kind == "map")
        if isinstance(items, Mapping):
            before = _counterparts(schema, value, old)
            for index, one in enumerate(value):
                check_list_types(items, one, item(path, index), sink, before[index])
    elif value.__class__ is dict:
        if schema.get("x-kubernetes-embedded-resource"):
            _embedded(value, path, sink)
        properties: Schema = schema.get("properties") or {}
        others = schema.get("additionalProperties")
        was: Document = old if old.__class__ is dict else {}
        for key, one in value.items():
            part = properties.get(key) or (others if isinstance(others, Mapping) else None)
            if part is not None:
                check_list_types(part, one, below(path, key), sink, was.get(key, ABSENT))


def _distinct(schema: Schema, value: list[Any], path: str, sink: Sink, *, keyed: bool) -> None:
    seen: set[bytes] = set()
    for index, one in enumerate(value):
        at = sink.field(item(path, index))
        told = keys_of(schema, one) if keyed else one
        if keyed and told is None:
            text = "must be an object for an array of list-type map"
            sink.causes.invalid(at, one, text)
            continue
        if (mark := _mark(told)) in seen:
            sink.causes.duplicate(at, told)
        seen.add(mark)


def _embedded(value: Document, path: str, sink: Sink) -> None:
    for key in ("apiVersion", "kind"):
        if not value.get(key):
            sink.causes.required(sink.field(below(path, key)), "must not be empty")

"""Whether a value is, beyond doubt, what a structural schema asks and nothing else: own kinds' parts nearly always are.

Pruning and validation walk a value with the path to every field at hand, for their complaints. A check that is compiled once per
schema says first, in a fraction of the time, that there is nothing to complain about; only when it does not, they walk. So
it may be stricter than they are, never more lenient: whoever teaches
them a keyword need not teach it here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from machinery.api import schemas
from machinery.api.formats import FORMATS, IN_RANGE
from machinery.api.patterns import searcher

Schema = Mapping[str, Any]
Check = Callable[[Any], bool]

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,), "boolean": (bool,), "integer": (int,), "number": (int, float),
    "array": (list,), "object": (dict,),
}  # fmt: skip
_SCALARS: Final[Mapping[str, type]] = {"string": str, "boolean": bool, "integer": int}
_SILENT: Final = frozenset({"description", "default", "title", "x-kubernetes-map-type"})
"""Keywords that say nothing of what is right."""
_KEYWORDS: Final = _SILENT | frozenset({
    "type", "nullable", "enum", "properties", "additionalProperties", "required", "maxProperties",
    "items", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
    "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-embedded-resource",
})  # fmt: skip
_CHECKS: Final[dict[int, tuple[Schema, Check]]] = {}
"""By the schema's identity, with the schema, so that no other one takes its number."""


def plain(schema: Schema, value: Any) -> bool:
    """Whether pruning would keep all of the value, and validation would accept it.

    Only for schemas that live as long as the process: each is kept.
    """
    return _check(schema)(value)


def _check(schema: Schema) -> Check:
    known = _CHECKS.get(id(schema))
    if known is None:
        # A schema that contains itself finds this entry while it is compiled, and the result when it is used.
        _CHECKS[id(schema)] = (schema, lambda value: _CHECKS[id(schema)][1](value))
        known = _CHECKS[id(schema)] = (schema, _compiled(schemas.resolve(schema)))
    return known[1]


def _compiled(schema: Schema) -> Check:
    if not schema.keys() <= _KEYWORDS:
        return lambda _: False
    if schema.get("x-kubernetes-int-or-string"):
        types: tuple[type, ...] = (int, str)
    else:
        kind = schema.get("type")
        types = (
            _TYPES.get(kind, ()) if isinstance(kind, str) else (str, bool, int, float, list, dict)
        )
    checks: dict[type, list[Check]] = {
        dict: [_object(schema)],
        list: _list(schema),
        str: _text(schema),
        int: _number(schema),
        float: _number(schema),
        bool: [],
    }
    choices = schema.get("enum")
    common: list[Check] = [lambda value: value in choices] if choices else []
    by_type = {one: _together([*common, *checks[one]]) for one in types}
    nullable = bool(schema.get("nullable"))
    if len(by_type) == 1 and not nullable:
        ((only, inner),) = by_type.items()
        if inner is _fine:
            return lambda value: type(value) is only
        if only is dict and not common:
            return inner  # it looks at the type itself
        return lambda value: type(value) is only and inner(value)

    def check(value: Any) -> bool:
        asked = by_type.get(type(value))
        return asked(value) if asked is not None else nullable and value is None

    return check


def _together(checks: list[Check]) -> Check:
    if not checks:
        return _fine
    if len(checks) == 1:
        return checks[0]
    if len(checks) == 2:
        first, second = checks
        return lambda value: first(value) and second(value)
    return lambda value: all(one(value) for one in checks)


def _fine(_: Any) -> bool:
    return True


def _object(schema: Schema) -> Check:
    properties, others = schema.get("properties"), schema.get("additionalProperties")
    required = tuple(schema.get("required") or ())
    named = ("apiVersion", "kind") if schema.get("x-kubernetes-embedded-resource") else ()
    limit = schema.get("maxProperties")
    parts = {key: _check(part) for key, part in (properties or {}).items()}
    rest = _check(others) if isinstance(others, Mapping) and properties is None else None
    closed = properties is not None and not schema.get("x-kubernetes-preserve-unknown-fields")
    simple = {key: only for key, part in (properties or {}).items() if (only := _only(part))}
    numbers = {key for key, part in (properties or {}).items() if _is_int32(part)}

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for key in required:
            if key not in value:
                return False
        for key in named:
            if not value.get(key):
                return False
        for key, one in value.items():
            kind = type(one)
            if simple.get(key) is kind or (
                kind is int and key in numbers and -(2**31) <= one < 2**31
            ):
                continue  # most fields, without a call for each
            part = parts.get(key, rest)
            if part is None:
                if closed:
                    return False
            elif not part(one):
                return False
        return limit is None or len(value) <= limit

    return check


def _only(schema: Schema) -> type | None:
    """The type of which any value will do; None: there is more to look at."""
    asked = schemas.resolve(schema)
    kind, said = asked.get("type"), asked.keys() - _SILENT
    return _SCALARS.get(kind) if said == {"type"} and isinstance(kind, str) else None


def _is_int32(schema: Schema) -> bool:
    """Whether any number of the format will do."""
    asked = schemas.resolve(schema)
    plain_number = asked.keys() - _SILENT == {"type", "format"}
    return plain_number and (asked["type"], asked["format"]) == ("integer", "int32")


def _list(schema: Schema) -> list[Check]:
    found: list[Check] = []
    least, most = schema.get("minItems"), schema.get("maxItems")
    if least is not None:
        found.append(lambda value: len(value) >= least)
    if most is not None:
        found.append(lambda value: len(value) <= most)
    if isinstance(items := schema.get("items"), Mapping) and items:
        item = _check(items)
        found.append(lambda value: all(map(item, value)))
    kind = schema.get("x-kubernetes-list-type")
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    if kind in ("map", "set"):
        found.append(lambda value: _distinct(value, keys if kind == "map" else ()))
    return found


def _distinct(value: list[Any], keys: tuple[str, ...]) -> bool:
    """Whether no two are the same, as far as a set can tell; keys that are left out may have defaults."""
    try:
        marks = {tuple(one[key] for key in keys) if keys else one for one in value}
    except (TypeError, KeyError):
        return False
    return len(marks) == len(value)


def _text(schema: Schema) -> list[Check]:
    found: list[Check] = []
    least, most, pattern = (schema.get(k) for k in ("minLength", "maxLength", "pattern"))
    if least is not None:
        found.append(lambda value: len(value) >= least)
    if most is not None:
        found.append(lambda value: len(value) <= most)
    if pattern is not None:
        search = searcher(pattern)
        found.append(lambda value: search(value) is not None)
    form = str(schema.get("format") or "").replace("-", "")
    return [*found, FORMATS[form]] if form in FORMATS else found


def _number(schema: Schema) -> list[Check]:
    form = schema.get("format") or ""
    found: list[Check] = [IN_RANGE[form]] if form in IN_RANGE else []
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None:
        found.append(lambda value: value >= least)
    if most is not None:
        found.append(lambda value: value <= most)
    return found

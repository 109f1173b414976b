"""Whether an applied configuration fits its kind: apply refuses what it cannot own, whatever fieldValidation says.

Unknown fields, wrong types, and items of keyed lists and sets that stand twice; all of them in one message, as upstream's
structured merge library words them.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson

from machinery.api.fieldpath import PATH_MAX, below, item
from machinery.api.managed_fields.sets import keys_text
from machinery.api.managed_fields.walk import keys_of
from machinery.api.scheme import ServedKind
from machinery.api.structure import UNTYPED, Shape
from machinery.meta.errors import InternalError
from machinery.meta.resource import Document

_COMPLAINTS_MAX = 100
"""How many complaints one answer carries."""


def check(kind: ServedKind, applied: Document, shape: Shape) -> None:
    """Raises InternalError (500, as upstream) with every complaint."""
    found = faults(applied, shape)
    if not found:
        return
    text = found[0] if len(found) == 1 else "\n  ".join(["errors:", *found])
    metadata = applied.get("metadata") or {}
    at = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    gvk = f"{kind.group}/{kind.version}, Kind={kind.kind}"
    raise InternalError(f"failed to create typed patch object ({at}; {gvk}): {text}", reason="")


def faults(applied: Document, shape: Shape) -> list[str]:
    """What does not fit the schema, as far as one answer tells it."""
    return list(islice(_complaints(applied, shape, ""), _COMPLAINTS_MAX))


def _complaints(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if value is None:
        return
    if shape.type == "object":
        yield from _in_map(value, shape, path)
    elif shape.type == "array":
        yield from _in_list(value, shape, path)
    else:
        yield from _in_scalar(value, shape, path)


def _in_map(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: expected map, got &{{{_go(value)}}}"
        return
    fields = shape.fields
    for key, inner in value.items():
        at = _below(path, key)
        if fields is None:
            yield from _complaints(inner, shape.item, at)
        elif key in fields:
            yield from _complaints(inner, fields[key], at)
        elif not shape.open:
            yield f"{at}: field not declared in schema"


def _below(path: str, key: str) -> str:
    """Upstream's paths begin with a dot here."""
    return below(path, key) if path else f".{key[:PATH_MAX]}"


def _in_list(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: expected list, got &{{{_go(value)}}}"
        return
    seen: set[str] = set()
    for index, inner in enumerate(value):
        at = item(path, index)
        if shape.list_type != "atomic":
            where = _identity(inner, shape)
            if where in seen:
                yield f"{path}: duplicate entries for key [{where}]"
                continue
            seen.add(where)
            at = item(path, where)
        if shape.list_type == "map" and not isinstance(inner, dict):
            yield f"{path}: element {index}: associative list with keys may not have non-map elements"
            continue
        yield from _complaints(inner, shape.item, at)


def _identity(item: Any, shape: Shape) -> str:
    if shape.list_type == "map":
        return keys_text(keys_of(item, shape))
    return "=" + orjson.dumps(item, option=orjson.OPT_SORT_KEYS).decode()


_NUMERIC = "numeric (int or float)"
_EXPECTED = {"string": "string", "integer": _NUMERIC, "number": _NUMERIC, "boolean": "boolean"}


def _in_scalar(value: Any, shape: Shape, path: str) -> Iterator[str]:
    wanted = _EXPECTED.get(shape.type)
    if shape is UNTYPED or wanted is None:
        return
    got = _kind(value)
    fits = got == wanted or (wanted == _NUMERIC and got in ("int", "float"))
    if not fits:
        yield f"{path}: expected {wanted}, got {got}"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "string"
    return f"&{{{_go(value)}}}"


def _go(value: Any) -> str:
    return orjson.dumps(value).decode()

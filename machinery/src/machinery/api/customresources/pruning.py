"""What a structural schema knows of an object (the rest is pruned), and what it fills in. Path-copy, as everywhere.

Known is what `properties` or `additionalProperties` describe; below `x-kubernetes-preserve-unknown-fields` everything is
kept, and what is described there is pruned all the same. An embedded resource keeps apiVersion, kind and metadata. A null
where none is allowed counts as absent: it gets the default, or goes.
"""

from collections.abc import Mapping
from typing import Any, Final

from machinery.api.fieldpath import below, item
from machinery.meta.resource import Document

Schema = Mapping[str, Any]
PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
EMBEDDED: Final = "x-kubernetes-embedded-resource"
STAMP: Final = frozenset({"apiVersion", "kind", "metadata"})
UNKNOWN_MAX: Final = 1000
"""How many unknown fields are remembered."""
_NOTHING: Final[Schema] = {}


def prune(schema: Schema, value: Any, unknown: list[str], path: str = "") -> Any:
    """The known part of a value; the paths of the rest are appended to `unknown`. The very value when all is known."""
    if value.__class__ is list:
        items = schema.get("items")
        if not isinstance(items, Mapping):
            return value
        fresh = [prune(items, one, unknown, item(path, i)) for i, one in enumerate(value)]
        return _kept(value, fresh)
    if value.__class__ is not dict:
        return value
    properties: Schema = schema.get("properties") or _NOTHING
    others = schema.get("additionalProperties")
    open_ = bool(schema.get(PRESERVE)) or others is True
    embedded = schema.get(EMBEDDED)
    out: Document = {}
    same = True
    for key, one in value.items():
        part = properties.get(key)
        if part is None and isinstance(others, Mapping):
            part = others
        if part is None:
            if open_ or (embedded and key in STAMP):
                out[key] = one
            else:
                same = False
                tell(unknown, path, key)
            continue
        out[key] = tidy = prune(part, one, unknown, below(path, key))
        same = same and tidy is one
    return value if same else out


def tell(unknown: list[str], path: str, key: str) -> None:
    """Note an unknown field; a hostile body has no end of them."""
    if len(unknown) < UNKNOWN_MAX:
        unknown.append(below(path, key))


def prune_object(schema: Schema, document: Document, unknown: list[str]) -> Document:
    """A whole object: apiVersion, kind and metadata are what they are everywhere."""
    body = {key: value for key, value in document.items() if key not in STAMP}
    found: list[str] = []
    pruned = prune(without_stamp(schema), body, found)
    unknown.extend(sorted(found))
    if pruned is body:
        return document
    stamp = {key: value for key, value in document.items() if key in STAMP}
    return {**stamp, **pruned}


def fill(schema: Schema, value: Any) -> Any:
    """The value with its defaults, and without nulls that may not be. The very value when nothing was to be done."""
    if value.__class__ is list:
        items = schema.get("items")
        if not isinstance(items, Mapping):
            return value
        return _kept(value, [_filled(items, one) for one in value])
    if value.__class__ is not dict:
        return value
    properties: Schema = schema.get("properties") or _NOTHING
    others = schema.get("additionalProperties")
    out: Document = {}
    same = True
    for key, one in value.items():
        part = properties.get(key)
        if part is None:
            part = others if isinstance(others, Mapping) else None
        if part is None:
            out[key] = one
            continue
        if one is None and not part.get("nullable") and "default" not in part:
            same = False
            continue
        out[key] = full = _filled(part, one)
        same = same and full is one
    for key, part in properties.items():
        if "default" in part and key not in value:
            out[key] = fill(part, part["default"])
            same = False
    return value if same else out


def fill_object(schema: Schema, document: Document) -> Document:
    """A whole object with its defaults."""
    body = {key: value for key, value in document.items() if key not in STAMP}
    full = fill(without_stamp(schema), body)
    if full is body:
        return document
    stamp = {key: value for key, value in document.items() if key in STAMP}
    return {**stamp, **full}


def without_stamp(schema: Schema) -> Schema:
    """The schema of everything but apiVersion, kind and metadata."""
    properties = schema.get("properties")
    if not properties or STAMP.isdisjoint(properties):
        return schema
    return {**schema, "properties": {k: v for k, v in properties.items() if k not in STAMP}}


def _filled(part: Schema, one: Any) -> Any:
    if one is None and "default" in part and not part.get("nullable"):
        return fill(part, part["default"])
    return fill(part, one)


def _kept(before: list[Any], after: list[Any]) -> list[Any]:
    return before if all(a is b for a, b in zip(before, after, strict=True)) else after

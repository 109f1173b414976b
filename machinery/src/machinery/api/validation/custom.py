"""Own kinds and custom kinds against their schemas: which part is judged by what, and in what order.

Own kinds have what a schema says and rules of their own elsewhere; kinds of CustomResourceDefinitions have list types, embedded
objects, the paths of their Scale and rules in CEL besides. Their status endpoint judges the status alone, by its own part of the
schema, in whose eyes it is the whole body.
"""

from collections.abc import Mapping
from typing import Any, Final

from machinery.api import schemas
from machinery.api.scheme import ServedKind
from machinery.api.validation import rules, structural
from machinery.api.validation.causes import Causes
from machinery.api.validation.schema_values import ABSENT, Sink, check, check_list_types
from machinery.meta.resource import Document

Schema = Mapping[str, Any]
_STAMP: Final = ("apiVersion", "kind", "metadata")
_BLOCKING: Final = frozenset(
    {
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)
_INT32_MAX: Final = 2**31 - 1
UNCHECKED: Final = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation"
)


def validate(
    schema: Schema, document: Document, causes: Causes, old: Document | None = None
) -> None:
    """An own kind: all but metadata, apiVersion and kind, and but for what is the very part of `old`."""
    properties = schemas.resolve(schema).get("properties") or {}
    before, sink = old or {}, Sink(causes)
    for key in schemas.resolve(schema).get("required") or ():
        if key not in document:
            causes.required(key)
    for key, part in properties.items():
        if key not in document or key in _STAMP:
            continue
        if key in before and document[key] is before[key]:
            continue
        if not structural.plain(part, document[key]):
            check(part, document[key], key, sink)
            check_list_types(part, document[key], key, sink)


def validate_dynamic(
    kind: ServedKind,
    document: Document,
    causes: Causes,
    old: Document | None = None,
    subresource: str = "",
) -> None:
    """An object of a custom kind. Of an update only what changed is judged again, rules aside."""
    schema = schemas.schema_of(kind)
    before: Any = ABSENT if old is None else _body(old)
    body = _body(document)
    if subresource == "status":
        if "status" in body:
            part = (schema.get("properties") or {}).get("status") or {}
            was = ABSENT if old is None else old.get("status", ABSENT)
            check(part, body["status"], "", Sink(causes, "status"), was)
    else:
        check(_of_body(schema), body, "", Sink(causes), before)
        _metadata(schema, document, causes)
        _scale(kind, document, causes)
    check_list_types(_of_body(schema), body, "", Sink(causes), before)
    if not rules.has_rules(schema):
        return
    if any(cause["reason"] in _BLOCKING for cause in causes):
        causes.append({"reason": "FieldValueInvalid", "message": UNCHECKED, "field": "<nil>"})
        return
    rules.check(schema, document, old, causes)


def _body(document: Document) -> Document:
    return {key: value for key, value in document.items() if key not in _STAMP}


def _of_body(schema: Schema) -> Schema:
    """The schema without the types of apiVersion, kind and metadata, which are what they are everywhere."""
    properties = {k: v for k, v in (schema.get("properties") or {}).items() if k not in _STAMP}
    required = [key for key in schema.get("required") or () if key not in _STAMP]
    return {**schema, "properties": properties, "required": required}


def _metadata(schema: Schema, document: Document, causes: Causes) -> None:
    """A definition may bound the name."""
    part = (schema.get("properties") or {}).get("metadata") or {}
    known = part.get("properties") or {}
    metadata = document.get("metadata") or {}
    for key in ("name", "generateName"):
        if key in known and key in metadata:
            check(known[key], metadata[key], f"metadata.{key}", Sink(causes))


def _scale(kind: ServedKind, document: Document, causes: Causes) -> None:
    """What the Scale shows must be what it can show."""
    paths = kind.scale
    if paths is None:
        return
    for path, zero in (
        (paths.spec_replicas, 0), (paths.label_selector, ""), (paths.status_replicas, 0),
    ):  # fmt: skip
        if not path:
            continue
        value, fault = _nested(document, path, type(zero))
        if fault:
            causes.invalid(path, zero, fault)
        elif isinstance(value, int) and value < 0:
            causes.invalid(path, value, "should be a non-negative integer")
        elif isinstance(value, int) and value > _INT32_MAX:
            causes.invalid(path, value, f"should be less than or equal to {_INT32_MAX}")


_GO: Final = {
    str: "string", bool: "bool", int: "int64", float: "float64", list: "[]interface {}",
    dict: "map[string]interface {}",
}  # fmt: skip


def _nested(document: Document, path: str, wanted: type) -> tuple[Any, str]:
    """The value at a path, or what Go says of what is in its way."""
    value: Any = document
    for step in path.removeprefix(".").split("."):
        if value is None:
            return None, ""
        if not isinstance(value, dict):
            return None, _accessor(path, value, "map[string]interface{}")
        value = value.get(step)
    if value is None or type(value) is wanted:
        return value, ""
    return None, _accessor(path, value, "int64" if wanted is int else "string")


def _accessor(path: str, value: Any, wanted: str) -> str:
    shown = "[]" if value == [] else value
    return f"{path} accessor error: {shown} is of the type {_GO.get(type(value), 'nil')}, expected {wanted}"

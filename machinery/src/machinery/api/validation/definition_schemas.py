"""Whether the schema of a definition is structural, in the words of apiextensions-apiserver.

Two questions about each node, asked in upstream's order: is it structural (types are there, logic states values only, metadata
is left alone), and does it use what a custom resource may use. Defaults are held against the schema that they stand in.
"""

from collections.abc import Mapping
from typing import Any, Final

from machinery.api.customresources.pruning import EMBEDDED, PRESERVE, prune
from machinery.api.expressions.typed import RULES
from machinery.api.patterns import pattern_fault
from machinery.api.validation import rules
from machinery.api.validation.causes import Causes
from machinery.api.validation.definition_rules import form, meaning
from machinery.api.validation.schema_values import Sink, check

Schema = Mapping[str, Any]
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean"})
_UNSUPPORTED: Final = ("id", "definitions", "dependencies", "additionalItems", "patternProperties")
_LOGIC: Final = ("allOf", "anyOf", "oneOf")
_MISSING: Final = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}


def validate_schema(schema: Schema, path: str, causes: Causes, *, unchanged: bool = False) -> None:
    """The whole of `openAPIV3Schema`. `unchanged`: the definition had it before, so its rules are not too dear now."""
    found, used = Causes(), Causes()
    _usage(schema, path, used)
    if not any(cause["message"].endswith(" is not supported") for cause in used):
        _structure(schema, "root", path, found)
        if not found:
            _defaults(schema, path, found)
    causes += [*found, *used]
    if not found and rules.available():
        meaning(schema, path, [cause["field"] for cause in used], causes, unchanged=unchanged)


# ------------------------------------------------------------------------------------------------------------ structure
def _structure(schema: Schema, level: str, path: str, causes: Causes) -> None:
    if isinstance(items := schema.get("items"), Mapping):
        _structure(items, "item", f"{path}.items", causes)
    for key, part in (schema.get("properties") or {}).items():
        _structure(part, "field", f"{path}.properties[{key}]", causes)
    others = schema.get("additionalProperties")
    if isinstance(others, Mapping):
        if level == "root":
            causes.forbidden(f"{path}.additionalProperties", "must not be used at the root")
        _structure(others, "field", f"{path}.additionalProperties", causes)
    _logic(schema, path, causes)
    _types(schema, level, path, causes)
    if level == "root" or schema.get(EMBEDDED):
        _stamp(schema, path, causes)


def _types(schema: Schema, level: str, path: str, causes: Causes) -> None:
    kind = schema.get("type") or ""
    if schema.get(EMBEDDED) and kind != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        if kind:
            causes.invalid(f"{path}.type", kind, text)
        else:
            causes.required(f"{path}.type", text)
    elif not kind and not schema.get(_INT_OR_STRING) and not schema.get(PRESERVE):
        causes.required(f"{path}.type", _MISSING[level])
    if level == "root" and kind and kind != "object":
        causes.invalid(f"{path}.type", kind, "must be object at the root")
    if not schema.get(EMBEDDED):
        return
    if isinstance(schema.get("additionalProperties"), Mapping):
        text = "must not be used if x-kubernetes-embedded-resource is set"
        causes.forbidden(f"{path}.additionalProperties", text)
    if not schema.get(PRESERVE) and not schema.get("properties"):
        text = (
            "must not be empty if x-kubernetes-embedded-resource is true without "
            "x-kubernetes-preserve-unknown-fields"
        )
        causes.required(f"{path}.properties", text)


def _stamp(schema: Schema, path: str, causes: Causes) -> None:
    properties = schema.get("properties") or {}
    for key in ("apiVersion", "kind"):
        kind = properties[key].get("type", "") if key in properties else "string"
        if kind != "string":
            causes.invalid(f"{path}.properties[{key}].type", kind, "must be string")
    if "metadata" not in properties:
        return
    at = f"{path}.properties[metadata]"
    metadata = properties["metadata"]
    if metadata.get("type") != "object":
        causes.invalid(f"{at}.type", metadata.get("type", ""), "must be object")
    extra = set(metadata.get("properties") or {}) - {"name", "generateName"}
    odd = set(metadata) - {"type", "properties", "description"}
    if extra or odd:
        text = (
            "must not specify anything other than name and generateName, but metadata is "
            "implicitly specified"
        )
        causes.forbidden(at, text)


def _logic(schema: Schema, path: str, causes: Causes) -> None:
    """What stands in allOf, anyOf, oneOf and not states values; what is of what type is said outside."""
    for word in _LOGIC:
        for index, part in enumerate(schema.get(word) or ()):
            free = word in ("anyOf", "allOf") and schema.get(_INT_OR_STRING)
            _values_only(part, f"{path}.{word}[{index}]", causes, free=bool(free))
    if isinstance(part := schema.get("not"), Mapping):
        _values_only(part, f"{path}.not", causes, free=False)


def _values_only(schema: Schema, path: str, causes: Causes, *, free: bool) -> None:
    """`free`: of an int-or-string, whose alternatives name their types."""
    for key, part in (schema.get("properties") or {}).items():
        _values_only(part, f"{path}.properties[{key}]", causes, free=False)
    if isinstance(items := schema.get("items"), Mapping):
        _values_only(items, f"{path}.items", causes, free=False)
    _inner_logic(schema, path, causes, free=free)
    if schema.get("type") and not free:
        causes.forbidden(f"{path}.type", "must be empty to be structural")
    if schema.get("additionalProperties") is not None:
        text = "must be undefined to be structural"
        causes.forbidden(f"{path}.additionalProperties", text)
    for key in ("title", "description"):
        if schema.get(key):
            causes.forbidden(f"{path}.{key}", "must be empty to be structural")
    if "default" in schema:
        causes.forbidden(f"{path}.default", "must be undefined to be structural")
    for key in ("nullable", PRESERVE, EMBEDDED, _INT_OR_STRING):
        if schema.get(key):
            causes.forbidden(f"{path}.{key}", "must be false to be structural")
    for key in ("x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-map-type"):
        if schema.get(key):
            causes.forbidden(f"{path}.{key}", "must be undefined to be structural")


def _inner_logic(schema: Schema, path: str, causes: Causes, *, free: bool) -> None:
    for word in _LOGIC:
        for index, part in enumerate(schema.get(word) or ()):
            _values_only(part, f"{path}.{word}[{index}]", causes, free=free)
    if isinstance(part := schema.get("not"), Mapping):
        _values_only(part, f"{path}.not", causes, free=False)


def _defaults(schema: Schema, path: str, causes: Causes) -> None:
    """A default must be what a client could have written."""
    if "default" in schema:
        value, at = schema["default"], f"{path}.default"
        unknown: list[str] = []
        prune(schema, value, unknown)
        if unknown:
            causes.invalid(at, value, "must not have unknown fields")
        elif not (value is None and schema.get("nullable")):
            check(schema, value, "", Sink(causes, at))
    for key, part in (schema.get("properties") or {}).items():
        _defaults(part, f"{path}.properties[{key}]", causes)
    for key in ("items", "additionalProperties"):
        if isinstance(part := schema.get(key), Mapping):
            _defaults(part, f"{path}.{key}", causes)


# ---------------------------------------------------------------------------------------------------------------- usage
def _usage(schema: Schema, path: str, causes: Causes, *, root: bool = True) -> None:
    if root and schema.get("nullable"):
        causes.forbidden(f"{path}.nullable", "nullable cannot be true at the root")
    _refused(schema, path, causes)
    _containers(schema, path, causes)
    properties, others = schema.get("properties"), schema.get("additionalProperties")
    if properties and others is not None and others is not False:
        text = "additionalProperties and properties are mutual exclusive"
        causes.forbidden(f"{path}.additionalProperties", text)
    _lists(schema, path, causes)
    for index, rule in enumerate(schema.get(RULES) or ()):
        form(rule, f"{path}.{RULES}[{index}]", causes)
    for key, part in (properties or {}).items():
        _usage(part, f"{path}.properties[{key}]", causes, root=False)
    for key in ("items", "additionalProperties", "not"):
        if isinstance(part := schema.get(key), Mapping):
            _usage(part, f"{path}.{key}", causes, root=False)
    for word in _LOGIC:
        for index, part in enumerate(schema.get(word) or ()):
            _usage(part, f"{path}.{word}[{index}]", causes, root=False)


def _refused(schema: Schema, path: str, causes: Causes) -> None:
    kind = schema.get("type") or ""
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        causes.forbidden(f"{path}.uniqueItems", text)
    if kind == "null":
        text = "type cannot be set to null, use nullable as an alternative"
        causes.forbidden(f"{path}.type", text)
    elif kind and kind not in _TYPES:
        causes.unsupported(f"{path}.type", kind, _TYPES)
    if schema.get("$ref"):
        causes.forbidden(f"{path}.$ref", "$ref is not supported")
    for key in _UNSUPPORTED:
        if schema.get(key):
            causes.forbidden(f"{path}.{key}", f"{key} is not supported")
    if schema.get(PRESERVE) is False:
        causes.invalid(f"{path}.{PRESERVE}", False, "must be true or undefined")
    if (pattern := schema.get("pattern")) and (fault := pattern_fault(pattern)):
        text = f"must be a valid regular expression, but isn't: error parsing regexp: {fault}"
        causes.invalid(f"{path}.pattern", pattern, text)


def _containers(schema: Schema, path: str, causes: Causes) -> None:
    kind = schema.get("type") or ""
    if isinstance(schema.get("items"), list):
        text = "items must be a schema object and not an array"
        causes.forbidden(f"{path}.items", text)
    elif kind == "array" and schema.get("items") is None:
        causes.required(f"{path}.items", "must be specified")
    found = schema.get("x-kubernetes-map-type")
    if found is not None:
        at = f"{path}.x-kubernetes-map-type"
        if kind != "object":
            causes.invalid(
                f"{path}.type", kind, "must be object if x-kubernetes-map-type is specified"
            )
        causes.one_of(at, found, ("atomic", "granular"))


def _lists(schema: Schema, path: str, causes: Causes) -> None:
    found = schema.get("x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    at = f"{path}.x-kubernetes-list-map-keys"
    if found is None:
        if keys:
            text = "must be map if x-kubernetes-list-map-keys is non-empty"
            causes.required(f"{path}.x-kubernetes-list-type", text)
        return
    kind = schema.get("type") or ""
    if kind != "array":
        text = "must be array if x-kubernetes-list-type is specified"
        causes.invalid(f"{path}.type", kind, text)
        return
    causes.one_of(f"{path}.x-kubernetes-list-type", found, ("atomic", "set", "map"))
    items = schema.get("items")
    if not isinstance(items, Mapping):
        return
    if found == "set":
        _set_items(items, f"{path}.items", causes)
    elif found == "map" and not keys:
        causes.required(at, "must not be empty if x-kubernetes-list-type is map")
    elif found == "map":
        _keyed_items(items, keys, path, causes)
    elif keys:
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        causes.invalid(f"{path}.x-kubernetes-list-type", found, text)


def _set_items(items: Schema, path: str, causes: Causes) -> None:
    kind = items.get("type")
    if items.get("nullable"):
        text = "cannot be nullable when x-kubernetes-list-type is set"
        causes.forbidden(f"{path}.nullable", text)
    if kind == "array" and items.get("x-kubernetes-list-type", "atomic") != "atomic":
        text = "must be atomic as item of a list with x-kubernetes-list-type=set"
        causes.invalid(f"{path}.x-kubernetes-list-type", items["x-kubernetes-list-type"], text)
    if kind == "object" and items.get("x-kubernetes-map-type") != "atomic":
        text = "must be atomic as item of a list with x-kubernetes-list-type=set"
        shown = items.get("x-kubernetes-map-type", "")
        causes.invalid(f"{path}.x-kubernetes-map-type", shown, text)


def _keyed_items(items: Schema, keys: Any, path: str, causes: Causes) -> None:
    at = f"{path}.x-kubernetes-list-map-keys"
    if items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        causes.invalid(f"{path}.items.type", items.get("type", ""), text)
        return
    properties, required = items.get("properties") or {}, items.get("required") or ()
    seen: set[str] = set()
    for index, key in enumerate(keys):
        if key in seen:
            causes.duplicate(f"{at}[{index}]", key)
        seen.add(key)
        part = properties.get(key)
        if part is None:
            causes.invalid(at, list(keys), "entries must all be names of item properties")
            continue
        where = f"{path}.items.properties[{key}]"
        if part.get("type") not in _SCALARS and not part.get(_INT_OR_STRING):
            text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            causes.invalid(f"{where}.type", part.get("type", ""), text)
        if "default" not in part and key not in required:
            text = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a "
                "required property"
            )
            causes.required(f"{where}.default", text)

"""The structure of a kind's fields, as merging needs it: what is a struct, a map, a list, and how lists are told apart.

Strategic merge patch asks a field for its merge key and strategy, server-side apply for list type, map keys and atomicity.
Both stand in the OpenAPI schema as extensions; a `Shape` is that schema read once, resolved lazily (schemas may be
recursive) and cached, so that walking an object costs dictionary look-ups only. A part that no schema describes is
`UNTYPED`: its maps are granular and its lists atomic, as upstream deduces them.
"""

from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

from machinery.api import schemas
from machinery.api.scheme import ServedKind

RAW = "io.k8s.apimachinery.pkg.runtime.RawExtension"
"""An object that nobody looks into: owned whole."""
OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_META_NAMES = frozenset({"apiVersion", "kind"})
_EMBEDDED: Mapping[str, Any] = {
    "metadata": {"$ref": f"#/{OBJECT_META}"},
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
}
"""What an object within an object has, whatever its schema says."""


class Shape:
    """One field's structure. `fields` is None unless it is a struct; `item` is the value of a map or a list."""

    def __init__(self, node: Mapping[str, Any]) -> None:
        target = _resolve(node)
        self.node = node
        self._target = target
        self.type = _type_of(target)
        self.list_type: str = _either(node, target, "x-kubernetes-list-type") or "atomic"
        self.atomic = (
            _either(node, target, "x-kubernetes-map-type") == "atomic"
            or (self.type == "array" and self.list_type == "atomic")
            or reference(node) == RAW
        )
        self.keys: tuple[str, ...] = tuple(
            _either(node, target, "x-kubernetes-list-map-keys") or ()
        )
        self.merge_key: str = node.get("x-kubernetes-patch-merge-key", "")
        strategy = node.get("x-kubernetes-patch-strategy", "")
        self.strategies: frozenset[str] = (
            frozenset(strategy.split(",")) if strategy else frozenset()
        )
        self.open = bool(_either(node, target, "x-kubernetes-preserve-unknown-fields"))

    @cached_property
    def fields(self) -> "dict[str, Shape] | None":
        """The declared fields of a struct."""
        name = reference(self.node)
        if name:
            return _fields_of(name)
        if self._target.get("x-kubernetes-embedded-resource"):
            own = dict(self._target.get("properties") or {})
            return _fields({"properties": {**own, **_EMBEDDED}})
        return _fields(self._target)

    @cached_property
    def item(self) -> "Shape":
        """What an element of the list, or a value of the map, looks like."""
        node = self._target.get("items" if self.type == "array" else "additionalProperties")
        if not isinstance(node, Mapping) or not node:
            return UNTYPED
        return Shape(node)

    @cached_property
    def key_defaults(self) -> dict[str, Any]:
        """Values that a list's keys have where an item leaves them out (a port's protocol)."""
        known = self.item.fields or {}
        found: dict[str, Any] = {}
        for key in self.keys:
            default = known[key].default if key in known else None
            if default is None and key == "protocol":
                default = "TCP"  # the published schemas have lost this default
            if default is not None:
                found[key] = default
        return found

    @property
    def default(self) -> Any:
        return self.node.get("default")

    @property
    def is_map(self) -> bool:
        """A map from free keys to values, not a struct."""
        return self.type == "object" and self.fields is None


def _either(node: Mapping[str, Any], target: Mapping[str, Any], key: str) -> Any:
    found = node.get(key)
    return target.get(key) if found is None else found


def reference(node: Mapping[str, Any]) -> str:
    """The definition's name that a node points at; `allOf` of one is how OpenAPI v3 adds a default to a reference."""
    ref = node.get("$ref")
    if ref is None:
        parts = node.get("allOf")
        if isinstance(parts, list) and len(parts) == 1:
            ref = parts[0].get("$ref")
    return str(ref).rpartition("/")[2] if ref else ""


def _resolve(node: Mapping[str, Any]) -> Mapping[str, Any]:
    name = reference(node)
    return schemas.definition(name) if name else node


def _type_of(target: Mapping[str, Any]) -> str:
    """`object`, `array`, `string`, `integer`, `number`, `boolean`, `scalar` (int-or-string, quantity) or empty: untyped."""
    if target.get("x-kubernetes-int-or-string"):
        return "scalar"
    found = target.get("type")
    if isinstance(found, list):
        found = next((t for t in found if t != "null"), "")
    if not found:
        if "oneOf" in target or "anyOf" in target:
            return "scalar"
        return "object" if "properties" in target else ""
    return str(found)


@cache
def _fields_of(name: str) -> dict[str, Shape] | None:
    return _fields(schemas.definition(name))


def _fields(target: Mapping[str, Any]) -> dict[str, Shape] | None:
    properties = target.get("properties")
    if not properties:
        return None
    return {name: Shape(node) for name, node in properties.items()}


UNTYPED = Shape({})


@cache
def of(schema_name: str) -> Shape:
    """The shape of a definition of the built schemas."""
    return Shape({"$ref": f"#/{schema_name}"})


_OWN: dict[int, tuple[Mapping[str, Any], Shape]] = {}
_OWN_MAX = 1024
"""Shapes of own kinds kept; definitions of custom kinds may change for ever."""


def of_kind(kind: ServedKind) -> Shape:
    """The shape of a whole object of that kind; own kinds have ordinary metadata whatever their schema says."""
    if kind.schema is None:
        return of(kind.schema_name)
    known = _OWN.get(id(kind.schema))
    if known is None:
        properties = dict(kind.schema.get("properties") or {})
        properties |= {"metadata": {"$ref": f"#/{OBJECT_META}"}}
        properties |= {name: {"type": "string"} for name in _META_NAMES}
        known = (kind.schema, Shape({**kind.schema, "properties": properties}))
        if len(_OWN) >= _OWN_MAX:
            _OWN.clear()
        _OWN[id(kind.schema)] = known  # holds the schema, so that its id stays its own
    return known[1]


def zero(shape: Shape) -> Any:
    """The value that Go writes for an untouched struct of this shape: fields that are never left out, as null or empty.

    Field managers begin from it: what an object has beyond it was put there by somebody.
    """
    name = reference(shape.node)
    fields = shape.fields or {}
    return {
        key: _zero_field(go.go_type, fields[key])
        for key, go in schemas.go_fields(name).items()
        if key in fields and (not go.omitempty or _by_value(go.go_type, fields[key]))
    }


def _by_value(go_type: str, shape: Shape) -> bool:
    """A struct by value, moments among them: omitempty does not leave it out."""
    if go_type.startswith(("*", "[]", "map[")):
        return False
    return shape.fields is not None or go_type.endswith("Time")


def _zero_field(go_type: str, shape: Shape) -> Any:
    if go_type.startswith(("*", "[]", "map[")) or go_type.endswith("Time"):
        return None
    if shape.fields is not None:
        return zero(shape)
    zeros: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}
    return zeros.get(shape.type)

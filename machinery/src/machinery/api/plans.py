"""How each definition is checked, compiled once: a tree of nodes for the careful walk, and a msgspec type for the quick one.

Nearly all bodies are already in the form in which the server would give them back: known fields, right types, no null, no
empty value that Go would leave out. `quick_type` says exactly that as a msgspec type; whoever decodes with it spends 4 µs
on a pod and then keeps the plain dict. Only when it refuses does `conform.py` walk the nodes, to find out whether that was
an error, a warning or merely something to tidy.

Fields that Go always writes (structs by value, fields without `omitempty`) are required in the quick type, so that their
absence takes the careful walk, which fills them in; the few on hot paths (`_FILLED_LATER`) are filled by the defaults.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Final

import msgspec

from machinery.api import schemas
from machinery.api.schemas import GoField

META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
_LEAVES: Final = {
    META + "Time": "time",
    META + "MicroTime": "micro",
    META + "FieldsV1": "any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intstr",
}
_SCHEMA: Final = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_EITHERS: Final = frozenset({_SCHEMA + "OrArray", _SCHEMA + "OrBool", _SCHEMA + "OrStringArray"})
"""Go unions around a schema: the schema, a list of schemas, or something else that is kept as it is."""
_FILLED_LATER: Final = frozenset(
    {"metadata", "spec", "status", "resources", "strategy", "template"}
)
_FILLED_TIMES: Final = frozenset({("PodCondition", "lastProbeTime")})
"""Times that Go writes as null when unset, which the defaults fill in: every kubelet leaves this one out."""
_INT32: Final = 2**31 - 1
_INT64: Final = 2**63 - 1


@dataclass(slots=True)
class Node:
    """How one value is checked. `sort` is struct, map, list, either, string, int32, int64, number, bool, bytes or a leaf."""

    sort: str
    name: str = ""
    """Of a struct: its definition."""
    fields: dict[str, Field] = field(default_factory=dict)
    always: tuple[tuple[str, Field], ...] = ()
    """Of a struct: the fields that are written even when unset."""
    child: Node | None = None
    go: str = ""
    """Of an element of a list or map: its Go type."""

    @property
    def struct_name(self) -> str:
        return self.name.rsplit(".", 1)[1]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct. `absent_when_zero`: Go leaves an empty value out; `always`: Go writes it even when unset."""

    node: Node
    go: str
    absent_when_zero: bool
    always: bool
    zero: Any = None
    python: type | None = None
    """The type whose every value is fine as it is, where there is one."""


@cache
def node_of(name: str) -> Node:
    """The node of a definition; recursive definitions refer to themselves."""
    leaf = _LEAVES.get(name)
    if leaf:
        return Node(leaf)
    if name in _EITHERS:
        return Node("either", child=_named(_SCHEMA))
    schema = schemas.definition(name)
    if "properties" not in schema:
        return _node(schema, "")
    node = _NODES[name] = Node("struct", name)
    go = schemas.go_fields(name)
    properties = schema["properties"]
    for key in (*(key for key in go if key in properties), *(k for k in properties if k not in go)):
        fact = go.get(key) or GoField(key, "string", omitempty=True)
        node.fields[key] = _field(properties[key], fact)
    node.always = tuple((key, part) for key, part in node.fields.items() if part.always)
    return node


_NODES: dict[str, Node] = {}


def _named(name: str) -> Node:
    return _NODES.get(name) or node_of(name)


def _field(schema: Mapping[str, Any], fact: GoField) -> Field:
    node = _node(schema, fact.go_type)
    by_value = not fact.pointer
    if node.sort == "struct":
        return Field(node, fact.go_type.lstrip("*"), False, by_value, {})
    if node.sort in ("time", "micro"):
        always = by_value and fact.name != "creationTimestamp"
        return Field(node, fact.go_type, False, always, None)
    zero = {"string": "", "int32": 0, "int64": 0, "number": 0, "bool": False}.get(node.sort)
    zero = {"quantity": "0", "intstr": 0}.get(node.sort, zero)
    by_struct = node.sort in ("quantity", "intstr")  # structs in Go: `omitempty` has no effect
    always = by_value and (by_struct or not fact.omitempty)
    plain = {"string": str, "bool": bool}.get(node.sort)
    drop = by_value and fact.omitempty and not by_struct
    return Field(node, fact.go_type.lstrip("*"), drop, always, zero, plain)


def _node(schema: Mapping[str, Any], go: str) -> Node:
    if name := schemas.reference_of(schema):
        return _named(name)
    kind = schema.get("type")
    element = go[go.find("]") + 1 :] if "]" in go else "string"
    if kind == "array":
        return Node("list", child=_node(schema.get("items", {}), element), go=element)
    if kind == "object" and "additionalProperties" in schema:
        return Node("map", child=_node(schema["additionalProperties"], element), go=element)
    if kind == "string":
        return Node("bytes" if schema.get("format") == "byte" else "string")
    if kind == "integer":
        return Node("int32" if schema.get("format") == "int32" else "int64")
    return Node({"boolean": "bool", "number": "number"}.get(str(kind), "any"))


def kept_when_false(name: str) -> frozenset[str]:
    """The boolean fields anywhere in a definition whose `false` Go writes: pointers, and those without `omitempty`."""
    kept: set[str] = set()
    dropped: set[str] = set()
    seen: set[int] = set()
    waiting = [_named(name)]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.child is not None:
            waiting.append(node.child)
        for key, part in node.fields.items():
            waiting.append(part.node)
            if part.node.sort == "bool":
                (dropped if part.absent_when_zero else kept).add(key)
    return frozenset(kept - dropped)


# ------------------------------------------------------------------------------------------------- the quick type
SECOND: Final = (
    r"^(?!0000)\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    r"|02-(?:0[1-9]|1\d|2[0-8]))T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d"
)
"""A moment that exists (29 February is left to the careful walk): what is stored must be readable as a time."""
_CAREFULLY: Final = Annotated[str, msgspec.Meta(pattern="(?!)")]
"""Refuses everything, so that the careful walk looks at it."""
_LEAF_TYPES: Final[dict[str, Any]] = {
    "any": Any,
    "either": _CAREFULLY,
    "time": Annotated[str, msgspec.Meta(pattern=SECOND + "Z$")],
    "micro": Annotated[str, msgspec.Meta(pattern=SECOND + r"\.\d{6}Z$")],
    "quantity": Annotated[
        str, msgspec.Meta(pattern=r"^(0|[1-9]\d{0,2}([munkMGTPE]|[KMGTPE]i)?)$", max_length=5)
    ],
    "intstr": int | str,
    "string": str,
    "bytes": bytes,
    "bool": bool,
    "number": float,
    "int32": Annotated[int, msgspec.Meta(ge=-_INT32 - 1, le=_INT32)],
    "int64": Annotated[int, msgspec.Meta(ge=-_INT64 - 1, le=_INT64)],
}
_NON_ZERO: Final[dict[str, Any]] = {
    "string": Annotated[str, msgspec.Meta(min_length=1)],
    "int32": Annotated[int, msgspec.Meta(ge=1, le=_INT32)],
    "int64": Annotated[int, msgspec.Meta(ge=1, le=_INT64)],
}
_STRUCTS: dict[str, Any] = {}


def quick_type(name: str) -> Any:
    """The msgspec type that accepts exactly the bodies of a definition that need no tidying (but for `false`)."""
    return _type(_named(name), non_zero=False)


def _type(node: Node, *, non_zero: bool) -> Any:
    if node.sort == "struct":
        return _struct(node)
    if node.sort in ("list", "map"):
        assert node.child is not None
        inner: Any = _type(node.child, non_zero=False)
        outer = types.GenericAlias(list, inner) if node.sort == "list" else _map_of(inner)
        return Annotated[outer, msgspec.Meta(min_length=1)] if non_zero else outer
    return _NON_ZERO.get(node.sort, _LEAF_TYPES[node.sort]) if non_zero else _LEAF_TYPES[node.sort]


def _map_of(values: Any) -> Any:
    return types.GenericAlias(dict, (str, values))


def _struct(node: Node) -> Any:
    if node.name in _STRUCTS:
        return _STRUCTS[node.name]
    _STRUCTS[node.name] = _CAREFULLY  # a definition inside itself
    required: list[Any] = []
    optional: list[Any] = []
    renamed: dict[str, str] = {}
    for index, (key, part) in enumerate(node.fields.items()):
        attribute = f"f{index}"
        renamed[attribute] = key
        kind = _type(part.node, non_zero=part.absent_when_zero)
        if part.always and part.node.sort in ("time", "micro"):
            kind = kind | None
        filled_later = key in _FILLED_LATER or (node.struct_name, key) in _FILLED_TIMES
        if part.always and not filled_later:
            required.append((attribute, kind))
        else:
            optional.append((attribute, kind, msgspec.UNSET))
    made = msgspec.defstruct(
        node.struct_name,
        required + optional,
        rename=renamed,
        forbid_unknown_fields=True,
        gc=False,
    )
    _STRUCTS[node.name] = made
    return made

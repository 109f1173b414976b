"""Which schemas a set of operations reaches, and the schemas that are made here: lists and own kinds."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from machinery.api import schemas
from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document

PREFIX = "#/components/schemas/"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
LIST_SUFFIX = "List"
_STRING = {"type": "string"}


def reference(name: str) -> Document:
    return {"$ref": PREFIX + name}


def component_schemas(paths: Mapping[str, Any], kinds: Iterable[ServedKind]) -> Document:
    """Name -> schema, for all that the paths refer to, however indirectly."""
    made = _made_here(kinds)
    found: Document = {}
    waiting = list(references(paths))
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        schema = made.get(name) or schemas.definitions().get(name)
        if schema is None:
            continue  # a value of a custom kind's schema that looks like a reference
        found[name] = schema
        waiting.extend(references(schema))
    return dict(sorted(found.items()))


def references(node: Any) -> Iterator[str]:
    """The names that a part of a document refers to."""
    if isinstance(node, Mapping):
        target = node.get("$ref")
        if isinstance(target, str):
            yield target.removeprefix(PREFIX)
        for value in node.values():
            yield from references(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from references(value)


def _made_here(kinds: Iterable[ServedKind]) -> Document:
    found: Document = {}
    for kind in kinds:
        if kind.schema is not None:
            found[kind.schema_name] = _own(kind, kind.schema)
        if kind.schema is not None or kind.schema_name + LIST_SUFFIX not in schemas.definitions():
            found[kind.schema_name + LIST_SUFFIX] = _list_of(kind)
    return found


def _own(kind: ServedKind, schema: Mapping[str, Any]) -> Document:
    properties = dict(schema.get("properties") or {})
    properties |= {
        "apiVersion": _STRING,
        "kind": _STRING,
        "metadata": {"allOf": [reference(META + "ObjectMeta")], "default": {}},
    }
    return {**schema, "properties": properties, **_gvk(kind, kind.kind)}


def _list_of(kind: ServedKind) -> Document:
    return {
        "description": f"{kind.list_kind} is a list of {kind.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": _STRING,
            "kind": _STRING,
            "metadata": {"allOf": [reference(META + "ListMeta")], "default": {}},
            "items": {"type": "array", "items": reference(kind.schema_name)},
        },
        **_gvk(kind, kind.list_kind),
    }


def _gvk(kind: ServedKind, name: str) -> Document:
    gvk = {"group": kind.group, "version": kind.version, "kind": name}
    return {"x-kubernetes-group-version-kind": [gvk]}

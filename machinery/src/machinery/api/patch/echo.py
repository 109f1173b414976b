"""The patched object as a refusal quotes it.

Upstream patches JSON text: what the patch did not touch stays in the order in which Go writes a struct, the levels that it
did touch were maps in between and come out sorted. Here a patch shares what it did not touch with the live object, so the
two are told apart by identity. A value that a JSON patch copied elsewhere keeps our order of members. Own kinds have no structs; their members stay as they are.
"""

from typing import Any

import orjson

from machinery.api.plans import Node, node_of
from machinery.meta.resource import Document

_ANY = Node("any")


def text(schema_name: str, document: Document, live: Document) -> str:
    """Compact JSON of a JSON or merge patch's result."""
    return orjson.dumps(_ordered(document, live, node_of(schema_name))).decode()


def _ordered(value: Any, live: Any, node: Node) -> Any:
    touched = value is not live
    if isinstance(value, list):
        return _items(value, live if isinstance(live, list) else [], node.child or _ANY)
    if not isinstance(value, dict) or node.sort not in ("struct", "map"):
        return value
    before = live if isinstance(live, dict) else {}
    keys = sorted(value) if touched or node.sort == "map" else _as_go(value, node)
    return {
        key: _sorted(value[key])
        if key == "fieldsV1"
        else _ordered(value[key], before.get(key), _child(node, key))
        for key in keys
    }


def _sorted(value: Any) -> Any:
    """A set of fields, which is sorted on every level: itself, fields, items by the values of their keys."""
    if not isinstance(value, dict):
        return value
    return {element: _sorted(value[element]) for element in sorted(value, key=_rank)}


def _rank(element: str) -> tuple[int, list[tuple[str, int, Any]]]:
    sort, rest = element[:2], element[2:]
    if sort in ("k:", "v:"):
        try:
            value = orjson.loads(rest)
        except orjson.JSONDecodeError:  # a client's own invention
            return 4, [("", 1, rest)]
        if sort == "v:":
            return 3, [("", *_scalar(value))]
        if isinstance(value, dict):
            return 2, [(key, *_scalar(one)) for key, one in sorted(value.items())]
    return (0 if element == "." else 1), [("", 1, rest)]


def _scalar(value: Any) -> tuple[int, Any]:
    """Numbers before texts before truths; whatever else by its text."""
    if isinstance(value, bool):
        return 2, value
    if isinstance(value, int | float):
        return 0, value
    return (1, value) if isinstance(value, str) else (3, orjson.dumps(value))


def _items(value: list[Any], live: list[Any], child: Node) -> list[Any]:
    return [_ordered(one, live[i] if i < len(live) else None, child) for i, one in enumerate(value)]


def _as_go(value: Document, node: Node) -> list[str]:
    return [key for key in node.fields if key in value] + [k for k in value if k not in node.fields]


def _child(node: Node, key: str) -> Node:
    if node.sort == "map":
        return node.child or _ANY
    part = node.fields.get(key)
    return _ANY if part is None else part.node

"""Strategies: JSON of every form, hostile texts, recorded bodies, and recorded bodies with something wrong in them."""

import copy
import functools
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from machinery.api import schemas
from machinery.meta.resource import Document

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDED = GOLDEN / "api-protobuf"
WORDS = (
    "", " ", "a", "-1", "0", "1", "1.5", "1e400", "Infinity", "NaN", "null", "true", "..", "../..", "/", "//", "%2f", "%00", "\x00",
    "\r\nX-Injected: yes", "\u202e", "\U0001f600", "١٢", "²", "0x10", "1_000", "+1", "1" * 30, "9" * 5000, "a" * 70, "a" * 300,
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "$patch", "$retainKeys", "$setElementOrder/x", "f:spec",
    "k:{", "v:", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-13-45T99:99:99Z", "1Gi",
    "1e-400", "-0", "100%", "-5%", "10.0.0.1", "::1", "fe80::1%lo", "10.0.0.0/33", "*", "*.example.com", "a=b,c in (d)", "!x",
    "metadata.name", "kube-system", "default", "system:masters", "cluster-admin",
)  # fmt: skip
FIELDS = (
    "metadata", "name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers", "managedFields",
    "resourceVersion", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "spec", "status",
    "data", "stringData", "containers", "image", "ports", "selector", "template", "replicas", "rules", "roleRef", "subjects", "type",
    "conditions", "key", "value", "operator", "$patch", "$retainKeys", "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers", "apiVersion", "kind", "fieldsV1", "f:spec", 'k:{"name":"a"}',
)  # fmt: skip

words = st.sampled_from(WORDS)
keys = st.sampled_from(FIELDS) | st.text(max_size=8)
scalars = (
    st.none() | st.booleans() | words | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12)
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)
"""JSON."""


@functools.cache
def recorded() -> tuple[tuple[str, str, Any], ...]:
    """(method, path, body) of every write that was recorded of a real server."""
    found = []
    for file in sorted((GOLDEN / "api").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            request = json.loads(line).get("request") or {}
            if request.get("body") is not None and request["method"] != "GET":
                found.append(
                    (request["method"], request["path"].partition("?")[0], request["body"])
                )
    return tuple(found)


@functools.cache
def objects() -> tuple[Document, ...]:
    """The objects among them."""
    return tuple(
        body
        for method, _, body in recorded()
        if method == "POST" and isinstance(body, dict) and isinstance(body.get("kind"), str)
    )


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a value."""
    found = [at] if at else []
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in inner:
        found += places(one, (*at, key))
    return found


@st.composite
def damaged(draw: st.DrawFn, sound: st.SearchStrategy[Any]) -> Any:
    """A sound value with up to three of its parts replaced, doubled, moved or gone."""
    value = copy.deepcopy(draw(sound))
    for _ in range(draw(st.integers(1, 3))):
        paths = places(value)
        if not paths:
            return draw(values)
        path = draw(st.sampled_from(paths))
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        match draw(st.integers(0, 4)):
            case 0:
                del holder[path[-1]]
            case 1 if isinstance(holder, dict):
                holder[draw(keys)] = holder[path[-1]]
            case 2 if isinstance(holder, list):
                holder.append(holder[path[-1]])
            case 3:
                holder[path[-1]] = draw(scalars)
            case _:
                holder[path[-1]] = draw(values)
    return value


@st.composite
def mangled(draw: st.DrawFn, sound: st.SearchStrategy[bytes]) -> bytes:
    """Sound bytes with some changed, cut out, repeated or put in."""
    raw = bytearray(draw(sound))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        end = min(len(raw), at + draw(st.integers(0, 8)))
        match draw(st.integers(0, 3)):
            case 0:
                raw[at:end] = draw(st.binary(max_size=8))
            case 1:
                del raw[at:end]
            case 2:
                raw[at:at] = raw[at:end] * draw(st.integers(1, 40))
            case _:
                raw[at:at] = draw(
                    st.sampled_from([b"\x00", b"\xff", b"\xed\xa0\x80", b"[" * 300, b'{"a":' * 300, b"9" * 5000, b"&a *a", b"\r\n"])
                )  # fmt: skip
    return bytes(raw)


PLAIN = (
    "a",
    "b",
    "stock",
    "default",
    "10.0.0.1",
    "1Gi",
    "5",
    "50%",
    "v1",
    "Pod",
    "apps/v1",
    "app=web",
    "*",
    "2026-01-01T00:00:00Z",
    "1h",
    "a.b/c",
)


@st.composite
def shaped(draw: st.DrawFn, node: Any, depth: int = 7) -> Any:
    """A value as an OpenAPI schema describes it, with something else in its place now and then."""
    node = schemas.resolve(node)
    if depth == 0 or draw(st.integers(0, 24)) == 0:
        return draw(values)
    if choices := node.get("enum"):
        return draw(st.sampled_from(list(choices)))
    kind = node.get("type")
    if properties := node.get("properties"):
        chosen = draw(st.sets(st.sampled_from(sorted(properties)), max_size=4))
        chosen |= set(node.get("required") or ()) & set(properties)
        return {key: draw(shaped(properties[key], depth - 1)) for key in sorted(chosen)}
    if kind == "object":
        inner = node.get("additionalProperties")
        return {
            key: draw(shaped(inner if isinstance(inner, dict) else {}, depth - 1))
            for key in draw(st.lists(st.sampled_from(PLAIN), max_size=2))
        }
    if kind == "array":
        return [
            draw(shaped(node.get("items") or {}, depth - 1)) for _ in range(draw(st.integers(0, 2)))
        ]
    if kind in ("integer", "number"):
        return draw(st.sampled_from([0, 1, 5, 80, -1, 2**31 - 1, 2**31, 2**63 - 1, 1.5]))
    if kind == "boolean":
        return draw(st.booleans())
    return draw(st.sampled_from(PLAIN) | words | st.integers(0, 9))

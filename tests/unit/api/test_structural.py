"""`structural.plain` against the walkers that it stands in for: it may say no too often, never yes too often."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machinery.api import decode, schemas
from machinery.api.fleet.kinds import FLEET
from machinery.api.validation import structural
from machinery.api.validation.causes import Causes
from machinery.api.validation.schema_values import Sink, check, check_list_types

SPEC = schemas.schema_of(next(k for k in FLEET if k.kind == "ResourceBinding"))["properties"][
    "spec"
]
BINDING: dict[str, Any] = {
    "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "a", "name": "b"},
    "replicas": 5,
    "replicaRequirements": {"resourceRequest": {"cpu": "250m", "memory": 1024}},
    "clusters": [{"name": "alpha", "replicas": 2}, {"name": "beta", "replicas": 3}],
    "placement": {
        "clusterTolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 30}],
        "replicaScheduling": {"replicaSchedulingType": "Divided"},
        "spreadConstraints": [{"spreadByField": "zone", "minGroups": 2}],
    },
    "rescheduleTriggeredAt": "2026-01-01T00:00:00Z",
}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["Divided", "2026-01-01T00:00:00Z", "1Gi", "Exists", 2**31 - 1, 2**31, -(2**31) - 1]),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(["name", "key", "x"]), part, max_size=3),
    max_leaves=5,
)  # fmt: skip

PARTS: list[dict[str, Any]] = [
    {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "enum": ["Divided", "Exists"]},
    {"type": "integer", "minimum": 0, "maximum": 100},
    {"type": "number", "maximum": 1},
    {"type": "boolean"},
    {"type": "object", "nullable": True, "properties": {"name": {"type": "string"}}, "required": ["name"]},
    {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": True}, "maxProperties": 1},
    {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}},
    {"type": "array", "x-kubernetes-list-type": "set", "items": {"x-kubernetes-int-or-string": True}},
    {
        "type": "array",
        "items": {"type": "object", "properties": {"name": {"type": "string"}, "key": {"type": "string"}}},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    },
    {"type": "integer", "format": "int32"},
    {"type": "object", "properties": {"name": {"type": "integer", "format": "int32"}, "key": {"type": "boolean"}}},
    {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
    {},
]  # fmt: skip


def complaints(schema: dict[str, Any], value: Any) -> tuple[list[Any], list[str]]:
    """Of the walkers."""
    causes, unknown = Causes(), []
    kept = decode.prune(schema, value, "part", unknown)
    check(schema, value, "part", Sink(causes))
    check_list_types(schema, value, "part", Sink(causes))
    assert unknown or kept == value
    return list(causes), unknown


@pytest.mark.parametrize("schema", PARTS, ids=str)
@given(value=ANY)
@settings(max_examples=150)
def test_what_is_plain_no_walker_complains_of(schema: dict[str, Any], value: Any) -> None:
    if structural.plain(schema, value):
        assert complaints(schema, value) == ([], [])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every part of a value but itself."""
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found = []
    for key, one in parts:
        found += [(*path, key), *places(one, (*path, key))]
    return found  # fmt: skip


@given(place=st.sampled_from(places(BINDING)), put=ANY)
@settings(max_examples=400)
def test_a_binding_with_anything_anywhere(place: tuple[Any, ...], put: Any) -> None:
    changed = copy.deepcopy(BINDING)
    inner: Any = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = put
    if structural.plain(SPEC, changed):
        assert complaints(SPEC, changed) == ([], [])


PLAIN = [
    (PARTS[0], "abc"), (PARTS[1], "2026-01-01T00:00:00Z"), (PARTS[2], "Exists"), (PARTS[3], 100),
    (PARTS[4], 0.5), (PARTS[5], True), (PARTS[6], None), (PARTS[6], {"name": "a"}),
    (PARTS[7], {"cpu": "1"}), (PARTS[7], {"cpu": 1}), (PARTS[8], {"x": {"y": [1, "z", None]}}),
    (PARTS[9], ["a", "b"]), (PARTS[10], ["a", 1]), (PARTS[11], [{"name": "a"}, {"name": "b"}]),
    (SPEC, BINDING),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value"), PLAIN, ids=str)
def test_what_is_right_is_plain(schema: dict[str, Any], value: Any) -> None:
    assert structural.plain(schema, value)
    assert complaints(schema, value) == ([], [])


NOT_PLAIN = [
    (PARTS[0], "a"), (PARTS[0], "abcde"), (PARTS[0], "Abc"), (PARTS[1], "soon"), (PARTS[2], "No"),
    (PARTS[3], -1), (PARTS[3], 101), (PARTS[3], "1"), (PARTS[3], True), (PARTS[4], 2),
    (PARTS[5], None), (PARTS[6], {}), (PARTS[6], {"name": "a", "x": 1}), (PARTS[7], {"a": 1, "b": 2}),
    (PARTS[7], {"a": []}), (PARTS[9], []), (PARTS[9], ["a", "b", "c"]), (PARTS[10], ["a", "a"]),
    (PARTS[11], [{"name": "a"}, {"name": "a", "key": "b"}]), (PARTS[12], 2**31), (PARTS[13], {"kind": "a"}),
    (PARTS[13], {"kind": "a", "apiVersion": ""}), ({"type": "string", "pattern": "^[a-z]+$"}, "abc\n"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value"), NOT_PLAIN, ids=str)
def test_what_is_wrong_is_not(schema: dict[str, Any], value: Any) -> None:
    assert not structural.plain(schema, value)
    assert complaints(schema, value) != ([], [])


def test_a_schema_that_contains_itself() -> None:
    tree: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}}
    tree["properties"]["children"] = {"type": "array", "items": tree}
    assert structural.plain(tree, {"name": "a", "children": [{"name": "b", "children": []}]})
    assert not structural.plain(tree, {"children": [{"children": [{"name": 1}]}]})


def test_a_keyword_that_it_does_not_know_leaves_all_to_the_walkers() -> None:
    assert not structural.plain({"type": "string", "not": {"enum": ["a"]}}, "b")


def unknown_keywords(schema: Any, seen: set[int]) -> set[str]:
    """In a schema and below."""
    if not isinstance(schema, dict) or id(schema) in seen:
        return set()
    seen.add(id(schema))
    schema = schemas.resolve(schema)
    parts = [
        *(schema.get("properties") or {}).values(),
        schema.get("items"),
        schema.get("additionalProperties"),
    ]
    return set(schema) - structural._KEYWORDS | {
        k for part in parts for k in unknown_keywords(part, seen)
    }


@pytest.mark.parametrize("kind", FLEET, ids=lambda k: k.kind)
def test_it_knows_all_that_our_kinds_say(kind: Any) -> None:
    for key, part in schemas.schema_of(kind).get("properties", {}).items():
        assert key == "metadata" or unknown_keywords(part, set()) == set()

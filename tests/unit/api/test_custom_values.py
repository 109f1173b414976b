"""Objects of custom kinds: pruned, filled, held against their schema and its rules."""

from typing import Any

import pytest
from tests.support.widgets import definition, version

from machinery.api import validation
from machinery.api.customresources import conversion
from machinery.api.customresources.kinds import kinds_of
from machinery.api.customresources.naming import status_of
from machinery.api.customresources.pruning import fill, prune
from machinery.api.patterns import go_pattern
from machinery.api.validation import rules
from machinery.api.validation.causes import Causes
from machinery.api.validation.schema_values import Sink, check

TEXT = {"type": "string"}


def kind_with(spec: Any, *more: Any) -> Any:
    """The kind whose spec has this schema."""
    schema = {"type": "object", "properties": {"spec": spec}}
    document = definition("widgets", "Widget", version("v1", schema), *more)
    document["status"] = status_of(document, (set(), set()), "2026-01-01T00:00:00Z")
    return kinds_of(document)[0]


def widget(spec: Any) -> Any:
    metadata = {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": "1"}
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": spec}


def told(schema: Any, value: Any) -> list[tuple[str, str]]:
    causes = Causes()
    check(schema, value, "a", Sink(causes))
    return [(cause["field"], cause["message"]) for cause in causes]


# -------------------------------------------------------------------------------------------------- pruning and filling
def test_pruning() -> None:
    schema = {
        "type": "object",
        "properties": {
            "known": TEXT,
            "closed": {"type": "object"},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": TEXT}}},
            "any": {"type": "object", "additionalProperties": True},
            "open": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"inner": {"type": "object", "properties": {"y": TEXT}}},
            },
            "whole": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": TEXT}},
        },
    }  # fmt: skip
    value = {
        "known": "k", "no": 1, "closed": {"a": 1}, "map": {"k": {"x": "1", "z": 2}}, "any": {"q": 1},
        "open": {"free": 1, "inner": {"y": "1", "z": 2}},
        "whole": {"apiVersion": "v1", "kind": "A", "metadata": {"name": "n"}, "spec": "s", "odd": 1},
    }  # fmt: skip
    unknown: list[str] = []
    found = prune(schema, value, unknown)
    assert found == {
        "known": "k", "closed": {}, "map": {"k": {"x": "1"}}, "any": {"q": 1},
        "open": {"free": 1, "inner": {"y": "1"}},
        "whole": {"apiVersion": "v1", "kind": "A", "metadata": {"name": "n"}, "spec": "s"},
    }  # fmt: skip
    assert sorted(unknown) == ["closed.a", "map.k.z", "no", "open.inner.z", "whole.odd"]
    assert prune(schema, found, []) is found


def test_filling() -> None:
    inner = {
        "type": "object",
        "default": {},
        "properties": {"x": {"type": "integer", "default": 3}},
    }
    schema = {
        "type": "object",
        "properties": {
            "a": {**TEXT, "default": "d"}, "inner": inner, "bare": TEXT, "nul": {**TEXT, "nullable": True},
            "list": {"type": "array", "items": inner},
        },
    }  # fmt: skip
    value = {"a": None, "bare": None, "nul": None, "list": [{}, None]}
    full = fill(schema, value)
    assert full == {"a": "d", "nul": None, "list": [{"x": 3}, {"x": 3}], "inner": {"x": 3}}
    assert fill(schema, full) is full
    assert inner["default"] == {}


def test_conversion_prunes_by_the_version_that_shows() -> None:
    old = version(
        "v0",
        {"type": "object", "properties": {"spec": {"type": "object", "properties": {"b": TEXT}}}},
    )
    kind = kind_with(
        {"type": "object", "properties": {"a": {**TEXT, "default": "x"}}}, {**old, "storage": False}
    )
    stored = {**widget({"b": "1", "c": "2"}), "apiVersion": "example.com/v0"}
    assert conversion.outward(kind, stored)["spec"] == {}
    assert conversion.outward(kind, widget({"b": "1"}))["spec"] == {"a": "x"}


# --------------------------------------------------------------------------------------------------------------- values
@pytest.mark.parametrize(
    ("schema", "value", "text"),
    [
        ({"type": "integer"}, 5.5, 'must be of type integer: "number"'),
        ({"type": "integer", "format": "int32"}, 2**31, "with format int32 in a"),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, 1, "should be greater than 1"),
        ({"type": "number", "multipleOf": 0.5}, 0.7, "should be a multiple of 0.5"),
        ({**TEXT, "minLength": 2}, "x", "should be at least 2 chars long"),
        ({**TEXT, "maxLength": 2}, "xyz", "Too long: may not be more than 2 bytes"),
        ({**TEXT, "pattern": "^a$"}, "a\n", "should match '^a$'"),
        ({**TEXT, "format": "ipv4"}, "1.2.3", "must be of type ipv4"),
        ({**TEXT, "format": "date-time"}, "today", "must be of type date-time"),
        ({"enum": ["x", 1]}, 2, 'Unsupported value: 2: supported values: "x", "1"'),
        ({"type": "array", "minItems": 1}, [], "should have at least 1 items"),
        ({"type": "array", "uniqueItems": True}, [1, 1], "shouldn't contain duplicates"),
        ({"type": "object", "maxProperties": 1}, {"a": 1, "b": 2}, "must have at most 1 item"),
        ({"type": "object", "minProperties": 1}, {}, "should have at least 1 properties"),
        ({"type": "object", "required": ["k"]}, {}, "Required value"),
        ({"anyOf": [{"minimum": 5}, {"maximum": 1}]}, 3, "must validate at least one schema (anyOf)"),
        ({"oneOf": [{"minimum": 1}, {"minimum": 2}]}, 3, "Found 2 valid alternatives"),
        ({"oneOf": [{"minimum": 5}, {"minimum": 6}]}, 3, "Found none valid"),
        ({"allOf": [{"minimum": 5}, {"minimum": 1}]}, 3, "must validate all the schemas (allOf)"),
        ({"not": {"enum": ["x"]}}, "x", "must not validate the schema (not)"),
        ({"x-kubernetes-int-or-string": True}, True, 'must be of type integer,string: "boolean"'),
    ],
)  # fmt: skip
def test_what_does_not_fit(schema: Any, value: Any, text: str) -> None:
    found = told(schema, value)
    assert any(text in message for _, message in found), found


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 5.0),
        ({"type": "number"}, 5),
        ({**TEXT, "nullable": True}, None),
        ({**TEXT, "pattern": "^[[:upper:]]+$"}, "AB"),
        ({**TEXT, "format": "unheard-of"}, "x"),
        ({**TEXT, "format": "duration"}, "1h30m"),
        ({"x-kubernetes-int-or-string": True}, "50%"),
        ({"oneOf": [{"minimum": 5}, {"maximum": 4}]}, 3),
    ],
)
def test_what_fits(schema: Any, value: Any) -> None:
    assert told(schema, value) == []


def test_go_patterns() -> None:
    assert go_pattern(r"^a$|[$]|\$\z") == r"^a\Z|[$]|\$\Z"
    assert go_pattern("[^[:digit:]]") == "[^0-9]"


def test_what_did_not_change_is_not_judged_again() -> None:
    items = {
        "type": "object",
        "properties": {"k": TEXT, "v": {"type": "integer", "maximum": 3}},
        "required": ["k"],
    }
    keyed = {
        "type": "array",
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
    }
    kind = kind_with({"type": "object", "properties": {"l": keyed, "t": {**TEXT, "maxLength": 1}}})
    old = widget({"l": [{"k": "a", "v": 9}], "t": "long"})
    new = widget({"l": [{"k": "b", "v": 1}, {"k": "a", "v": 9}], "t": "long"})
    assert validation.validate_update(kind, new, old) == []
    worse = widget({"l": [{"k": "a", "v": 10}], "t": "longer"})
    fields = [cause["field"] for cause in validation.validate_update(kind, worse, old)]
    assert fields == ["spec.l[0].v", "spec.t"]


def test_lists_by_their_type() -> None:
    keyed = {
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "p"],
        "items": {"type": "object", "properties": {"k": TEXT, "p": {**TEXT, "default": "TCP"}}},
    }  # fmt: skip
    kind = kind_with({"type": "object", "properties": {"l": keyed}})
    same = [{"k": "a"}, {"k": "a", "p": "TCP"}, {"k": "a", "p": "UDP"}]
    (cause,) = validation.validate_create(kind, widget({"l": same}))
    assert (cause["field"], cause["reason"]) == ("spec.l[1]", "FieldValueDuplicate")


# ---------------------------------------------------------------------------------------------------------------- rules
def ruled(spec: Any, new: Any, old: Any = None) -> list[tuple[str, str]]:
    kind = kind_with({"type": "object", **spec})
    if old is None:
        found = validation.validate_create(kind, widget(new))
    else:
        found = validation.validate_update(kind, widget(new), widget(old))
    return [(cause["field"], cause["message"]) for cause in found]


RULES = "x-kubernetes-validations"


@pytest.mark.skipif(not rules.available(), reason="cel-expr-python is not installed")
class TestRules:
    def test_messages_reasons_and_fields(self) -> None:
        properties = {"a": {"type": "integer"}, "b": {"type": "integer"}, "name": TEXT}
        spec = {
            "properties": properties,
            RULES: [
                {"rule": "self.a <= self.b", "message": "a over b", "fieldPath": ".a"},
                {"rule": "self.name != 'x'", "messageExpression": "'bad ' + self.name", "reason": "FieldValueForbidden"},
                {"rule": "self.b < 5"},
            ],
        }  # fmt: skip
        assert ruled(spec, {"a": 1, "b": 2, "name": "y"}) == []
        assert ruled(spec, {"a": 9, "b": 8, "name": "x"}) == [
            ("spec.a", "Invalid value: a over b"),
            ("spec", "Forbidden: bad x"),
            ("spec", "Invalid value: failed rule: self.b < 5"),
        ]
        ((field, text),) = ruled(spec, {"a": 1, "b": 2})
        assert field == "spec"
        assert "no such key: name evaluating rule" in text

    def test_transitions_ask_only_where_there_was_something(self) -> None:
        spec = {
            "properties": {"f": {**TEXT, RULES: [{"rule": "self == oldSelf", "message": "fixed"}]}}
        }
        assert ruled(spec, {"f": "a"}) == []
        assert ruled(spec, {"f": "a"}, {}) == []
        assert ruled(spec, {"f": "a"}, {"f": "a"}) == []
        assert ruled(spec, {"f": "b"}, {"f": "a"}) == [("spec.f", 'Invalid value: "b": fixed')]

    def test_an_optional_old_value(self) -> None:
        rule = {
            "rule": "oldSelf.hasValue() || self == 'first'",
            "optionalOldSelf": True,
            "message": "m",
        }
        spec = {"properties": {"f": {**TEXT, RULES: [rule]}}}
        assert ruled(spec, {"f": "first"}) == []
        assert ruled(spec, {"f": "x"}) == [("spec.f", 'Invalid value: "x": m')]
        assert ruled(spec, {"f": "x"}, {"f": "first"}) == []

    def test_functions_and_names_of_kubernetes(self) -> None:
        properties = {
            "namespace": TEXT,
            "a-b": {"type": "integer"},
            "l": {"type": "array", "items": {"type": "integer"}},
            "q": TEXT,
            "missing": {"type": "integer"},
        }
        spec = {
            "properties": properties,
            RULES: [
                {"rule": "self.__namespace__ == 'n' && self.a__dash__b == 1"},
                {"rule": "self.l.isSorted() && self.l.sum() == 6 && self.l.max() == 3"},
                {"rule": "quantity(self.q).isLessThan(quantity('1Gi')) && isQuantity(self.q)"},
                {"rule": "self.l.all(x, x > 0) && self.?missing.orValue(0) == 0"},
            ],
        }  # fmt: skip
        assert ruled(spec, {"namespace": "n", "a-b": 1, "l": [1, 2, 3], "q": "512Mi"}) == []

    def test_times_durations_and_bytes_are_such_wherever_they_stand(self) -> None:
        item = {
            "type": "object",
            "properties": {
                "at": {**TEXT, "format": "date-time"},
                "on": {**TEXT, "format": "date"},
                "for": {**TEXT, "format": "duration"},
                "raw": {**TEXT, "format": "byte"},
            },
        }
        spec = {
            "properties": {"list": {"type": "array", "items": item}, "lists": {"type": "array", "items": {"type": "array", "items": TEXT}}},
            RULES: [
                {"rule": "self.list.all(i, i.at - i.on < duration('24h'))", "message": "late"},
                {"rule": "self.list.all(i, i.__for__.getMinutes() == 90)", "message": "short"},
                {"rule": "self.list.all(i, i.raw == b'raw')", "message": "raw"},
                {"rule": "self.lists.all(l, l.all(t, t.startsWith('a')))", "message": "lists"},
            ],
        }  # fmt: skip
        one = {"at": "2026-01-01T10:00:00Z", "on": "2026-01-01", "for": "1h30m", "raw": "cmF3"}
        assert ruled(spec, {"list": [one], "lists": [["a"]]}) == []
        other = {**one, "at": "2026-01-02T00:00:00Z", "for": "5m", "raw": ""}
        told = ruled(spec, {"list": [one, other], "lists": [["a", "b"]]})
        assert [text for _, text in told] == [f"Invalid value: {word}" for word in ("late", "short", "raw", "lists")]  # fmt: skip

    def test_items_of_keyed_lists_remember_themselves(self) -> None:
        items = {
            "type": "object",
            "properties": {"k": TEXT, "v": {"type": "integer"}},
            "required": ["k"],
            RULES: [{"rule": "self.v >= oldSelf.v", "message": "down"}],
        }
        keyed = {
            "type": "array",
            "items": items,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
        }
        spec = {"properties": {"l": keyed}}
        old = {"l": [{"k": "a", "v": 1}, {"k": "b", "v": 5}]}
        assert ruled(spec, {"l": [{"k": "b", "v": 5}, {"k": "c", "v": 0}]}, old) == []
        assert ruled(spec, {"l": [{"k": "b", "v": 4}]}, old) == [
            ("spec.l[0]", "Invalid value: down")
        ]

    def test_rules_wait_for_a_sound_object(self) -> None:
        spec = {
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
            RULES: [{"rule": "self.a > 1"}],
        }
        found = ruled(spec, {})
        assert [field for field, _ in found] == ["spec.a", "<nil>"]
        assert "some validation rules were not checked" in found[1][1]

    def test_times_and_numbers_are_what_the_schema_says(self) -> None:
        properties = {
            "t": {**TEXT, "format": "date-time"},
            "d": {**TEXT, "format": "duration"},
            "n": {"type": "number"},
        }
        spec = {
            "properties": properties,
            RULES: [{"rule": "self.t > timestamp('2020-01-01T00:00:00Z') && self.d < duration('2h') && self.n < 1.5"}],
        }  # fmt: skip
        assert ruled(spec, {"t": "2026-01-01T00:00:00Z", "d": "90m", "n": 1}) == []

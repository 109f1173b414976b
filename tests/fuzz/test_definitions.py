"""Definitions of custom kinds that somebody wrote to do harm, and objects of them: patterns, rules, schemas without end."""

from typing import Any

import orjson
import pytest
from hypothesis import strategies as st
from tests.fuzz.inputs import damaged, keys, scalars, values, words
from tests.fuzz.rounds import fuzzed, light, quick
from tests.support.widgets import definition, version

from machinery.api import decode, defaults, patterns, strategy, validation
from machinery.api.customresources.kinds import kinds_of
from machinery.api.customresources.naming import status_of
from machinery.api.kinds import CUSTOM_RESOURCE_DEFINITION
from machinery.api.validation import rules
from machinery.api.validation.causes import CAUSES_MAX, Causes
from machinery.api.validation.schema_values import Sink, check
from machinery.meta.errors import StatusError

TEXT, LIST, ANY = (
    {"type": "string"},
    {"type": "array", "items": {"type": "integer"}},
    {"x-kubernetes-preserve-unknown-fields": True},
)
SPEC = {"type": "object", "properties": {"text": TEXT, "list": LIST, "any": ANY, "when": {**TEXT, "format": "date-time"}, "lasts": {**TEXT, "format": "duration"}}}  # fmt: skip


def judged(document: Any) -> list[Any]:
    """The complaints about a definition, as the server finds them; empty when it may be stored."""
    try:
        decoded = decode.decode_body(
            CUSTOM_RESOURCE_DEFINITION, orjson.dumps(document), "application/json", "Ignore"
        )
    except StatusError as error:
        return [error.to_status()]
    prepared = strategy.prepare_create(
        CUSTOM_RESOURCE_DEFINITION,
        defaults.apply_defaults(CUSTOM_RESOURCE_DEFINITION, decoded.document),
    )
    metadata = {
        **(prepared.get("metadata") or {}),
        "uid": "u",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return list(
        validation.validate_create(CUSTOM_RESOURCE_DEFINITION, {**prepared, "metadata": metadata})
    )


def complaints(document: Any, spec: Any, *, old: Any = None) -> list[Any]:
    """The complaints about an object of a definition that may be stored."""
    defined = {**document, "status": status_of(document, (set(), set()), "2026-01-01T00:00:00Z")}
    kind = kinds_of(defined)[0]

    def body(of: Any) -> Any:
        metadata = {
            "name": "a",
            "namespace": "default",
            "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
        }
        raw = orjson.dumps(
            {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": of}
        )
        return decode.decode_body(kind, raw, "application/json", "Ignore").document

    try:
        if old is None:
            return list(validation.validate_create(kind, body(spec)))
        return list(validation.validate_update(kind, body(spec), body(old), ""))
    except StatusError as error:
        return [error.to_status()]


def with_schema(spec: Any, *more: Any) -> Any:
    schema = {"type": "object", "properties": {"spec": spec}}
    return definition("widgets", "Widget", version("v1", schema), *more)


# ---------------------------------------------------------------------------------------------------------- patterns
PIECES = ("a", "(", ")", "[", "]", "{", "}", "*", "+", "?", "|", "^", "$", ".", "\\", "-", ":", "1", ",", "{1000}", "(?i)", "(?:", "(?=a)", "(?P<n>", "[[:alpha:]]", "\\pL", "\\z", "\\1", "é", "\U0001f600", "\x00")  # fmt: skip
AGAINST = ("", "a" * 30, "a" * 20_000 + "!", "é" * 5_000, "\x00")


@fuzzed(
    300, pattern=st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=12)
)
def test_patterns(pattern: str) -> None:
    fault = patterns.pattern_fault(pattern)
    found = patterns.known(pattern)
    assert (found is None) == bool(fault)
    for text in AGAINST if found is not None else ():
        found(text)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*b",
        "(a|a)*b",
        "(a|aa)+$",
        "(.*a){20}b",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "(a?){100}a{100}",
    ],
)
def test_patterns_that_backtrack_for_ever(pattern: str) -> None:
    text = "a" * 30_000 + "!"
    with quick():
        for where in (
            {**TEXT, "pattern": pattern},
            {
                **TEXT,
                "x-kubernetes-validations": [
                    {"rule": f"self.matches('{pattern}') || self.find('{pattern}') != 'x'"}
                ],
            },
        ):
            document = with_schema({"type": "object", "properties": {"text": where}})
            assert judged(document) == []
            complaints(document, {"text": text})


# ------------------------------------------------------------------------------------------------------------- rules
ATOMS = (
    "self.text", "self.list", "self.any", "oldSelf.text", "self.when", "self.lasts", "'a'", "1", "1.5", "[1, 'a']", "{'a': 1}", "null", "true", "x",
    "quantity('1Gi')", "quantity(self.text)", "duration(self.text)", "timestamp(self.text)", "'\\xff'", "b'a'", "has(self.any)", "optional.none()",
)  # fmt: skip
FORMS = (
    "{0} == {1}", "{0} + {1}", "{0} < {1}", "!{0}", "{0} && {1}", "({0} ? {1} : {0})", "{0}.all(x, {1})", "{0}.map(x, {1})", "{0}.filter(x, {1})",
    "{0}.exists_one(x, {1})", "size({0})", "{0}.replace('a', {1})", "{0}.split({1})", "{0}.join({1})", "{0}.matches({1})", "{0}.find({1})", "{0}.findAll({1})",
    "{0}.isSorted()", "{0}.sum()", "{0}.min()", "{0}.max()", "cel.bind(x, {0}, {1})", "{0}[{1}]", "{0}.a", "int({0})", "string({0})", "{0}.isGreaterThan({1})",
    "isIP({0})", "isURL({0})", "{0}.substring({1})", "math.greatest({0}, {1})", "base64.encode({0})", "type({0})", "{0} in {1}", "{0} / {1}", "-{0}",
)  # fmt: skip
expressions = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.builds(
        lambda form, left, right: form.format(left, right), st.sampled_from(FORMS), inner, inner
    ),
    max_leaves=6,
)
subjects = st.fixed_dictionaries(
    {},
    optional={
        "text": words.filter(lambda w: len(w) < 1000), "list": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), "any": values,
        "when": st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]),
        "lasts": st.sampled_from(["1s", "-1h", "99999999999999999999h", "1ns"]),
    },
)  # fmt: skip


@fuzzed(
    120,
    rule=expressions,
    message=st.none() | expressions,
    spec=subjects,
    old=st.none() | subjects,
    optional=st.booleans(),
)
def test_rules(rule: str, message: str | None, spec: Any, old: Any, optional: bool) -> None:
    wanted: dict[str, Any] = (
        {"rule": rule, "optionalOldSelf": optional} if optional else {"rule": rule}
    )
    if message is not None:
        wanted["messageExpression"] = message
    document = with_schema({**SPEC, "x-kubernetes-validations": [wanted]})
    if judged(document):
        return
    orjson.dumps(complaints(document, spec, old=old))


@fuzzed(60, rule=st.text(max_size=30) | st.text("'\"\\()[]{}.+selfa", max_size=40))
def test_rules_that_are_none(rule: str) -> None:
    orjson.dumps(judged(with_schema({**SPEC, "x-kubernetes-validations": [{"rule": rule}]})))


BIG = {"list": list(range(9_000)), "text": "a" * 1_000_000}
BINDS = 12
EXPENSIVE = {
    "squared": "self.list.all(a, self.list.all(b, a + b >= 0))",
    "cubed": "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c >= 0)))",
    "text read for each": "self.list.all(a, self.text.replace('a', 'b') != '')",
    "text searched for each": "self.list.all(a, self.text.find('b+$') == '')",
    "text made for each": "self.list.all(a, (self.text + 'x') != '')",
    "texts kept": "self.list.map(a, self.text + 'x').size() > 0",
    "texts joined": "self.list.map(a, self.text).join('').size() > 0",
    "text by text": "self.text.replace('', self.text).size() > 0",
    "split for each": "self.list.all(a, self.text.split('').size() > 0)",
    "doubled": "".join(f"cel.bind(v{n + 1}, {'self.text' if n == 0 else f'v{n}'} + {'self.text' if n == 0 else f'v{n}'}, " for n in range(BINDS)) + f"v{BINDS}.size() > 0" + ")" * BINDS,
    "quoted": "strings.quote(" * 14 + "self.text" + ")" * 14 + " != ''",
    "in its message": "self.list.size() == 0",
}  # fmt: skip


@pytest.mark.parametrize("name", EXPENSIVE)
def test_rules_that_cost_without_end(name: str) -> None:
    """They are not taken; where one is stored nevertheless, it runs out of its budget."""
    rule = {"rule": EXPENSIVE[name]}
    if name == "in its message":
        rule["messageExpression"] = f"{EXPENSIVE['text by text']} ? 'a' : 'b'"
    document = with_schema({**SPEC, "x-kubernetes-validations": [rule]})
    with quick(), light():
        refused = [cause["message"] for cause in judged(document)]
        told = [cause["message"] for cause in complaints(document, BIG)]
    assert all("exceed" in text for text in refused), refused
    assert any("cost" in text for text in told), told


def test_rules_of_many_items_run_out() -> None:
    item = {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= 0"}]}
    document = with_schema(
        {"type": "object", "properties": {"list": {"type": "array", "items": item}}}
    )
    with quick(4):
        told = complaints(document, {"list": list(range(rules.RUNS_MAX + 1))})
    assert [cause["message"] for cause in told] == [
        f'Invalid value: "object": {rules.OUT_OF_BUDGET}'
    ]
    assert complaints(document, {"list": list(range(100))}) == []


def test_a_rule_of_usual_size_is_free() -> None:
    """The bounds are for the hostile: what people write stays far below."""
    rule = "self.list.map(n, string(n)).all(t, size(t) < 100) && self.list.all(a, self.list.exists(b, a == b))"
    bounded = {**SPEC["properties"], "list": {**LIST, "maxItems": 1000}}
    rules_ = [{"rule": rule}]
    document = with_schema({**SPEC, "properties": bounded, "x-kubernetes-validations": rules_})
    assert judged(document) == []
    assert complaints(document, {"list": list(range(60)), "text": "a" * 500}) == []


@pytest.mark.parametrize("letter", ["(", "'", '"', "a+", "!", "[", "self."])
def test_long_rules(letter: str) -> None:
    with quick(4):
        for length in (rules.RULE_LETTERS_MAX - 10, 200_000):
            text = letter * (length // len(letter))
            told = judged(with_schema({**SPEC, "x-kubernetes-validations": [{"rule": text}]}))
            assert told


# ----------------------------------------------------------------------------------------------------------- schemas
WORDS = ("type", "properties", "items", "additionalProperties", "allOf", "anyOf", "oneOf", "not", "enum", "default", "pattern", "format", "required", "nullable", "minimum", "maxLength", "multipleOf", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string", "x-kubernetes-embedded-resource", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations", "$ref")  # fmt: skip
FORMATS = st.sampled_from(
    [
        "date",
        "date-time",
        "duration",
        "int32",
        "ipv4",
        "cidr",
        "byte",
        "uuid",
        "uri",
        "email",
        "",
        "x",
    ]
)
TYPES = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null", "x"])
schemas = st.recursive(
    st.fixed_dictionaries({"type": TYPES}, optional={"default": values, "format": FORMATS, "enum": st.lists(scalars, max_size=2), "maximum": scalars, "multipleOf": scalars, "nullable": st.booleans()}),
    lambda inner: st.fixed_dictionaries(
        {"type": TYPES},
        optional={
            "properties": st.dictionaries(keys, inner, max_size=3), "items": inner, "additionalProperties": inner | st.booleans(),
            "anyOf": st.lists(inner, max_size=2), "oneOf": st.lists(inner, max_size=2), "allOf": st.lists(inner, max_size=2), "not": inner,
            "required": st.lists(keys, max_size=2), "x-kubernetes-list-type": st.sampled_from(["map", "set", "atomic"]), "default": values,
            "x-kubernetes-list-map-keys": st.lists(keys, max_size=2), "x-kubernetes-preserve-unknown-fields": st.booleans(),
        },
    ),
    max_leaves=8,
)  # fmt: skip


@fuzzed(150, schema=schemas | damaged(schemas), spec=values, old=st.none() | values)
def test_schemas_and_their_objects(schema: Any, spec: Any, old: Any) -> None:
    document = with_schema(schema)
    told = judged(document)
    orjson.dumps(told)
    if not told:
        orjson.dumps(complaints(document, spec, old=old))


@fuzzed(100, document=damaged(st.just(definition())))
def test_damaged_definitions(document: Any) -> None:
    orjson.dumps(judged(document))


@pytest.mark.parametrize("word", ["allOf", "anyOf", "oneOf"])
def test_nested_alternatives_are_judged_once(word: str) -> None:
    """Two judgements of a part were a billion of the thirtieth."""
    schema: Any = {"minLength": 5}
    for _ in range(60):
        schema = {word: [schema]}
    with quick():
        causes = Causes()
        check({"type": "string", **schema}, "a", "a", Sink(causes))
    assert causes
    with quick():
        judged(
            with_schema({"type": "object", "properties": {"text": {"type": "string", **schema}}})
        )


def test_complaints_have_an_end() -> None:
    document = with_schema(
        {
            "type": "object",
            "properties": {"list": {"type": "array", "items": {"type": "integer", "minimum": 5}}},
        }
    )
    with quick(4), light():
        told = complaints(document, {"list": [0] * 300_000})
    assert len(told) == CAUSES_MAX


def test_long_names_above_many_values_cost_what_they_weigh() -> None:
    schema = {
        "type": "object",
        "additionalProperties": {
            "type": "array",
            "items": {"type": "object", "properties": {"x": TEXT}},
        },
    }
    document = with_schema({"type": "object", "properties": {"free": schema}})
    with quick(5), light():
        told = complaints(document, {"free": {"k" * 1_000_000: [{"y": 1, "x": 2}] * 60_000}})
    assert told

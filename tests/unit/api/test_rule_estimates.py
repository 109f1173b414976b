"""What rules of definitions cost at worst, and that those which cost too much are not taken.

The bounds of `thresholds` were found with the real server's validator (1.36): the largest `maxItems` that it takes.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.widgets import definition, version

from machinery.api import validation
from machinery.api.expressions import estimates
from machinery.api.expressions.declared import Declarations
from machinery.api.expressions.typed import Typed
from machinery.api.validation import rules
from machinery.api.validation.causes import Causes

pytestmark = pytest.mark.skipif(not rules.available(), reason="cel-expr-python is not installed")
RULES = "x-kubernetes-validations"
NUMBER: Mapping[str, Any] = {"type": "integer"}


def text(most: int) -> Mapping[str, Any]:
    return {"type": "string", "maxLength": most}


def many(items: Mapping[str, Any], most: int | None = None) -> dict[str, Any]:
    return {"type": "array", "items": items, **({} if most is None else {"maxItems": most})}


def having(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def cost(schema: Mapping[str, Any], rule: str) -> int:
    known = Typed({**schema, RULES: [{"rule": rule}]})
    declared = known.nodes[""]
    assert declared is not None
    return estimates.cost(known.check(declared, rule), declared)


@pytest.mark.parametrize(
    ("longest", "most"), [(16, 909_090), (63, 333_333), (253, 94_339), (1024, 24_154)]
)
def test_thresholds(longest: int, most: int) -> None:
    rule = "self.all(x, x.contains('gpu'))"
    assert cost(many(text(longest), most), rule) <= estimates.PER_RULE
    assert cost(many(text(longest), most + 1), rule) > estimates.PER_RULE


ITEMS = many(having(name=text(253), port=NUMBER, host=text(253)), 64)
PRICES = {
    "constants and names": ("self.n > 1", {"n": NUMBER}, 3),
    "has is free": ("has(self.n)", {"n": NUMBER}, 1),
    "a whole text": ("self.t == self.t", {"t": text(100)}, 4 + 40),
    "a text against a short one": ("self.t == 'abc'", {"t": text(100)}, 2 + 1),
    "a prefix": ("self.t.startsWith('abc')", {"t": text(100)}, 2 + 1),
    "a search": ("self.t.contains('a')", {"t": text(100)}, 2 + 40),
    "a pattern": ("self.t.matches('^[a-z]+$')", {"t": text(100)}, 2 + 41 * 2),
    "a list": ("self.l.all(x, x == 5)", {"l": many(NUMBER, 10)}, 2 + 1 + 10 * (2 + 1 + 1)),
    "a condition": ("self.n == 1 ? self.l.size() > 1 : true", {"n": NUMBER, "l": many(NUMBER, 9)}, 2 + 4),
    "a list of numbers summed": ("self.l.sum() == 1", {"l": many(NUMBER, 10)}, 2 + 10 + 1),
    "a list that is made": ("[1, 2].size() == 2", {"n": NUMBER}, 10 + 1 + 1),
    "a map": ("self.m.all(k, self.m[k] == 'a')", {"m": {"type": "object", "maxProperties": 5, "additionalProperties": text(5)}}, 2 + 1 + 5 * (2 + 1 + 4 + 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", PRICES)
def test_prices(name: str) -> None:
    rule, properties, expected = PRICES[name]
    assert cost(having(**properties), rule) == expected


def test_unbounded_lists() -> None:
    assert cost(many(NUMBER), "self.all(x, x == 5)") == 6_291_454
    assert cost(many(many(NUMBER)), "self.all(x, x.all(y, y == 5))") > estimates.PER_SCHEMA
    assert cost(many(NUMBER), "self.map(x, string(x)).join(',') == ''") == estimates.MOST


def test_two_variables_cost_as_much_as_one() -> None:
    schema = having(l=ITEMS)
    one = cost(schema, "self.l.all(x, x.port > 1)")
    assert cost(schema, "self.l.all(i, x, x.port > 1)") == one
    assert cost(schema, "self.l.all(i, x, i > 1)") == one - 64


def test_what_people_write_is_taken() -> None:
    """Rules of a gateway's listeners."""
    same = "(has(a.host) && has(b.host) ? a.host == b.host : !has(a.host) && !has(b.host))"
    for rule in (
        "self.all(a, self.exists_one(b, a.name == b.name))",
        f"self.all(a, self.exists_one(b, a.port == b.port && {same}))",
        "self.all(l, l.name in ['HTTP', 'TCP', 'UDP'] ? !has(l.host) : true)",
    ):
        assert judged(having(spec=having(l={**ITEMS, RULES: [{"rule": rule}]}))) == []


def judged(schema: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> list[str]:
    """What is said about a definition."""
    document = definition("widgets", "Widget", version("v1", schema))
    causes = Causes()
    if before is None:
        validation.definitions.definition(document, causes)
    else:
        old = definition("widgets", "Widget", version("v1", before))
        validation.definitions.definition_update(document, old, causes)
    told = [cause for cause in causes if cause["field"].startswith(AT)]
    return [f"{cause['field']}: {cause['message']}" for cause in told]


HINT = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
AT = "spec.validation.openAPIV3Schema"


def test_too_dear() -> None:
    rule = f"{AT}.properties[l].{RULES}[0].rule: Forbidden:"
    schema = having(l={**many(NUMBER, 3_000_000), RULES: [{"rule": "self.all(x, x == 5)"}]})
    dear = [f"{rule} estimated rule cost exceeds budget by factor of 1.200000x {HINT}"]
    assert judged(schema) == dear
    assert judged(schema, schema) == []
    assert judged(schema, having(l=many(NUMBER))) == dear


def test_too_dear_together() -> None:
    dear = {**many(NUMBER, 2_400_000), RULES: [{"rule": "self.all(x, x == 5)"}]}
    schema = having(**{f"l{number}": dear for number in range(11)})
    told = judged(schema)
    contributed = "Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
    assert [one.partition(": ")[2] for one in told[:4]] == [contributed] * 4
    what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
    assert told[4:] == [f"{AT}: Forbidden: {what} exceeds budget by factor of 1.056000x {HINT}"]


def test_rules_within_lists_count_as_often_as_there_is_room() -> None:
    dear = {"type": "string", "maxLength": 1000, RULES: [{"rule": "self.contains('x')"}]}
    assert any("exceeds budget by factor of" in one for one in judged(having(l=many(dear))))
    assert judged(having(l=many(dear, 100))) == []


MEANINGS = {
    "no such field in a macro": ("self.l.all(x, x.nothing == 1)", {}, "undefined field 'nothing'"),
    "types that do not go together": ("self.n == 'a'", {}, "found no matching overload for '_==_' applied to '(int, string)'"),
    "not a truth": ("self.n", {}, "cel expression must evaluate to a bool"),
    "a message that is no text": ("true", {"messageExpression": "self.n"}, "messageExpression must evaluate to a string"),
    "an optional is no value": ("oldSelf.n == self.n", {"optionalOldSelf": True}, "applied to '(optional_type(int), int)'"),
    "no old value": ("true", {"optionalOldSelf": True}, "may not be set if oldSelf is not used in rule"),
    "an object by its place": ("self.o == 1", {}, "applied to '(selfType.o, int)'"),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANINGS)
def test_meanings(name: str) -> None:
    rule, more, expected = MEANINGS[name]
    schema = having(n=NUMBER, l=ITEMS, o=having(x=NUMBER))
    told = judged({**schema, RULES: [{"rule": rule, **more}]})
    assert any(expected in one for one in told), told


def test_old_values_that_cannot_be_found() -> None:
    inner = {**text(10), RULES: [{"rule": "self == oldSelf"}]}
    told = judged(having(l=many(inner, 5)))
    where = f"{AT}.properties[l]"
    assert told == [
        f'{where}.items.{RULES}[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the '
        f"uncorrelatable portion of the schema within {where}"
    ]


def test_what_cannot_be_named_is_not_declared() -> None:
    found = Declarations().of(having(a={"x-kubernetes-preserve-unknown-fields": True}, b=NUMBER))
    assert found is not None
    assert set(found.fields) == {"b"}

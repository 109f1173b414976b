"""Expressions on a write: lazy variables, what fails, what they share of a budget."""

from typing import Any

import pytest

from machinery.api.expressions.admission import (
    Evaluation,
    Given,
    OutOfBudget,
    Variables,
    all_hold,
    compiled,
    scope,
)
from machinery.api.expressions.compiling import CompileFault, EvaluationFault
from machinery.api.expressions.functions.authorizing import Question

SCOPE = scope(params=True, authorizer=True)


def given(document: Any = None, **fields: Any) -> Given:
    return Given(document or {"metadata": {"name": "a"}}, None, {"operation": "CREATE"}, **fields)


def listed(**expressions: str) -> list[dict[str, str]]:
    return [{"name": name, "expression": text} for name, text in expressions.items()]


def test_a_variable_runs_once_and_only_where_it_is_needed() -> None:
    asked: list[Question] = []

    def answer(question: Question) -> tuple[bool, str]:
        asked.append(question)
        return True, "because"

    check = "authorizer.group('').resource('pods').check('{}').allowed()"
    variables, known = Variables.of(listed(a=check.format("x"), b=check.format("y")), SCOPE)
    run = Evaluation(given(answer=answer), variables)
    for text in ("false && variables.b", "variables.a && variables.a", "variables.a"):
        run.value(compiled(known, text, "bool"))
    assert [one.verb for one in asked] == ["x"]


@pytest.mark.parametrize(
    ("variables", "text", "answer"),
    [
        ({"a": "[1, 2]", "b": "variables.a.map(x, x * 2)"}, "variables.b == [2, 4]", True),
        ({"a": "object.?nope"}, "variables.a.hasValue()", False),
        ({"a": "optional.of(3)"}, "variables.a.value() + 1", 4),
        ({"a": "quantity('1Gi')"}, "variables.a.isGreaterThan(quantity('1M'))", True),
        ({"a": "ip('10.0.0.1')"}, "cidr('10.0.0.0/8').containsIP(variables.a)", True),
        ({"a": "{'x': [1]}"}, "variables.a.x[0]", 1),
        ({"a": "duration('1h')"}, "variables.a > duration('1m')", True),
        ({"a": "null"}, "variables.a == null", True),
        ({"a": "timestamp('2026-01-01T00:00:00Z')"}, "variables.a.getFullYear()", 2026),
        ({"a": "object.metadata"}, "variables.a.name", "a"),
    ],
)
def test_values_of_variables(variables: dict[str, str], text: str, answer: Any) -> None:
    found, known = Variables.of(listed(**variables), SCOPE)
    assert Evaluation(given(), found).value(compiled(known, text)) == answer


def test_types_of_variables_are_known() -> None:
    _, known = Variables.of(listed(a="1", b="variables.a > 0"), SCOPE)
    with pytest.raises(CompileFault, match=r"'_\+_' applied to '\(int, string\)'"):
        compiled(known, "variables.a + 'x'")
    with pytest.raises(CompileFault, match="must evaluate to bool but got int"):
        compiled(known, "variables.a", "bool")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("variables.bad", 'composited variable "bad" fails to evaluate: no such key: nothing'),
        ("variables.worse", 'composited variable "worse" fails to compile: compilation failed: ERROR'),
        ("variables.next", 'composited variable "next" fails to evaluate: composited variable "bad" fails to evaluate: no such key'),
    ],
)  # fmt: skip
def test_failures_of_variables(text: str, fault: str) -> None:
    variables, known = Variables.of(
        listed(bad="object.nothing", worse="1 +", next="variables.bad"), SCOPE
    )
    with pytest.raises(EvaluationFault) as raised:
        Evaluation(given(), variables).value(compiled(known, text))
    assert str(raised.value).startswith(fault)


def test_one_condition_that_is_false_decides_and_faults_are_told_together() -> None:
    def conditions(*texts: str) -> list[Any]:
        return [(text, compiled(SCOPE, text, "bool")) for text in texts]

    run = Evaluation(given())
    assert all_hold(conditions("true", "object.metadata.name == 'a'"), run)
    assert not all_hold(conditions("object.x == 1", "false"), run)
    with pytest.raises(EvaluationFault) as raised:
        all_hold(conditions("object.x == 1", "true", "object.y == 1"), run)
    assert str(raised.value) == (
        "[expression 'object.x == 1' resulted in error: no such key: x, "
        "expression 'object.y == 1' resulted in error: no such key: y]"
    )


def test_all_that_runs_shares_a_budget() -> None:
    document = {"data": {f"k{n}": "x" * 2000 for n in range(50)}}
    program = compiled(SCOPE, "object.data.all(k, object.data[k].startsWith('x'))")
    run = Evaluation(given(document))
    with pytest.raises(OutOfBudget, match="running out of cost budget"):
        for _ in range(1000):
            assert run.value(program) is True


def test_a_large_text_is_no_large_object() -> None:
    document = {"data": {"table": "a,b\n" * 200_000}}
    program = compiled(SCOPE, "object.data.all(k, object.data[k].startsWith('a'))")
    assert Evaluation(given(document)).value(program) is True


def test_iterations_are_bounded() -> None:
    document = {"items": list(range(200))}
    nested = "object.items.all(a, object.items.all(b, object.items.all(c, true)))"
    with pytest.raises(OutOfBudget):
        Evaluation(given(document)).value(compiled(SCOPE, nested))


def test_without_an_authorizer_nobody_is_asked() -> None:
    program = compiled(SCOPE, "authorizer.path('/x').check('get').allowed()")
    with pytest.raises(EvaluationFault, match="authorizer"):
        Evaluation(given()).value(program)

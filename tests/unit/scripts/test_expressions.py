"""Interpreters in CEL: what each operation says, what is refused at admission, and what no expression may do to its host."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from machinery.api.fleet.interpretation import (
    AGGREGATE,
    DEPENDENCY,
    HEALTH,
    REFLECT,
    REPLICA,
    RETAIN,
    REVISE,
    Operation,
)
from machinery.meta.resource import Document
from machinery.scripts.expressions import WORK_MAX, call, why_not
from machinery.scripts.lua import ScriptError
from machinery.scripts.work import work

SHARD: Document = {
    "apiVersion": "example.io/v1",
    "kind": "Shard",
    "metadata": {"name": "s", "namespace": "demo", "labels": {"a/b": "c"}},
    "spec": {"count": 3, "half": 0.5, "args": [], "template": {"spec": {"name": "t"}}, "old": 1},
    "status": {"ready": 2, "noise": True},
}
LIVE = SHARD | {"spec": SHARD["spec"] | {"count": 9}}
ITEMS: list[Document] = [
    {"clusterName": "alpha", "status": {"ready": 4}, "applied": True},
    {"clusterName": "beta", "status": {"ready": 8}, "applied": True},
    {"clusterName": "gamma", "status": {}, "applied": True},
]
KUBE: Mapping[str, Callable[..., Any]] = {
    "accuratePodRequirements": lambda template: {
        "resourceRequest": {"cpu": template["spec"]["name"]}
    },
    "getPodDependencies": lambda template, namespace: [
        {"apiVersion": "v1", "kind": "Secret", "namespace": namespace, "name": "k"}
    ],
    "getResourceQuantity": lambda text: 2048.0,
}


def said(operation: Operation, expression: str, *args: Any) -> list[Any]:
    assert why_not(operation, expression) == ""
    return call(operation, expression, *args, library=KUBE)


@pytest.mark.parametrize(
    ("operation", "expression", "args", "answer"),
    [
        (REPLICA, "object.spec.count", (SHARD,), [3]),
        (
            REPLICA,
            "{'replicas': object.spec.count, 'replicaRequirements': kube.accuratePodRequirements(object.spec.template)}",
            (SHARD,),
            [3, {"resourceRequest": {"cpu": "t"}}],
        ),
        (REPLICA, "{'replicas': 1}", (SHARD,), [1, None]),
        (REPLICA, "int(kube.getResourceQuantity('2Ki'))", (SHARD,), [2048]),
        (REFLECT, "{'ready': observed.status.ready}", (SHARD,), [{"ready": 2}]),
        (REFLECT, "null", (SHARD,), [None]),
        (HEALTH, "observed.status.ready >= observed.spec.count", (SHARD,), [False]),
        (HEALTH, "observed.metadata.labels['a/b'] == 'c'", (SHARD,), [True]),
        (HEALTH, "observed.?spec.?nothing.orValue(1) == 1", (SHARD,), [True]),
        (
            DEPENDENCY,
            "kube.getPodDependencies(object.spec.template, object.metadata.namespace)"
            " + [{'apiVersion': 'v1', 'kind': 'ConfigMap', 'namespace': 'demo', 'name': 'c'}]",
            (SHARD,),
            [
                [
                    {"apiVersion": "v1", "kind": "Secret", "namespace": "demo", "name": "k"},
                    {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "demo", "name": "c"},
                ]
            ],
        ),
    ],
)
def test_what_is_answered(
    operation: Operation, expression: str, args: tuple[Any, ...], answer: list[Any]
) -> None:
    assert said(operation, expression, *args) == answer


def test_replicas_are_revised_by_a_merge_patch() -> None:
    (found,) = said(REVISE, "{'spec': {'count': replicas, 'old': null}}", SHARD, 7)
    assert found["spec"] == {k: v for k, v in LIVE["spec"].items() if k != "old"} | {"count": 7}
    assert found["metadata"] == SHARD["metadata"]


def test_what_is_kept_is_a_merge_patch_on_what_is_desired() -> None:
    (found,) = said(RETAIN, "{'spec': {'count': observed.spec.count}}", SHARD, LIVE)
    assert found == LIVE


def test_the_sum_is_the_whole_status() -> None:
    expression = """{
        'ready': items.filter(i, has(i.status.ready)).map(i, i.status.ready).sum(),
        'wanted': object.spec.count}"""
    (found,) = said(AGGREGATE, expression, SHARD, ITEMS)
    assert found == SHARD | {"status": {"ready": 12, "wanted": 3}}


@pytest.mark.parametrize(
    ("operation", "expression", "why"),
    [
        (HEALTH, "1 +", "Syntax error"),
        (HEALTH, "object.spec.count > 1", "undeclared reference to 'object"),
        (HEALTH, "'yes'", "its result is string, where a boolean is needed"),
        (HEALTH, "observed.spec.count", ""),
        (REPLICA, "1.5", "its result is double, where an integer or a map is needed"),
        (REPLICA, "observed.spec.count", "undeclared reference to 'observed"),
        (REVISE, "replicas", "its result is int, where a map is needed"),
        (REVISE, "{'spec': {'count': replicas + 'a'}}", "no matching overload for '_+_'"),
        (RETAIN, "[desired]", "its result is list"),
        (AGGREGATE, "items.map(i, i.status)", "its result is list"),
        (REFLECT, "true", "its result is bool, where a map is needed"),
        (REFLECT, "kube.accuratePodRequirements(observed.spec)", "undeclared reference"),
        (DEPENDENCY, "{}", "its result is map(dyn, dyn), where a list is needed"),
        (DEPENDENCY, "object.?spec", "its result is optional_type"),
        (HEALTH, " " * 20_000 + "true", "longer than 16384 characters"),
    ],
)  # fmt: skip
def test_what_admission_says(operation: Operation, expression: str, why: str) -> None:
    told = why_not(operation, expression)
    assert why in told
    assert bool(told) == bool(why)


@pytest.mark.parametrize(
    ("operation", "expression", "why"),
    [
        (REPLICA, "object.spec.nothing", "no such key: nothing"),
        (REPLICA, "object.spec.count / 0", "divide by zero"),
        (REPLICA, "{'replicas': 1, 'more': 2}", "unknown fields: more"),
        (REPLICA, "kube.accuratePodRequirements(object.metadata)", "spec"),
        (REFLECT, "{'a': 0.0 / 0.0}", "no finite number"),
        (REFLECT, "{1: 2}", "keys are no text"),
        (REFLECT, "{'a': duration('1s')}", "no document"),
        (REFLECT, "{'a': [b'x']}", "no document"),
        (REFLECT, "{'a': observed.?spec}", "no document"),
        (REFLECT, "{'a': type(1)}", "no document"),
        (REVISE, "object.spec.count", "no map, which would be a merge patch"),
        (AGGREGATE, "items[0].clusterName", "no map, which would be the status"),
    ],
)
def test_what_fails_when_it_runs(operation: Operation, expression: str, why: str) -> None:
    more = {REVISE.field: (1,), AGGREGATE.field: (ITEMS,)}
    with pytest.raises(ScriptError, match=why):
        said(operation, expression, SHARD, *more.get(operation.field, ()))


# --------------------------------------------------------------------------------------------------------------- bounds
def doubled(step: str, times: int, last: str = "a") -> str:
    for _ in range(times):
        last = f"cel.bind(a, {step}, {last})"
    return f"cel.bind(a, observed.list, {last})"


LARGE: Document = {"list": list(range(3000)), "text": "x" * 20_000}


@pytest.mark.parametrize(
    "expression",
    [
        doubled("[a, a]", 22),
        doubled("a + a", 22, "size(a)"),
        doubled("[a, a]", 22, "a == a"),
        "[1]" + ".map(a, [a, a])" * 25,
        "[1]" + ".map(a, a == a ? [a, a] : [a])" * 25,
        "observed.list.map(x, observed.list)",
        "observed.list.map(x, observed.list + observed.list).size()",
        "observed.list.all(x, observed.list == observed.list)",
        "observed.text.split('').map(x, observed.text)",
        "observed.text.replace('', observed.text)",
        "observed.text" + ".replace('', 'aaaaaaaaaaaaaaaa')" * 4,
        "r'\\'.size() == 1 ? observed.list.map(x, observed.list) : [2]",
        "'''it's''' == '' ? [] : observed.list.map(x, observed.list)",
        '"\\"" == "" ? [] : observed.list.map(x, observed.list) // "',
        "[1].map(a, [1].map(b, [1].map(c, [1].map(d, [1].map(e, [1].map(f, [1].map(g, [1].map(h, [1].map(i, i)))))))))",
        "(" * 200 + "1" + ")" * 200,
    ],
)
def test_what_could_take_long_is_beyond_the_bound(expression: str) -> None:
    assert work(expression, {"observed": LARGE}) > WORK_MAX


@pytest.mark.parametrize(
    "expression",
    [
        "{'ready': items.map(i, has(i.status) && has(i.status.ready) ? i.status.ready : 0).sum()"
        + ", 'more': items.filter(i, i.applied).map(i, i.status.ready + object.spec.count).sum()" * 8
        + "}",
        "{'well': items.all(i, i.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True'))}",
        "{'names': items.map(i, i.clusterName + '/' + object.metadata.name)}",
    ],
)  # fmt: skip
def test_what_is_usual_is_far_below_it(expression: str) -> None:
    """A hundred members, of a status of usual size."""
    conditions = [{"type": t, "status": "True", "message": "m" * 80} for t in ("Ready", "Synced")]
    status = {"ready": 1, "conditions": conditions}
    items = [{"clusterName": f"c{i}", "status": status, "applied": True} for i in range(100)]
    assert work(expression, {"object": SHARD, "items": items}) < WORK_MAX / 4


def test_what_may_be_too_much_is_refused_before_it_runs() -> None:
    with pytest.raises(ScriptError, match="too much"):
        call(REFLECT, "{'a': observed.list.map(x, observed.list)}", LARGE)


def test_iterations_are_bounded() -> None:
    expression = "{'a': observed.list.map(x, [1, 2, 3, 4].map(y, y))}"
    with pytest.raises(ScriptError, match="10000 iterations"):
        call(REFLECT, expression, {"list": list(range(3000))})


def test_what_comes_back_is_bounded_in_values() -> None:
    with pytest.raises(ScriptError, match="too large"):
        call(REFLECT, doubled("[a, a]", 17, "{'a': a}"), {"list": 1})

"""MutatingAdmissionPolicies change real requests: apply configurations, JSON patches, order, reinvocation, failures."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.policies import (
    CONFIG_MAPS,
    Bench,
    apply,
    bench,
    binding,
    deployment,
    json_patch,
    mutating_binding,
    mutation,
    policy,
    rule,
    validation,
)
from tests.support.webhook import label, register, running_webhooks

from machinery.api.webhook_kinds import MUTATING
from machinery.meta.resource import Document

pytestmark = pytest.mark.integration
MERGE = "application/merge-patch+json"
PODS = [rule(resources=["pods"], operations=["CREATE"])]


@pytest.fixture
async def on() -> AsyncIterator[Bench]:
    async with bench() as found:
        yield found


def config_map(name: str = "a", **data: str) -> Document:
    return {"metadata": {"name": name}, "data": data}


def pod(**spec: Any) -> Document:
    return {
        "metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": "a:1"}], **spec},
    }  # fmt: skip


async def labels(on: Bench, name: str = "a") -> dict[str, str]:
    path = f"/api/v1/namespaces/default/configmaps/{name}"
    found: dict[str, str] = (await on.ask("GET", path)).body["metadata"].get("labels") or {}
    return found


async def test_an_apply_configuration_is_merged(on: Bench) -> None:
    await on.register(
        mutation(
            apply(
                "Object{metadata: Object.metadata{labels: {'by': request.userInfo.username}}, data: {'n': string(object.data.size())}}"
            )
        )
    )
    answer = await on.create({"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}})
    assert answer.status == 201, answer.message
    assert answer.body["metadata"]["labels"] == {"x": "y", "by": "kubernetes-admin"}
    assert answer.body["data"] == {"k": "v", "n": "1"}
    owned = answer.body["metadata"]["managedFields"]
    assert [one["fieldsV1"]["f:data"] for one in owned] == [{".": {}, "f:k": {}}]


async def test_lists_with_keys_are_merged_and_defaults_filled_in(on: Bench) -> None:
    await on.register(
        mutation(
            apply(
                "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'proxy', image: 'p:1', "
                "restartPolicy: 'Always'}]}}"
            ),
            rules=PODS,
            matchConditions=[
                {"name": "once", "expression": "!object.spec.?initContainers.orValue([]).exists(c, c.name == 'proxy')"}
            ],
        )
    )  # fmt: skip
    document = pod(initContainers=[{"name": "first", "image": "f:1"}])
    answer = await on.ask("POST", "/api/v1/namespaces/default/pods", document)
    assert answer.status == 201, answer.message
    found = {one["name"]: one for one in answer.body["spec"]["initContainers"]}
    assert list(found) == ["first", "proxy"]
    assert found["proxy"]["terminationMessagePath"] == "/dev/termination-log"
    assert found["proxy"]["imagePullPolicy"] == "IfNotPresent"


async def test_a_json_patch(on: Bench) -> None:
    await on.register(
        mutation(
            json_patch(
                "[JSONPatch{op: 'test', path: '/data/color', value: 'red'}, "
                "JSONPatch{op: 'replace', path: '/data/color', value: 'green'}, "
                "JSONPatch{op: 'add', path: '/metadata/labels', value: {}}, "
                "JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/env'), value: 'test'}]"
            )
        )
    )
    answer = await on.create(config_map(color="red"))
    assert answer.status == 201, answer.message
    assert answer.body["data"] == {"color": "green"}
    assert answer.body["metadata"]["labels"] == {"example.com/env": "test"}
    answer = await on.create(config_map("b", color="blue"))
    assert answer.body["data"] == {"color": "blue"}  # its test does not hold
    assert "labels" not in answer.body["metadata"]


async def test_mutations_see_one_another_and_validating_policies_see_them(on: Bench) -> None:
    await on.register(
        mutation(
            apply("Object{data: {'a': '1'}}"),
            json_patch("[JSONPatch{op: 'add', path: '/data/b', value: variables.doubled}]"),
            variables=[{"name": "doubled", "expression": "object.data.a + object.data.a"}],
        )
    )
    await on.register(policy(validation("object.data.b == '11'"), name="v"), [binding("v", "v")])
    answer = await on.create(config_map())
    assert answer.status == 201, answer.message
    assert answer.body["data"] == {"a": "1", "b": "11"}
    changed = await on.ask(
        "PATCH", "/api/v1/namespaces/default/configmaps/a", {"data": {"a": "9"}}, MERGE
    )
    assert changed.body["data"] == {"a": "1", "b": "11"}


def appended(key: str) -> Document:
    """Counts in a label how often it ran."""
    return apply(
        f"Object{{metadata: Object.metadata{{labels: {{'{key}': "
        f"object.metadata.?labels[?'{key}'].orValue('') + 'x'}}}}}}"
    )


async def test_who_wants_it_sees_what_others_changed_later(on: Bench) -> None:
    await on.register(mutation(appended("again"), name="a", again=True), [mutating_binding("a", "a")])  # fmt: skip
    await on.register(mutation(appended("once"), name="b"), [mutating_binding("b", "b")])
    await on.register(
        mutation(apply("Object{metadata: Object.metadata{labels: {'c': 'c'}}}"), name="c", again=True),
        [mutating_binding("c", "c")],
    )  # fmt: skip
    assert (await on.create(config_map())).status == 201
    assert await labels(on) == {"again": "xx", "once": "x", "c": "c"}


async def test_webhooks_come_behind_and_ask_again(on: Bench) -> None:
    await on.register(mutation(appended("again"), name="a", again=True), [mutating_binding("a", "a")])  # fmt: skip
    async with running_webhooks() as hooks:
        hooks.answers["/label"] = label("hook", "seen")
        await register(on.client.server, MUTATING, "c", hooks.webhook("/label"))
        assert (await on.create(config_map())).status == 201
        seen = hooks.asked[0][1]["request"]["object"]
        assert seen["metadata"]["labels"]["again"].startswith("x")
    assert await labels(on) == {"again": "xx", "hook": "seen"}


async def test_parameters_make_a_mutation_each(on: Bench) -> None:
    await on.register(
        mutation(
            apply("Object{metadata: Object.metadata{labels: params.data}}"),
            rules=[rule(resources=["secrets"])],
            paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        ),
        [mutating_binding(paramRef={"selector": {}, "parameterNotFoundAction": "Allow"})],
    )
    for name, value in (("one", "1"), ("two", "2")):
        assert (await on.create(config_map(name, **{name: value}))).status == 201
    secret = await on.ask("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
    assert secret.status == 201
    assert secret.body["metadata"].get("labels") == {"one": "1", "two": "2"}


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (apply("Object{spec: Object.spec{nodeSelectors: {'a': 'b'}}}"), "error applying patch: failed to convert patch object to typed object: .spec.nodeSelectors: field not declared in schema"),
        (apply("Object{spec: Object.spec{containers: [Object.spec.containers{name: 'web', args: ['a']}]}}"), "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args"),
        (apply("Object{spec: Object.metadata{}}"), 'type mismatch: unexpected type name "Object.metadata", expected "Object.spec", which matches field name path from root Object type'),
        (apply("Object{spec: Object.spec{hostname: object.metadata.annotations.a}}"), "expression 'Object{spec: Object.spec{hostname: object.metadata.annotations.a}}' resulted in error: no such key: annotations"),
        (json_patch("[JSONPatch{op: 'remove', path: '/spec/nothing'}]"), "JSONPath: "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ignores", [False, True])
async def test_what_cannot_be_made(on: Bench, made: Document, why: str, *, ignores: bool) -> None:
    await on.register(mutation(made, rules=PODS, failurePolicy="Ignore" if ignores else "Fail"))
    answer = await on.ask("POST", "/api/v1/namespaces/default/pods", pod())
    if ignores:
        assert answer.status == 201
        return
    told = f"policy 'p' with binding 'b' denied request: {why}"
    assert (answer.status, answer.body["reason"]) == (403, "Invalid")
    assert answer.message.startswith(told)
    assert answer.body["details"]["causes"][0]["message"] == answer.message
    assert answer.body["details"]["name"] == "web"


async def test_what_comes_out_is_judged_as_if_it_had_come_in(on: Bench) -> None:
    await on.register(
        mutation(json_patch("[JSONPatch{op: 'add', path: '/spec/priority', value: 'high'}]"), rules=PODS)
    )  # fmt: skip
    answer = await on.ask("POST", "/api/v1/namespaces/default/pods", pod())
    assert answer.status == 500, answer.message
    wrong = {"spec": {"mutations": [apply("Object{spec: Object.spec{hostname: 'NOT A NAME'}}")]}}
    path = f"{CONFIG_MAPS.policies.replace('validating', 'mutating')}/p"
    assert (await on.ask("PATCH", path, wrong, MERGE)).status == 200
    answer = await on.ask("POST", "/api/v1/namespaces/default/pods", pod())
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert "spec.hostname" in answer.message


async def test_custom_resources(on: Bench) -> None:
    await on.define("Toy", namespaced=True)
    await on.register(
        mutation(
            apply("Object{spec: Object.spec{size: object.spec.size + 1}}"),
            rules=[rule(apiGroups=["example.com"], resources=["toys"])],
        )
    )
    toy = {"apiVersion": "example.com/v1", "kind": "Toy", "metadata": {"name": "t"}, "spec": {"size": 1}}  # fmt: skip
    answer = await on.ask("POST", "/apis/example.com/v1/namespaces/default/toys", toy)
    assert answer.status == 201, answer.message
    assert answer.body["spec"] == {"size": 2}


async def test_a_scale_is_changed_as_one(on: Bench) -> None:
    await on.register(
        mutation(
            apply("Object{spec: Object.spec{replicas: 2}}"),
            rules=[rule(apiGroups=["apps"], resources=["deployments/scale"])],
        )
    )
    path = "/apis/apps/v1/namespaces/default/deployments"
    assert (await on.ask("POST", path, deployment(1))).body["spec"]["replicas"] == 1
    answer = await on.ask("PATCH", f"{path}/web/scale", {"spec": {"replicas": 7}}, MERGE)
    assert answer.status == 200, answer.message
    assert (await on.ask("GET", f"{path}/web")).body["spec"]["replicas"] == 2


async def test_deletes_are_not_changed(on: Bench) -> None:
    assert (await on.create(config_map())).status == 201
    await on.register(mutation(appended("x"), rules=[rule(operations=["*"])]))
    path = "/api/v1/namespaces/default/configmaps/a"
    assert (await on.ask("DELETE", path)).status == 200

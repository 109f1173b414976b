"""ValidatingAdmissionPolicies judge real requests: what they see, what bindings make of it, how they fail."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.policies import (
    CONFIG_MAPS,
    Bench,
    bench,
    binding,
    deployment,
    policy,
    rule,
    validation,
)

from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document
from machinery.server.audit import default
from machinery.server.audit.config import AuditConfig
from machinery.server.config import ServerConfig

pytestmark = pytest.mark.integration
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def on() -> AsyncIterator[Bench]:
    async with bench() as found:
        yield found


def config_map(name: str = "a", **data: str) -> Document:
    return {"metadata": {"name": name}, "data": data}


async def test_what_is_false_is_refused(on: Bench) -> None:
    await on.register(
        policy(
            validation("object.data.size() < 3", message="too much", reason="RequestEntityTooLarge"),
            validation("object.metadata.name != 'bad'", messageExpression="'not ' + object.metadata.name"),
        )
    )  # fmt: skip
    assert (await on.create(config_map("good", a="1"))).status == 201
    answer = await on.create(config_map("bad", a="1"))
    told = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: not bad"
    assert answer.status == 422
    assert answer.body == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": f'configmaps "bad" is forbidden: {told}', "reason": "Invalid", "code": 422,
        "details": {"name": "bad", "kind": "configmaps", "causes": [{"message": told}]},
    }  # fmt: skip
    answer = await on.create(config_map("bad", a="1", b="2", c="3"))
    assert (answer.status, answer.body["reason"]) == (413, "RequestEntityTooLarge")
    assert answer.message.endswith("denied request: too much")
    assert [one["metadata"]["name"] for one in await on.list()] == ["good"]


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("request.operation == 'CREATE' && request.kind.kind == 'ConfigMap' && request.resource.resource == 'configmaps'", True),
        ("request.userInfo.username == 'kubernetes-admin' && 'system:masters' in request.userInfo.groups", True),
        ("request.namespace == 'default' && request.name == 'a' && !request.dryRun", True),
        ("request.options.kind == 'CreateOptions'", True),
        ("oldObject == null && object.kind == 'ConfigMap' && has(object.metadata.uid)", True),
        ("namespaceObject.metadata.labels['kubernetes.io/metadata.name'] == 'default'", True),
        ("namespaceObject.metadata.creationTimestamp > timestamp('2020-01-01T00:00:00Z') && namespaceObject.status.phase == 'Active'", True),
        ("authorizer.group('').resource('pods').namespace('default').check('create').allowed()", True),
        ("authorizer.requestResource.check('create').allowed()", True),
        ("authorizer.serviceAccount('default', 'default').group('').resource('secrets').check('get').allowed()", False),
        ("authorizer.path('/healthz').check('get').allowed()", True),
        ("authorizer.group('').resource('pods').check('get').errored()", False),
        ("object.data.all(k, v, quantity(v).isLessThan(quantity('1Gi')))", True),
        ("ip(object.data.?ip.orValue('10.0.0.1')).family() == 4", True),
    ],
)  # fmt: skip
async def test_what_expressions_see(on: Bench, expression: str, *, holds: bool) -> None:
    await on.register(policy(validation(expression)))
    answer = await on.create(config_map(size="1Mi"))
    assert answer.status == (201 if holds else 422), answer.message


async def test_updates_and_deletes_have_what_was(on: Bench) -> None:
    await on.create(config_map(a="1"))
    await on.register(
        policy(
            validation("request.operation != 'UPDATE' || object.data.a >= oldObject.data.a"),
            validation("request.operation != 'DELETE' || (object == null && oldObject.data.a != '2')"),
            rules=[rule(operations=["*"])],
        )
    )  # fmt: skip
    assert (await on.ask("PATCH", f"{MAPS}/a", {"data": {"a": "0"}}, MERGE)).status == 422
    assert (await on.ask("PATCH", f"{MAPS}/a", {"data": {"a": "2"}}, MERGE)).status == 200
    assert (await on.ask("DELETE", f"{MAPS}/a")).status == 422
    assert (await on.ask("PATCH", f"{MAPS}/a", {"data": {"a": "3"}}, MERGE)).status == 200
    assert (await on.ask("DELETE", f"{MAPS}/a")).status == 200


MERGE = "application/merge-patch+json"


async def test_variables_are_lazy_and_build_on_one_another(on: Bench) -> None:
    await on.register(
        policy(
            validation("true || variables.broken"),
            validation("variables.sum == 3 && variables.double == 6"),
            validation("variables.names.exists(n, n == 'a')"),
            variables=[
                {"name": "broken", "expression": "object.nothing.at.all"},
                {"name": "sum", "expression": "object.data.map(k, int(object.data[k])).sum()"},
                {"name": "double", "expression": "variables.sum * 2"},
                {"name": "names", "expression": "object.data.map(k, k)"},
            ],
        )
    )
    assert (await on.create(config_map(a="1", b="2"))).status == 201
    answer = await on.create(config_map("c", a="x"))
    assert answer.message.partition("denied request: ")[2] == (
        "expression 'variables.sum == 3 && variables.double == 6' resulted in error: composited variable \"sum\" fails to "
        "evaluate: cannot convert string to int"
    )


async def test_actions_of_bindings(on: Bench) -> None:
    await on.register(policy(validation("false", message="no")), bindings=[])
    assert (await on.create(config_map("unbound"))).status == 201
    await on.bind(binding("warn", validationActions=["Warn", "Audit"]))
    answer = await on.create(config_map("warned"))
    assert answer.status == 201
    assert answer.warnings == [
        "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'warn': no"
    ]
    await on.bind(binding("deny"))
    assert (await on.create(config_map("denied"))).status == 422
    assert (await on.ask("DELETE", f"{CONFIG_MAPS.bindings}/deny")).status == 200
    assert (await on.create(config_map("again"))).status == 201


async def test_whom_policies_and_bindings_are_about(on: Bench) -> None:
    await on.register(
        policy(
            validation("false"),
            constraints={
                "resourceRules": [rule()],
                "excludeResourceRules": [rule(resourceNames=["spared"])],
                "objectSelector": {"matchExpressions": [{"key": "free", "operator": "DoesNotExist"}]},
            },
            matchConditions=[{"name": "data", "expression": "has(object.data)"}],
        ),
        bindings=[binding(matchResources={"namespaceSelector": {"matchLabels": {"team": "a"}}})],
    )  # fmt: skip
    await on.namespace("n1", team="a")
    await on.namespace("n2", team="b")

    async def status(namespace: str, **metadata: Any) -> int:
        document = {"metadata": {"name": "x", **metadata}, "data": {"a": "b"}}
        return (await on.ask("POST", f"/api/v1/namespaces/{namespace}/configmaps", document)).status

    assert await status("n1") == 422
    assert await status("n2") == 201
    assert await status("n1", name="spared") == 201
    assert await status("n1", labels={"free": "yes"}) == 201
    bare = {"metadata": {"name": "bare"}}
    assert (await on.ask("POST", "/api/v1/namespaces/n1/configmaps", bare)).status == 201
    assert (await on.ask("POST", "/api/v1/namespaces/n1/secrets", bare)).status == 201


async def test_parameters(on: Bench) -> None:
    await on.register(
        policy(
            validation("object.data.size() <= int(params.data.most)", messageExpression="'at most ' + params.data.most"),
            paramKind={"apiVersion": "v1", "kind": "Secret"},
            rules=[rule()],
        ),
        bindings=[],
    )  # fmt: skip
    ref = {"name": "limits", "parameterNotFoundAction": "Deny"}
    await on.bind(binding(paramRef=ref))
    answer = await on.create(config_map(a="1"))
    assert answer.message.endswith(
        "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed to configure binding: no params found for policy "
        "binding with `Deny` parameterNotFoundAction"
    )
    secret = {"metadata": {"name": "limits", "labels": {"l": "1"}}, "stringData": {"most": "1"}}
    await on.ask("POST", "/api/v1/namespaces/default/secrets", secret)
    # a Secret's data are base64, as upstream shows them
    assert (await on.create(config_map(a="1"))).message.endswith("cannot convert string to int")


async def test_parameters_by_selector_in_custom_kinds(on: Bench) -> None:
    await on.define("Limit", namespaced=False)
    await on.register(
        policy(
            validation("object.data.size() <= params.spec.most", messageExpression="'at most ' + string(params.spec.most)"),
            paramKind={"apiVersion": "example.com/v1", "kind": "Limit"},
        ),
        bindings=[
            binding(paramRef={"selector": {"matchLabels": {"on": "yes"}}, "parameterNotFoundAction": "Allow"})
        ],
    )  # fmt: skip
    assert (await on.create(config_map(a="1", b="2"))).status == 201
    for name, most, label in (("one", 1, "yes"), ("two", 5, "yes"), ("three", 0, "no")):
        document = {
            "apiVersion": "example.com/v1", "kind": "Limit",
            "metadata": {"name": name, "labels": {"on": label}}, "spec": {"most": most},
        }  # fmt: skip
        assert (await on.ask("POST", "/apis/example.com/v1/limits", document)).status == 201
    assert (await on.create(config_map("c", a="1"))).status == 201
    answer = await on.create(config_map("d", a="1", b="2"))
    assert answer.message.endswith("denied request: at most 1")


@pytest.mark.parametrize("ignores", [False, True])
async def test_failures_are_the_failure_policys(on: Bench, *, ignores: bool) -> None:
    await on.register(
        policy(
            validation("object.data.nothing == 'x'"),
            failurePolicy="Ignore" if ignores else "Fail",
            paramKind={"apiVersion": "nowhere.example.com/v1", "kind": "Nothing"} if ignores else None,
        )
    )  # fmt: skip
    answer = await on.create(config_map(a="1"))
    if ignores:
        assert answer.status == 201
        return
    assert answer.message.endswith(
        "denied request: expression 'object.data.nothing == 'x'' resulted in error: no such key: nothing"
    )


async def test_a_kind_of_parameters_that_is_not_served(on: Bench) -> None:
    await on.register(
        policy(validation("true"), paramKind={"apiVersion": "a.example.com/v1", "kind": "Nothing"})
    )
    assert (await on.create(config_map())).message.endswith(
        "ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource referenced by "
        "paramKind: 'a.example.com/v1, Kind=Nothing'"
    )


async def test_what_would_take_too_long_is_cut_off(on: Bench) -> None:
    await on.register(
        policy(
            validation("object.data.all(a, object.data.all(b, object.data.all(c, true)))"),
            validation("object.data.all(a, object.data.all(b, (a + b).replace('x', object.data[a]) != 'q'))"),
        )
    )  # fmt: skip
    answer = await on.create(config_map(**{f"k{n}": "x" * 3000 for n in range(100)}))
    assert answer.message.endswith(
        "validation failed due to running out of cost budget, no further validation rules will be run"
    )


async def test_the_status_and_other_subresources_are_named_apart(on: Bench) -> None:
    await on.register(
        policy(
            validation("object.kind != 'Scale' || object.spec.replicas < 3"),
            rules=[rule(apiGroups=["apps"], resources=["deployments/scale"], operations=["*"])],
        )
    )
    path = "/apis/apps/v1/namespaces/default/deployments"
    assert (await on.ask("POST", path, deployment(9))).status == 201
    answer = await on.ask("PATCH", f"{path}/web/scale", {"spec": {"replicas": 4}}, MERGE)
    assert answer.status == 422, answer.message
    answer = await on.ask("PATCH", f"{path}/web/scale", {"spec": {"replicas": 2}}, MERGE)
    assert answer.status == 200, answer.message


async def test_policies_never_judge_policies(on: Bench) -> None:
    await on.register(policy(validation("false"), rules=[rule(apiGroups=["*"], resources=["*/*"], operations=["*"])]))  # fmt: skip
    assert (await on.create(config_map())).status == 422
    for path in (f"{CONFIG_MAPS.policies}/p", f"{CONFIG_MAPS.bindings}/b"):
        assert (await on.ask("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, MERGE)).status == 200  # fmt: skip
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
    }  # fmt: skip
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert (await on.ask("POST", path, review)).status == 201
    assert (await on.ask("DELETE", f"{CONFIG_MAPS.bindings}/b")).status == 200
    assert (await on.create(config_map())).status == 201


async def test_a_changed_policy_counts_at_once_and_a_deleted_one_not_at_all(on: Bench) -> None:
    await on.register(policy(validation("object.metadata.name == 'a'")))
    assert (await on.create(config_map("b"))).status == 422
    changed = {"spec": {"validations": [validation("object.metadata.name == 'b'")]}}
    assert (await on.ask("PATCH", f"{CONFIG_MAPS.policies}/p", changed, MERGE)).status == 200
    assert (await on.create(config_map("b"))).status == 201
    assert (await on.create(config_map("a"))).status == 422
    assert (await on.ask("DELETE", f"{CONFIG_MAPS.policies}/p")).status == 200
    assert (await on.create(config_map("a"))).status == 201


async def test_names_that_are_still_to_be_made(on: Bench) -> None:
    await on.register(policy(validation("object.metadata.generateName != 'x-'")))
    answer = await on.ask("POST", MAPS, {"metadata": {"generateName": "x-"}})
    assert answer.status == 422
    assert answer.message.startswith('configmaps "x-') and "is forbidden" in answer.message


async def test_another_version_is_shown_as_the_rule_names_it() -> None:
    async with running_server(kinds=(*BUILTIN, *TEMPLATE_KINDS)) as server, bench(server) as on:
        await on.register(
            policy(
                validation("object.apiVersion == 'autoscaling/v1'"),
                validation("object.spec.targetCPUUtilizationPercentage < 90"),
                validation("request.kind.version == 'v1' && request.requestKind.version == 'v2'"),
                rules=[rule(apiGroups=["autoscaling"], resources=["horizontalpodautoscalers"])],
            )
        )
        target = {"type": "Utilization", "averageUtilization": 95}
        document = {
            "metadata": {"name": "a"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "maxReplicas": 3,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            },
        }
        path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
        answer = await on.ask("POST", path, document)
        assert answer.message.endswith(
            "failed expression: object.spec.targetCPUUtilizationPercentage < 90"
        )
        target["averageUtilization"] = 50
        assert (await on.ask("POST", path, document)).status == 201


async def test_the_audit_log(tmp_path: Path) -> None:
    path = tmp_path / "audit" / "audit.log"
    config = ServerConfig(audit=AuditConfig(str(path), default.policy()))
    async with running_server(config=config) as server, bench(server) as on:
        await on.register(
            policy(
                validation("object.metadata.name != 'a'", message="no"),
                auditAnnotations=[
                    {"key": "who", "valueExpression": "'by ' + request.userInfo.username"},
                    {"key": "none", "valueExpression": "null"},
                ],
            ),
            bindings=[binding(validationActions=["Audit"])],
        )
        assert (await on.create(config_map("a"))).status == 201
        event = await _last(server, path)
        noted = event["annotations"]
        assert noted["p/who"] == "by kubernetes-admin"
        assert "p/none" not in noted
        assert json.loads(noted["validation.policy.admission.k8s.io/validation_failure"]) == [
            {
                "message": "no", "policy": "p", "binding": "b", "expressionIndex": 0,
                "validationActions": ["Audit"],
            }
        ]  # fmt: skip


async def _last(server: RunningServer, path: Path) -> dict[str, Any]:
    assert server.api.auditor is not None
    await server.api.auditor.log.flush()
    events = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [one for one in events if one.get("requestURI", "").startswith(MAPS)][-1]


async def test_nobody_lends_what_they_cannot_read(on: Bench) -> None:
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    rules = [
        {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    ]
    await on.made(role, {"metadata": {"name": "policies"}, "rules": rules})
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "alice"}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "policies"}
    await on.made(bindings, {"metadata": {"name": "a"}, "subjects": [subject], "roleRef": ref})
    alice = on.client.server.rest_as("alice")

    async def refused(path: str, document: Document) -> str:
        try:
            await alice.request("POST", path, body=json.dumps(document).encode())
        except StatusError as error:
            return error.message
        return ""

    secrets = policy(validation("true"), paramKind={"apiVersion": "v1", "kind": "Secret"})
    assert (await refused(CONFIG_MAPS.policies, secrets)).endswith(
        'spec.paramKind: Forbidden: user alice must have "get" permission on all objects of the referenced paramKind '
        "(kind=Secret, apiVersion=v1)"
    )
    maps = policy(validation("true"), paramKind={"apiVersion": "v1", "kind": "ConfigMap"})
    assert await refused(CONFIG_MAPS.policies, maps) == ""
    named = {"name": "x", "namespace": "default", "parameterNotFoundAction": "Allow"}
    assert await refused(CONFIG_MAPS.bindings, binding(paramRef=named)) == ""
    await on.made(CONFIG_MAPS.policies, {**secrets, "metadata": {"name": "s"}})
    assert (await refused(CONFIG_MAPS.bindings, binding("c", "s", paramRef=named))).endswith(
        'spec.paramRef: Forbidden: user alice does not have "get" permission on the object referenced by paramRef'
    )

"""Which writes webhooks are asked about, and as what: selectors, conditions, versions, subresources, connections, rehearsals."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.webhook import (
    Client,
    Webhooks,
    client_of,
    config_map,
    label,
    patch,
    register,
)
from tests.support.widgets import WIDGETS, define, definition, version, widget

from machinery.api.kinds import BUILTIN, ENDPOINT_SLICE
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.client.interface import dynamic
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document
from machinery.server.audit import policy
from machinery.server.audit.config import AuditConfig
from machinery.server.config import ServerConfig

pytestmark = pytest.mark.integration
MAPS = "/api/v1/namespaces/default/configmaps"
CONFIG_MAPS = dynamic("", "v1", "configmaps", "ConfigMap", namespaced=True)
PODS = "/api/v1/namespaces/default/pods"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
MERGE = "application/merge-patch+json"
POD: Document = {
    "metadata": {"name": "p"}, "spec": {"containers": [{"name": "main", "image": "i"}]},
}  # fmt: skip


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(kinds=(*BUILTIN, *TEMPLATE_KINDS)) as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with client_of(server) as found:
        yield found


# ------------------------------------------------------------------------------------------------------------- whether
@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, ["/w", "/w"]),
        ({"objectSelector": {"matchLabels": {"a": "1"}}}, ["/w"]),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}, ["/w", "/w"]),
        ({"namespaceSelector": {"matchLabels": {"env": "prod"}}}, []),
        ({"matchConditions": [{"name": "c", "expression": "object.metadata.name == 'one'"}]}, ["/w"]),
        ({"matchConditions": [{"name": "c", "expression": "request.userInfo.username == 'nobody'"}]}, []),
        ({"matchConditions": [{"name": "c", "expression": "request.operation == 'CREATE' && oldObject == null"}]}, ["/w", "/w"]),
        ({"matchConditions": [{"name": "no", "expression": "object.data.x == 'y'"}, {"name": "false", "expression": "false"}]}, []),
        ({"failurePolicy": "Ignore", "matchConditions": [{"name": "no", "expression": "object.data.x == 'y'"}]}, []),
    ],
)  # fmt: skip
async def test_which_are_asked(
    server: RunningServer, client: Client, hooks: Webhooks, fields: Document, asked: list[str]
) -> None:
    await register(server, VALIDATING, "c", hooks.webhook("/w", **fields))
    for name, labels in (("one", {"a": "1"}), ("two", {"a": "2"})):
        assert (await client.ask("POST", MAPS, config_map(name, **labels))).status == 201
    assert hooks.paths() == asked


async def test_a_condition_that_fails_refuses(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    condition = {"name": "no", "expression": "object.data.x == 'y'"}
    await register(server, VALIDATING, "c", hooks.webhook("/w", matchConditions=[condition]))
    answer = await client.ask("POST", MAPS, config_map())
    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    assert answer.message.startswith('configmaps "a" is forbidden: ')
    assert "no such key: data" in answer.message
    assert hooks.asked == []


async def test_changes_are_in_effect_at_once(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    hooks.answers["/w"] = lambda _: {"allowed": False}
    path = f"{WEBHOOKS}/validatingwebhookconfigurations"
    await register(server, VALIDATING, "c", hooks.webhook("/w"))
    for number in range(5):
        assert (await client.ask("POST", MAPS, config_map(f"a{number}"))).status == 400
        empty = await client.ask("PATCH", f"{path}/c", {"webhooks": None}, MERGE)
        assert empty.status == 200
        assert (await client.ask("POST", MAPS, config_map(f"b{number}"))).status == 201
        full = {"webhooks": [hooks.webhook("/w")]}
        await client.ask("PATCH", f"{path}/c", full, MERGE)


async def test_other_replicas_obey(server: RunningServer, hooks: Webhooks) -> None:
    """Each reads configurations from the store that they share."""
    hooks.answers["/w"] = lambda _: {"allowed": False}
    async with running_server(store=server.api.store) as other, client_of(other) as client:
        await register(server, VALIDATING, "c", hooks.webhook("/w"))
        await other.api.cache.fresh()
        assert (await client.ask("POST", MAPS, config_map())).status == 400
        metrics = (await other.rest.request("GET", "/metrics")).decode()
    told = 'error_type="no_error",name="w.example.com",operation="CREATE",rejection_code="400"'
    assert f"apiserver_admission_webhook_rejection_total{{{told}" in metrics


async def test_creates_without_a_task_step_aside_for_webhooks_alone(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    quick = server.api.quick_write
    await client.ask("POST", MAPS, config_map("a"))
    begun = quick.begun
    assert begun > 0
    await register(server, MUTATING, "c", hooks.webhook("/w", resources=["secrets"]))
    await client.ask("POST", MAPS, config_map("b"))
    assert quick.begun == begun + 1
    await client.ask("POST", "/api/v1/namespaces/default/secrets", config_map("s"))
    assert (quick.begun, hooks.paths()) == (begun + 1, ["/w"])


async def test_writes_within_the_process_are_judged_too(
    server: RunningServer, hooks: Webhooks
) -> None:
    """Controllers have no other way to write than everybody else."""
    hooks.answers["/w"] = lambda _: {"allowed": False}
    rules = hooks.webhook("/w", groups=["example.com"], resources=["widgets"])
    await define(server.rest)
    await register(server, VALIDATING, "c", rules)
    with pytest.raises(StatusError, match='admission webhook "w.example.com" denied the request'):
        await server.local.create(WIDGETS, widget())
    assert hooks.last()["userInfo"]["username"] == "system:apiserver"


# -------------------------------------------------------------------------------------------------------------- as what
async def test_equivalent_versions(server: RunningServer, client: Client, hooks: Webhooks) -> None:
    """A rule for v1 is asked about v1beta1 in its own version, and may change it there; an exact one is not."""
    old = {**version("v1beta1"), "storage": False}
    await define(server.rest, definition("widgets", "Widget", version("v1"), old))
    hooks.answers["/like"] = label("seen", "x")
    rule = {"groups": ["example.com"], "resources": ["widgets"]}
    await register(
        server, MUTATING, "c", hooks.webhook("/like", **rule),
        hooks.webhook("/exact", matchPolicy="Exact", **rule),
    )  # fmt: skip
    body = {**widget(), "apiVersion": "example.com/v1beta1"}
    answer = await client.ask("POST", "/apis/example.com/v1beta1/namespaces/default/widgets", body)
    assert (answer.status, answer.body["apiVersion"]) == (201, "example.com/v1beta1")
    assert answer.body["metadata"]["labels"] == {"seen": "x"}
    assert hooks.paths() == ["/like"]
    request = hooks.last()
    assert request["kind"]["version"] == request["resource"]["version"] == "v1"
    assert request["requestKind"]["version"] == request["requestResource"]["version"] == "v1beta1"
    assert request["object"]["apiVersion"] == "example.com/v1"


async def test_another_face_of_a_kind(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    body = {
        "metadata": {"name": "e"}, "regarding": {"namespace": "default"}, "note": "told",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "x",
        "reportingInstance": "y", "action": "a", "reason": "r", "type": "Normal",
    }  # fmt: skip
    groups = {"groups": ["events.k8s.io"], "resources": ["events"]}
    await register(server, VALIDATING, "c", hooks.webhook("/w", matchPolicy="Exact", **groups))
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    answer = await client.ask("POST", path, body)
    assert answer.status == 201, answer.message
    request = hooks.last()
    assert request["kind"]["group"] == request["requestKind"]["group"] == "events.k8s.io"
    assert (request["object"]["apiVersion"], request["object"]["note"]) == (
        "events.k8s.io/v1", "told",
    )  # fmt: skip


async def test_status_and_scale(server: RunningServer, client: Client, hooks: Webhooks) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": POD["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template, "replicas": 1}
    await client.ask("POST", path, {"metadata": {"name": "d"}, "spec": spec})
    about = {"groups": ["apps"], "operations": ["*"], "resources": ["deployments/*"]}
    await register(server, MUTATING, "c", hooks.webhook("/w", **about))
    await client.ask("PATCH", f"{path}/d/status", {"status": {"replicas": 1}}, MERGE)
    request = hooks.last()
    assert (request["subResource"], request["kind"]["kind"]) == ("status", "Deployment")
    hooks.answers["/w"] = lambda _: patch({"op": "replace", "path": "/spec/replicas", "value": 4})
    answer = await client.ask("PATCH", f"{path}/d/scale", {"spec": {"replicas": 3}}, MERGE)
    assert (answer.status, answer.body["spec"]) == (200, {"replicas": 4})
    request = hooks.last()
    assert request["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert request["resource"]["resource"] == "deployments"
    assert (request["object"]["spec"], request["oldObject"]["spec"]) == (
        {"replicas": 3}, {"replicas": 1},
    )  # fmt: skip
    assert request["object"]["kind"] == "Scale"
    found = await client.ask("GET", f"{path}/d")
    assert found.body["spec"]["replicas"] == 4


async def test_bindings_evictions_tokens_and_reviews(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    """What is posted below an object, or forgotten when it is answered."""
    await client.ask("POST", PODS, POD)
    await server.add_service_account("default")
    every = {"groups": ["*"], "versions": ["*"], "operations": ["*"], "resources": ["*/*"]}
    await register(server, VALIDATING, "c", hooks.webhook("/w", **every))
    target = {"kind": "Node", "name": "n"}
    posts: list[tuple[str, Document, str, str]] = [
        (f"{PODS}/p/binding", {"metadata": {"name": "p"}, "target": target}, "Binding", "pods"),
        ("/api/v1/namespaces/default/serviceaccounts/default/token", {"spec": {"audiences": ["x"]}}, "TokenRequest", "serviceaccounts"),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}, "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
        (f"{PODS}/p/eviction", {"metadata": {"name": "p"}}, "Eviction", "pods"),
    ]  # fmt: skip
    for path, body, kind, plural in posts:
        hooks.asked.clear()
        answer = await client.ask("POST", path, body)
        assert answer.status == 201, answer.message
        (request,) = [review["request"] for _, review in hooks.asked]
        assert (request["operation"], request["kind"]["kind"]) == ("CREATE", kind)
        assert request["resource"]["resource"] == plural
        assert request["object"] is not None
    hooks.answers["/w"] = lambda _: {"allowed": False}
    for path, body, _, _ in posts:
        assert (await client.ask("POST", path, body)).status == 400


async def test_connections(server: RunningServer, client: Client, hooks: Webhooks) -> None:
    """An exec is a CONNECT with its options; reading logs is none."""
    await client.ask("POST", PODS, POD)
    hooks.answers["/w"] = lambda _: {"allowed": False, "status": {"message": "no shells"}}
    about = {"operations": ["CONNECT"], "resources": ["pods/exec", "pods/log"]}
    await register(server, VALIDATING, "c", hooks.webhook("/w", **about))
    query = "container=main&command=sh&command=-c&stdin=true&tty=true"
    answer = await client.ask("POST", f"{PODS}/p/exec?{query}")
    assert answer.message == 'admission webhook "w.example.com" denied the request: no shells'
    request = hooks.last()
    assert (request["operation"], request["subResource"], request["options"]) == (
        "CONNECT", "exec", None,
    )  # fmt: skip
    assert request["kind"]["kind"] == "PodExecOptions"
    assert request["object"] == {
        "kind": "PodExecOptions", "apiVersion": "v1", "stdin": True, "tty": True,
        "container": "main", "command": ["sh", "-c"],
    }  # fmt: skip
    assert (request["oldObject"], request["name"]) == (None, "p")
    with contextlib.suppress(StatusError):
        await server.rest.request("GET", f"{PODS}/p/log")
    assert len(hooks.asked) == 1


async def test_namespaces_are_in_themselves(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    selector = {"matchLabels": {"env": "prod"}}
    about = {"resources": ["namespaces"], "operations": ["*"], "namespaceSelector": selector}
    await register(server, VALIDATING, "c", hooks.webhook("/w", **about))
    for name, labels in (("one", {"env": "prod"}), ("two", {"env": "test"})):
        await client.ask("POST", "/api/v1/namespaces", config_map(name, **labels))
    assert [review["request"]["name"] for _, review in hooks.asked] == ["one"]
    assert hooks.last()["namespace"] == "one"


# ---------------------------------------------------------------------------------------------------------- rehearsals
@pytest.mark.parametrize("kind", [MUTATING, VALIDATING], ids=["mutating", "validating"])
async def test_dry_run(server: RunningServer, client: Client, hooks: Webhooks, kind: Any) -> None:
    hooks.answers["/w"] = lambda _: {"allowed": True}
    await register(server, kind, "c", hooks.webhook("/w", sideEffects="NoneOnDryRun"))
    answer = await client.ask("POST", f"{MAPS}?dryRun=All", config_map())
    assert answer.status == 201
    request = hooks.last()
    assert (request["dryRun"], request["options"]["dryRun"]) == (True, ["All"])
    assert (await client.ask("GET", f"{MAPS}/a")).status == 404


# --------------------------------------------------------------------------------------------------------------- clients
async def test_a_service_and_its_endpoints(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    """By slices, of which one that is not ready is left out; the certificate is the service's."""
    ports = [{"name": "web", "port": 8443, "targetPort": "web"}]
    service = {"metadata": {"name": "hook"}, "spec": {"ports": ports, "clusterIP": "None"}}
    await client.ask("POST", "/api/v1/namespaces/default/services", service)
    where = {"namespace": "default", "name": "hook", "path": "/w", "port": 8443}
    config = {"service": where, "caBundle": hooks.ca_bundle}
    await register(server, VALIDATING, "c", hooks.webhook("/w", clientConfig=config))
    refused = await client.ask("POST", MAPS, config_map())
    assert refused.message.endswith(
        'Post "https://hook.default.svc:8443/w?timeout=5s": no endpoints available for service "hook"'
    )
    endpoints = [
        {"addresses": ["127.0.0.9"], "conditions": {"ready": False}},
        {"addresses": ["127.0.0.1"]},
    ]
    slice_ = {
        "metadata": {"name": "hook-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "web", "port": hooks.port, "protocol": "TCP"}],
    }  # fmt: skip
    await server.api.mirror.put(
        ENDPOINT_SLICE, slice_
    )  # past validation, which lets no loopback in
    await server.api.cache.fresh()
    assert (await client.ask("POST", MAPS, config_map())).status == 201
    assert hooks.requests[-1].host == "hook.default.svc:8443"
    where["port"] = 1
    change = {"webhooks": [hooks.webhook("/w", clientConfig=config)]}
    await client.ask("PATCH", f"{WEBHOOKS}/validatingwebhookconfigurations/c", change, MERGE)
    refused = await client.ask("POST", MAPS, config_map("b"))
    assert refused.message.endswith('no service port 1 found for service "hook"')


async def test_an_external_name(server: RunningServer, client: Client, hooks: Webhooks) -> None:
    spec = {"type": "ExternalName", "externalName": "localhost"}
    service = {"metadata": {"name": "hook"}, "spec": spec}
    await client.ask("POST", "/api/v1/namespaces/default/services", service)
    where = {"namespace": "default", "name": "hook", "path": "/w", "port": hooks.port}
    config = {"service": where, "caBundle": hooks.ca_bundle}
    await register(server, VALIDATING, "c", hooks.webhook("/w", clientConfig=config))
    assert (await client.ask("POST", MAPS, config_map())).status == 201
    assert hooks.paths() == ["/w"]


async def test_connections_are_kept(server: RunningServer, client: Client, hooks: Webhooks) -> None:
    await register(server, VALIDATING, "c", hooks.webhook("/a"), hooks.webhook("/b"))
    for number in range(10):
        await client.ask("POST", MAPS, config_map(f"m{number}"))
    assert len(hooks.asked) == 20
    assert len(hooks.sockets) == 2


async def test_many_writes_at_once(server: RunningServer, client: Client, hooks: Webhooks) -> None:
    hooks.answers["/w"] = label("x", "y")
    await register(server, MUTATING, "c", hooks.webhook("/w"))
    writes = [client.ask("POST", MAPS, config_map(f"m{number}")) for number in range(40)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(write) for write in writes]
    assert {task.result().status for task in tasks} == {201}
    listed = await client.ask("GET", f"{MAPS}?labelSelector=x%3Dy")
    assert len(listed.body["items"]) == 40


# ----------------------------------------------------------------------------------------------------------------- audit
@pytest.mark.parametrize("level", ["Metadata", "Request"])
async def test_the_audit_log_tells_of_webhooks(tmp_path: Path, hooks: Webhooks, level: str) -> None:
    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": level}]}
    rules = policy.read(json.dumps(document), "test")
    config = ServerConfig(audit=AuditConfig(str(tmp_path / "audit.log"), rules))
    hooks.answers |= {
        "/one": label("a", "b"),
        "/two": lambda _: {"allowed": True, "auditAnnotations": {"why": "because"}},
    }  # fmt: skip
    async with running_server(config=config) as server, client_of(server) as client:
        dead = {"clientConfig": {"url": "https://127.0.0.1:1/x"}, "failurePolicy": "Ignore"}
        await register(server, MUTATING, "m", hooks.webhook("/one"), hooks.webhook("/dead", **dead))
        await register(
            server, VALIDATING, "v", hooks.webhook("/two"), hooks.webhook("/gone", **dead)
        )
        await client.ask("POST", MAPS, config_map())
        await server.local.create(CONFIG_MAPS, config_map("local"), "default")
        assert server.api.auditor is not None
        await server.api.auditor.log.flush()
        lines = (tmp_path / "audit.log").read_text().splitlines()
    ends = [e for e in map(json.loads, lines) if e["stage"] == "ResponseComplete"]
    *_, event, local = [e for e in ends if e["requestURI"] == MAPS]
    assert local["userAgent"] == "system:apiserver"
    told = {k for k in local["annotations"] if not k.startswith("patch")}
    assert told == {k for k in event["annotations"] if not k.startswith("patch")}
    found = {k: v for k, v in event["annotations"].items() if not k.startswith("authorization")}
    mutated = found.pop("mutation.webhook.admission.k8s.io/round_0_index_0")
    assert json.loads(mutated) == {
        "configuration": "m", "webhook": "one.example.com", "mutated": True,
    }  # fmt: skip
    assert '"mutated":false' in found.pop("mutation.webhook.admission.k8s.io/round_0_index_1")
    changes = found.pop("patch.webhook.admission.k8s.io/round_0_index_0", None)
    assert (changes is not None) is (level == "Request")
    assert found == {
        "failed-open.mutation.webhook.admission.k8s.io/round_0_index_1": "dead.example.com",
        "failed-open.validation.webhook.admission.k8s.io/round_0_index_1": "gone.example.com",
        "two.example.com/why": "because",
    }

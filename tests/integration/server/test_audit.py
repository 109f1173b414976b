"""The audit log of a real server over HTTPS: what people, machines and our own controllers did, and never a secret."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from tests.support.apiserver import RunningServer, running_server

from machinery.api.apps import DEPLOYMENTS
from machinery.client.rest import RestClient
from machinery.meta.errors import StatusError
from machinery.meta.resource import ObjectKey
from machinery.server.audit import default, policy
from machinery.server.audit.config import AuditConfig
from machinery.server.config import ServerConfig

pytestmark = pytest.mark.integration
DEPLOYS = "/apis/apps/v1/namespaces/default/deployments"
PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"
SECRETS = "/api/v1/namespaces/default/secrets"
POD: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-"},
    "spec": {"containers": [{"name": "web", "image": "a:1"}]},
}  # fmt: skip
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": POD["spec"]},
    },
}  # fmt: skip
MERGE = "application/merge-patch+json"


class Audited:
    """A server and what its log says."""

    def __init__(self, server: RunningServer, path: Path) -> None:
        self.server, self.path = server, path

    async def events(self) -> list[dict[str, Any]]:
        """All so far that have to do with users of the tests; start-up is the server's own."""
        assert self.server.api.auditor is not None
        await self.server.api.auditor.log.flush()
        found = [json.loads(line) for line in self.path.read_bytes().splitlines()]
        return [e for e in found if e.get("userAgent") != "system:apiserver"]

    async def last(self) -> dict[str, Any]:
        return (await self.events())[-1]


def custom(*rules: dict[str, Any], **top: Any) -> policy.Policy:
    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **top}
    return policy.read(yaml.safe_dump(document), "test")


@asynccontextmanager
async def audited(
    folder: Path, rules: policy.Policy | None = None, **settings: Any
) -> AsyncIterator[Audited]:
    path = folder / "audit" / "audit.log"
    config = ServerConfig(audit=AuditConfig(str(path), rules or default.policy(), **settings))
    async with running_server(config=config) as server:
        yield Audited(server, path)


async def refused(work: Any) -> int:
    with pytest.raises(StatusError) as error:
        await work
    return error.value.status_code


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


async def grant(server: RunningServer, user: str) -> RestClient:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
    }  # fmt: skip
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    await server.rest.request("POST", path, body=body(binding))
    return server.rest_as(user, ("devs",))


# ------------------------------------------------------------------------------------------------------------ by default
async def test_who_deployed_what_when(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        alice = await grant(held.server, "alice")
        await alice.request("POST", DEPLOYS, body=body(DEPLOYMENT))
        created = await held.last()
        assert created["level"], created["stage"] == ("Metadata", "ResponseComplete")
        assert created["user"]["username"] == "alice"
        assert created["user"]["groups"] == ["devs", "system:authenticated"]
        assert created["sourceIPs"] == ["127.0.0.1"]
        assert created["responseStatus"] == {"metadata": {}, "code": 201}
        assert created["annotations"] == {
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason":
                'RBAC: allowed by ClusterRoleBinding "alice" of ClusterRole "edit" to User "alice"',
        }  # fmt: skip
        reference = dict(created["objectRef"])
        assert reference.pop("uid")
        assert reference == {
            "resource": "deployments", "namespace": "default", "name": "web",
            "apiGroup": "apps", "apiVersion": "v1",
        }  # fmt: skip
        assert "requestObject" not in created
        patch = body({"spec": {"replicas": 3}})
        await alice.request("PATCH", f"{DEPLOYS}/web", body=patch, content_type=MERGE)
        await alice.request("PATCH", f"{DEPLOYS}/web/scale", body=patch, content_type=MERGE)
        await alice.request("DELETE", f"{DEPLOYS}/web")
        events = (await held.events())[-3:]
        assert [(e["verb"], e["objectRef"].get("subresource")) for e in events] == [
            ("patch", None), ("patch", "scale"), ("delete", None),
        ]  # fmt: skip
        assert {e["objectRef"]["uid"] for e in (events[0], events[2])} == {
            created["objectRef"]["uid"]
        }


async def test_a_create_without_a_task_is_recorded_as_any_other(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        alice = await grant(held.server, "alice")
        await alice.request("GET", f"{PODS}")  # the handshake is over, the loop sleeps
        before = held.server.api.quick_write.begun
        made = json.loads(await alice.request("POST", PODS, body=body(POD)))
        quick = await held.last()
        assert held.server.api.quick_write.begun == before + 1
        made_too = json.loads(await alice.request("POST", f"{PODS}?dryRun=All", body=body(POD)))
        usual = await held.last()
        assert held.server.api.quick_write.begun == before + 1
        assert quick["objectRef"]["name"] == made["metadata"]["name"]
        assert quick["objectRef"]["uid"] == made["metadata"]["uid"]
        assert usual["objectRef"]["name"] == made_too["metadata"]["name"]
        own = {"auditID", "objectRef", "requestURI", "requestReceivedTimestamp", "stageTimestamp"}
        assert list(quick) == list(usual)
        assert {k: v for k, v in quick.items() if k not in own} == {
            k: v for k, v in usual.items() if k not in own
        }


async def test_reads_heartbeats_and_events_are_not_recorded(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        rest = held.server.rest
        await rest.request("POST", MAPS, body=body({"metadata": {"name": "one"}}))
        before = await held.events()
        lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
        leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
        await rest.request("POST", leases, body=body(lease))
        for path in (
            MAPS,
            f"{MAPS}/one",
            f"{MAPS}?watch=1&timeoutSeconds=1",
            "/version",
            "/healthz",
        ):
            await rest.request("GET", path)
        assert await held.events() == before


async def test_refusals_are_recorded(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        server = held.server
        eve = server.rest_as("eve")
        assert await refused(eve.request("POST", DEPLOYS, body=body(DEPLOYMENT))) == 403
        found = await held.last()
        assert found["responseStatus"]["code"] == 403
        assert found["responseStatus"]["reason"] == "Forbidden"
        assert (
            'User "eve" cannot create resource "deployments"' in found["responseStatus"]["message"]
        )
        assert found["annotations"]["authorization.k8s.io/decision"] == "forbid"
        nobody = server.rest_with_token("wrong")
        assert await refused(nobody.request("POST", DEPLOYS, body=body(DEPLOYMENT))) == 401
        found = await held.last()
        assert (found["stage"], found["user"]) == ("ResponseStarted", {})
        assert found["responseStatus"] == {
            "metadata": {}, "code": 401, "message": "Authentication failed, attempted: bearer",
        }  # fmt: skip
        assert (
            await refused(
                server.rest.request("PATCH", f"{DEPLOYS}/no", body=b"{}", content_type=MERGE)
            )
            == 404
        )
        assert (await held.last())["responseStatus"]["reason"] == "NotFound"
        await server.rest.request("POST", PODS, body=body({**POD, "metadata": {"name": "p"}}))
        assert (
            await refused(
                server.rest.request("POST", PODS, body=body({**POD, "metadata": {"name": "p"}}))
            )
            == 409
        )
        found = await held.last()
        assert found["responseStatus"]["reason"] == "AlreadyExists"
        assert found["objectRef"]["name"] == "p"


async def test_impersonation_tells_both(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        await grant(held.server, "bob")
        tls = held.server.tls()
        assert await post_as_bob(held.server, tls, "m") == 201
        found = await held.last()
        assert found["user"]["username"] == "kubernetes-admin"
        assert found["impersonatedUser"] == {
            "username": "bob", "groups": ["devs", "system:authenticated"],
        }  # fmt: skip
        eve = held.server.tls(held.server.api.client_pair("eve"))
        assert await post_as_bob(held.server, eve, "n") == 403
        found = await held.last()
        assert found["user"]["username"] == "eve"
        assert 'cannot impersonate resource "users"' in found["responseStatus"]["message"]
        assert "impersonatedUser" not in found


async def post_as_bob(server: RunningServer, tls: ssl.SSLContext, name: str) -> int:
    headers = {"Impersonate-User": "bob", "Impersonate-Group": "devs"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        sent = {"metadata": {"name": name}}
        async with session.post(server.api.url + MAPS, json=sent, headers=headers) as answer:
            return answer.status


async def test_no_secret_is_ever_in_the_file(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        rest, word = held.server.rest, "hunter2hunter2"
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s"},
            "stringData": {"p": word},
        }
        await rest.request("POST", SECRETS, body=body(secret))
        await rest.request("PUT", f"{SECRETS}/s", body=body(secret))
        await rest.request(
            "PATCH", f"{SECRETS}/s", body=body({"stringData": {"p": word}}), content_type=MERGE
        )
        bad = {**secret, "metadata": {"name": "t"}, "data": {"p": f"{word}!"}}
        assert await refused(rest.request("POST", SECRETS, body=body(bad))) == 400
        wrong = {**secret, "metadata": {"name": "t"}, "stringData": {word + "/": word}}
        assert await refused(rest.request("POST", SECRETS, body=body(wrong))) == 422
        review = {
            "kind": "TokenReview",
            "apiVersion": "authentication.k8s.io/v1",
            "spec": {"token": word},
        }
        await rest.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body=body(review))
        await refused(held.server.rest_with_token(word).request("POST", MAPS, body=b"{}"))
        assert len(await held.events()) >= 6
        text = held.path.read_text()
        assert word not in text
        assert "aHVudGVy" not in text


async def test_our_own_controllers_are_recorded_and_their_statuses_not(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        client = held.server.api.client(manager="deployer")
        await client.create(DEPLOYMENTS, DEPLOYMENT, "default")
        key = ObjectKey("default", "web")
        await client.patch(DEPLOYMENTS, key, {"spec": {"replicas": 2}})
        await client.patch(DEPLOYMENTS, key, {"status": {"replicas": 2}}, subresource="status")
        with pytest.raises(StatusError):
            await client.create(DEPLOYMENTS, DEPLOYMENT, "default")
        await client.delete(DEPLOYMENTS, key)
        found = [e for e in await held.events() if e["userAgent"] == "deployer"]
        assert [(e["verb"], e["responseStatus"]["code"]) for e in found] == [
            ("create", 201), ("patch", 200), ("create", 409), ("delete", 200),
        ]  # fmt: skip
        assert {e["requestURI"] for e in found} == {DEPLOYS, f"{DEPLOYS}/web"}
        assert {e["objectRef"]["name"] for e in found} == {"web"}
        assert {e["user"]["username"] for e in found} == {"system:apiserver"}


# ------------------------------------------------------------------------------------------------------------ policies
async def test_bodies_by_level(tmp_path: Path) -> None:
    rules = custom(
        {"level": "Request", "resources": [{"group": "", "resources": ["configmaps"]}]},
        {"level": "RequestResponse", "resources": [{"group": ""}], "omitManagedFields": True},
        omitStages=["RequestReceived"],
    )
    async with audited(tmp_path, rules) as held:
        rest = held.server.rest
        sent = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "m"},
            "data": {"a": "b"},
        }
        await rest.request("POST", MAPS, body=body(sent))
        found = await held.last()
        assert found["requestObject"] == sent
        assert "responseObject" not in found
        await rest.request(
            "PATCH", f"{MAPS}/m", body=body({"data": {"a": "c"}}), content_type=MERGE
        )
        assert (await held.last())["requestObject"] == {"data": {"a": "c"}}
        await rest.request("DELETE", f"{MAPS}/m", body=body({"propagationPolicy": "Background"}))
        assert (await held.last())["requestObject"]["propagationPolicy"] == "Background"
        await rest.request("POST", PODS, body=body(POD))
        found = await held.last()
        assert found["requestObject"]["metadata"] == {"generateName": "web-"}
        assert found["responseObject"]["metadata"]["name"] == found["objectRef"]["name"]
        assert "managedFields" not in found["responseObject"]["metadata"]
        await rest.request("GET", PODS)
        assert (await held.last())["responseObject"]["kind"] == "PodList"
        assert await refused(rest.request("GET", f"{PODS}/none")) == 404
        assert (await held.last())["responseObject"]["reason"] == "NotFound"


async def test_a_get_that_is_to_be_recorded_is_not_answered_at_once(tmp_path: Path) -> None:
    async with audited(
        tmp_path, custom({"level": "Metadata", "omitStages": ["RequestReceived"]})
    ) as held:
        rest = held.server.rest
        await rest.request("POST", MAPS, body=body({"metadata": {"name": "m"}}))
        await rest.request("GET", f"{MAPS}/m")
        found = await held.last()
        assert (found["verb"], found["objectRef"]["name"]) == ("get", "m")
        assert held.server.api.quick.answered == 0


async def test_stages_of_plain_and_long_requests(tmp_path: Path) -> None:
    async with audited(tmp_path, custom({"level": "Metadata"})) as held:
        rest = held.server.rest
        await rest.request("GET", MAPS)
        await rest.request("GET", f"{MAPS}?watch=1&timeoutSeconds=1")
        stages = [(e["verb"], e["stage"], e["auditID"]) for e in await held.events()]
        assert [stage[:2] for stage in stages] == [
            ("list", "RequestReceived"), ("list", "ResponseComplete"),
            ("watch", "RequestReceived"), ("watch", "ResponseStarted"), ("watch", "ResponseComplete"),
        ]  # fmt: skip
        assert len({stage[2] for stage in stages}) == 2


async def test_clients_are_told_the_id_and_may_choose_it(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        server = held.server
        await server.rest.request("POST", MAPS, body=body({"metadata": {"name": "m"}}))
        tls = server.tls()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.api.port, ssl=tls)

        async def head(method: str, path: str, *lines: str, sent: bytes = b"") -> str:
            length = [f"Content-Length: {len(sent)}"] if sent else []
            writer.write(
                "\r\n".join(
                    [f"{method} {path} HTTP/1.1", "Host: x", *lines, *length, "", ""]
                ).encode()
                + sent
            )
            found = (await reader.readuntil(b"\r\n\r\n")).decode()
            if "chunked" in found:
                await reader.readuntil(b"0\r\n\r\n")
            else:
                size = int(found.lower().partition("content-length: ")[2].split("\r\n")[0])
                await reader.readexactly(size)
            return next((line for line in found.split("\r\n") if line.startswith("Audit-Id: ")), "")

        ids = [await head("GET", f"{MAPS}/m") for _ in range(3)]
        ids.append(await head("GET", MAPS))
        ids.append(await head("GET", f"{MAPS}/none"))
        ids.append(await head("GET", f"{MAPS}?watch=1&timeoutSeconds=1"))
        assert all(len(line) == len("Audit-Id: ") + 36 for line in ids), ids
        assert len(set(ids)) == len(ids)
        assert await head("GET", f"{MAPS}/m", "Audit-ID: mine") == "Audit-Id: mine"
        sent = body({**POD, "metadata": {"name": "p"}})
        assert (
            await head(
                "POST", PODS, "Audit-ID: create", "Content-Type: application/json", sent=sent
            )
            == "Audit-Id: create"
        )
        assert [e["auditID"] for e in await held.events()][-1:] == ["create"]
        writer.close()


async def test_the_metrics_count(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        await held.server.rest.request("POST", MAPS, body=body({"metadata": {"name": "m"}}))
        written = len(await held.events())
        text = (await held.server.rest.request("GET", "/metrics")).decode()
        told = next(
            line for line in text.splitlines() if line.startswith("apiserver_audit_event_total ")
        )
        assert int(told.split()[1]) >= written > 0
        assert 'apiserver_audit_error_total{plugin="log"} 0' in text


async def test_what_is_under_way_is_in_the_file_when_the_server_has_stopped(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        await held.server.rest.request("POST", MAPS, body=body({"metadata": {"name": "m"}}))
    last = json.loads(held.path.read_bytes().splitlines()[-1])
    assert last["objectRef"]["name"] == "m"


async def test_without_an_audit_log_there_is_no_trace_of_it(tmp_path: Path) -> None:
    async with running_server() as server:
        assert server.api.auditor is None
        text = (await server.rest.request("GET", "/metrics")).decode()
        assert "audit" not in text


# ------------------------------------------------------------------------------------------------------------ fedctl
Fedctl = Callable[..., "subprocess.CompletedProcess[str]"]


async def test_fedctl_tells_who_deployed_what(tmp_path: Path) -> None:
    async with audited(tmp_path) as held:
        alice = await grant(held.server, "alice")
        await alice.request("POST", DEPLOYS, body=body(DEPLOYMENT))
        assert await refused(held.server.rest_as("eve").request("DELETE", f"{DEPLOYS}/web")) == 403
    command = [sys.executable, "-m", "federation.cli", "audit", "--data-dir", str(tmp_path)]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "deploy/web", "-n", "default"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    heading, first, second = done.stdout.splitlines()
    assert heading.split() == ["WHEN", "WHO", "VERB", "WHAT", "RESULT"]
    assert first.split()[1:] == ["alice", "create", "deployments/web", "-n", "default", "201"]
    assert second.split()[1:6] == ["eve", "delete", "deployments/web", "-n", "default"]
    assert "403 Forbidden" in second

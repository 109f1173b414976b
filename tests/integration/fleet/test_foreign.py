"""A cluster that is not ours, made a member by `cluster-agent link`: our own control plane as the foreign one, with a user that has
only the rights that `--print-rbac` prints, or fewer."""

import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import websockets
import yaml
from tests.integration.node.clusters import eventually, node
from websockets.typing import Subprotocol

from cluster_agent.cli import ControlFile, foreign_config, parser, start_control
from cluster_agent.link.foreign import Foreign
from cluster_agent.link.foreign_rights import ACCOUNT, NAMESPACE, manifest
from cluster_agent.node.config import NodeConfig
from federation.app import FederationServer
from federation.clusters import bootstrap
from federation.clusters.commands import Command, Outcome, PodCommands
from federation.clusters.links import Links
from federation.config import FederationConfig
from federation.propagation.templates import DEPLOYMENTS, SERVICES
from machinery.api.core import PODS, Pod
from machinery.api.fleet.cluster import CLUSTERS, READY, Cluster
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.api.fleet.work import RESOURCE_BINDINGS, WORK_DOCUMENTS
from machinery.client import kubeconfig
from machinery.client.interface import Client, DeleteOptions, dynamic
from machinery.client.rest import RestClient
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import (
    AlreadyExists,
    Forbidden,
    NotFound,
    ServiceUnavailable,
    StatusError,
)
from machinery.meta.objectmeta import condition, is_true
from machinery.meta.resource import Document, ObjectKey
from machinery.server.pki import client_context
from machinery.server.user import MASTERS

pytestmark = [pytest.mark.integration, pytest.mark.slow]
EDGE = ObjectKey("", "edge")
ACCOUNTS = dynamic("", "v1", "serviceaccounts", "ServiceAccount", True)
NAMESPACES = dynamic("", "v1", "namespaces", "Namespace", False)
RBAC = {
    kind: dynamic("rbac.authorization.k8s.io", "v1", kind.lower() + "s", kind, "Cluster" not in kind)
    for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
}  # fmt: skip
CLOCK, IDS = SystemClock(), SystemIds()


@dataclass
class Scene:
    federation: Client
    admin: RestClient
    """The federation's administrator, over HTTP."""
    url: str
    ca: str
    foreign: Client
    """The foreign cluster's administrator."""
    agent: Foreign
    tls: object
    links: Links

    async def cluster(self) -> Cluster | None:
        try:
            return await self.federation.get(CLUSTERS, EDGE)
        except NotFound:
            return None

    async def condition(self, kind: str) -> tuple[str, str, str]:
        found = await self.cluster()
        held = condition(found.status.conditions, kind) if found is not None else None
        return (held.status, held.reason, held.message) if held is not None else ("", "", "")

    async def shown(self) -> list[Pod]:
        """Ready pods of the foreign cluster in namespace demo, as the federation shows them."""
        pods = (await self.federation.list(PODS, "demo")).items
        return [p for p in pods if is_true(p.status.conditions, READY)]


Cut = Callable[[list[Document]], list[Document]]


async def grant(foreign: Client, cut: Cut) -> None:
    """What `kubectl apply -f -` makes of the printed manifest."""
    resources = {**RBAC, "Namespace": NAMESPACES, "ServiceAccount": ACCOUNTS}
    for document in cut(manifest()):
        if document["kind"] in resources:
            try:
                await foreign.create(resources[document["kind"]], document)
            except AlreadyExists:
                continue


async def write_kubeconfig(folder: Path, url: str, ca: bytes, foreign: Client) -> Path:
    """As README says it: the account's token, in a file."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = await foreign.create(ACCOUNTS, review, NAMESPACE, name=ACCOUNT, subresource="token")
    (folder / "token").write_text(answer["status"]["token"])
    access = kubeconfig.Access(url, ca, token_file=str(folder / "token"))
    kubeconfig.write(folder / "edge.kubeconfig", kubeconfig.document("edge", access))
    return folder / "edge.kubeconfig"


@asynccontextmanager
async def scene(folder: Path, cut: Cut = lambda documents: documents) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        settings = FederationConfig(dataDir=str(folder / "federation"), listen=("127.0.0.1:0",))
        federation = FederationServer(settings, CLOCK, IDS)
        server = await federation.start()
        stack.push_async_callback(federation.stop)
        home = str(folder / "edge")
        control, _ = await start_control(ControlFile("edge", home, listen=("127.0.0.1:0",)))
        stack.push_async_callback(control.stop)
        api = control.server
        assert api is not None
        foreign = api.client(manager="test")
        await stack.enter_async_context(node(hollow(api.url, folder)))
        await grant(foreign, cut)
        config = await write_kubeconfig(folder, api.url, api.ca_pem.encode(), foreign)
        group = bootstrap.cluster_groups("edge")
        client = server.client(manager="test")
        token = await bootstrap.mint(client, group, dt.timedelta(hours=1), "t", CLOCK, IDS)
        (folder / "join-token").write_text(str(token))
        (folder / "federation-ca.crt").write_text(server.ca_pem)
        agent = Foreign(foreign_config(words(folder, config, server.url)), CLOCK, IDS)
        agent.start()
        stack.push_async_callback(agent.stop)
        tls = client_context(server.ca_pem, server.client_pair("kubernetes-admin", (MASTERS,)))
        admin = RestClient(server.url, tls)
        stack.push_async_callback(admin.close)
        links = federation.links
        yield Scene(client, admin, server.url, server.ca_pem, foreign, agent, tls, links)


def hollow(url: str, folder: Path) -> NodeConfig:
    return NodeConfig(
        node_name="n1",
        state_dir=str(folder / "node"),
        api_server=url,
        ca_file=str(folder / "edge" / "pki" / "ca.crt"),
        kubeconfig=str(folder / "edge" / "admin.kubeconfig"),
        runtime="hollow",
        kubelet_port=0,
        health_port=0,
        hollow_sandbox_s=0.02,
        hollow_start_s=0.02,
    )


def words(folder: Path, config: Path, url: str):
    return parser().parse_args(
        [
            "link", "--kubeconfig", str(config), "--cluster", "edge", "--federation", url,
            "--token-file", str(folder / "join-token"), "--ca-file", str(folder / "federation-ca.crt"),
            "--provider", "acme", "--region", "region-9", "--zone", "zone-x,zone-y",
            "--data-dir", str(folder / "agent"),
        ]
    )  # fmt: skip


def deployment(name: str, replicas: int) -> Document:
    labels = {"app": name}
    pod = {"containers": [{"name": "c", "image": "docker.io/lab/whoami:1"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


async def apply(scene: Scene, *documents: Document) -> None:
    await scene.federation.create(
        NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
    )
    for document in documents:
        await scene.federation.create(DEPLOYMENTS, document)


async def run(scene: Scene, pod: str, *command: str) -> bytes:
    """`kubectl exec` through the federation."""
    query = "&".join(["stdout=true", "stderr=true", *(f"command={part}" for part in command)])
    path = f"/api/v1/namespaces/demo/pods/{pod}/exec?{query}"
    said = b""
    async with websockets.connect(
        scene.url.replace("https", "wss") + path,
        ssl=scene.tls,
        subprotocols=[Subprotocol("v5.channel.k8s.io")],
        proxy=None,
    ) as channel:
        async for message in channel:
            if isinstance(message, bytes) and message[:1] == b"\x01":
                said += message[1:]
    return said


async def test_a_foreign_cluster_is_a_member_with_no_more_rights_than_are_printed(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as fleet:
        cluster = await eventually(lambda: _ready(fleet), wait_s=60)
        assert (cluster.spec.provider, cluster.spec.region) == ("acme", "region-9")
        assert cluster.spec.zones == ("zone-x", "zone-y")
        assert cluster.status.kubernetes_version.startswith("v1.")
        kinds = {
            (e.group_version, r.kind) for e in cluster.status.api_enablements for r in e.resources
        }
        assert ("apps/v1", "Deployment") in kinds
        assert (await fleet.condition("GrantsEnforced"))[:2] == ("False", "ForeignKubelets")
        assert (await fleet.condition("MemberAPI"))[0] == "True"
        assert await eventually(lambda: fleet.condition("MemberRights")) == (
            "True", "Complete", "The agent's user has every right",
        )  # fmt: skip

        service: Document = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "demo"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }
        await apply(fleet, deployment("web", 2))
        await fleet.federation.create(SERVICES, service)
        pods = await eventually(lambda: _count(fleet, 2))
        name = pods[0].metadata.name
        assert name.endswith(".edge")
        await eventually(lambda: fleet.foreign.get(SERVICES, ObjectKey("demo", "web")))
        logs = await fleet.admin.request("GET", f"/api/v1/namespaces/demo/pods/{name}/log")
        assert b"no process runs here" in logs
        assert b"asked for: echo there" in await run(fleet, name, "echo", "there")
        with pytest.raises(ServiceUnavailable, match="lookup tcp/none: unknown port"):
            await fleet.admin.request("GET", f"/api/v1/namespaces/demo/pods/{name}:none/proxy/")

        gone = pods[0].metadata.uid
        await fleet.admin.delete(
            PODS, ObjectKey("demo", name), DeleteOptions(grace_period_seconds=0)
        )
        await eventually(lambda: _replaced(fleet, gone))

        await fleet.federation.delete(DEPLOYMENTS, ObjectKey("demo", "web"))
        await eventually(lambda: _none(fleet))


async def _ready(fleet: Scene) -> Cluster | None:
    found = await fleet.cluster()
    linked = found is not None and is_true(found.status.conditions, READY)
    told = found is not None and condition(found.status.conditions, "MemberRights") is not None
    return found if linked and told else None


async def _count(fleet: Scene, wanted: int) -> list[Pod]:
    pods = await fleet.shown()
    return pods if len(pods) == wanted else []


async def _replaced(fleet: Scene, gone: str) -> bool:
    pods = await fleet.shown()
    return len(pods) == 2 and gone not in {p.metadata.uid for p in pods}


async def _none(fleet: Scene) -> bool:
    return not (await fleet.foreign.list(PODS, "demo")).items


def policy(**spec: object) -> Document:
    selector = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "once"}
    return {
        "apiVersion": RESILIENCE_POLICIES.api_version,
        "kind": "ResiliencePolicy",
        "metadata": {"name": "once", "namespace": "demo"},
        "spec": {"resourceSelectors": [selector], **spec},
    }


async def test_what_runs_on_grants_is_not_placed_where_no_kubelet_enforces_them(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as fleet:
        await eventually(lambda: _ready(fleet), wait_s=60)
        await apply(fleet)
        await fleet.federation.create(RESILIENCE_POLICIES, policy(mode="consistency"))
        await fleet.federation.create(DEPLOYMENTS, deployment("once", 1))

        async def refused() -> str:
            key = ObjectKey("demo", "once-deployment")
            binding = await _or_none(fleet.federation, RESOURCE_BINDINGS, key)
            held = condition(binding.status.conditions, "Scheduled") if binding else None
            return held.message if held is not None and held.status == "False" else ""

        assert "ubernetes.io/grants-enforced" in await eventually(refused)
        assert not (await fleet.foreign.list(DEPLOYMENTS)).items


async def _or_none(client: Client, resource, key: ObjectKey):
    try:
        return await client.get(resource, key)
    except NotFound:
        return None


def lacking(documents: list[Document]) -> list[Document]:
    """The owner left out Deployments and speaking for others."""
    kept = []
    for document in documents:
        if document["kind"] == "ClusterRole" and document["metadata"]["name"] == "ubernetes:link":
            rules = [
                rule
                for rule in document["rules"]
                if "deployments" not in rule["resources"] and rule["verbs"] != ["impersonate"]
            ]
            document = document | {"rules": rules}
        kept.append(document)
    return kept


async def test_rights_that_are_missing_are_named_where_people_look(tmp_path: Path) -> None:
    async with scene(tmp_path, lacking) as fleet:
        await eventually(lambda: _ready(fleet), wait_s=60)

        async def told() -> str:
            status, _, message = await fleet.condition("MemberRights")
            return message if status == "False" else ""

        message = await eventually(told)
        assert "get, list, watch, create, patch, delete deployments.apps" in message
        assert "impersonate groups ubernetes:federation-masters" in message
        assert "configmaps" not in message

        await apply(fleet, deployment("web", 1))

        async def failed() -> str:
            works = await fleet.federation.list(WORK_DOCUMENTS, "karmada-es-edge")
            texts = [
                c["message"]
                for work in works.items
                for c in (work.get("status") or {}).get("conditions") or ()
                if c["status"] == "False"
            ]
            return next((t for t in texts if "deployments" in t), "")

        assert 'User "system:serviceaccount:ubernetes-link:link" cannot' in await eventually(failed)

        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "local", "namespace": "demo"},
            "spec": {"containers": [{"name": "c", "image": "docker.io/lab/whoami:1"}]},
        }
        await eventually(lambda: _or_none(fleet.foreign, NAMESPACES, ObjectKey("", "demo")))
        await eventually(lambda: _or_none(fleet.foreign, ACCOUNTS, ObjectKey("demo", "default")))
        await fleet.foreign.create(PODS, pod)
        await eventually(lambda: _count(fleet, 1))
        with pytest.raises(Forbidden) as caught:
            await fleet.admin.request("GET", "/api/v1/namespaces/demo/pods/local.edge/log")
        assert "cannot impersonate" in str(caught.value)


async def test_a_cluster_that_shows_no_nodes_is_not_introduced(tmp_path: Path) -> None:
    async with scene(tmp_path, lambda documents: documents[:2]) as fleet:
        await eventually(lambda: fleet.agent._refused)
        assert await fleet.cluster() is None
        assert fleet.agent.link is None
        await grant(fleet.foreign, lambda documents: documents[2:])
        await eventually(lambda: _ready(fleet), wait_s=60)


async def test_an_api_server_that_is_away_is_said_so_to_who_asks(tmp_path: Path) -> None:
    async with scene(tmp_path) as fleet:
        await eventually(lambda: _ready(fleet), wait_s=60)
        await apply(fleet, deployment("web", 1))
        name = (await eventually(lambda: _count(fleet, 1)))[0].metadata.name
        fleet.agent._proxy._access = kubeconfig.Access("https://127.0.0.1:1")
        await fleet.agent._proxy.close()
        with pytest.raises(StatusError) as caught:
            await fleet.admin.request("GET", f"/api/v1/namespaces/demo/pods/{name}/log")
        assert (caught.value.code, "not reached by its agent" in str(caught.value)) == (503, True)


def test_the_manifest_is_what_kubectl_takes(capsys: pytest.CaptureFixture[str]) -> None:
    from cluster_agent.cli import main

    assert main(["link", "--print-rbac", "--impersonate-user", "jane"]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    assert documents == manifest(["jane"])


async def test_commands_run_over_the_link_where_the_cluster_lets_them(tmp_path: Path) -> None:
    async with scene(tmp_path) as fleet:
        await eventually(lambda: _ready(fleet), wait_s=60)
        await apply(fleet, deployment("web", 2))
        await eventually(lambda: _count(fleet, 2))
        commands = PodCommands(fleet.links)
        save = Command("edge", "demo", {"app": "web"}, ("save", "--to=a b"))
        refused = await commands(save)
        assert refused == Outcome(
            False,
            "the member refused it with 403: its agent's user may not create pods/exec there",
        )
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "checkpoints"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
        }  # fmt: skip
        await fleet.foreign.create(RBAC["ClusterRoleBinding"], role)
        found = await commands(save)
        assert found.ok, found
        assert "asked for: save --to=a b" in found.message
        nobody = await commands(Command("edge", "demo", {"app": "other"}, ("save",)))
        assert nobody == Outcome(False, "no ready pod is there")
        wrong = Command("edge", "demo", {"app": "web"}, ("save",), container="other")
        assert not (await commands(wrong)).ok
        away = await commands(Command("nowhere", "demo", {"app": "web"}, ("save",)))
        assert away == Outcome(False, 'cluster "nowhere" is not connected')

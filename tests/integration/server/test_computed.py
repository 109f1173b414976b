"""Kinds whose objects are made when they are asked for: forms, selectors, verbs, discovery, rights, the in-process client."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest
from tests.support.apiserver import RunningServer, running_server

from machinery.api.kinds import BUILTIN
from machinery.api.metrics_kinds import METRICS
from machinery.client.interface import ListOptions, dynamic
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey
from machinery.server import bootstrap
from machinery.server.app import Extensions
from machinery.server.cache import Selection
from machinery.server.computed import Computed
from machinery.server.config import ServerConfig
from machinery.server.pki import client_context
from machinery.server.user import UserInfo

pytestmark = pytest.mark.integration
ROOT, VIEWER, NOBODY = "tok-root", "tok-viewer", "tok-nobody"
CONFIG = ServerConfig(
    static_tokens=(
        (ROOT, UserInfo("root", ("system:masters",))),
        (VIEWER, UserInfo("vera", ("system:authenticated",))),
        (NOBODY, UserInfo("nora", ("system:authenticated",))),
    )
)
BASE = "/apis/metrics.k8s.io/v1beta1"
PODS = dynamic("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", True)
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def pod(namespace: str, name: str, *usages: tuple[str, str], **labels: str) -> Document:
    containers = [
        {"name": f"c{number}", "usage": {"cpu": cpu, "memory": memory}}
        for number, (cpu, memory) in enumerate(usages)
    ]
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    head = {"kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata}
    return head | {
        "timestamp": "2026-01-01T00:00:00Z",
        "window": "15s",
        "containers": containers,
    }


class Given:
    """A source with fixed objects."""

    def __init__(self, items: Sequence[Document], warnings: Sequence[str] = ()) -> None:
        self.items, self.warnings = items, warnings
        self.asked: list[Selection] = []

    async def get(self, namespace: str, name: str) -> Document | None:
        for item in self.items:
            if (item["metadata"].get("namespace"), item["metadata"]["name"]) == (namespace, name):
                return item
        return None

    async def list(self, selection: Selection) -> Computed:
        self.asked.append(selection)
        return Computed(self.items, self.warnings)


PODS_GIVEN = Given(
    [
        pod("demo", "b", ("250m", "3Mi"), ("1500n", "1Mi"), app="web"),
        pod("demo", "a", ("1", "64Mi"), app="db"),
        pod("other", "a", ("0", "0"), app="web"),
    ],
    ['beta is "away"'],
)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    computed = {("metrics.k8s.io", "pods"): PODS_GIVEN}
    extensions = Extensions(computed=computed, bootstrap=[bootstrap.metrics_reader()])
    kinds = (*BUILTIN, *METRICS)
    async with running_server(config=CONFIG, extensions=extensions, kinds=kinds) as running:
        yield running


async def ask(
    server: RunningServer, path: str, token: str = ROOT, **headers: str
) -> tuple[int, Any, Any]:
    """Status, body, headers."""
    headers = {"Authorization": f"Bearer {token}"} | headers
    async with (
        aiohttp.ClientSession(server.api.url, headers=headers) as session,
        session.get(path, ssl=client_context(server.api.ca_pem)) as answer,
    ):
        body = await answer.json(content_type=None)
        return answer.status, body, answer.headers


def names(body: Document) -> list[str]:
    return [f"{i['metadata']['namespace']}/{i['metadata']['name']}" for i in body["items"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("/pods", ["demo/a", "demo/b", "other/a"], id="everywhere, in order"),
        pytest.param("/namespaces/demo/pods", ["demo/a", "demo/b"], id="one namespace"),
        pytest.param("/pods?labelSelector=app=web", ["demo/b", "other/a"], id="labels"),
        pytest.param("/pods?labelSelector=app!=web", ["demo/a"], id="labels, negated"),
        pytest.param("/pods?fieldSelector=metadata.name=a", ["demo/a", "other/a"], id="name"),
        pytest.param("/pods?fieldSelector=metadata.namespace!=demo", ["other/a"], id="field"),
    ],
)
async def test_lists(server: RunningServer, query: str, found: list[str]) -> None:
    status, body, _ = await ask(server, BASE + query)
    assert (status, body["kind"], names(body)) == (200, "PodMetricsList", found)
    assert "resourceVersion" not in body["metadata"]
    assert all("kind" not in item for item in body["items"])


async def test_a_list_warns_of_what_is_missing(server: RunningServer) -> None:
    _, _, headers = await ask(server, f"{BASE}/pods")
    assert headers["Warning"] == '299 - "beta is \\"away\\""'


async def test_one(server: RunningServer) -> None:
    status, body, _ = await ask(server, f"{BASE}/namespaces/demo/pods/b")
    assert (status, body) == (200, PODS_GIVEN.items[0])
    status, body, _ = await ask(server, f"{BASE}/namespaces/demo/pods/zz")
    assert (status, body["message"]) == (404, 'pods.metrics.k8s.io "zz" not found')


async def test_a_table_sums_containers_up(server: RunningServer) -> None:
    _, body, _ = await ask(server, f"{BASE}/namespaces/demo/pods", Accept=TABLE)
    assert [c["name"] for c in body["columnDefinitions"]] == ["Name", "cpu", "memory", "Window"]
    rows = [row["cells"] for row in body["rows"]]
    assert rows == [["a", "1", "64Mi", "15s"], ["b", "250001500n", "4Mi", "15s"]]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param(f"{BASE}/pods?watch=1", 405, id="no watch"),
        pytest.param(f"{BASE}/nodes", 404, id="a kind without a source"),
        pytest.param(f"{BASE}/pods?fieldSelector=spec.nodeName=x", 400, id="unknown field"),
        pytest.param(f"{BASE}/pods?labelSelector=a==", 200, id="an empty value"),
        pytest.param(f"{BASE}/pods?labelSelector=a)", 400, id="no selector"),
    ],
)
async def test_refusals(server: RunningServer, path: str, status: int) -> None:
    assert (await ask(server, path))[0] == status


async def test_discovery_says_what_there_is(server: RunningServer) -> None:
    _, body, _ = await ask(server, BASE)
    rows = {row["name"]: row for row in body["resources"]}
    assert rows["pods"] == {
        "name": "pods",
        "singularName": "",
        "namespaced": True,
        "kind": "PodMetrics",
        "verbs": ["get", "list"],
    }
    assert not rows["nodes"]["namespaced"]
    _, api, _ = await ask(server, f"/openapi/v3/{BASE[1:]}")
    schema = api["components"]["schemas"]["io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics"]
    assert set(schema["required"]) == {"timestamp", "window", "containers"}


async def test_whoever_may_view_may_see_metrics(server: RunningServer) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "vera", "namespace": "demo"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "vera"}],
    }
    bindings = dynamic("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", True)
    namespaces = dynamic("", "v1", "namespaces", "Namespace", False)
    await server.local.create(namespaces, {"metadata": {"name": "demo"}})
    await server.local.create(bindings, binding, "demo")
    path = f"{BASE}/namespaces/demo/pods"
    assert (await ask(server, path, VIEWER))[0] == 200
    assert (await ask(server, f"{BASE}/pods", VIEWER))[0] == 403
    assert (await ask(server, path, NOBODY))[0] == 403


async def test_the_client_in_the_process(server: RunningServer) -> None:
    listed = await server.local.list(PODS, "demo", ListOptions("app=web"))
    assert [item["metadata"]["name"] for item in listed.items] == ["b"]
    assert listed.warnings == ['beta is "away"']
    assert (await server.local.get(PODS, ObjectKey("demo", "a")))["window"] == "15s"
    with pytest.raises(NotFound):
        await server.local.get(PODS, ObjectKey("demo", "zz"))

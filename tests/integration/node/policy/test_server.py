"""A member's API server and a node's own rights: what is written there is what the node enforces."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.unit.node.policy.packets import Packet, passes

from cluster_agent.node.policy.enforcer import Enforcer, PolicyConfig
from cluster_agent.node.policy.inputs import PolicyFeed
from cluster_agent.node.policy.layout import TABLE
from cluster_agent.node.policy.model import Ruleset
from cluster_agent.node.proxy.nft_memory import MemoryNft
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.client.interface import dynamic
from machinery.kit.clock import SystemClock
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import Forbidden, Invalid
from machinery.meta.resource import Document, ObjectKey

pytestmark = pytest.mark.integration
POLICIES = dynamic("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True)
PODS = dynamic("", "v1", "pods", "Pod", True)
WEB, OTHER = "10.1.0.2", "10.1.1.3"


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(kinds=(*BUILTIN, *RUN_BY_MEMBERS)) as running:
        yield running


def policy(name: str, **spec: Any) -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, **spec},
    }


async def add_pod(server: RunningServer, name: str, node: str, ip: str) -> None:
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "x", "ports": [{"name": "http", "containerPort": 8080}]}]}  # fmt: skip
    metadata = {"name": name, "namespace": "default", "labels": {"app": name}}
    _ = await server.rest.create(
        PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, "default"
    )
    status = {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}
    _ = await server.rest.patch(PODS, ObjectKey("default", name), status, subresource="status")


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


async def test_a_node_enforces_what_is_written(server: RunningServer) -> None:
    node = server.rest_as("system:node:here", ["system:nodes"])
    await add_pod(server, "web", "here", WEB)
    await add_pod(server, "other", "there", OTHER)
    clock = SystemClock()
    enforcer = Enforcer(PolicyConfig("here", debounce_s=0.0), clock, nft=MemoryNft(TABLE))
    feed = PolicyFeed(enforcer, node, clock)
    tasks = TaskOwner()
    for work in (enforcer.run_forever(), feed.run()):
        _ = tasks.spawn(work, "policies")

    def hears(source: str, port: int = 8080) -> bool:
        return passes(enforcer.table.held or Ruleset(), Packet(source, WEB, port))

    try:
        _ = await server.rest.create(POLICIES, policy("closed"), "default")
        await until(lambda: not hears(OTHER))
        spaces = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}
        rule = {"from": [spaces], "ports": [{"port": "http"}]}
        _ = await server.rest.create(POLICIES, policy("open", ingress=[rule]), "default")
        await until(lambda: hears(OTHER))
        assert not hears(OTHER, 81)
        assert not hears("192.0.2.1")
        _ = await server.rest.delete(POLICIES, ObjectKey("default", "closed"))
        _ = await server.rest.delete(POLICIES, ObjectKey("default", "open"))
        await until(lambda: hears("192.0.2.1"))
        with pytest.raises(Forbidden):
            _ = await node.create(POLICIES, policy("mine"), "default")
    finally:
        await tasks.close()
        await enforcer.close()


async def test_a_member_fills_in_and_judges_policies_as_upstream(server: RunningServer) -> None:
    made = await server.rest.create(
        POLICIES, policy("p", egress=[{"ports": [{"port": 53}]}]), "default"
    )
    assert made["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert made["spec"]["egress"] == [{"ports": [{"port": 53, "protocol": "TCP"}]}]
    assert made["metadata"]["generation"] == 1
    both = {"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}
    with pytest.raises(Invalid, match="may not specify both ipBlock and another peer"):
        _ = await server.rest.create(POLICIES, policy("q", ingress=[{"from": [both]}]), "default")

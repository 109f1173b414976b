"""Which nodes become gateways, how ways to peers are summed up, and when it is written."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from cluster_agent.link.clusterset import NODE_LEASES
from cluster_agent.link.network import (
    ANSWER_S,
    OBSERVED_S,
    RETRY_S,
    WITNESS_S,
    Network,
    Site,
    gateways,
    peers,
    site_of,
    status,
)
from machinery.api.coordination import LEASES
from machinery.api.core import NODES, Node
from machinery.api.fleet.multicluster import (
    CLUSTER_NETWORKS,
    DIRECT,
    GATEWAY,
    GATEWAY_NODE,
    PEERS,
    UNREACHABLE,
    GatewayAddress,
    Peer,
)
from machinery.client.informer import Informer
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import Document, ObjectKey

SELF = ObjectKey("", "alpha")


def site(name: str, *, ready: bool = True, zone: str = "a", runs: bool = True, **ways: str) -> Site:
    gateway = GatewayAddress(name, f"10.0.0.{name[-1]}") if runs else None
    return Site(name, ready, zone, gateway, None, tuple(Peer(c, w) for c, w in ways.items()))


@pytest.mark.parametrize(
    ("sites", "chosen", "expected"),
    [
        ([], [], []),
        ([site("n1")], [], ["n1"]),
        ([site("n3"), site("n2"), site("n1")], [], ["n1", "n2"]),
        ([site("n1"), site("n2"), site("n3")], ["n3"], ["n1", "n3"]),
        ([site("n1"), site("n2"), site("n3")], ["n2", "n3"], ["n2", "n3"]),
        ([site("n1"), site("n2", ready=False), site("n3")], ["n2"], ["n1", "n3"]),
        ([site("n1", ready=False), site("n2")], [], ["n1", "n2"]),
        ([site("n1", runs=False), site("n2")], ["n1"], ["n2"]),
        ([site("n1"), site("n2"), site("n3", zone="b")], [], ["n1", "n3"]),
        ([site("n1"), site("n2"), site("n3", zone="b")], ["n1", "n2"], ["n1", "n2"]),
        ([site("n1"), site("n2")], ["gone", "n2"], ["n1", "n2"]),
    ],
    ids=[
        "nobody",
        "one",
        "by name",
        "a chosen one stays",
        "both stay",
        "not ready: replaced",
        "not ready: better than none",
        "runs none any more",
        "another zone first",
        "chosen before zone",
        "a node is gone",
    ],
)
def test_gateways(sites: list[Site], chosen: list[str], expected: list[str]) -> None:
    assert [gateway.node for gateway in gateways(sites, chosen)] == expected


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ([DIRECT, DIRECT], DIRECT),
        ([DIRECT, GATEWAY], GATEWAY),
        ([UNREACHABLE, GATEWAY], GATEWAY),
        ([UNREACHABLE, DIRECT], DIRECT),
        ([UNREACHABLE, UNREACHABLE], UNREACHABLE),
    ],
)
def test_ways_of_all_nodes_are_summed_up(said: list[str], path: str) -> None:
    sites = [site(f"n{number}", beta=way) for number, way in enumerate(said)]
    (found,) = peers(sites)
    assert found.path == path
    if len(set(said)) > 1:
        assert found.reason.startswith("of 2 nodes 1 ")


def test_a_node_that_is_not_ready_is_no_witness() -> None:
    sites = [site("n1", ready=False, beta=DIRECT), site("n2", beta=UNREACHABLE)]
    assert [peer.path for peer in peers(sites)] == [UNREACHABLE]
    assert status([sites[0]]) == {"peers": [], "summary": ""}


def test_the_summary_is_short_and_sorted() -> None:
    assert (
        status([site("n1", gamma=GATEWAY, beta=DIRECT)])["summary"] == "beta=Direct gamma=Gateway"
    )


def node(name: str = "n1", ready: bool = True, **notes: object) -> Document:
    keys = {"gateway": GATEWAY_NODE, "peers": PEERS}
    annotations = {keys[k]: v if isinstance(v, str) else json.dumps(v) for k, v in notes.items()}
    return {
        "metadata": {"name": name, "annotations": annotations},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


NOTE = {"address": "10.0.0.1", "port": 15443, "cidrs": ["10.1.0.0/24"], "probe": "10.1.0.1"}


@pytest.mark.parametrize(
    ("notes", "gateway", "ranges", "known"),
    [
        ({"gateway": NOTE}, True, True, 0),
        ({"gateway": NOTE | {"port": 70_000}}, False, True, 0),
        ({"gateway": "nonsense", "peers": [{"cluster": "beta", "path": DIRECT}]}, False, False, 0),
        ({"peers": [{"cluster": "beta", "path": DIRECT}, {"cluster": "x", "path": "Odd"}]}, False, False, 1),
    ],
    ids=["all of it", "no such port", "unreadable", "an unknown way"],
)  # fmt: skip
def test_what_a_node_says(notes: Document, gateway: bool, ranges: bool, known: int) -> None:
    found = site_of(msgspec.convert(node(**notes), Node))
    assert found is not None
    told = (found.gateway is not None, found.range is not None, len(found.peers))
    assert told == (gateway, ranges, known)


def test_a_plain_node_says_nothing() -> None:
    assert site_of(msgspec.convert(node(), Node)) is None


# --------------------------------------------------------------------------------------------------------------- writing
class World:
    """A member's nodes and the federation, each a fake."""

    def __init__(self) -> None:
        self.member, self.federation = FakeClient(), FakeClient()
        clock = LoopClock()
        nodes = Informer(self.member, NODES, clock)
        leases = Informer(self.member, LEASES, clock, namespace=NODE_LEASES)
        self.network = Network(self.federation, clock, "alpha", nodes, leases)
        self.tasks = TaskOwner()
        _ = self.tasks.spawn(leases.run(), "leases")
        _ = self.tasks.spawn(nodes.run(), "nodes")
        _ = self.tasks.spawn(self.network.run_forever(), "network")

    async def held(self) -> Any:
        return await self.federation.get(CLUSTER_NETWORKS, SELF)

    def writes(self) -> int:
        return self.federation.verbs().count("patch")


@pytest.mark.looptime
async def test_it_is_written_at_once_when_it_changes_and_now_and_then_in_any_case() -> None:
    world = World()
    try:
        await asyncio.sleep(1)
        first = await world.held()
        assert first.spec.gateways == ()
        note = node(gateway=NOTE, peers=[{"cluster": "beta", "path": DIRECT}])
        await world.member.create(NODES, note)
        await asyncio.sleep(0.5)
        found = await world.held()
        assert [g.address for g in found.spec.gateways] == ["10.0.0.1"]
        assert [n.probe for n in found.spec.nodes] == ["10.1.0.1"]
        assert (found.status.summary, len(found.status.peers)) == ("beta=Direct", 1)
        before = world.writes()
        await world.member.patch(NODES, ObjectKey("", "n1"), {"metadata": {"labels": {"x": "y"}}})
        await asyncio.sleep(OBSERVED_S / 2)
        assert world.writes() == before, "what says the same is not written"
        await asyncio.sleep(OBSERVED_S)
        later = await world.held()
        assert later.status.observed_at > found.status.observed_at
    finally:
        await world.tasks.close()


@pytest.mark.looptime
async def test_gateways_chosen_before_a_restart_stay() -> None:
    world = World()
    try:
        standing = {"spec": {"gateways": [{"node": "n2", "address": "10.0.0.2"}]}}
        await world.federation.create(CLUSTER_NETWORKS, {"metadata": {"name": "alpha"}} | standing)
        for number in (1, 2, 3):
            note = NOTE | {"address": f"10.0.0.{number}"}
            await world.member.create(NODES, node(f"n{number}", gateway=note))
        await asyncio.sleep(1)
        assert [g.node for g in (await world.held()).spec.gateways] == ["n1", "n2"]
        await world.member.delete(NODES, ObjectKey("", "n1"))
        await asyncio.sleep(1)
        assert [g.node for g in (await world.held()).spec.gateways] == ["n2", "n3"]
    finally:
        await world.tasks.close()


@pytest.mark.looptime
async def test_what_was_refused_is_written_later() -> None:
    world = World()
    try:
        await asyncio.sleep(1)
        world.federation.fail_next("patch", ConnectionError("away"), ConnectionError("away"))
        peers = [{"cluster": "beta", "path": UNREACHABLE}]
        await world.member.create(NODES, node(gateway=NOTE, peers=peers))
        await asyncio.sleep(5)
        assert (await world.held()).status.summary == "beta=Unreachable"
    finally:
        await world.tasks.close()


@pytest.mark.looptime
async def test_a_server_that_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It lost its power with the request in its hands; whoever leads now judges by the old word until this one is there."""
    world = World()
    answering = world.federation.patch
    silent = [True]

    async def patch(*args: Any, **kwargs: Any) -> Any:
        if silent:
            silent.pop()
            await asyncio.sleep(60)
        return await answering(*args, **kwargs)

    try:
        await asyncio.sleep(1)
        monkeypatch.setattr(world.federation, "patch", patch)
        peers = [{"cluster": "beta", "path": UNREACHABLE}]
        await world.member.create(NODES, node(gateway=NOTE, peers=peers))
        await asyncio.sleep(ANSWER_S + RETRY_S + 1)
        assert (await world.held()).status.summary == "beta=Unreachable"
    finally:
        await world.tasks.close()


@pytest.mark.looptime
async def test_the_word_of_a_node_that_fell_silent_ends_before_its_readiness_does() -> None:
    world = World()

    async def renew(name: str, moment: int) -> None:
        patch = {"spec": {"renewTime": f"2026-01-01T00:00:{moment:02}.000000Z"}}
        await world.member.patch(LEASES, ObjectKey(NODE_LEASES, name), patch)

    try:
        for name, way in (("n1", DIRECT), ("n2", UNREACHABLE)):
            said = node(name, gateway=NOTE, peers=[{"cluster": "beta", "path": way}])
            await world.member.create(LEASES, {"metadata": {"name": name}}, NODE_LEASES)
            await world.member.create(NODES, said)
        await asyncio.sleep(1)
        assert (await world.held()).status.summary == "beta=Direct"
        for moment in range(0, int(WITNESS_S) + 5, 5):
            await renew("n2", moment)
            await asyncio.sleep(5)
        assert (await world.held()).status.summary == "beta=Unreachable"
        await renew("n1", 59)
        await asyncio.sleep(2)
        assert (await world.held()).status.summary == "beta=Direct"
    finally:
        await world.tasks.close()

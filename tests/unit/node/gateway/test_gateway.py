"""The gateway's life with a pretended HAProxy, in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.loopclock import LoopClock
from tests.unit.node.gateway.fakehaproxy import (
    API,
    BETA,
    OTHER,
    POD,
    WEB,
    FakeHaproxy,
    exported,
    plan,
)

from cluster_agent.node.gateway.gateway import HUNG_S, SILENCE_S, Gateway
from cluster_agent.node.gateway.model import (
    EgressKey,
    GatewayConfig,
    GatewayPlan,
    PeerSites,
    PeerState,
    Target,
)
from machinery.api.fleet.multicluster import GatewayAddress

pytestmark = pytest.mark.looptime

CONFIG = GatewayConfig("alpha", Path("unused"), probe="10.1.1.1")
GAMMA = PeerSites("gamma", (GatewayAddress("g1", "10.0.0.9"),))
UP, DOWN, FALLING = ("UP", "L7OK"), ("DOWN", "L4TOUT"), ("UP 2/4", "L4TOUT")
B1 = ("peer:beta", "10.0.0.2:15443")


class Node:
    """A node process: a gateway over an engine that outlives it."""

    def __init__(self, engine: FakeHaproxy, *, certified: bool = True) -> None:
        self.engine, self.notes, self.owned = engine, [], []
        self.changes = 0
        self.gateway = Gateway(
            CONFIG, LoopClock(), engine=engine, own=self._own, on_note=self._note, root=True
        )
        self.gateway.on_change(self._count)
        if certified:
            self.gateway.set_certificate("cert", "key", "ca")

    async def _own(self, address: str) -> None:
        self.owned.append(address)

    def _note(self, reason: str, message: str) -> None:
        self.notes.append((reason, message))

    def _count(self) -> None:
        self.changes += 1

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def running(engine: FakeHaproxy, **how: bool) -> AsyncIterator[Node]:
    node = Node(engine, **how)
    task = asyncio.create_task(node.gateway.run())
    try:
        yield node
    finally:
        task.cancel()
        _ = await asyncio.gather(task, return_exceptions=True)


async def test_nothing_is_started_before_plan_and_certificate_are_there() -> None:
    engine = FakeHaproxy()
    async with running(engine, certified=False) as node:
        await node.pass_time(5)
        assert "certificate" in node.gateway.trouble
        node.gateway.apply(plan(exported("web", POD)))
        await node.pass_time(5)
        assert (engine.starts, node.gateway.ready) == (0, False)
        node.gateway.set_certificate("cert", "key", "ca")
        await node.pass_time(1)
        assert (engine.starts, node.gateway.ready, node.gateway.trouble) == (1, True, "")
        assert node.owned == ["169.254.20.11", "10.1.1.1"]


async def test_a_listener_has_its_port_at_once_and_serves_when_it_is_open() -> None:
    async with running(FakeHaproxy()) as node:
        node.gateway.apply(plan())
        assert node.gateway.listener(WEB) == Target("169.254.20.11", 20_000)
        assert not node.gateway.serves(WEB)
        await node.pass_time(1)
        assert node.gateway.serves(WEB)
        node.gateway.apply(plan(egress=(WEB, API)))
        assert (node.gateway.serves(WEB), node.gateway.serves(API)) == (True, False)
        await node.pass_time(1)
        assert node.gateway.serves(API)
        with pytest.raises(KeyError):
            node.gateway.listener(EgressKey("shop", "none", 80, "beta"))


async def test_changes_share_a_step_and_exports_need_no_reload() -> None:
    engine = FakeHaproxy()
    async with running(engine) as node:
        for targets in ((), (POD,), (POD, OTHER)):
            node.gateway.apply(plan(exported("web", *targets)))
        await node.pass_time(1)
        assert engine.starts == 1
        for ingress in ((exported("web", OTHER),), (exported("api", POD),), ()):
            node.gateway.apply(plan(*ingress, egress=(WEB, API)))
            await node.pass_time(1)
            assert node.gateway.ready
            assert [m for m in engine.maps["ingress.map"].values() if m != "probe"] == [
                "in:0" for _ in ingress
            ]
        assert engine.starts == 1
        assert engine.maps["egress.map"] == {"20000": "peer:beta", "20001": "peer:beta"}


async def test_peers_and_certificates_need_one() -> None:
    engine = FakeHaproxy()
    async with running(engine) as node:
        node.gateway.apply(plan())
        await node.pass_time(5)
        node.gateway.apply(GatewayPlan("alpha", (), (WEB,), (BETA, GAMMA)))
        await node.pass_time(5)
        node.gateway.set_certificate("newer", "key", "ca")
        await node.pass_time(5)
        assert (engine.starts, node.gateway.ready) == (3, True)
        # Two in a moment are a second apart, because each leaves a process behind.
        began = asyncio.get_running_loop().time()
        node.gateway.set_certificate("one", "key", "ca")
        await node.pass_time(0.4)
        node.gateway.set_certificate("two", "key", "ca")
        await node.pass_time(0.4)
        assert engine.starts == 4
        await node.pass_time(1)
        assert (engine.starts, node.gateway.ready) == (5, True)
        assert asyncio.get_running_loop().time() - began >= CONFIG.reload_gap_s


async def test_a_change_that_has_no_effect_is_a_reload() -> None:
    engine = FakeHaproxy()
    async with running(engine) as node:
        node.gateway.apply(plan(exported("web")))
        await node.pass_time(5)
        engine.deaf = True
        node.gateway.apply(plan(exported("web", POD)))
        await node.pass_time(5)
        assert (engine.starts, node.gateway.ready) == (2, True)
        assert engine.lines["in:0"]["s1"] == POD


async def test_a_process_that_was_left_behind_is_found_and_told_the_difference() -> None:
    engine = FakeHaproxy()
    async with running(engine) as node:
        node.gateway.apply(plan(exported("web", POD), exported("api", OTHER), egress=(API, WEB)))
        await node.pass_time(1)
        port = node.gateway.listener(WEB)
    async with running(engine, certified=False) as node:
        await node.pass_time(1)
        assert node.gateway.states == {}
        node.gateway.apply(plan(exported("api", OTHER)))
        await node.pass_time(1)
        assert node.gateway.listener(WEB) == port, "the same port as before"
        assert (engine.starts, node.gateway.ready) == (1, True)
        assert engine.lines["in:1"]["s1"] == OTHER, "the same berth as before"
        assert engine.lines["in:0"]["s1"] is None
        assert "shutdown sessions server in:0/s1" in engine.said


async def test_states_are_what_the_checks_say() -> None:
    engine = FakeHaproxy()
    async with running(engine) as node:
        node.gateway.apply(plan())
        down = PeerState({"10.0.0.2:15443": False, "10.0.0.3:15443": False}, {"b1": False})
        assert node.gateway.states == {"beta": down}
        await node.pass_time(1)
        engine.checks = {B1: UP, ("nodes:beta", "b1"): UP}
        await node.pass_time(1)
        state = node.gateway.states["beta"]
        assert (dict(state.gateways), dict(state.nodes)) == (
            {"10.0.0.2:15443": True, "10.0.0.3:15443": False},
            {"b1": True},
        )
        seen = node.changes
        engine.checks[B1] = FALLING
        await node.pass_time(1)
        assert node.changes == seen, "failing, and not down yet"
        engine.checks[B1] = DOWN
        await node.pass_time(1)
        assert node.changes == seen + 1
        assert not node.gateway.states["beta"].gateways["10.0.0.2:15443"]


async def test_a_new_process_has_not_checked_yet_and_changes_no_state() -> None:
    engine = FakeHaproxy()
    engine.checks = {B1: UP}
    async with running(engine) as node:
        node.gateway.apply(plan())
        await node.pass_time(2)
        engine.checks = {B1: ("UP", "INI"), ("peer:beta", "10.0.0.3:15443"): ("UP", "INI")}
        await node.pass_time(2)
        assert dict(node.gateway.states["beta"].gateways) == {
            "10.0.0.2:15443": True,
            "10.0.0.3:15443": False,
        }


async def test_haproxy_that_ends_comes_back_and_states_hold_meanwhile() -> None:
    engine = FakeHaproxy()
    engine.checks = {B1: UP}
    async with running(engine) as node:
        node.gateway.apply(plan())
        await node.pass_time(2)
        engine.running = None
        await node.pass_time(0.6)
        assert (node.gateway.ready, node.gateway.serves(WEB)) == (False, False)
        assert node.gateway.states["beta"].gateways["10.0.0.2:15443"]
        await node.pass_time(1)
        assert (engine.starts, node.gateway.ready, node.gateway.trouble) == (2, True, "")
        assert [reason for reason, _ in node.notes] == ["GatewayRestarted"]
        engine.broken = "cannot bind"
        engine.running = None
        await node.pass_time(SILENCE_S + 1)
        assert not node.gateway.states["beta"].gateways["10.0.0.2:15443"]
        assert node.gateway.trouble == "cannot bind"
        await node.pass_time(600)
        assert [reason for reason, _ in node.notes] == [
            "GatewayRestarted", "GatewayRestarted", "GatewayFailed",
        ]  # fmt: skip
        engine.broken = ""
        await node.pass_time(20)
        assert node.gateway.ready


async def test_haproxy_that_hangs_is_ended_and_started_again() -> None:
    engine = FakeHaproxy()
    async with running(engine) as node:
        node.gateway.apply(plan())
        await node.pass_time(2)
        engine.silent = True
        await node.pass_time(HUNG_S - 1)
        assert (engine.starts, engine.alive()) == (1, True)
        await node.pass_time(2)
        engine.silent = False
        await node.pass_time(2)
        assert (engine.starts, node.gateway.ready) == (2, True)


async def test_a_certificate_that_is_refused_is_put_aside() -> None:
    engine = FakeHaproxy()
    engine.refuse = {"bad"}
    async with running(engine) as node:
        node.gateway.apply(plan())
        await node.pass_time(2)
        for _ in range(3):
            node.gateway.set_certificate("bad", "key", "ca")
            await node.pass_time(2)
        assert [reason for reason, _ in node.notes] == ["GatewayCertificateRefused"]
        node.gateway.apply(plan(exported("web", POD)))
        await node.pass_time(2)
        assert (node.gateway.ready, engine.starts) == (True, 1)
        node.gateway.set_certificate("good", "key", "ca")
        await node.pass_time(2)
        assert (node.gateway.ready, engine.starts) == (True, 2)


async def test_a_first_certificate_that_is_refused_is_told_once_and_tried_again() -> None:
    engine = FakeHaproxy()
    engine.refuse = {"cert"}
    async with running(engine) as node:
        node.gateway.apply(plan())
        await node.pass_time(120)
        assert [reason for reason, _ in node.notes] == ["GatewayConfigRefused"]
        assert "unable to load" in node.gateway.trouble
        engine.refuse = set()
        await node.pass_time(20)
        assert node.gateway.ready


@pytest.mark.parametrize("document", ["rubbish", {"ports": [["a"]], "retired": []}, {"ports": 3}])
async def test_listeners_that_cannot_be_read_are_made_anew(document: object) -> None:
    engine = FakeHaproxy()
    engine.documents["listeners.json"] = document
    async with running(engine) as node:
        node.gateway.apply(plan())
        await node.pass_time(2)
        assert node.gateway.listener(WEB).port == 20_000


async def test_the_same_plan_again_does_nothing() -> None:
    engine = FakeHaproxy()
    async with running(engine) as node:
        node.gateway.apply(plan(exported("web", POD)))
        await node.pass_time(2)
        node.gateway.apply(plan(exported("web", POD)))
        assert node.gateway.ready
        assert engine.said == []


async def test_the_end_takes_haproxy_away() -> None:
    engine = FakeHaproxy()
    async with running(engine) as node:
        node.gateway.apply(plan())
        await node.pass_time(2)
        gateway = node.gateway
    assert engine.alive(), "it outlives the node process"
    await gateway.end()
    assert (engine.alive(), gateway.serves(WEB)) == (False, False)

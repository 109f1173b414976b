"""The proxy's life over the twins: gathers, retries, repairs, reports."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.unit.node.proxy.nodes import CONFIG, contents, service

from cluster_agent.node.proxy.conntrack import ConntrackError, Flow, NoConntrack
from cluster_agent.node.proxy.layout import TABLE
from cluster_agent.node.proxy.model import Note
from cluster_agent.node.proxy.nft_memory import MemoryNft
from cluster_agent.node.proxy.proxy import ServiceProxy
from machinery.kit.clock import SystemClock

VIP = "10.96.0.1"


async def until(check: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if check():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")


class Rig:
    def __init__(self, *sources: str) -> None:
        self.nft, self.flows, self.notes = MemoryNft(), NoConntrack(), list[Note]()
        self.proxy = ServiceProxy(
            CONFIG,
            SystemClock(),
            nft=self.nft,
            conntrack=self.flows,
            on_note=self.notes.append,
            sources=sources or ("",),
        )

    async def synced(self) -> None:
        async with asyncio.timeout(10):
            await self.proxy.wait_synced()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    await made.proxy.start()
    yield made
    await made.proxy.stop()


async def test_nothing_is_installed_before_the_state_is_complete(rig: Rig) -> None:
    rig.proxy.set_service("demo/web", service(VIP, 2))
    await asyncio.sleep(0.2)
    assert rig.nft.tables == {}
    assert not rig.proxy.synced
    rig.proxy.set_state({"demo/web": service(VIP, 3)})
    await rig.synced()
    assert contents(rig.nft)["vip1-tcp"] == {f"{VIP} . 80": "10.77.1.3 . 8080"}


async def test_two_sources_and_neither_takes_from_the_other() -> None:
    rig = Rig("", "clusterset")
    await rig.proxy.start()
    try:
        rig.proxy.set_state({"demo/web": service(VIP, 2)})
        await asyncio.sleep(0.1)
        assert rig.nft.tables == {}
        rig.proxy.set_state({"demo/web": service("10.96.0.2", 3)}, "clusterset")
        await rig.synced()
        rig.proxy.set_state({})
        await rig.synced()
        assert contents(rig.nft)["vip1-tcp"] == {"10.96.0.2 . 80": "10.77.1.3 . 8080"}
        with pytest.raises(AssertionError, match="not announced"):
            rig.proxy.set_state({}, "elsewhere")
    finally:
        await rig.proxy.stop()


async def test_changes_and_removals(rig: Rig) -> None:
    rig.proxy.set_state({"a": service(VIP, 2), "b": service("10.96.0.2", 2)})
    await rig.synced()
    rig.proxy.set_service("a", service(VIP, 4))
    rig.proxy.set_service("b", None)
    await rig.synced()
    assert contents(rig.nft)["vip1-tcp"] == {f"{VIP} . 80": "10.77.1.4 . 8080"}
    status = rig.proxy.status()
    assert (status.services, status.fronts, status.pending, status.loads) == (1, 1, 0, 1)
    assert status.synced
    assert status.last_sync_s is not None


async def test_a_refused_load_is_tried_again(rig: Rig) -> None:
    rig.nft.refuse_next = "Operation not permitted"
    rig.proxy.set_state({"a": service(VIP, 2)})
    await until(lambda: bool(rig.proxy.status().error))
    assert rig.proxy.status().error == "Operation not permitted"
    assert not rig.proxy.synced
    await rig.synced()
    assert rig.proxy.status().error == ""
    assert contents(rig.nft)["vip1-tcp"] == {f"{VIP} . 80": "10.77.1.2 . 8080"}


async def test_a_table_that_vanished_comes_back_unasked(rig: Rig) -> None:
    rig.proxy.set_state({"a": service(VIP, 2)})
    await rig.synced()
    rig.nft.apply((f"delete table ip {TABLE}",))
    await until(lambda: rig.proxy.status().loads == 2 and rig.proxy.synced)
    assert contents(rig.nft)["vip1-tcp"] == {f"{VIP} . 80": "10.77.1.2 . 8080"}


async def test_stale_udp_entries_go_and_notes_are_told(rig: Rig) -> None:
    dead = Flow("udp", VIP, 80, "10.77.1.2", 8080)
    rig.flows.entries = {dead}
    rig.proxy.set_state({"a": service(VIP, 2, protocol="udp")})
    await rig.synced()
    assert rig.flows.entries == {dead}
    rig.proxy.set_state(
        {"a": service(VIP, 3, protocol="udp"), "b": service(VIP, 4, protocol="udp")}
    )
    await rig.synced()
    assert rig.flows.entries == set()
    assert [(n.service, n.reason) for n in rig.notes] == [("b", "AddressInUse")]


async def test_without_conntrack_the_table_is_still_kept() -> None:
    class Missing(NoConntrack):
        async def flows(self, family: str, protocol: str) -> list[Flow]:
            raise ConntrackError("conntrack cannot be run")

    nft = MemoryNft()
    proxy = ServiceProxy(CONFIG, SystemClock(), nft=nft, conntrack=Missing())
    proxy.set_state({"a": service(VIP, 2, protocol="udp")})
    assert await proxy.run_once()
    assert contents(nft)["vip1-udp"] == {f"{VIP} . 80": "10.77.1.2 . 8080"}
    await proxy.stop()


async def test_stop_leaves_the_table_and_cleanup_takes_only_ours(rig: Rig) -> None:
    rig.nft.apply(("add table ip ubernetes-other",))
    rig.proxy.set_state({"a": service(VIP, 2)})
    await rig.synced()
    await rig.proxy.stop()
    assert ("ip", TABLE) in rig.nft.tables
    await rig.proxy.cleanup()
    assert set(rig.nft.tables) == {("ip", "ubernetes-other")}

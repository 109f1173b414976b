"""The member dials every federation server that is announced, or the one URL it was given."""

from typing import cast

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from cluster_agent.link.dialers import Dialers
from machinery.api.core import CONFIGMAPS
from machinery.api.fleet.servers import SERVERS
from machinery.kit.tasks import TaskOwner
from machinery.wire.linkdialer import LinkDialer

COMMON = "https://federation:6443"


class Dialer:
    """Stands for a LinkDialer: connected while it runs."""

    def __init__(self, url: str, log: list[str]) -> None:
        self.url, self._log, self.connected = url, log, False
        self.hurried = 0

    async def run(self) -> None:
        self._log.append(f"dial {self.url}")
        self.connected = True
        await LoopClock().sleep(1e6)

    def hurry(self) -> None:
        self.hurried += 1

    async def close(self) -> None:
        self._log.append(f"end {self.url}")
        self.connected = False


def body(**data: str) -> dict[str, object]:
    return {"metadata": {"name": SERVERS.name, "namespace": SERVERS.namespace}, "data": data}


@pytest.mark.looptime
async def test_follows_what_is_announced() -> None:
    log: list[str] = []
    client, clock = FakeClient(), LoopClock()
    dialers = Dialers(lambda url: cast("LinkDialer", Dialer(url, log)), COMMON)
    owner = TaskOwner()
    _ = owner.spawn(dialers.follow(client, clock), "follow")
    try:
        await clock.sleep(1)
        assert dialers.urls == {COMMON}
        assert dialers.connected
        await client.create(CONFIGMAPS, body(a="https://a", b="https://b"), SERVERS.namespace)
        await clock.sleep(1)
        assert dialers.urls == {"https://a", "https://b"}
        await client.patch(CONFIGMAPS, SERVERS, {"data": {"a": None}})
        await clock.sleep(1)
        assert dialers.urls == {"https://b"}
        await client.delete(CONFIGMAPS, SERVERS)
        await clock.sleep(1)
        assert dialers.urls == {COMMON}
        assert sorted(log[1:4]) == ["dial https://a", "dial https://b", f"end {COMMON}"]
        assert sorted(log[4:]) == [f"dial {COMMON}", "end https://a", "end https://b"]
    finally:
        await owner.close()
        await dialers.close()
    assert not dialers.connected


@pytest.mark.looptime
async def test_only_dialers_without_a_link_are_hurried() -> None:
    made: list[Dialer] = []

    def make(url: str) -> LinkDialer:
        made.append(Dialer(url, []))
        return cast("LinkDialer", made[-1])

    dialers = Dialers(make, COMMON)
    dialers.turn_to(["https://a", "https://b"])
    await LoopClock().sleep(1)
    made[0].connected = False
    dialers.hurry()
    assert [dialer.hurried for dialer in made] == [1, 0]
    await dialers.close()

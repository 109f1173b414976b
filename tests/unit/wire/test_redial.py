"""A dialer waits longer and longer, unless it is told that the federation is back."""

import asyncio

import pytest
from tests.support.loopclock import LoopClock

from machinery.kit.tasks import TaskOwner
from machinery.wire.linkdialer import HURRY_POLL_S, DialTarget, LinkDialer

pytestmark = pytest.mark.looptime


class Unreachable(LinkDialer):
    """Every dial fails at once; `times` says when."""

    def __init__(self):
        super().__init__(
            DialTarget(("https://f:1",)), None, LoopClock(), tls=lambda: None, roll=lambda: 0.5
        )
        self.times, self.dialled = [], asyncio.Event()

    async def _dial(self):
        self.times.append(asyncio.get_running_loop().time())
        self.dialled.set()
        raise OSError("no route")


@pytest.mark.parametrize("told", [False, True])
async def test_a_pause_ends_when_the_federation_is_heard_of(told):
    dialer, owner = Unreachable(), TaskOwner()
    _ = owner.spawn(dialer.run(), "dialer")
    await asyncio.sleep(301)
    before = sorted(set(dialer.times))
    assert before[-1] - before[-2] > 30, "it has become patient"
    dialer.times.clear()
    dialer.dialled.clear()
    await dialer.dialled.wait()
    await asyncio.sleep(0.1)  # the next pause has just begun
    dialer.times.clear()
    healed = asyncio.get_running_loop().time()
    if told:
        dialer.hurry()
    await asyncio.sleep(10)
    soon = [t for t in set(dialer.times) if t - healed <= 2 * HURRY_POLL_S]
    assert bool(soon) is told
    if told:
        assert len(set(dialer.times)) > 3, "and begins its pauses anew"
    await owner.close()
    await dialer.close()

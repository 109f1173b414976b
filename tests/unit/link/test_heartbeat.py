"""The heartbeat goes on whatever becomes of one renewal."""

import asyncio

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from cluster_agent.link.heartbeat import HEARTBEAT_S, IN_FLIGHT_MAX, Heartbeat
from machinery.kit.tasks import TaskOwner

pytestmark = pytest.mark.looptime


class Cut(FakeClient):
    """A federation whose line is cut for a while: requests hang, and stay lost when it is healed."""

    def __init__(self):
        super().__init__()
        self.is_cut, self.hanging = False, 0

    async def patch(self, *words, **more):
        if self.is_cut:
            self.hanging += 1
            assert self.hanging <= IN_FLIGHT_MAX
            try:
                await asyncio.sleep(100_000)
            finally:
                self.hanging -= 1
        return await super().patch(*words, **more)


@pytest.mark.parametrize("cut_s", [4.0, 60.0])
async def test_renewals_that_a_cut_swallowed_do_not_keep_the_next_one_back(cut_s):
    client, owner = Cut(), TaskOwner()
    heard = []
    loop = asyncio.get_running_loop()
    heartbeat = Heartbeat(client, LoopClock(), "alpha", lambda _: heard.append(loop.time()))
    _ = owner.spawn(heartbeat.run_forever(), "heartbeat")
    await asyncio.sleep(10)
    assert len(heard) == 5
    client.is_cut = True
    await asyncio.sleep(cut_s)
    assert len(heard) == 5
    client.is_cut = False
    healed = loop.time()
    await asyncio.sleep(10)
    assert len(heard) >= 9
    assert heard[5] - healed <= HEARTBEAT_S
    await owner.close()

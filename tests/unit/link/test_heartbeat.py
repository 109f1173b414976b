"""The heartbeat goes on whatever becomes of one renewal."""

import asyncio

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from cluster_agent.link.heartbeat import ANSWER_S, HEARTBEAT_S, Heartbeat
from machinery.kit.tasks import TaskOwner

pytestmark = pytest.mark.looptime


class Cut(FakeClient):
    """A federation whose line is cut for a while: requests hang, and stay lost when it is healed."""

    def __init__(self):
        super().__init__()
        self.is_cut = False

    async def patch(self, *words, **more):
        if self.is_cut:
            await asyncio.sleep(100_000)
        return await super().patch(*words, **more)


async def test_a_renewal_that_a_cut_swallowed_is_given_up_so_that_the_next_is_soon():
    client, owner = Cut(), TaskOwner()
    heard = []
    loop = asyncio.get_running_loop()
    heartbeat = Heartbeat(client, LoopClock(), "alpha", lambda _: heard.append(loop.time()))
    _ = owner.spawn(heartbeat.run_forever(), "heartbeat")
    await asyncio.sleep(10)
    assert len(heard) == 5
    client.is_cut = True
    await asyncio.sleep(60)
    assert len(heard) == 5
    client.is_cut = False
    healed = loop.time()
    await asyncio.sleep(ANSWER_S + HEARTBEAT_S)
    assert len(heard) > 5
    assert heard[5] - healed <= ANSWER_S + HEARTBEAT_S
    await owner.close()

"""StatefulSet and DaemonSet: our controllers play the real ones' transcripts.

What differs, and why, stands in DIFFERENCES.md.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.golden.controllers_replay import Outcome, QuotaClient, transcripts
from tests.golden.sets_replay import KINDS, SetsReplay
from tests.golden.test_controllers_workloads import report
from tests.support.apiserver import running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers import serviceaccount
from cluster_agent.control.controllers.daemonset import controller as daemonset
from cluster_agent.control.controllers.statefulset import controller as statefulset
from machinery.api.core import NODES, PODS
from machinery.controller.manager import Manager
from machinery.controllers.garbagecollector import controller as garbage
from machinery.kit.ids import SeededIds

STATES_SHARE_MIN = {"statefulset": 0.95, "daemonset": 1.0}
EVENTS_SHARE_MIN = {"statefulset": 0.95, "daemonset": 1.0}


@asynccontextmanager
async def world() -> AsyncIterator[tuple[Any, QuotaClient, LoopClock]]:
    """Our API server with the controllers, in virtual time."""
    clock = LoopClock()
    async with running_server(clock=clock, ids=SeededIds(1), kinds=KINDS) as server:
        quotas = QuotaClient(server.local)
        manager = Manager(quotas, clock, SeededIds(2), component="test")
        statefulset.setup(manager, KINDS)
        daemonset.setup(manager)
        garbage.setup(manager, KINDS, (PODS, NODES))
        serviceaccount.setup(manager)
        await manager.start()
        try:
            yield server.local, quotas, clock
        finally:
            await manager.stop()


async def replay(name: str, only: Sequence[str] = ()) -> list[Outcome]:
    """Play one file's transcripts, one after the other."""
    outcomes = []
    async with world() as (client, quotas, clock):
        for transcript in transcripts(name):
            if not only or transcript["id"] in only:
                outcomes.append(await SetsReplay(client, transcript, quotas, clock).run())
                await asyncio.sleep(1)
    return outcomes


@pytest.mark.looptime
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["statefulset", "daemonset"])
async def test_transcripts(name: str) -> None:
    outcomes = await replay(name)
    total = len(outcomes)
    states = sum(1 for o in outcomes if not o.states)
    events = sum(1 for o in outcomes if not o.states and not o.events)
    print(report(outcomes))
    print(f"{name}: {states} of {total} transcripts settle alike, {events} with the same events")
    assert states >= STATES_SHARE_MIN[name] * total, report(outcomes)
    assert events >= EVENTS_SHARE_MIN[name] * total, report(outcomes)

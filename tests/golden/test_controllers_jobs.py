"""Job and CronJob: our controllers play the real ones' transcripts.

What differs, and why, stands in DIFFERENCES.md.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.golden.controllers_replay import Outcome, QuotaClient, transcripts
from tests.golden.jobs_replay import JobReplay
from tests.support.apiserver import running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers import ttlafterfinished
from cluster_agent.control.controllers.batch import CRONJOBS, JOBS
from cluster_agent.control.controllers.cronjob import controller as cronjob
from cluster_agent.control.controllers.job import controller as job
from machinery.api.core import PODS
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.controller.manager import Manager
from machinery.controllers.garbagecollector import controller as garbage
from machinery.kit.ids import SeededIds

KINDS = (*BUILTIN, *RUN_BY_MEMBERS)
STATES_DIFFER = {
    "job-fuzz-17": "the real server refuses a status of the real controller, which then stays behind",
}
EVENTS_DIFFER = {
    "cron-failed-history": "the real controller takes a Job that it deleted itself for one that went missing",
    "cron-history": "two Jobs end at once, and the real controller sees them together",
}
"""By id, the reason."""


@asynccontextmanager
async def world() -> AsyncIterator[tuple[Any, QuotaClient, LoopClock]]:
    """Our API server with the controllers, in virtual time."""
    clock = LoopClock()
    async with running_server(clock=clock, ids=SeededIds(1), kinds=KINDS) as server:
        quotas = QuotaClient(server.local)
        manager = Manager(quotas, clock, SeededIds(2), component="test")
        job.setup(manager)
        cronjob.setup(manager)
        ttlafterfinished.setup(manager)
        garbage.setup(manager, KINDS, (PODS, JOBS, CRONJOBS))
        await manager.start()
        try:
            yield server.local, quotas, clock
        finally:
            await manager.stop()


async def replay(name: str) -> list[Outcome]:
    """Play one file's transcripts, one after the other."""
    outcomes = []
    async with world() as (client, quotas, clock):
        for transcript in transcripts(name):
            outcomes.append(await JobReplay(client, transcript, quotas, clock).run())
            await asyncio.sleep(1)
    return outcomes


@pytest.mark.looptime
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["job", "cronjob"])
async def test_transcripts(name: str) -> None:
    outcomes = await replay(name)
    states = {o.id for o in outcomes if o.states}
    events = {o.id for o in outcomes if o.events and not o.states}
    for outcome in outcomes:
        for difference in [*outcome.states[:2], *outcome.events[:1]]:
            print(f"{outcome.id}: {difference}")
    listed = {o.id for o in outcomes} & STATES_DIFFER.keys()
    told = {o.id for o in outcomes} & EVENTS_DIFFER.keys()
    assert (states, events) == (listed, told)

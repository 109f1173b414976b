"""Deployment, ReplicaSet, garbage collection and namespaces: our controllers play the real ones' transcripts.

What differs, and why, stands in DIFFERENCES.md.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.golden.controllers_replay import Outcome, QuotaClient, Replay, transcripts
from tests.support.apiserver import running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers import rootca, serviceaccount
from cluster_agent.control.controllers.deployment import controller as deployment
from cluster_agent.control.controllers.replicaset import controller as replicaset
from cluster_agent.control.controllers.workloads import DEPLOYMENTS, REPLICASETS
from machinery.api.core import PODS
from machinery.api.kinds import BUILTIN
from machinery.controller.manager import Manager
from machinery.controllers import namespace
from machinery.controllers.garbagecollector import controller as garbage
from machinery.kit.ids import SeededIds

STATES_SHARE_MIN = {"deployment": 0.98, "replicaset": 0.97, "gc": 1.0, "namespace": 1.0}
EVENTS_SHARE_MIN = {"deployment": 0.9, "replicaset": 0.97, "gc": 1.0, "namespace": 1.0}

NOT_SERVED = {"rc-basic": "ReplicationController is not built in this issue"}


@asynccontextmanager
async def world() -> AsyncIterator[tuple[Any, QuotaClient, LoopClock]]:
    """Our API server with the controllers, in virtual time."""
    clock = LoopClock()
    async with running_server(clock=clock, ids=SeededIds(1)) as server:
        quotas = QuotaClient(server.local)
        manager = Manager(quotas, clock, SeededIds(2), component="test")
        deployment.setup(manager)
        replicaset.setup(manager)
        garbage.setup(manager, BUILTIN, (PODS, DEPLOYMENTS, REPLICASETS))
        namespace.setup(manager, BUILTIN)
        serviceaccount.setup(manager)
        rootca.setup(manager, "PEM")
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
            if transcript["id"] in NOT_SERVED or (only and transcript["id"] not in only):
                continue
            outcomes.append(await Replay(client, transcript, quotas, clock).run())
            await asyncio.sleep(1)
    return outcomes


def report(outcomes: Sequence[Outcome]) -> str:
    lines = []
    for outcome in outcomes:
        for difference in [*outcome.states[:2], *outcome.events[:1]]:
            lines.append(f"{outcome.id}: {difference}")
    return "\n".join(lines)


@pytest.mark.looptime
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["deployment", "replicaset", "gc", "namespace"])
async def test_transcripts(name: str) -> None:
    outcomes = await replay(name)
    total = len(outcomes)
    states = sum(1 for o in outcomes if not o.states)
    events = sum(1 for o in outcomes if not o.states and not o.events)
    print(report(outcomes))
    print(f"{name}: {states} of {total} transcripts settle alike, {events} with the same events")
    assert states >= STATES_SHARE_MIN[name] * total, report(outcomes)
    assert events >= EVENTS_SHARE_MIN[name] * total, report(outcomes)

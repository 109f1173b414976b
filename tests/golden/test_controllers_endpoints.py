"""Services and their endpoints: our controllers settle where the real ones did. Differences: DIFFERENCES.md."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.golden.controllers_replay import Outcome, QuotaClient, transcripts
from tests.golden.endpoints_replay import EndpointsReplay
from tests.support.apiserver import running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers import endpointslicemirroring
from cluster_agent.control.controllers.endpoints import controller as endpoints
from cluster_agent.control.controllers.endpointslice import controller as endpointslice
from machinery.api.core import PODS
from machinery.api.kinds import BUILTIN
from machinery.controller.manager import Manager
from machinery.controllers.garbagecollector import controller as garbage
from machinery.kit.ids import SeededIds


@asynccontextmanager
async def world() -> AsyncIterator[tuple[Any, QuotaClient, LoopClock]]:
    """Our API server with the controllers, in virtual time."""
    clock = LoopClock()
    async with running_server(clock=clock, ids=SeededIds(1)) as server:
        client = QuotaClient(server.local)
        manager = Manager(client, clock, SeededIds(2), component="test")
        endpointslice.setup(manager)
        endpoints.setup(manager)
        endpointslicemirroring.setup(manager)
        garbage.setup(manager, BUILTIN, (PODS,))
        await manager.start()
        try:
            yield server.local, client, clock
        finally:
            await manager.stop()


@pytest.mark.looptime
@pytest.mark.timeout(180)
async def test_transcripts() -> None:
    outcomes: list[Outcome] = []
    async with world() as (client, quotas, clock):
        for transcript in transcripts("endpoints"):
            outcomes.append(await EndpointsReplay(client, transcript, quotas, clock).run())
            await asyncio.sleep(1)
    told = [f"{o.id}: {d}" for o in outcomes for d in (*o.states, *o.events)]
    assert len(outcomes) > 5
    assert not told, "\n".join(told)

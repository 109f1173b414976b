"""HorizontalPodAutoscaler: our controller plays the real one's transcripts, where no metrics are served.

How often a warning was repeated depends on when the recorder looked, so of the autoscaler's Events only the words are compared.
"""

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.golden.controllers_replay import RESOURCES, Difference, Replay, _conditions
from tests.golden.playing import play, report

from cluster_agent.control.controllers.deployment import controller as deployment
from cluster_agent.control.controllers.horizontalpodautoscaler import controller as autoscaler
from cluster_agent.control.controllers.replicaset import controller as replicaset
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.client.interface import dynamic
from machinery.controller.manager import Manager
from machinery.meta.resource import Document

KINDS = (*BUILTIN, *RUN_BY_MEMBERS)
HPA = dynamic(
    "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", namespaced=True
)
RESOURCES.setdefault("HorizontalPodAutoscaler", HPA)
SYNC_S = 2.0
"""As the recorded controller was told."""
AUTOSCALER = "HorizontalPodAutoscaler/"


class AutoscalerReplay(Replay):
    """One transcript in one namespace."""

    SPEAKERS = (*Replay.SPEAKERS, "HorizontalPodAutoscaler")

    async def _step(self, index: int, step: dict[str, Any]) -> None:
        for op in step["do"]:
            await self._do(index, op)
            await asyncio.sleep(0.2)
            await self._look()
        await asyncio.sleep(2.5 * SYNC_S)
        self.outcome.states += await self._compare(index, step["then"])
        await self._compare_events(index, step)

    async def _compare(self, index: int, then: dict[str, Any]) -> list[Difference]:
        found = await super()._compare(index, then)
        ours = {
            one["metadata"]["name"]: {"status": _told(one["status"])}
            for one in (await self.client.list(HPA, self.namespace)).items
        }
        if ours != then.get("hpas", {}):
            found.append(Difference(index, "hpas", then.get("hpas", {}), ours))
        return found

    def _same_events(
        self, recorded: Counter[str], ours: Counter[str], step: dict[str, Any]
    ) -> bool:
        words = {t for t in recorded if t.startswith(AUTOSCALER)}
        if words != {t for t in ours if t.startswith(AUTOSCALER)}:
            return False
        return super()._same_events(_others(recorded), _others(ours), step)


def _told(status: Document) -> Document:
    told = {key: value for key, value in status.items() if key != "observedGeneration"}
    if "lastScaleTime" in told:
        told["lastScaleTime"] = "TIME"
    return told | {"conditions": _conditions(status["conditions"])}


def _others(events: Counter[str]) -> Counter[str]:
    return Counter({t: n for t, n in events.items() if not t.startswith(AUTOSCALER)})


def set_up(manager: Manager) -> None:
    """The controller that is compared, and those that it needs."""
    deployment.setup(manager)
    replicaset.setup(manager)
    autoscaler.setup(manager, KINDS, SYNC_S)


@pytest.mark.looptime
@pytest.mark.timeout(180)
async def test_transcripts() -> None:
    outcomes = await play("hpa", set_up, AutoscalerReplay, KINDS)
    assert {o.id: report([o]) for o in outcomes if o.states or o.events} == {}
    assert len(outcomes) == 3

"""Priority: of those that wait for room the most important is placed first."""

import asyncio
import itertools

import msgspec
import pytest
from tests.unit.controllers_federation.moving_fleet import Fleet, play

from federation.propagation import priority
from federation.propagation.templates import PRIORITY_CLASSES
from machinery.api.fleet.policy import PROPAGATION_POLICIES
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.meta.resource import Document


def waiting(name: str, priority: int | None, made: str) -> ResourceBinding:
    document: Document = {
        "metadata": {"name": name, "namespace": "demo", "creationTimestamp": made},
        "spec": {} if priority is None else {"schedulePriority": {"priority": priority}},
    }
    return msgspec.convert(document, ResourceBinding)


EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"
ORDER = (
    waiting("gold", 1000, LATE),
    waiting("old", None, EARLY),
    waiting("a", 0, LATE),
    waiting("b", None, LATE),
    waiting("low", -5, EARLY),
)


@pytest.mark.parametrize("given", list(itertools.permutations(ORDER))[::17])
def test_who_is_asked_first(given: tuple[ResourceBinding, ...]) -> None:
    assert priority.by_priority(given) == [b.key for b in ORDER]


def test_room_that_comes_back_is_the_most_importants() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.taint("gamma", "NoSchedule")
        await fleet.deploy(60, "filler")
        gold = {
            "apiVersion": PRIORITY_CLASSES.api_version,
            "kind": PRIORITY_CLASSES.kind,
            "metadata": {"name": "gold"},
            "value": 1000,
        }
        await fleet.client.create(PRIORITY_CLASSES, gold)
        selector = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "important"}
        weights = {"dynamicWeight": "AvailableReplicas"}
        division = {"replicaDivisionPreference": "Weighted", "weightPreference": weights}
        spec = {
            "resourceSelectors": [selector],
            "placement": {"replicaScheduling": {"replicaSchedulingType": "Divided"} | division},
            "schedulePriority": {"priorityClassSource": "KubePriorityClass", "priorityClassName": "gold"},
        }  # fmt: skip
        policy = {
            "apiVersion": PROPAGATION_POLICIES.api_version,
            "kind": PROPAGATION_POLICIES.kind,
            "metadata": {"name": "gold", "namespace": "demo"},
            "spec": spec,
        }
        await fleet.client.create(PROPAGATION_POLICIES, policy)
        await fleet.deploy(20, "any")
        await fleet.deploy(20, "important")
        assert await placed(fleet) == {"filler": 60, "any": 0, "important": 0}
        await fleet.taint("gamma")
        await asyncio.sleep(20)
        assert await placed(fleet) == {"filler": 60, "any": 0, "important": 20}

    play(story)


async def placed(fleet: Fleet) -> dict[str, int]:
    found = await fleet.client.list(RESOURCE_BINDINGS, "demo")
    return {
        b.metadata.name.removesuffix("-deployment"): sum(t.replicas for t in b.spec.clusters)
        for b in found.items
    }

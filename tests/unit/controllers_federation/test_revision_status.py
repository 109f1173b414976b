"""What the ReplicaSets that record revisions say of the pods that members run: what Helm 3 waits for, by its own rules.

Source of the rules: helm/helm v3.18, pkg/kube/ready.go (`deploymentReady`) and its copy of `GetNewReplicaSet`.
"""

import asyncio
from typing import Any

import pytest
from tests.unit.controllers_federation.test_flow import WEB, ZONES, Fleet, deployment, fleet_story
from tests.unit.controllers_federation.test_plans import kept, template

from federation.controllers import revisions
from federation.propagation.rollouts.snapshots import HASH_LABEL, HISTORY
from federation.propagation.templates import DEPLOYMENTS
from machinery.controller.action import Patch, SetStatus
from machinery.meta.resource import Document


def deployed(status: Document, **spec: Any) -> Document:
    made = template(**spec)
    made["metadata"] |= {"generation": 4, "annotations": {revisions.REVISION: "1"}}
    return made | {"status": status}


def counts(**given: int) -> Document:
    named = {"replicas", "updatedReplicas", "readyReplicas", "availableReplicas"}
    return {name: given.get(name.removesuffix("Replicas"), 6) for name in named}


@pytest.mark.parametrize(
    ("status", "newest"),
    [
        (counts() | {"observedGeneration": 4}, (6, 6, 6)),
        (counts(updated=4) | {"observedGeneration": 4}, (4, 4, 4)),
        (counts(updated=4, ready=5, available=3) | {"observedGeneration": 4}, (4, 3, 1)),
        (counts(updated=1, ready=2, replicas=6) | {"observedGeneration": 4}, (1, None, 1)),
        (counts(replicas=9, ready=9) | {"observedGeneration": 4}, (6, 6, 3)),
        ({"observedGeneration": 4}, (0, None, None)),
        (counts() | {"observedGeneration": 3}, None),
        (counts(), None),
        ({}, None),
    ],
)
def test_no_more_of_the_newest_template_is_said_to_be_ready_than_is(
    status: Document, newest: tuple[int | None, ...] | None
) -> None:
    found = revisions.record_status(deployed(status), newest=True)
    names = ("replicas", "readyReplicas", "availableReplicas")
    assert (None if found is None else tuple(found[name] for name in names)) == newest


def test_old_ones_are_empty_once_all_are_updated_and_unknown_before() -> None:
    done = deployed(counts() | {"observedGeneration": 4})
    told = revisions.record_status(done, newest=False)
    assert told is not None
    assert {name: value for name, value in told.items() if value is not None} == {"replicas": 0}
    going_on = deployed(counts(updated=5) | {"observedGeneration": 4})
    assert revisions.record_status(going_on, newest=False) is None


def test_a_record_whose_wish_changes_is_observed_afterwards() -> None:
    """Its generation is another then."""
    (record,) = kept(revisions.plan(template(), []))
    record["metadata"] |= {"generation": 1, "resourceVersion": "7", "uid": "r-1"}
    scaled = deployed(counts() | {"observedGeneration": 4}, replicas=7)
    assert [type(a) for a in revisions.plan(scaled, [record])] == [Patch]
    record["spec"]["replicas"] = 7
    record["metadata"]["generation"] = 2
    (told,) = revisions.plan(scaled, [record])
    assert isinstance(told, SetStatus)
    assert (told.status["observedGeneration"], told.resource_version) == (2, "7")
    record["status"] = {k: v for k, v in told.status.items() if v is not None}
    assert revisions.plan(scaled, [record]) == []


# ------------------------------------------------------------------------------------------------------------ as Helm 3
async def newest_of(fleet: Fleet, held: Document) -> Document | None:
    """The controlled ReplicaSet with the Deployment's own template, but for the hash; the oldest of several."""
    owned = [
        r
        for r in (await fleet.client.list(HISTORY, "demo")).items
        if r["metadata"]["ownerReferences"][0]["uid"] == held["metadata"]["uid"]
    ]
    for record in sorted(
        owned, key=lambda r: (r["metadata"]["creationTimestamp"], r["metadata"]["name"])
    ):
        pods = record["spec"]["template"]
        labels = {k: v for k, v in pods["metadata"]["labels"].items() if k != HASH_LABEL}
        if pods | {"metadata": pods["metadata"] | {"labels": labels}} == held["spec"]["template"]:
            return dict(record)
    return None


async def is_ready(fleet: Fleet) -> bool:
    """maxUnavailable of 25 % is rounded down."""
    held = await fleet.client.get(DEPLOYMENTS, WEB)
    record = await newest_of(fleet, held)
    if record is None:
        return False
    for one in (record, held):
        if one.get("status", {}).get("observedGeneration", 0) != one["metadata"]["generation"]:
            return False
    wanted = held["spec"]["replicas"]
    return bool(record["status"].get("readyReplicas", 0) >= wanted - wanted // 4)


def test_helm_waits_until_enough_are_ready_and_no_longer() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(1)
        assert not await is_ready(fleet)
        for cluster in ("alpha", "beta"):
            await fleet.report_work(cluster)
        await fleet.report_work("gamma", readyReplicas=0, availableReplicas=0)
        await asyncio.sleep(1)
        assert not await is_ready(fleet)
        await fleet.report_work("gamma", readyReplicas=1, availableReplicas=0)
        await asyncio.sleep(1)
        assert await is_ready(fleet)

        change = {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}
        await fleet.client.patch(DEPLOYMENTS, WEB, change)
        await asyncio.sleep(1)
        assert not await is_ready(fleet)
        for cluster in ZONES:  # one of two is updated, both are ready
            await fleet.report_work(cluster, updatedReplicas=1)
        await asyncio.sleep(1)
        assert not await is_ready(fleet)
        for cluster in ZONES:
            await fleet.report_work(cluster)
        await asyncio.sleep(1)
        assert await is_ready(fleet)
        old, new = sorted(
            (await fleet.client.list(HISTORY, "demo")).items, key=revisions.revision_of
        )
        assert (old["status"]["replicas"], new["status"]["replicas"]) == (0, 6)

    fleet_story(story)

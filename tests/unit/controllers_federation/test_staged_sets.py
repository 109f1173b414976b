"""Staged updates of StatefulSets and DaemonSets, and the ControllerRevisions that record their templates."""

import asyncio
from typing import Any

import pytest
from tests.unit.controllers_federation.test_flow import ZONES, Fleet, fleet_story
from tests.unit.controllers_federation.test_kinds_flow import TEMPLATE, policy, report, thing

from federation.cli import rollout
from federation.controllers import histories
from federation.propagation.rollouts.rules import idle
from federation.propagation.rollouts.snapshots import (
    HASH_LABEL,
    REVISIONS,
    by_revision,
    hash_of,
    recorded,
)
from federation.propagation.templates import DAEMONSETS, STATEFULSETS
from machinery.api.fleet import reflect
from machinery.api.fleet.rollouts import (
    STAGED_UPDATE_RUNS,
    STAGED_UPDATE_STRATEGIES,
    STRATEGY,
    TEMPLATE_HASH,
)
from machinery.client.interface import PatchType
from machinery.controller.action import Create, Delete, Patch
from machinery.meta.resource import Document, ObjectKey, Resource

KEY = ObjectKey("demo", "db")
OLD, NEW = "i", "i:2"


def pod(image: str) -> Document:
    return {"containers": [{"name": "c", "image": image}]}


def workload(image: str = OLD, kind: str = "StatefulSet", **spec: Any) -> Document:
    template = TEMPLATE | {"spec": pod(image)}
    metadata = {"name": "db", "namespace": "demo", "uid": "u"}
    body = {"selector": {"matchLabels": {"app": "x"}}, "template": template} | spec
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": body}


def record(of: Document, revision: int) -> Document:
    (made,) = [a for a in histories.plan(of, []) if isinstance(a, Create)]
    metadata = made.document["metadata"] | {"uid": f"r-{revision}"}
    return made.document | {"metadata": metadata, "revision": revision}


# ------------------------------------------------------------------------------------------------------------- records
def test_a_record_is_the_patch_that_brings_its_template_back() -> None:
    (made,) = histories.plan(workload(), [])
    assert isinstance(made, Create)
    assert made.document["data"] == {
        "spec": {"template": workload()["spec"]["template"] | {"$patch": "replace"}}
    }
    assert made.document["revision"] == 1
    assert made.document["metadata"]["labels"] == {"app": "x", HASH_LABEL: hash_of(workload())}
    (owner,) = made.document["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("StatefulSet", "db", True)


def test_an_old_template_that_comes_back_is_the_newest_again() -> None:
    old, new = record(workload(OLD), 1), record(workload(NEW), 2)
    assert histories.plan(workload(NEW), [old, new]) == []
    (renumbered,) = histories.plan(workload(OLD), [old, new])
    assert isinstance(renumbered, Patch)
    assert (renumbered.key.name, renumbered.patch) == (old["metadata"]["name"], {"revision": 3})


def test_old_ones_beyond_the_limit_go_but_for_those_that_some_cluster_has() -> None:
    kept = [record(workload(f"i:{n}", revisionHistoryLimit=1), n) for n in range(1, 5)]
    newest = workload("i:4", revisionHistoryLimit=1)
    gone = [a.key.name for a in histories.plan(newest, kept) if isinstance(a, Delete)]
    assert gone == [r["metadata"]["name"] for r in kept[:2]]
    used = {kept[0]["metadata"]["labels"][HASH_LABEL]}
    gone = [a.key.name for a in histories.plan(newest, kept, used) if isinstance(a, Delete)]
    assert gone == [kept[1]["metadata"]["name"]]


def test_templates_and_numbers_out_of_records() -> None:
    kept = [record(workload(OLD), 1), record(workload(NEW), 2)]
    foreign = {"metadata": {"name": "x", "labels": {HASH_LABEL: "x"}}, "data": {"spec": 1}}
    assert recorded([*kept, foreign]) == {
        hash_of(workload(image)): workload(image)["spec"]["template"] for image in (OLD, NEW)
    }
    assert by_revision([*kept, foreign]) == {
        "1": hash_of(workload(OLD)),
        "2": hash_of(workload(NEW)),
    }


@pytest.mark.parametrize(
    ("kind", "warned"),
    [("Deployment", False), ("StatefulSet", False), ("DaemonSet", False), ("Job", True)],
)
def test_who_is_told_that_it_is_not_staged(kind: str, warned: bool) -> None:
    marked = {"kind": kind, "metadata": {"annotations": {STRATEGY: "s"}}}
    assert bool(list(idle(marked))) == warned


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_members_report_which_template_they_were_given(kind: str) -> None:
    live = workload(kind=kind)
    assert "templateHash" not in (reflect.reflected(live) or {})
    live["metadata"]["annotations"] = {TEMPLATE_HASH: "abc"}
    assert (reflect.reflected(live) or {})["templateHash"] == "abc"


# ------------------------------------------------------------------------------------------------- with all controllers
async def images(fleet: Fleet, kind: str) -> dict[str, str]:
    """What each Work carries."""
    found = {}
    for name in ZONES:
        for work in await fleet.works(name, kind):
            (manifest,) = work["spec"]["workload"]["manifests"]
            found[name] = manifest["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


async def pass_time(fleet: Fleet, kind: str, counts: Document, seconds: int) -> None:
    """Members do at once what they are told."""
    for _ in range(seconds):
        await fleet.beat(*ZONES)
        for name in ZONES:
            (work,) = await fleet.works(name, kind)
            marks = work["spec"]["workload"]["manifests"][0]["metadata"]["annotations"]
            status = counts | {"templateHash": marks.get(TEMPLATE_HASH, "")}
            await report(fleet, name, kind, {k: v for k, v in status.items() if v != ""})


async def staged(fleet: Fleet, resource: Resource[Document], document: Document) -> None:
    strategy = thing(STAGED_UPDATE_STRATEGIES, "by-zone")
    strategy["spec"] = {
        "stages": [{"name": "zone", "groupBy": "zone"}],
        "healthGate": {"progressDeadline": "60s", "minSuccessTime": "2s"},
    }
    await fleet.client.create(STAGED_UPDATE_STRATEGIES, strategy, "demo")
    await policy(fleet, resource, *ZONES)
    document["metadata"]["annotations"] = {STRATEGY: "by-zone"}
    await fleet.client.create(resource, document)
    await asyncio.sleep(3)


STATEFUL = {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2}
DAEMON = {
    "desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberReady": 3, "numberAvailable": 3,
    "updatedNumberScheduled": 3, "numberMisscheduled": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "counts", "updated"),
    [(STATEFULSETS, STATEFUL, "updatedReplicas"), (DAEMONSETS, DAEMON, "updatedNumberScheduled")],
    ids=("StatefulSet", "DaemonSet"),
)
def test_a_change_goes_zone_by_zone_and_is_done_only_at_the_end(
    resource: Resource[Document], counts: Document, updated: str
) -> None:
    async def story(fleet: Fleet) -> None:
        more = {"replicas": 2, "serviceName": "db"} if resource == STATEFULSETS else {}
        selector = {"matchLabels": {"app": "x"}}
        template = TEMPLATE | {"spec": pod(OLD)}
        document = thing(resource, "db", selector=selector, template=template, **more)
        await staged(fleet, resource, document)
        assert await images(fleet, resource.kind) == dict.fromkeys(ZONES, OLD)
        await pass_time(fleet, resource.kind, counts, 1)
        change = {"spec": {"template": {"spec": pod(NEW)}}}
        await fleet.client.patch(resource, KEY, change, PatchType.MERGE)
        await asyncio.sleep(2)
        assert sorted((await images(fleet, resource.kind)).values()) == [OLD, OLD, NEW]
        await pass_time(fleet, resource.kind, counts, 1)
        held = await fleet.client.get(resource, KEY)
        assert held["status"].get(updated, 0) == 0
        run: Any = await fleet.client.get(
            STAGED_UPDATE_RUNS, ObjectKey("demo", f"db-{resource.kind.lower()}-1")
        )
        assert run.spec.workload.kind == resource.kind
        named = await rollout.found(fleet.client, "demo", f"{resource.kind}/db")
        assert named.metadata.name == run.metadata.name
        await pass_time(fleet, resource.kind, counts, 6)
        assert await images(fleet, resource.kind) == dict.fromkeys(ZONES, NEW)
        run = await fleet.client.get(STAGED_UPDATE_RUNS, run.key)
        assert (run.status.state, run.status.updated_clusters) == ("Succeeded", 3)
        held = await fleet.client.get(resource, KEY)
        assert held["status"][updated] == 3 * counts[updated]
        records = (await fleet.client.list(REVISIONS, "demo")).items
        assert sorted(r["revision"] for r in records) == [1, 2]

    fleet_story(story)

"""Staged updates as stories: real controllers, modelled members, virtual time."""

import asyncio
from typing import Any

import pytest
from tests.unit.controllers_federation.moving_fleet import BINDING, WEB, Fleet, play

from federation.cli import approve as approve_verb
from federation.cli import rollout
from federation.cli.errors import CliError
from federation.propagation.rollouts.record import record_of
from federation.propagation.templates import CONFIGMAPS, DEPLOYMENTS
from federation.simulator.member import Ref
from federation.simulator.workload import BROKEN_IMAGE
from machinery.api.fleet.rollouts import (
    APPROVAL_REQUESTS,
    DISRUPTION_BUDGETS,
    STAGED_UPDATE_RUNS,
    STAGED_UPDATE_STRATEGIES,
    STRATEGY,
    StagedUpdateRun,
)
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.meta.errors import Invalid
from machinery.meta.resource import Document, ObjectKey


async def stage(fleet: Fleet, name: str = "by-zone", **spec: Any) -> None:
    """A strategy of the namespace, and the workload that goes by it."""
    body = {
        "stages": [{"name": "zone", "groupBy": "zone"}],
        "healthGate": {"progressDeadline": "60s", "minSuccessTime": "5s"},
    } | spec
    document = {
        "apiVersion": "ubernetes.io/v1alpha1",
        "kind": "StagedUpdateStrategy",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": body,
    }
    await fleet.client.create(STAGED_UPDATE_STRATEGIES, document, "demo")
    await fleet.deploy()
    marks = {"metadata": {"annotations": {STRATEGY: name}}}
    await fleet.client.patch(DEPLOYMENTS, WEB, marks)
    await asyncio.sleep(3)


async def set_image(fleet: Fleet, image: str) -> None:
    containers = [{"name": "web", "image": image}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    await fleet.client.patch(DEPLOYMENTS, WEB, patch)


async def images(fleet: Fleet) -> dict[str, str]:
    """What each Work carries."""
    found = {}
    for name in fleet.members:
        (manifest,) = (await fleet.work(name))["spec"]["workload"]["manifests"]
        found[name] = manifest["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


async def run_named(fleet: Fleet, name: str) -> StagedUpdateRun:
    return await fleet.client.get(STAGED_UPDATE_RUNS, ObjectKey("demo", name))


async def status(fleet: Fleet) -> Document:
    found: Document = (await fleet.client.get(DEPLOYMENTS, WEB)).get("status") or {}
    return found


async def generation(fleet: Fleet) -> int:
    found: int = (await fleet.client.get(DEPLOYMENTS, WEB))["metadata"]["generation"]
    return found


async def said(fleet: Fleet, kind: str) -> str:
    held = next(c for c in (await status(fleet))["conditions"] if c["type"] == kind)
    return f"{held['status']} {held['reason']}"


async def approve(fleet: Fleet, name: str) -> None:
    held = {"type": "Approved", "status": "True", "reason": "Looked", "message": ""}
    patch = {"status": {"conditions": [held]}}
    key = ObjectKey("demo", name)
    await fleet.client.patch(APPROVAL_REQUESTS, key, patch, subresource="status")


OLD, NEW = "whoami:1", "whoami:2"
ASKED = [{"type": "Approval"}]


def test_a_change_goes_zone_by_zone_and_is_done_only_at_the_end() -> None:
    async def story(fleet: Fleet) -> None:
        await stage(fleet)
        await set_image(fleet, NEW)
        await asyncio.sleep(2)
        assert await images(fleet) == {"alpha": NEW, "beta": OLD, "gamma": OLD}
        await asyncio.sleep(14)
        assert (await images(fleet))["gamma"] == OLD
        told = await status(fleet)
        assert told["updatedReplicas"] == 2
        assert told["observedGeneration"] == await generation(fleet)
        await asyncio.sleep(40)
        assert await images(fleet) == {"alpha": NEW, "beta": NEW, "gamma": NEW}
        run = await run_named(fleet, "web-1")
        assert (run.status.state, run.status.updated_clusters) == ("Succeeded", 3)
        assert (await status(fleet))["updatedReplicas"] == 6
        assert await said(fleet, "Progressing") == "True NewReplicaSetAvailable"
        record = record_of(await fleet.client.get(RESOURCE_BINDINGS, BINDING))
        assert record is not None
        assert (record.clusters, record.open) == ({}, False)

    play(story)


def test_a_template_that_never_gets_well_is_taken_back() -> None:
    async def story(fleet: Fleet) -> None:
        await stage(fleet, failureAction="Rollback")
        await set_image(fleet, BROKEN_IMAGE)
        await asyncio.sleep(10)
        assert await images(fleet) == {"alpha": BROKEN_IMAGE, "beta": OLD, "gamma": OLD}
        assert await fleet.pass_time(30) >= 5, "the other zones never notice"
        run = await run_named(fleet, "web-1")
        assert run.status.state == "RolledBack"
        assert await images(fleet) == dict.fromkeys(fleet.members, OLD)
        await asyncio.sleep(15)
        # kubectl rollout status ends with an error: the newest template was observed, and goes no further.
        assert await said(fleet, "Progressing") == "False ProgressDeadlineExceeded"
        assert (await status(fleet)).get("updatedReplicas", 0) == 0
        assert (await status(fleet))["observedGeneration"] == await generation(fleet)
        assert (await status(fleet))["readyReplicas"] == 6
        assert "StagedUpdateRolledBack" in await fleet.reasons(WEB)
        await set_image(fleet, NEW)
        await asyncio.sleep(60)
        assert (await run_named(fleet, "web-2")).status.state == "Succeeded"
        assert await said(fleet, "Progressing") == "True NewReplicaSetAvailable"

    play(story)


def test_a_zone_that_dies_before_its_turn_is_replaced_with_the_old_template() -> None:
    """Failover goes on during a run; what it starts elsewhere has what those clusters have."""

    async def story(fleet: Fleet) -> None:
        await stage(fleet, stages=[{"name": "z", "groupBy": "zone", "afterStageTasks": ASKED}])
        await set_image(fleet, NEW)
        await asyncio.sleep(20)
        run = await run_named(fleet, "web-1")
        assert run.status.state == "Waiting"
        assert run.status.message == (
            "stage z-zone-a waits for the approval of web-1-after-z-zone-a"
        )
        await fleet.members["gamma"].crash(power=True)
        await asyncio.sleep(40)
        assert await fleet.divided() == {"alpha": 3, "beta": 3}
        found = await images(fleet)
        assert (found["alpha"], found["beta"]) == (NEW, OLD)
        assert fleet.ready() == 6
        for stage_name in ("z-zone-a", "z-zone-b"):
            await approve(fleet, f"web-1-after-{stage_name}")
            await asyncio.sleep(20)
        run = await run_named(fleet, "web-1")
        assert run.status.state == "Succeeded"
        assert {c.cluster_name: c.state for s in run.status.stages for c in s.clusters} == {
            "alpha": "Succeeded", "beta": "Succeeded", "gamma": "Skipped",
        }  # fmt: skip
        fleet.members["gamma"].start()
        await asyncio.sleep(60)
        assert (await images(fleet))["alpha"] == NEW
        assert fleet.ready() >= 6

    play(story)


def test_a_cluster_that_dies_in_its_gate_is_left_out_when_failover_has_replaced_it() -> None:
    async def story(fleet: Fleet) -> None:
        await stage(fleet)
        await fleet.members["alpha"].crash(power=True)
        await set_image(fleet, NEW)
        await asyncio.sleep(90)
        run = await run_named(fleet, "web-1")
        assert run.status.state == "Succeeded"
        assert run.status.stages[0].clusters[0].state == "Skipped"
        assert fleet.ready() == 6

    play(story)


def test_a_server_that_dies_mid_run_goes_on_where_it_stood() -> None:
    async def story(fleet: Fleet) -> None:
        await stage(fleet)
        await set_image(fleet, NEW)
        for _ in range(6):
            await asyncio.sleep(5)
            found = list((await images(fleet)).values())
            assert found == sorted(found, reverse=True), "a later zone was before an earlier one"
            await fleet.server.kill()
            await asyncio.sleep(1)
            await fleet.server.start()
        await asyncio.sleep(40)
        assert (await run_named(fleet, "web-1")).status.state == "Succeeded"
        assert await images(fleet) == dict.fromkeys(fleet.members, NEW)

    play(story)


def test_replicas_and_overrides_act_at_once_during_a_run() -> None:
    async def story(fleet: Fleet) -> None:
        await stage(fleet, stages=[{"name": "z", "groupBy": "zone", "afterStageTasks": ASKED}])
        await set_image(fleet, NEW)
        await asyncio.sleep(15)
        await fleet.client.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": 12}})
        await asyncio.sleep(10)
        assert fleet.ready() == 12
        assert await images(fleet) == {"alpha": NEW, "beta": OLD, "gamma": OLD}
        assert len((await fleet.client.list(STAGED_UPDATE_RUNS, "demo")).items) == 1
        await set_image(fleet, "whoami:3")
        await asyncio.sleep(3)
        assert (await run_named(fleet, "web-1")).status.state == "Superseded"
        assert await images(fleet) == {"alpha": "whoami:3", "beta": OLD, "gamma": OLD}

    play(story)


def test_fedctl_approves_stops_and_takes_back() -> None:
    async def story(fleet: Fleet) -> None:
        client = fleet.client
        await stage(fleet, stages=[{"name": "z", "groupBy": "zone", "afterStageTasks": ASKED}])
        with pytest.raises(CliError, match="there is no staged update of web in namespace demo"):
            await rollout.found(client, "demo", "deploy/web")
        await set_image(fleet, NEW)
        await asyncio.sleep(20)
        lines = list(rollout.table(await rollout.found(client, "demo", "deploy/web")))
        assert lines[0].startswith("web-1  Waiting  stage z-zone-a waits for the approval")
        assert lines[1:4] == [
            "1 of 3 clusters",
            "  z-zone-a             Verifying  (fedctl approve web-1-after-z-zone-a)",
            "    alpha              Succeeded",
        ]
        await rollout.set_state(client, "demo", "web-1", "Stop")
        with pytest.raises(CliError, match="waiting there: web-1-after-z-zone-a"):
            await approve_verb.answer(client, ObjectKey("demo", "x"), "", yes=True)
        wanted = ObjectKey("demo", "web-1-after-z-zone-a")
        await approve_verb.answer(client, wanted, "by me", yes=True)
        with pytest.raises(CliError, match="was approved already: by me"):
            await approve_verb.answer(client, wanted, "", yes=False)
        await asyncio.sleep(5)
        assert (await run_named(fleet, "web-1")).status.state == "Stopped"
        await rollout.set_state(client, "demo", "deploy/web", "Run")
        await asyncio.sleep(3)
        assert await images(fleet) == {"alpha": NEW, "beta": NEW, "gamma": OLD}
        await rollout.set_state(client, "demo", "web-1", "Rollback")
        await asyncio.sleep(10)
        assert await images(fleet) == dict.fromkeys(fleet.members, OLD)
        with pytest.raises(CliError, match="web-1 is over .RolledBack.: rolled back: it was asked"):
            await rollout.set_state(client, "demo", "web-1", "Run")

    play(story)


def test_the_default_strategy_is_there_and_admission_refuses_nonsense() -> None:
    async def story(fleet: Fleet) -> None:
        found = await fleet.client.get(
            STAGED_UPDATE_STRATEGIES, ObjectKey("ubernetes-system", "one-zone-at-a-time")
        )
        assert found.spec.stages[0].group_by == "zone"
        with pytest.raises(Invalid, match=r"spec.stages\[0\].maxConcurrency: Invalid value: 0"):
            await stage(fleet, stages=[{"name": "z", "maxConcurrency": 0}])
        bad = {
            "apiVersion": "ubernetes.io/v1alpha1",
            "kind": "PlacementDisruptionBudget",
            "metadata": {"name": "b", "namespace": "demo"},
            "spec": {"resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}]},
        }
        with pytest.raises(Invalid, match="exactly one of minAvailable and maxUnavailable"):
            await fleet.client.create(DISRUPTION_BUDGETS, bad, "demo")

    play(story)


def test_what_the_old_template_refers_to_stays_as_long_as_a_cluster_has_it() -> None:
    async def story(fleet: Fleet) -> None:
        for name in ("settings-1", "settings-2"):
            document = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": "demo"},
            }
            await fleet.client.create(CONFIGMAPS, document)
        await stage(fleet, stages=[{"name": "z", "groupBy": "zone", "afterStageTasks": ASKED}])
        await set_settings(fleet, "settings-1")
        await finish(fleet)
        assert await holding(fleet, "settings-1") == set(fleet.members)
        await set_settings(fleet, "settings-2")
        await asyncio.sleep(20)
        assert await holding(fleet, "settings-1") == set(fleet.members)
        assert await holding(fleet, "settings-2") == set(fleet.members)
        await finish(fleet)
        assert await holding(fleet, "settings-1") == set()
        assert await holding(fleet, "settings-2") == set(fleet.members)

    play(story)


async def set_settings(fleet: Fleet, name: str) -> None:
    containers = [{"name": "web", "image": NEW, "envFrom": [{"configMapRef": {"name": name}}]}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    await fleet.client.patch(DEPLOYMENTS, WEB, patch)


async def finish(fleet: Fleet) -> None:
    """Approve whatever the newest run asks, to its end."""
    for _ in range(4):
        await asyncio.sleep(20)
        for request in (await fleet.client.list(APPROVAL_REQUESTS, "demo")).items:
            if not request.status.conditions:
                await approve(fleet, request.metadata.name)
    await asyncio.sleep(20)


async def holding(fleet: Fleet, name: str) -> set[str]:
    """Members that have the ConfigMap."""
    key = Ref("ConfigMap", ObjectKey("demo", name))
    return {n for n, member in fleet.members.items() if key in member.objects}


def test_runs_and_requests_go_with_their_workload() -> None:
    async def story(fleet: Fleet) -> None:
        await stage(fleet, stages=[{"name": "z", "groupBy": "zone", "beforeStageTasks": ASKED}])
        await set_image(fleet, NEW)
        await asyncio.sleep(5)
        assert (await fleet.client.list(APPROVAL_REQUESTS, "demo")).items
        await fleet.client.delete(DEPLOYMENTS, WEB)
        await asyncio.sleep(20)
        assert (await fleet.client.list(STAGED_UPDATE_RUNS, "demo")).items == []
        assert (await fleet.client.list(APPROVAL_REQUESTS, "demo")).items == []

    play(story)


def test_a_workload_of_mode_consistency_is_staged_like_any_other() -> None:
    """Its Works carry grants beside the template."""

    async def story(fleet: Fleet) -> None:
        await fleet.policy(mode="consistency", grantSeconds=20)
        await stage(fleet)
        await set_image(fleet, NEW)
        await asyncio.sleep(4)
        assert await images(fleet) == {"alpha": NEW, "beta": OLD, "gamma": OLD}
        await asyncio.sleep(240)
        assert (await run_named(fleet, "web-1")).status.state == "Succeeded"
        assert await images(fleet) == dict.fromkeys(fleet.members, NEW)

    play(story)

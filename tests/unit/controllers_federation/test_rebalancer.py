"""Rebalancer: who is asked for a new decision, and what the status says of it."""

import asyncio
import datetime as dt
from typing import Any

import msgspec
import pytest
from tests.unit.controllers_federation.moving_fleet import EVEN, Fleet, play

from federation.cli import rebalance
from federation.cli.errors import CliError
from federation.controllers import rebalancer
from machinery.api.fleet.operations import WORKLOAD_REBALANCERS, WorkloadRebalancer
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Delete, Emit, Patch, RequeueAfter, SetStatus
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey

NOW = dt.datetime(2026, 1, 1, 0, 1, 0, 500_000, dt.UTC)
CREATED = "2026-01-01T00:00:30Z"
WEB = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "demo"}
API = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "namespace": "demo"}
DONE = {"workload": WEB, "result": "Successful"}
LOST = {"workload": API, "result": "Failed", "reason": "ReferencedBindingNotFound"}


def asked(*workloads: Document, status: Document | None = None, **spec: Any) -> WorkloadRebalancer:
    document = {
        "metadata": {
            "name": "now",
            "uid": "u-9",
            "resourceVersion": "7",
            "generation": 2,
            "creationTimestamp": CREATED,
        },
        "spec": {"workloads": workloads} | spec,
        "status": status or {},
    }
    return msgspec.convert(document, WorkloadRebalancer)


def binding(name: str = "web", triggered: str = "", decided: str = "") -> ResourceBinding:
    spec = {"rescheduleTriggeredAt": triggered} if triggered else {}
    status = {"lastScheduledTime": decided} if decided else {}
    resource = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "namespace": "demo"}
    return msgspec.convert(
        {
            "metadata": {"name": f"{name}-deployment", "namespace": "demo", "uid": f"u-{name}"},
            "spec": spec | {"resource": resource},
            "status": status,
        },
        ResourceBinding,
    )


def plan(held: WorkloadRebalancer, *bindings: ResourceBinding) -> list[Action]:
    return rebalancer.plan(held, {b.key: b for b in bindings}, NOW)


def triggers(actions: list[Action]) -> dict[str, str]:
    return {
        a.key.name: a.patch["spec"]["rescheduleTriggeredAt"]
        for a in actions
        if isinstance(a, Patch) and isinstance(a.patch, dict)
    }


def told(actions: list[Action]) -> list[Document] | None:
    status = [a.status for a in actions if isinstance(a, SetStatus)]
    return status[0]["observedWorkloads"] if status else None


def test_a_workload_is_asked_for_once_and_told_as_done() -> None:
    actions = plan(asked(WEB), binding())
    assert triggers(actions) == {"web-deployment": "2026-01-01T00:01:00Z"}
    (status,) = (a for a in actions if isinstance(a, SetStatus))
    assert status.status == {
        "observedWorkloads": [DONE],
        "observedGeneration": 2,
        "finishTime": "2026-01-01T00:01:00Z",
    }
    assert status.resource_version == "7"
    assert {a.resource.kind for a in actions if isinstance(a, Emit)} == {
        "ResourceBinding",
        "Deployment",
    }
    assert isinstance(actions[0], Patch)
    assert isinstance(actions[-1], SetStatus)


def test_the_pass_after_a_crash_asks_for_nothing_more() -> None:
    """From the state after each single action."""
    first = plan(asked(WEB, API), binding(), binding("api"))
    assert set(triggers(first)) == {"web-deployment", "api-deployment"}
    again = plan(asked(WEB, API), binding(triggered="2026-01-01T00:01:00Z"), binding("api"))
    assert set(triggers(again)) == {"api-deployment"}
    assert told(again) == [{"workload": API, "result": "Successful"}, DONE]


@pytest.mark.parametrize(
    ("why", "triggered", "decided", "result"),
    [
        ("decided long ago", "", "2026-01-01T00:00:10Z", "asks"),
        ("decided after this was created, before now", "", "2026-01-01T00:00:50Z", "asks"),
        ("decided in this second", "", "2026-01-01T00:01:00Z", "waits"),
        ("asked for before this was created", "2026-01-01T00:00:29Z", "", "asks"),
        ("asked for since", "2026-01-01T00:00:30Z", "", "done"),
    ],
)
def test_when_a_workload_is_asked_for(why: str, triggered: str, decided: str, result: str) -> None:
    actions = plan(asked(WEB), binding(triggered=triggered, decided=decided))
    assert bool(triggers(actions)) == (result == "asks"), why
    assert (told(actions) == [DONE]) == (result != "waits"), why
    assert (RequeueAfter(1.0) in actions) == (result == "waits"), why


def test_a_workload_without_a_binding_has_failed() -> None:
    actions = plan(asked(WEB, API), binding())
    assert told(actions) == [LOST, DONE]


@pytest.mark.parametrize(
    ("why", "workloads", "before", "now_told", "now_asked"),
    [
        ("what is done stays done", [WEB], [DONE], [DONE], []),
        ("and is told when it is named no more", [API], [DONE], [LOST, DONE], []),
        ("what failed and is named no more is forgotten", [WEB], [LOST, DONE], [DONE], []),
        ("what failed is asked for again", [WEB], [{**DONE, "result": "Failed"}], [DONE], ["web"]),
        ("named twice is once", [WEB, WEB], [], [DONE], ["web"]),
    ],
)
def test_a_changed_list(
    why: str,
    workloads: list[Document],
    before: list[Document],
    now_told: list[Document],
    now_asked: list[str],
) -> None:
    status = {
        "observedWorkloads": before,
        "observedGeneration": 1,
        "finishTime": "2026-01-01T00:00:40Z",
    }
    actions = plan(asked(*workloads, status=status), binding())
    assert told(actions) == now_told, why
    assert list(triggers(actions)) == [f"{name}-deployment" for name in now_asked], why


@pytest.mark.parametrize(
    ("why", "ttl", "wanted"),
    [
        ("no end", None, []),
        ("not yet", 30, [RequeueAfter(10.5)]),
        ("over", 19, [Delete(WORKLOAD_REBALANCERS, ObjectKey("", "now"), "u-9", "7")]),
        ("negative: at once", -1, [Delete(WORKLOAD_REBALANCERS, ObjectKey("", "now"), "u-9", "7")]),
    ],
)
def test_its_own_end(why: str, ttl: int | None, wanted: list[Action]) -> None:
    status = {
        "observedWorkloads": [DONE],
        "observedGeneration": 2,
        "finishTime": "2026-01-01T00:00:41Z",
    }
    spec = {} if ttl is None else {"ttlSecondsAfterFinished": ttl}
    assert plan(asked(WEB, status=status, **spec), binding()) == wanted, why


def test_a_fleet_is_balanced_on_demand_surge_first() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.taint("gamma", "NoSchedule")
        await fleet.deploy()
        assert await fleet.divided() == {"alpha": 3, "beta": 3}
        await fleet.taint("gamma")
        assert await fleet.pass_time(60) == 6
        assert await fleet.divided() == {"alpha": 3, "beta": 3}, "nothing moves by itself"
        document = {
            "apiVersion": WORKLOAD_REBALANCERS.api_version,
            "kind": WORKLOAD_REBALANCERS.kind,
            "metadata": {"name": "now"},
            "spec": {"workloads": [WEB], "ttlSecondsAfterFinished": 30},
        }
        _ = await fleet.client.create(WORKLOAD_REBALANCERS, document)
        assert await fleet.pass_time(20) >= 6
        assert await fleet.divided() == EVEN
        assert [fleet.pods(name) for name in ("alpha", "beta", "gamma")] == [2, 2, 2]
        held = await fleet.client.get(WORKLOAD_REBALANCERS, ObjectKey("", "now"))
        assert [(w.result, w.reason) for w in held.status.observed_workloads] == [
            ("Successful", "")
        ]
        await asyncio.sleep(20)
        with pytest.raises(NotFound):
            _ = await fleet.client.get(WORKLOAD_REBALANCERS, ObjectKey("", "now"))

    play(story)


def test_the_verb_waits_and_shows_what_moved(capsys: pytest.CaptureFixture[str]) -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.taint("gamma", "NoSchedule")
        await fleet.deploy()
        await fleet.taint("gamma")
        web = rebalance.workload("deploy/web", "demo")
        before = await rebalance.begin(fleet.client, ["deploy/web"], "demo")
        early = await rebalance.settled(fleet.client, [web], fleet.clock, 0.0)
        assert rebalance.open_end(early[web]) == "deployment/web is not decided yet"
        after = await rebalance.settled(fleet.client, [web], fleet.clock, 60.0)
        assert rebalance.open_end(after[web]) == ""
        assert rebalance.table(rebalance.rows(before, after)) == [
            "WORKLOAD        CLUSTER  BEFORE  AFTER",
            "deployment/web  alpha    3       2",
            "deployment/web  beta     3       2",
            "deployment/web  gamma    0       2",
        ]
        with pytest.raises(CliError, match="there is no deployment/api, or no policy places it"):
            _ = await rebalance.begin(fleet.client, ["deploy/api"], "demo")

    play(story)
    assert "asks for a new division" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("deploy/web", "Deployment"),
        ("deployments/web", "Deployment"),
        ("deployment.apps/web", "Deployment"),
        ("sts/web", "StatefulSet"),
        ("jobs/web", "Job"),
        ("web", None),
        ("deploy/", None),
        ("configmap/web", None),
    ],
)
def test_how_the_verb_takes_names(text: str, kind: str | None) -> None:
    if kind is None:
        with pytest.raises(CliError, match="is no workload"):
            _ = rebalance.workload(text, "demo")
    else:
        assert rebalance.workload(text, "demo").kind == kind


def test_what_the_verb_still_waits_for() -> None:
    held = binding(triggered="2026-01-01T00:00:10Z", decided="2026-01-01T00:00:11Z")
    assert rebalance.open_end(held) == ""
    waiting = binding(triggered="2026-01-01T00:00:10Z", decided="2026-01-01T00:00:09Z")
    assert rebalance.open_end(waiting) == "deployment/web is not decided yet"

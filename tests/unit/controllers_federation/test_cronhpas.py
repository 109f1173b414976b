"""Cron HPAs: when rules are due, also after a pause, what is written and what is told of it."""

import datetime as dt
from typing import Any

import msgspec
import pytest
from tests.unit.controllers_federation.moving_fleet import WEB, Fleet, play

from federation.controllers import cronhpas
from federation.controllers.cronhpas import Due, Outcome
from federation.propagation.templates import DEPLOYMENTS
from machinery.api.fleet.autoscaling import CRON_FEDERATED_HPAS, CronFederatedHPA
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.controller.action import Action, Emit, Patch, RequeueAfter, SetStatus
from machinery.meta.resource import Document, ObjectKey

NOW = dt.datetime(2026, 1, 1, 12, 0, 30, tzinfo=dt.UTC)
KINDS = cronhpas.scalable((*BUILTIN, *FLEET))
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
SCALER = {"apiVersion": "autoscaling.karmada.io/v1alpha1", "kind": "FederatedHPA", "name": "web"}


def rule(**fields: Any) -> Document:
    return {"name": "noon", "schedule": "0 12 * * *", "targetReplicas": 5} | fields


def history(due: str | None = None, **fields: Any) -> Document:
    return {"ruleName": "noon"} | ({"nextExecutionTime": due} if due else {}) | fields


def held(
    *rules: Document, told: list[Document] | None = None, target: Document = DEPLOYMENT
) -> CronFederatedHPA:
    document = {
        "metadata": {"name": "c", "namespace": "demo", "uid": "u-1", "resourceVersion": "4"},
        "spec": {"scaleTargetRef": target, "rules": rules},
        "status": {"executionHistories": told or []},
    }
    return msgspec.convert(document, CronFederatedHPA)


def status(actions: list[Action]) -> Any:
    found = [a.status["executionHistories"] for a in actions if isinstance(a, SetStatus)]
    return found[0] if found else None


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


# ---------------------------------------------------------------------------------------------------------------- when
@pytest.mark.parametrize(
    ("why", "rule_", "told", "wanted"),
    [
        ("new: from now on", rule(), [], None),
        ("not yet", rule(), [history("2026-01-02T12:00:00Z")], None),
        ("due", rule(), [history("2026-01-01T12:00:00Z")], "2026-01-01T12:00:00Z"),
        ("missed for days: the last one, once", rule(), [history("2025-12-20T12:00:00Z")], "2026-01-01T12:00:00Z"),
        ("missed by the minute", rule(schedule="* * * * *"), [history("2026-01-01T10:00:00Z")], "2026-01-01T12:00:00Z"),
        ("another schedule by now", rule(schedule="30 11 * * *"), [history("2026-01-01T12:00:00Z")], None),
        ("suspended", rule(suspend=True), [history("2026-01-01T12:00:00Z")], None),
        ("was suspended", rule(), [history()], None),
        ("in its time zone", rule(timeZone="Europe/Berlin", schedule="0 13 * * *"), [history("2026-01-01T12:00:00Z")], "2026-01-01T12:00:00Z"),
        ("another rule's", rule(name="night"), [history("2026-01-01T12:00:00Z")], None),
    ],
)  # fmt: skip
def test_when_a_rule_is_due(
    why: str, rule_: Document, told: list[Document], wanted: str | None
) -> None:
    found = [one.at for one in cronhpas.due(held(rule_, told=told), NOW)]
    assert found == ([] if wanted is None else [at(wanted)]), why


# ---------------------------------------------------------------------------------------------------------------- what
@pytest.mark.parametrize(
    ("why", "target", "rule_", "wanted"),
    [
        ("replicas", DEPLOYMENT, rule(), ("deployments", {"replicas": 5})),
        ("none", DEPLOYMENT, rule(targetReplicas=0), ("deployments", {"replicas": 0})),
        ("a ReplicaSet", DEPLOYMENT | {"apiVersion": "apps/v1", "kind": "ReplicaSet"}, rule(), ("replicasets", {"replicas": 5})),
        ("limits of an autoscaler", SCALER, rule(targetReplicas=None, targetMinReplicas=2, targetMaxReplicas=9), ("federatedhpas", {"minReplicas": 2, "maxReplicas": 9})),
        ("one of them", SCALER, rule(targetReplicas=None, targetMaxReplicas=9), ("federatedhpas", {"maxReplicas": 9})),
        ("no such kind", DEPLOYMENT | {"kind": "Wagon"}, rule(), 'no kind "Wagon" in version "apps/v1" is served that can be scaled'),
        ("one without replicas", {"apiVersion": "v1", "kind": "ConfigMap", "name": "web"}, rule(),
         'no kind "ConfigMap" in version "v1" is served that can be scaled'),
    ],
)  # fmt: skip
def test_what_is_written(why: str, target: Document, rule_: Document, wanted: Any) -> None:
    hpa = held(rule_, target=target)
    found = cronhpas.scaling(hpa, hpa.spec.rules[0], KINDS)
    if isinstance(found, Patch) and isinstance(found.patch, dict):
        assert found.key == WEB
        assert (found.resource.plural, found.patch["spec"]) == wanted, why
    else:
        assert found == wanted, why


def outcome(hpa: CronFederatedHPA, failure: str = "") -> Outcome:
    return Outcome(Due(hpa.spec.rules[0], at("2026-01-01T12:00:00Z")), failure)


DONE = {
    "scheduleTime": "2026-01-01T12:00:00Z",
    "executionTime": "2026-01-01T12:00:30Z",
    "appliedReplicas": 5,
}


def test_what_is_told_of_a_success() -> None:
    old = DONE | {"scheduleTime": "2025-12-31T12:00:00Z"}
    told = [history("2026-01-01T12:00:00Z", successfulExecutions=[old, old, old])]
    hpa = held(rule(), told=told)
    actions = cronhpas.plan(hpa, [outcome(hpa)], NOW)
    assert status(actions) == [
        history("2026-01-02T12:00:00Z", successfulExecutions=[DONE, old, old])
    ]
    (said,) = (a for a in actions if isinstance(a, Emit))
    assert (said.type, said.reason) == ("Normal", "ScaledBySchedule")
    assert said.message == ("rule noon of 2026-01-01T12:00:00Z: Deployment web has replicas 5 now")
    assert RequeueAfter(86_370.0) in actions


def test_what_is_told_of_a_failure() -> None:
    hpa = held(rule(failedHistoryLimit=1), told=[history("2026-01-01T12:00:00Z")])
    actions = cronhpas.plan(hpa, [outcome(hpa, "no such thing")], NOW)
    failed = {**DONE, "message": "no such thing"}
    del failed["appliedReplicas"]
    assert status(actions) == [history("2026-01-02T12:00:00Z", failedExecutions=[failed])]
    (said,) = (a for a in actions if isinstance(a, Emit))
    assert (said.type, said.reason) == ("Warning", "ScaleReplicasFailed")
    none = held(rule(failedHistoryLimit=0), told=[history("2026-01-01T12:00:00Z")])
    assert status(cronhpas.plan(none, [outcome(none, "x")], NOW)) == [
        history("2026-01-02T12:00:00Z")
    ]


def test_what_is_told_when_nothing_is_due() -> None:
    new = cronhpas.plan(held(rule()), [], NOW)
    assert status(new) == [history("2026-01-02T12:00:00Z")]
    settled = held(rule(), told=status(new))
    assert cronhpas.plan(settled, [], NOW) == [RequeueAfter(86_370.0)]
    paused = held(rule(suspend=True), told=status(new))
    assert status(cronhpas.plan(paused, [], NOW)) == [history()]
    fewer = held(told=status(new))
    assert status(cronhpas.plan(fewer, [], NOW)) is None
    assert len([a for a in cronhpas.plan(fewer, [], NOW) if isinstance(a, SetStatus)]) == 1


# ---------------------------------------------------------------------------------------------------------------- flow
def cron_hpa(schedule: str, replicas: int) -> Document:
    spec = {
        "scaleTargetRef": DEPLOYMENT,
        "rules": [{"name": "r", "schedule": schedule, "targetReplicas": replicas}],
    }
    return {
        "apiVersion": CRON_FEDERATED_HPAS.api_version,
        "kind": CRON_FEDERATED_HPAS.kind,
        "metadata": {"name": "c", "namespace": "demo"},
        "spec": spec,
    }


async def replicas(fleet: Fleet) -> int:
    return int((await fleet.client.get(DEPLOYMENTS, WEB))["spec"]["replicas"])


def test_replicas_follow_the_calendar_also_over_a_restart_of_the_server() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy(3)
        await fleet.client.create(CRON_FEDERATED_HPAS, cron_hpa("2,10 0 * * *", 6))
        _ = await fleet.pass_time(60)
        assert await replicas(fleet) == 3
        _ = await fleet.pass_time(60)
        assert await replicas(fleet) == 6
        assert fleet.ready() == 6
        await fleet.client.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": 2}})
        _ = await fleet.pass_time(120)
        assert await replicas(fleet) == 2, "a hand's work stands until the next time"
        await fleet.server.stop()
        await fleet.clock.sleep(600)
        await fleet.server.start()
        _ = await fleet.pass_time(30)
        assert await replicas(fleet) == 6, "what was missed is done when a server is back"
        key = ObjectKey("demo", "c")
        told = (await fleet.client.get(CRON_FEDERATED_HPAS, key)).status.execution_histories
        assert [e.schedule_time.minute for e in told[0].successful_executions] == [10, 2]
        next_ = told[0].next_execution_time
        assert next_ is not None
        assert (next_.day, next_.minute) == (2, 2)

    play(story)

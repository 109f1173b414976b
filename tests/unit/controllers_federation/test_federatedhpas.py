"""Federated HPAs: what is scaled, what is said of it, and how members are asked."""

import asyncio
import datetime as dt
from typing import Any

import msgspec
import pytest
from tests.unit.controllers_federation.moving_fleet import WEB, Fleet, play

from federation.clusters import metrics
from federation.clusters.metrics import Answers, MemberMetrics, NoMetrics
from federation.controllers import federatedhpas
from federation.controllers.federatedhpas import Seen, Target
from federation.propagation.templates import DEPLOYMENTS
from machinery.api.core import Pod
from machinery.api.fleet.autoscaling import FEDERATED_HPAS, FederatedHPA
from machinery.autoscaling.rates import Past
from machinery.client.interface import Listing, ListOptions
from machinery.controller.action import Action, Emit, Patch, RequeueAfter, SetStatus
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey, Resource

NOW = dt.datetime(2026, 1, 1, 1, 0, tzinfo=dt.UTC)
CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}
QUEUE = {"type": "Pods"}


def hpa(*kinds: Document, status: Document | None = None, **spec: Any) -> FederatedHPA:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    limits = {"minReplicas": 2, "maxReplicas": 10}
    document = {
        "metadata": {"name": "h", "namespace": "demo", "uid": "u-1", "generation": 3},
        "spec": {"scaleTargetRef": target, "metrics": kinds or (CPU,)} | limits | spec,
        "status": status or {},
    }
    return msgspec.convert(document, FederatedHPA)


def seen(replicas: int, *used: str, **more: Any) -> Seen:
    """`used` by pod: of one core that each requests."""
    pods, given = [], []
    for index, value in enumerate(used):
        began = "2026-01-01T00:00:00Z"
        document = {
            "metadata": {"name": f"p{index}.alpha"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {
                "phase": "Running",
                "startTime": began,
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": began}],
            },
        }
        pods.append(msgspec.convert(document, Pod))
        if value:
            given.append(pod_metrics(f"p{index}", value))
    target = Target(DEPLOYMENTS, WEB, replicas, {"matchLabels": {"app": "web"}})
    samples = federatedhpas.read(Answers({"alpha": tuple(given)}))
    return Seen(target, pods=pods, samples=samples, **more)


def pod_metrics(name: str, cpu: str) -> Document:
    return {
        "metadata": {"name": name, "namespace": "demo"},
        "timestamp": "2026-01-01T00:59:50Z",
        "window": "30s",
        "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": "10Mi"}}],
    }


def conditions(actions: list[Action]) -> dict[str, tuple[str, str]]:
    (status,) = (a.status for a in actions if isinstance(a, SetStatus))
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def scaled(actions: list[Action]) -> int | None:
    for action in actions:
        if isinstance(action, Patch) and isinstance(action.patch, dict):
            assert (action.resource, action.key) == (DEPLOYMENTS, WEB)
            return int(action.patch["spec"]["replicas"])
    return None


STEADY = {"ScalingActive": ("True", "ValidMetricFound"), "ScalingLimited": ("False", "DesiredWithinRange")}  # fmt: skip


@pytest.mark.parametrize(
    ("why", "held", "seen_", "wanted", "told"),
    [
        ("twice the load", hpa(), seen(2, "1", "1"), 4, STEADY),
        ("as it should be", hpa(), seen(2, "500m", "500m"), None, STEADY),
        ("more than the most", hpa(maxReplicas=3), seen(2, "1", "1"), 3,
         {"ScalingActive": ("True", "ValidMetricFound"), "ScalingLimited": ("True", "TooManyReplicas")}),
        ("below the least at once", hpa(), seen(1), 2, {"AbleToScale": ("True", "SucceededRescale")}),
        ("above the most at once", hpa(), seen(12), 10, {"AbleToScale": ("True", "SucceededRescale")}),
        ("scaled to nought by hand: off", hpa(), seen(0), None, {"ScalingActive": ("False", "ScalingDisabled")}),
        ("nobody gives metrics", hpa(), seen(2, "", "", failed={"alpha": "x"}), None,
         {"ScalingActive": ("False", "FailedGetResourceMetric")}),
        ("a metric that is not read", hpa(QUEUE), seen(2, "1", "1"), None, {"ScalingActive": ("False", "FailedGetPodsMetric")}),
        ("beside one that is: it may grow", hpa(QUEUE, CPU), seen(2, "1", "1"), 4, STEADY),
        ("but not shrink", hpa(QUEUE, CPU), seen(4, *["100m"] * 4), None, {"ScalingActive": ("False", "FailedGetPodsMetric")}),
        ("no target", hpa(), Seen(None, "it is not there"), None, {"AbleToScale": ("False", "FailedGetScale")}),
    ],
)  # fmt: skip
def test_what_is_scaled(
    why: str, held: FederatedHPA, seen_: Seen, wanted: int | None, told: dict[str, tuple[str, str]]
) -> None:
    step = federatedhpas.plan(held, seen_, Past(), NOW)
    assert scaled(step.actions) == wanted, why
    assert told.items() <= conditions(step.actions).items(), why
    assert RequeueAfter(15.0) in step.actions
    assert [c.replicas for c in step.past.changes] == (
        [] if wanted is None or seen_.target is None else [wanted - seen_.target.replicas]
    )


def test_it_shrinks_when_the_window_is_over() -> None:
    quiet = seen(4, *["100m"] * 4)
    first = federatedhpas.plan(hpa(), quiet, Past(), NOW)
    assert scaled(first.actions) is None
    later = NOW + dt.timedelta(seconds=299)
    second = federatedhpas.plan(hpa(), quiet, first.past, later)
    assert scaled(second.actions) is None
    third = federatedhpas.plan(hpa(), quiet, second.past, later + dt.timedelta(seconds=1))
    assert scaled(third.actions) == 2, "one pod would do, two are the least"


def test_what_is_told() -> None:
    step = federatedhpas.plan(hpa(), seen(2, "1", "1"), Past(), NOW)
    (status,) = (a.status for a in step.actions if isinstance(a, SetStatus))
    assert status["currentMetrics"] == [
        {
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "current": {"averageValue": "1", "averageUtilization": 100},
            },
        }
    ]
    numbers = ("currentReplicas", "desiredReplicas", "observedGeneration", "lastScaleTime")
    assert [status[name] for name in numbers] == [2, 4, 3, "2026-01-01T01:00:00Z"]
    (said,) = (a for a in step.actions if isinstance(a, Emit))
    assert said.message == (
        "New size: 4; reason: cpu resource utilization (percentage of request) above target"
    )
    failed = {"alpha": "it serves no metrics.k8s.io"}
    silent = federatedhpas.plan(hpa(), seen(2, "", "", failed=failed), Past(), NOW)
    why = (
        "did not receive metrics for targeted pods (pods might be unready); "
        "no metrics from alpha (it serves no metrics.k8s.io)"
    )
    assert [(a.reason, a.message) for a in silent.actions if isinstance(a, Emit)] == [
        ("FailedGetResourceMetric", why),
        (
            "FailedComputeMetricsReplicas",
            "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: "
            + why,
        ),
    ]


# ---------------------------------------------------------------------------------------------------------------- members
class Member:
    """One member's API: an answer, or an error."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked, self.closed = answer, "", False

    async def list(
        self, resource: Resource[Any], namespace: str, options: ListOptions
    ) -> Listing[Document]:
        self.asked = f"{resource.plural}.{resource.group} {namespace} {options.label_selector}"
        if self.answer is None:
            await asyncio.sleep(3600)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Listing(self.answer, "1")

    async def close(self) -> None:
        self.closed = True


class FakeLinks:
    """Links to these members; `away` has none."""

    def __init__(self, **members: Member) -> None:
        self.members = members
        self.connected = tuple(members)

    def client(self, cluster: str) -> Member:
        return self.members[cluster]


async def test_members_are_asked_side_by_side_and_who_fails_is_told() -> None:
    members = {
        "alpha": Member([pod_metrics("p0", "1")]),
        "beta": Member(NotFound("the server could not find the requested resource")),
        "gamma": Member(ConnectionError("the link is cut")),
    }
    links: Any = FakeLinks(**members)
    names = [*members, "away"]
    found = await MemberMetrics(links).read("demo", {"app": "web", "a": "b"}, names)
    assert list(federatedhpas.read(found)) == ["p0.alpha"]
    assert found.failed == {
        "beta": metrics.NOT_SERVED,
        "gamma": "the link is cut",
        "away": metrics.NOT_CONNECTED,
    }
    assert members["alpha"].asked == "pods.metrics.k8s.io demo a=b,app=web"
    assert all(m.closed for m in members.values())


async def test_a_member_that_does_not_answer_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "ANSWER_S", 0.01)
    links: Any = FakeLinks(alpha=Member(None))
    found = await MemberMetrics(links).read("demo", {}, ["alpha"])
    assert "did not answer" in found.failed["alpha"]


async def test_without_links_nobody_answers() -> None:
    found = await NoMetrics().read("demo", {}, ["alpha"])
    assert found == Answers(failed={"alpha": metrics.NOT_CONNECTED})


# ------------------------------------------------------------------------------------------------------------------- flow
def test_without_metrics_nothing_is_scaled_and_the_condition_says_why() -> None:
    document = {
        "apiVersion": FEDERATED_HPAS.api_version,
        "kind": FEDERATED_HPAS.kind,
        "metadata": {"name": "h", "namespace": "demo"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 4,
            "maxReplicas": 10,
        },
    }

    async def story(fleet: Fleet) -> None:
        await fleet.deploy(3)
        _ = await fleet.client.create(FEDERATED_HPAS, document)
        await asyncio.sleep(40)
        key = ObjectKey("demo", "h")
        held = await fleet.client.get(FEDERATED_HPAS, key)
        active = condition(held.status.conditions, "ScalingActive")
        assert active is not None
        assert (active.status, active.reason) == ("False", "FailedGetResourceMetric")
        template = await fleet.client.get(DEPLOYMENTS, WEB)
        assert template["spec"]["replicas"] == 4, "the least holds without metrics too"
        assert fleet.ready() == 4
        assert {"SuccessfulRescale", "FailedGetResourceMetric"} <= await fleet.reasons(key)

    play(story)

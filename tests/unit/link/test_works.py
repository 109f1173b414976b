"""What the member's link decides about Works, and what it does with them."""

from typing import Any

import pytest
from tests.support.fake_client import FakeClient

from cluster_agent.link.member import (
    Member,
    Outcome,
    belongs,
    conflict,
    identifier,
    no_namespace,
    prunes,
)
from cluster_agent.link.works import status_plan, work_keys
from machinery.api.fleet.work import EXECUTION_FINALIZER, PRUNES
from machinery.client.informer import Informer
from machinery.client.interface import dynamic
from machinery.kit.clock import FakeClock
from machinery.meta.errors import Forbidden, NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:01:00Z"
KEY = ObjectKey("karmada-es-alpha", "web-1")


def live(**labels: str) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "demo", "labels": labels, "generation": 2},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 1},
    }


def work(resolution: str = "abort", status: Document | None = None) -> Document:
    annotations = {"work.karmada.io/conflict-resolution": resolution}
    document: Document = {
        "metadata": {
            "name": KEY.name,
            "namespace": KEY.namespace,
            "annotations": annotations,
            "finalizers": [EXECUTION_FINALIZER],
        },
        "spec": {"workload": {"manifests": []}},
    }
    return document | ({"status": status} if status is not None else {})


@pytest.mark.parametrize(
    ("existing", "resolution", "refused"),
    [
        (None, "abort", False),
        (live(**{"karmada.io/managed": "true"}), "abort", False),
        (live(), "abort", True),
        (live(), "overwrite", False),
    ],
    ids=["nothing there", "ours", "somebody else's", "taken over on purpose"],
)
def test_an_object_of_somebody_else_is_a_conflict(
    existing: Document | None, resolution: str, refused: bool
) -> None:
    assert bool(conflict(existing, work(resolution))) is refused


def test_the_conflict_is_told_in_karmadas_words() -> None:
    assert conflict(live(), work()) == (
        "resource(kind=Deployment, demo/web) already exists in the cluster alpha and the "
        "work.karmada.io/conflict-resolution strategy value is empty, Karmada will not manage this resource"
    )


def test_a_manifest_is_named_as_karmada_names_it() -> None:
    assert identifier(0, live(), "deployments") == {
        "ordinal": 0,
        "group": "apps",
        "version": "v1",
        "kind": "Deployment",
        "resource": "deployments",
        "namespace": "demo",
        "name": "web",
    }


def test_only_the_work_that_made_an_object_may_take_it_away() -> None:
    made = live()
    made["metadata"]["annotations"] = {
        "work.karmada.io/name": KEY.name,
        "work.karmada.io/namespace": KEY.namespace,
    }
    assert belongs(made, KEY)
    assert work_keys(made) == [KEY]
    assert not belongs(made, ObjectKey(KEY.namespace, "other"))
    assert not belongs(live(), KEY)


def test_status_carries_health_and_what_came_back() -> None:
    named = identifier(0, live(), "deployments")
    status = status_plan(work(), [Outcome(named, live=live())], NOW)
    assert status is not None
    (entry,) = status["manifestStatuses"]
    assert entry["health"] == "Healthy"
    assert entry["status"]["generation"] == 2
    assert [(c["type"], c["status"], c["reason"]) for c in status["conditions"]] == [
        ("Dispatching", "True", "Dispatching"),
        ("Applied", "True", "AppliedSuccessful"),
    ]


def test_an_unchanged_status_is_not_written() -> None:
    named = identifier(0, live(), "deployments")
    first = status_plan(work(), [Outcome(named, live=live())], NOW)
    assert status_plan(work(status=first), [Outcome(named, live=live())], LATER) is None


def test_a_failure_is_told_with_its_words_and_the_time_it_began() -> None:
    named = identifier(0, live(), "deployments")
    good = status_plan(work(), [Outcome(named, live=live())], NOW)
    bad: Any = status_plan(
        work(status=good), [Outcome(named, 'namespaces "demo" not found')], LATER
    )
    _, applied = bad["conditions"]
    assert applied["status"] == "False"
    assert 'namespaces "demo" not found' in applied["message"]
    assert applied["lastTransitionTime"] == LATER
    assert bad["manifestStatuses"][0]["health"] == "Unknown"


# ---------------------------------------------------------------------------------------------------- what goes
SLICES = dynamic("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", True)


def piece(name: str, work: str = KEY.name, namespace: str = "demo") -> Document:
    marks = {"work.karmada.io/name": work, "work.karmada.io/namespace": KEY.namespace}
    metadata = {"name": name, "namespace": namespace, "annotations": marks}
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata}


def carrying(*manifests: Document, kinds: str = "discovery.k8s.io/v1/EndpointSlice") -> Document:
    document = work()
    document["metadata"]["annotations"][PRUNES] = kinds
    document["spec"]["workload"]["manifests"] = list(manifests)
    return document


def test_kinds_that_are_pruned() -> None:
    assert prunes(carrying(kinds="discovery.k8s.io/v1/EndpointSlice,v1/Service")) == [
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("v1", "Service"),
    ]
    assert prunes(work()) == []


@pytest.mark.parametrize(
    ("told", "left"),
    [
        (carrying(piece("a")), ["a", "other", "else"]),
        (carrying(piece("a"), piece("b")), ["a", "b", "other", "else"]),
        (carrying(piece("a"), kinds=""), ["a", "b", "other", "else"]),
        (carrying(piece("a"), kinds="x/v1/Unknown"), ["a", "b", "other", "else"]),
    ],
    ids=["one goes", "all stay", "nothing is pruned", "of no kind here"],
)
async def test_what_a_work_carries_no_more_is_deleted(told: Document, left: list[str]) -> None:
    client, clock = FakeClient(), FakeClock()
    for held in (piece("a"), piece("b"), piece("other", "web-2"), piece("else", namespace="shop")):
        await client.create(SLICES, held, held["metadata"]["namespace"])
    copy: Informer[Document] = Informer(client, SLICES, clock)
    await copy.list_once()
    known = {("discovery.k8s.io/v1", "EndpointSlice"): SLICES}
    member = Member(client, lambda *kind: known.get(kind), lambda _: copy, clock)
    await member.prune(told)
    found = (await client.list(SLICES)).items
    assert sorted(d["metadata"]["name"] for d in found) == sorted(left)


@pytest.mark.parametrize(
    ("error", "waited"),
    [
        (NotFound("", details={"kind": "namespaces", "name": "demo"}), True),
        (NotFound("", details={"kind": "serviceimports", "name": "web"}), False),
        (NotFound(""), False),
        (Forbidden("", details={"kind": "namespaces"}), False),
    ],
)
def test_a_namespace_that_is_missing_is_waited_for(error: StatusError, waited: bool) -> None:
    assert no_namespace(error) is waited


# --------------------------------------------------------------------------------------------------------- autoscalers
DEPLOYMENTS = dynamic("apps", "v1", "deployments", "Deployment", True)
AUTOSCALERS = dynamic(
    "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True
)


def autoscaler(
    name: str = "web", api_version: str = "apps/v1", namespace: str = "demo"
) -> Document:
    target = {"apiVersion": api_version, "kind": "Deployment", "name": name}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "namespace": namespace},
        "spec": {"scaleTargetRef": target},
    }


class Applying(FakeClient):
    """An apply by one manager alone: a merge."""

    async def patch(self, resource: Any, key: ObjectKey, patch: Any, *_: Any, **__: Any) -> Any:
        return await super().patch(resource, key, patch)


@pytest.mark.parametrize(
    ("why", "held", "served", "replicas"),
    [
        ("its number is the autoscaler's", autoscaler(), True, 7),
        ("whatever version it names", autoscaler(api_version="apps/v1beta1"), True, 7),
        ("an autoscaler of something else", autoscaler("db"), True, 2),
        ("of another group's kind", autoscaler(api_version="example.com/v1"), True, 2),
        ("of another namespace", autoscaler(namespace="shop"), True, 2),
        ("none", None, True, 2),
        ("a member that serves none", None, False, 2),
    ],
)
async def test_what_an_autoscaler_scales_keeps_its_number(
    why: str, held: Document | None, served: bool, replicas: int
) -> None:
    client, clock = Applying(), FakeClock()
    running = live(**{"karmada.io/managed": "true"})
    running["spec"]["replicas"] = 7
    await client.create(DEPLOYMENTS, running, "demo")
    if held is not None:
        await client.create(AUTOSCALERS, held, held["metadata"]["namespace"])
    known = {("apps/v1", "Deployment"): DEPLOYMENTS}
    if served:
        known[("autoscaling/v2", "HorizontalPodAutoscaler")] = AUTOSCALERS
    copies: dict[Any, Informer[Document]] = {r: Informer(client, r, clock) for r in known.values()}
    for copy in copies.values():
        await copy.list_once()
    member = Member(client, lambda *kind: known.get(kind), lambda r: copies[r], clock)
    wanted = live(**{"karmada.io/managed": "true"})
    wanted["spec"] = {"replicas": 2, "paused": True}
    outcome = await member.apply(work(), 0, wanted)
    assert outcome.error == ""
    found = await client.get(DEPLOYMENTS, ObjectKey("demo", "web"))
    assert (found["spec"]["replicas"], found["spec"]["paused"]) == (replicas, True), why

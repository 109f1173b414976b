"""The plans of the federation's controllers, one by one: values in, actions out."""

import datetime as dt
from typing import Any

import msgspec
import pytest

from federation.controllers import (
    defaults,
    dependencies,
    detector,
    dispatcher,
    health,
    namespaces,
    placer,
    revisions,
    statuses,
)
from federation.domains.clock import FailureClock
from federation.placement.model import Candidate
from federation.propagation import questions
from federation.propagation.claims import Claim
from machinery.api.coordination import Lease
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.policy import ClusterPropagationPolicy, PropagationPolicy
from machinery.api.fleet.work import RESOURCE_BINDINGS, WORKS, ResourceBinding, Work
from machinery.client.interface import PatchType
from machinery.controller.action import (
    Action,
    Create,
    Delete,
    Emit,
    Patch,
    SetStatus,
)
from machinery.meta.resource import Document, ObjectKey

NOW = "2026-01-01T00:01:00Z"
BINDING = ObjectKey("demo", "web-deployment")


def template(replicas: int = 6, image: str = "whoami:1", **metadata: Any) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "demo", "uid": "u-1", "resourceVersion": "5"}
        | metadata,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    }


POLICY = Claim(msgspec.convert(defaults.DEFAULT_SPREAD, ClusterPropagationPolicy))


def first_binding(**spec: Any) -> Document:
    """The binding as the detector makes it, with a server's metadata."""
    create, _ = detector.plan(template(), POLICY, None, None)
    assert isinstance(create, Create)
    document = dict(create.document)
    document["metadata"] = document["metadata"] | {"uid": "b-1", "resourceVersion": "9"}
    document["spec"] = document["spec"] | spec
    return document


def view(binding: Document) -> ResourceBinding:
    return msgspec.convert(binding, ResourceBinding)


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


# ------------------------------------------------------------------------------------------------- detector
def test_a_claimed_template_gets_a_binding_and_hears_of_it() -> None:
    create, said = detector.plan(template(), POLICY, None, None)
    assert isinstance(create, Create)
    assert isinstance(said, Emit)
    assert said.reason == "ApplyPolicySucceed"
    assert create.document["metadata"]["name"] == "web-deployment"
    assert create.document["spec"]["replicas"] == 6
    assert create.document["spec"]["propagateDeps"] is True
    assert create.document["spec"]["placement"] == defaults.DEFAULT_SPREAD["spec"]["placement"]
    assert create.document["metadata"]["annotations"] == {
        "clusterpropagationpolicy.karmada.io/name": "default-spread"
    }


def test_a_binding_that_says_it_all_is_left_alone() -> None:
    held = first_binding()
    assert detector.plan(template(), POLICY, view(held), held) == []


@pytest.mark.parametrize(
    ("changed", "ops"),
    [
        (template(7), [{"op": "replace", "path": "/spec/replicas", "value": 7}]),
        (template(0), [{"op": "remove", "path": "/spec/replicas"}]),
    ],
    ids=["scaled", "to nothing"],
)
def test_only_what_changed_is_written(changed: Document, ops: list[Document]) -> None:
    held = first_binding(clusters=[{"name": "alpha", "replicas": 6}])
    (patch,) = detector.plan(changed, POLICY, view(held), held)
    assert patch == Patch(RESOURCE_BINDINGS, BINDING, ops, PatchType.JSON)


def test_another_policy_takes_over_and_the_annotations_tell() -> None:
    own = msgspec.convert(
        {"metadata": {"name": "mine", "namespace": "demo"}, "spec": {"propagateDeps": True}},
        PropagationPolicy,
    )
    held = first_binding()
    patch, claim, said = detector.plan(template(), Claim(own), view(held), held)
    assert isinstance(patch, Patch)
    assert isinstance(claim, Patch)
    assert isinstance(said, Emit)
    assert [op["path"] for op in patch.patch] == ["/spec/placement"]
    assert claim.patch["metadata"]["annotations"] == {
        "propagationpolicy.karmada.io/name": "mine",
        "propagationpolicy.karmada.io/namespace": "demo",
        "clusterpropagationpolicy.karmada.io/name": None,
    }


NEEDED = {"requiredBy": [{"name": "web-deployment", "clusters": [{"name": "alpha"}]}]}


@pytest.mark.parametrize(
    ("document", "policy", "spec", "wanted"),
    [
        (None, POLICY, {}, ["Delete"]),
        (template(), None, {}, ["Patch"]),
        (template(deletionTimestamp=NOW), POLICY, {}, ["Delete"]),
        (template(uid="u-2"), POLICY, {}, ["Delete"]),
        (None, None, NEEDED, ["Delete"]),
        (template(), None, NEEDED, ["Patch"]),
    ],
    ids=[
        "template gone", "nobody claims any more", "template going", "another of that name",
        "gone though needed", "needed, no longer claimed",
    ],
)  # fmt: skip
def test_bindings_that_lost_their_reason(
    document: Document | None, policy: Any, spec: Document, wanted: list[str]
) -> None:
    held = first_binding(**spec)
    assert kinds(detector.plan(document, policy, view(held), held)) == wanted


# ------------------------------------------------------------------------------------------------- placer
FLEET = [
    Candidate(name, zones=(zone,), free={"pods": 100})
    for name, zone in (("alpha", "zone-a"), ("beta", "zone-b"), ("gamma", "zone-c"))
]


def decide(held: Document, fleet: list[Candidate] | None = None) -> list[Action]:
    return placer.plan(view(held), FLEET if fleet is None else fleet, NOW)


def decided(held: Document) -> Document:
    """The binding after its decision was written, not yet confirmed."""
    patch, *_ = decide(held)
    assert isinstance(patch, Patch)
    annotations = held["metadata"].get("annotations", {}) | patch.patch["metadata"]["annotations"]
    return held | {
        "metadata": held["metadata"]
        | {"annotations": {k: v for k, v in annotations.items() if v is not None}},
        "spec": held["spec"] | patch.patch["spec"],
    }


def confirmed(held: Document) -> Document:
    """The binding after its decision was confirmed."""
    (status,) = decide(held)
    assert isinstance(status, SetStatus)
    return held | {"status": {k: v for k, v in status.status.items() if v is not None}}


def test_a_decision_names_clusters_and_says_why() -> None:
    patch, on_binding, on_template = decide(first_binding())
    assert isinstance(patch, Patch)
    assert patch.patch["spec"]["clusters"] == [
        {"name": "alpha", "replicas": 2},
        {"name": "beta", "replicas": 2},
        {"name": "gamma", "replicas": 2},
    ]
    assert patch.resource_version == "9"
    assert isinstance(on_binding, Emit)
    assert isinstance(on_template, Emit)
    assert "{alpha:2, beta:2, gamma:2}" in on_template.message


def test_a_decision_is_confirmed_once_it_is_written() -> None:
    (status,) = decide(decided(first_binding()))
    assert isinstance(status, SetStatus)
    assert status.resource_version == "9"
    assert status.status["lastScheduledTime"] == NOW
    (scheduled,) = status.status["conditions"]
    assert (scheduled["status"], scheduled["reason"]) == ("True", "Success")


def test_an_answered_question_is_not_asked_again() -> None:
    held = confirmed(decided(first_binding()))
    assert decide(held) == []
    assert decide(held, FLEET[:1]) == []
    assert kinds(decide(held | {"spec": held["spec"] | {"replicas": 7}})) == [
        "Patch", "Emit", "Emit",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "spec",
    [{"placement": None}, {"suspension": {"scheduling": True}}],
    ids=["nothing to decide", "suspended"],
)
def test_no_question(spec: Document) -> None:
    assert decide(first_binding(**spec)) == []


def test_a_fresh_decision_on_request() -> None:
    held = confirmed(decided(first_binding()))
    later = held | {"spec": held["spec"] | {"rescheduleTriggeredAt": "2026-01-01T00:02:00Z"}}
    assert questions.wants_fresh(view(later))
    assert kinds(decide(later)) == ["Patch", "Emit", "Emit"]
    assert not questions.wants_fresh(
        view(held | {"spec": held["spec"] | {"rescheduleTriggeredAt": "2026-01-01T00:00:00Z"}})
    )


def test_a_refusal_is_said_once_and_a_changed_fleet_answers() -> None:
    held = first_binding()
    status, *said = decide(held, [])
    assert isinstance(status, SetStatus)
    assert status.status["conditions"][0]["reason"] == "NoClusterFit"
    assert kinds(said) == ["Emit", "Emit"]
    refused = held | {"status": dict(status.status)}
    assert decide(refused, []) == []
    assert kinds(decide(refused)) == ["Patch", "Emit", "Emit"]


def test_a_decision_is_taken_back_when_nobody_places_the_binding() -> None:
    held = decided(first_binding())
    (patch,) = decide(held | {"spec": held["spec"] | {"placement": None}})
    assert isinstance(patch, Patch)
    assert patch.patch["spec"] == {"clusters": None}


# ------------------------------------------------------------------------------------------------- dispatcher
KNOWN = frozenset({"alpha", "beta", "gamma"})


def stored(work: Document, **metadata: Any) -> Document:
    return work | {"metadata": work["metadata"] | {"uid": "w-1", "resourceVersion": "3"} | metadata}


def test_works_where_the_decision_says() -> None:
    held = view(decided(first_binding()))
    wanted = dispatcher.wanted_works(held, template(), KNOWN)
    counts = {
        cluster: work["spec"]["workload"]["manifests"][0]["spec"]["replicas"]
        for cluster, work in wanted.items()
    }
    assert counts == {"alpha": 2, "beta": 2, "gamma": 2}
    assert set(dispatcher.wanted_works(held, template(), KNOWN - {"beta"})) == {"alpha", "gamma"}
    assert kinds(dispatcher.plan(wanted, [])) == ["Create"] * 3


def test_works_are_created_replaced_and_deleted() -> None:
    held = view(decided(first_binding()))
    old = dispatcher.wanted_works(held, template(), KNOWN)
    new = dispatcher.wanted_works(held, template(image="whoami:2"), KNOWN - {"gamma"})
    there = [stored(work) for work in old.values()]
    assert dispatcher.plan(old, there) == []
    actions = dispatcher.plan(new, there)
    assert kinds(actions) == ["Patch", "Patch", "Delete"]
    assert isinstance(actions[2], Delete)
    assert actions[2].uid == "w-1"
    going = [stored(work, deletionTimestamp=NOW) for work in old.values()]
    assert dispatcher.plan(new, going) == []


def test_clusters_of_those_who_need_it_count() -> None:
    held = view(first_binding(clusters=[{"name": "alpha", "replicas": 6}], **{
        "requiredBy": [{"name": "x", "clusters": [{"name": "alpha"}, {"name": "beta"}]}]
    }))  # fmt: skip
    assert dispatcher.targets(held) == {"alpha": 6, "beta": 0}


@pytest.mark.parametrize(
    ("suspension", "wanted"),
    [
        ({"dispatching": True}, {"alpha": True, "beta": True}),
        ({"dispatchingOnClusters": {"clusterNames": ["beta"]}}, {"alpha": False, "beta": True}),
        ({}, {"alpha": False, "beta": False}),
    ],
)
def test_suspended_works(suspension: Document, wanted: dict[str, bool]) -> None:
    clusters = [{"name": "alpha", "replicas": 3}, {"name": "beta", "replicas": 3}]
    held = view(first_binding(clusters=clusters, suspension=suspension))
    works = dispatcher.wanted_works(held, template(), KNOWN)
    assert {c: w["spec"]["suspendDispatching"] for c, w in works.items()} == wanted


# ------------------------------------------------------------------------------------------------- dependencies
CONFIG: Document = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": "demo", "uid": "c-1"},
}
PLACED = view(first_binding(clusters=[{"name": "alpha", "replicas": 2}]))


def config_binding(**spec: Any) -> Document:
    (create,) = dependencies.plan(CONFIG, [PLACED], None, None)
    assert isinstance(create, Create)
    document = dict(create.document)
    document["metadata"] = document["metadata"] | {"uid": "b-2", "resourceVersion": "4"}
    return document | {"spec": document["spec"] | spec}


def test_a_dependency_follows_where_its_workload_is() -> None:
    made = config_binding()
    assert made["spec"]["requiredBy"] == [
        {"namespace": "demo", "name": "web-deployment", "clusters": [{"name": "alpha", "replicas": 2}]}
    ]  # fmt: skip
    assert dependencies.plan(CONFIG, [PLACED], view(made), made) == []


@pytest.mark.parametrize(
    ("document", "needed", "spec", "wanted"),
    [
        (CONFIG, [], {}, ["Delete"]),
        (CONFIG, [], {"placement": {"spreadConstraints": []}}, ["Patch"]),
        (None, [PLACED], {}, []),
        (CONFIG, [PLACED, view(first_binding())], {}, []),
    ],
    ids=["no longer needed", "needed no more but claimed", "gone", "an unplaced one counts not"],
)
def test_dependencies_that_change(
    document: Document | None, needed: list[ResourceBinding], spec: Document, wanted: list[str]
) -> None:
    held = config_binding(**spec)
    assert kinds(dependencies.plan(document, needed, view(held), held)) == wanted


# ------------------------------------------------------------------------------------------------- namespaces
def test_namespaces_go_everywhere_and_away() -> None:
    demo: Document = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "demo", "uid": "n"},
        "spec": {"finalizers": ["kubernetes"]},
    }
    actions = namespaces.plan(demo, "demo", ["alpha", "beta"], [])
    assert kinds(actions) == ["Create", "Create"]
    assert isinstance(actions[0], Create)
    (inner,) = actions[0].document["spec"]["workload"]["manifests"]
    assert "spec" not in inner
    there = [stored(dict(a.document)) for a in actions if isinstance(a, Create)]
    assert namespaces.plan(demo, "demo", ["alpha", "beta"], there) == []
    going = demo | {"metadata": demo["metadata"] | {"deletionTimestamp": NOW}}
    assert kinds(namespaces.plan(going, "demo", ["alpha", "beta"], there)) == ["Delete"] * 2
    assert namespaces.plan(demo, "kube-system", ["alpha"], []) == []
    assert namespaces.namespace_keys(there[0]) == [ObjectKey("", "demo")]


# ------------------------------------------------------------------------------------------------- statuses
def reported(cluster: str, *, applied: str = "True", **status: Any) -> Work:
    return msgspec.convert(
        {
            "metadata": {"name": "web", "namespace": f"karmada-es-{cluster}"},
            "status": {
                "conditions": [{"type": "Applied", "status": applied, "message": "because"}],
                "manifestStatuses": [{"status": status, "health": "Healthy"}],
            },
        },
        Work,
    )


SEEN = {"alpha": True, "beta": True}
TWO = view(
    first_binding(clusters=[{"name": "alpha", "replicas": 3}, {"name": "beta", "replicas": 3}])
)


@pytest.mark.parametrize(
    ("works", "seen", "healths", "applied"),
    [
        ([reported("alpha"), reported("beta")], SEEN, ["Healthy", "Healthy"], "True"),
        ([reported("alpha")], SEEN, ["Healthy"], "False"),
        (
            [reported("alpha"), reported("beta")],
            SEEN | {"beta": False}, ["Healthy", "Unknown"], "True",
        ),
        (
            [reported("alpha"), reported("beta", applied="False")],
            SEEN, ["Healthy", "Healthy"], "False",
        ),
        ([reported("alpha"), reported("gamma")], SEEN, ["Healthy"], "False"),
    ],
    ids=["both", "one missing", "one not heard of", "one refused", "one that is not placed"],
)  # fmt: skip
def test_what_members_report_is_gathered(
    works: list[Work], seen: dict[str, bool], healths: list[str], applied: str
) -> None:
    (action,) = statuses.binding_plan(TWO, works, seen, {}, NOW)
    assert isinstance(action, SetStatus)
    assert [i["health"] for i in action.status["aggregatedStatus"]] == healths
    assert action.status["conditions"][-1]["status"] == applied
    assert statuses.binding_plan(TWO, works, seen, dict(action.status), NOW) == []


def test_a_template_is_told_only_what_changed() -> None:
    works = [reported("alpha", availableReplicas=3), reported("beta", availableReplicas=3)]
    document = template(generation=1)
    (action,) = statuses.template_plan(document, TWO, works, SEEN, NOW)
    assert isinstance(action, SetStatus)
    assert action.status["availableReplicas"] == 6
    told = document | {"status": {k: v for k, v in action.status.items() if v is not None}}
    assert statuses.template_plan(told, TWO, works, SEEN, NOW) == []


@pytest.mark.parametrize(
    ("scheduling", "clusters", "wanted"),
    [
        ({"replicaSchedulingType": "Divided"}, 2, 1),
        ({"replicaSchedulingType": "Duplicated"}, 2, 2),
        (None, 3, 3),
        (None, 0, 1),
    ],
)
def test_how_often_all_replicas_run(scheduling: Any, clusters: int, wanted: int) -> None:
    placement = {"replicaScheduling": scheduling} if scheduling else {}
    targets = [{"name": f"c-{i}", "replicas": 6} for i in range(clusters)]
    held = first_binding(placement=placement, clusters=targets)
    assert statuses.copies(view(held)) == wanted


# ------------------------------------------------------------------------------------------------- revisions
def kept(actions: list[Action]) -> list[Document]:
    return [dict(a.document) | {"status": {}} for a in actions if isinstance(a, Create)]


def test_each_template_is_recorded_once_and_undo_makes_the_old_one_new() -> None:
    first = template()
    actions = revisions.plan(first, [])
    assert kinds(actions) == ["Create", "Patch"]
    records = kept(actions)
    first["metadata"]["annotations"] = {revisions.REVISION: "1"}
    assert revisions.plan(first, records) == []
    second = template(image="whoami:2", annotations={revisions.REVISION: "1"})
    actions = revisions.plan(second, records)
    assert kinds(actions) == ["Create", "Patch", "Patch"]
    records += [dict(a.document) for a in actions if isinstance(a, Create)]
    assert [revisions.revision_of(r) for r in records] == [1, 2]
    back = template(annotations={revisions.REVISION: "2"})
    patches = [a.patch for a in revisions.plan(back, records) if isinstance(a, Patch)]
    assert {"metadata": {"annotations": {revisions.REVISION: "3"}}} in patches


def test_old_records_go() -> None:
    records: list[Document] = []
    for number in range(4):
        made = kept(revisions.plan(template(image=f"whoami:{number}"), records))
        records += [r | {"metadata": r["metadata"] | {"uid": f"r-{number}"}} for r in made]
    last = template(image="whoami:3", annotations={revisions.REVISION: "4"})
    last["spec"]["revisionHistoryLimit"] = 1
    doomed = [a.key.name for a in revisions.plan(last, records) if isinstance(a, Delete)]
    assert doomed == [r["metadata"]["name"] for r in records[:2]]


# ------------------------------------------------------------------------------------------------- health
CLOCK = FailureClock()


def member(
    ready: str = "", reason: str = "", message: str = "", *, tainted: bool = False
) -> Cluster:
    conditions = []
    if ready:
        conditions.append({"type": "Ready", "status": ready, "reason": reason, "message": message})
    taints = [{"key": "mine", "effect": "NoSchedule"}]
    if tainted:
        taints.append({"key": health.UNREACHABLE_TAINT, "effect": "NoSchedule"})
    return msgspec.convert(
        {
            "metadata": {"name": "alpha", "uid": "k-1", "resourceVersion": "2"},
            "spec": {"syncMode": "Pull", "taints": taints},
            "status": {"conditions": conditions},
        },
        Cluster,
    )


def looked(cluster: Cluster, silent_s: float | None) -> list[Action]:
    return health.plan(health.Observation(cluster, silent_s), CLOCK, NOW)


STANDS = ("True", "ClusterReady", "The agent's heartbeat stands.")


@pytest.mark.parametrize(
    ("cluster", "silent_s", "wanted"),
    [
        (member(), 0.5, ["SetStatus", "Emit", "RequeueAfter"]),
        (member(*STANDS), 0.5, ["RequeueAfter"]),
        (member(*STANDS), 7.0, ["SetStatus", "Emit", "RequeueAfter"]),
        (member(*STANDS), 10.5, ["Patch"]),
        (member(*STANDS, tainted=True), 10.5, ["SetStatus", "Emit"]),
        (member(*STANDS, tainted=True), 0.1, ["Patch", "RequeueAfter"]),
        (member(), None, ["Patch"]),
        (member(tainted=True), None, ["SetStatus", "Emit"]),
    ],
    ids=[
        "first beat",
        "stands",
        "suspect",
        "silent",
        "silent and tainted",
        "back",
        "never seen",
        "never seen and tainted",
    ],
)
def test_the_condition_follows_the_clock(
    cluster: Cluster, silent_s: float | None, wanted: list[str]
) -> None:
    assert kinds(looked(cluster, silent_s)) == wanted


def test_taints_of_others_stay() -> None:
    *_, patch = looked(member(*STANDS), 11.0)
    assert isinstance(patch, Patch)
    keys = [t["key"] for t in patch.patch["spec"]["taints"]]
    assert keys == ["mine", health.UNREACHABLE_TAINT]
    patch, *_ = looked(member(*STANDS, tainted=True), 0.0)
    assert isinstance(patch, Patch)
    assert [t["key"] for t in patch.patch["spec"]["taints"]] == ["mine"]


def test_a_member_that_leaves_is_not_judged() -> None:
    leaving = msgspec.structs.replace(
        member(),
        metadata=msgspec.structs.replace(
            member().metadata, deletion_timestamp=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        ),
    )
    assert looked(leaving, 100.0) == []


def test_heartbeats_count_when_they_are_received() -> None:
    now = [100.0]

    def lease(renewed: str) -> Lease:
        return msgspec.convert(
            {"metadata": {"name": "alpha"}, "spec": {"renewTime": renewed}}, Lease
        )

    beats = health.Heartbeats(lambda: now[0])
    assert beats.silent_s("alpha") is None
    beats.observe(None, lease("2020-01-01T00:00:00Z"))
    now[0] = 104.0
    assert beats.silent_s("alpha") == 4.0
    beats.observe(lease("2020-01-01T00:00:00Z"), lease("2020-01-01T00:00:00Z"))
    assert beats.silent_s("alpha") == 4.0
    beats.observe(lease("2020-01-01T00:00:00Z"), lease("2019-01-01T00:00:00Z"))
    assert beats.silent_s("alpha") == 0.0
    beats.observe(lease("2019-01-01T00:00:00Z"), None)
    assert beats.silent_s("alpha") is None


# ------------------------------------------------------------------------------------------------- defaults
def test_the_default_policy_is_made_once() -> None:
    policies, strategy = (defaults.INSTALLED, defaults.WHOLE_INSTALLED), defaults.STRATEGY_INSTALLED
    spread, whole = ({mark: "true"} for mark in policies)
    made, one = ["Create", "Create"], ["Create", "Patch"]
    assert kinds(defaults.plan({})) == made + 3 * one
    assert kinds(defaults.plan(spread)) == made + 2 * one
    assert kinds(defaults.plan(spread | whole)) == made + one
    assert kinds(defaults.plan(spread | whole | {strategy: "true"})) == made


def test_resources_named_in_these_tables_are_those_of_the_controllers() -> None:
    assert {r.kind for r in (CLUSTERS, RESOURCE_BINDINGS, WORKS)} == {
        "Cluster",
        "ResourceBinding",
        "Work",
    }

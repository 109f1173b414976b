"""Tables of what is known of each kind: replicas, shares, dependencies, what travels, what comes back, what is summed up.

Facts: Karmada's default interpreter (federation.md 1d "status aggregation", 2.3), its recordings (`tests/golden/karmada`), and
rank 20 of section 6: counts never include what was not seen.
"""

from typing import Any

import pytest

from federation.propagation import aggregation, interpreter
from federation.propagation.admission.plugin import idle
from federation.propagation.aggregate import MemberStatus
from federation.propagation.aggregation import Known
from federation.propagation.resilience import mode_of, resilience, stop_s
from federation.propagation.templates import TEMPLATES, is_wide, resource_of
from federation.propagation.works import fenced, work
from machinery.api.fleet import reflection
from machinery.api.fleet.reflect import health, reflected
from machinery.api.fleet.resilience import GRANT_SECONDS
from machinery.meta.resource import Document, ObjectKey

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-02T00:00:00Z"
KNOWN = Known(NOW)
VERSIONS = {
    "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "Deployment": "apps/v1", "Job": "batch/v1",
    "CronJob": "batch/v1", "HorizontalPodAutoscaler": "autoscaling/v2",
    "Ingress": "networking.k8s.io/v1", "PodDisruptionBudget": "policy/v1",
}  # fmt: skip


def thing(kind: str, status: Document | None = None, **spec: Any) -> Document:
    """An object of that kind, generation 1."""
    document: Document = {
        "apiVersion": VERSIONS.get(kind, "v1"),
        "kind": kind,
        "metadata": {"name": "x", "namespace": "demo", "uid": "u-1", "generation": 1},
        "spec": spec,
    }
    return document if status is None else document | {"status": status}


def pods(**spec: Any) -> Document:
    return {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [], **spec}}


def workload(kind: str, **pod: Any) -> Document:
    """An object of that kind whose pods are like that."""
    if kind == "CronJob":
        return thing(kind, jobTemplate={"spec": {"template": pods(**pod)}})
    return thing(kind, template=pods(**pod))


# ------------------------------------------------------------------------------------------------------- replicas
@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        (thing("Deployment", replicas=3), 3),
        (thing("StatefulSet", replicas=2), 2),
        (thing("StatefulSet"), 1),
        (thing("ReplicationController", replicas=4), 4),
        (thing("Job", parallelism=5, completions=7), 5),
        (thing("Job"), 1),
        (thing("DaemonSet"), 0),
        (thing("CronJob"), 0),
        (thing("PersistentVolumeClaim"), 0),
        (thing("Secret"), 0),
    ],
)
def test_replicas(document: Document, wanted: int) -> None:
    assert interpreter.replicas(document) == wanted
    assert interpreter.is_workload(document) is (wanted > 0)


def test_a_revision_changes_the_field_that_counts() -> None:
    job = thing("Job", parallelism=5, completions=7)
    assert interpreter.revised(job, 2, 3)["spec"] == {"parallelism": 2, "completions": 3}
    assert interpreter.revised(job, 2)["spec"] == {"parallelism": 2, "completions": 7}
    assert interpreter.revised(thing("StatefulSet", replicas=9), 2)["spec"] == {"replicas": 2}
    assert interpreter.revised(thing("DaemonSet"), 2)["spec"] == {}
    assert job["spec"] == {"parallelism": 5, "completions": 7}


@pytest.mark.parametrize(
    ("document", "counts", "wanted"),
    [
        (thing("Job", completions=7), {"a": 2, "b": 2, "c": 1}, {"a": 3, "b": 3, "c": 1}),
        (thing("Job", completions=12), {"a": 3, "b": 3}, {"a": 6, "b": 6}),
        (thing("Job"), {"a": 2}, {}),
        (thing("StatefulSet", replicas=3), {"a": 2, "b": 1}, {}),
    ],
)
def test_completions_are_divided_as_the_replicas_are(
    document: Document, counts: dict[str, int], wanted: dict[str, int]
) -> None:
    assert interpreter.shares(document, counts, "u-1") == wanted


# --------------------------------------------------------------------------------------------------- dependencies
@pytest.mark.parametrize(
    "kind",
    ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicationController"],
)
def test_what_pods_refer_to_is_found_in_every_kind_that_makes_pods(kind: str) -> None:
    found = interpreter.dependencies(
        workload(
            kind,
            serviceAccountName="robot",
            imagePullSecrets=[{"name": "pull"}],
            volumes=[
                {"name": "a", "configMap": {"name": "settings"}},
                {"name": "b", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "c", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "publish"}}},
                {"name": "d", "azureFile": {"secretName": "azure", "shareName": "s"}},
            ],
        )
    )
    assert {kind: {key.name for key in keys} for kind, keys in found.items()} == {
        "ConfigMap": {"settings"},
        "Secret": {"pull", "publish", "azure"},
        "ServiceAccount": {"robot"},
        "PersistentVolumeClaim": {"data"},
    }


def test_claims_that_a_stateful_set_makes_itself_are_not_waited_for() -> None:
    volumes = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("own", "shared")
    ]
    document = workload("StatefulSet", volumes=volumes)
    document["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "own"}}]
    claims = interpreter.dependencies(document)["PersistentVolumeClaim"]
    assert claims == {ObjectKey("demo", "shared")}


def test_an_ingress_needs_its_certificates() -> None:
    document = thing("Ingress", tls=[{"secretName": "tls"}, {"hosts": ["a.b"]}])
    assert interpreter.dependencies(document)["Secret"] == {ObjectKey("demo", "tls")}


# --------------------------------------------------------------------------------------------------- what travels
def test_a_job_travels_without_its_selector_and_its_end() -> None:
    uid, name = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
    labels = {uid: "u", "controller-uid": "u", name: "x", "job-name": "x", "app": "x"}
    job = thing(
        "Job",
        selector={"matchLabels": {uid: "u"}},
        template={"metadata": {"labels": labels}, "spec": {}},
        ttlSecondsAfterFinished=60,
        manualSelector=False,
    )
    assert interpreter.portable(job)["spec"] == {
        "selector": {"matchLabels": {}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {}},
        "manualSelector": False,
    }
    chosen = thing("Job", selector={"matchLabels": {uid: "u"}}, manualSelector=True)
    assert interpreter.portable(chosen)["spec"] == chosen["spec"]


def test_grants_reach_the_pods_of_a_cron_job() -> None:
    made = work(workload("CronJob"), "alpha")
    held = fenced(made, "7", 30, withheld=False)["spec"]["workload"]["manifests"][0]
    inner = held["spec"]["jobTemplate"]["spec"]["template"]["metadata"]
    assert inner["annotations"][GRANT_SECONDS] == "30"
    assert inner["labels"] == {"app": "x"}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("StatefulSet", "consistency"),
        ("Job", "consistency"),
        ("CronJob", "consistency"),
        ("DaemonSet", "availability"),
        ("Deployment", "availability"),
        ("ConfigMap", "availability"),
    ],
)
def test_what_must_not_run_twice_is_consistent_by_default(kind: str, wanted: str) -> None:
    assert mode_of(thing(kind)) == resilience(thing(kind), []).mode == wanted


def test_how_long_pods_may_take_to_stop_whatever_makes_them() -> None:
    long = workload("CronJob", terminationGracePeriodSeconds=100)
    assert stop_s(long) - stop_s(workload("CronJob")) == 70
    assert stop_s(thing("ConfigMap")) == stop_s(None)


def test_every_kind_with_a_rule_is_a_template() -> None:
    known = {*interpreter.KINDS, *aggregation.SUMMED}
    assert all(resource_of(*kind) is not None or is_wide(*kind) for kind in known)
    names = {r.plural for r in TEMPLATES}
    assert not names & {"pods", "replicasets", "clusterroles"}


@pytest.mark.parametrize(
    ("api_version", "kind", "wanted"),
    [
        ("apps/v1", "StatefulSet", None),
        ("rbac.authorization.k8s.io/v1", "Role", None),
        ("v1", "Service", None),
        ("v1", "Namespace", None),
        (
            "multicluster.x-k8s.io/v1alpha1",
            "ServiceExport",
            "a ServiceExport goes wherever something of its namespace goes, without a policy",
        ),
        (
            "multicluster.x-k8s.io/v1alpha1",
            "ServiceImport",
            "the federation makes ServiceImports itself, of what is exported",
        ),
        ("v1", "Pod", "v1 Pod is not propagated"),
        ("apps/v1beta1", "Deployment", "apps/v1beta1 Deployment is not propagated"),
        ("example.com/v1", "Widget", None),
    ],
)  # fmt: skip
def test_a_policy_is_warned_of_what_it_selects_in_vain(
    api_version: str, kind: str, wanted: str | None
) -> None:
    selectors = [
        {"apiVersion": "apps/v1", "kind": "Deployment"},
        {"apiVersion": api_version, "kind": kind},
    ]
    said = [] if wanted is None else [f"spec.resourceSelectors[1]: it selects nothing: {wanted}"]
    assert list(idle({"spec": {"resourceSelectors": selectors}})) == said


# ------------------------------------------------------------------------------------------------ what comes back
SET = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "observedGeneration": 1}
DAEMONS = {
    "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3,
    "observedGeneration": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        (thing("Deployment", SET, replicas=2, template={"spec": {}}), True),
        (thing("Deployment", SET, replicas=3, template={"spec": {}}), False),
        (thing("Deployment", SET, replicas=1, template={"spec": {}}), True),
        (thing("Deployment", SET | {"replicas": 3}, replicas=2, template={"spec": {}}), False),
        (thing("StatefulSet", SET, replicas=2), True),
        (thing("StatefulSet", SET | {"observedGeneration": 0}, replicas=2), False),
        (thing("StatefulSet", SET | {"updatedReplicas": 1}, replicas=2), False),
        (thing("StatefulSet", SET | {"availableReplicas": 1}, replicas=2), False),
        (thing("StatefulSet", {"replicas": 0, "observedGeneration": 1}, replicas=0), True),
        (thing("ReplicationController", SET, replicas=2), True),
        (thing("ReplicationController", SET, replicas=3), False),
        (thing("ReplicationController", SET | {"observedGeneration": 0}, replicas=2), False),
        (thing("DaemonSet", DAEMONS), True),
        (thing("DaemonSet", DAEMONS | {"numberAvailable": 2}), False),
        (thing("DaemonSet", DAEMONS | {"updatedNumberScheduled": 1}), False),
        (thing("DaemonSet", {}), False),
        (thing("Job", {"failed": 1}), True),
        (thing("Service", {"loadBalancer": {}}, type="LoadBalancer"), False),
        (thing("Service", {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}, type="LoadBalancer"), True),
        (thing("Service", {"loadBalancer": {}}, type="NodePort"), True),
        (thing("Ingress", {"loadBalancer": {}}), False),
        (thing("PersistentVolumeClaim", {"phase": "Pending"}), False),
        (thing("PersistentVolumeClaim", {"phase": "Bound"}), True),
        (thing("PodDisruptionBudget", {"currentHealthy": 1, "desiredHealthy": 2}), False),
        (thing("PodDisruptionBudget", {"currentHealthy": 2, "desiredHealthy": 2}), True),
        (thing("NetworkPolicy"), True),
    ],
)  # fmt: skip
def test_health(live: Document, wanted: bool) -> None:
    assert health(live) == ("Healthy" if wanted else "Unhealthy")


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        (
            thing("StatefulSet", {"readyReplicas": 1, "currentRevision": "r"}),
            {"replicas": 0, "availableReplicas": 0, "readyReplicas": 1, "generation": 1},
        ),
        (
            thing("ReplicationController", {"readyReplicas": 1, "conditions": []}),
            {"replicas": 0, "readyReplicas": 1, "generation": 1},
        ),
        (
            thing("Job", {"active": 2, "ready": 2, "uncountedTerminatedPods": {}}),
            {"active": 2},
        ),
        (
            thing("HorizontalPodAutoscaler", {"currentReplicas": 2, "conditions": []}),
            {"currentReplicas": 2, "desiredReplicas": 0, "currentMetrics": None},
        ),
        (thing("CronJob", {"lastScheduleTime": NOW}), {"lastScheduleTime": NOW}),
        (thing("Service", {"loadBalancer": {}}, type="ClusterIP"), None),
        (thing("Service", {"conditions": []}, type="LoadBalancer"), {"loadBalancer": {}}),
        (thing("ConfigMap"), None),
        (thing("Namespace", {"phase": "Active"}), None),
    ],
)
def test_what_travels_back(live: Document, wanted: Document | None) -> None:
    assert reflected(live) == wanted


# --------------------------------------------------------------------------------------------------------- retain
def test_a_job_keeps_the_selector_that_its_cluster_gave_it() -> None:
    labels = {"controller-uid": "there", "app": "x"}
    live = thing(
        "Job",
        selector={"matchLabels": {"controller-uid": "there"}},
        template={"metadata": {"labels": labels}},
    )
    sent = thing("Job", selector={"matchLabels": {}}, template=pods())
    kept = reflection.retained(sent, live)["spec"]
    assert kept["selector"] == live["spec"]["selector"]
    assert kept["template"]["metadata"]["labels"] == labels
    assert sent["spec"]["selector"] == {"matchLabels": {}}


def test_replicas_that_are_scaled_there_stay_where_the_label_says_so() -> None:
    live, sent = thing("Deployment", replicas=7), thing("Deployment", replicas=2)
    assert reflection.retained(sent, live) == sent
    marked = sent | {
        "metadata": sent["metadata"] | {"labels": {reflection.RETAIN_REPLICAS: "true"}}
    }
    assert reflection.retained(marked, live)["spec"]["replicas"] == 7
    assert reflection.retained(marked, thing("Deployment"))["spec"]["replicas"] == 2


# ------------------------------------------------------------------------------------------------------ summed up
def one(cluster: str, status: Document | None, *, seen: bool = True) -> MemberStatus:
    return MemberStatus(cluster, 0, status, seen)


def at(generation: int, **status: Any) -> Document:
    """A report of a member whose controller has seen its newest version."""
    own = {"generation": 4, "observedGeneration": 4, "resourceTemplateGeneration": generation}
    return own | status


def done(kind: str, **status: Any) -> Document:
    return {"conditions": [{"type": kind, "status": "True"}], **status}


@pytest.mark.parametrize(
    ("kind", "members", "wanted"),
    [
        (
            "StatefulSet",
            [one("a", at(1, replicas=2, readyReplicas=1)), one("b", at(1, replicas=1))],
            {"replicas": 3, "readyReplicas": 1, "availableReplicas": 0, "observedGeneration": 1},
        ),
        (
            "StatefulSet",
            [one("a", at(1, replicas=2)), one("b", at(1, replicas=1), seen=False)],
            {"replicas": 2, "availableReplicas": 0},
        ),
        ("StatefulSet", [one("a", at(0, replicas=2))], {"replicas": 2, "availableReplicas": 0}),
        ("StatefulSet", [], {"replicas": 0, "availableReplicas": 0}),
        (
            "ReplicationController",
            [one("a", at(1, replicas=2, readyReplicas=1)), one("b", at(1, replicas=1))],
            {"replicas": 3, "readyReplicas": 1, "observedGeneration": 1},
        ),
        (
            "DaemonSet",
            [one("a", at(1, numberReady=3)), one("b", None)],
            dict.fromkeys(("currentNumberScheduled", "numberMisscheduled"), 0)
            | {"desiredNumberScheduled": 0, "numberReady": 3},
        ),
        (
            "Job",
            [one("a", {"active": 2, "succeeded": 1}), one("b", {"active": 1, "succeeded": 2}, seen=False)],
            {"active": 2, "succeeded": 3},
        ),
        (
            "CronJob",
            [
                one("a", {"active": [{"name": "j"}], "lastScheduleTime": NOW}),
                one("b", {"active": [{"name": "k"}], "lastScheduleTime": LATER}, seen=False),
            ],
            {"active": [{"name": "j"}], "lastScheduleTime": LATER},
        ),
        (
            "HorizontalPodAutoscaler",
            [one("a", {"currentReplicas": 2, "desiredReplicas": 3}), one("b", {"desiredReplicas": 1})],
            {"currentReplicas": 2, "desiredReplicas": 4},
        ),
        (
            "Ingress",
            [
                one("a", {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}]}}),
                one("b", {"loadBalancer": {"ingress": [{"hostname": "h"}, {"ip": "2.2.2.2"}]}}),
                one("c", {"loadBalancer": {"ingress": [{"ip": "3.3.3.3"}]}}, seen=False),
            ],
            {"loadBalancer": {"ingress": [{"hostname": "h"}, {"ip": "2.2.2.2"}]}},
        ),
        ("PersistentVolumeClaim", [one("a", {"phase": "Bound"})], {"phase": "Bound"}),
        (
            "PersistentVolumeClaim",
            [one("a", {"phase": "Bound"}), one("b", {"phase": "Bound"}, seen=False)],
            {"phase": "Pending"},
        ),
        (
            "PersistentVolumeClaim",
            [one("a", {"phase": "Bound"}), one("b", {"phase": "Lost"})],
            {"phase": "Lost"},
        ),
        ("PersistentVolumeClaim", [], {"phase": "Pending"}),
        (
            "PodDisruptionBudget",
            [
                one("a", {"currentHealthy": 2, "expectedPods": 3, "disruptedPods": {"p": NOW}}),
                one("b", {"currentHealthy": 9}, seen=False),
            ],
            {
                "currentHealthy": 2, "expectedPods": 3, "desiredHealthy": 0, "disruptionsAllowed": 0,
                "disruptedPods": {"p.a": NOW},
            },
        ),
    ],
)  # fmt: skip
def test_sums(kind: str, members: list[MemberStatus], wanted: Document) -> None:
    status = aggregation.summed(thing(kind), members, KNOWN)
    assert status is not None
    assert {k: v for k, v in status.items() if v is not None} == wanted


def conditions(template: Document, members: list[MemberStatus], now: str = NOW) -> list[Any]:
    status = aggregation.summed(template, members, Known(now))
    assert status is not None
    return status["conditions"] or []


def test_a_job_is_complete_when_it_is_in_every_cluster() -> None:
    first = one("a", done("Complete", startTime=NOW, completionTime=NOW))
    second = one("b", done("Complete", startTime=LATER, completionTime=LATER))
    assert conditions(thing("Job"), [first, one("b", {"active": 1})]) == []
    assert conditions(thing("Job"), [first, one("b", None)]) == []
    status = aggregation.summed(thing("Job"), [first, second], KNOWN)
    assert status is not None
    assert [c["type"] for c in status["conditions"]] == ["Complete"]
    assert (status["startTime"], status["completionTime"]) == (NOW, LATER)


def test_a_job_has_failed_when_it_has_in_one_cluster_and_the_time_of_it_stays() -> None:
    members = [one("a", {"active": 1}), one("b", done("Failed")), one("c", done("Failed"))]
    (failed,) = conditions(thing("Job"), members)
    assert (failed["type"], failed["reason"]) == ("Failed", "JobFailed")
    assert failed["message"] == "Job executed failed in member clusters b,c"
    known = thing("Job", {"conditions": [failed]})
    assert conditions(known, members, LATER) == [failed]


def test_kinds_without_a_sum_have_no_status() -> None:
    assert aggregation.summed(thing("ConfigMap"), [one("a", None)], KNOWN) is None

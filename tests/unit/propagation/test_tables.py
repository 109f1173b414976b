"""From a template to Works and back: which policy claims, what travels, what it needs, how statuses add up."""

import uuid
from typing import Any

import msgspec
import pytest

from federation.propagation import aggregate, interpreter, matching
from federation.propagation.aggregate import MemberStatus
from federation.propagation.templates import propagatable, unsynced_namespace
from federation.propagation.works import (
    WORK_IDS,
    binding_name,
    manifest,
    work,
    work_id,
    work_name,
)
from machinery.api.fleet.policy import ClusterPropagationPolicy, PropagationPolicy
from machinery.meta.resource import Document, ObjectKey

NOW = "2026-01-01T00:00:10Z"


def deployment(**spec: Any) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "demo",
            "labels": {"app": "web"},
            "uid": "u-1",
            "generation": 3,
        },
        "spec": {"replicas": 6, "template": {"metadata": {}, "spec": {"containers": []}}} | spec,
    }


def with_pod(**spec: Any) -> Document:
    return deployment(template={"metadata": {}, "spec": {"containers": []} | spec})


# ------------------------------------------------------------------------------------------------- matching
def policy(
    name: str, where: str = "demo", level: int = 0, /, priority: int = 0, **selector: Any
) -> Any:
    view = PropagationPolicy if where else ClusterPropagationPolicy
    whole = {"apiVersion": "apps/v1", "kind": "Deployment"} | selector
    metadata = {"name": name} | ({"namespace": where} if where else {})
    return msgspec.convert(
        {
            "metadata": metadata,
            "spec": {"priority": level or priority, "resourceSelectors": [whole]},
        },
        view,
    )


BY_APP = {"labelSelector": {"matchLabels": {"app": "web"}}}


@pytest.mark.parametrize(
    ("policies", "wanted"),
    [
        ([], None),
        ([policy("kind")], "kind"),
        ([policy("other", kind="StatefulSet")], None),
        ([policy("other", apiVersion="apps/v1beta1")], None),
        ([policy("elsewhere", "prod")], None),
        ([policy("named", name="web")], "named"),
        ([policy("named", name="db")], None),
        ([policy("labelled", **BY_APP)], "labelled"),
        ([policy("labelled", labelSelector={"matchLabels": {"app": "db"}})], None),
        ([policy("a-kind"), policy("b-label", **BY_APP), policy("c-name", name="web")], "c-name"),
        ([policy("a-kind"), policy("b-label", **BY_APP)], "b-label"),
        ([policy("a-name", name="web"), policy("b-kind", priority=1)], "b-kind"),
        ([policy("b"), policy("a")], "a"),
        ([policy("cluster", "", 100, name="web"), policy("kind", priority=-5)], "kind"),
        ([policy("cluster", "", namespace="demo")], "cluster"),
        ([policy("cluster", "", namespace="prod")], None),
    ],
    ids=[
        "none", "by kind", "other kind", "other version", "other namespace", "by name", "other name",
        "by label", "other label", "name beats label", "label beats kind", "priority beats precision",
        "lower name", "namespaced beats cluster", "cluster policy of a namespace",
        "cluster policy of another namespace",
    ],
)  # fmt: skip
def test_who_claims(policies: list[Any], wanted: str | None) -> None:
    namespaced = [p for p in policies if p.metadata.namespace]
    cluster = [p for p in policies if not p.metadata.namespace]
    found = matching.claimant(deployment(), namespaced, cluster)
    assert (found.metadata.name if found is not None else None) == wanted


def test_a_policy_that_is_being_deleted_claims_nothing() -> None:
    going = msgspec.structs.replace(
        policy("kind"),
        metadata=msgspec.convert(
            {"name": "kind", "namespace": "demo", "deletionTimestamp": NOW},
            type(policy("kind").metadata),
        ),
    )
    assert matching.claimant(deployment(), [going], []) is None


# ------------------------------------------------------------------------------------------------- templates
def thing(kind: str, name: str = "x", namespace: str = "demo", **more: Any) -> Document:
    meta = {"name": name, "namespace": namespace} | more.pop("metadata", {})
    return {"apiVersion": "v1", "kind": kind, "metadata": meta} | more


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        (thing("ConfigMap"), True),
        (thing("ConfigMap", "kube-root-ca.crt"), False),
        (thing("ServiceAccount", "default"), False),
        (thing("ServiceAccount", "robot"), True),
        (thing("Secret", type="Opaque"), True),
        (thing("Secret", type="kubernetes.io/service-account-token"), False),
        (thing("Secret", type="bootstrap.kubernetes.io/token"), False),
        (thing("ConfigMap", namespace="kube-system"), False),
        (thing("ConfigMap", namespace="ubernetes-system"), False),
        (thing("ConfigMap", namespace="karmada-es-alpha"), False),
        (thing("ConfigMap", metadata={"labels": {"ubernetes.io/cluster": "alpha"}}), False),
        (thing("ConfigMap", metadata={"deletionTimestamp": NOW}), False),
        (thing("ConfigMap", metadata={"ownerReferences": [{"controller": True}]}), False),
        (thing("ConfigMap", metadata={"ownerReferences": [{"uid": "1"}]}), True),
    ],
    ids=[
        "config", "root ca", "default account", "account", "secret", "token", "bootstrap token",
        "system", "own system", "execution namespace", "mirror", "going", "owned by a controller",
        "owned",
    ],
)  # fmt: skip
def test_what_may_leave_the_federation(document: Document, wanted: bool) -> None:
    assert propagatable(document) is wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("default", True), ("kube-public", True), ("karmada-es-alpha", True), ("demo", False)],
)
def test_namespaces_that_are_not_synced(name: str, wanted: bool) -> None:
    assert unsynced_namespace(name) is wanted


# ------------------------------------------------------------------------------------------------- interpreter
def test_replicas_and_their_revision() -> None:
    template = deployment()
    assert interpreter.replicas(template) == 6
    assert interpreter.replicas(thing("ConfigMap")) == 0
    assert interpreter.revised(template, 2)["spec"]["replicas"] == 2
    assert template["spec"]["replicas"] == 6
    assert interpreter.revised(thing("ConfigMap"), 2) == thing("ConfigMap")


@pytest.mark.parametrize(
    ("pod", "wanted"),
    [
        ({}, None),
        (
            {"containers": [{"name": "a", "resources": {"requests": {"cpu": "250m"}}}]},
            {"resourceRequest": {"cpu": "250m"}, "namespace": "demo"},
        ),
        (
            {
                "containers": [
                    {"name": "a", "resources": {"requests": {"cpu": "1500m", "memory": "1Ki"}}},
                    {"name": "b", "resources": {"requests": {"cpu": "500m"}}},
                ]
            },
            {"resourceRequest": {"cpu": "2", "memory": "1024"}, "namespace": "demo"},
        ),
        (
            {"nodeSelector": {"disk": "ssd"}},
            {"nodeClaim": {"nodeSelector": {"disk": "ssd"}}, "namespace": "demo"},
        ),
        (
            {"tolerations": [{"operator": "Exists"}]},
            {"nodeClaim": {"tolerations": [{"operator": "Exists"}]}, "namespace": "demo"},
        ),
    ],
    ids=["nothing", "milli", "summed", "selector", "tolerations"],
)
def test_what_one_replica_asks(pod: Document, wanted: Document | None) -> None:
    assert interpreter.requirements(with_pod(**pod)) == wanted


@pytest.mark.parametrize(
    ("pod", "kind", "wanted"),
    [
        ({"serviceAccountName": "robot"}, "ServiceAccount", {"robot"}),
        ({"serviceAccountName": "default"}, "ServiceAccount", set()),
        ({"imagePullSecrets": [{"name": "pull"}]}, "Secret", {"pull"}),
        ({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}, "ConfigMap", {"c"}),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, "Secret", {"s"}),
        (
            {"volumes": [{"projected": {"sources": [{"configMap": {"name": "c"}}]}}]},
            "ConfigMap",
            {"c"},
        ),
        ({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]}, "Secret", {"s"}),
        ({"containers": [{"envFrom": [{"configMapRef": {"name": "c"}}]}]}, "ConfigMap", {"c"}),
        ({"containers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}, "Secret", {"s"}),
        (
            {"initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]},
            "Secret",
            {"s"},
        ),
        (
            {"containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "c"}}}]}]},
            "ConfigMap",
            {"c"},
        ),
        ({"containers": [{"env": [{"name": "A", "value": "1"}]}]}, "ConfigMap", set()),
    ],
)
def test_what_a_workload_needs(pod: Document, kind: str, wanted: set[str]) -> None:
    found = interpreter.dependencies(with_pod(**pod))
    assert found[kind] == {ObjectKey("demo", name) for name in wanted}


# ------------------------------------------------------------------------------------------------- Works
def test_names() -> None:
    assert binding_name("Deployment", "web") == "web-deployment"
    assert work_name("Deployment", "demo", "web") != work_name("ConfigMap", "demo", "web")
    assert work_name("Deployment", "demo", "web") != work_name("Deployment", "prod", "web")
    assert len(work_name("Deployment", "demo", "w" * 253)) <= 253


def test_a_manifest_carries_what_the_user_wrote() -> None:
    template = deployment()
    template["metadata"] |= {
        "resourceVersion": "7",
        "managedFields": [{}],
        "finalizers": ["x"],
        "ownerReferences": [{"uid": "y"}],
        "annotations": {
            "team": "a",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "deployment.kubernetes.io/revision": "4",
        },
    }
    template["status"] = {"replicas": 1}
    made = manifest(template, {"mark": "1"})
    assert list(made) == ["apiVersion", "kind", "metadata", "spec"]
    assert made["metadata"] == {
        "name": "web",
        "namespace": "demo",
        "labels": {"app": "web", "karmada.io/managed": "true"},
        "annotations": {"team": "a", "mark": "1"},
    }


def test_the_permanent_id_of_a_work_is_a_uuid_of_its_name() -> None:
    for number in range(64):
        text = f"b-{number}/karmada-es-alpha/web-{number}"
        assert work_id(*text.split("/")) == str(uuid.uuid5(WORK_IDS, text))


def test_a_work_names_its_template_and_its_binding() -> None:
    binding = {"name": "web-deployment", "namespace": "demo", "uid": "b-1"}
    made = work(deployment(), "alpha", binding=binding, conflict_resolution="Overwrite")
    assert made["metadata"]["namespace"] == "karmada-es-alpha"
    labels = {
        "resourcebinding.karmada.io/permanent-id": "b-1",
        "work.karmada.io/permanent-id": work_id(
            "b-1", "karmada-es-alpha", made["metadata"]["name"]
        ),
    }
    assert made["metadata"]["labels"] == labels
    assert made["metadata"]["annotations"]["work.karmada.io/conflict-resolution"] == "overwrite"
    (inner,) = made["spec"]["workload"]["manifests"]
    annotations = inner["metadata"]["annotations"]
    assert annotations["resourcetemplate.karmada.io/uid"] == "u-1"
    assert annotations["resourcetemplate.karmada.io/generation"] == "3"
    assert annotations["work.karmada.io/name"] == made["metadata"]["name"]


# ------------------------------------------------------------------------------------------------- aggregate
def report(
    cluster: str, wanted: int, *, generation: int = 3, seen: bool = True, **more: Any
) -> Any:
    status = {
        "replicas": wanted,
        "updatedReplicas": wanted,
        "readyReplicas": wanted,
        "availableReplicas": wanted,
        "generation": 2,
        "observedGeneration": 2,
        "resourceTemplateGeneration": generation,
        "conditions": [{"type": "Available", "status": "True"}],
    } | more
    return MemberStatus(cluster, wanted, status, seen)


ALL = [report("alpha", 2), report("beta", 2), report("gamma", 2)]


@pytest.mark.parametrize(
    ("members", "available", "observed", "reasons"),
    [
        (ALL, 6, 3, ("MinimumReplicasAvailable", "NewReplicaSetAvailable")),
        (
            [*ALL[:2], report("gamma", 2, seen=False)],
            4, None, ("MinimumReplicasUnavailable", "ReplicaSetUpdated"),
        ),
        (
            [*ALL[:2], report("gamma", 2, generation=2)],
            6, None, ("MinimumReplicasAvailable", "ReplicaSetUpdated"),
        ),
        (
            [*ALL[:2], report("gamma", 2, observedGeneration=1)],
            6, None, ("MinimumReplicasAvailable", "ReplicaSetUpdated"),
        ),
        (
            [*ALL[:2], MemberStatus("gamma", 2, None)],
            4, None, ("MinimumReplicasUnavailable", "ReplicaSetUpdated"),
        ),
        (ALL[:2], 4, None, ("MinimumReplicasUnavailable", "ReplicaSetUpdated")),
        ([], None, None, ("MinimumReplicasUnavailable", "ReplicaSetUpdated")),
        (
            [*ALL[:2], report("gamma", 2, conditions=[
                {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
            ])],
            6, 3, ("MinimumReplicasUnavailable", "ProgressDeadlineExceeded"),
        ),
    ],
    ids=[
        "all well", "one not seen", "one has an old template", "one has not looked yet",
        "one says nothing", "not all placed", "nothing placed", "one gave up",
    ],
)  # fmt: skip
def test_sums(
    members: list[MemberStatus],
    available: int | None,
    observed: int | None,
    reasons: tuple[str, str],
) -> None:
    status = aggregate.deployment_status(deployment(), members, NOW)
    assert status["availableReplicas"] == available
    assert status.get("observedGeneration") == observed
    assert tuple(c["reason"] for c in status["conditions"]) == reasons
    assert status["unavailableReplicas"] == ((6 - (available or 0)) or None)


def test_duplicated_replicas_count_in_every_cluster() -> None:
    """`kubectl rollout status` waits for observedGeneration: three times six of six is complete."""
    members = [report(name, 6) for name in ("alpha", "beta", "gamma")]
    status = aggregate.deployment_status(deployment(), members, NOW, copies=3)
    assert (status["availableReplicas"], status["unavailableReplicas"]) == (18, None)
    assert status["observedGeneration"] == 3
    assert status["conditions"][1]["reason"] == "NewReplicaSetAvailable"
    fewer = aggregate.deployment_status(deployment(), members[:2], NOW, copies=3)
    assert "observedGeneration" not in fewer


def test_a_condition_keeps_its_time_while_it_stands() -> None:
    template = deployment()
    template["status"] = aggregate.deployment_status(template, ALL, NOW)
    later = aggregate.deployment_status(template, ALL, "2026-01-01T01:00:00Z")
    assert later["conditions"] == template["status"]["conditions"]
    worse = aggregate.deployment_status(template, ALL[:1], "2026-01-01T01:00:00Z")
    progressing = next(c for c in worse["conditions"] if c["type"] == "Progressing")
    assert progressing["lastUpdateTime"] == "2026-01-01T01:00:00Z"
    assert progressing["lastTransitionTime"] == NOW


def test_an_older_observation_stays_until_the_new_one_is_complete() -> None:
    template = deployment() | {"status": {"observedGeneration": 2}}
    status = aggregate.deployment_status(template, ALL[:2], NOW)
    assert status["observedGeneration"] == 2


@pytest.mark.parametrize(
    ("strategy", "placed", "wanted"),
    [
        (None, 5, "True"),
        (None, 4, "False"),
        ({"type": "Recreate"}, 5, "False"),
        ({"rollingUpdate": {"maxUnavailable": 3}}, 3, "True"),
        ({"rollingUpdate": {"maxUnavailable": "50%"}}, 3, "True"),
        ({"rollingUpdate": {"maxUnavailable": "50%"}}, 2, "False"),
        ({"rollingUpdate": {"maxUnavailable": 0}}, 5, "False"),
    ],
)
def test_available_by_the_strategy(strategy: Document | None, placed: int, wanted: str) -> None:
    template = deployment(**({"strategy": strategy} if strategy else {}))
    status = aggregate.deployment_status(template, [report("alpha", placed)], NOW)
    assert next(c["status"] for c in status["conditions"] if c["type"] == "Available") == wanted

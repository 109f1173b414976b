"""What a write may touch of the kinds that the federation serves as templates; `strategy` asks here for them."""

from typing import Final

from machinery.meta.resource import Document

GENERATED: Final = frozenset(
    {
        ("", "ReplicationController"), ("apps", "StatefulSet"), ("apps", "DaemonSet"), ("batch", "Job"), ("batch", "CronJob"),
        ("networking.k8s.io", "Ingress"), ("networking.k8s.io", "NetworkPolicy"),
        ("policy", "PodDisruptionBudget"),
    }
)  # fmt: skip
"""Kinds whose `metadata.generation` counts changes of the spec."""
TEMPLATE_GENERATION: Final = "deprecated.daemonset.template.generation"
"""On a DaemonSet: how often its template was changed; apps/v1 has no field for it any more."""
JOB_UIDS: Final = ("batch.kubernetes.io/controller-uid", "controller-uid")
JOB_NAMES: Final = ("batch.kubernetes.io/job-name", "job-name")
_CLONES: Final = {("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")}
"""(API group, kind) of what a volume may be filled from by `dataSource`."""


# --------------------------------------------------------------------------------------------------------------- create
def create_stateful_set(document: Document) -> Document:
    spec = document["spec"]
    if claims := spec.get("volumeClaimTemplates"):
        pending = {"phase": "Pending"}
        spec = {**spec, "volumeClaimTemplates": [{**one, "status": pending} for one in claims]}
    return {**document, "spec": spec, "status": {"replicas": 0, "availableReplicas": 0}}


def create_daemon_set(document: Document) -> Document:
    metadata = document["metadata"]
    marks = {**(metadata.get("annotations") or {}), TEMPLATE_GENERATION: "1"}
    names = (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
    )
    return {
        **document,
        "metadata": {**metadata, "annotations": marks},
        "status": dict.fromkeys(names, 0),
    }


def create_replicated(document: Document) -> Document:
    return {**document, "status": {"replicas": 0}}


def create_without_status(document: Document) -> Document:
    return {**document, "status": {}}


def create_volume_claim(document: Document) -> Document:
    spec = _sources(document["spec"])
    return {**document, "spec": spec, "status": {"phase": "Pending"}}


def _sources(spec: Document) -> Document:
    """`dataSource` of an unknown kind is dropped; it and `dataSourceRef` otherwise say the same."""
    plain, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    out = {key: value for key, value in spec.items() if key not in ("dataSource", "dataSourceRef")}
    if plain and not reference:
        known = (plain.get("apiGroup") or "", plain.get("kind")) in _CLONES
        return {**out, "dataSource": plain, "dataSourceRef": plain} if known else out
    if reference and not plain and not reference.get("namespace"):
        plain = reference
    kept = {"dataSource": plain, "dataSourceRef": reference}
    return out | {key: value for key, value in kept.items() if value}


def create_autoscaler(document: Document) -> Document:
    return {**document, "status": {"desiredReplicas": 0, "currentMetrics": None}}


def create_disruption_budget(document: Document) -> Document:
    names = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    return {**document, "status": dict.fromkeys(names, 0)}


def create_ingress(document: Document) -> Document:
    return {**document, "status": {"loadBalancer": {}}}


ON_CREATE: Final = {
    ("", "PersistentVolumeClaim"): create_volume_claim,
    ("", "ReplicationController"): create_replicated,
    ("apps", "StatefulSet"): create_stateful_set,
    ("apps", "DaemonSet"): create_daemon_set,
    ("autoscaling", "HorizontalPodAutoscaler"): create_autoscaler,
    ("batch", "Job"): create_without_status,
    ("batch", "CronJob"): create_without_status,
    ("networking.k8s.io", "Ingress"): create_ingress,
    ("networking.k8s.io", "ServiceCIDR"): create_without_status,
    ("policy", "PodDisruptionBudget"): create_disruption_budget,
}


def with_job_selector(job: Document) -> Document:
    """A new Job that selects its own pods by its uid, and whose pods carry what it selects. Its uid is known by then."""
    spec, metadata = job["spec"], job["metadata"]
    if spec.get("manualSelector"):
        return job
    uid, name = metadata["uid"], metadata.get("name", "")
    own = {label: uid for label in JOB_UIDS} | {label: name for label in JOB_NAMES}
    template = spec["template"]
    inner = template.get("metadata") or {}
    given = inner.get("labels") or {}
    clash = any(given.get(label, value) != value for label, value in own.items())
    labels = dict(sorted({**own, **given}.items()))
    selector = spec.get("selector") or {}
    chosen = {**(selector.get("matchLabels") or {}), JOB_UIDS[0]: uid}
    fresh = {
        "selector": {**selector, "matchLabels": chosen},
        "template": {**template, "metadata": {**inner, "labels": labels}},
    }
    if not clash and metadata.get("labels", given) == given:
        job = {**job, "metadata": {**metadata, "labels": labels}}
    return {**job, "spec": {**spec, **fresh}}


# --------------------------------------------------------------------------------------------------------------- update
def update_daemon_set(new: Document, old: Document) -> Document:
    """The count of its template's changes, which is the server's."""
    before = (old["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "1")
    count = int(before) if before.isdigit() else 1
    if new.get("spec", {}).get("template") != old.get("spec", {}).get("template"):
        count += 1
    metadata = new["metadata"]
    marks = {**(metadata.get("annotations") or {}), TEMPLATE_GENERATION: str(count)}
    return {**new, "metadata": {**metadata, "annotations": marks}}

"""What of a member's object travels back, kind by kind, and by which rule it counts as well (Karmada's default interpreter).

One row a kind in each table, keyed by (apiVersion, kind). A kind with a status and no row of its own reports it whole; one
without a status reports nothing, and is well when it is there. Deployments are in `reflect`, which asks here for the rest.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from machinery.api.fleet.rollouts import TEMPLATE_HASH
from machinery.api.fleet.work import TEMPLATE_GENERATION
from machinery.meta.resource import Document, split_api_version

Kind = tuple[str, str]
STATEFUL_SET: Final[Kind] = ("apps/v1", "StatefulSet")
DAEMON_SET: Final[Kind] = ("apps/v1", "DaemonSet")
REPLICATION_CONTROLLER: Final[Kind] = ("v1", "ReplicationController")
JOB: Final[Kind] = ("batch/v1", "Job")
AUTOSCALER: Final[Kind] = ("autoscaling/v2", "HorizontalPodAutoscaler")
SERVICE: Final[Kind] = ("v1", "Service")
INGRESS: Final[Kind] = ("networking.k8s.io/v1", "Ingress")
VOLUME_CLAIM: Final[Kind] = ("v1", "PersistentVolumeClaim")
BUDGET: Final[Kind] = ("policy/v1", "PodDisruptionBudget")
SILENT: Final[frozenset[Kind]] = frozenset(
    {
        ("v1", "Namespace"),
        ("multicluster.x-k8s.io/v1beta1", "ServiceImport"),
        ("ubernetes.io/v1alpha1", "ClusterNetwork"),
    }
)
"""Kinds with a status that says nothing about what the federation sent."""


def generations(live: Document) -> dict[str, int | str]:
    """The object's own generation, that of the template that it was made from, and which pod template it was given in a
    staged update."""
    metadata = live["metadata"]
    found: dict[str, int | str] = {"generation": int(metadata.get("generation", 0))}
    annotations = metadata.get("annotations") or {}
    carried = annotations.get(TEMPLATE_GENERATION, "")
    if carried.isdigit():
        found["resourceTemplateGeneration"] = int(carried)
    if TEMPLATE_HASH in annotations:
        found["templateHash"] = annotations[TEMPLATE_HASH]
    return found


def _status(live: Document) -> Document:
    return live.get("status") or {}


def _only(live: Document, *names: str) -> dict[str, Any]:
    status = _status(live)
    return {name: status[name] for name in names if name in status}


# -------------------------------------------------------------------------------------------------------------- status
def _stateful_set(live: Document) -> dict[str, Any]:
    counts = dict.fromkeys(("replicas", "availableReplicas"), 0)
    names = ("currentReplicas", "readyReplicas", "updatedReplicas", "observedGeneration")
    return counts | _only(live, *counts, *names) | generations(live)


def _daemon_set(live: Document) -> dict[str, Any]:
    required = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled")
    counts = dict.fromkeys((*required, "numberReady"), 0)
    names = ("updatedNumberScheduled", "numberAvailable", "numberUnavailable", "observedGeneration")
    return counts | _only(live, *counts, *names) | generations(live)


def _replicated(live: Document) -> dict[str, Any]:
    names = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
    return {"replicas": 0} | _only(live, "replicas", *names) | generations(live)


def _job(live: Document) -> dict[str, Any]:
    names = ("active", "succeeded", "failed", "conditions", "startTime", "completionTime")
    return _only(live, *names)


def _autoscaler(live: Document) -> dict[str, Any]:
    empty = {"desiredReplicas": 0, "currentMetrics": None}
    return empty | _only(live, "currentReplicas", "desiredReplicas")


def _service(live: Document) -> dict[str, Any] | None:
    if (live.get("spec") or {}).get("type") != "LoadBalancer":
        return None
    return {"loadBalancer": _status(live).get("loadBalancer") or {}}


def _budget(live: Document) -> dict[str, Any]:
    counts = ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods")
    return dict.fromkeys(counts, 0) | _only(live, *counts, "disruptedPods")


_REFLECTED: Final[Mapping[Kind, Callable[[Document], dict[str, Any] | None]]] = {
    STATEFUL_SET: _stateful_set,
    DAEMON_SET: _daemon_set,
    REPLICATION_CONTROLLER: _replicated,
    JOB: _job,
    AUTOSCALER: _autoscaler,
    SERVICE: _service,
    BUDGET: _budget,
}


def reflected(live: Document) -> dict[str, Any] | None:
    """The status that travels back; None for what has none worth it."""
    kind = (live["apiVersion"], live["kind"])
    rule = _REFLECTED.get(kind)
    if rule is not None:
        return rule(live)
    status = live.get("status")
    return dict(status) if isinstance(status, Mapping) and kind not in SILENT else None


# -------------------------------------------------------------------------------------------------------------- health
def _observed(live: Document) -> bool:
    return bool(_status(live).get("observedGeneration", 0) == live["metadata"].get("generation", 0))


def _is_stateful_set_well(live: Document) -> bool:
    status, updated = _status(live), int(_status(live).get("updatedReplicas") or 0)
    enough = updated >= int((live.get("spec") or {}).get("replicas", 1))
    return _observed(live) and enough and int(status.get("availableReplicas") or 0) >= updated


def _is_daemon_set_well(live: Document) -> bool:
    status = _status(live)
    updated = int(status.get("updatedNumberScheduled") or 0)
    enough = updated >= int(status.get("desiredNumberScheduled") or 0)
    return _observed(live) and enough and int(status.get("numberAvailable") or 0) >= updated


def _is_replicated_well(live: Document) -> bool:
    wanted = int((live.get("spec") or {}).get("replicas", 1))
    return _observed(live) and int(_status(live).get("availableReplicas") or 0) >= wanted


def _has_address(live: Document) -> bool:
    return bool((_status(live).get("loadBalancer") or {}).get("ingress"))


def _is_service_well(live: Document) -> bool:
    return (live.get("spec") or {}).get("type") != "LoadBalancer" or _has_address(live)


def _is_claim_well(live: Document) -> bool:
    return bool(_status(live).get("phase") == "Bound")


def _is_budget_well(live: Document) -> bool:
    status = _status(live)
    return int(status.get("currentHealthy") or 0) >= int(status.get("desiredHealthy") or 0)


_WELL: Final[Mapping[Kind, Callable[[Document], bool]]] = {
    STATEFUL_SET: _is_stateful_set_well,
    DAEMON_SET: _is_daemon_set_well,
    REPLICATION_CONTROLLER: _is_replicated_well,
    SERVICE: _is_service_well,
    INGRESS: _has_address,
    VOLUME_CLAIM: _is_claim_well,
    BUDGET: _is_budget_well,
}


def is_well(live: Document) -> bool:
    """Whether the object does what it is for; of a kind without a rule, that it is there."""
    rule = _WELL.get((live["apiVersion"], live["kind"]))
    return rule is None or rule(live)


# -------------------------------------------------------------------------------------------------------------- retain
RETAIN_REPLICAS: Final = "resourcetemplate.karmada.io/retain-replicas"
"""Label of a template whose replicas another controller of the member decides; targets of autoscalers that travel need none."""


def retained(manifest: Document, live: Document) -> Document:
    """The manifest with what the member's live object has to keep; the inputs are left as they are.

    What a manifest leaves open stays by itself, by server-side apply. Here is what it cannot leave open: a Job's selector and
    labels are written once and are one value each, and replicas that are scaled there are the member's.
    """
    kind = (manifest["apiVersion"], manifest["kind"])
    if kind == JOB and not (manifest.get("spec") or {}).get("manualSelector"):
        return _with_selector_of(manifest, live)
    wanted = (manifest["metadata"].get("labels") or {}).get(RETAIN_REPLICAS) == "true"
    return with_replicas_of(manifest, live) if wanted else manifest


def with_replicas_of(manifest: Document, live: Document) -> Document:
    """The manifest with the live object's replicas, where it has any."""
    replicas = (live.get("spec") or {}).get("replicas")
    if replicas is None or "spec" not in manifest:
        return manifest
    return manifest | {"spec": manifest["spec"] | {"replicas": replicas}}


def is_target(manifest: Document, autoscaler: Document) -> bool:
    """Whether an autoscaler of the same cluster scales the object, in whatever version either is written."""
    metadata, target = manifest["metadata"], (autoscaler.get("spec") or {}).get("scaleTargetRef")
    if target is None or metadata.get("namespace") != autoscaler["metadata"].get("namespace"):
        return False
    group = split_api_version(manifest["apiVersion"])[0]
    named = (
        split_api_version(target.get("apiVersion", ""))[0],
        target.get("kind"),
        target.get("name"),
    )
    return named == (group, manifest["kind"], metadata["name"])


def _with_selector_of(manifest: Document, live: Document) -> Document:
    spec, there = manifest["spec"], live.get("spec") or {}
    if "selector" not in there:
        return manifest
    template = spec.get("template") or {}
    metadata = template.get("metadata") or {}
    labels = ((there.get("template") or {}).get("metadata") or {}).get("labels") or {}
    kept = metadata | {"labels": (metadata.get("labels") or {}) | labels}
    fresh = {"selector": there["selector"], "template": template | {"metadata": kept}}
    return manifest | {"spec": spec | fresh}

"""What a member reports of a manifest, and whether it is well (Karmada's default interpreter).

Stands on the floor since the member's link writes it and the federation sums it up.
"""

from typing import Any

import msgspec

from machinery.api.apps import Deployment
from machinery.api.fleet import reflection
from machinery.api.fleet.rollouts import TEMPLATE_HASH
from machinery.api.fleet.work import TEMPLATE_GENERATION
from machinery.meta.resource import Document

HEALTHY, UNHEALTHY, UNKNOWN = "Healthy", "Unhealthy", "Unknown"
DEPLOYMENT = ("apps/v1", "Deployment")
SERVICE_EXPORT = ("multicluster.x-k8s.io/v1beta1", "ServiceExport")


def reflected(live: Document) -> dict[str, Any] | None:
    """The part of a member's object that travels back; None for kinds without a status worth it."""
    kind = (live["apiVersion"], live["kind"])
    if kind == SERVICE_EXPORT:
        return dict(live.get("status") or {})
    if kind != DEPLOYMENT:
        return reflection.reflected(live)
    metadata = live["metadata"]
    status = dict(live.get("status") or {})
    status["generation"] = metadata.get("generation", 0)
    annotations = metadata.get("annotations") or {}
    carried = annotations.get(TEMPLATE_GENERATION, "")
    if carried.isdigit():
        status["resourceTemplateGeneration"] = int(carried)
    if TEMPLATE_HASH in annotations:
        status["templateHash"] = annotations[TEMPLATE_HASH]
    return status


def health(live: Document | None) -> str:
    """Whether the object does what it is for; a Deployment when its rollout is over, other kinds by their rule."""
    if live is None:
        return UNKNOWN
    if (live["apiVersion"], live["kind"]) != DEPLOYMENT:
        return HEALTHY if reflection.is_well(live) else UNHEALTHY
    view = msgspec.convert(live, Deployment)
    status = view.status
    if status.observed_generation != view.metadata.generation:
        return UNHEALTHY
    updated = status.updated_replicas
    done = view.spec.replicas <= updated and status.replicas <= updated <= status.available_replicas
    return HEALTHY if done else UNHEALTHY

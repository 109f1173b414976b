"""Views of Deployment, ReplicaSet and ReplicationController as their controllers need them: with the whole pod template.

The shared views leave out what they do not know. A controller that copies a template must not lose a field, so here
the template is the document itself. It is never mutated: copies are made along the path that changes.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from machinery.api import apps
from machinery.api.core import LabelSelector
from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import Document, Resource


class DeploymentSpec(View):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: dict[str, Any] = {}
    strategy: apps.DeploymentStrategy = apps.DeploymentStrategy()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10
    paused: bool = False
    progress_deadline_seconds: int = 600


class Deployment(Object):
    spec: DeploymentSpec = DeploymentSpec()
    status: apps.DeploymentStatus = apps.DeploymentStatus()


class ReplicaSetSpec(View):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: dict[str, Any] = {}
    min_ready_seconds: int = 0


class ReplicaSet(Object):
    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: apps.ReplicaSetStatus = apps.ReplicaSetStatus()


class ReplicationControllerSpec(View):
    replicas: int = 1
    labels: dict[str, str] = msgspec.field(name="selector", default={})
    template: dict[str, Any] = {}
    min_ready_seconds: int = 0

    @property
    def selector(self) -> LabelSelector:
        """In the form of all younger kinds."""
        return LabelSelector(match_labels=self.labels)


class ReplicationController(Object):
    """What ReplicaSets come from; its status has the fields of theirs, but for those that came later."""

    spec: ReplicationControllerSpec = ReplicationControllerSpec()
    status: apps.ReplicaSetStatus = apps.ReplicaSetStatus()


Replicated: TypeAlias = ReplicaSet | ReplicationController
"""Who keeps a number of equal pods."""

DEPLOYMENTS: Resource[Deployment] = Resource(
    "apps", "v1", "deployments", "Deployment", True, Deployment
)
REPLICASETS: Resource[ReplicaSet] = Resource(
    "apps", "v1", "replicasets", "ReplicaSet", True, ReplicaSet
)

REPLICATION_CONTROLLERS: Resource[ReplicationController] = Resource(
    "", "v1", "replicationcontrollers", "ReplicationController", True, ReplicationController
)


def template_labels(template: Mapping[str, Any]) -> dict[str, str]:
    """The labels that pods of the template carry."""
    return dict((template.get("metadata") or {}).get("labels") or {})


def with_template_labels(template: Mapping[str, Any], labels: Mapping[str, str]) -> Document:
    """The template with exactly these labels; everything else is shared with the input."""
    metadata = {**(template.get("metadata") or {}), "labels": dict(labels)}
    return {**template, "metadata": metadata}


def selector_document(selector: LabelSelector, extra: Mapping[str, str]) -> Document:
    """The selector in wire shape with further labels to match."""
    document: Document = {"matchLabels": {**selector.match_labels, **extra}}
    if selector.match_expressions:
        document["matchExpressions"] = [
            {"key": r.key, "operator": r.operator}
            | ({"values": list(r.values)} if r.values else {})
            for r in selector.match_expressions
        ]
    return document

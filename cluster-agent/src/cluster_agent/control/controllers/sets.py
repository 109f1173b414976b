"""Views of StatefulSet, DaemonSet and the ControllerRevisions in which both remember their pod templates.

As in `workloads`, a template is the document itself, since a controller that copies it must not lose a field.
"""

from typing import Any

from cluster_agent.control.controllers import ownership
from machinery.api.core import LabelSelector
from machinery.meta.objectmeta import Condition, Object, View
from machinery.meta.resource import Document, Resource

REVISION_HASH_LABEL = "controller-revision-hash"
"""On a pod: the template that it was made from. A StatefulSet's holds the revision's name, a DaemonSet's its hash."""


class ControllerRevision(Object):
    data: dict[str, Any] = {}
    revision: int = 0


class Ordinals(View):
    start: int = 0


class RollingUpdateStatefulSet(View):
    partition: int = 0
    max_unavailable: int | str | None = None


class StatefulSetStrategy(View):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdateStatefulSet | None = None


class ClaimRetention(View):
    when_deleted: str = "Retain"
    when_scaled: str = "Retain"


class StatefulSetSpec(View):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: dict[str, Any] = {}
    volume_claim_templates: tuple[dict[str, Any], ...] = ()
    service_name: str = ""
    pod_management_policy: str = "OrderedReady"
    update_strategy: StatefulSetStrategy = StatefulSetStrategy()
    revision_history_limit: int = 10
    min_ready_seconds: int = 0
    persistent_volume_claim_retention_policy: ClaimRetention = ClaimRetention()
    ordinals: Ordinals = Ordinals()


class StatefulSetStatus(View):
    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    collision_count: int | None = None


class StatefulSet(Object):
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()


class RollingUpdateDaemonSet(View):
    max_unavailable: int | str = 1
    max_surge: int | str = 0


class DaemonSetStrategy(View):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdateDaemonSet | None = None


class DaemonSetSpec(View):
    selector: LabelSelector = LabelSelector()
    template: dict[str, Any] = {}
    update_strategy: DaemonSetStrategy = DaemonSetStrategy()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10


class DaemonSetStatus(View):
    observed_generation: int = 0
    current_number_scheduled: int = 0
    number_misscheduled: int = 0
    desired_number_scheduled: int = 0
    number_ready: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    collision_count: int | None = None
    conditions: tuple[Condition, ...] = ()


class DaemonSet(Object):
    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()


class PersistentVolumeClaim(Object):
    """A claim as its StatefulSet needs it: whose it is."""


STATEFULSETS: Resource[StatefulSet] = Resource(
    "apps", "v1", "statefulsets", "StatefulSet", True, StatefulSet
)
DAEMONSETS: Resource[DaemonSet] = Resource("apps", "v1", "daemonsets", "DaemonSet", True, DaemonSet)
REVISIONS: Resource[ControllerRevision] = Resource(
    "apps", "v1", "controllerrevisions", "ControllerRevision", True, ControllerRevision
)
CLAIMS: Resource[PersistentVolumeClaim] = Resource(
    "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True, PersistentVolumeClaim
)


def typed(owner: StatefulSet | DaemonSet) -> Object:
    """The owner with its type filled in: lists leave it out."""
    return ownership.typed(STATEFULSETS if isinstance(owner, StatefulSet) else DAEMONSETS, owner)


def set_document(resource: Resource[Any], metadata: Document, **fields: Any) -> Document:
    """An object to be made, in wire shape."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        **fields,
    }

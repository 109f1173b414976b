"""Statuses: what members report of their Works is gathered in the binding and summed up in the template.

Writes `status.aggregatedStatus` and the condition `FullyApplied` of the binding, and `status` of a Deployment. A member
that is not heard of keeps its last report in the binding, with health Unknown; its replicas are not counted as ready.
"""

from collections.abc import Iterable, Mapping

from federation.controllers import dispatcher
from federation.propagation import aggregate, moves
from federation.propagation.aggregate import MemberStatus
from federation.propagation.rollouts.record import Record, record_of
from federation.propagation.rollouts.snapshots import hash_of, strategy_of
from federation.propagation.templates import DEPLOYMENTS
from machinery.api.fleet.cluster import CLUSTERS, READY, Cluster
from machinery.api.fleet.work import (
    BINDING_DOCUMENTS,
    BINDING_LABEL,
    RESOURCE_BINDINGS,
    WORKS,
    ResourceBinding,
    Work,
)
from machinery.controller.action import Action, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition, is_true
from machinery.meta.resource import Document, ObjectKey

FULLY_APPLIED = "FullyApplied"
BY_BINDING = "binding"


def item(work: Work, seen: bool) -> Document:
    """One member's entry of aggregatedStatus."""
    cluster = cluster_of(work)
    applied = condition(work.status.conditions, "Applied")
    entry: Document = {
        "clusterName": cluster,
        "applied": applied is not None and applied.status == "True",
        "health": "Unknown",
    }
    if applied is not None and applied.status != "True":
        entry["appliedMessage"] = applied.message
    if work.status.manifest_statuses:
        first = work.status.manifest_statuses[0]
        entry["health"] = first.health if seen else "Unknown"
        if first.status is not None:
            entry["status"] = first.status
    return entry


def cluster_of(work: Work) -> str:
    """The member that a Work is for."""
    return work.metadata.namespace.removeprefix("karmada-es-")


def binding_plan(
    binding: ResourceBinding,
    works: Iterable[Work],
    seen: Mapping[str, bool],
    held: Document,
    now: str,
) -> list[Action]:
    """aggregatedStatus and FullyApplied, when they changed."""
    wanted = dispatcher.asked(binding)
    current = [w for w in works if cluster_of(w) in wanted and not w.deleting]
    items = sorted(
        (item(w, seen.get(cluster_of(w), False)) for w in current),
        key=lambda i: str(i["clusterName"]),
    )
    status: Document = {}
    if (held.get("aggregatedStatus") or []) != items:
        status["aggregatedStatus"] = items or None
    applied = len(items) == len(wanted) and all(i["applied"] for i in items)
    conditions = _fully_applied(held.get("conditions") or [], applied and bool(wanted), now)
    if conditions is not None:
        status["conditions"] = conditions
    if not status:
        return []
    return [
        SetStatus(
            RESOURCE_BINDINGS,
            binding.key,
            status,
            resource_version=binding.metadata.resource_version,
        )
    ]


def _fully_applied(conditions: list[Document], applied: bool, now: str) -> list[Document] | None:
    reason, message = (
        ("FullyAppliedSuccess", "All works have been successfully applied")
        if applied
        else (
            "FullyAppliedFailed",
            "Failed to apply all works, see status.aggregatedStatus for details",
        )
    )
    status = "True" if applied else "False"
    held = next((c for c in conditions if c["type"] == FULLY_APPLIED), None)
    if held is not None and (held["status"], held.get("reason")) == (status, reason):
        return None
    fresh = {
        "type": FULLY_APPLIED,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": now,
    }
    return [*(c for c in conditions if c["type"] != FULLY_APPLIED), fresh]


def copies(binding: ResourceBinding) -> int:
    """How many clusters run all replicas each; 1 where they are divided."""
    placement = binding.spec.placement
    scheduling = placement.replica_scheduling if placement is not None else None
    divided = scheduling is not None and scheduling.replica_scheduling_type == "Divided"
    return 1 if divided else max(1, len(binding.spec.clusters))


def template_plan(
    template: Document,
    binding: ResourceBinding,
    works: Iterable[Work],
    seen: Mapping[str, bool],
    now: str,
) -> list[Action]:
    """The Deployment's summed status, when it changed."""
    by_cluster = {cluster_of(w): w for w in works if not w.deleting}
    members = []
    kept = moves.kept(binding)
    record, newest = _staging(template, binding)
    decided = dispatcher.targets(binding)
    for name in dispatcher.asked(binding):
        heard = seen.get(name, False)
        if name not in decided and not heard:
            continue  # a dead cluster that was replaced holds nothing up
        work = by_cluster.get(name)
        reports = work.status.manifest_statuses if work is not None else ()
        status = reports[0].status if reports else None
        updated = record is None or record.newest_in(name, newest)
        members.append(
            MemberStatus(name, decided.get(name, 0), status, heard, kept.get(name, 0), updated)
        )
    stopped = record.failed if record is not None and record.seen == newest else ""
    status = aggregate.deployment_status(
        template, members, now, copies=copies(binding), stopped=stopped
    )
    held = template.get("status") or {}
    if all(held.get(name) == value for name, value in status.items()):
        return []
    metadata = template["metadata"]
    key = ObjectKey(metadata["namespace"], metadata["name"])
    return [SetStatus(DEPLOYMENTS, key, status, resource_version=metadata["resourceVersion"])]


def _staging(template: Document, binding: ResourceBinding) -> tuple[Record | None, str]:
    """Where the staged update of the template stands (None: it is not staged), and the template's hash."""
    if not strategy_of(template):
        return None, ""
    return record_of(binding) or Record(stable=""), hash_of(template)


def plan(
    binding: ResourceBinding,
    binding_status: Document,
    template: Document | None,
    works: Iterable[Work],
    seen: Mapping[str, bool],
    now: str,
) -> list[Action]:
    """Both halves."""
    works = list(works)
    actions = binding_plan(binding, works, seen, binding_status, now)
    if template is not None and template["metadata"]["uid"] == binding.spec.resource.uid:
        actions += template_plan(template, binding, works, seen, now)
    return actions


class StatusReconciler:
    """Bindings."""

    def __init__(self, manager: Manager) -> None:
        self._clock = manager.clock
        self._executor = manager.executor
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._documents = manager.informer(BINDING_DOCUMENTS)
        self._clusters = manager.informer(CLUSTERS)
        self._deployments = manager.informer(DEPLOYMENTS)
        self._works = manager.informer(WORKS, label_selector=BINDING_LABEL)
        self._works.add_index(BY_BINDING, dispatcher.binding_keys)

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None or binding.deleting:
            return Result()
        source = binding.spec.resource
        template = None
        if source.kind == DEPLOYMENTS.kind:
            template = self._deployments.get(ObjectKey(source.namespace, source.name))
        actions = plan(
            binding,
            (self._documents.get(key) or {}).get("status") or {},
            template,
            self._works.by_index(BY_BINDING, key),
            {c.metadata.name: is_true(c.status.conditions, READY) for c in self._clusters.list()},
            rfc3339(self._clock.now()),
        )
        return await self._executor.apply(actions)


def setup(manager: Manager) -> None:
    """Bindings, Works, Deployments, and members whose heartbeat comes or goes."""
    bindings = manager.informer(RESOURCE_BINDINGS)
    readiness: dict[str, bool] = {}

    def of_cluster(cluster: Cluster) -> list[ObjectKey]:
        name, ready = cluster.metadata.name, is_true(cluster.status.conditions, READY)
        if readiness.get(name) == ready:
            return []
        readiness[name] = ready
        return [b.key for b in bindings.list() if name in dispatcher.asked(b)]

    def of_template(template: Document) -> list[ObjectKey]:
        metadata = template["metadata"]
        value = (DEPLOYMENTS.kind, metadata["namespace"], metadata["name"])
        return [b.key for b in bindings.by_index("template", value)]

    bindings.add_index("template", dispatcher.template_key)
    controller = manager.controller("statuses", StatusReconciler(manager))
    controller.watches(RESOURCE_BINDINGS)
    controller.watches(WORKS, dispatcher.binding_keys, label_selector=BINDING_LABEL)
    controller.watches(DEPLOYMENTS, of_template)
    controller.watches(CLUSTERS, of_cluster)

"""Statuses: what members report of their Works is gathered in the binding and summed up in the template.

Writes `status.aggregatedStatus` and the condition `FullyApplied` of the binding, and `status` of its template, by the rule of the
template's kind (`propagation.aggregation`). A member that is not heard of keeps its last report in the binding, with health
Unknown and since when; its replicas are not counted.

Reports come in bursts, one from each member, and a sum is made of them all: they are gathered for some ms a member before it is made.

Services need no binding: `status` of one is summed up from the Works that carry it into clusters, whether they have one or not.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from federation.controllers import dispatcher
from federation.propagation import aggregation, customized, moves
from federation.propagation.aggregate import MemberStatus
from federation.propagation.customized import (
    BUILT_IN,
    Customizations,
    Followed,
    InterpretationFailed,
)
from federation.propagation.demand import Demand, demand_of
from federation.propagation.rollouts.record import Record, record_of
from federation.propagation.rollouts.snapshots import hash_of, strategy_of
from federation.propagation.scopes import IN_NAMESPACES, SCOPES, Scope
from federation.propagation.sources import Sources
from federation.propagation.templates import (
    SERVICES,
    TEMPLATES,
    propagatable,
    resource_of,
    subject,
)
from machinery.api.fleet.cluster import CLUSTERS, READY, Cluster
from machinery.api.fleet.interpretation import CUSTOMIZATIONS
from machinery.api.fleet.work import (
    BINDING_LABEL,
    WORKS,
    ResourceBinding,
    Work,
    binding_resource,
)
from machinery.api.patch.merge import apply as merge
from machinery.controller.action import Action, Emit, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.controller.predicates import wish_changed
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition, is_true
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

FULLY_APPLIED = "FullyApplied"
SERVICE = (SERVICES.api_version, SERVICES.kind)
BOUND_OR_NOT = (f"!{BINDING_LABEL}", IN_NAMESPACES.label)
"""Works without a binding, and with one."""
BY_BINDING = "binding"
BY_SERVICE = "service"


PER_CLUSTER_S, GATHERING_S_MAX = 0.002, 2.0


def gathering_s(clusters: int) -> float:
    """How long reports of so many clusters are gathered before they are summed up: a sum costs as much as there are clusters,
    and so must not be made for each report."""
    return min(GATHERING_S_MAX, PER_CLUSTER_S * clusters)


def item(work: Work, seen: bool, since: str = "") -> Document:
    """One member's entry of aggregatedStatus. `since`: when it was last heard of, where it is not `seen`."""
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
    if not seen and since and entry["applied"]:
        entry["appliedMessage"] = f"not heard of since {since}: this is the last report"
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
    since: Mapping[str, str] = {},
) -> list[Action]:
    """aggregatedStatus and FullyApplied, when they changed. `since` when clusters are not seen."""
    wanted = dispatcher.asked(binding)
    current = [w for w in works if cluster_of(w) in wanted and not w.deleting]
    items = sorted(
        (item(w, seen.get(cluster_of(w), False), since.get(cluster_of(w), "")) for w in current),
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
            binding_resource(binding.key),
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
    scripts: Customizations = BUILT_IN,
    resource: Resource[Document] | None = None,
) -> list[Action]:
    """The template's summed status, when it changed; a user's script that fails leaves it as it is. `scripts`: what users
    say of kinds; `resource`: how its kind is served, where it is none of the usual templates."""
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
    known = aggregation.Known(now, copies(binding), stopped)
    resource = resource or resource_of(template["apiVersion"], template["kind"])
    try:
        status = customized.summed(scripts, template, members, known)
    except InterpretationFailed as error:
        return [_failed(template, error)]
    return _written(resource, template, status)


def _failed(template: Document, error: InterpretationFailed) -> Action:
    about, uid = document_key(template), template["metadata"]["uid"]
    return Emit(subject(template), about, uid, "Warning", "AggregateStatusFailed", str(error))


def _written(
    resource: Resource[Document] | None, template: Document, status: Document | None
) -> list[Action]:
    """The summed status, where the template does not say it already."""
    held = template.get("status") or {}
    if resource is None or status is None or merge(held, status) == held:
        return []
    version = template["metadata"]["resourceVersion"]
    return [SetStatus(resource, document_key(template), status, resource_version=version)]


def service_plan(
    service: Document, works: Iterable[Work], seen: Mapping[str, bool], now: str
) -> list[Action]:
    """A Service's status, summed up from what carries it. Pure."""
    members = [
        MemberStatus(name, 0, reports[0].status if reports else None, seen.get(name, False))
        for name, reports in sorted(
            (cluster_of(w), w.status.manifest_statuses) for w in works if not w.deleting
        )
    ]
    return _written(SERVICES, service, aggregation.summed(service, members, aggregation.Known(now)))


def _staging(template: Document, binding: ResourceBinding) -> tuple[Record | None, str]:
    """Where the staged update of the template stands (None: it is not staged), and the template's hash."""
    if not strategy_of(template):
        return None, ""
    return record_of(binding) or Record(stable=""), hash_of(template)


def plan(  # noqa: PLR0913
    binding: ResourceBinding,
    binding_status: Document,
    template: Document | None,
    works: Iterable[Work],
    seen: Mapping[str, bool],
    now: str,
    since: Mapping[str, str] = {},
    scripts: Customizations = BUILT_IN,
    resource: Resource[Document] | None = None,
) -> list[Action]:
    """Both halves."""
    works = list(works)
    actions = binding_plan(binding, works, seen, binding_status, now, since)
    if template is None or (template["apiVersion"], template["kind"]) == SERVICE:
        return actions
    if template["metadata"]["uid"] == binding.spec.resource.uid:
        actions += template_plan(template, binding, works, seen, now, scripts, resource)
    return actions


def heard(clusters: Iterable[Cluster]) -> tuple[dict[str, bool], dict[str, str]]:
    """Whether each cluster is heard of, and since when one is not."""
    seen: dict[str, bool] = {}
    since: dict[str, str] = {}
    for cluster in clusters:
        name, ready = cluster.metadata.name, condition(cluster.status.conditions, READY)
        seen[name] = ready is not None and ready.status == "True"
        if ready is not None and not seen[name] and ready.last_transition_time is not None:
            since[name] = rfc3339(ready.last_transition_time)
    return seen, since


class StatusReconciler:
    """Bindings of one scope."""

    def __init__(self, manager: Manager, demand: Demand, scope: Scope = IN_NAMESPACES) -> None:
        self._demand = demand
        self._clock = manager.clock
        self._executor = manager.executor
        self._bindings = manager.informer(scope.bindings)
        self._documents = manager.informer(scope.documents)
        self._clusters = manager.informer(CLUSTERS)
        self._sources = Sources(manager.informer, demand=demand)
        self._scripts = Followed(manager.informer(CUSTOMIZATIONS))
        self._works = manager.informer(WORKS, label_selector=scope.label)
        self._works.add_index(BY_BINDING, dispatcher.binding_keys)

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None or binding.deleting:
            return Result()
        seen, since = heard(self._clusters.list())
        source = binding.spec.resource
        actions = plan(
            binding,
            self._documents.status(key),
            self._sources.placed_by(binding),
            self._works.by_index(BY_BINDING, key),
            seen,
            rfc3339(self._clock.now()),
            since,
            self._scripts(),
            self._demand.resource_of(source.api_version, source.kind),
        )
        return await self._executor.apply(actions)


class ServiceStatusReconciler:
    """Services."""

    def __init__(self, manager: Manager) -> None:
        self._clock = manager.clock
        self._executor = manager.executor
        self._services = manager.informer(SERVICES)
        self._clusters = manager.informer(CLUSTERS)
        self._works = [manager.informer(WORKS, label_selector=label) for label in BOUND_OR_NOT]
        for works in self._works:
            works.add_index(BY_SERVICE, service_keys)

    async def reconcile(self, key: ObjectKey) -> Result:
        service = self._services.get(key)
        if service is None or not propagatable(service):
            return Result()
        seen, _ = heard(self._clusters.list())
        works = [work for part in self._works for work in part.by_index(BY_SERVICE, key)]
        now = rfc3339(self._clock.now())
        return await self._executor.apply(service_plan(service, works, seen, now))


def service_keys(work: Work) -> list[ObjectKey]:
    """The Service that a Work carries."""
    return [
        ObjectKey(report.identifier.namespace, report.identifier.name)
        for report in work.status.manifest_statuses
        if (report.identifier.group, report.identifier.kind) == ("", SERVICES.kind)
    ]


def setup(manager: Manager) -> None:
    """Bindings, Works, templates, Services, and members whose heartbeat comes or goes."""
    demand = demand_of(manager.informer)
    for scope in SCOPES:
        _sum_up(manager, scope, demand)
    services = manager.informer(SERVICES)
    of_services = manager.controller("statuses-services", ServiceStatusReconciler(manager))
    of_services.watches(SERVICES)
    for label in BOUND_OR_NOT:
        of_services.watches(WORKS, service_keys, label_selector=label)
    of_services.watches(CLUSTERS, _of_cluster(lambda _: [document_key(s) for s in services.list()]))


def _sum_up(manager: Manager, scope: Scope, demand: Demand) -> None:
    bindings = manager.informer(scope.bindings)
    bindings.add_index("template", dispatcher.template_key)
    reconciler = StatusReconciler(manager, demand, scope)
    controller = manager.controller(scope.named("statuses"), reconciler)

    def pause(key: ObjectKey) -> float:
        binding = bindings.get(key)
        return gathering_s(_reach(binding) if binding is not None else 0)

    controller.watches(scope.bindings, when=_gone, later=pause)
    controller.watches(
        WORKS, dispatcher.binding_keys, label_selector=scope.label, when=_gone, later=pause
    )
    controller.watches(CUSTOMIZATIONS, dispatcher.of_customization(bindings))
    controller.watches(
        CLUSTERS,
        _of_cluster(lambda name: [b.key for b in bindings.list() if name in dispatcher.asked(b)]),
    )

    def come(resource: Resource[Document]) -> None:
        if resource.namespaced == scope.namespaced:
            keys = _of_template(resource, bindings)
            controller.watches(resource, keys, when=wish_changed, later=pause)

    for resource in TEMPLATES:
        if (resource.api_version, resource.kind) in aggregation.SUMMED:
            come(resource)
    demand.follow(come)


def _reach(binding: ResourceBinding) -> int:
    """About how many clusters have it."""
    needs = (len(snapshot.clusters) for snapshot in binding.spec.required_by)
    return max(len(binding.spec.clusters), *needs, 0)


def _gone(_: object, new: object) -> bool:
    return new is None


def _of_template(resource: Resource[Document], bindings: Any) -> Any:
    def keys(template: Document) -> list[ObjectKey]:
        metadata = template["metadata"]
        value = (resource.kind, metadata.get("namespace", ""), metadata["name"])
        return [b.key for b in bindings.by_index("template", value)]

    return keys


def _of_cluster(keys_of: Callable[[str], list[ObjectKey]]) -> Callable[[Cluster], list[ObjectKey]]:
    """Whoever is concerned by a member, when its heartbeat comes or goes."""
    readiness: dict[str, bool] = {}

    def keys(cluster: Cluster) -> list[ObjectKey]:
        name, ready = cluster.metadata.name, is_true(cluster.status.conditions, READY)
        if readiness.get(name) == ready:
            return []
        readiness[name] = ready
        return keys_of(name)

    return keys

"""Quotas: a FederatedResourceQuota says what its namespace uses in all clusters, and each cluster's part of it is a ResourceQuota there.

The placer asks `Quotas` before it writes a decision; a decision that would use more than the quota is refused with the condition
reason QuotaExceeded and asked again when the quota has room. What was placed before there was a quota stays.

A cluster's part is what `staticAssignments` gives it, or (annotation `ubernetes.io/quota-share: Dynamic`) what stands there and an even
share of what is left. It travels as a Work to members that serve ResourceQuotas; of the others an Event says that their part holds at
the federation alone. `status.aggregatedStatus` is what members report of it.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from federation.controllers import dispatcher
from federation.propagation import components, moves, quota
from federation.propagation.quota import Amounts, Placed
from federation.propagation.works import work
from machinery.api.fleet.cluster import CLUSTERS, EXECUTION_PREFIX, Cluster
from machinery.api.fleet.operations import (
    FEDERATED_RESOURCE_QUOTAS,
    QUOTA_NAME,
    QUOTA_NAMESPACE,
    FederatedResourceQuota,
)
from machinery.api.fleet.work import (
    BINDING_LABEL,
    RESOURCE_BINDINGS,
    WORK_DOCUMENTS,
    ResourceBinding,
)
from machinery.controller.action import Action, Emit, Patch, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.meta.objectmeta import to_document
from machinery.meta.resource import Document, ObjectKey

BY_QUOTA = "quota"
RESOURCE_QUOTA = ("v1", "ResourceQuota")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a quota is judged by. `members`: by name, whether they serve ResourceQuotas."""

    used: Amounts = field(default_factory=dict)
    placed: Mapping[str, Amounts] = field(default_factory=dict)
    members: Mapping[str, bool] = field(default_factory=dict)
    works: Sequence[Document] = ()


def plan(held: FederatedResourceQuota | None, seen: Seen) -> list[Action]:
    """Works, status, and of a changed quota where it holds at the federation alone."""
    if held is None or held.deleting:
        return dispatcher.plan({}, seen.works)
    parts = wanted_parts(held, seen)
    served = {name: hard for name, hard in parts.items() if seen.members[name]}
    carried = {name: part_work(held, name, hard) for name, hard in served.items()}
    status: Document = {
        "overall": held.spec.overall,
        "overallUsed": quota.used_document(held, seen.used) or None,
        "aggregatedStatus": reported(seen.works, carried) or None,
    }
    actions = dispatcher.plan(carried, seen.works)
    if _differs(held, status):
        version = held.metadata.resource_version
        actions.append(
            SetStatus(FEDERATED_RESOURCE_QUOTAS, held.key, status, resource_version=version)
        )
    if held.status.overall != held.spec.overall:
        actions += _unserved(held, [name for name in parts if name not in served])
    return actions


def wanted_parts(held: FederatedResourceQuota, seen: Seen) -> dict[str, dict[str, str]]:
    """What each member may use; a name in the quota's list that is no member's waits until it is."""
    if held.metadata.annotations.get(quota.SHARE) == quota.DYNAMIC:
        members = {n: seen.placed.get(n, {}) for n, serves in seen.members.items() if serves}
        now = {cluster_of(w): _hard(w) for w in seen.works}
        return quota.dynamic(held, Placed(members), now)
    return {name: hard for name, hard in quota.static(held).items() if name in seen.members}


def part_work(held: FederatedResourceQuota, cluster: str, hard: Mapping[str, str]) -> Document:
    """The Work with a member's ResourceQuota."""
    template = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": held.metadata.name, "namespace": held.metadata.namespace},
        "spec": {"hard": dict(hard)},
    }
    made = work(template, cluster, conflict_resolution="Overwrite")
    metadata = made["metadata"]
    marks = {QUOTA_NAME: held.metadata.name, QUOTA_NAMESPACE: held.metadata.namespace}
    return made | {"metadata": metadata | {"labels": metadata["labels"] | marks}}


def cluster_of(document: Document) -> str:
    """The member that a Work is for."""
    return str(document["metadata"]["namespace"]).removeprefix(EXECUTION_PREFIX)


def _hard(document: Document) -> dict[str, str]:
    (manifest,) = document["spec"]["workload"]["manifests"]
    return dict(manifest["spec"]["hard"])


def reported(works: Iterable[Document], wanted: Mapping[str, Document]) -> list[Document]:
    """What members say of their parts, by name."""
    found = []
    for document in sorted(works, key=cluster_of):
        name = cluster_of(document)
        told = (document.get("status") or {}).get("manifestStatuses") or ()
        status = (told[0].get("status") or {}) if told else {}
        kept = {key: status[key] for key in ("hard", "used") if status.get(key)}
        if name in wanted and kept:
            found.append({"clusterName": name} | kept)
    return found


def _differs(held: FederatedResourceQuota, status: Document) -> bool:
    told = held.status
    now = [_told(to_document(one)) for one in told.aggregated_status]
    return (
        dict(told.overall) != dict(status["overall"])
        or dict(told.overall_used) != (status["overallUsed"] or {})
        or now != (status["aggregatedStatus"] or [])
    )


def _told(document: Document) -> Document:
    return {key: value for key, value in document.items() if value}


def _unserved(held: FederatedResourceQuota, names: Sequence[str]) -> list[Action]:
    if not names:
        return []
    text = f"no ResourceQuotas are served in {', '.join(names)}: its part holds at the federation alone"
    uid = held.metadata.uid
    return [Emit(FEDERATED_RESOURCE_QUOTAS, held.key, uid, "Warning", "QuotaNotInMember", text)]


def quota_keys(document: Document) -> list[ObjectKey]:
    """The quota that a Work is a part of."""
    labels = document["metadata"].get("labels") or {}
    if QUOTA_NAME not in labels:
        return []
    return [ObjectKey(labels.get(QUOTA_NAMESPACE, ""), labels[QUOTA_NAME])]


# ------------------------------------------------------------------------------------------------------ what is used, at once
@dataclass(frozen=True, slots=True)
class Verdict:
    """On a decision: why it may not be, or what is to be written before it."""

    refusal: str = ""
    actions: tuple[Action, ...] = ()


def written(actions: Iterable[Action]) -> dict[str, int] | None:
    """The clusters that these actions give a binding; None when they change none."""
    for action in actions:
        if isinstance(action, Patch) and isinstance(action.patch, Mapping):
            spec = action.patch.get("spec") or {}
            if spec.get("clusters"):
                return {c["name"]: c.get("replicas", 0) for c in spec["clusters"]}
    return None


def judged(  # noqa: PLR0913
    quotas: Iterable[FederatedResourceQuota],
    name: str,
    after: Amounts,
    used: Amounts,
    seen: Mapping[str, Amounts],
    now: dt.datetime,
) -> Verdict:
    """Whether the binding `name` may use `after`. `used`: the namespace's sum now; `seen`: its bindings, by name."""
    before = seen.get(name, {})
    grants: list[Action] = []
    for held in sorted(quotas, key=lambda q: q.metadata.name):
        if held.deleting:
            continue
        promised = quota.unseen(quota.grants(held), seen, now)
        others = quota.added(quota.less(used, before), quota.promised(promised, seen, name))
        if why := quota.refusal(held, others, before, after):
            return Verdict(why)
        if any(value > before.get(resource, 0) for resource, value in after.items()):
            text = quota.granted(promised, name, after, now)
            patch = {"metadata": {"annotations": {quota.GRANTS: text}}}
            version = held.metadata.resource_version
            grants.append(
                Patch(FEDERATED_RESOURCE_QUOTAS, held.key, patch, resource_version=version)
            )
    return Verdict(actions=tuple(grants))


class Quotas:
    """What the namespaces that have quotas use, kept up to date with every binding."""

    def __init__(self, manager: Manager) -> None:
        self._clock = manager.clock
        self._quotas = manager.informer(FEDERATED_RESOURCE_QUOTAS)
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._bindings.on_change(self._binding)
        self._seen: dict[str, dict[str, Amounts]] = {}
        self._used: dict[str, dict[str, Fraction]] = {}

    def of(self, namespace: str) -> list[FederatedResourceQuota]:
        """The namespace's quotas; objects of a cluster are in none, and use up none."""
        return self._quotas.list(namespace) if namespace else []

    def used(self, namespace: str) -> Amounts:
        """What its bindings use in all."""
        self._count(namespace)
        return self._used[namespace]

    def judge(self, binding: ResourceBinding, actions: Iterable[Action]) -> Verdict:
        """Whether the namespace's quotas allow the decision in `actions`, and what is to be written before it."""
        namespace = binding.metadata.namespace
        quotas, clusters = self.of(namespace), written(actions)
        if not quotas or clusters is None:
            return Verdict()
        self._count(namespace)
        after = quota.usage(binding, clusters)
        used, seen = self._used[namespace], self._seen[namespace]
        return judged(quotas, binding.metadata.name, after, used, seen, self._clock.now())

    def _count(self, namespace: str) -> None:
        """Begin to count a namespace; from then on every change of a binding is added."""
        if namespace in self._seen:
            return
        found = self._bindings.list(namespace)
        self._seen[namespace] = seen = {b.metadata.name: quota.usage(b) for b in found}
        self._used[namespace] = quota.added(*seen.values())

    def _binding(self, old: ResourceBinding | None, new: ResourceBinding | None) -> None:
        """Informer handler."""
        held = new if new is not None else old
        assert held is not None
        namespace, name = held.metadata.namespace, held.metadata.name
        seen = self._seen.get(namespace)
        if seen is None or _same(old, new):
            return
        before = seen.pop(name, {})
        after: Amounts = {}
        if new is not None:
            after = seen[name] = quota.usage(new)
        changed = quota.less(after, before)
        self._used[namespace] = quota.less(quota.added(self._used[namespace], changed), {})


def _same(old: ResourceBinding | None, new: ResourceBinding | None) -> bool:
    """Whether nothing that counts has changed."""
    return old is not None and new is not None and _counted(old) == _counted(new)


def _counted(binding: ResourceBinding) -> tuple[object, ...]:
    spec = binding.spec
    return (
        spec.clusters,
        spec.replicas,
        spec.components,
        spec.replica_requirements,
        spec.placement,
        spec.graceful_eviction_tasks,
    )


class QuotaReconciler:
    """FederatedResourceQuotas."""

    def __init__(self, manager: Manager, counted: Quotas) -> None:
        self._executor, self._counted = manager.executor, counted
        self._quotas = manager.informer(FEDERATED_RESOURCE_QUOTAS)
        self._clusters = manager.informer(CLUSTERS)
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._works = manager.informer(WORK_DOCUMENTS, label_selector=f"!{BINDING_LABEL}")
        self._works.add_index(BY_QUOTA, quota_keys)

    async def reconcile(self, key: ObjectKey) -> Result:
        members = {c.metadata.name: serves(c) for c in self._clusters.list() if not c.deleting}
        used, placed = self._counted.used(key.namespace), self._placed(key.namespace)
        seen = Seen(used, placed, members, self._works.by_index(BY_QUOTA, key))
        return await self._executor.apply(plan(self._quotas.get(key), seen))

    def _placed(self, namespace: str) -> dict[str, Amounts]:
        found: dict[str, dict[str, Fraction]] = {}
        for binding in self._bindings.list(namespace):
            asks = quota.asks(binding)
            for name, count in components.sets(binding, moves.running(binding)).items():
                part = {resource: value * count for resource, value in asks.items()}
                found[name] = quota.added(found.get(name, {}), part)
        return dict(found)


def serves(cluster: Cluster) -> bool:
    """Whether the member says that it has ResourceQuotas."""
    return any(
        (enabled.group_version, resource.kind) == RESOURCE_QUOTA
        for enabled in cluster.status.api_enablements
        for resource in enabled.resources
    )


def setup(manager: Manager) -> None:
    """Quotas and their Works, what is placed in their namespaces, and members that come, go or serve something else."""
    quotas = manager.informer(FEDERATED_RESOURCE_QUOTAS)
    members: dict[str, object] = {}

    def of_cluster(cluster: Cluster) -> list[ObjectKey]:
        state = (cluster.deleting, cluster.status.api_enablements)
        if members.get(cluster.metadata.name) == state:
            return []
        members[cluster.metadata.name] = state
        return [q.key for q in quotas.list()]

    def of_binding(binding: ResourceBinding) -> list[ObjectKey]:
        return [q.key for q in quotas.list(binding.metadata.namespace)]

    controller = manager.controller("quotas", QuotaReconciler(manager, Quotas(manager)))
    controller.watches(FEDERATED_RESOURCE_QUOTAS)
    controller.watches(CLUSTERS, of_cluster)
    controller.watches(RESOURCE_BINDINGS, of_binding)
    controller.watches(WORK_DOCUMENTS, quota_keys, label_selector=f"!{BINDING_LABEL}")


def eased() -> Callable[[FederatedResourceQuota], bool]:
    """Whether a quota that is shown again has changed what it allows, or what is used of it has."""
    states: dict[ObjectKey, object] = {}

    def changed(held: FederatedResourceQuota) -> bool:
        state = (held.spec, held.status.overall_used, held.deleting)
        before = states.get(held.key)
        states[held.key] = state
        return before != state

    return changed

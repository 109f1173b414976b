"""Failover: moves that have begun come to their end. One binding at a time, from what is seen now.

A cluster that returns is believed only after it has answered with an inventory. Then a move that was not finished is taken
back, exactly; one that was finished follows the workload's `rejoin`. What a cluster keeps for the time being is let go as
far as at least the wanted number stays ready without it. Whatever remains waits, for ever if need be: too many replicas
harm nobody, too few do. Tasks that others made, and those that a policy's `purgeMode` made, end by Karmada's rule
(`federation.propagation.evictions`).
"""

from collections.abc import Callable
from dataclasses import replace

from federation.controllers import placer
from federation.propagation import evictions, moves, questions, replays, restores, volumes
from federation.propagation.demand import demand_of
from federation.propagation.departures import drained
from federation.propagation.moves import Facts, State
from federation.propagation.replays import Settling, noted
from federation.propagation.resilience import resilience
from federation.propagation.scopes import IN_NAMESPACES, SCOPES, Scope
from federation.propagation.sources import Sources
from machinery.api.coordination import LEASES, Lease
from machinery.api.fleet.cluster import (
    CLUSTER_LEASES,
    CLUSTERS,
    INVENTORY,
    INVENTORY_WANTED,
    READY,
    Cluster,
)
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.api.fleet.work import ResourceBinding
from machinery.client.informer import Informer
from machinery.controller.action import Action, RequeueAfter, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import ObjectKey

BY_MOVE = "failover-move"


def believed(cluster: Cluster, lease: Lease | None) -> bool:
    """Whether what the cluster reports counts: it is heard of, and it made the inventory that was asked of it."""
    if cluster.deleting or not is_true(cluster.status.conditions, READY):
        return False
    word = lease.metadata.annotations.get(INVENTORY_WANTED, "") if lease is not None else ""
    return not word or cluster.metadata.annotations.get(INVENTORY) == word


def plan(binding: ResourceBinding, facts: Facts, stopping_s: float | None = None) -> list[Action]:
    """One step of the binding's moves, and what is told of it. `stopping_s`: until what was drained has had its time to end."""
    state = moves.state_of(binding)
    if binding.deleting or not state.tasks:
        return []
    settled = moves.settle(state, facts)
    judged = evictions.assess(settled, facts)
    after = judged.state
    later: list[Action] = [] if judged.again_s is None else [RequeueAfter(judged.again_s)]
    if after == state:
        return [RequeueAfter(stopping_s)] if facts.fenced and stopping_s else later
    annotations: dict[str, str | None] | None = None
    if after.clusters != state.clusters:
        # Which affinity group the old clusters were of is not known: the next decision finds out.
        annotations = {questions.QUESTION: facts.question, **questions.in_group(binding, "")}
    told = [
        a
        for reason, text in (*news(state, settled), *judged.news)
        for a in placer.say(binding, "Normal", reason, text)
    ]
    actions = [moves.patch(binding, after, annotations), *told, *later]
    return noted(actions, replays.settled(binding, Settling(state, facts)))


def news(old: State, new: State) -> list[tuple[str, str]]:
    """What changed, as Events."""
    found: list[tuple[str, str]] = []
    if new.clusters != old.clusters:
        result = ", ".join(f"{name}:{count}" for name, count in sorted(new.clusters.items()))
        back = sorted(old.evicting - new.evicting)
        unwell = {t.cluster for t in old.tasks if t.reason == moves.APPLICATION}
        why = "is well again, and nothing else has room" if unwell & set(back) else "is back"
        text = f"{', '.join(back)} {why}: the placement is {{{result}}} again"
        found.append(("EvictionCancelled", text))
    for cluster in sorted({t.cluster for t in old.tasks}):
        before, after = old.kept(cluster), new.kept(cluster)
        returned = cluster in old.evicting - new.evicting and cluster not in new.clusters
        if returned and before:
            found.append(
                (
                    "Rejoined",
                    f"{cluster} is back: its {before} replicas were replaced and are given up",
                )
            )
        elif after < before and cluster not in new.clusters.keys() - old.clusters.keys():
            text = f"{cluster} lets go {before - after} replicas: as many are ready in the other clusters"
            found.append(("MoveProgressed", text))
    return found


class FailoverReconciler:
    """Bindings of one scope with eviction tasks."""

    def __init__(self, manager: Manager, scope: Scope = IN_NAMESPACES) -> None:
        self._clock = manager.clock
        self._executor = manager.executor
        self._clusters = manager.informer(CLUSTERS)
        self._leases = manager.informer(LEASES, CLUSTER_LEASES)
        self._policies = manager.informer(RESILIENCE_POLICIES)
        self._sources = Sources(manager.informer, demand=demand_of(manager.informer))
        self._bindings = manager.informer(scope.bindings)

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None or not binding.spec.graceful_eviction_tasks:
            return Result()
        stopping = moves.stopping_s(binding, self._clock.now())
        facts = self._facts(binding)
        if facts.fenced and self._saving(binding, frozenset(facts.seen)):
            return Result()  # the old copy would stop: a snapshot of it is made first
        facts = replace(facts, stopped=stopping is not None and stopping <= 0)
        return await self._executor.apply(plan(binding, facts, stopping))

    def _saving(self, binding: ResourceBinding, seen: frozenset[str]) -> bool:
        own = resilience(self._sources.get(binding.spec.resource), self._policies.list())
        shelf = volumes.shelf_of(binding.metadata.annotations)
        return own.volumes is not None and restores.saving(binding, own.volumes, shelf, seen)

    def _facts(self, binding: ResourceBinding) -> Facts:
        clusters = self._clusters.list()
        seen = frozenset(
            c.metadata.name
            for c in clusters
            if believed(c, self._leases.get(ObjectKey(CLUSTER_LEASES, c.metadata.name)))
        )
        template = self._sources.get(binding.spec.resource)
        own = resilience(template, self._policies.list())
        return Facts(
            questions.question(binding),
            moves.reported(binding, seen),
            frozenset(c.metadata.name for c in clusters if drained(c)),
            frozenset(c.metadata.name for c in clusters if not c.deleting),
            own.rejoin,
            {c.metadata.name: "+".join(sorted(c.spec.zones)) or c.spec.zone for c in clusters},
            own.mode == "consistency",
            settled=not questions.open_question(binding),
            healthy=evictions.healthy(binding, seen),
            waiting=any(moves.suspended(binding, t.name) for t in binding.spec.clusters)
            or (own.volumes is not None and bool(restores.unready(binding, ()))),
            now=rfc3339(self._clock.now()),
        )


def moving(binding: ResourceBinding) -> list[str]:
    """Index of bindings by whether something moves."""
    return ["yes"] if binding.spec.graceful_eviction_tasks else []


def on_change(
    bindings: Informer[ResourceBinding], state_of: Callable[[Cluster], object]
) -> Callable[[Cluster], list[ObjectKey]]:
    """Bindings that move, whenever `state_of` a cluster is another one."""
    states: dict[str, object] = {}

    def keys(cluster: Cluster) -> list[ObjectKey]:
        state = state_of(cluster)
        if states.get(cluster.metadata.name) == state:
            return []
        states[cluster.metadata.name] = state
        return [b.key for b in bindings.by_index(BY_MOVE, "yes")]

    return keys


def setup(manager: Manager) -> None:
    """Bindings of both scopes, and clusters that become ready, answer, are tainted or leave."""
    for scope in SCOPES:
        _settle(manager, scope)


def _settle(manager: Manager, scope: Scope) -> None:
    bindings = manager.informer(scope.bindings)
    bindings.add_index(BY_MOVE, moving)
    controller = manager.controller(scope.named("failover"), FailoverReconciler(manager, scope))
    controller.watches(scope.bindings)
    controller.watches(
        CLUSTERS,
        on_change(
            bindings,
            lambda c: (
                is_true(c.status.conditions, READY),
                c.metadata.annotations.get(INVENTORY),
                c.spec.taints,
                c.deleting,
            ),
        ),
    )

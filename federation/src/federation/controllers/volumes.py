"""Volumes: workloads whose policy has snapshots of them get one in time, and each copy is told what it begins with.

Commands run through the member's link (`federation.clusters.commands`), one at a time a binding. What came of them, and what each copy
begins with, are two annotations of the binding (`federation.propagation.volumes`, `.restores`) that nobody else writes. The dispatcher
brings nothing to a cluster that the workload has just got before the second one speaks of it, and the evictor waits for the first
one before a planned move that stops the old copy at once.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping

from federation.clusters.commands import Command, Outcome, Run, no_links
from federation.controllers import placer
from federation.propagation import checkpoints, conditions, interpreter, restores, volumes
from federation.propagation.checkpoints import NEVER, Mark
from federation.propagation.resilience import CONSISTENCY, resilience
from federation.propagation.restores import RESTORES, Facts, Restore, Step
from federation.propagation.sources import Sources
from federation.propagation.volumes import CONDITION, SNAPSHOTS, Shelf
from machinery.api.fleet.cluster import CLUSTERS, READY, Cluster
from machinery.api.fleet.resilience import (
    RESILIENCE_POLICIES,
    ResiliencePolicy,
    ResilienceSpec,
    VolumeHook,
    Volumes,
)
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.controller.action import Action, Emit, Patch, RequeueAfter, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339, rfc3339_micro
from machinery.meta.objectmeta import condition, is_true
from machinery.meta.resource import Document, ObjectKey

BY_VOLUMES = "volumes"
SAID_MAX = 60
"""Letters of an identifier in an Event."""
Records = Mapping[str, Restore]


def _has_some(policy: ResiliencePolicy) -> list[str]:
    """Index of policies that have snapshots."""
    return ["yes"] if policy.spec.volumes is not None else []


def due(
    binding: ResourceBinding, hook: Volumes, shelf: Shelf, seen: frozenset[str], now: dt.datetime
) -> tuple[list[str], float | None]:
    """Clusters whose snapshot is due, and seconds until the next one is."""
    words = volumes.words_of(binding.metadata.annotations)
    places = [target.name for target in binding.spec.clusters]
    return checkpoints.due(places, hook, shelf.last, words, seen, now)


def noted(binding: ResourceBinding, shelf: Shelf | None) -> Action:
    """The annotation on snapshots; without any it goes."""
    text = checkpoints.text(shelf) if shelf is not None else None
    return Patch(RESOURCE_BINDINGS, binding.key, {"metadata": {"annotations": {SNAPSHOTS: text}}})


def recorded(binding: ResourceBinding, records: Records) -> Action:
    """The annotation on what copies began with, as a compare-and-swap: a second record would make pods anew."""
    body = {"metadata": {"annotations": {RESTORES: checkpoints.text(dict(records))}}}
    version = binding.metadata.resource_version
    return Patch(RESOURCE_BINDINGS, binding.key, body, resource_version=version)


def plan(binding: ResourceBinding, shelf: Shelf, step: Step, now: str) -> list[Action]:
    """The condition that says whether snapshots succeed, and what waits for one."""
    status, reason, message = told(shelf, step)
    held = condition(binding.status.conditions, CONDITION)
    if not status or (
        held and (held.status, held.reason, held.message) == (status, reason, message)
    ):
        return []
    fresh: Document = {
        "type": CONDITION,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": now,
    }
    return [conditions.told(binding, CONDITION, fresh)]


def told(shelf: Shelf, step: Step) -> tuple[str, str, str]:
    """Status, reason and message; empty where nothing was tried."""
    if step.wait:
        return "False", "RecoveryPointHeld", f"Nothing begins elsewhere: {step.wait}."
    bad = [f"in {name}: {mark.message}" for name, mark in sorted(shelf.last.items()) if not mark.ok]
    if bad:
        return "False", "SnapshotFailed", f"The last snapshot failed {'; '.join(bad)}."
    return ("True", "Taken", "The last snapshots succeeded.") if shelf.last else ("", "", "")


# --------------------------------------------------------------------------------------------- what the evictor asks
def held_back(
    binding: ResourceBinding, cluster: str, hook: Volumes, base: str, now: dt.datetime
) -> list[Action] | None:
    """What a planned move that stops the old copy at once does while it waits for its snapshot; None: it may begin."""
    annotations = binding.metadata.annotations
    shelf, words = volumes.shelf_of(annotations), volumes.words_of(annotations)
    mark = shelf.last.get(cluster, NEVER)
    word = volumes.word_of(base, words.get(cluster, ""), mark, now)
    may, why = volumes.lets_go(hook, mark, word, now)
    if may:
        return refused(binding, cluster, hook, now)
    if words.get(cluster) != word:
        body = {
            "metadata": {"annotations": {volumes.WANTED: checkpoints.text(words | {cluster: word})}}
        }
        version = binding.metadata.resource_version
        return [Patch(RESOURCE_BINDINGS, binding.key, body, resource_version=version)]
    said = f"it stays in {cluster} until a snapshot of its volumes succeeds: {why}"
    return placer.say(binding, "Warning", "MoveAborted", said) if why else []


def refused(
    binding: ResourceBinding, cluster: str, hook: Volumes, now: dt.datetime, silent_s: float = 0.0
) -> list[Action] | None:
    """What is told when the policy does not let the workload go with the recovery point that it has; None: it may."""
    why = volumes.short(hook, _age_s(binding, cluster, now, silent_s))
    if not why:
        return None
    return placer.say(binding, "Warning", "RecoveryPointHeld", f"it stays in {cluster}: {why}")


def cost(binding: ResourceBinding, cluster: str, now: dt.datetime, silent_s: float) -> str:
    """The recovery point of a move that begins now, in words."""
    return volumes.cost(_age_s(binding, cluster, now, silent_s))


def done(binding: ResourceBinding, cluster: str) -> dict[str, str | None]:
    """Annotations of a move that has begun: its word is not waited for any more."""
    words = volumes.words_of(binding.metadata.annotations)
    if words.pop(cluster, None) is None:
        return {}
    return {volumes.WANTED: checkpoints.text(words) if words else None}


def _age_s(
    binding: ResourceBinding, cluster: str, now: dt.datetime, silent_s: float
) -> float | None:
    annotations = binding.metadata.annotations
    records = restores.records_of(annotations) or {}
    found = restores.of_line(volumes.shelf_of(annotations), records, cluster)
    return volumes.age_s(found, now, silent_s)


class VolumesReconciler:
    """Bindings whose workload has snapshots of its volumes, or had some."""

    def __init__(self, manager: Manager, run: Run, silent_s: Callable[[str], float | None]) -> None:
        self._clock, self._executor, self._run = manager.clock, manager.executor, run
        self._silent_s = silent_s
        self._clusters = manager.informer(CLUSTERS)
        self._policies = manager.informer(RESILIENCE_POLICIES)
        self._policies.add_index(BY_VOLUMES, _has_some)
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._sources = Sources(manager.informer)
        self._lately: dict[ObjectKey, Shelf] = {}
        """What was written and no watch may have shown yet: a command must not run twice for that."""
        self._ended: dict[tuple[ObjectKey, str], dt.datetime] = {}
        """When old copies were first seen to have stopped."""

    def concerned(self, binding: ResourceBinding) -> bool:
        """Cheap: nobody else's bindings are looked at while no policy has snapshots."""
        annotations = binding.metadata.annotations
        marked = SNAPSHOTS in annotations or RESTORES in annotations
        return marked or self.in_use

    @property
    def in_use(self) -> bool:
        """Whether any policy has snapshots."""
        return bool(self._policies.by_index(BY_VOLUMES, "yes"))

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None or binding.deleting or not self.concerned(binding):
            self._lately.pop(key, None)
            return Result()
        template = self._sources.placed_by(binding)
        own = resilience(template, self._policies.list())
        if template is None or own.volumes is None or not interpreter.has_pods(template):
            return await self._executor.apply(_without_hook(binding))
        return await self._executor.apply(await self._hooked(binding, template, own, own.volumes))

    async def _hooked(
        self, binding: ResourceBinding, template: Document, own: ResilienceSpec, hook: Volumes
    ) -> list[Action]:
        shelf, facts = self._shelf(binding), self._facts(own)
        records = restores.records_of(binding.metadata.annotations)
        if records is None:  # whatever runs now was not restored by us
            names = {t.name for t in binding.spec.clusters}
            return [recorded(binding, dict.fromkeys(names, Restore()))] if names else []
        arriving = restores.arriving(binding, records)
        step = Step()
        if arriving:
            step = restores.step(binding, template, hook, shelf, records, facts)
        wanted, later = due(binding, hook, shelf, facts.seen, facts.now)
        wanted = [name for name in wanted if name not in arriving]
        if step.first and step.first not in wanted:
            wanted.append(step.first)
        actions = plan(binding, shelf, step, rfc3339(facts.now))
        if wanted:
            return [*actions, *await self._taken(binding, template, hook, shelf, wanted)]
        fresh = records | self._measured(binding, records, facts.now)
        if step.record is not None:
            given = step.record
            if given.snapshot and given.lost_s is None and restores.stopped(binding, given.source):
                ended = self._ended.get((binding.key, given.source), facts.now)
                given = restores.measured(given, ended)
            fresh |= dict.fromkeys(arriving, given)
        fresh = restores.standing(binding, fresh)
        if fresh != records:
            actions = [recorded(binding, fresh), *_news(binding, records, fresh)]
        if step.wait:
            actions += placer.say(binding, "Warning", "RecoveryPointHeld", step.wait)
        waits = [wait for wait in (later, step.again_s) if wait is not None]
        return [*actions, RequeueAfter(min(waits))] if waits else actions

    def _facts(self, own: ResilienceSpec) -> Facts:
        clusters = self._clusters.list()
        seen = frozenset(c.metadata.name for c in clusters if is_true(c.status.conditions, READY))
        silent = {c.metadata.name: self._silent_s(c.metadata.name) or 0.0 for c in clusters}
        return Facts(seen, self._clock.now(), own.mode == CONSISTENCY, silent)

    def _shelf(self, binding: ResourceBinding) -> Shelf:
        shown, lately = volumes.shelf_of(binding.metadata.annotations), None
        if (lately := self._lately.get(binding.key)) is None or lately == shown:
            self._lately.pop(binding.key, None)
            return shown
        return lately

    def _measured(
        self, binding: ResourceBinding, records: Records, now: dt.datetime
    ) -> dict[str, Restore]:
        """Records whose old copy has stopped meanwhile."""
        key = binding.key
        placed = {target.name for target in binding.spec.clusters}
        for name in records.keys() | {record.source for record in records.values()}:
            if name not in placed and restores.stopped(binding, name):
                self._ended.setdefault((key, name), now)
            else:
                self._ended.pop((key, name), None)
        return {
            name: restores.measured(record, self._ended[key, record.source])
            for name, record in records.items()
            if record.snapshot and record.lost_s is None and (key, record.source) in self._ended
        }

    async def _taken(
        self,
        binding: ResourceBinding,
        template: Document,
        hook: Volumes,
        shelf: Shelf,
        wanted: Iterable[str],
    ) -> list[Action]:
        """Make the snapshots that are due, one after another, and remove what is not kept any more."""
        words = volumes.words_of(binding.metadata.annotations)
        labels = volumes.pod_labels(template)
        placed = {target.name for target in binding.spec.clusters}
        events: list[Action] = []
        for name in wanted:
            begun, started = self._clock.now(), self._clock.monotonic()
            outcome = await self._run(_command(binding, name, labels, hook.snapshot, hook))
            took_s = self._clock.monotonic() - started
            found, wrong = volumes.identifier_of(outcome.output) if outcome.ok else ("", "")
            if wrong:
                outcome = Outcome(False, wrong)
            word = words.get(name, "")
            mark = Mark(rfc3339_micro(begun), took_s, outcome.ok, outcome.message, word=word)
            before = shelf.last.get(name, NEVER)
            shelf = volumes.taken(shelf, name, mark, found)
            if not outcome.ok or word or name not in placed or not before.ok:
                events.append(_told(binding, name, outcome, took_s, found))
            if outcome.ok:
                shelf, more = await self._discarded(binding, labels, hook, shelf, name)
                events += more
        shelf = volumes.without(shelf, (), placed | _sources_of(binding))
        self._lately[binding.key] = shelf
        return [noted(binding, shelf), *events]

    async def _discarded(
        self,
        binding: ResourceBinding,
        labels: Mapping[str, str],
        hook: Volumes,
        shelf: Shelf,
        cluster: str,
    ) -> tuple[Shelf, list[Action]]:
        """The shelf without what is not kept any more, which the hook removes from this cluster. What it cannot is told, once."""
        records = restores.records_of(binding.metadata.annotations) or {}
        used = {record.snapshot for record in records.values()}
        placed = {target.name for target in binding.spec.clusters}
        gone = volumes.expired(shelf, hook.retain, placed, used)
        events: list[Action] = []
        removal = hook.discard
        for held in gone if removal is not None else ():
            assert removal is not None, "nothing is gone over without it"
            words = volumes.discarding(removal.command, held.identifier)
            removing = VolumeHook(words, removal.container)
            outcome = await self._run(_command(binding, cluster, labels, removing, hook))
            if not outcome.ok:
                text = f"snapshot {_brief(held.identifier)} is left behind: {outcome.message}"
                events.append(_emit(binding, "Warning", "SnapshotNotDiscarded", text))
        return volumes.without(shelf, gone, shelf.last), events


def _sources_of(binding: ResourceBinding) -> set[str]:
    """Clusters that copies came from, or that are being left."""
    records = restores.records_of(binding.metadata.annotations) or {}
    return records.keys() | {record.source for record in records.values()}


def _without_hook(binding: ResourceBinding) -> list[Action]:
    """A workload whose policy has no snapshots any more: what its copies began with stays true, nothing is restored."""
    annotations = binding.metadata.annotations
    if SNAPSHOTS in annotations:
        return [noted(binding, None)]
    records = restores.records_of(annotations)
    if records is None:
        return []
    fresh = records | dict.fromkeys(restores.arriving(binding, records), Restore())
    fresh = restores.standing(binding, fresh)
    return [recorded(binding, fresh)] if fresh != records else []


def _command(
    binding: ResourceBinding,
    cluster: str,
    labels: Mapping[str, str],
    hook: VolumeHook,
    limits: Volumes,
) -> Command:
    namespace = binding.metadata.namespace
    limit_s = limits.timeout_seconds
    return Command(cluster, namespace, labels, hook.command, hook.container, limit_s)


def _news(binding: ResourceBinding, old: Records, new: Records) -> list[Action]:
    """What copies begin with, and what was measured."""
    said: list[Action] = []
    for name, record in sorted(new.items()):
        text = restores.words(name, record)
        if record == old.get(name) or not text:
            continue
        bad = not record.snapshot or record.lost_s is not None
        level, reason = ("Warning", "RecoveryPoint") if bad else ("Normal", "Restoring")
        said += placer.say(binding, level, reason, text)
    return said


def _told(
    binding: ResourceBinding, cluster: str, outcome: Outcome, took_s: float, found: str
) -> Action:
    level, reason = ("Normal", "Snapshot") if outcome.ok else ("Warning", "SnapshotFailed")
    what = _brief(found) if outcome.ok else outcome.message
    return _emit(binding, level, reason, f"in {cluster}, {took_s:.1f} s: {what}")


def _emit(binding: ResourceBinding, level: str, reason: str, text: str) -> Action:
    return Emit(RESOURCE_BINDINGS, binding.key, binding.metadata.uid, level, reason, text)


def _brief(identifier: str) -> str:
    return identifier if len(identifier) <= SAID_MAX else f"{identifier[: SAID_MAX - 1]}…"


def setup(
    manager: Manager, run: Run = no_links, silent_s: Callable[[str], float | None] = lambda _: None
) -> None:
    """Bindings, policies whose snapshots change, and clusters that are heard again. `silent_s`: since a cluster was last heard."""
    reconciler = VolumesReconciler(manager, run, silent_s)
    bindings = manager.informer(RESOURCE_BINDINGS)
    controller = manager.controller("volumes", reconciler)
    ready: dict[str, bool] = {}

    def of_policy(_: ResiliencePolicy) -> list[ObjectKey]:
        return [b.key for b in bindings.list() if reconciler.concerned(b)]

    def of_cluster(cluster: Cluster) -> list[ObjectKey]:
        name, state = cluster.metadata.name, is_true(cluster.status.conditions, READY)
        if ready.get(name) == state or not reconciler.in_use:
            return []
        ready[name] = state
        return [b.key for b in bindings.list() if reconciler.concerned(b)]

    controller.watches(RESOURCE_BINDINGS, lambda b: [b.key] if reconciler.concerned(b) else [])
    controller.watches(RESILIENCE_POLICIES, of_policy)
    controller.watches(CLUSTERS, of_cluster)

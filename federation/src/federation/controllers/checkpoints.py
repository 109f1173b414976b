"""Checkpoints: workloads whose policy has one run its command in time, and the binding says what a move has lost.

The commands run through the member's link (`federation.clusters.commands`), one at a time a binding. What came of them is an
annotation of the binding (`federation.propagation.checkpoints`); the evictor reads it before a planned move, and writes what was lost;
here that becomes the condition `RecoveryPoint`. Only the annotation's own key is written, without a version: nobody else writes
it, and a command must not run again because something else changed meanwhile.
"""

import datetime as dt
from collections.abc import Mapping

from federation.clusters.commands import Command, Outcome, Run, no_links
from federation.controllers import placer
from federation.propagation import checkpoints, conditions, interpreter, restores, volumes
from federation.propagation.checkpoints import CONDITION, MARKS, NEVER, Mark
from federation.propagation.resilience import resilience
from federation.propagation.sources import Sources
from machinery.api.fleet.cluster import CLUSTERS, READY
from machinery.api.fleet.resilience import RESILIENCE_POLICIES, Checkpoint, ResiliencePolicy
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding, binding_resource
from machinery.controller.action import Action, Emit, Patch, RequeueAfter, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition, is_true
from machinery.meta.resource import Document, ObjectKey

BY_CHECKPOINT = "checkpoint"


def _has_one(policy: ResiliencePolicy) -> list[str]:
    """Index of policies that have a checkpoint."""
    return ["yes"] if policy.spec.checkpoint is not None else []


def wanted(
    binding: ResourceBinding,
    hook: Checkpoint | None,
    marks: Mapping[str, Mark],
    seen: frozenset[str],
    now: dt.datetime,
) -> tuple[list[str], float | None]:
    """Clusters whose checkpoint is due, and seconds until the next one is."""
    if hook is None:
        return [], None
    words = checkpoints.words_of(binding.metadata.annotations)
    places = [target.name for target in binding.spec.clusters]
    return checkpoints.due(places, hook, marks, words, seen, now)


def noted(binding: ResourceBinding, marks: Mapping[str, Mark]) -> Action:
    """The annotation; without marks it goes."""
    text = checkpoints.text(dict(marks)) if marks else None
    return Patch(RESOURCE_BINDINGS, binding.key, {"metadata": {"annotations": {MARKS: text}}})


def plan(binding: ResourceBinding, now: str) -> list[Action]:
    """The condition that says what the last moves have lost."""
    points = checkpoints.points_of(binding.metadata.annotations)
    records = restores.records_of(binding.metadata.annotations) or {}
    held = condition(binding.status.conditions, CONDITION)
    said = [checkpoints.recovery(name, lost) for name, lost in sorted(points.items())]
    said += [t for name, record in sorted(records.items()) if (t := restores.words(name, record))]
    if not said:
        return []
    empty = any(record.told for record in records.values())
    status = "False" if None in points.values() or empty else "True"
    message = ". ".join(text[:1].upper() + text[1:] for text in said) + "."
    if held is not None and (held.status, held.message) == (status, message):
        return []
    fresh: Document = {
        "type": CONDITION,
        "status": status,
        "reason": "Measured" if status == "True" else "NotRestored" if empty else "NoCheckpoint",
        "message": message,
        "lastTransitionTime": now,
    }
    return [conditions.told(binding, CONDITION, fresh)]


# --------------------------------------------------------------------------------------------- what the evictor asks
def held_back(
    binding: ResourceBinding, cluster: str, hook: Checkpoint, word: str
) -> list[Action] | None:
    """What a planned move does while it waits for its checkpoint; None: it may begin. `word` names the move."""
    annotations = binding.metadata.annotations
    mark = checkpoints.marks_of(annotations).get(cluster, NEVER)
    may, why = checkpoints.lets_go(hook, mark, word)
    if may:
        return None
    words = checkpoints.words_of(annotations)
    if words.get(cluster) != word:
        text = checkpoints.text(words | {cluster: word})
        body = {"metadata": {"annotations": {checkpoints.WANTED: text}}}
        version = binding.metadata.resource_version
        own = binding_resource(binding.key)
        return [Patch(own, binding.key, body, resource_version=version)]
    said = f"it stays in {cluster} until its checkpoint succeeds: {why}"
    return placer.say(binding, "Warning", "MoveAborted", said) if why else []


def lost(
    binding: ResourceBinding, cluster: str, now: dt.datetime, silent_s: float
) -> tuple[dict[str, str | None], list[Action]]:
    """Annotations and Events that say what may be lost when the cluster is left now."""
    annotations = binding.metadata.annotations
    mark = checkpoints.marks_of(annotations).get(cluster, NEVER)
    point = checkpoints.lost_s(mark, now, silent_s)
    points = checkpoints.points_of(annotations) | {cluster: point}
    words = {n: w for n, w in checkpoints.words_of(annotations).items() if n != cluster}
    notes: dict[str, str | None] = {checkpoints.RECOVERY: checkpoints.text(points)}
    if checkpoints.WANTED in annotations:
        notes[checkpoints.WANTED] = checkpoints.text(words) if words else None
    said = checkpoints.recovery(cluster, point)
    return notes, placer.say(binding, "Warning", "RecoveryPoint", said)


class CheckpointsReconciler:
    """Bindings whose workload has a checkpoint, or had one."""

    def __init__(self, manager: Manager, run: Run) -> None:
        self._clock, self._executor, self._run = manager.clock, manager.executor, run
        self._clusters = manager.informer(CLUSTERS)
        self._policies = manager.informer(RESILIENCE_POLICIES)
        self._policies.add_index(BY_CHECKPOINT, _has_one)
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._sources = Sources(manager.informer)
        self._lately: dict[ObjectKey, dict[str, Mark]] = {}
        """What was written and no watch may have shown yet: a command must not run twice for that."""

    def _marks(self, binding: ResourceBinding) -> dict[str, Mark]:
        """The last checkpoints, of clusters that the binding is in."""
        told = checkpoints.marks_of(binding.metadata.annotations)
        lately = self._lately.get(binding.key, {})
        newer = {n: m for n, m in lately.items() if m.begun > told.get(n, NEVER).begun}
        placed = {target.name for target in binding.spec.clusters}
        return {name: mark for name, mark in (told | newer).items() if name in placed}

    def concerned(self, binding: ResourceBinding) -> bool:
        """Cheap: nobody else's bindings are looked at while no policy has a checkpoint."""
        annotations = binding.metadata.annotations
        marked = any(n in annotations for n in (MARKS, checkpoints.RECOVERY, restores.RESTORES))
        return marked or bool(self._policies.by_index(BY_CHECKPOINT, "yes"))

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None or binding.deleting or not self.concerned(binding):
            self._lately.pop(key, None)
            return Result()
        template = self._sources.placed_by(binding)
        hook = None
        if template is not None and interpreter.has_pods(template):
            hook = resilience(template, self._policies.list()).checkpoint
        seen = frozenset(
            c.metadata.name for c in self._clusters.list() if is_true(c.status.conditions, READY)
        )
        marks = self._marks(binding)
        due, later = wanted(binding, hook, marks, seen, self._clock.now())
        actions: list[Action] = plan(binding, rfc3339(self._clock.now()))
        if hook is None and MARKS in binding.metadata.annotations:
            actions.append(noted(binding, {}))
        if due and hook is not None and template is not None:
            actions += await self._made(binding, template, hook, marks, due)
        elif later is not None:
            actions.append(RequeueAfter(later))
        return await self._executor.apply(actions)

    async def _made(
        self,
        binding: ResourceBinding,
        template: Document,
        hook: Checkpoint,
        marks: dict[str, Mark],
        due: list[str],
    ) -> list[Action]:
        """Run what is due, one after another."""
        words = checkpoints.words_of(binding.metadata.annotations)
        labels = volumes.pod_labels(template)
        events: list[Action] = []
        for name in due:
            begun, started = self._clock.now(), self._clock.monotonic()
            outcome = await self._run(_command(binding, name, labels, hook))
            took_s = self._clock.monotonic() - started
            word = words.get(name, "")
            fresh = Mark(rfc3339(begun), took_s, outcome.ok, outcome.message, word=word)
            marks[name] = checkpoints.marked(marks.get(name, NEVER), fresh)
            if not outcome.ok or words.get(name):
                events.append(_told(binding, name, outcome, took_s))
        self._lately[binding.key] = marks
        return [noted(binding, marks), *events]


def _command(
    binding: ResourceBinding, cluster: str, labels: Mapping[str, str], hook: Checkpoint
) -> Command:
    namespace = binding.metadata.namespace
    return Command(cluster, namespace, labels, hook.command, hook.container, hook.timeout_seconds)


def _told(binding: ResourceBinding, cluster: str, outcome: Outcome, took_s: float) -> Action:
    level, reason = ("Normal", "Checkpoint") if outcome.ok else ("Warning", "CheckpointFailed")
    text = f"in {cluster}, {took_s:.1f} s: {outcome.message or 'done'}"
    uid = binding.metadata.uid
    return Emit(RESOURCE_BINDINGS, binding.key, uid, level, reason, text)


def setup(manager: Manager, run: Run = no_links) -> None:
    """Bindings, and policies whose checkpoint changes."""
    reconciler = CheckpointsReconciler(manager, run)
    bindings = manager.informer(RESOURCE_BINDINGS)
    controller = manager.controller("checkpoints", reconciler)
    controller.watches(RESOURCE_BINDINGS, lambda b: [b.key] if reconciler.concerned(b) else [])

    def of_policy(_: ResiliencePolicy) -> list[ObjectKey]:
        return [b.key for b in bindings.list() if reconciler.concerned(b)]

    controller.watches(RESILIENCE_POLICIES, of_policy)

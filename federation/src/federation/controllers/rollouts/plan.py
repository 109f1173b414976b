"""What is due for a workload that is staged: runs begin, take over from each other, go on and are forgotten. Pure."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from federation.clusters.candidates import candidate
from federation.propagation import questions
from federation.propagation.resilience import FLEET_WIDE
from federation.propagation.rollouts import budgets, telling
from federation.propagation.rollouts import plan as steps
from federation.propagation.rollouts.record import RECORD, Record, encoded, projected, record_of
from federation.propagation.rollouts.sights import Sight, sights
from federation.propagation.rollouts.snapshots import (
    by_revision,
    hash_of,
    recorded,
    strategy_of,
    template_hash,
)
from federation.propagation.rollouts.stages import Unstageable
from machinery.api.fleet.cluster import EXECUTION_PREFIX, READY, Cluster
from machinery.api.fleet.resilience import EPOCH, GRANT_SECONDS, GRANT_WORK
from machinery.api.fleet.rollouts import (
    APPROVAL_REQUESTS,
    APPROVED,
    INITIALIZE,
    MANUAL,
    RUN,
    STAGED_UPDATE_RUNS,
    STRATEGY,
    TEMPLATE_HASH,
    TRIGGER,
    ApprovalRequest,
    PlacementDisruptionBudget,
    StagedUpdateRun,
    StagedUpdateRunStatus,
    StagedUpdateStrategy,
)
from machinery.api.fleet.work import (
    RESOURCE_BINDINGS,
    ResourceBinding,
)
from machinery.controller.action import (
    Action,
    Create,
    Delete,
    Patch,
    RequeueAfter,
    SetStatus,
)
from machinery.meta.objectmeta import condition, is_true
from machinery.meta.resource import Document

OVER_MAX = 10
"""Runs of a workload that are kept when they are over."""
GRANT_MARKS = (EPOCH, GRANT_SECONDS, GRANT_WORK)
LABEL = "ubernetes.io/workload"
"""On the runs of a workload that were made by themselves."""


@dataclass(frozen=True, slots=True)
class World:
    """What is known of one workload at one moment."""

    now: dt.datetime
    template: Document | None
    binding: ResourceBinding | None = None
    runs: Sequence[StagedUpdateRun] = ()
    history: Sequence[Document] = ()
    works: Sequence[Document] = ()
    strategies: Sequence[StagedUpdateStrategy] = ()
    budgets: Sequence[PlacementDisruptionBudget] = ()
    requests: Sequence[ApprovalRequest] = ()
    clusters: Mapping[str, Cluster] = field(default_factory=dict)

    def sights(self) -> dict[str, Sight]:
        """Of the placement, without clusters that have left the federation."""
        assert self.binding is not None
        heard = {n for n, c in self.clusters.items() if is_true(c.status.conditions, READY)}
        found = sights(self.binding, heard)
        return {name: sight for name, sight in found.items() if name in self.clusters}

    def facts(self, record: Record) -> steps.Facts:
        """For a run that acts."""
        assert self.binding is not None
        seen = self.sights()
        said = [(r, condition(r.status.conditions, APPROVED)) for r in self.requests]
        return steps.Facts(
            self.now,
            seen,
            record,
            {name: candidate(self.clusters[name]) for name in seen},
            budgets.of(self.template, self.budgets),
            frozenset(r.metadata.name for r, c in said if c is not None and c.status == "True"),
            {r.metadata.name: _why(c) for r, c in said if c is not None and c.status == "False"},
            bool(((self.template or {}).get("spec") or {}).get("paused")),
            not (questions.placeable(self.binding) and questions.open_question(self.binding)),
        )


def _why(held: Any) -> str:
    return held.message or held.reason or "no reason was given"


# ------------------------------------------------------------------------------------------------------------- the plan
def plan(world: World) -> list[Action]:
    """The next step of everything that is staged about the workload."""
    template, binding = world.template, world.binding
    if template is None or template["metadata"].get("deletionTimestamp"):
        return _unstaged(world, "WorkloadNotFound", "there is no such workload")
    if not strategy_of(template):
        return _unstaged(world, "NotStaged", f"the workload has no annotation {STRATEGY}")
    if binding is None or binding.deleting:
        return []
    newest, record = hash_of(template), record_of(binding)
    if record is None:
        return _first(world, template, binding, newest)
    acting = _named(world.runs, record.run)
    if acting is not None:
        record = projected(record, acting.status)
    if record.seen != newest:
        return _changed(world, template, binding, record, newest)
    chosen = _taking_over(world.runs, record)
    if chosen is not None:
        return _taken_over(world, binding, record, chosen)
    if acting is None and record.open:
        return _missing(world, template, binding, record)
    actions = _advanced(world, template, binding, record, acting) if acting is not None else []
    return [*actions, *_previews(world, record, newest), *_forgotten(world, record)]


def _named(runs: Iterable[StagedUpdateRun], name: str) -> StagedUpdateRun | None:
    return next((run for run in runs if run.metadata.name == name and not run.deleting), None)


def _unstaged(world: World, reason: str, why: str) -> list[Action]:
    """No run acts, and no record holds anything back."""
    actions: list[Action] = []
    for run in world.runs:
        if run.status.state in steps.ENDED or run.deleting:
            continue
        if run.status.target_template:
            actions += _set(run, steps.superseded(run.status, why, world.now))
        else:
            actions += _set(run, steps.uninitialised(run.status, reason, why, world.now))
    binding = world.binding
    if binding is not None and not binding.deleting and RECORD in binding.metadata.annotations:
        actions.append(_write(binding, None))
    return actions


def _first(world: World, template: Document, binding: ResourceBinding, newest: str) -> list[Action]:
    """The first record, or the first after somebody spoiled it: clusters have what their Works carry.

    So the change that brings the annotation is staged already. Where Works say nothing (there are none yet, or overrides
    change their templates), all have what the user has made.
    """
    snapshots = recorded(world.history)
    carried = {
        name: digest for name, digest in sorted(map(_carried, world.works)) if digest in snapshots
    }
    counts = Counter(carried.values())
    stable = max(counts, key=lambda digest: counts[digest], default=newest)
    if stable not in snapshots:
        return []  # until the revision is recorded
    others = {name: digest for name, digest in carried.items() if digest != stable}
    return [_write(binding, Record(stable=stable, seen=stable, clusters=others))]


def _carried(work: Document) -> tuple[str, str]:
    """A cluster, and the hash of the template that its Work carries."""
    (manifest, *_) = work["spec"]["workload"]["manifests"]
    marks = manifest["metadata"].get("annotations") or {}
    inner = manifest["spec"]["template"]
    cluster = work["metadata"]["namespace"].removeprefix(EXECUTION_PREFIX)
    return cluster, marks.get(TEMPLATE_HASH) or template_hash(_ungranted(inner))


def _ungranted(template: Document) -> Document:
    """The pod template without what grants add to it."""
    metadata = template.get("metadata") or {}
    marks = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in GRANT_MARKS}
    rest = {k: v for k, v in metadata.items() if k != "annotations"}
    return template | {"metadata": rest | ({"annotations": marks} if marks else {})}


def _changed(
    world: World, template: Document, binding: ResourceBinding, record: Record, newest: str
) -> list[Action]:
    """The user has changed the pod template: a new run takes over."""
    actions: list[Action] = []
    name, number = _next_name(world, template, record)
    acting = _named(world.runs, record.run)
    if acting is not None and acting.status.state not in steps.ENDED:
        why = "the template was changed again"
        actions += _set(acting, steps.superseded(acting.status, why, world.now), template)
    fresh = replace(record, seen=newest, open=False, updating=(), accepted=(), failed="")
    if record.stable == newest and not record.clusters:
        return [*actions, _write(binding, fresh)]
    if (template["metadata"].get("annotations") or {}).get(TRIGGER) == MANUAL:
        text = "the pod template was changed: it waits for a StagedUpdateRun"
        said = telling.on_workload(template, "Normal", "StagedUpdateWaiting", text)
        return [*actions, _write(binding, fresh), said]
    fresh = replace(fresh, number=number, run=name, open=True)
    text = f"StagedUpdateRun {name} brings the pod template {newest} to the clusters"
    return [
        *actions,
        _write(binding, fresh),
        Create(STAGED_UPDATE_RUNS, _run(template, name), exists_ok=True),
        telling.on_workload(template, "Normal", "StagedUpdateRunCreated", text),
    ]


def _next_name(world: World, template: Document, record: Record) -> tuple[str, int]:
    """`web-3`; a name that somebody has taken is passed over."""
    taken = {run.metadata.name for run in world.runs}
    number = record.number + 1
    while _numbered(template, number) in taken:
        number += 1
    return _numbered(template, number), number


def _numbered(template: Document, number: int) -> str:
    """A Deployment's runs have its name; another kind says which it is, as both may be of one name."""
    name, kind = template["metadata"]["name"], template["kind"]
    return f"{name}-{number}" if kind == "Deployment" else f"{name}-{kind.lower()}-{number}"


def _run(template: Document, name: str) -> Document:
    metadata = template["metadata"]
    owner = {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": STAGED_UPDATE_RUNS.api_version,
        "kind": STAGED_UPDATE_RUNS.kind,
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {LABEL: metadata["name"]},
            "ownerReferences": [owner],
        },
        "spec": {
            "workload": {"name": metadata["name"], "kind": template["kind"]},
            "stagedRolloutStrategyName": strategy_of(template),
            "state": RUN,
        },
    }


def _missing(
    world: World, template: Document, binding: ResourceBinding, record: Record
) -> list[Action]:
    """The run that acts is not there: it was not made yet, or somebody deleted it."""
    own = _numbered(template, record.number)
    if record.run == own:
        return [Create(STAGED_UPDATE_RUNS, _run(template, own), exists_ok=True)]
    return [_write(binding, replace(record, open=False, updating=(), accepted=()))]


# ------------------------------------------------------------------------------------------------- runs made by hand
def _taking_over(runs: Iterable[StagedUpdateRun], record: Record) -> StagedUpdateRun | None:
    """The newest run that was made by hand and shall begin."""
    waiting = [r for r in _idle(runs, record) if r.spec.state == RUN]
    return max(waiting, key=_age, default=None)


def _idle(runs: Iterable[StagedUpdateRun], record: Record) -> list[StagedUpdateRun]:
    return [
        run
        for run in runs
        if run.metadata.name != record.run
        and run.status.state not in steps.ENDED
        and not run.deleting
    ]


def _age(run: StagedUpdateRun) -> tuple[str, str]:
    made = run.metadata.creation_timestamp
    return (made.isoformat() if made is not None else "", run.metadata.name)


def _taken_over(
    world: World, binding: ResourceBinding, record: Record, chosen: StagedUpdateRun
) -> list[Action]:
    """That run acts from now on; others that wanted to, and the one that acted, are superseded."""
    actions: list[Action] = []
    why = f"{chosen.metadata.name} has taken over"
    for run in world.runs:
        acting = run.metadata.name == record.run
        if run is chosen or run.deleting or run.status.state in steps.ENDED:
            continue
        if acting or run.spec.state == RUN:
            actions += _set(run, steps.superseded(run.status, why, world.now), world.template)
    fresh = replace(
        record, run=chosen.metadata.name, open=True, updating=(), accepted=(), failed=""
    )
    return [*actions, _write(binding, fresh)]


def _previews(world: World, record: Record, newest: str) -> list[Action]:
    """Runs that shall only lay out their stages."""
    actions: list[Action] = []
    for run in _idle(world.runs, record):
        if run.spec.state == INITIALIZE and _unready(run, newest):
            actions += _set(run, _initialised(world, record, run, newest))
    return actions


def _forgotten(world: World, record: Record) -> list[Action]:
    """Runs that are over and too many; only those that were made by themselves."""
    ended = sorted(
        (
            r
            for r in world.runs
            if r.status.state in steps.ENDED
            and r.metadata.name != record.run
            and LABEL in r.metadata.labels
            and not r.deleting
        ),
        key=_age,
    )
    doomed = ended[: max(0, len(ended) - OVER_MAX)]
    return [Delete(STAGED_UPDATE_RUNS, run.key, uid=run.metadata.uid) for run in doomed]


# ------------------------------------------------------------------------------------------------- the run that acts
def _advanced(
    world: World,
    template: Document,
    binding: ResourceBinding,
    record: Record,
    run: StagedUpdateRun,
) -> list[Action]:
    """The run's status first; the record follows from what is written."""
    newest = hash_of(template)
    if _unready(run, newest):
        return _set(run, _initialised(world, record, run, newest), template)
    step = steps.advance(run, world.facts(record))
    actions = _set(run, step.status, template)
    known = {request.metadata.name for request in world.requests}
    actions += [
        Create(APPROVAL_REQUESTS, _request(run, name, stage), exists_ok=True)
        for name, stage in step.requests
        if name not in known
    ]
    fresh = projected(record, step.status)
    if encoded(fresh) != binding.metadata.annotations.get(RECORD):
        actions.append(_write(binding, fresh))
    return [*actions, RequeueAfter(max(0.1, step.wait_s))] if step.wait_s is not None else actions


def _initialised(
    world: World, record: Record, run: StagedUpdateRun, newest: str
) -> StagedUpdateRunStatus:
    """The run with its stages, or with the reason why it has none."""
    try:
        return _laid_out(world, record, run, newest)
    except Unstageable as error:
        return steps.uninitialised(run.status, error.reason, error.message, world.now)


def _laid_out(
    world: World, record: Record, run: StagedUpdateRun, newest: str
) -> StagedUpdateRunStatus:
    """Raises Unstageable."""
    snapshots, wish = recorded(world.history), run.spec.resource_snapshot_index
    revisions = by_revision(world.history)
    target = revisions.get(wish, "") if wish else newest
    if target not in snapshots:
        raise Unstageable("SnapshotNotFound", f"revision {wish or 'newest'} is not recorded")
    strategy = strategy_named(world.strategies, run)
    if strategy is None:
        name = run.spec.staged_rollout_strategy_name
        text = f"there is no StagedUpdateStrategy {name} in this namespace or in {FLEET_WIDE}"
        raise Unstageable("StrategyNotFound", text)
    facts = world.facts(record)
    if not facts.sights:
        raise Unstageable("NotPlaced", "the workload is placed in no cluster yet")
    number = next((r for r, digest in revisions.items() if digest == target), "")
    return steps.initialised(strategy.spec, facts, target, number)


def _unready(run: StagedUpdateRun, newest: str) -> bool:
    """Whether the run's stages are to be laid out: for the first time, or as the template changed since a preview."""
    status = run.status
    if not status.target_template:
        return True
    followed = not run.spec.resource_snapshot_index
    return followed and status.state == "Initialized" and status.target_template != newest


def strategy_named(
    strategies: Iterable[StagedUpdateStrategy], run: StagedUpdateRun
) -> StagedUpdateStrategy | None:
    """The strategy of that name: the namespace's own, else the one for all."""
    found = {
        s.metadata.namespace: s
        for s in strategies
        if s.metadata.name == run.spec.staged_rollout_strategy_name and not s.deleting
    }
    return found.get(run.metadata.namespace) or found.get(FLEET_WIDE)


def _request(run: StagedUpdateRun, name: str, stage: str) -> Document:
    return {
        "apiVersion": APPROVAL_REQUESTS.api_version,
        "kind": APPROVAL_REQUESTS.kind,
        "metadata": {
            "name": name,
            "namespace": run.metadata.namespace,
            "ownerReferences": [
                {
                    "apiVersion": STAGED_UPDATE_RUNS.api_version,
                    "kind": STAGED_UPDATE_RUNS.kind,
                    "name": run.metadata.name,
                    "uid": run.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {"targetUpdateRun": run.metadata.name, "targetStage": stage},
    }


# ------------------------------------------------------------------------------------------------------------- writing
def _set(
    run: StagedUpdateRun, status: StagedUpdateRunStatus, template: Document | None = None
) -> list[Action]:
    """The run's status, when it changed, and what is told of the change."""
    if status == run.status:
        return []
    version = run.metadata.resource_version
    written = SetStatus(
        STAGED_UPDATE_RUNS, run.key, steps.document(status), resource_version=version
    )
    return [written, *telling.news(run, status, template)]


def _write(binding: ResourceBinding, record: Record | None) -> Action:
    marks = {RECORD: encoded(record) if record is not None else None}
    return Patch(
        RESOURCE_BINDINGS,
        binding.key,
        {"metadata": {"annotations": marks}},
        resource_version=binding.metadata.resource_version,
    )

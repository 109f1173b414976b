"""What a copy of a workload with volumes begins with, in each cluster that it comes to. Pure.

Whoever moves the workload only says where it shall be. Where its policy has `volumes`, nothing is brought to a cluster that it has
just got before a record (`RESTORES`) says what it begins there with:

    nothing was left             empty volumes: it is new, or grows into one more cluster
    the old copy serves          a fresh snapshot is made first (drain, failback, rebalancing); `onFailure: Abort` waits for it
    mode consistency             the record comes after the old copy has stopped
    the old cluster is dead      the newest snapshot that there is
    too old for its policy       no record, so nothing begins (`maxAgeSeconds`, `requireRecoveryPoint`)

A record is the hook and the identifier as they were then, and becomes an init container of the pods in that cluster. It does not
change while the workload is there, so that no pod is made anew because a policy or a snapshot is.

A snapshot is of one cluster: what runs in several, and loses one of them, restores nothing.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from federation.propagation import interpreter, moves, volumes
from federation.propagation.checkpoints import NEVER, RETRY_S, Mark
from federation.propagation.moves import Task
from federation.propagation.volumes import VARIABLE, Shelf, Snapshot
from machinery.api.fleet.resilience import Volumes
from machinery.api.fleet.work import ResourceBinding
from machinery.kit.clock import parse_time
from machinery.meta.objectmeta import View
from machinery.meta.resource import Document

RESTORES = "ubernetes.io/restores"
"""Annotation of a binding: what its copies began with, by cluster, as JSON."""
CONTAINER = "ubernetes-restore"
"""The init container."""
LIKE_ITS_CONTAINER = (
    "image",
    "imagePullPolicy",
    "env",
    "envFrom",
    "volumeMounts",
    "volumeDevices",
    "securityContext",
    "resources",
    "workingDir",
    "terminationMessagePath",
    "terminationMessagePolicy",
)


class Restore(View):
    """What the copy in one cluster began with; without `snapshot`, with empty volumes. `taken` is a wire time."""

    snapshot: str = ""
    source: str = ""
    """The cluster that was left; empty: none was."""
    taken: str = ""
    lost_s: float | None = None
    """The recovery point: how old the snapshot was when the old copy stopped. None: it has not yet."""
    told: str = ""
    """Why nothing is restored though a cluster was left."""
    command: tuple[str, ...] = ()
    container: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """The present. `seen`: clusters that are heard of; `silent_s`: since when the others were not."""

    seen: frozenset[str]
    now: dt.datetime
    fenced: bool = False
    silent_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What is due for the clusters that wait for their record: a snapshot in `first`, patience, or the record."""

    first: str = ""
    wait: str = ""
    again_s: float | None = None
    record: Restore | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The cluster that the workload comes from, with the task that keeps it; `told`: why it is none."""

    cluster: str = ""
    task: Task | None = None
    told: str = ""


def records_of(annotations: Mapping[str, str]) -> dict[str, Restore] | None:
    """By cluster; None: nobody has begun to keep them."""
    if RESTORES not in annotations:
        return None
    try:
        return msgspec.json.decode(annotations[RESTORES], type=dict[str, Restore])
    except msgspec.MsgspecError:
        return None


def arriving(binding: ResourceBinding, records: Mapping[str, Restore]) -> list[str]:
    """Clusters that the workload has got and nothing is said of."""
    return sorted(t.name for t in binding.spec.clusters if t.name not in records)


def unready(binding: ResourceBinding, brought: Collection[str]) -> frozenset[str]:
    """Clusters to which nothing may be brought yet; where something was `brought` already it stays."""
    records = records_of(binding.metadata.annotations) or {}
    return frozenset(name for name in arriving(binding, records) if name not in brought)


def standing(binding: ResourceBinding, records: Mapping[str, Restore]) -> dict[str, Restore]:
    """The records without those of clusters that have nothing of the workload any more."""
    placed = {target.name for target in binding.spec.clusters}
    if not placed or arriving(binding, records):
        return dict(records)
    placed |= moves.running(binding).keys()
    return {name: record for name, record in records.items() if name in placed}


# ------------------------------------------------------------------------------------------------------------ deciding
def origin(binding: ResourceBinding, records: Mapping[str, Restore]) -> Origin:
    """Where what arrives comes from: the cluster that was left last."""
    placed = {target.name for target in binding.spec.clusters}
    left = records.keys() - placed
    staying = sorted(placed & records.keys())
    state = moves.state_of(binding)
    tasks = [t for t in state.tasks if t.cluster in left]
    if staying:
        told = f"it runs in {', '.join(staying)} as well, and a snapshot is of one cluster"
        return Origin(told=told if tasks else "")
    if not left:
        return Origin()
    last = max(enumerate(tasks), key=lambda t: (t[1].created, t[0]), default=(0, None))[1]
    if last is None:
        ends = sorted(left - {record.source for record in records.values()}) or sorted(left)
        one = len(ends) == 1
        return Origin(ends[0]) if one else Origin(told=_several(ends))
    before = state.before.get(last.cluster)
    together = set(before.clusters) if before is not None else {last.cluster}
    if last.reason == moves.REBALANCED:
        together |= {t.cluster for t in tasks if t.reason == moves.REBALANCED}
    if len(together) > 1:
        return Origin(told=_several(sorted(together)))
    return Origin(last.cluster, last)


def _several(clusters: Iterable[str]) -> str:
    return f"it ran in {', '.join(clusters)}, and a snapshot is of one cluster"


def stopped(binding: ResourceBinding, cluster: str) -> bool:
    """Whether nothing of the workload is asked of the cluster, or reported from it."""
    if moves.running(binding).get(cluster, 0):
        return False
    told = [i.status or {} for i in binding.status.aggregated_status if i.cluster_name == cluster]
    counts = ("replicas", "terminatingReplicas", "active")
    return not any(status.get(count) for status in told for count in counts)


def serves(binding: ResourceBinding, came: Origin, seen: frozenset[str]) -> bool:
    """Whether the old copy runs, so that a snapshot of it can be made."""
    if came.cluster not in seen or not moves.running(binding).get(came.cluster, 0):
        return False
    return came.task is None or came.task.reason != moves.UNREACHABLE


def tried(came: Origin, mark: Mark) -> bool:
    """Whether a snapshot was tried since the move began."""
    if came.task is None or not came.task.created or not mark.begun:
        return bool(mark.begun) and came.task is None
    return parse_time(mark.begun) >= parse_time(came.task.created)


def saving(binding: ResourceBinding, hook: Volumes, shelf: Shelf, seen: frozenset[str]) -> bool:
    """Whether the old copy must go on until a snapshot of it is made, though another one shall replace it."""
    records = records_of(binding.metadata.annotations)
    if records is None or not arriving(binding, records):
        return False
    came = origin(binding, records)
    mark = shelf.last.get(came.cluster, NEVER)
    done = tried(came, mark) and (mark.ok or hook.on_failure != "Abort")
    return serves(binding, came, seen) and not done


def step(  # noqa: PLR0911 - the table above, row by row
    binding: ResourceBinding,
    template: Document,
    hook: Volumes,
    shelf: Shelf,
    records: Mapping[str, Restore],
    facts: Facts,
) -> Step:
    """What is due for the clusters that wait."""
    came = origin(binding, records)
    if not came.cluster:
        return Step(record=Restore(told=came.told))
    name, mark = came.cluster, shelf.last.get(came.cluster, NEVER)
    if serves(binding, came, facts.seen):
        if not tried(came, mark):
            return Step(first=name)
        if not mark.ok and hook.on_failure == "Abort":
            left = RETRY_S - (facts.now - parse_time(mark.begun)).total_seconds()
            why = f"a snapshot in {name} has to succeed first: {mark.message}"
            return Step(wait=why, again_s=left) if left > 0 else Step(first=name)
    dead = came.task is not None and came.task.reason == moves.UNREACHABLE
    if facts.fenced and not dead and name in facts.seen and not stopped(binding, name):
        return Step(wait=f"the copy in {name} has not stopped yet", again_s=RETRY_S)
    found = of_line(shelf, records, name)
    age = volumes.age_s(found, facts.now, facts.silent_s.get(name, 0.0) if dead else 0.0)
    if why := volumes.short(hook, age):
        return Step(wait=f"it comes from {name}: {why}", again_s=RETRY_S)
    if found is None:
        return Step(record=Restore(source=name, told=f"no snapshot of it was made in {name}"))
    if why := _impossible(template, hook.restore.container):
        return Step(record=Restore(source=name, told=why))
    how = hook.restore
    lost = age if dead else None
    record = Restore(found.identifier, name, found.taken, lost)
    return Step(
        record=msgspec.structs.replace(
            record, command=how.command, container=how.container, image=how.image
        )
    )


def of_line(shelf: Shelf, records: Mapping[str, Restore], cluster: str) -> Snapshot | None:
    """The newest snapshot of a cluster; where none was made, the one that its own copy began with."""
    began = records.get(cluster)
    found = volumes.newest(shelf, cluster)
    if began is None or not began.snapshot:
        return found
    inherited = Snapshot(began.snapshot, began.source, began.taken)
    newer = found is not None and parse_time(found.taken) >= parse_time(began.taken)
    return found if newer else inherited


def _impossible(template: Document, container: str) -> str:
    pod = interpreter.template_of(template)["spec"]
    if container and all(c["name"] != container for c in pod["containers"]):
        return f"its pods have no container {container}, which the restore hook names"
    return ""


def measured(record: Restore, ended: dt.datetime) -> Restore:
    """The record with its recovery point, now that the old copy has stopped."""
    snapshot = Snapshot(record.snapshot, record.source, record.taken)
    return msgspec.structs.replace(record, lost_s=volumes.age_s(snapshot, ended))


# ------------------------------------------------------------------------------------------------------------- telling
def words(cluster: str, record: Restore) -> str:
    """What a copy began with; empty where nothing was left."""
    if not record.source and not record.told:
        return ""
    if not record.snapshot:
        return f"what runs in {cluster} began with empty volumes: {record.told}"
    began = f"what runs in {cluster} began from snapshot {record.snapshot} of {record.source}"
    if record.lost_s is None:
        return f"{began}; what it lacks is measured when the copy there has stopped"
    return f"{began} and may lack the last {record.lost_s:g} s of it: the snapshot is as old"


# ----------------------------------------------------------------------------------------------------------- rendering
def injected(body: Document, record: Restore | None) -> Document:
    """The workload with the init container that restores; the input is left as it is."""
    if record is None or not record.snapshot or _impossible(body, record.container):
        return body
    template = interpreter.template_of(body)
    pod = template["spec"]
    like = next(
        c for c in pod["containers"] if not record.container or c["name"] == record.container
    )
    init: Document = {key: like[key] for key in LIKE_ITS_CONTAINER if key in like}
    init |= {"name": CONTAINER, "command": list(record.command)}
    if record.image:
        init["image"] = record.image
        init.pop("imagePullPolicy", None)
    told = {
        VARIABLE: record.snapshot,
        f"{VARIABLE}_CLUSTER": record.source,
        f"{VARIABLE}_TAKEN": record.taken,
    }
    own = [v for v in like.get("env") or () if v["name"] not in told]
    init["env"] = [*own, *({"name": n, "value": v.replace("$", "$$")} for n, v in told.items())]
    others = [c for c in pod.get("initContainers") or () if c["name"] != CONTAINER]
    changed = template | {"spec": pod | {"initContainers": [init, *others]}}
    return interpreter.with_template(body, changed)

"""Snapshots of what a workload's volumes hold: which are due, which are kept, and what a move that begins now would lose. Pure.

A ResiliencePolicy's `volumes` names three commands of the workload's own pods. `snapshot` writes away what the volumes hold and prints
an identifier as its last line; the federation keeps identifiers, not data. It is run as a checkpoint is: in a ready pod of each
cluster, in time and before moves that are planned. `restore` fills the volumes of a new copy (`federation.propagation.restores`), and
`discard` removes what is older than the `retain` newest of a cluster.

The recovery point is the age of the newest snapshot, from its beginning, when the old copy stopped; of a cluster that died, when it
was last heard. A snapshot that failed blocks nothing, unless the policy asks for a recovery point (`requireRecoveryPoint`,
`maxAgeSeconds`): then the workload leaves no cluster, not even a dead one, without it.
"""

import datetime as dt
from collections.abc import Iterable, Mapping

import msgspec

from federation.propagation import interpreter
from federation.propagation.checkpoints import NEVER, Mark, lost_s
from machinery.api.fleet.resilience import Volumes
from machinery.kit.clock import parse_time
from machinery.meta.objectmeta import View
from machinery.meta.resource import Document

SNAPSHOTS = "ubernetes.io/snapshots"
"""Annotation of a binding: what came of the last snapshots, and those that are kept, as JSON."""
WANTED = "ubernetes.io/snapshot-wanted"
"""Annotation of a binding: clusters that are to be left, and the word of the move that waits for a snapshot, as JSON."""
CONDITION = "SnapshotsTaken"
VARIABLE = "UBERNETES_SNAPSHOT"
"""What hooks are told the identifier by."""
ID_MAX = 1024
"""Letters of an identifier. It may be the state itself, if that is a line."""
FRESH_S = 120.0
"""A snapshot for a planned move serves it so long: others may be before it."""


class Snapshot(View):
    """One that is kept. `taken` is when it was begun, a wire time."""

    identifier: str
    cluster: str = ""
    taken: str = ""


class Shelf(View):
    """What is known of a workload's snapshots: the last try in each cluster, and those that are kept, the oldest first."""

    last: dict[str, Mark] = {}
    kept: tuple[Snapshot, ...] = ()


EMPTY = Shelf()


def shelf_of(annotations: Mapping[str, str]) -> Shelf:
    """The binding's; an annotation that somebody spoiled says nothing."""
    try:
        return msgspec.json.decode(annotations.get(SNAPSHOTS) or "{}", type=Shelf)
    except msgspec.MsgspecError:
        return EMPTY


def words_of(annotations: Mapping[str, str]) -> dict[str, str]:
    """The moves that wait, by cluster."""
    try:
        return msgspec.json.decode(annotations.get(WANTED) or "{}", type=dict[str, str])
    except msgspec.MsgspecError:
        return {}


def pod_labels(template: Document) -> dict[str, str]:
    """What the workload's pods are found by: its selector, or the labels that its template gives them; none: by nothing."""
    chosen: dict[str, str] = (template["spec"].get("selector") or {}).get("matchLabels") or {}
    if chosen or not interpreter.has_pods(template):
        return chosen
    metadata = interpreter.template_of(template).get("metadata") or {}
    given: dict[str, str] = metadata.get("labels") or {}
    return given


# ------------------------------------------------------------------------------------------------------------- keeping
def identifier_of(output: str) -> tuple[str, str]:
    """The identifier in what the command printed, and what is wrong with it: it has to be one line of printable letters."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if not lines:
        return "", "the snapshot command printed no identifier"
    last = lines[-1]
    if len(last) > ID_MAX:
        return "", f"the identifier that it printed has more than {ID_MAX} letters"
    if not last.isprintable():
        return "", "the identifier that it printed has letters that cannot be printed"
    return last, ""


def taken(shelf: Shelf, cluster: str, fresh: Mark, identifier: str) -> Shelf:
    """The shelf after one more try, which says when it began and what came of it."""
    good = fresh.begun if fresh.ok else shelf.last.get(cluster, NEVER).good
    mark = msgspec.structs.replace(fresh, took_s=round(fresh.took_s, 3), good=good)
    kept = shelf.kept
    if fresh.ok:
        others = tuple(s for s in kept if s.identifier != identifier)
        kept = (*others, Snapshot(identifier, cluster, fresh.begun))
    return Shelf(shelf.last | {cluster: mark}, kept)


def expired(
    shelf: Shelf, retain: int, running: Iterable[str], used: Iterable[str]
) -> tuple[Snapshot, ...]:
    """Those that need not be kept: as many newer ones are there of their cluster, or of any when their cluster runs it no more.

    What a copy began with (`used`) stays: its pods may be made again.
    """
    running, used = frozenset(running), frozenset(used)
    found: list[Snapshot] = []
    for number, held in enumerate(shelf.kept):
        newer = shelf.kept[number + 1 :]
        counted = [s for s in newer if held.cluster not in running or s.cluster == held.cluster]
        if len(counted) >= retain and held.identifier not in used:
            found.append(held)
    return tuple(found)


def without(shelf: Shelf, gone: Iterable[Snapshot], clusters: Iterable[str]) -> Shelf:
    """The shelf with the tries of these clusters only, and without what is gone."""
    away, staying = {held.identifier for held in gone}, frozenset(clusters)
    last = {name: mark for name, mark in shelf.last.items() if name in staying}
    return Shelf(last, tuple(s for s in shelf.kept if s.identifier not in away))


def newest(shelf: Shelf, cluster: str) -> Snapshot | None:
    """The newest of a cluster."""
    return next((s for s in reversed(shelf.kept) if s.cluster == cluster), None)


def discarding(words: Iterable[str], identifier: str) -> tuple[str, ...]:
    """The command that removes one."""
    return tuple(word.replace(f"$({VARIABLE})", identifier) for word in words)


# ------------------------------------------------------------------------------------------------------------- leaving
def age_s(found: Snapshot | None, now: dt.datetime, silent_s: float = 0.0) -> float | None:
    """How old it was when its cluster was last heard, in seconds; None: there is none."""
    return None if found is None else lost_s(Mark(good=found.taken), now, silent_s)


def short(hook: Volumes, age: float | None) -> str:
    """Why the policy lets nothing move with this recovery point; empty: it does."""
    if age is None:
        asked = hook.require_recovery_point or hook.max_age_seconds is not None
        return (
            "its policy asks for a recovery point, and no snapshot of it is there" if asked else ""
        )
    if hook.max_age_seconds is not None and age > hook.max_age_seconds:
        return (
            f"its newest snapshot is {age:g} s old, and its policy allows {hook.max_age_seconds} s"
        )
    return ""


def cost(age: float | None) -> str:
    """What leaving a cluster costs, in words."""
    return "no snapshot of it is there" if age is None else f"its newest snapshot is {age:g} s old"


def lets_go(hook: Volumes, mark: Mark, word: str, now: dt.datetime) -> tuple[bool, str]:
    """Whether the planned move of this word has the snapshot that was made for it, and why not, if that failed."""
    if not word or mark.word != word or not mark.begun:
        return False, ""
    if mark.ok:
        return (now - parse_time(mark.begun)).total_seconds() <= FRESH_S, ""
    return hook.on_failure != "Abort", mark.message


def word_of(base: str, held: str, mark: Mark, now: dt.datetime) -> str:
    """The word that a planned move waits by: the one that is asked for already (`held`), unless its snapshot has got too old."""
    if held.startswith(f"{base} after ") and mark.word != held:
        return held  # asked for, and not made yet
    if mark.word == held and mark.word.startswith(f"{base} after "):
        passed = (now - parse_time(mark.begun)).total_seconds() if mark.begun else FRESH_S
        if passed <= FRESH_S:
            return held
    return f"{base} after {mark.begun or 'none'}"

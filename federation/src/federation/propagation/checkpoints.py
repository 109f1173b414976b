"""Checkpoints: a command that a workload's pods run so that what moves loses little, and how much was lost. Pure.

A ResiliencePolicy's `checkpoint` names the command. It is run in a ready pod of each cluster, every `intervalSeconds`, and once
before a move that is planned: a drain, or an application that leaves a cluster for its health. `onFailure` says whether such a move
goes on all the same (Continue) or waits until the command succeeds (Abort). A cluster that dies asks nobody; what counts then is the
last checkpoint that succeeded.

The recovery point is measured: from the beginning of the last successful checkpoint to the moment when the cluster was last heard,
or, in a planned move, to the move. Both are read from this server's clock.

Where the command puts the state is its own business (an object store, a database). What shall be restored where the workload goes
is a snapshot (`federation.propagation.volumes`).
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping

import msgspec

from machinery.api.fleet.resilience import Checkpoint, Volumes
from machinery.kit.clock import parse_time
from machinery.meta.objectmeta import View

MARKS = "ubernetes.io/checkpoints"
"""Annotation of a binding: what came of the last checkpoint, by cluster, as JSON."""
WANTED = "ubernetes.io/checkpoint-wanted"
"""Annotation of a binding: clusters that are to be left, and the word of the move that waits for a checkpoint, as JSON."""
RECOVERY = "ubernetes.io/recovery-points"
"""Annotation of a binding: clusters that were left, and how many seconds were lost (null: nobody knows), as JSON."""
CONDITION = "RecoveryPoint"
RETRY_S = 60.0
"""A move that was aborted tries its checkpoint again after so long."""


class Mark(View):
    """The last checkpoint in one cluster. `begun` and `good` (the last that succeeded) are wire times."""

    begun: str = ""
    took_s: float = 0.0
    ok: bool = False
    message: str = ""
    good: str = ""
    word: str = ""
    """The move that it was made for; empty: none."""


NEVER = Mark()


def marks_of(annotations: Mapping[str, str]) -> dict[str, Mark]:
    """By cluster; an annotation that somebody spoiled says nothing."""
    try:
        return msgspec.json.decode(annotations.get(MARKS) or "{}", type=dict[str, Mark])
    except msgspec.MsgspecError:
        return {}


def words_of(annotations: Mapping[str, str]) -> dict[str, str]:
    """The moves that wait, by cluster."""
    try:
        return msgspec.json.decode(annotations.get(WANTED) or "{}", type=dict[str, str])
    except msgspec.MsgspecError:
        return {}


def points_of(annotations: Mapping[str, str]) -> dict[str, float | None]:
    """Seconds that were lost, by cluster that was left."""
    try:
        return msgspec.json.decode(annotations.get(RECOVERY) or "{}", type=dict[str, float | None])
    except msgspec.MsgspecError:
        return {}


def text(value: object) -> str:
    """An annotation."""
    return msgspec.json.encode(value, order="sorted").decode()


def due_s(hook: Checkpoint | Volumes, mark: Mark, word: str, now: dt.datetime) -> float | None:
    """Seconds until a cluster's next checkpoint; None: nobody wants one. `word`: the move that waits there."""
    if not mark.begun:
        return 0.0 if word or hook.interval_seconds else None
    passed = max(0.0, (now - parse_time(mark.begun)).total_seconds())
    waits = [hook.interval_seconds - passed] if hook.interval_seconds else []
    if word and mark.word != word:
        return 0.0
    if word and not mark.ok and hook.on_failure == "Abort":
        waits.append(RETRY_S - passed)
    return max(0.0, min(waits)) if waits else None


def due(
    clusters: Iterable[str],
    hook: Checkpoint | Volumes,
    marks: Mapping[str, Mark],
    words: Mapping[str, str],
    seen: Collection[str],
    now: dt.datetime,
) -> tuple[list[str], float | None]:
    """(clusters where one is due, seconds until the next one is). One that is not `seen` is asked only for a move's `words`."""
    waits: dict[str, float] = {}
    for name in clusters:
        word = words.get(name, "")
        wait = due_s(hook, marks.get(name, NEVER), word, now)
        if wait is not None and (name in seen or word):
            waits[name] = wait
    later = [wait for wait in waits.values() if wait > 0]
    return sorted(n for n, wait in waits.items() if wait <= 0), min(later, default=None)


def marked(mark: Mark, fresh: Mark) -> Mark:
    """The mark after one more checkpoint, which says when it began and what came of it."""
    good = fresh.begun if fresh.ok else mark.good
    return msgspec.structs.replace(fresh, took_s=round(fresh.took_s, 3), good=good)


def lets_go(hook: Checkpoint, mark: Mark, word: str) -> tuple[bool, str]:
    """Whether the move that this word is of may begin, and why not, if its checkpoint failed."""
    if mark.word != word or not mark.begun:
        return False, ""
    if mark.ok or hook.on_failure != "Abort":
        return True, ""
    return False, mark.message


def lost_s(mark: Mark, now: dt.datetime, silent_s: float = 0.0) -> float | None:
    """What is lost at most if the cluster is left now, in seconds; None: no checkpoint ever succeeded there."""
    if not mark.good:
        return None
    return max(0.0, round((now - parse_time(mark.good)).total_seconds() - silent_s, 1))


def recovery(cluster: str, lost: float | None) -> str:
    """The recovery point in words."""
    if lost is None:
        return f"no checkpoint ever succeeded in {cluster}: its state since the start may be lost"
    return f"what runs elsewhere may lack the last {lost:g} s of {cluster}: its last checkpoint is as old"

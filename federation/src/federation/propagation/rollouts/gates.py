"""One cluster of a run: has it taken the change well. Pure.

    told, not there yet                      Updating, until its deadline
    there and well                           Soaking, for minSuccessTime
    well for so long                         Succeeded
    it says itself that it cannot            Failed
    not well when the deadline is over       Failed
    soaking, and fewer are ready than were   Failed (fewer than wanted now, where it shrank meanwhile)
    not heard of                             as it was, and waited for; its time begins anew when it is heard
    its workload is paused                   as if it were not heard of
    not heard of, and such are skipped       Skipped
    not in the placement any more            Skipped; Pending when it comes back

A cluster that grows while it soaks (failover gave it more) is not failing: only what was ready once is asked for.
"""

import datetime as dt
from dataclasses import dataclass

from msgspec.structs import replace

from federation.propagation.rollouts import durations
from federation.propagation.rollouts.record import IN_FLIGHT
from federation.propagation.rollouts.sights import Sight
from machinery.api.fleet.rollouts import ClusterUpdate, HealthGate

UNHEARD = "not heard of: waited for"
LEFT = "the workload is not placed here any more"
SKIPPED = "not heard of: skipped, it gets the change when it is back"
OPEN = ("Pending", *IN_FLIGHT)
"""States that hold the stage up."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Seconds."""

    deadline_s: float | None
    soak_s: float

    @classmethod
    def of(cls, gate: HealthGate) -> "Gate":
        """Raises ValueError."""
        return cls(
            durations.limit(gate.progress_deadline), durations.seconds(gate.min_success_time)
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """The cluster, and in how many seconds to look again when nothing is heard; None: never."""

    update: ClusterUpdate
    wait_s: float | None = None


def present(update: ClusterUpdate, sight: Sight | None, *, skip: bool) -> ClusterUpdate:
    """The cluster by whether it is there at all."""
    if sight is None:
        return replace(update, state="Skipped", message=LEFT) if update.state in OPEN else update
    if not sight.seen and skip and update.state in OPEN:
        return replace(update, state="Skipped", message=SKIPPED)
    if update.state == "Skipped" and (sight.seen or not skip):
        return ClusterUpdate(update.cluster_name, from_template=update.from_template)
    return update


def judge(update: ClusterUpdate, sight: Sight, target: str, gate: Gate, now: dt.datetime) -> Judged:
    """A cluster that was told."""
    if not sight.seen:
        return Judged(replace(update, suspended=True, message=UNHEARD))
    if update.suspended:
        update = replace(
            update, state="Updating", suspended=False, start_time=stamp(now), healthy_time=None
        )
    if update.state == "Updating":
        there = sight.template == target
        if not (there and sight.healthy):
            return _not_yet(update, sight, there, gate, now)
        update = replace(
            update,
            state="Soaking",
            healthy_time=stamp(now),
            healthy_replicas=sight.ready,
            message="",
        )
    return _soaking(update, sight, gate, now)


def _not_yet(
    update: ClusterUpdate, sight: Sight, there: bool, gate: Gate, now: dt.datetime
) -> Judged:
    if there and sight.failing:
        return Judged(_failed(update, now, sight.failing))
    what = f"{sight.ready} of {sight.wanted} replicas are ready" if there else sight.complaint
    what = what or "its agent does not report the new template yet"
    if gate.deadline_s is None:
        return Judged(replace(update, message=what))
    left = gate.deadline_s - _since(update.start_time, now)
    if left <= 0:
        return Judged(_failed(update, now, f"not well after {gate.deadline_s:g} s: {what}"))
    return Judged(replace(update, message=what), left)


def _soaking(update: ClusterUpdate, sight: Sight, gate: Gate, now: dt.datetime) -> Judged:
    needed = min(update.healthy_replicas, sight.wanted)
    if sight.failing or sight.ready < needed:
        why = sight.failing or f"{sight.ready} of {needed} replicas are ready that were"
        return Judged(_failed(update, now, f"it was well and is not any more: {why}"))
    left = gate.soak_s - _since(update.healthy_time, now)
    if left <= 0 or not gate.soak_s:
        return Judged(replace(update, state="Succeeded", finish_time=now, message=""))
    return Judged(replace(update, message=f"well; to stay so for {gate.soak_s:g} s"), left)


def _failed(update: ClusterUpdate, now: dt.datetime, why: str) -> ClusterUpdate:
    return replace(update, state="Failed", finish_time=now, message=why)


def stamp(now: dt.datetime) -> dt.datetime:
    """The moment from which something counts: the next whole second, since objects carry no fractions, and what has to last
    must not end early."""
    whole = now.replace(microsecond=0)
    return whole if whole == now else whole + dt.timedelta(seconds=1)


def _since(start: dt.datetime | None, now: dt.datetime) -> float:
    return 0.0 if start is None else (now - start).total_seconds()

"""How long a Job waits before it replaces a failed pod: 10 s, doubled with each failure since the last success, 10 min at most.

A record holds the failures themselves, by uid, so that looking at the same pod twice changes nothing. It is the controller's memory
only: after a start it is made anew from the pods that are still there. Pure.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from machinery.api.core import ContainerStatus, Pod
from machinery.kit.backoff import Backoff
from machinery.meta.objectmeta import condition

PAUSE: Final = Backoff(base_s=10.0, cap_s=600.0)
FAILURES_MAX: Final = 16
"""Kept in a record, the newest; the pause has long been at its longest by then."""
_EPOCH: Final = dt.datetime.fromtimestamp(0, dt.UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """When pods failed since the last success, by uid."""

    failures: Mapping[str, dt.datetime] = field(default_factory=dict)
    last_success: dt.datetime = _EPOCH

    def seen(self, succeeded: Iterable[Pod], failed: Iterable[Pod]) -> "Record":
        """With these ends of pods too."""
        last = max((self.last_success, *(finished_at(pod) for pod in succeeded)))
        found = {pod.metadata.uid: finished_at(pod) for pod in failed} | dict(self.failures)
        later = sorted(
            ((at, uid) for uid, at in found.items() if at > last), key=lambda item: item[0]
        )
        return Record({uid: at for at, uid in later[-FAILURES_MAX:]}, last)

    def wait_s(self, now: dt.datetime) -> float:
        """How long no pod may be made yet; 0: at once."""
        if not self.failures:
            return 0.0
        return pause_s(len(self.failures), max(self.failures.values()), now)


def pause_s(failures: int, last: dt.datetime, now: dt.datetime) -> float:
    """What is left of the pause after that many failures in a row, the last of them at `last`."""
    return max(0.0, PAUSE.delay(failures) - (now - last).total_seconds())


def finished_at(pod: Pod) -> dt.datetime:
    """When the pod ended, as well as can be told.

    The end of its last container; else when it was unready; else when its deletion was asked for; else when it was made.
    """
    if (ended := _containers_ended(pod)) is not None:
        return ended
    ready = condition(pod.status.conditions, "Ready")
    if ready is not None and ready.status == "False" and ready.last_transition_time is not None:
        return ready.last_transition_time
    metadata = pod.metadata
    if metadata.deletion_timestamp is not None:
        grace = dt.timedelta(seconds=metadata.deletion_grace_period_seconds or 0)
        return metadata.deletion_timestamp - grace
    return metadata.creation_timestamp or _EPOCH


def _containers_ended(pod: Pod) -> dt.datetime | None:
    """When the last container ended, sidecars included; None while one has not, or nobody wrote when."""
    sidecars = {c.name for c in pod.spec.init_containers if c.restart_policy == "Always"}
    statuses: list[ContainerStatus] = [
        *pod.status.container_statuses,
        *(s for s in pod.status.init_container_statuses if s.name in sidecars),
    ]
    times = []
    for status in statuses:
        ended = status.state.terminated
        if ended is None or ended.finished_at is None:
            return None
        times.append(ended.finished_at)
    return max(times, default=None)

"""Which pods go first when there are too many: those that are missed least.

In this order, each rule deciding only among equals of the one before: not assigned to a node; pending before unknown
before running; not ready; lower deletion cost; more siblings on its node; ready for less time; more restarts; younger.
Times are compared by the logarithm of the age, so that a controller that is a second late does not decide by chance;
within one bucket of time the uid decides. Siblings on a node count only when a Deployment owns the ReplicaSet.
"""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from cluster_agent.control.controllers.pods import is_ready, ready_since
from machinery.api.core import ContainerStatus, Pod

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class _Candidate:
    pod: Pod
    head: tuple[int, int, int, int, int]
    ready_at: dt.datetime | None
    restarts: tuple[int, int]
    created_at: dt.datetime | None
    uid: str


def first_to_go(
    pods: Sequence[Pod], count: int, on_node: Mapping[str, int], now: dt.datetime
) -> list[Pod]:
    """`count` of `pods`, in the order in which they go. `on_node` counts siblings per node."""
    if count >= len(pods):
        return list(pods)
    candidates = [_candidate(pod, on_node) for pod in pods]
    candidates.sort(key=cmp_to_key(lambda a, b: _compare(a, b, now)))
    return [candidate.pod for candidate in candidates[:count]]


def _candidate(pod: Pod, on_node: Mapping[str, int]) -> _Candidate:
    head = (
        1 if pod.spec.node_name else 0,
        _PHASES.get(pod.status.phase, 0),
        1 if is_ready(pod) else 0,
        deletion_cost(pod),
        -on_node.get(pod.spec.node_name, 0),
    )
    return _Candidate(
        pod,
        head,
        ready_since(pod),
        (_restarts(pod.status.container_statuses), _restarts(pod.status.init_container_statuses)),
        pod.metadata.creation_timestamp,
        pod.metadata.uid,
    )


def deletion_cost(pod: Pod) -> int:
    """The user's word on how much the pod is missed; 0 without one or with a bad one."""
    text = pod.metadata.annotations.get(DELETION_COST, "")
    try:
        return int(text) if text else 0
    except ValueError:
        return 0


def _restarts(statuses: Sequence[ContainerStatus]) -> int:
    return max((status.restart_count for status in statuses), default=0)


def _compare(a: _Candidate, b: _Candidate, now: dt.datetime) -> int:
    if a.head != b.head:
        return -1 if a.head < b.head else 1
    if a.head[2] and a.ready_at != b.ready_at:
        return _compare_times(a.ready_at, b.ready_at, now) or _compare_uids(a, b)
    if a.restarts != b.restarts:
        return -1 if a.restarts > b.restarts else 1
    if a.created_at != b.created_at:
        return _compare_times(a.created_at, b.created_at, now) or _compare_uids(a, b)
    return 0


def _compare_uids(a: _Candidate, b: _Candidate) -> int:
    return (a.uid > b.uid) - (a.uid < b.uid)


def _compare_times(a: dt.datetime | None, b: dt.datetime | None, now: dt.datetime) -> int:
    """Younger first by the power of two of the age; a time that nobody wrote is the youngest."""
    if a is None or b is None:
        return (a is not None) - (b is not None)
    return _bucket(now - a) - _bucket(now - b)


def _bucket(age: dt.timedelta) -> int:
    """The power of two of the age, counted in nanoseconds as upstream does: the borders lie where its lie."""
    microseconds = age // dt.timedelta(microseconds=1)
    return int(math.log2(microseconds * 1000)) if microseconds > 0 else -1

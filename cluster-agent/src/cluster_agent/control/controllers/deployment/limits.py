"""How far a rollout may go: surge and unavailability as whole pods.

A percentage is of spec.replicas; surge rounds up and unavailability down, so that a small Deployment can still move.
When both come to zero nothing could ever move, so one pod may be unavailable.
"""

import math

from cluster_agent.control.controllers.workloads import Deployment
from machinery.api.apps import RollingUpdateDeployment

NO_LIMIT = 2**31 - 1
"""The value by which upstream says "no deadline" or "keep every revision"."""


def is_rolling(deployment: Deployment) -> bool:
    """Whether old and new pods may run side by side."""
    return deployment.spec.strategy.type == "RollingUpdate"


def fenceposts(deployment: Deployment) -> tuple[int, int]:
    """(max surge, max unavailable) in pods."""
    rolling = deployment.spec.strategy.rolling_update or RollingUpdateDeployment()
    surge = _pods(rolling.max_surge, deployment.spec.replicas, round_up=True)
    unavailable = _pods(rolling.max_unavailable, deployment.spec.replicas, round_up=False)
    if surge == 0 and unavailable == 0:
        return 0, 1
    return surge, unavailable


def max_surge(deployment: Deployment) -> int:
    """Pods above spec.replicas that may exist; none when old pods must go first."""
    return fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Deployment) -> int:
    """Pods below spec.replicas that may be missing during a rollout."""
    if not is_rolling(deployment) or deployment.spec.replicas == 0:
        return 0
    return min(fenceposts(deployment)[1], deployment.spec.replicas)


def min_available(deployment: Deployment) -> int:
    """Available pods that a rollout must leave standing."""
    return deployment.spec.replicas - max_unavailable(deployment)


def has_deadline(deployment: Deployment) -> bool:
    """Whether a rollout that stands still is reported."""
    return deployment.spec.progress_deadline_seconds != NO_LIMIT


def _pods(value: int | str, total: int, *, round_up: bool) -> int:
    if isinstance(value, int):
        return value
    share = int(value.removesuffix("%")) * total
    return -(-share // 100) if round_up else math.floor(share / 100)

"""How far a DaemonSet's rollout may go, in whole pods. Pure."""

from cluster_agent.control.controllers.sets import DaemonSet, RollingUpdateDaemonSet


def is_rolling(ds: DaemonSet) -> bool:
    return ds.spec.update_strategy.type == "RollingUpdate"


def limits(ds: DaemonSet, wanted: int) -> tuple[int, int]:
    """(max surge, max unavailable) of so many nodes; shares round up, and one of the two is at least 1."""
    rolling = ds.spec.update_strategy.rolling_update or RollingUpdateDaemonSet()
    surge = _pods(rolling.max_surge, wanted)
    unavailable = _pods(rolling.max_unavailable, wanted)
    return (0, 1) if surge == 0 == unavailable else (surge, unavailable)


def may_surge(ds: DaemonSet) -> bool:
    """Whether a node may have its new pod beside the old one."""
    rolling = ds.spec.update_strategy.rolling_update
    return is_rolling(ds) and rolling is not None and _pods(rolling.max_surge, 100) > 0


def _pods(value: int | str, total: int) -> int:
    if isinstance(value, int):
        return value
    return -(-int(value.removesuffix("%")) * total // 100)

"""Sizes of ReplicaSets during a rollout and when the Deployment itself is scaled. Pure arithmetic.

`Sizes` holds what each ReplicaSet shall have while one pass decides; the views keep what was observed. Available pods
are counted up to the size decided for their ReplicaSet: pods about to be removed cannot hold up availability, so a
status that lags behind never makes a pass take too many.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster_agent.control.controllers.deployment.limits import (
    fenceposts,
    is_rolling,
    max_surge,
    min_available,
)
from cluster_agent.control.controllers.deployment.revisions import (
    creation_order,
    desired_annotation,
    max_annotation,
)
from cluster_agent.control.controllers.workloads import Deployment, ReplicaSet


@dataclass(slots=True)
class Sizes:
    """The ReplicaSets of one Deployment and the sizes decided so far. `new` may not exist yet (no uid)."""

    old: Sequence[ReplicaSet]
    new: ReplicaSet | None
    decided: dict[str, int] = field(default_factory=dict)
    moves: list[tuple[str, int, int]] = field(default_factory=list)
    """(ReplicaSet, from, to) in the order of the decisions; users are told of each."""

    @property
    def all(self) -> list[ReplicaSet]:
        return [*self.old, self.new] if self.new is not None else list(self.old)

    def of(self, rs: ReplicaSet) -> int:
        """The size decided, or the one it has."""
        return self.decided.get(rs.metadata.name, rs.spec.replicas)

    def set(self, rs: ReplicaSet, replicas: int) -> bool:
        """Decide a size; whether that changes it."""
        before, name = self.of(rs), rs.metadata.name
        if before == replicas:
            return False
        self.moves.append((name, before, replicas))
        self.decided[name] = replicas
        return True

    def available(self, rs: ReplicaSet) -> int:
        """Pods that are available and stay."""
        return min(rs.status.available_replicas, self.of(rs))

    def active(self) -> list[ReplicaSet]:
        return [rs for rs in self.all if self.of(rs) > 0]

    def total(self) -> int:
        return sum(self.of(rs) for rs in self.all)


def new_size(deployment: Deployment, sizes: Sizes, current: int) -> int:
    """The size of the new ReplicaSet that the surge allows now, `current` being its present one."""
    wanted = deployment.spec.replicas
    if not is_rolling(deployment):
        return wanted
    room = wanted + fenceposts(deployment)[0] - sizes.total()
    if room <= 0:
        return current
    return current + min(room, wanted - current)


def roll_new(deployment: Deployment, sizes: Sizes) -> bool:
    """Move the new ReplicaSet towards the wanted size; whether it moved."""
    new = sizes.new
    if new is None or sizes.of(new) == deployment.spec.replicas:
        return False
    if sizes.of(new) > deployment.spec.replicas:
        return sizes.set(new, deployment.spec.replicas)
    return sizes.set(new, new_size(deployment, sizes, sizes.of(new)))


def roll_old(deployment: Deployment, sizes: Sizes) -> bool:
    """Take away old pods as far as availability allows, broken ones first; whether any went."""
    new = sizes.new
    old = sorted((rs for rs in sizes.old if sizes.of(rs) > 0), key=creation_order)
    if not old or new is None:
        return False
    floor = min_available(deployment)
    new_missing = sizes.of(new) - sizes.available(new)
    budget = sizes.total() - floor - new_missing
    if budget <= 0:
        return False
    cleaned = _remove_broken(sizes, old, budget)
    return _remove_healthy(sizes, old, floor) or cleaned


def _remove_broken(sizes: Sizes, old: Sequence[ReplicaSet], budget: int) -> bool:
    moved = False
    for rs in old:
        take = min(budget, sizes.of(rs) - sizes.available(rs))
        if take > 0:
            budget -= take
            moved = sizes.set(rs, sizes.of(rs) - take) or moved
    return moved


def _remove_healthy(sizes: Sizes, old: Sequence[ReplicaSet], floor: int) -> bool:
    spare = sum(sizes.available(rs) for rs in sizes.all) - floor
    moved = False
    for rs in old:
        take = min(spare, sizes.of(rs))
        if take > 0:
            spare -= take
            moved = sizes.set(rs, sizes.of(rs) - take) or moved
    return moved


def is_scaling(deployment: Deployment, sizes: Sizes) -> bool:
    """Whether spec.replicas has changed since some living ReplicaSet was sized."""
    return any(
        desired is not None and desired != deployment.spec.replicas
        for desired in (desired_annotation(rs) for rs in sizes.active())
    )


def scale(deployment: Deployment, sizes: Sizes) -> list[ReplicaSet]:
    """Bring the sizes to spec.replicas without rolling; the ReplicaSets that must learn the new size."""
    wanted = deployment.spec.replicas
    only = _active_or_latest(sizes)
    if only is not None:
        changed = sizes.set(only, wanted)
        stale = sizes.of(only) > 0 and desired_annotation(only) not in (None, wanted)
        return [only] if changed or stale else []
    if _is_saturated(deployment, sizes):
        return [rs for rs in sizes.old if sizes.of(rs) > 0 and sizes.set(rs, 0)]
    if is_rolling(deployment):
        return _scale_in_proportion(deployment, sizes)
    return []


def _active_or_latest(sizes: Sizes) -> ReplicaSet | None:
    active = sizes.active()
    if len(active) == 1:
        return active[0]
    if active:
        return None
    return sizes.new or max(sizes.old, key=creation_order, default=None)


def _is_saturated(deployment: Deployment, sizes: Sizes) -> bool:
    new, wanted = sizes.new, deployment.spec.replicas
    return (
        new is not None
        and sizes.of(new) == wanted
        and desired_annotation(new) == wanted
        and new.status.available_replicas == wanted
    )


def _scale_in_proportion(deployment: Deployment, sizes: Sizes) -> list[ReplicaSet]:
    """Spread the change over all living ReplicaSets by their size; what is left over goes to the largest."""
    wanted = deployment.spec.replicas
    allowed = wanted + max_surge(deployment) if wanted > 0 else 0
    to_add = allowed - sizes.total()
    active = _by_size(sizes, newest_first=to_add > 0)
    added = 0
    fresh: list[int] = []
    for rs in active:
        share = _share(deployment, sizes, rs, to_add, added)
        added += share
        fresh.append(sizes.of(rs) + share)
    if to_add and active:
        fresh[0] = max(0, fresh[0] + to_add - added)
    for rs, size in zip(active, fresh, strict=True):
        sizes.set(rs, size)
    return active


def _by_size(sizes: Sizes, *, newest_first: bool) -> list[ReplicaSet]:
    """Largest first; among equals the newest first when growing, the oldest first when shrinking."""
    by_age = sorted(sizes.active(), key=creation_order, reverse=newest_first)
    return sorted(by_age, key=sizes.of, reverse=True)


def _share(deployment: Deployment, sizes: Sizes, rs: ReplicaSet, to_add: int, added: int) -> int:
    if to_add in (0, added):
        return 0
    fraction = _fraction(deployment, sizes, rs)
    rest = to_add - added
    return min(fraction, rest) if to_add > 0 else max(fraction, rest)


def _fraction(deployment: Deployment, sizes: Sizes, rs: ReplicaSet) -> int:
    size = sizes.of(rs)
    if deployment.spec.replicas == 0:
        return -size
    most = deployment.spec.replicas + max_surge(deployment)
    most_before = max_annotation(rs) or deployment.status.replicas
    if most_before == 0:
        return 0
    return int(size * most / most_before + 0.5) - size

"""How fast replicas may come and go: stabilisation windows, rate policies, limits (HPA v2's `behavior`). Pure.

A window looks back at what was recommended: upwards the lowest of it counts, downwards the highest, so that a spike does not move
anything. A policy limits what is added or taken away within its period; of several the one that changes most is followed
(`Max`), or least (`Min`), or none may change anything (`Disabled`). Without `behavior` the window downwards is 300 s, and at most twice the
number, or four, are there at once.
"""

import datetime as dt
import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

from machinery.api.autoscaling import Behavior, ScalingRules, ScalingSpec

DOWN_WINDOW_S: Final = 300
WINDOW_MAX_S: Final = 3600
FACTOR: Final = 2
LEAST: Final = 4
_INT_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Change:
    """So many replicas were added (or taken away, below nought)."""

    at: dt.datetime
    replicas: int


@dataclass(frozen=True, slots=True)
class Recommended:
    at: dt.datetime
    replicas: int


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered of one autoscaler."""

    recommended: tuple[Recommended, ...] = ()
    changes: tuple[Change, ...] = ()

    def begun(self, replicas: int, now: dt.datetime) -> "Past":
        """The first recommendation there ever is, is the number that was found."""
        return self if self.recommended else self.with_recommendation(replicas, now)

    def with_recommendation(self, replicas: int, now: dt.datetime) -> "Past":
        """What is older than any window is forgotten."""
        kept = [r for r in self.recommended if _within(r.at, now, WINDOW_MAX_S)]
        return replace(self, recommended=(*kept, Recommended(now, replicas)))

    def with_change(self, replicas: int, now: dt.datetime) -> "Past":
        kept = [c for c in self.changes if _within(c.at, now, WINDOW_MAX_S)]
        return replace(self, changes=(*kept, Change(now, replicas)))


@dataclass(frozen=True, slots=True)
class Allowed:
    """The number that may be now, and by what it is limited; `past` with the recommendation in it."""

    replicas: int
    reason: str = "DesiredWithinRange"
    message: str = "the desired count is within the acceptable range"
    steady: bool = False
    """A window holds it back."""
    past: Past = field(default_factory=Past)

    @property
    def limited(self) -> bool:
        return self.reason != "DesiredWithinRange"


def allowed(spec: ScalingSpec, current: int, desired: int, past: Past, now: dt.datetime) -> Allowed:
    """What may be of `desired`."""
    past = past.begun(current, now).with_recommendation(desired, now)
    behavior = spec.behavior
    if behavior is None:
        steady = max(_seen(past, DOWN_WINDOW_S, now, desired))
        limit = max(FACTOR * current, LEAST)
        found = _bounded(spec, steady, 0, limit)
    else:
        steady = _stable(behavior, current, desired, past, now)
        found = _by_policies(spec, behavior, current, steady, past, now)
    return replace(found, steady=steady != desired, past=past)


def _within(at: dt.datetime, now: dt.datetime, seconds: float) -> bool:
    return (now - at).total_seconds() < seconds


def _seen(past: Past, window_s: int, now: dt.datetime, desired: int) -> list[int]:
    return [desired, *(r.replicas for r in past.recommended if _within(r.at, now, window_s))]


def _window(rules: ScalingRules, default: int) -> int:
    stated = rules.stabilization_window_seconds
    return default if stated is None else stated


def _stable(behavior: Behavior, current: int, desired: int, past: Past, now: dt.datetime) -> int:
    up = min(_seen(past, _window(behavior.scale_up, 0), now, desired))
    down = max(_seen(past, _window(behavior.scale_down, DOWN_WINDOW_S), now, desired))
    return min(max(current, up), down)


def _by_policies(  # noqa: PLR0913
    spec: ScalingSpec,
    behavior: Behavior,
    current: int,
    desired: int,
    past: Past,
    now: dt.datetime,
) -> Allowed:
    most, least = _INT_MAX, 0
    if desired > current:
        most = max(current, _limit(behavior.scale_up, current, past, now, up=True))
    elif desired < current:
        least = min(current, _limit(behavior.scale_down, current, past, now, up=False))
    return _bounded(spec, desired, least, most)


def _limit(rules: ScalingRules, current: int, past: Past, now: dt.datetime, *, up: bool) -> int:
    """The farthest number that the policies allow in one direction."""
    if rules.select_policy == "Disabled" or not rules.policies:
        return current
    limits = []
    for policy in rules.policies:
        began = current - sum(
            c.replicas for c in past.changes if _within(c.at, now, policy.period_seconds)
        )
        if policy.type == "Pods":
            step: Fraction | int = policy.value
        else:
            step = Fraction(began * policy.value, 100)
        limits.append(math.ceil(began + step) if up else math.floor(began - step))
    changes_most = rules.select_policy != "Min"
    return max(limits) if up == changes_most else min(limits)


def _bounded(spec: ScalingSpec, desired: int, least: int, most: int) -> Allowed:
    """Within both pairs of limits; the narrower of each is named."""
    if most < spec.max_replicas:
        high = (most, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")  # fmt: skip
    else:
        text = "the desired replica count is more than the maximum replica count"
        high = (spec.max_replicas, "TooManyReplicas", text)
    if least > spec.min_replicas:
        low = (least, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")  # fmt: skip
    else:
        text = "the desired replica count is less than the minimum replica count"
        low = (spec.min_replicas, "TooFewReplicas", text)
    if desired < low[0]:
        return Allowed(*low)
    if desired > high[0]:
        return Allowed(*high)
    return Allowed(desired)

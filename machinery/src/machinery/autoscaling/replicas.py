"""Replicas by the load of pods, as Kubernetes' HorizontalPodAutoscaler counts (autoscaling/v2). Pure.

    ratio = what pods use / what they should use
    replicas = ceil(ratio * pods that are measured)

Use is counted in thousandths, rounded up, and its share of the requests in whole percents, as upstream does. Within the tolerance
(a tenth) nothing changes. Pods that end are left out. Pods without a sample count so that they move the number least: as if they used all they request when it would shrink, as if they used nothing when it would grow; pods that are
starting count as using nothing, and their samples of CPU are not believed: for five minutes, while they are not ready or a sample
began before they were. Where that turns the direction about, nothing changes.
"""

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from machinery.api.autoscaling import ResourceSource
from machinery.api.core import Container, Pod
from machinery.kit.clock import parse_time
from machinery.meta.objectmeta import condition
from machinery.meta.quantity import quantity_of
from machinery.meta.resource import Document

CPU: Final = "cpu"
TOLERANCE: Final = Fraction(1, 10)
CPU_INITIALIZATION_S: Final = 300.0
INITIAL_READINESS_S: Final = 30.0
NO_TARGET: Final = (
    "invalid resource metric source: neither an average utilization target nor an average value "
    "(usage) target was set"
)
_ZERO: Final = Fraction(0)


class MetricError(Exception):
    """Why there is no number; the text is a condition's message."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the containers of a pod used (cores, bytes), measured over `window_s` until `at`."""

    containers: Mapping[str, Mapping[str, Fraction]]
    at: dt.datetime
    window_s: float = 0.0

    def use(self, resource: str, container: str) -> Fraction | None:
        """Of one container, or of all; None: it was not measured."""
        if container:
            return self.containers.get(container, {}).get(resource)
        values = [c[resource] for c in self.containers.values() if resource in c]
        return sum(values, _ZERO) if len(values) == len(self.containers) and values else None


@dataclass(frozen=True, slots=True)
class Population:
    """Pods by how they count. `used`: of those that are measured and believed."""

    used: Mapping[str, Fraction]
    starting: frozenset[str]
    missing: frozenset[str]


@dataclass(frozen=True, slots=True)
class Proposal:
    """`average` is what a measured pod uses; `percent` of its requests, where that is asked."""

    replicas: int
    average: Fraction
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class Aim:
    """A pod should use so much, or so many `percent` of its `base`, which is what it requests."""

    target: Fraction
    percent: bool
    base: Mapping[str, Fraction]
    """By pod; one for each where an amount is asked."""

    def missed(self, name: str) -> Fraction:
        """What a pod without a sample counts with when the number would shrink."""
        least = Fraction(100) if self.percent else _ZERO
        unit = Fraction(1, 100) if self.percent else Fraction(1)
        return self.base[name] * max(least, self.target) * unit

    def average(self, used: Mapping[str, Fraction]) -> Fraction:
        """What a pod uses."""
        return Fraction(sum(used.values(), _ZERO) * 1000 // len(used), 1000)

    def share(self, used: Mapping[str, Fraction]) -> int:
        """How many percent of the requests are used. Raises MetricError."""
        asked = sum((self.base[name] for name in used), _ZERO)
        if not asked:
            raise MetricError("no metrics returned matched known pods")
        return sum(used.values(), _ZERO) * 100 // asked

    def ratio(self, used: Mapping[str, Fraction]) -> Fraction:
        """What is used to what should be. Raises MetricError."""
        return (self.share(used) if self.percent else self.average(used)) / self.target


def propose(  # noqa: PLR0913
    current: int,
    source: ResourceSource,
    pods: Sequence[Pod],
    samples: Mapping[str, Sample],
    now: dt.datetime,
    tolerance: tuple[Fraction, Fraction] = (TOLERANCE, TOLERANCE),
) -> Proposal:
    """By one metric. `samples` by pod name; `tolerance` downwards and upwards. Raises MetricError."""
    if not pods:
        raise MetricError("no pods returned by selector while calculating replica count")
    found = population(pods, samples, source.name, source.container, now)
    if not found.used:
        raise MetricError("did not receive metrics for targeted pods (pods might be unready)")
    aim = _aim(source, pods)
    replicas = _count(current, found, aim, tolerance)
    percent = aim.share(found.used) if aim.percent else None
    return Proposal(replicas, aim.average(found.used), percent)


def population(
    pods: Iterable[Pod],
    samples: Mapping[str, Sample],
    resource: str,
    container: str,
    now: dt.datetime,
) -> Population:
    """Who counts how; pods that end or have failed are nobody."""
    used: dict[str, Fraction] = {}
    starting, missing = set(), set()
    for pod in pods:
        name = pod.metadata.name
        sample = samples.get(name)
        value = sample.use(resource, container) if sample is not None else None
        if pod.deleting or pod.status.phase == "Failed":
            continue
        if pod.status.phase == "Pending":
            starting.add(name)
        elif sample is None or value is None:
            missing.add(name)
        elif resource == CPU and _starts(pod, sample, now):
            starting.add(name)
        else:
            used[name] = value
    return Population(used, frozenset(starting), frozenset(missing))


def _starts(pod: Pod, sample: Sample, now: dt.datetime) -> bool:
    """Whether a sample of CPU is of a start, which says nothing of the load."""
    ready, began = condition(pod.status.conditions, "Ready"), pod.status.start_time
    if ready is None or began is None:
        return True
    turned = ready.last_transition_time or began
    if (now - began).total_seconds() < CPU_INITIALIZATION_S:
        whole = (sample.at - turned).total_seconds() >= sample.window_s
        return ready.status == "False" or not whole
    never_ready = (turned - began).total_seconds() < INITIAL_READINESS_S
    return ready.status == "False" and never_ready


def _aim(source: ResourceSource, pods: Sequence[Pod]) -> Aim:
    """Raises MetricError."""
    wanted = source.target
    if wanted.average_value is not None:
        base = {pod.metadata.name: Fraction(1) for pod in pods}
        return Aim(quantity_of(wanted.average_value).value, False, base)
    if wanted.average_utilization is None:
        raise MetricError(NO_TARGET)
    asked = {pod.metadata.name: _requests(pod, source) for pod in pods}
    return Aim(Fraction(wanted.average_utilization), True, asked)


def _requests(pod: Pod, source: ResourceSource) -> Fraction:
    """What the containers that go on running ask for. Raises MetricError."""
    total = _ZERO
    for container in _lasting(pod):
        if source.container and container.name != source.container:
            continue
        raw = container.resources.requests.get(source.name)
        if raw is None:
            raise MetricError(
                f"missing request for {source.name} in container {container.name} "
                f"of Pod {pod.metadata.name}"
            )
        total += Fraction(quantity_of(raw).milli, 1000)
    return total


def _lasting(pod: Pod) -> Iterable[Container]:
    """Containers, and init containers that are restarted always (sidecars)."""
    yield from pod.spec.containers
    yield from (c for c in pod.spec.init_containers if c.restart_policy == "Always")


def _count(current: int, found: Population, aim: Aim, tolerance: tuple[Fraction, Fraction]) -> int:
    ratio = aim.ratio(found.used)
    grows_while_starting = bool(found.starting) and ratio > 1
    if not grows_while_starting and not found.missing:
        return current if _tolerated(ratio, tolerance) else math.ceil(ratio * len(found.used))
    used = dict(found.used)
    if ratio < 1:
        used |= {name: aim.missed(name) for name in found.missing}
    elif ratio > 1:
        used |= dict.fromkeys(found.missing, _ZERO)
    if grows_while_starting:
        used |= dict.fromkeys(found.starting, _ZERO)
    anew = aim.ratio(used)
    if _tolerated(anew, tolerance) or ratio < 1 < anew or anew < 1 < ratio:
        return current
    replicas = math.ceil(anew * len(used))
    turned = replicas > current if anew < 1 else replicas < current
    return current if turned else replicas


def _tolerated(ratio: Fraction, tolerance: tuple[Fraction, Fraction]) -> bool:
    down, up = tolerance
    return 1 - down <= ratio <= 1 + up


# ---------------------------------------------------------------------------------------------------------------- samples
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def sample_of(metrics: Document) -> Sample | None:
    """Of a PodMetrics object; None: it cannot be read, and counts as none."""
    try:
        containers = {
            str(one["name"]): {
                resource: Fraction(quantity_of(raw).milli, 1000)
                for resource, raw in one["usage"].items()
            }
            for one in metrics.get("containers") or ()
        }
        at = parse_time(metrics["timestamp"])
        return Sample(containers, at, seconds(str(metrics.get("window") or "0s")))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def seconds(duration: str) -> float:
    """Of Go's `1m30s`. Raises ValueError."""
    parts = _PART.findall(duration)
    if "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is no duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)

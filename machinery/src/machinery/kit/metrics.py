"""Metrics: counters, gauges and histograms of this process, shown by prometheus_client.

Several servers live in one process in tests and in the simulator, and each asks for its counters by name; here the
same name gives the same counter instead of prometheus_client's "duplicated timeseries". Names carry their unit
(`_seconds`, `_bytes`, `_total`).

The numbers are plain ones, without prometheus_client's lock around each: every key that any controller looks at counts a
dozen times, nearly all of it in one event loop. A thread may count as well; at the worst one of its counts is lost.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

import prometheus_client as prometheus
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

C = TypeVar("C")


class Number:
    """One series: a number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add to it."""
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        """Take from it; of a gauge."""
        self.value -= amount

    def set(self, value: float) -> None:
        """Of a gauge."""
        self.value = value


class Sizes:
    """One series: how many observations were at most as big as each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Between one bound and the next; the last: beyond all of them."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Family(Collector, Generic[C]):
    """All series of one name, by the values of their labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str], make: Callable[[], C]) -> None:
        self._name, self._text, self._labels, self._make = name, text, tuple(labels), make
        self._children: dict[tuple[str, ...], C] = {}
        if not labels:
            self._only = self.labels()

    def labels(self, *values: object) -> C:
        """The series with these values; hold it where it is needed often."""
        key = tuple(str(value) for value in values)
        if len(key) != len(self._labels):
            raise ValueError(f"metric {self._name} has the labels {self._labels}, not {key}")
        found = self._children.get(key)
        if found is None:
            found = self._children.setdefault(key, self._make())
        return found

    def _shown(self) -> list[tuple[tuple[str, ...], C]]:
        return list(self._children.items())


class Counter(_Family[Number]):
    """A number that only grows."""

    def inc(self, amount: float = 1) -> None:
        """Of the only series of a counter without labels."""
        self._only.inc(amount)

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for key, child in self._shown():
            family.add_metric(key, child.value)
        yield family


class Gauge(_Family[Number]):
    """A number that goes up and down."""

    def inc(self, amount: float = 1) -> None:
        """Of the only series of a gauge without labels."""
        self._only.inc(amount)

    def dec(self, amount: float = 1) -> None:
        """The same."""
        self._only.dec(amount)

    def set(self, value: float) -> None:
        """The same."""
        self._only.set(value)

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for key, child in self._shown():
            family.add_metric(key, child.value)
        yield family


class Histogram(_Family[Sizes]):
    """Observations by size."""

    def observe(self, value: float) -> None:
        """Of the only series of a histogram without labels."""
        self._only.observe(value)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for key, child in self._shown():
            names = [*map(floatToGoString, child.bounds), "+Inf"]
            buckets = list(zip(names, map(float, accumulate(child.counts)), strict=True))
            family.add_metric(key, buckets, child.total)
        yield family


M = TypeVar("M", Counter, Gauge, Histogram)


class Metrics:
    """A set of metrics, each made once."""

    def __init__(self, registry: prometheus.CollectorRegistry | None = None) -> None:
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        if registry is not None:
            self._registry = registry
            return
        self._registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self._registry)
        prometheus.GCCollector(registry=self._registry)

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """A number that only grows."""
        return self._once(name, Counter, lambda: Counter(name, text, labels, Number))

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """A number that goes up and down."""
        return self._once(name, Gauge, lambda: Gauge(name, text, labels, Number))

    def histogram(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Histogram:
        """Observations by size."""
        bounds = tuple(buckets)
        return self._once(
            name, Histogram, lambda: Histogram(name, text, labels, lambda: Sizes(bounds))
        )

    def _once(self, name: str, kind: type[M], make: Callable[[], M]) -> M:
        made = self._made.get(name)
        if made is None:
            fresh = make()
            self._registry.register(fresh)
            made = self._made[name] = fresh
        if not isinstance(made, kind):
            raise TypeError(f"metric {name} is already a {type(made).__name__}")
        return made

    def render(self) -> bytes:
        """The body of GET /metrics."""
        return prometheus.generate_latest(self._registry)


METRICS = Metrics(prometheus.REGISTRY)
"""The metrics of this process, those that modules made on prometheus_client's own registry among them."""

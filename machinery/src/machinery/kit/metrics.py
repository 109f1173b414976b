"""Metrics: a thin registry around prometheus_client.

Several servers live in one process in tests and in the simulator, and each asks for its counters by name; here the
same name gives the same counter instead of prometheus_client's "duplicated timeseries". Names carry their unit
(`_seconds`, `_bytes`, `_total`).
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import prometheus_client as prometheus
from prometheus_client import Counter, Gauge, Histogram

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

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
        return self._once(
            name, Counter, lambda: Counter(name, text, labels, registry=self._registry)
        )

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """A number that goes up and down."""
        return self._once(name, Gauge, lambda: Gauge(name, text, labels, registry=self._registry))

    def histogram(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Histogram:
        """Observations by size."""
        return self._once(
            name,
            Histogram,
            lambda: Histogram(name, text, labels, buckets=buckets, registry=self._registry),
        )

    def _once(self, name: str, kind: type[M], make: Callable[[], M]) -> M:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = make()
        if not isinstance(made, kind):
            raise TypeError(f"metric {name} is already a {type(made).__name__}")
        return made

    def render(self) -> bytes:
        """The body of GET /metrics."""
        return prometheus.generate_latest(self._registry)


METRICS = Metrics(prometheus.REGISTRY)
"""The metrics of this process, those that modules made on prometheus_client's own registry among them."""

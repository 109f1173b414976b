"""A CPU second is not always the same work: neighbours on the machine slow every instruction down, here by up to three.

So a fixed piece of work, the parse of a pod's bytes, is measured beside whatever is measured, and a figure can be read
as a multiple of it. It corrects roughly: work that misses the caches more, or less, than a parse suffers otherwise.
"""

import statistics
import time
from collections.abc import Awaitable, Sequence

import orjson
from tests.bench.report import Figure

QUIET_US = 11.6
"""What it takes on the machine of the design's figures when nobody else is on it."""


def _pod() -> bytes:
    """A running pod with its field managers takes as long."""
    owned = {f"f:field{i}": {"f:inner": {}, "f:other": {".": {}, "f:leaf": {}}} for i in range(42)}
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    container = {"name": "web", "image": "docker.io/lab/whoami:1", "ports": [{"containerPort": 80}]}
    return orjson.dumps(
        {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"name": "web", "managedFields": [{"fieldsV1": owned}]},
            "spec": {"containers": [container], "nodeName": "node-1"},
            "status": {"conditions": [condition] * 20, "podIP": "10.0.0.1"},
        }
    )


_POD = _pod()


def measure(times: int = 100) -> float:
    """CPU µs of one parse, now, in this process."""
    before = time.process_time()
    for _ in range(times):
        orjson.loads(_POD)
    return (time.process_time() - before) / times * 1e6


def mean(samples: Sequence[float]) -> float:
    return sum(samples) / len(samples)


def when_quiet(value: float, samples: Sequence[float]) -> str:
    """The note beside a CPU figure."""
    return f"~{value * QUIET_US / mean(samples):,.0f} if quiet"


class Readings:
    """CPU figures of one thing, each with the yardstick right before and after it."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.samples: list[float] = []
        self._quiet: list[float] = []

    async def take(self, measured: Awaitable[float]) -> None:
        """One more."""
        before = measure()
        value = await measured
        samples = (before, measure())
        self.samples += samples
        self.values.append(value)
        self._quiet.append(value * QUIET_US / mean(samples))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quiet(self) -> float:
        """The median of what each would have been."""
        return statistics.median(self._quiet)


def figure(samples: Sequence[float]) -> Figure:
    """Its own line of the table."""
    return Figure("yardstick: parse of a pod", mean(samples), "us", note=f"{QUIET_US} if quiet")

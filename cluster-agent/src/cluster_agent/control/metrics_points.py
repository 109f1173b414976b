"""From what kubelets say of their counters to what is used: parsing and rates. Pure.

A node's answer (`/metrics/resource`, Prometheus text with a time at each value) is a Scrape. Use is counted between the last two
scrapes of a node, as metrics-server does: the window is the time between them. A container that was started after the earlier
one is counted from its start, once it is ten seconds old; one whose counter went back has no metrics until the next scrape.
"""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from sys import intern

from machinery.kit.clock import rfc3339
from machinery.meta.quantity import Quantity
from machinery.meta.resource import Document

NANO = 1_000_000_000
COUNTER_MAX = (1 << 63) - 1
WINDOW_MAX_S = 120.0
"""A longer window says little about now."""
FRESH_MIN_S = 10.0
"""A container younger than that is not counted yet."""
API_VERSION = "metrics.k8s.io/v1beta1"

_LINE = re.compile(
    r"([a-z_]+)(?:\{([^{}]{0,2048})\})? (\d{1,18}(?:\.\d{1,18})?(?:e[+-]?\d{1,2})?)(?: (\d{1,13}))?",
    re.ASCII,
)
_LABEL = re.compile(r'([a-z_]+)="([^"\\]*)"', re.ASCII)
_CONTAINER = {
    "container_cpu_usage_seconds_total": "cpu",
    "container_memory_working_set_bytes": "memory",
    "container_start_time_seconds": "start",
}
_WHOSE = ("namespace", "pod", "container")
_NODE = {"node_cpu_usage_seconds_total": "cpu", "node_memory_working_set_bytes": "memory"}


@dataclass(frozen=True, slots=True)
class Point:
    """Counters of a container or node at one moment (seconds of 1970)."""

    at: float
    cpu_ns: int
    memory: int
    start: float = 0.0


@dataclass(frozen=True, slots=True)
class Scrape:
    """What a node said. `pods`: (namespace, name) -> container -> point."""

    node: Point | None = None
    pods: Mapping[tuple[str, str], Mapping[str, Point]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Use:
    """Over a window that ends at `at`."""

    at: float
    window: float
    nanocores: int
    memory: int


# --------------------------------------------------------------------------------------------------------------- parsing
def parse(text: str) -> Scrape:
    """Raises ValueError for what is no exposition; values that are not known here are passed over."""
    containers: dict[tuple[str, str, str], dict[str, tuple[str, float]]] = {}
    node: dict[str, tuple[str, float]] = {}
    for name, labels, value, at in _values(text):
        if name in _NODE:
            node[_NODE[name]] = (value, at)
        elif name in _CONTAINER:
            namespace, pod, container = (intern(labels.get(label, "")) for label in _WHOSE)
            containers.setdefault((namespace, pod, container), {})[_CONTAINER[name]] = (value, at)
    pods: dict[tuple[str, str], dict[str, Point]] = {}
    for (namespace, pod, container), values in containers.items():
        point = _point(values)
        if point is not None:
            pods.setdefault((namespace, pod), {})[container] = point
    return Scrape(_point(node), pods)


def _values(text: str) -> Iterator[tuple[str, Mapping[str, str], str, float]]:
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"no value of a metric: {line[:80]!r}")
        name, labels, value, at = found.groups()
        if name in _NODE or name in _CONTAINER:
            yield name, dict(_LABEL.findall(labels or "")), value, int(at or 0) / 1000


def _point(values: Mapping[str, tuple[str, float]]) -> Point | None:
    """None where CPU or memory is missing: half a point would look like little use. Raises ValueError beyond 64 bits."""
    if "cpu" not in values or "memory" not in values:
        return None
    cpu, at = values["cpu"]
    start = float(values["start"][0]) if "start" in values else 0.0
    point = Point(at, nanoseconds(cpu), round(float(values["memory"][0])), start)
    if max(point.cpu_ns, point.memory) > COUNTER_MAX:
        raise ValueError("a counter of more than 64 bits")
    return point


def nanoseconds(seconds: str) -> int:
    """Exact where there is no exponent: a float of large counters loses the last digits."""
    if "e" in seconds:
        return round(float(seconds) * NANO)
    whole, _, rest = seconds.partition(".")
    return int(whole) * NANO + int(rest[:9].ljust(9, "0"))


# ----------------------------------------------------------------------------------------------------------------- rates
def use(before: Point | None, after: Point) -> Use | None:
    """What was used up to `after`; None: not known yet."""
    if before is None or after.start > before.at:
        age = after.at - after.start
        if not after.start or not FRESH_MIN_S <= age <= WINDOW_MAX_S:
            return None
        return Use(after.at, age, _per_second(after.cpu_ns, age), after.memory)
    window = after.at - before.at
    if not 0 < window <= WINDOW_MAX_S or after.cpu_ns < before.cpu_ns:
        return None
    spent = after.cpu_ns - before.cpu_ns
    return Use(after.at, window, _per_second(spent, window), after.memory)


def _per_second(nanoseconds_spent: int, seconds: float) -> int:
    return round(nanoseconds_spent / seconds)


def pod_use(
    before: Mapping[str, Point] | None, after: Mapping[str, Point]
) -> Mapping[str, Use] | None:
    """By container; None unless all are known, for a part of a pod looks like an idle pod."""
    found: dict[str, Use] = {}
    for name, point in after.items():
        known = use((before or {}).get(name), point)
        if known is None:
            return None
        found[name] = known
    return found or None


# ------------------------------------------------------------------------------------------------------------- documents
def node_metrics(name: str, labels: Mapping[str, str], used: Use, now: dt.datetime) -> Document:
    """A NodeMetrics object."""
    return _document("NodeMetrics", {"name": name}, labels, used, now) | {"usage": usage(used)}


def pod_metrics(
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    used: Mapping[str, Use],
    now: dt.datetime,
) -> Document:
    """A PodMetrics object; its window is that of the container that was measured last."""
    newest = max(used.values(), key=lambda one: one.at)
    head = _document("PodMetrics", {"name": name, "namespace": namespace}, labels, newest, now)
    containers = [{"name": each, "usage": usage(one)} for each, one in used.items()]
    return head | {"containers": containers}


def _document(
    kind: str, metadata: Document, labels: Mapping[str, str], used: Use, now: dt.datetime
) -> Document:
    metadata = {**metadata, "creationTimestamp": rfc3339(now)}
    if labels:
        metadata["labels"] = dict(labels)
    at = dt.datetime.fromtimestamp(used.at, dt.UTC)
    head: Document = {"kind": kind, "apiVersion": API_VERSION, "metadata": metadata}
    return head | {"timestamp": rfc3339(at), "window": duration(used.window)}


def usage(used: Use) -> Document:
    """As quantities in their canonical form."""
    return {"cpu": cores(used.nanocores), "memory": octets(used.memory)}


def cores(nanocores: int) -> str:
    """`250m`, `1234567n`: the largest suffix that is exact."""
    for suffix in ("n", "u", "m", ""):
        if nanocores % 1000 or not nanocores:
            return f"{nanocores}{suffix}" if nanocores else "0"
        nanocores //= 1000
    return f"{nanocores}k"


def octets(count: int) -> str:
    """`64Mi`, `4100Ki`: in powers of 1024; below 1024 in decimal."""
    if count < 1024:
        return str(Quantity(Fraction(count)))
    for suffix in ("", "Ki", "Mi", "Gi"):
        if count % 1024:
            return f"{count}{suffix}"
        count //= 1024
    return f"{count}Ti"


def duration(seconds: float) -> str:
    """As Go writes it: `15.02s`, `1m3s`; to the millisecond."""
    minutes, milli = divmod(round(seconds * 1000), 60_000)
    rest = f"{milli / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{minutes}m{rest}" if minutes else rest

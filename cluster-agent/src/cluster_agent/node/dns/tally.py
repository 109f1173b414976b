"""What the name server counts, under the names that dashboards for CoreDNS know.

A counter is looked up once for each combination and then kept: looking it up costs as much as the answer. Types and
results outside the known ones count as `other`, so that no client can make the tables grow.
"""

from typing import Any, Final

from cluster_agent.node.dns import wire
from machinery.kit.metrics import METRICS

BUCKETS_S: Final = (0.00005, 0.0001, 0.00025, 0.001, 0.004, 0.016, 0.064, 0.256, 1.0, 4.0)

REQUESTS = METRICS.counter("coredns_dns_requests_total", "Queries.", ["zone", "type", "proto"])
RESPONSES = METRICS.counter("coredns_dns_responses_total", "Answers.", ["zone", "rcode"])
DURATION = METRICS.histogram(
    "coredns_dns_request_duration_seconds",
    "From reading a query to its answer.",
    ["zone"],
    BUCKETS_S,
)
DROPPED = METRICS.counter("coredns_dns_dropped_total", "Datagrams that are no queries.")
OVERLOADED = METRICS.counter(
    "coredns_forward_max_concurrent_rejects_total", "Queries refused: too many wait for upstream."
)


class Tally:
    """The counters of this process, at hand."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, bool], tuple[Any, Any, Any]] = {}

    def count(self, zone: str, qtype: int, rcode: int, seconds: float, *, udp: bool) -> None:
        """One answered query."""
        key = zone, qtype if qtype in wire.TYPE_NAMES else 0, rcode, udp
        known = self._known.get(key)
        if known is None:
            type_name = wire.TYPE_NAMES.get(qtype, "other")
            known = self._known[key] = (
                REQUESTS.labels(zone, type_name, "udp" if udp else "tcp"),
                RESPONSES.labels(zone, wire.RCODE_NAMES.get(rcode, "other")),
                DURATION.labels(zone),
            )
        requests, responses, duration = known
        requests.inc()
        responses.inc()
        duration.observe(seconds)

    def dropped(self) -> None:
        """Bytes that deserved no answer."""
        DROPPED.inc()

    def overloaded(self) -> None:
        """A query that was refused because too many wait."""
        OVERLOADED.inc()

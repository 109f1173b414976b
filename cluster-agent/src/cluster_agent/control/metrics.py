"""metrics.k8s.io of this member: what its nodes and their pods use, gathered from the kubelets and kept in memory only.

    kubelets --15 s--> the last two scrapes of each node --when asked--> NodeMetrics, PodMetrics

Every API server of the member gathers for itself, so that each can answer. After a start there is nothing for 15 to 30 s. A node
that has said nothing for a minute has no metrics, and neither have its pods. A node is believed of the pods that are bound to
it, and of no others.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cluster_agent.control.metrics_gather import Gatherer
from cluster_agent.control.metrics_points import Scrape, node_metrics, pod_metrics, pod_use, use
from machinery.api.metrics_kinds import GROUP
from machinery.kit.clock import Clock
from machinery.meta.resource import Document
from machinery.server.app import ApiServer
from machinery.server.cache import Entry, Selection
from machinery.server.computed import Computed, Sources

SILENT_S = 60.0
"""After so long a node's metrics are none."""
SEGMENT = 500
"""Objects that are made before other requests get their turn."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A node's last two scrapes, and when the last one came, by our own clock."""

    before: Scrape
    last: Scrape
    at: float


class Held:
    """The scrapes of all nodes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._nodes: dict[str, Heard] = {}

    def heard(self, node: str, scrape: Scrape) -> None:
        """A node has spoken."""
        known = self._nodes.get(node)
        before = known.last if known is not None else Scrape()
        if known is not None and _moment(known.last) == _moment(scrape):
            before = known.before  # the same sample again
        self._nodes[node] = Heard(before, scrape, self._clock.monotonic())

    def forget_others(self, nodes: set[str]) -> None:
        """These are the nodes that there are."""
        for name in self._nodes.keys() - nodes:
            del self._nodes[name]

    def of(self, node: str) -> Heard | None:
        """None for one that has been silent for too long."""
        known = self._nodes.get(node)
        if known is None or self._clock.monotonic() - known.at > SILENT_S:
            return None
        return known

    def node(self, entry: Entry) -> Document | None:
        """The NodeMetrics of a node."""
        heard = self.of(entry.name)
        if heard is None or heard.last.node is None:
            return None
        used = use(heard.before.node, heard.last.node)
        if used is None:
            return None
        return node_metrics(entry.name, entry.labels, used, self._clock.now())

    def pod(self, entry: Entry) -> Document | None:
        """The PodMetrics of a pod, by the word of its own node."""
        heard = self.of(entry.node)
        key = (entry.namespace, entry.name)
        points = heard.last.pods.get(key) if heard is not None else None
        if heard is None or points is None:
            return None
        used = pod_use(heard.before.pods.get(key), points)
        if used is None:
            return None
        return pod_metrics(*key, entry.labels, used, self._clock.now())


def _moment(scrape: Scrape) -> float | None:
    return scrape.node.at if scrape.node is not None else None


Entries = Callable[[Selection], Iterable[Entry]]
"""The nodes (or pods) that the API has, by selection."""


class FromEntries:
    """Metrics of objects that the API has; `make` gives None where nothing is known."""

    def __init__(self, entries: Entries, make: Callable[[Entry], Document | None]) -> None:
        self._entries, self._make = entries, make

    async def get(self, namespace: str, name: str) -> Document | None:
        """One."""
        selection = Selection(namespace)
        selection.name = name
        found = next(iter(self._entries(selection)), None)
        return self._make(found) if found is not None else None

    async def list(self, selection: Selection) -> Computed:
        """Those that something is known of."""
        made: list[Document] = []
        for number, entry in enumerate(list(self._entries(selection))):
            if number % SEGMENT == SEGMENT - 1:
                await asyncio.sleep(0)
            document = self._make(entry)
            if document is not None:
                made.append(document)
        return Computed(made)


class MemberMetrics:
    """The whole of it, for one API server."""

    def __init__(self, server: Callable[[], ApiServer], clock: Clock) -> None:
        """`server` gives the one that it answers in, once there is one."""
        self._server, self._clock = server, clock
        self._held = Held(clock)

    def sources(self) -> Sources:
        """What the server is extended by."""
        return {
            (GROUP, "nodes"): FromEntries(self._entries("nodes"), self._held.node),
            (GROUP, "pods"): FromEntries(self._entries("pods"), self._held.pod),
        }

    def gatherer(self) -> Gatherer:
        """The background work."""
        server = self._server()
        client = server.client(manager="metrics")
        return Gatherer(
            client, server.node_proxy, self._clock, self._held.heard, self._held.forget_others
        )

    def _entries(self, plural: str) -> Entries:
        def select(selection: Selection) -> Iterable[Entry]:
            server = self._server()
            kind = server.scheme.by_plural("", "v1", plural)
            assert kind is not None, "every member has nodes and pods"
            return server.cache.of(kind).select(selection)

        return select

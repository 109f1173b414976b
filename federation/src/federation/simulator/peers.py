"""Peers' probes in a history: what a member's gateways see of the others, and its report of it to the federation.

The data path is its own network beside the links: it can be cut between two members in either direction, and a member
without power answers nobody. An agent that crashed or was cut off still answers, for nodes and gateways run without it:
that is what makes a cut link another thing than a dead cluster. A probe that fails is believed after PROBE_S, one that
succeeds at once.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from machinery.api.fleet.multicluster import CLUSTER_NETWORKS, DIRECT, UNREACHABLE
from machinery.client.interface import Client
from machinery.kit.clock import Clock, rfc3339
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey

PROBE_S = 6.0
REFRESH_S = 30.0
"""As `cluster_agent.link.network` says the same again."""


@dataclass(frozen=True, slots=True)
class DataPath:
    """The network between members. `cuts`: (from, to) that lose every packet; `dark`: members without power."""

    members: Collection[str]
    cuts: frozenset[tuple[str, str]] = frozenset()
    dark: frozenset[str] = frozenset()

    def reaches(self, source: str, target: str) -> bool:
        """Whether a probe gets an answer: packets must pass both ways."""
        broken = {(source, target), (target, source)} & self.cuts
        return not broken and not self.dark & {source, target}


@dataclass(slots=True)
class Probes:
    """One member's probes. Times are the history's."""

    name: str
    failing: dict[str, float] = field(default_factory=dict)
    """Peer -> since when probes fail."""

    def look(self, path: DataPath, now: float) -> dict[str, str]:
        """Peer -> what is believed of the way to it."""
        found: dict[str, str] = {}
        for peer in sorted(set(path.members) - {self.name}):
            if path.reaches(self.name, peer):
                self.failing.pop(peer, None)
            else:
                self.failing.setdefault(peer, now)
            lost = peer in self.failing and now - self.failing[peer] >= PROBE_S
            found[peer] = UNREACHABLE if lost else DIRECT
        return found


def status(said: dict[str, str], observed: str) -> Document:
    """The status of a ClusterNetwork."""
    peers = [
        {"cluster": peer, "path": path, "gateways": 2, "nodes": 2} for peer, path in said.items()
    ]
    return {"peers": peers, "observedAt": observed}


class PeerReporter:
    """Looks and tells; to be run about once a second, in the place of an agent's other reports."""

    def __init__(
        self, name: str, client: Client, clock: Clock, path: Callable[[], DataPath]
    ) -> None:
        self._client, self._clock, self._path = client, clock, path
        self._key = ObjectKey("", name)
        self._probes = Probes(name)
        self._told: tuple[dict[str, str], float] | None = None

    async def run_once(self) -> None:
        """Raises StatusError, ConnectionError."""
        now = self._clock.monotonic()
        said = self._probes.look(self._path(), now)
        if self._told is not None and self._told[0] == said and now - self._told[1] < REFRESH_S:
            return
        body = {"status": status(said, rfc3339(self._clock.now()))}
        try:
            await self._client.patch(CLUSTER_NETWORKS, self._key, body, subresource="status")
        except NotFound:
            document = {
                "apiVersion": CLUSTER_NETWORKS.api_version,
                "kind": CLUSTER_NETWORKS.kind,
                "metadata": {"name": self._key.name},
                "spec": {},
            }
            await self._client.create(CLUSTER_NETWORKS, document)
            await self._client.patch(CLUSTER_NETWORKS, self._key, body, subresource="status")
        self._told = said, now

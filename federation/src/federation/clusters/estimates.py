"""What would really fit into members, asked of their own schedulers over the links.

An answer is good until the member reports other sums, and ten seconds at most. A decision waits a second for answers and no
longer; a member that gave none is not asked again for a while, and is taken by what it reported. Foreign clusters do not serve
the review, and are never asked twice within that while.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from federation.clusters.links import Links
from federation.placement.estimates import question, question_hash, to_ask
from federation.placement.model import Candidate, Request
from machinery.api.fleet.capacity import CAPACITY_ESTIMATES
from machinery.kit.clock import Clock
from machinery.meta.errors import BadRequest, Invalid, StatusError
from machinery.meta.resource import Document

ANSWERS_S = 1.0
"""How long a decision waits for them."""
GOOD_S = 10.0
MUTE_S = 30.0
KEPT_MAX = 20_000
ANY = ""
"""In place of a question: all of them."""


class Estimator(Protocol):
    """Who asks."""

    async def ask(self, cluster: str, spec: Document) -> int:
        """How many replicas fit. Raises StatusError, ConnectionError, TimeoutError."""
        ...


class NoEstimator:
    """Where there are no links."""

    async def ask(self, cluster: str, spec: Document) -> int:
        raise ConnectionError(f'cluster "{cluster}" is not connected')


class MemberEstimator:
    """Over the links."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def ask(self, cluster: str, spec: Document) -> int:
        if cluster not in self._links.connected:
            raise ConnectionError(f'cluster "{cluster}" is not connected')
        body = {
            "apiVersion": CAPACITY_ESTIMATES.api_version,
            "kind": CAPACITY_ESTIMATES.kind,
            "spec": spec,
        }
        client = self._links.client(cluster)
        try:
            answer = await client.create(CAPACITY_ESTIMATES, body)
        finally:
            await client.close()
        return max(0, answer.status.replicas)


@dataclass(frozen=True, slots=True)
class _Answer:
    replicas: int
    free: object
    """The room that the member reported then: with another one the answer is old."""
    at: float


class Estimates:
    """Candidates with the answers that there are."""

    def __init__(self, clock: Clock, estimator: Estimator) -> None:
        self._clock, self._estimator = clock, estimator
        self._answers: dict[tuple[str, str], _Answer] = {}
        self._mute: dict[tuple[str, str], float] = {}
        """Until when a member is not asked this, or anything."""

    async def told(self, request: Request, fleet: Sequence[Candidate]) -> list[Candidate]:
        """The fleet for this decision; takes ANSWERS_S at most. Raises nothing."""
        names = to_ask(request, fleet)
        if not names:
            return list(fleet)
        spec = question(request)
        asked, now = question_hash(spec), self._clock.monotonic()
        free = {c.name: c.free for c in fleet}
        unknown = [n for n in names if self._known(n, asked, free[n], now) is None]
        heard = [n for n in unknown if not self._muted(n, asked, now)]
        await self._ask(heard, spec, asked, free)
        wanted = set(names)
        return [
            msgspec.structs.replace(c, estimate=known)
            if c.name in wanted and (known := self._known(c.name, asked, c.free, now)) is not None
            else c
            for c in fleet
        ]

    def _muted(self, name: str, asked: str, now: float) -> bool:
        return any(self._mute.get((name, what), now) > now for what in (asked, ANY))

    def _known(self, name: str, asked: str, free: object, now: float) -> int | None:
        held = self._answers.get((name, asked))
        if held is None or held.free != free or now - held.at > GOOD_S:
            return None
        return held.replicas

    async def _ask(
        self, names: Sequence[str], spec: Document, asked: str, free: Mapping[str, object]
    ) -> None:
        if not names:
            return
        if len(self._answers) > KEPT_MAX:
            self._answers.clear()
            self._mute.clear()
        async with asyncio.TaskGroup() as group:
            for name in names:
                _ = group.create_task(self._one(name, spec, asked, free[name]))

    async def _one(self, name: str, spec: Document, asked: str, free: object) -> None:
        try:
            async with asyncio.timeout(ANSWERS_S):
                replicas = await self._estimator.ask(name, spec)
        except (BadRequest, Invalid):  # this question's fault
            self._mute[name, asked] = self._clock.monotonic() + MUTE_S
        except (StatusError, ConnectionError, TimeoutError):
            self._mute[name, ANY] = self._clock.monotonic() + MUTE_S
        else:
            self._answers[name, asked] = _Answer(replicas, free, self._clock.monotonic())

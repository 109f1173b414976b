"""Names that are not ours: asked of the host's resolvers, and remembered.

Equal questions share one query. Servers are asked in order, those that lately failed last, and all of them again for a
second round, within a deadline shorter than the client's patience. A server that answers SERVFAIL or REFUSED is passed
over for the next one; a name that does not exist is an answer. When nobody answers, an old answer serves if it is not
too old.
"""

import asyncio
import logging
from collections.abc import Callable

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.cache import FAILED, Key, Reply, ReplyCache
from cluster_agent.node.dns.model import DnsConfig
from cluster_agent.node.dns.response import Response
from cluster_agent.node.dns.upstream import Server, Servers, exchange
from cluster_agent.node.dns.wire import MalformedError
from machinery.kit.clock import Clock
from machinery.kit.metrics import METRICS
from machinery.kit.tasks import TaskOwner

log = logging.getLogger(__name__)

PENALTY_S = 10.0
"""How long a server that failed is asked after the others."""

ASKED = METRICS.counter("coredns_forward_requests_total", "Queries sent upstream.", ["to"])
FAILURES = METRICS.counter(
    "coredns_forward_failures_total", "Upstream queries without a usable answer.", ["to", "reason"]
)
HITS = METRICS.counter("coredns_cache_hits_total", "Answers out of the cache.", ["type"])
MISSES = METRICS.counter("coredns_cache_misses_total", "Questions that upstream was asked.")


class Forwarder:
    """Asks upstream; keeps what it heard."""

    def __init__(
        self, config: DnsConfig, clock: Clock, roll: Callable[[], float], tasks: TaskOwner
    ) -> None:
        self._config, self._clock, self._roll, self._tasks = config, clock, roll, tasks
        own = [Server(address, config.port) for address in config.addresses]
        self._servers = Servers(config.upstreams, config.resolv_conf, own)
        self._penalty: dict[Server, float] = {}
        self._flights: dict[Key, asyncio.Task[Reply]] = {}
        self.cache = ReplyCache(
            config.cache_entries_max,
            config.cache_positive_max_s,
            config.cache_negative_max_s,
            config.stale_max_s,
        )

    @property
    def available(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self._servers.current(self._clock.monotonic()))

    def cached(self, key: Key) -> Reply | None:
        """An answer at once, or None."""
        found = self.cache.fresh(key, self._clock.monotonic())
        if found is not None:
            HITS.labels(
                "success" if found.rcode == wire.NOERROR and found.answer else "denial"
            ).inc()
        return found

    async def resolve(self, key: Key) -> Reply:
        """The answer of upstream, of the cache, or SERVFAIL."""
        if (found := self.cached(key)) is not None:
            return found
        flight = self._flights.get(key)
        if flight is None:
            MISSES.inc()
            flight = self._tasks.spawn(self._fly(key), "dns question")
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return await asyncio.shield(flight)

    async def _fly(self, key: Key) -> Reply:
        config, now = self._config, self._clock.monotonic()
        stale = self.cache.stale(key, now)
        budget = config.upstream_deadline_s if stale is None else config.stale_wait_s
        reply: Reply | None = None
        try:
            async with asyncio.timeout(budget):
                reply = await self._ask_all(key)
        except TimeoutError:
            log.debug("no upstream answered in time", extra={"question": wire.text_of(key.name)})
        now = self._clock.monotonic()
        if reply is not None:
            self.cache.put(key, reply, now)
            return reply
        self.cache.put_failure(key, now)
        if stale is not None:
            HITS.labels("stale").inc()
        return stale or FAILED

    async def _ask_all(self, key: Key) -> Reply | None:
        for _ in range(self._config.upstream_rounds):
            for server in self._in_order():
                response = await self._ask(server, key)
                if response is not None:
                    _ = self._penalty.pop(server, None)
                    return Reply(
                        response.rcode,
                        response.answer,
                        response.authority,
                        response.additional,
                        bool(response.flags & wire.AD),
                    )
        return None

    def _in_order(self) -> list[Server]:
        now = self._clock.monotonic()
        servers = self._servers.current(now)
        return sorted(servers, key=lambda server: self._penalty.get(server, 0.0) > now)

    async def _ask(self, server: Server, key: Key) -> Response | None:
        """A final answer of this server, or None."""
        ASKED.labels(str(server)).inc()
        reason = "network"
        try:
            response = await exchange(server, key, self._roll, self._config.upstream_timeout_s)
        except TimeoutError:
            reason = "timeout"
        except MalformedError:
            reason = "malformed"
        except OSError as error:
            log.debug("upstream resolver out of reach", extra={"error": str(error)})
        else:
            if response.rcode in (wire.NOERROR, wire.NXDOMAIN):
                return response
            name = wire.RCODE_NAMES.get(response.rcode, "other")
            FAILURES.labels(str(server), name).inc()
            return None
        now = self._clock.monotonic()
        if self._penalty.get(server, 0.0) <= now:
            log.warning("upstream resolver failed", extra={"server": str(server), "reason": reason})
        self._penalty[server] = now + PENALTY_S
        FAILURES.labels(str(server), reason).inc()
        return None

"""The gateway of a node at work: the plan in, HAProxy kept serving it, and what its checks say of peers out.

    gateway = Gateway(config, clock); gateway.on_change(wake); gateway.set_certificate(...); gateway.apply(plan)
    gateway.listener(key) -> 169.254.20.11:PORT, of use once gateway.serves(key); gateway.states["beta"].gateways

Changes are gathered for a moment. What HAProxy can take at run time (exports, imports, endpoints) it is told; the rest
(peers, certificates) is a new process that takes over. A configuration that HAProxy refuses changes nothing and is told
once; a certificate that it refuses is put aside for the one before. Nothing is touched before the first plan and certificate
are there, so a node process that starts finds the HAProxy of its predecessor serving and leaves it until it knows better.

States hold for a few seconds while no process answers, then everything counts as down.

Limits: see `render` and `allocation`. What is no longer exported is refused and cut at once, but for connections that an
older process still serves after a reload: they end after `GatewayConfig.drain_s` at the latest. A peer that leaves is refused
from then on; its open connections end when they end.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from cluster_agent.node.addresses import own_address
from cluster_agent.node.gateway.allocation import Allocation, Berths, allocate, dump, load, place
from cluster_agent.node.gateway.model import (
    Certificate,
    EgressKey,
    GatewayConfig,
    GatewayPlan,
    PeerState,
    Target,
)
from cluster_agent.node.gateway.process import (
    LISTENERS,
    ConfigRefused,
    Engine,
    GatewayError,
    HaproxyEngine,
    has_aes,
)
from cluster_agent.node.gateway.render import MAPS, Files, render
from cluster_agent.node.gateway.runtime import (
    Row,
    Running,
    berths_of,
    changes,
    cuts,
    parse_lines,
    parse_map,
    parse_stat,
    stat_commands,
)
from cluster_agent.node.gateway.states import backends, merged, peer_states
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.kit.metrics import METRICS

log = logging.getLogger(__name__)

RETRY = Backoff(base_s=0.5, cap_s=15.0)
SILENCE_S = 3.0
"""How long the last states hold while no process answers."""
HUNG_S = 15.0
"""A process that exists and has not answered for so long is ended."""


class Gateway:
    """One node's gateway; `run` is its task."""

    def __init__(
        self,
        config: GatewayConfig,
        clock: Clock,
        *,
        engine: Engine | None = None,
        own: Callable[[str], Awaitable[None]] = own_address,
        on_note: Callable[[str, str], None] | None = None,
        root: bool | None = None,
    ) -> None:
        """`on_note` hears reason and message of what people should know, once each time it begins: for an Event.

        `root`: whether this process is root, so that HAProxy can become nobody; None: look.
        """
        self.config, self._clock, self._own = config, clock, own
        self._engine: Engine = engine or HaproxyEngine(config)
        self._on_note = on_note or (lambda reason, message: None)
        self._root = os.geteuid() == 0 if root is None else root
        self._aes = has_aes(_cpuinfo())
        self._callbacks: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._plan: GatewayPlan | None = None
        self._certificate: Certificate | None = None
        self._good: Certificate | None = None
        self._bad: Certificate | None = None
        self._allocation = _allocation(self._engine.load(LISTENERS))
        self._berths: Berths = ()
        self._shape: str | None = None
        self._wanted, self._done = 0, 0
        self._due = 0.0
        self._reloaded = float("-inf")
        self._heard = float("-inf")
        self._failures = 0
        self._trouble = "the gateway has not started yet"
        self._served: Mapping[EgressKey, int] = {}
        self._up: dict[tuple[str, str], bool] = {}
        self._refused = 0
        self._reloads = METRICS.counter(
            "ubernetes_gateway_reloads_total", "Processes of HAProxy that were started"
        )
        self._failed = METRICS.counter(
            "ubernetes_gateway_failures_total", "Configurations or starts that failed"
        )
        self._connections = METRICS.gauge(
            "ubernetes_gateway_connections", "Open connections", ("direction",)
        )
        self._refusals = METRICS.counter(
            "ubernetes_gateway_refused_total",
            "Connections refused: a client that is no peer, or a name that is not exported",
        )
        self._draining = METRICS.gauge(
            "ubernetes_gateway_draining", "Former processes that still serve connections"
        )

    # --------------------------------------------------------------------------------------------------------- in
    def apply(self, plan: GatewayPlan) -> None:
        """Serve exactly this, soon. Listeners have their ports at once. Raises TooManyListeners, and then nothing changed.

        The first plan must be complete: it replaces what an earlier node process left running.
        """
        if plan == self._plan:
            return
        self._allocation = allocate(self._allocation, plan.egress)
        self._plan = plan
        self._changed()

    def set_certificate(self, cert_pem: str, key_pem: str, ca_pem: str) -> None:
        """This cluster's certificate as a gateway, its key, and the federation's CA."""
        certificate = Certificate(cert_pem, key_pem, ca_pem)
        if certificate not in (self._certificate, self._bad):
            self._certificate = certificate
            self._changed()

    def _changed(self) -> None:
        if self._wanted == self._done:
            self._due = self._clock.monotonic() + self.config.debounce_s
        self._wanted += 1
        self._wake.set()

    # -------------------------------------------------------------------------------------------------------- out
    def listener(self, key: EgressKey) -> Target:
        """Where this node reaches that port of that cluster. Raises KeyError for what the last plan does not name."""
        return Target(self.config.address, self._allocation.ports[key])

    def serves(self, key: EgressKey) -> bool:
        """Whether its listener is there, which may be so before everything else of the last plan is."""
        port = self._allocation.ports.get(key)
        return port is not None and self._served.get(key) == port and self._engine.alive()

    @property
    def ready(self) -> bool:
        """Whether HAProxy serves all of the last plan."""
        return self._plan is not None and self._done == self._wanted and self._engine.alive()

    @property
    def trouble(self) -> str:
        """Why this gateway does not do all that it should, in a sentence; empty when it does."""
        return self._trouble

    @property
    def states(self) -> Mapping[str, PeerState]:
        """Every peer of the last plan, by cluster."""
        return peer_states(self._plan, self._up) if self._plan is not None else {}

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this whenever a state, `ready`, `trouble` or what is served has changed."""
        self._callbacks.append(callback)

    # ------------------------------------------------------------------------------------------------------- life
    async def run(self) -> None:
        """Until cancelled; HAProxy stays."""
        self._shape = await self._engine.adopt()
        self._heard = self._clock.monotonic()
        if self._certificate is None:
            self._certificate = self._engine.certificate()
        while True:
            await self.turn()
            pause = self.config.poll_s
            if self._wanted != self._done:
                pause = min(pause, max(self._due - self._clock.monotonic(), 0.01))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    _ = await self._wake.wait()
            self._wake.clear()

    async def turn(self) -> None:
        """Look once, and do what is due."""
        before = self._view()
        await self._poll()
        if self._plan is not None and self._certificate is not None:
            if self._shape is not None and not self._engine.alive():
                self._lost("haproxy ended and is started again")
            if self._wanted != self._done and self._clock.monotonic() >= self._due:
                await self._settle(self._plan, self._certificate)
        elif self._certificate is None:
            self._trouble = "the cluster has no certificate for its gateways yet"
        else:
            self._trouble = "the gateway was not told yet what to serve"
        if self._view() != before:
            for callback in self._callbacks:
                callback()

    def _view(self) -> tuple[object, ...]:
        return (dict(self._up), self.ready, self._trouble, self._served)

    async def end(self) -> None:
        """Take the gateway away for good; not while `run` runs."""
        await self._engine.end()
        self._shape, self._served = None, {}

    # ---------------------------------------------------------------------------------------------------- looking
    async def _poll(self) -> None:
        rows = await self._rows() if self._shape is not None else None
        now = self._clock.monotonic()
        if rows is not None:
            self._heard = now
            self._up = merged(self._up, rows)
            self._count(rows)
            return
        if now - self._heard > SILENCE_S:
            self._up = {}
        if now - self._heard > HUNG_S and self._engine.alive():
            self._heard = now
            await self._engine.end()

    async def _rows(self) -> list[Row] | None:
        """None where no process answers."""
        names = backends(self._plan) if self._plan is not None else ()
        try:
            return parse_stat(await self._engine.ask(stat_commands(names)))
        except (OSError, TimeoutError):
            return None

    def _count(self, rows: list[Row]) -> None:
        for row in rows:
            if row.server == "FRONTEND":
                self._connections.labels(row.proxy).set(row.sessions)
            if row.server == "FRONTEND" and row.proxy == "ingress":
                # A new process counts from nothing.
                new = row.refused - self._refused if row.refused >= self._refused else row.refused
                self._refusals.inc(new)
                self._refused = row.refused
        self._draining.set(self._engine.draining())

    def _lost(self, sentence: str) -> None:
        log.warning("haproxy is gone", extra={"failures": self._failures})
        self._shape, self._served = None, {}
        self._failures += 1
        self._say("GatewayRestarted", sentence)
        self._later(RETRY.delay(self._failures))
        if self._wanted == self._done:
            self._wanted += 1

    # ----------------------------------------------------------------------------------------------------- acting
    async def _settle(self, plan: GatewayPlan, certificate: Certificate) -> None:
        version, allocation = self._wanted, self._allocation
        try:
            running = await self._running() if self._shape is not None else None
            if running is not None and not self._berths:
                with contextlib.suppress(KeyError):  # of another version; it will be replaced
                    self._berths = berths_of(running)
            self._berths = place(self._berths, plan.ingress)
            files = render(
                self.config, plan, allocation, self._berths, certificate,
                aes=self._aes, root=self._root,
            )  # fmt: skip
            self._engine.save(LISTENERS, dump(allocation))
            if (
                running is None
                or self._shape != files.shape
                or not await self._tell(files, running)
            ):
                wait = self._reloaded + self.config.reload_gap_s - self._clock.monotonic()
                if wait > 0:
                    self._later(wait)
                    return
                if running is not None and (gone := cuts(files, running)):
                    _ = await self._engine.ask(gone)
                await self._reload(files)
        except (GatewayError, OSError, TimeoutError) as error:
            await self._failure(certificate, error)
            return
        self._good = certificate
        self._failures, self._trouble = 0, ""
        self._done = version
        self._served = {key: allocation.ports[key] for key in plan.egress}
        if self._wanted != version:
            self._later(self.config.debounce_s)

    async def _running(self) -> Running | None:
        """None where no process answers."""
        try:
            lines = parse_lines(await self._engine.ask(["show servers state"]))
            maps = {name: parse_map(await self._engine.ask([f"show map {name}"])) for name in MAPS}
        except (OSError, TimeoutError):
            return None
        return Running(lines, maps)

    async def _tell(self, files: Files, running: Running) -> bool:
        """Change the running process; whether it serves the files now."""
        commands = changes(files, running)
        if not commands:
            return True
        said = await self._engine.ask(commands)
        now = await self._running()
        if now is not None and not changes(files, now):
            return True
        log.warning("haproxy did not take a change at run time", extra={"said": said.strip()[:200]})
        return False

    async def _reload(self, files: Files) -> None:
        for address in (self.config.address, self.config.probe):
            if address:
                await self._own(address)
        self._reloaded = self._clock.monotonic()
        await self._engine.replace(files)
        self._shape, self._heard = files.shape, self._clock.monotonic()
        self._reloads.inc()
        log.info("haproxy started", extra={"shape": files.shape})

    async def _failure(self, certificate: Certificate, error: Exception) -> None:
        """Nothing that ran was touched. Try again later: the reason may be gone, such as a port that was taken."""
        self._failed.inc()
        self._failures += 1
        refused = isinstance(error, ConfigRefused)
        if refused and self._good not in (None, certificate):
            self._say("GatewayCertificateRefused", f"the new certificate is not used: {error}")
            self._bad, self._certificate = certificate, self._good
            self._later(0.0)
            return
        reason = "GatewayConfigRefused" if refused else "GatewayFailed"
        self._say(reason, str(error) or type(error).__name__)
        self._later(RETRY.delay(self._failures))

    def _say(self, reason: str, message: str) -> None:
        if message != self._trouble:
            log.error("gateway is in trouble", extra={"reason": reason, "error": message})
            self._on_note(reason, message)
        self._trouble = message

    def _later(self, seconds: float) -> None:
        self._due = self._clock.monotonic() + seconds


def _allocation(document: object) -> Allocation:
    if document is None:
        return Allocation()
    try:
        return load(document)
    except (ValueError, TypeError, KeyError) as error:
        log.error("listeners that were kept cannot be read", extra={"error": str(error)})
        return Allocation()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""

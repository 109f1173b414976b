"""The service proxy at work: wanted Services in, the kernel's table kept equal to them.

Changes are gathered for a moment (a rollout is many) and applied in one step. Nothing is installed before the first
complete state is known: a proxy that starts leaves the table of the process before it in charge until then, and
established connections never notice. Stopping leaves the table where it is; `cleanup` removes it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from cluster_agent.node.nftpace import NftThread, Pace
from cluster_agent.node.proxy.conntrack import Conntrack, ConntrackError, ConntrackTool, reconcile
from cluster_agent.node.proxy.model import Note, ProxyConfig, Service
from cluster_agent.node.proxy.nft import KernelNft, Nft, NftError
from cluster_agent.node.proxy.table import FamilyTable, Step
from machinery.kit.clock import Clock
from machinery.kit.metrics import METRICS
from machinery.kit.tasks import TaskOwner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProxyStatus:
    """How the proxy is doing."""

    synced: bool
    """The kernel holds everything that was wanted at the last step."""
    services: int
    fronts: int
    pending: int
    loads: int
    """Full loads so far; one at the start, each further one has a reason in the log."""
    last_sync_s: float | None
    """Seconds since the last step that succeeded."""
    last_duration_s: float
    error: str


class ServiceProxy:
    """One node's proxy, for every family its pods have."""

    def __init__(
        self,
        config: ProxyConfig,
        clock: Clock,
        *,
        nft: Nft | None = None,
        conntrack: Conntrack | None = None,
        executor: Executor | None = None,
        on_note: Callable[[Note], None] | None = None,
        sources: tuple[str, ...] = ("",),
        on_death: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        """`sources`: who gives Services (the cluster's own, the cluster set's); none is served before all have."""
        self._sources, self._awaited = frozenset(sources), set(sources)
        self.config, self._clock = config, clock
        self._conntrack = conntrack or ConntrackTool()
        self._thread = NftThread("nft", executor)
        self._pace = Pace(
            clock,
            step=self.run_once,
            intact=self._intact,
            debounce_s=config.debounce_s,
            check_s=config.check_s,
        )
        self._on_death = on_death
        self._on_note = on_note or (lambda note: None)
        door = nft or KernelNft()
        self.tables = [FamilyTable(family, config, door) for family in config.families()]
        self._wanted: dict[str, Service] = {}
        self._changed: dict[str, Service | None] = {}
        self._stepped = asyncio.Condition()
        self._steps = 0
        self._busy = False
        self._error = ""
        self._last: float | None = None
        self._duration = 0.0
        self._tasks: TaskOwner | None = None
        self._seconds = METRICS.histogram(
            "ubernetes_proxy_sync_seconds", "Duration of a step that brought the kernel up to date"
        )
        self._failed = METRICS.counter(
            "ubernetes_proxy_sync_failures_total", "Steps that the kernel refused", ("part",)
        )
        self._synced_at = METRICS.gauge(
            "ubernetes_proxy_last_sync_timestamp_seconds", "When the kernel was last up to date"
        )
        self._count = METRICS.gauge("ubernetes_proxy_services", "Services in the kernel's table")

    # ---------------------------------------------------------------------------------------------------- state in
    def set_state(self, services: Mapping[str, Service], source: str = "") -> None:
        """Everything that one source wants, by keys of its own (`namespace/name`); what is not in it is taken away."""
        assert source in self._sources, f"source {source!r} was not announced"
        wanted = {_key(source, key): service for key, service in services.items()}
        held = [key for key in self._wanted if _source(key) == source]
        for key in held:
            if key not in wanted:
                self._put(key, None)
        for key, service in wanted.items():
            self._put(key, service)
        self._awaited.discard(source)
        if not self._awaited:
            self._pace.complete = True
            self._pace.wake()

    def set_service(self, key: str, service: Service | None, source: str = "") -> None:
        """One Service of a source changed or went; takes effect once every source has given its complete state."""
        assert source in self._sources, f"source {source!r} was not announced"
        self._put(_key(source, key), service)
        if self._changed:
            self._pace.wake()

    def _put(self, key: str, service: Service | None) -> None:
        if self._wanted.get(key) == service:
            return
        if service is None:
            del self._wanted[key]
        else:
            self._wanted[key] = service
        self._changed[key] = service

    # -------------------------------------------------------------------------------------------------------- life
    async def start(self) -> None:
        """Begin to follow the state."""
        assert self._tasks is None, "started twice"
        self._tasks = TaskOwner(self._on_death)
        _ = self._tasks.spawn(self.run_forever(), "service proxy")

    async def stop(self) -> None:
        """Stop following; the table stays and goes on serving."""
        if self._tasks is not None:
            await self._tasks.close()
            self._tasks = None
        await self._thread.close()

    async def cleanup(self) -> None:
        """Delete our tables, whether this process made them or another; not while started."""
        assert self._tasks is None, "a started proxy would put them back"
        for table in self.tables:
            await self._thread.run(table.remove)

    async def run_forever(self) -> None:
        """Step whenever something changed, and look now and then whether the table is still there."""
        await self._pace.run_forever()

    async def run_once(self) -> bool:
        """One step with all that is pending; whether it succeeded."""
        self._pace.taken()
        changes, self._changed = self._changed, {}
        self._busy = True
        began = self._clock.monotonic()
        try:
            for table in self.tables:
                await self._settle(table, changes)
        except NftError as error:
            self._error = str(error)
            self._failed.labels("nft").inc()
            log.error("kernel refused the service table", extra={"error": str(error)})
            # A family that has not seen them yet must, and one that has takes them twice without harm.
            self._changed = {**changes, **self._changed}
            return False
        finally:
            self._busy = False
        self._error = ""
        self._last = self._clock.monotonic()
        self._duration = self._last - began
        self._seconds.observe(self._duration)
        self._synced_at.set(self._clock.now().timestamp())
        self._count.set(len(self._wanted))
        await self._tell()
        return True

    async def _settle(self, table: FamilyTable, changes: Mapping[str, Service | None]) -> None:
        step: Step = await self._thread.run(table.step, changes, self._clock.monotonic())
        for note in step.notes:
            self._on_note(note)
        try:
            gone = await reconcile(self._conntrack, table.family, step.flows) if step.flows else 0
        except ConntrackError as error:
            self._failed.labels("conntrack").inc()
            log.warning("stale connection entries stay", extra={"error": str(error)})
        else:
            if gone:
                log.info("stale connection entries deleted", extra={"kinds": gone})

    async def _intact(self) -> bool:
        try:
            found = [await self._thread.run(table.intact) for table in self.tables]
        except NftError as error:
            log.warning("table cannot be read", extra={"error": str(error)})
            return True
        if not all(found):
            log.warning("table was changed by somebody else, everything is loaded anew")
        return all(found)

    # ------------------------------------------------------------------------------------------------------ status
    async def _tell(self) -> None:
        async with self._stepped:
            self._steps += 1
            self._stepped.notify_all()

    async def wait_synced(self) -> None:
        """Until the kernel holds all that was wanted when this was called, and everything before it."""
        async with self._stepped:
            _ = await self._stepped.wait_for(lambda: self.synced)

    @property
    def synced(self) -> bool:
        """Nothing is pending and the last step succeeded."""
        done = self._pace.complete and not self._changed and not self._busy
        return done and not self._error and self._last is not None

    def status(self) -> ProxyStatus:
        """For the node's debug pages and its readiness."""
        last = self._last
        return ProxyStatus(
            synced=self.synced,
            services=len(self._wanted),
            fronts=sum(len(t.ledger.owners) for t in self.tables),
            pending=len(self._changed),
            loads=sum(t.loads for t in self.tables),
            last_sync_s=None if last is None else self._clock.monotonic() - last,
            last_duration_s=self._duration,
            error=self._error,
        )


def _key(source: str, key: str) -> str:
    return f"{source} {key}" if source else key


def _source(key: str) -> str:
    return key.rpartition(" ")[0]

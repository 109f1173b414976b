"""The federation server of a history: the real API server without its sockets, and the real controllers.

A restart stops the controllers and the API server and makes new ones over the same store, as a new process would; what
was only in memory (watch cache, informers, queues, heartbeats seen) is gone. A kill may come right after any single write,
which stands though nobody was told of it. Members' agents speak as themselves, so
their rights are checked too; their certificates are not simulated.
"""

import asyncio
from collections.abc import Callable
from functools import cache

from federation.clusters import access
from federation.controllers import membership, registry
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.client.interface import Client
from machinery.controller.action import Emit
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.controller.recorder import EventRecorder
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.server import bootstrap
from machinery.server.app import ApiServer, Extensions
from machinery.server.committed import Committed
from machinery.server.config import ServerConfig
from machinery.server.local import LocalClient
from machinery.server.pki import AGENT_PREFIX, AGENTS
from machinery.server.user import AUTHENTICATED, UserInfo
from machinery.store.interface import Durability, Row
from machinery.store.memory import MemoryStore

CONFIG = ServerConfig(name="federation", track_managed_fields=False, service_accounts=False)
STABILIZATION_S = 8.0
"""Shorter than the rest at a quiet point, so that failback is over when the fleet is looked at."""
NO_SERVER = "the federation server does not run"

Setup = Callable[[Manager, ApiServer], None]


def controllers(manager: Manager, api: ApiServer) -> None:
    """What a federation server runs."""
    kinds = [kind for kind in api.scheme.kinds if kind.storable]
    settings = registry.Settings(kinds, api.authority, stabilization_s=STABILIZATION_S)
    registry.setup_all(manager, settings)


@cache
def scheme() -> Scheme:
    """The kinds; the same for every history of a process."""
    return Scheme((*BUILTIN, *TEMPLATE_KINDS, *FLEET))


class SilentRecorder(EventRecorder):
    """Takes Events and writes none: nobody decides by them, and they are a fifth of all writes."""

    def emit(self, emit: Emit) -> None:
        return


class Controllers(Manager):
    """The manager of a history. Without `aloud` its Events are not written."""

    def __init__(self, client: Client, clock: Clock, ids: Ids, *, aloud: bool) -> None:
        super().__init__(client, clock, ids, component="federation")
        if not aloud:
            self.recorder = SilentRecorder(client, clock, ids, component=self.component)
            self.executor = Executor(client, self.recorder)


class FusedStore(MemoryStore):
    """A store under a process that can die right after any write: the write stands, and nobody is told."""

    def __init__(self) -> None:
        super().__init__()
        self._left: int | None = None
        self._blown: Callable[[], None] = lambda: None
        self._grave: asyncio.Future[None] | None = None

    def arm(self, writes: int, blown: Callable[[], None]) -> None:
        """Die after so many more writes; `blown` hears of it."""
        self._left, self._blown = writes, blown

    def disarm(self) -> None:
        """Live on."""
        self._left = None

    def die(self) -> None:
        """No write is taken or answered any more until `bury`."""
        self._left = None
        if self._grave is None:
            self._grave = asyncio.get_running_loop().create_future()

    def bury(self) -> None:
        """Whoever still waits for the dead process hears that it is gone; the next one may write."""
        grave, self._grave = self._grave, None
        if grave is not None:
            grave.set_exception(ConnectionError(NO_SERVER))
            _ = grave.exception()  # it is no fault when nobody waited

    async def _living(self) -> None:
        if self._grave is not None:
            await asyncio.shield(self._grave)

    async def _answer(self, row: Row) -> Row:
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.die()
                self._blown()
        await self._living()
        return row

    async def create(
        self, key: str, value: bytes, durability: Durability = Durability.DURABLE
    ) -> Row:
        await self._living()
        return await self._answer(await super().create(key, value, durability))

    async def update(
        self,
        key: str,
        value: bytes,
        expected_revision: int,
        durability: Durability = Durability.DURABLE,
    ) -> Row:
        await self._living()
        return await self._answer(await super().update(key, value, expected_revision, durability))

    async def delete(
        self,
        key: str,
        expected_revision: int,
        value: bytes | None = None,
        durability: Durability = Durability.DURABLE,
    ) -> Row:
        await self._living()
        return await self._answer(await super().delete(key, expected_revision, value, durability))


class FederationServer:
    """`start`, `stop` or `kill`, and `start` again. `setup` may be a broken one, to see that it is caught."""

    def __init__(
        self, clock: Clock, ids: Ids, setup: Setup = controllers, *, aloud: bool = True
    ) -> None:
        """`aloud`: Events are written too."""
        self.clock, self._ids, self._setup, self._aloud = clock, ids, setup, aloud
        self.store = FusedStore()
        self._opened = False
        self.run = 0
        self.api: ApiServer | None = None
        self.manager: Manager | None = None

    @property
    def up(self) -> bool:
        return self.api is not None

    async def start(self) -> None:
        """API first, then controllers; returns when they run."""
        extensions = Extensions(admission=registry.admission(self._ids, committed=self._committed))
        if not self._opened:
            await self.store.start()
        api = ApiServer(scheme(), self.store, CONFIG, self.clock, self._ids, extensions=extensions)
        await api.cache.start()
        if not self._opened:
            self._opened = True
            documents = [*bootstrap.documents(), *access.common()]
            await bootstrap.ensure(api.registry, api.scheme, documents)
        if api.definitions is not None:
            api.definitions.start()
        self.api = api
        self.run += 1
        self.manager = manager = Controllers(
            api.client(manager="federation"), self.clock, self._ids, aloud=self._aloud
        )
        self._setup(manager, api)
        await manager.start()

    def _committed(self) -> Committed | None:
        return self.api.committed if self.api is not None else None

    async def stop(self) -> None:
        """The process ends in order; only the store stays."""
        api, manager = self._gone()
        if manager is not None:
            await manager.stop()
        if api is not None:
            await _close(api)

    async def kill(self) -> None:
        """The process is dead where it stands: what it was about to write or to say is lost."""
        self.store.die()
        api, manager = self._gone()
        if manager is not None:
            await manager.stop(flush=False)
        if api is not None:
            await _close(api)
        self.store.bury()

    def _gone(self) -> tuple[ApiServer | None, Manager | None]:
        api, self.api = self.api, None
        manager, self.manager = self.manager, None
        self.run += 1
        return api, manager

    # ------------------------------------------------------------------------------------------------- clients
    def client(self, manager: str) -> LocalClient:
        """An administrator's client of the running server. Raises ConnectionError when none runs."""
        if self.api is None:
            raise ConnectionError(NO_SERVER)
        return self.api.client(manager=manager)

    def agent(self, cluster: str) -> LocalClient:
        """A client with the rights of a member's agent. Raises ConnectionError when no server runs."""
        if self.api is None:
            raise ConnectionError(NO_SERVER)
        user = UserInfo(AGENT_PREFIX + cluster, (AGENTS, AUTHENTICATED))
        return self.api.client(user, f"agent-{cluster}")

    async def admit(self, cluster: str) -> None:
        """What the approval of a member's certificate brings about."""
        assert self.manager is not None
        _ = await self.manager.executor.apply(membership.grant(cluster))


async def _close(api: ApiServer) -> None:
    api.watches.close_all()
    if api.definitions is not None:
        await api.definitions.stop()
    await api.cache.stop()

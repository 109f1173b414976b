"""The federation server of a history: the real API server without its sockets, and the real controllers.

A restart stops the controllers and the API server and makes new ones over the same store, as a new process would; what
was only in memory (watch cache, informers, queues, heartbeats seen) is gone.
"""

from collections.abc import Callable, Sequence
from functools import cache

from federation.controllers import (
    defaults,
    dependencies,
    detector,
    dispatcher,
    health,
    namespaces,
    placer,
    revisions,
    statuses,
)
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.controller.manager import Manager
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.server.app import ApiServer
from machinery.server.config import ServerConfig
from machinery.server.local import LocalClient
from machinery.store.memory import MemoryStore

Setup = Callable[[Manager], None]

CONTROLLERS: tuple[Setup, ...] = (
    defaults.setup,
    detector.setup,
    placer.setup,
    dispatcher.setup,
    dependencies.setup,
    namespaces.setup,
    statuses.setup,
    revisions.setup,
    health.setup,
)
"""What a federation server runs; a test may hand in a broken one to see that it is caught."""

CONFIG = ServerConfig(name="federation", track_managed_fields=False, service_accounts=False)
FIRST_NAMESPACES = ("default", "kube-system", "kube-public")


@cache
def scheme() -> Scheme:
    """The kinds; the same for every history of a process."""
    return Scheme((*BUILTIN, *FLEET))


class FederationServer:
    """`start`, `stop`, and `start` again."""

    def __init__(self, clock: Clock, ids: Ids, setups: Sequence[Setup] = CONTROLLERS) -> None:
        self.clock, self._ids, self._setups = clock, ids, setups
        self.store = MemoryStore()
        self._opened = False
        self.api: ApiServer | None = None
        self.manager: Manager | None = None

    @property
    def up(self) -> bool:
        return self.api is not None

    async def start(self) -> None:
        """API first, then controllers; returns when they run."""
        if not self._opened:
            self._opened = True
            await self.store.start()
        api = ApiServer(scheme(), self.store, CONFIG, self.clock, self._ids)
        await api.cache.start()
        self.api = api
        await self._first_namespaces(api)
        self.manager = manager = Manager(
            api.client(manager="federation"), self.clock, self._ids, component="federation"
        )
        for setup in self._setups:
            setup(manager)
        await manager.start()

    async def _first_namespaces(self, api: ApiServer) -> None:
        for name in FIRST_NAMESPACES:
            if self.store.get(f"/registry/core/namespaces//{name}") is None:
                await api.client().create(defaults.NAMESPACES, defaults.namespace(name))

    async def stop(self) -> None:
        """The process ends; only the store stays."""
        api, self.api = self.api, None
        manager, self.manager = self.manager, None
        if manager is not None:
            await manager.stop()
        if api is not None:
            api.watches.close_all()
            await api.cache.stop()

    def client(self, manager: str) -> LocalClient:
        """A client of the running server. Raises ConnectionError when none runs."""
        if self.api is None:
            raise ConnectionError("the federation server does not run")
        return self.api.client(manager=manager)

"""The federation server of a history: the real API server without its sockets, and the real controllers.

A restart stops the controllers and the API server and makes new ones over the same store, as a new process would; what
was only in memory (watch cache, informers, queues, heartbeats seen) is gone. Members' agents speak as themselves, so
their rights are checked too; their certificates are not simulated.
"""

from collections.abc import Callable
from functools import cache

from federation.clusters import access
from federation.clusters.admission import MembersObjects, OwnClusterOnly
from federation.controllers import membership, registry
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.controller.manager import Manager
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.server import bootstrap
from machinery.server.app import ApiServer, Extensions
from machinery.server.config import ServerConfig
from machinery.server.local import LocalClient
from machinery.server.pki import AGENT_PREFIX, AGENTS
from machinery.server.user import AUTHENTICATED, UserInfo
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
    return Scheme((*BUILTIN, *FLEET))


class FederationServer:
    """`start`, `stop`, and `start` again. `setup` may be a broken one, to see that it is caught."""

    def __init__(self, clock: Clock, ids: Ids, setup: Setup = controllers) -> None:
        self.clock, self._ids, self._setup = clock, ids, setup
        self.store = MemoryStore()
        self._opened = False
        self.api: ApiServer | None = None
        self.manager: Manager | None = None

    @property
    def up(self) -> bool:
        return self.api is not None

    async def start(self) -> None:
        """API first, then controllers; returns when they run."""
        extensions = Extensions(admission=(OwnClusterOnly(), MembersObjects()))
        if not self._opened:
            await self.store.start()
        api = ApiServer(scheme(), self.store, CONFIG, self.clock, self._ids, extensions=extensions)
        await api.cache.start()
        if not self._opened:
            self._opened = True
            documents = [*bootstrap.documents(), *access.common()]
            await bootstrap.ensure(api.registry, api.scheme, documents)
        self.api = api
        self.manager = manager = Manager(
            api.client(manager="federation"), self.clock, self._ids, component="federation"
        )
        self._setup(manager, api)
        await manager.start()

    async def stop(self) -> None:
        """The process ends; only the store stays."""
        api, self.api = self.api, None
        manager, self.manager = self.manager, None
        if manager is not None:
            await manager.stop()
        if api is not None:
            api.watches.close_all()
            await api.cache.stop()

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

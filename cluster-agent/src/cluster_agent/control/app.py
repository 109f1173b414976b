"""The control plane of one member, put together: store, API server, controllers, scheduler.

One process by default: controllers and scheduler share the server's decoded objects through an in-process client. On
PostgreSQL several may run; then one of them leads, and one that lost the lead stands for it again. Started in order, stopped in reverse; the store closes last.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cluster_agent.control import binder
from cluster_agent.control.controllers import kubernetesservice, registry, servicecidr
from cluster_agent.control.controllers.persistentvolume.provision import default_class
from cluster_agent.control.controllers.serviceimport.addresses import parse_ranges
from cluster_agent.control.estimates import PATH as ESTIMATES_PATH
from cluster_agent.control.estimates import Estimates
from cluster_agent.control.metrics import MemberMetrics
from machinery.api.fleet.capacity_kinds import ESTIMATES
from machinery.api.fleet.multicluster_kinds import MEMBER
from machinery.api.kinds import BUILTIN
from machinery.api.metrics_kinds import METRICS
from machinery.api.scheme import Scheme
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.client.interface import Client
from machinery.client.leaderelection import LeaderElector, candidate
from machinery.controller.leadership import Leadership
from machinery.controller.manager import Manager
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import Document, ObjectKey
from machinery.server import bootstrap
from machinery.server.admission.nodevolumes import NodeVolumes
from machinery.server.admission.protection import StorageObjectInUseProtection
from machinery.server.app import ApiServer, Extensions, settle_collector
from machinery.server.audit.settings import AuditSettings
from machinery.server.config import SERVICE_CIDR
from machinery.server.launch import (
    audit_config,
    keep_admin_kubeconfig,
    server_config,
    write_admin_kubeconfig,
)
from machinery.server.limits import LimitSettings
from machinery.store import sealing
from machinery.store.sql import open_store

log = logging.getLogger(__name__)

LEASE = ObjectKey("kube-system", "cluster-agent-control")


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """What the control plane is told."""

    cluster: str
    """The member's name; certificates and kubeconfigs carry it."""
    data_dir: str
    """Store, keys, admin.kubeconfig."""
    listen: tuple[str, ...] = ("127.0.0.1:6443",)
    """Addresses of the API, host:port."""
    advertise: str = ""
    """The URL under which nodes and people reach it; default: the first listen address."""
    database_url: str = ""
    """postgresql://… for several control planes; default: SQLite in data_dir."""
    service_cidr: str = SERVICE_CIDR
    """Cluster addresses of Services; members that are to reach each other's Services need ranges that do not overlap."""
    clusterset_cidr: str = ""
    """Addresses of Services of the whole fleet, as this member gives them; empty: none are given."""
    authentication_config: str = ""
    """File with an AuthenticationConfiguration: identity providers whose tokens are believed."""

    encryption_config: str = ""
    """File with an EncryptionConfiguration: what lies encrypted in the database."""

    audit: AuditSettings = AuditSettings()
    """The audit log."""

    limits: LimitSettings = LimitSettings()
    """What clients may take of the API."""

    @property
    def store_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir}/store.db"


class Control:
    """The running control plane."""

    def __init__(
        self, config: ControlConfig, clock: Clock, ids: Ids, extensions: Extensions | None = None
    ) -> None:
        self.config = config
        self._clusterset = parse_ranges(config.clusterset_cidr, config.service_cidr)
        self._audit = audit_config(config.audit, config.data_dir)
        self._clock, self._ids = clock, ids
        self._identity = candidate(config.listen[0], ids)
        Path(config.data_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = open_store(config.store_url, sealer=sealing.load(config.encryption_config))
        self._extensions = extensions
        self.server: ApiServer | None = None
        self._leaderships: list[Leadership] = []
        self._tasks = TaskOwner()
        self._metrics = MemberMetrics(self._serving, clock)

    async def start(self) -> ApiServer:
        """Serve the API, then start controllers and scheduler."""
        await self.store.start()
        server = ApiServer(
            Scheme((*BUILTIN, *RUN_BY_MEMBERS, *MEMBER, *ESTIMATES, *METRICS)),
            self.store,
            server_config(
                self.config.cluster,
                self.config.data_dir,
                self.config.listen,
                self.config.advertise,
                service_cidr=self.config.service_cidr,
                taint_new_nodes=True,
                audit=self._audit,
                authentication_config=self.config.authentication_config,
                limits=self.config.limits.limits,
            ),
            self._clock,
            self._ids,
            extensions=self._extended(),
        )
        self.server = server
        await server.start()
        written = write_admin_kubeconfig(server, self.config.data_dir)
        admin = keep_admin_kubeconfig(server, self.config.data_dir, written)
        _ = self._tasks.spawn(admin, "admin kubeconfig")
        await self._start_controllers(server)
        _ = self._tasks.spawn(self._metrics.gatherer().run_forever(), "metrics")
        settle_collector()
        return server

    def _extended(self) -> Extensions:
        """What was given, and the reviews and metrics of a member."""
        given = self._extensions or Extensions()
        estimates = Estimates(self._own_client, self._clock)
        return replace(
            given,
            reviews={**given.reviews, ESTIMATES_PATH: estimates.answer},
            computed={**given.computed, **self._metrics.sources()},
            admission=[*given.admission, StorageObjectInUseProtection(), NodeVolumes()],
            bootstrap=[
                *given.bootstrap,
                bootstrap.metrics_reader(),
                default_class(),
                *self._cidrs(),
            ],
        )

    def _cidrs(self) -> list[Document]:
        """The ServiceCIDR of the configured ranges, if there are any."""
        cidrs = self.config.service_cidr
        return [servicecidr.default_cidr(cidrs)] if cidrs.strip() else []

    def _serving(self) -> ApiServer:
        assert self.server is not None, "it answers requests"
        return self.server

    def _own_client(self) -> Client:
        return self._serving().client(manager="estimates")

    async def _start_controllers(self, server: ApiServer) -> None:
        for build in (self._controllers, self._scheduler):
            self._leaderships.append(Leadership(partial(build, server)))
        for leadership in self._leaderships:
            await leadership.start()

    def _controllers(self, server: ApiServer, on_lost: Callable[[], None]) -> Manager:
        manager = self._manager(server, "controller-manager", on_lost)
        settings = registry.Settings(
            kinds=[kind for kind in server.scheme.kinds if kind.storable],
            ca_pem=server.ca_pem,
            signer=server.authority,
            api=self._api_address(server),
            cluster=self.config.cluster,
            clusterset=self._clusterset,
        )
        registry.setup_all(manager, settings)
        return manager

    def _scheduler(self, server: ApiServer, on_lost: Callable[[], None]) -> Manager:
        manager = self._manager(server, "default-scheduler", on_lost)
        _ = binder.setup(manager, volumes=True)
        return manager

    def _api_address(self, server: ApiServer) -> kubernetesservice.ApiAddress:
        """Where pods find the API: what is advertised if that is an address, else the first address listened on."""
        place = urlsplit(server.url)
        allocator = server.registry.services
        own = allocator.own_address if allocator is not None else ""
        return kubernetesservice.ApiAddress(own, place.hostname or "", place.port or 443)

    def _manager(self, server: ApiServer, component: str, on_lost: Callable[[], None]) -> Manager:
        client = server.client(manager=component)
        elector = None
        if self.config.database_url:
            lease = ObjectKey(LEASE.namespace, f"{LEASE.name}-{component}")
            elector = LeaderElector(client, self._clock, lease, self._identity)
        return Manager(
            client,
            self._clock,
            self._ids,
            component=component,
            elector=elector,
            on_lost=on_lost,
        )

    async def stop(self) -> None:
        """Controllers, API, store."""
        await self._tasks.close()
        for leadership in reversed(self._leaderships):
            await leadership.stop()
        if self.server is not None:
            await self.server.stop()
        await self.store.close()

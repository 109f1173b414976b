"""The federation server, put together: store, API server, links and mirrors, controllers.

    store → API (with links, forwarding, mirrors) → controllers, where this server leads

Several servers may run on one PostgreSQL: all serve, one leads. A leader whose database is away stops its controllers, goes
on to serve reads and links, and stands for the lead again. One that sees another lead ends its process, so that its links
go to where the leader is; its supervisor starts it again as a follower.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import uvloop

from federation import __version__
from federation.clusters import access, metrics, proxying, servers
from federation.clusters.commands import PodCommands
from federation.clusters.estimates import MemberEstimator
from federation.clusters.forward import Forwarder
from federation.clusters.links import Links
from federation.clusters.metrics import MemberMetrics
from federation.clusters.mirroring import MIRRORED_KINDS, away_warning
from federation.clusters.mirrors import Mirrors
from federation.clusters.proxying import ProxyForwarder
from federation.clusters.refusals import Refusals
from federation.config import FederationConfig
from federation.controllers import registry
from federation.domains.clock import FailureClock
from federation.reviews.registry import reviews
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.api.metrics_kinds import METRICS
from machinery.api.scheme import Scheme, ServedKind
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.client.leaderelection import LeaderElector, candidate
from machinery.controller.leadership import Leadership
from machinery.controller.manager import Manager
from machinery.controllers import rolesums
from machinery.kit import config as settings
from machinery.kit import log as logs
from machinery.kit.clock import Clock, SystemClock
from machinery.kit.config import ConfigError
from machinery.kit.ids import Ids, SystemIds
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.meta.selectors import from_object
from machinery.server import bootstrap
from machinery.server.app import ApiServer, Extensions, settle_collector
from machinery.server.cache import Selection
from machinery.server.launch import (
    audit_config,
    keep_admin_kubeconfig,
    server_config,
    write_admin_kubeconfig,
)
from machinery.server.local import MirrorWriter
from machinery.store import sealing
from machinery.store.sql import open_store
from machinery.wire.link import LINK_PATH

log = logging.getLogger(__name__)

NAME = "federation"
LEASE = ObjectKey("kube-system", "federation-server")
LOADING = (100_000, 50, 1_000)
"""Thresholds of Python's collector until it is settled: what a full database is read into is no garbage."""
STREAMS = ("log", "exec", "attach", "portforward")


class ServerMirrors:
    """The API server's mirror writer, by resource."""

    def __init__(self, writer: MirrorWriter, scheme: Scheme) -> None:
        self._writer, self._scheme = writer, scheme

    def _kind(self, resource: Resource[Document]) -> ServedKind:
        kind = self._scheme.by_gvk(resource.group, resource.version, resource.kind)
        assert kind is not None, f"{resource} is mirrored but not served"
        return kind

    async def put(self, resource: Resource[Document], document: Document) -> None:
        await self._writer.put(self._kind(resource), document)

    async def remove(self, resource: Resource[Document], key: ObjectKey) -> None:
        await self._writer.remove(self._kind(resource), key)


class Sight:
    """What the API server here has of members, for the proxies."""

    def __init__(self, serving: Callable[[], ApiServer], members: Callable[[], list[str]]) -> None:
        self._serving, self._members = serving, members

    def service(self, key: ObjectKey) -> Document | None:
        return self._serving().peek("core/services", key.namespace, key.name)

    def pods(self, namespace: str, selector: Mapping[str, str]) -> Iterable[Document]:
        server = self._serving()
        kind = server.scheme.by_plural("", "v1", "pods")
        assert kind is not None, "the federation serves pods"
        selection = Selection(namespace, from_object({"matchLabels": selector}))
        return [entry.document() for entry in server.cache.of(kind).select(selection)]

    def members(self) -> Iterable[str]:
        return self._members()


class FederationServer:
    """One running server."""

    def __init__(self, config: FederationConfig, clock: Clock, ids: Ids) -> None:
        self.config = config
        self._clock, self._ids = clock, ids
        self._audit = audit_config(config.audit, config.dataDir)
        Path(config.dataDir).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = open_store(
            config.store_url, migrate_to="heads", sealer=sealing.load(config.encryptionConfig)
        )
        self.refusals = Refusals(clock)
        self.links = Links(clock, self.refusals.refused)
        self.lost = asyncio.Event()
        """Set when another leads."""
        self.server: ApiServer | None = None
        self._mirrors: Mirrors | None = None
        self._identity = candidate(config.listen[0], ids)
        self._leadership: Leadership | None = None
        self._tasks = TaskOwner()

    async def start(self) -> ApiServer:
        """Serve, then lead or stand by."""
        gc.set_threshold(*LOADING)
        await self.store.start()
        server = self.server = ApiServer(
            Scheme([*BUILTIN, *TEMPLATE_KINDS, *FLEET, *METRICS]),
            self.store,
            server_config(
                NAME,
                self.config.dataDir,
                self.config.listen,
                self.config.advertise,
                accounts=False,
                service_cidr=self.config.serviceCidr,
                service_templates=True,  # each member gives its own addresses
                audit=self._audit,
                authentication_config=self.config.authenticationConfig,
                limits=self.config.limits.limits,
            ),
            self._clock,
            self._ids,
            extensions=self._extensions(),
        )
        self._mirrors = Mirrors(
            self.links, ServerMirrors(server.mirror, server.scheme), self._clock
        )
        await server.start()
        written = write_admin_kubeconfig(server, self.config.dataDir)
        admin = keep_admin_kubeconfig(server, self.config.dataDir, written)
        _ = self._tasks.spawn(admin, "admin kubeconfig")
        self._leadership = Leadership(partial(self._manager, server), self.lost.set)
        await self._leadership.start()
        url = servers.own_url(self.config.listen[0], self.config.replicaUrl)
        if self.config.databaseUrl and url:
            client = server.client(manager="federation-server")
            _ = self._tasks.spawn(servers.announce(client, self._clock, url), "announce")
        client = server.client(manager="federation-server")
        _ = self._tasks.spawn(self.refusals.run_forever(client), "refusals")
        settle_collector()
        return server

    def _extensions(self) -> Extensions:
        forwarder = Forwarder(self.links, self._pod, self._node)
        proxies = ProxyForwarder(
            self.links, Sight(self._serving, self._members), self._pod, self._node
        )
        return Extensions(
            connects={
                **{("pods", stream): forwarder.connect for stream in STREAMS},
                **{(plural, "proxy"): proxies.connect for plural in proxying.SINGULARS},
            },
            interceptors={
                ("delete", "", "pods"): forwarder.delete,
                ("patch", "", "pods"): forwarder.patch,
                ("patch", "", "nodes"): forwarder.patch,
                ("create", "", "pods/eviction"): forwarder.evict,
            },
            raw_routes={LINK_PATH: self.links.accept},
            reviews=reviews(self._serving, self._clock, self._ids),
            admission=registry.admission(
                self._ids,
                no_execute=self.config.allowNoExecuteTaintPolicy,
                committed=lambda: self.server.committed if self.server is not None else None,
                noted=self.refusals.conflict,
            ),
            bootstrap=[*access.common(), bootstrap.metrics_reader()],
            computed=metrics.sources(metrics.Fleet(self.links, self._members, self._mirror)),
            list_warnings=self._list_warnings,
        )

    def _list_warnings(self, kind: ServedKind) -> Sequence[str]:
        """Who is missing from a list of members' objects."""
        if kind.kind not in MIRRORED_KINDS or self.server is None:
            return ()
        return away_warning(self._members(), self.links.connected)

    def _members(self) -> list[str]:
        server = self._serving()
        clusters = server.scheme.by_gvk(*CLUSTERS.gvk)
        assert clusters is not None, "the federation serves Clusters"
        return [entry.name for entry in server.cache.of(clusters).entries.values()]

    def _serving(self) -> ApiServer:
        assert self.server is not None, "it answers when it serves"
        return self.server

    def _pod(self, key: ObjectKey) -> Document | None:
        return self._mirror("core/pods", key)

    def _node(self, name: str) -> Document | None:
        return self._mirror("core/nodes", ObjectKey("", name))

    def _mirror(self, path: str, key: ObjectKey) -> Document | None:
        return self._serving().peek(path, key.namespace, key.name)

    def _manager(self, server: ApiServer, on_lost: Callable[[], None]) -> Manager:
        """All controllers, not started."""
        client = server.client(manager="federation-controllers")
        elector = None
        if self.config.databaseUrl:
            elector = LeaderElector(client, self._clock, LEASE, self._identity)
        manager = Manager(
            client,
            self._clock,
            self._ids,
            component="federation-controllers",
            elector=elector,
            on_lost=on_lost,
        )
        registry.setup_all(
            manager,
            registry.Settings(
                kinds=[kind for kind in server.scheme.kinds if kind.storable],
                authority=server.authority,
                clock=FailureClock(
                    suspect_s=self.config.heartbeatSuspectSeconds,
                    unreachable_s=self.config.heartbeatUnreachableSeconds,
                ),
                stabilization_s=self.config.failbackStabilizationSeconds,
                left=self._left,
                commands=PodCommands(self.links),
                metrics=MemberMetrics(self.links),
                estimator=MemberEstimator(self.links),
            ),
        )
        rolesums.setup(
            manager
        )  # here and not in the registry: nobody reads roles in a simulated fleet
        return manager

    def _left(self, cluster: str) -> None:
        if self._mirrors is not None and not self._tasks.closed:
            _ = self._tasks.spawn(self._mirrors.forget(cluster), f"forget-{cluster}")

    async def stop(self) -> None:
        """Controllers, links, API, store."""
        await self._tasks.close()
        if self._leadership is not None:
            await self._leadership.stop()
        if self._mirrors is not None:
            await self._mirrors.close()
        await self.links.close()
        if self.server is not None:
            await self.server.stop()
        await self.store.close()


async def run(config: FederationConfig) -> None:
    """The whole life of the process: until SIGTERM, SIGINT, or the loss of the lead to another."""
    federation = FederationServer(config, SystemClock(), SystemIds())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await federation.start()
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(stop.wait()), group.create_task(federation.lost.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    await federation.stop()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="federation-server", description="The federation server.")
    top.add_argument("--version", action="version", version=f"federation-server {__version__}")
    top.add_argument("--config", required=True, help="YAML file")
    top.add_argument("--log-level", default="info", help="debug, info, warning, error")
    top.add_argument("--log-file", default=None, help="default: standard error")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command."""
    arguments = parser().parse_args(argv)
    try:
        logs.setup(NAME, arguments.log_level, arguments.log_file)
        url = os.environ.get("FEDERATION_DATABASE_URL")
        config = settings.load(FederationConfig, file=arguments.config, flags={"databaseUrl": url})
        uvloop.run(run(config))
    except (ConfigError, ValueError) as error:
        print(f"federation-server: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except OSError as error:
        print(f"federation-server: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0

"""Composition of the link: identity first, then heartbeat, report, reversed connections, services over clusters, Works.

Everything here may fail for hours without harm to the member: each part tries again by itself.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import web

from cluster_agent.link.clusterset import Clusterset
from cluster_agent.link.dialers import Dialers
from cluster_agent.link.foreign_remarks import Remark, Remarks
from cluster_agent.link.grants import Grants
from cluster_agent.link.heartbeat import Heartbeat
from cluster_agent.link.identity import AgentIdentity, CertificateExpired, FederationAccess
from cluster_agent.link.interpreters import Interpreters
from cluster_agent.link.inventory import Inventory
from cluster_agent.link.member import Member, Resolve
from cluster_agent.link.report import Kinds, Place, Reporter, prove
from cluster_agent.link.works import WorkReconciler, carries, needs_grants, work_keys
from machinery.api.coordination import Lease
from machinery.api.core import NAMESPACES, NODES, PODS, Node
from machinery.api.fleet.cluster import AGENT_INSTANCE, CLUSTER_ID, execution_namespace
from machinery.api.fleet.work import MANAGED_LABEL, WORK_DOCUMENTS
from machinery.client.identity import SigningRefused, SigningTimeout
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.client.rest import RestClient
from machinery.controller.manager import ControllerBuilder, Manager
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document, ObjectKey, Resource, document_key
from machinery.scripts.customizations import Kind
from machinery.wire.linkdialer import DialTarget, LinkDialer

log = logging.getLogger(__name__)

JOIN_BACKOFF = Backoff(base_s=0.5, cap_s=30.0, jitter=0.5)
KIND_CHECK_S = 10.0
"""How soon the copy of a kind that is served no more is dropped."""
SYSTEM_NAMESPACE = ObjectKey("", "kube-system")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """What the link is told."""

    place: Place
    """Name and place of the member, and what it serves."""
    access: FederationAccess
    """Where the federation is; the token only matters until there is a certificate."""
    directory: Path
    """Where the certificate is kept."""
    own_nodes: bool = True
    """Whether our node process runs there: it enforces grants and carries services over clusters; without it both are off."""
    alive: Callable[[], Awaitable[None]] | None = None
    """Asked before each heartbeat; it raises ConnectionError where the member must not be said to be there."""
    kinds: Callable[[], Kinds] | None = None
    """What the member serves by now, where that changes while it runs; None: it is said by `Link.moved`."""
    remarks: Callable[[], Sequence[Remark]] | None = None
    """Conditions to keep on the member's Cluster."""


class Link:
    """The member's side of the federation."""

    def __init__(
        self,
        config: LinkConfig,
        member: Client,
        handler: Handler,
        resolve: Resolve,
        clock: Clock,
        ids: Ids,
    ) -> None:
        """`member` is the member's own API, `handler` serves it to the federation, `resolve` knows its kinds."""
        self._config, self._member, self._handler = config, member, handler
        self._resolve, self._clock, self._ids = resolve, clock, ids
        self._roll = random.Random(ids.uid()).random  # noqa: S311 - jitter
        self._tasks = TaskOwner()
        self._copies: dict[Resource[Document], Informer[Document]] = {}
        self._manager: Manager | None = None
        self._dialers: Dialers | None = None
        self._federation: RestClient | None = None
        self._inventory: Inventory | None = None
        self._nodes: Informer[Node] | None = None
        self._grants: Grants | None = None
        self._clusterset: Clusterset | None = None
        self._reporter: Reporter | None = None

    @property
    def connected(self) -> bool:
        """Whether the federation can reach the member now."""
        return self._dialers is not None and self._dialers.connected

    def start(self) -> None:
        """Join and keep linked, in the background."""
        _ = self._tasks.spawn(self._run(), "link")

    def moved(self, place: Place) -> None:
        """The member's version or kinds have changed: tell the federation."""
        if self._reporter is not None:
            self._reporter.moved(place)

    async def stop(self) -> None:
        """Let go of everything."""
        await self._tasks.close()
        if self._dialers is not None:
            await self._dialers.close()
        if self._clusterset is not None:
            await self._clusterset.stop()
        if self._manager is not None:
            await self._manager.stop()
        if self._federation is not None:
            await self._federation.close()

    async def _run(self) -> None:
        identity = AgentIdentity(
            self._config.place.cluster, self._config.access, self._config.directory, self._clock
        )
        await self._join(identity)
        federation = RestClient(self._config.access.url, identity.context)
        self._federation = federation
        _ = self._tasks.spawn(identity.renew_forever(), "link-identity")
        cluster, uid = self._config.place.cluster, await self._cluster_id()
        await prove(federation, self._clock, cluster, uid)
        if self._config.own_nodes:
            self._grants = Grants(federation, self._member, cluster)
        heartbeat = Heartbeat(
            federation,
            self._clock,
            cluster,
            self._heartbeat,
            self._grants,
            self._answered,
            self._config.alive,
            {CLUSTER_ID: uid, AGENT_INSTANCE: self._ids.uid()},
        )
        _ = self._tasks.spawn(heartbeat.run_forever(), "link-heartbeat")
        await self._report(federation, uid)
        self._dial(identity, federation)
        if self._config.own_nodes:
            self._share(federation)
        if self._config.remarks is not None:
            remarks = Remarks(federation, self._clock, cluster, self._config.remarks)
            _ = self._tasks.spawn(remarks.run_forever(), "link-remarks")
        await self._works(federation)

    def _heartbeat(self, lease: Lease) -> None:
        if self._dialers is not None:
            self._dialers.hurry()
        if self._inventory is not None:
            self._inventory.heard(lease)

    def _answered(self) -> str:
        return self._inventory.answered if self._inventory is not None else ""

    async def _join(self, identity: AgentIdentity) -> None:
        failures = 0
        while True:
            try:
                await identity.obtain()
                return
            except (
                StatusError,
                ConnectionError,
                TimeoutError,
                SigningRefused,
                SigningTimeout,
                CertificateExpired,
            ) as error:
                failures += 1
                log.warning("not joined yet", extra={"error": str(error), "failures": failures})
                await self._clock.sleep(JOIN_BACKOFF.delay(failures, self._roll))

    async def _report(self, federation: Client, uid: str) -> None:
        nodes = self._nodes = Informer(self._member, NODES, self._clock)
        pods = Informer(self._member, PODS, self._clock)
        _ = self._tasks.spawn(nodes.run(), "link-nodes")
        _ = self._tasks.spawn(pods.run(), "link-pods")
        await nodes.wait_synced()
        await pods.wait_synced()
        if self._grants is not None:
            self._grants.watch(pods)
        config = self._config
        reporter = Reporter(federation, self._clock, config.place, uid, nodes, pods, config.kinds)
        self._reporter = reporter
        _ = self._tasks.spawn(reporter.run_forever(), "link-report")

    async def _cluster_id(self) -> str:
        """The uid of the member's kube-system, as Karmada has it. A foreign API server may be away just now."""
        failures = 0
        while True:
            try:
                return (await self._member.get(NAMESPACES, SYSTEM_NAMESPACE)).metadata.uid
            except (StatusError, ConnectionError, TimeoutError) as error:
                failures += 1
                log.warning("the member does not say its id", extra={"error": str(error)})
                await self._clock.sleep(JOIN_BACKOFF.delay(failures, self._roll))

    def _share(self, federation: Client) -> None:
        """Services over clusters."""
        assert self._nodes is not None
        self._clusterset = Clusterset(
            federation,
            self._member,
            self._clock,
            self._ids,
            self._config.place.cluster,
            self._config.access.ca,
        )
        self._clusterset.start(self._nodes)

    def _dial(self, identity: AgentIdentity, federation: Client) -> None:
        query = urlencode({"cluster": self._config.place.cluster})

        def dialer(url: str) -> LinkDialer:
            return LinkDialer(
                DialTarget([url], query),
                self._handler,
                self._clock,
                tls=lambda: identity.context,
                roll=self._roll,
            )

        self._dialers = Dialers(dialer, self._config.access.url)
        _ = self._tasks.spawn(self._dialers.follow(federation, self._clock), "link-dialers")

    async def _copy(self, copy: Informer[Document]) -> None:
        """Keep the copy of a kind as long as the member serves it: a custom kind may go."""
        resource = copy.resource
        running = self._tasks.spawn(copy.run(), f"link-copying-{resource.plural}")
        while self._resolve(resource.api_version, resource.kind) == resource:
            await self._clock.sleep(KIND_CHECK_S)
        self._copies.pop(resource, None)
        _ = running.cancel()

    async def _works(self, federation: Client) -> None:
        manager = Manager(federation, self._clock, self._ids, component="cluster-agent")
        self._manager = manager
        namespace = execution_namespace(self._config.place.cluster)
        works = manager.informer(WORK_DOCUMENTS, namespace)
        holder: list[ControllerBuilder] = []

        def watch(resource: Resource[Document]) -> Informer[Document]:
            copy = self._copies.get(resource)
            if copy is None:
                copy = self._copies[resource] = Informer(
                    self._member,
                    resource,
                    self._clock,
                    label_selector=f"{MANAGED_LABEL}=true",
                )
                holder[0].watches_informer(copy, work_keys)
                _ = self._tasks.spawn(self._copy(copy), f"link-copy-{resource.plural}")
            return copy

        interpreters = Interpreters(federation, self._clock)
        member = Member(self._member, self._resolve, watch, self._clock, interpreters.now)
        refusal = None if self._config.own_nodes else needs_grants
        reconciler = WorkReconciler(manager, member, works, refusal, interpreters.now)
        controller = manager.controller("works", reconciler)
        holder.append(controller)
        controller.watches(WORK_DOCUMENTS, namespace=namespace, when=reconciler.news)

        def said_otherwise(kind: Kind) -> None:
            for work in works.list():
                if carries(work, kind):
                    controller.enqueue(document_key(work))

        await interpreters.follow(self._tasks, said_otherwise)
        await manager.start()
        cluster = self._config.place.cluster
        inventory = Inventory(federation, self._member, self._clock, cluster, reconciler.bring)
        self._inventory = inventory
        _ = self._tasks.spawn(inventory.run_forever(), "link-inventory")

"""The API server put together: store, watch cache, registry, identity, rights, HTTPS front, in-process clients.

`ApiServer` is the only place that constructs them. Programs add to it by extensions: handlers for streams of their own
pods, interceptors that answer a verb on a kind, raw routes that may take over the connection, more admission, more
authenticators, kinds that are answered and not stored. `start` returns when requests are served.
"""

import gc
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from machinery.api.discovery_kinds import SERVICE_NAME_LABEL
from machinery.api.scheme import Scheme, ServedKind
from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.kit.metrics import METRICS
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import Document
from machinery.meta.selectors import parse
from machinery.server import bootstrap
from machinery.server.admission.asking import answer_of
from machinery.server.admission.defaultclasses import DefaultIngressClass, DefaultStorageClass
from machinery.server.admission.escalation import RbacEscalation, SignerRights
from machinery.server.admission.interface import Admission, Plugin
from machinery.server.admission.limitranger import LimitRanger
from machinery.server.admission.matching import Equivalents
from machinery.server.admission.plugins import (
    CertificateIdentity,
    DefaultTolerationSeconds,
    NamespaceLifecycle,
    NodeRestriction,
    Priority,
    RuntimeClass,
    TaintNewNodes,
)  # fmt: skip
from machinery.server.admission.podsecurity import PodSecurity
from machinery.server.admission.policies.plugins import policies
from machinery.server.admission.registered import Registered
from machinery.server.admission.serviceaccount import ServiceAccount
from machinery.server.admission.webhooks import Webhooks
from machinery.server.audit.auditor import Auditor
from machinery.server.audit.local import AuditedLocal
from machinery.server.authn import API_AUDIENCE, Authenticator, ExtraAuthenticator
from machinery.server.authz import Authorizer
from machinery.server.cache import KindCache, Selection, WatchCache
from machinery.server.call import Interceptor
from machinery.server.codec import REGISTRY
from machinery.server.committed import Committed
from machinery.server.computed import ComputedKinds, Sources
from machinery.server.config import ServerConfig
from machinery.server.definitions import Definitions
from machinery.server.handlers import Api, ListWarnings
from machinery.server.http import Front, RawRoute
from machinery.server.listing import Lister
from machinery.server.local import Local, LocalClient, MirrorWriter
from machinery.server.node_proxy import NodeProxy
from machinery.server.oidc.users import OidcUsers
from machinery.server.peek import Peek
from machinery.server.pki import (
    CertificateAuthority,
    Pair,
    client_context,
    load_pair,
    server_context,
)
from machinery.server.plain import Plain
from machinery.server.podverbs import PodVerbs
from machinery.server.proxy.proxies import Proxies
from machinery.server.proxy.relay import Reach
from machinery.server.quick import Counts, Gate, Quick, QuickGet
from machinery.server.quick_write import QuickWrite
from machinery.server.registry import Registry
from machinery.server.resealing import reseal
from machinery.server.reviews import Reviews
from machinery.server.subresources import ConnectHandler, OwnReview, Subresources
from machinery.server.tokens import TokenIssuer
from machinery.server.user import LOOPBACK, UserInfo
from machinery.server.watch import Watches
from machinery.server.watching import WatchServer
from machinery.server.webhooks.client import WebhookClient
from machinery.server.webhooks.conversion import Conversions
from machinery.server.webhooks.target import places
from machinery.store.interface import Store

log = logging.getLogger(__name__)

KUBELET_CLIENT = "kube-apiserver-kubelet-client"
KUBELET_CLIENT_DAYS = 365
RENEW_CHECK_S = 3600.0


@dataclass(frozen=True, slots=True)
class Extensions:
    """What a program adds to its API server."""

    connects: Mapping[tuple[str, str], ConnectHandler] = field(default_factory=dict)
    """(plural, subresource) -> handler of log, exec, attach, portforward, proxy; None from it: the usual way."""
    interceptors: Mapping[tuple[str, str, str], Interceptor] = field(default_factory=dict)
    """(verb, group, plural or plural/subresource) -> may answer the request itself."""
    raw_routes: Mapping[str, RawRoute] = field(default_factory=dict)
    """Path -> handler of an authenticated request; it authorizes, and may take over the connection."""
    reviews: Mapping[tuple[str, str], OwnReview] = field(default_factory=dict)
    """(group, plural) -> the answer to a create-only kind of the program's own."""
    authenticators: Sequence[ExtraAuthenticator] = ()
    """Asked for requests that carry neither token nor certificate."""
    admission: Sequence[Plugin] = ()
    """Plugins after the built-in ones."""
    list_warnings: ListWarnings | None = None
    """Asked at each LIST of a kind over HTTP; its texts become `Warning: 299` headers."""
    bootstrap: Sequence[Document] = ()
    """Objects that are created at start when missing."""
    reach: Reach | None = None
    """How pods are reached by `pods/proxy` and `services/proxy`; None: by the machine's own routes."""
    computed: Sources = field(default_factory=dict)
    """(group, plural) of a computed kind -> who makes its objects."""


class ApiServer:
    """One API server in this process."""

    def __init__(
        self,
        scheme: Scheme,
        store: Store,
        config: ServerConfig,
        clock: Clock,
        ids: Ids,
        *,
        extensions: Extensions | None = None,
    ) -> None:
        scheme = self.scheme = scheme.own()
        self.store = store
        self.config = config
        self.clock = clock
        self.extensions = extensions or Extensions()
        self.ready = False
        self._tasks = TaskOwner()
        self._peek = Peek(store)
        self.authority = _authority(config, clock)
        self.issuer = TokenIssuer.load_or_create(config.pki_dir, API_AUDIENCE, clock, ids)
        self.cache = WatchCache(store, scheme.kinds, config)
        self.authorizer = Authorizer(self.cache, scheme.kinds)
        self._oidc = _oidc(config, clock)
        self.authenticator = Authenticator(
            self._lookup,
            self.issuer,
            clock,
            config.static_tokens,
            self.extensions.authenticators,
            self._oidc,
        )
        plugins = [*self._plugins(ids), *self.extensions.admission]
        admission = Admission(plugins, self._policies())
        self.registry = Registry(store, self.cache, scheme, admission, config, clock, ids)
        self.webhooks = WebhookClient(self._places_of_service)
        self.registry.maker.webhooks = self._webhooks(ids)
        self.watches = Watches(self.cache, config)
        self.definitions = self._make_definitions(ids)
        self.lister = Lister(self.cache, clock, config.snapshot_ttl_s)
        kubelet_pair = self.authority.issue_client(KUBELET_CLIENT, ("system:masters",))
        kubelet_tls = client_context(self.ca_pem, kubelet_pair, check_hostname=False)
        self.node_proxy = NodeProxy(self.registry, scheme, kubelet_tls)
        self.subresources = Subresources(
            self.registry,
            Reviews(self.authorizer, self.authenticator, clock),
            PodVerbs(self.registry, scheme, self.issuer),
            self.node_proxy,
            Proxies(self.registry, scheme, self.node_proxy, self.extensions.reach),
            self.extensions.connects,
            self.extensions.reviews,
        )
        self.mirror = MirrorWriter(store)
        self._computed = ComputedKinds(self.extensions.computed)
        self._local = Local(
            scheme, self.registry, self.lister, self.watches, self.subresources, self.authorizer,
            self.extensions.interceptors, self._computed,
        )  # fmt: skip
        self.auditor = (
            None
            if config.audit is None
            else Auditor(config.audit, scheme, self.authorizer, clock, ids)
        )
        counts: Counts = {}
        self.quick, self.quick_write = self._make_quick(counts)
        self._front = self._make_front(ids, counts)

    # ------------------------------------------------------------------------------------------------- assembly
    def _make_definitions(self, ids: Ids) -> Definitions | None:
        kind = self.scheme.by_plural("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        if kind is None:
            return None
        conversions = Conversions(self.webhooks, self.clock, ids)
        return Definitions(kind, self.scheme, self.registry, self.watches, self.clock, conversions)

    def _plugins(self, ids: Ids) -> list[Plugin]:
        plugins: list[Plugin] = [NamespaceLifecycle(self.peek)]
        if self.config.service_accounts:
            plugins.append(ServiceAccount(self.peek, ids))
        return [
            *plugins,
            LimitRanger(self._cache_of("", "limitranges")),
            DefaultStorageClass(self._cache_of("storage.k8s.io", "storageclasses")),
            DefaultIngressClass(self._cache_of("networking.k8s.io", "ingressclasses")),
            DefaultTolerationSeconds(),
            Priority(self._cache_of("scheduling.k8s.io", "priorityclasses")),
            RuntimeClass(self._cache_of("node.k8s.io", "runtimeclasses")),
            *((TaintNewNodes(),) if self.config.taint_new_nodes else ()),
            CertificateIdentity(self.clock),
            RbacEscalation(self.authorizer),
            SignerRights(self.authorizer),
            NodeRestriction(self.peek),
            PodSecurity(self.peek, self._cache_of("", "pods")),
        ]

    def _webhooks(self, ids: Ids) -> Webhooks:
        caches = [self._cache_of(kind.group, kind.plural) for kind in (MUTATING, VALIDATING)]
        registered = Registered(caches[0], caches[1], Equivalents(self.scheme))
        self.cache.on_load.append(registered.load)
        found = Webhooks(registered, self.webhooks, self._labels_of_namespace, ids)
        found.answers = partial(answer_of, self.authorizer)
        return found

    def _labels_of_namespace(self, name: str) -> Mapping[str, str] | None:
        namespace = self.peek("core/namespaces", "", name)
        return None if namespace is None else namespace["metadata"].get("labels") or {}

    def _places_of_service(self, namespace: str, name: str, port: int) -> list[tuple[str, int]]:
        """Where a webhook's service is reached. Raises Unresolved."""
        slices = self._cache_of("discovery.k8s.io", "endpointslices")
        found = [] if slices is None else slices.select(
            Selection(namespace, parse(f"{SERVICE_NAME_LABEL}={name}"))
        )  # fmt: skip
        service = self.peek("core/services", namespace, name)
        return places(name, port, service, [entry.document() for entry in found])

    def _policies(self) -> list[Plugin]:
        """Users' policies, judged behind all plugins."""
        return policies(self.scheme, self.store, self.cache, self.authorizer, self.peek)

    def _make_quick(self, counts: Counts) -> tuple[QuickGet, QuickWrite]:
        gate = Gate(
            self.scheme, self.authenticator, self.authorizer,
            self.extensions.interceptors, self.extensions.raw_routes,
        )  # fmt: skip
        quick = QuickGet(gate, self.store, self.config.gzip_bytes_min, counts, self.auditor)
        write = QuickWrite(gate, self.registry, self.config.gzip_bytes_min, counts, self.auditor)
        return quick, write

    def _make_front(self, ids: Ids, counts: Counts) -> Front:
        watch_server = WatchServer(self.cache, self.watches, self.config, self.clock, ids)
        api = Api(
            self.scheme, self.registry, self.lister, watch_server, self.subresources, self.config,
            self.clock, self.extensions.interceptors, self.extensions.list_warnings,
            self.definitions, self._computed,
        )  # fmt: skip
        checks = {
            "etcd": self._store_fault,
            "informer-sync": lambda: "" if self.ready else "not synced",
            "shutdown": lambda: "" if self.ready else "not serving",
        }
        plain = Plain(self.scheme, checks, self.issuer, lambda: self.url, self._render_metrics)
        current = self.store.reads_are_current
        quick = Quick(self.quick.answer, self.quick_write.begin, counts) if current else None
        return Front(
            self.config, self.authenticator, self.authorizer, self.clock, api, plain,
            self.extensions.raw_routes, quick, self.auditor,
        )  # fmt: skip

    def _cache_of(self, group: str, plural: str) -> KindCache | None:
        kind = self._storable(group, plural)
        return None if kind is None else self.cache.of(kind)

    def _storable(self, group: str, plural: str) -> ServedKind | None:
        return next(
            (
                k
                for k in self.scheme.kinds
                if k.group == group and k.plural == plural and k.storable
            ),
            None,
        )

    def _lookup(self, plural: str, namespace: str, name: str) -> bytes | None:
        row = self.store.get(f"{REGISTRY}core/{plural}/{namespace}/{name}")
        return None if row is None else row.value

    def peek(self, path: str, namespace: str, name: str) -> Document | None:
        """The committed object of a kind (`core/pods`), without waiting."""
        return self._peek(path, namespace, name)

    @property
    def committed(self) -> Committed:
        """What is committed, for admission that looks at other objects."""
        return Committed(self.scheme, self.store, self.cache)

    def _store_fault(self) -> str:
        return "" if self.ready else "the store has not been read yet"

    # ------------------------------------------------------------------------------------------------- life
    async def start(self) -> None:
        """Read the store (which must have been started), create what is missing, listen. Raises OSError."""
        if self.auditor is not None:
            self.auditor.start()
        await self.cache.start()
        if self.definitions is not None:
            self.definitions.start()
        if self._oidc is not None:
            await self._oidc.start()
        await bootstrap.ensure(
            self.registry, self.scheme, [*bootstrap.documents(), *self.extensions.bootstrap]
        )
        await self.cache.fresh()
        pair = self._serving_pair()
        ca = self.ca_pem + self.config.client_ca_pem
        self._tls = server_context(ca, pair)
        self.ready = True
        if self.registry.maker.webhooks is not None:
            self.registry.maker.webhooks.open = True
        await self._front.start(self._tls)
        _ = self._tasks.spawn(self._bookmarks(), "bookmarks")
        _ = self._tasks.spawn(self._renewals(pair, self._identify_to_kubelets()), "certificates")
        _ = self._tasks.spawn(reseal(self.store, self.clock), "reseal")
        if self.registry.services is not None:
            repairs = self.registry.services.keep_repaired(self.clock)
            _ = self._tasks.spawn(repairs, "service-claims")
        log.info("api server listens", extra={"url": self.url, "kinds": len(self.scheme.kinds)})

    async def stop(self) -> None:
        """Stop listening, end watches, let running requests finish. The store stays open."""
        self.ready = False
        await self._tasks.close()
        if self._oidc is not None:
            await self._oidc.close()
        if self.definitions is not None:
            await self.definitions.stop()
        self.watches.close_all()
        await self._front.stop()
        await self.watches.stop()
        await self.webhooks.close()
        if self.auditor is not None:
            await self.auditor.stop()
        await self.cache.stop()

    def _serving_pair(self) -> Pair:
        hosts = [
            listen.host for listen in self.config.listen if listen.host not in ("", "0.0.0.0", "::")
        ]
        if self.registry.services is not None and self.registry.services.own_address:
            hosts.append(self.registry.services.own_address)
        names = dict.fromkeys((*self.config.serving_names, *hosts))
        return self.authority.issue_serving(
            self.config.name, list(names), self.config.serving_cert_days
        )

    async def _bookmarks(self) -> None:
        while True:
            await self.clock.sleep(self.config.bookmark_interval_s)
            self.watches.bookmark_all()

    def _identify_to_kubelets(self) -> Pair:
        """A new client certificate for connections to kubelets from now on."""
        pair = self.authority.issue_client(KUBELET_CLIENT, ("system:masters",), KUBELET_CLIENT_DAYS)
        self.node_proxy.identify(pair)
        return pair

    async def _renewals(self, serving: Pair, client: Pair) -> None:
        """New certificates at two thirds of the old ones' lives, for new connections."""
        while True:
            await self.clock.sleep(RENEW_CHECK_S)
            if self._late(serving, self.config.serving_cert_days):
                serving = self._serving_pair()
                load_pair(self._tls, serving)
                log.info("serving certificate renewed", extra={"expires": str(serving.expiry())})
            if self._late(client, KUBELET_CLIENT_DAYS):
                client = self._identify_to_kubelets()
                log.info("kubelet client renewed", extra={"expires": str(client.expiry())})

    def _late(self, pair: Pair, days: int) -> bool:
        return (pair.expiry() - self.clock.now()).total_seconds() < days * 86400 / 3

    # ------------------------------------------------------------------------------------------------- for programs
    @property
    def ca_pem(self) -> str:
        """The CA that clients trust."""
        return self.authority.certificate_pem.decode()

    @property
    def port(self) -> int:
        """The port of the first listen address."""
        return self._front.addresses[0].port

    @property
    def url(self) -> str:
        """Where clients reach it."""
        if self.config.advertise_url:
            return self.config.advertise_url
        host = self.config.listen[0].host
        host = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
        return f"https://[{host}]:{self.port}" if ":" in host else f"https://{host}:{self.port}"

    @property
    def handler(self) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        """The whole way of a request, for connections that others accepted (a member's link)."""
        return self._front.handle

    def client(self, user: UserInfo = LOOPBACK, manager: str = "") -> LocalClient:
        """An in-process client that acts as `user`; `manager` is its field manager."""
        if self.auditor is None:
            return LocalClient(self._local, user, manager or user.name)
        return AuditedLocal(self._local, user, manager or user.name, self.auditor)

    def client_pair(self, user: str, groups: Sequence[str] = (), days: float = 365) -> Pair:
        """A client certificate of our CA."""
        return self.authority.issue_client(user, groups, days)

    def _render_metrics(self) -> bytes:
        lines = [
            "# HELP apiserver_request_total Requests by verb, resource and status.",
            "# TYPE apiserver_request_total counter",
        ]
        for (verb, resource, code), count in sorted(self._front.requests.items()):
            labels = f'verb="{verb}",resource="{resource}",code="{code}"'
            lines.append(f"apiserver_request_total{{{labels}}} {count}")
        lines += ["# TYPE apiserver_watchers gauge", f"apiserver_watchers {self.watches.count()}"]
        lines += ["# TYPE apiserver_storage_objects gauge"]
        for cache in self.cache.all():
            name = cache.kind.group_resource
            lines.append(f'apiserver_storage_objects{{resource="{name}"}} {len(cache.entries)}')
        lines.append("# TYPE apiserver_revision gauge")
        lines.append(f"apiserver_revision {self.store.current_revision()}")
        if self.auditor is not None:
            lines += self.auditor.metrics()
        return METRICS.render() + ("\n".join(lines) + "\n").encode()


def _authority(config: ServerConfig, clock: Clock) -> CertificateAuthority:
    if config.pki_dir:
        return CertificateAuthority.load_or_create(config.pki_dir, config.name, clock)
    return CertificateAuthority.create(config.name, clock)


def _oidc(config: ServerConfig, clock: Clock) -> OidcUsers | None:
    if not config.authentication_config:
        return None
    kept = f"{config.pki_dir}/oidc" if config.pki_dir else ""
    return OidcUsers(config.authentication_config, kept, clock, own_issuer=API_AUDIENCE)


def settle_collector() -> None:
    """Set Python's collector for a process full of long-lived objects; call once, after the first sync."""
    gc.set_threshold(100_000, 50, 1_000)
    gc.collect()
    gc.freeze()

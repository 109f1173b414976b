"""How the node proves who it is: a client certificate by CSR from a bootstrap token, and a serving certificate by CSR.

Keys are made here, stored 0600 and never sent. A certificate that is on disk and still good is used without asking
anybody, so that a node starts while its API is away. Both are renewed at four fifths of their life, with the
certificate at hand; TLS contexts take the new one up in place, for connections made from then on.
"""

import asyncio
import datetime as dt
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from cluster_agent.node.config import NodeConfig
from machinery.client import identity, kubeconfig
from machinery.client.identity import Identity, Subject
from machinery.client.interface import Client, PatchType
from machinery.client.kubeconfig import Access, write_secret
from machinery.client.rest import RestClient
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock, rfc3339
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document, document_key

log = logging.getLogger(__name__)

SIGNER_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
SIGNER_SERVING = "kubernetes.io/kubelet-serving"
RETRY = Backoff(base_s=1.0, cap_s=30.0)
RENEW_CHECK_S = 60.0
ASKING_TIMEOUT_S = 60.0
ASKING_MAX = 32
"""Requests of hollow nodes under way at a time."""


class IdentityStore:
    """One key and certificate in the state directory, in one file, so that they always belong together."""

    def __init__(self, folder: str, name: str) -> None:
        self._path = Path(folder) / f"{name}.pem"

    def load(self, now: dt.datetime) -> Identity | None:
        """The identity, unless it is absent, unreadable or expired."""
        try:
            content = self._path.read_bytes()
            certificate = x509.load_pem_x509_certificate(content)
        except (OSError, ValueError):
            return None
        start = content.index(b"-----BEGIN PRIVATE KEY")
        if certificate.not_valid_after_utc <= now:
            log.warning("certificate expired", extra={"path": str(self._path)})
            return None
        return Identity(key=content[start:], certificate=content[:start])

    def save(self, new: Identity) -> None:
        """Durable, and never half of it."""
        write_secret(self._path, new.certificate.rstrip() + b"\n" + new.key)


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of certificate."""

    signer: str
    usage: str
    prefix: str


CLIENT = Request(SIGNER_CLIENT, "client auth", "node-csr-")
SERVING = Request(SIGNER_SERVING, "server auth", "node-serving-")


async def ask(
    client: Client, clock: Clock, subject: Subject, wanted: Request, *, approve: bool = False
) -> Identity:
    """Ask for a certificate until there is one; `approve` it ourselves where we are an administrator."""
    failures = 0

    async def approve_it(created: Document) -> None:
        await _approve(client, clock, created)

    while True:
        try:
            return await identity.request_certificate(
                client,
                clock,
                identity.new_key(),
                subject,
                signer=wanted.signer,
                usages=["digital signature", wanted.usage],
                name_prefix=wanted.prefix,
                timeout_s=ASKING_TIMEOUT_S,
                on_created=approve_it if approve else None,
            )
        except (
            StatusError, ConnectionError, TimeoutError, identity.SigningRefused,
        ) as error:  # fmt: skip
            failures += 1
            extra = {"signer": wanted.signer, "error": str(error) or type(error).__name__}
            log.warning("certificate not obtained", extra=extra)
            await clock.sleep(RETRY.delay(failures))


async def _approve(client: Client, clock: Clock, created: Document) -> None:
    """What `kubectl certificate approve` does."""
    now = rfc3339(clock.now())
    approval = {
        "type": "Approved",
        "status": "True",
        "reason": "KubeletApprove",
        "message": "approved by the administrator's kubeconfig that the node was started with",
        "lastUpdateTime": now,
        "lastTransitionTime": now,
    }
    key = document_key(created)
    patch = {"status": {"conditions": [approval]}}
    await client.patch(identity.CSRS, key, patch, PatchType.MERGE, subresource="approval")


def client_subject(node_name: str) -> Subject:
    return Subject(f"system:node:{node_name}", ["system:nodes"])


def serving_subject(name: str, node_ip: str) -> Subject:
    """The endpoint's certificate names one node: the API server looks for it."""
    return Subject(f"system:node:{name}", ["system:nodes"], [name], [node_ip])


class NodeAccess:
    """The client of this node, whatever proves its identity."""

    def __init__(self, config: NodeConfig, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._store = IdentityStore(config.state_dir, "client")
        self._context: ssl.SSLContext | None = None
        self.ca = b""

    async def connect(self) -> RestClient:
        """A client with our own identity; asks for one if there is none yet."""
        config = self._config
        if config.kubeconfig:
            access = kubeconfig.load(config.kubeconfig)
            self.ca = access.ca
            return access.client(field_manager="kubelet")
        self.ca = Path(config.ca_file).read_bytes() if config.ca_file else b""
        mine = self._store.load(self._clock.now())
        if mine is None:
            mine = await self._bootstrap()
        access = Access(config.api_server, self.ca, mine.certificate, mine.key)
        self._context = access.ssl_context()
        return RestClient(config.api_server, self._context, field_manager="kubelet")

    async def _bootstrap(self) -> Identity:
        token = self._config.bootstrap_token
        if not token and self._config.token_file:
            token = Path(self._config.token_file).read_text().strip()
        if not token:
            raise ValueError(
                f"no certificate in {self._config.state_dir} and no bootstrap token: "
                "give a token (cluster-agent join prints one) or a kubeconfig"
            )
        client = Access(self._config.api_server, self.ca, token=token).client()
        try:
            subject = client_subject(self._config.node_name)
            mine = await ask(client, self._clock, subject, CLIENT)
        finally:
            await client.close()
        self._store.save(mine)
        log.info("client certificate obtained", extra={"node": self._config.node_name})
        return mine

    async def keep_fresh(self, client: Client) -> None:
        """Renew our client certificate in time, until cancelled. Nothing to do with a kubeconfig."""
        while self._context is not None:
            mine = self._store.load(self._clock.now())
            if mine is None or identity.renew_at(mine.certificate) <= self._clock.now():
                subject = client_subject(self._config.node_name)
                mine = await ask(client, self._clock, subject, CLIENT)
                self._store.save(mine)
                identity.load_identity(self._context, mine)
                log.info("client certificate renewed", extra={"node": self._config.node_name})
            await self._clock.sleep(RENEW_CHECK_S)


class ServingCertificates:
    """The certificates of the HTTPS endpoint, one per node of the process, chosen by the name that the client asks for.

    The first node's is the default. A handshake before its certificate is there fails.
    """

    def __init__(self, config: NodeConfig, clock: Clock, ca: bytes, names: Sequence[str]) -> None:
        self._config, self._clock, self._ca = config, clock, ca
        self._names = list(names)
        self._contexts = {name: self._new_context() for name in self._names}
        self._loaded: set[str] = set()
        self.context = self._contexts[self._names[0]]
        if len(self._names) > 1:
            self.context.sni_callback = self._choose

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        if self._ca:
            context.load_verify_locations(cadata=self._ca.decode())
        return context

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        if name in self._loaded and name is not None:
            connection.context = self._contexts[name]
        return None

    def named(self, context: ssl.SSLContext) -> str | None:
        """The node whose certificate a connection with that context was shown."""
        return next((name for name, own in self._contexts.items() if own is context), None)

    def _store(self, name: str) -> IdentityStore:
        label = "serving" if len(self._names) == 1 else f"serving-{name}"
        return IdentityStore(self._config.state_dir, label)

    def _fits(self, mine: Identity) -> bool:
        certificate = x509.load_pem_x509_certificate(mine.certificate)
        try:
            names = certificate.extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            ).value
        except x509.ExtensionNotFound:
            return False
        addresses = {str(a) for a in names.get_values_for_type(x509.IPAddress)}
        return self._config.node_ip in addresses

    async def keep(
        self, client: Client, registered: Callable[[], Awaitable[object]], ready: Callable[[], None]
    ) -> None:
        """Get them, and renew them in time, until cancelled.

        A request is approved for the addresses that the Node object has, so the first one waits for it.
        """
        while True:
            limit = asyncio.Semaphore(ASKING_MAX)
            async with asyncio.TaskGroup() as group:
                for name in self._names:
                    _ = group.create_task(self._keep_one(client, name, registered, limit))
            ready()
            await self._clock.sleep(RENEW_CHECK_S)

    async def _keep_one(
        self,
        client: Client,
        name: str,
        registered: Callable[[], Awaitable[object]],
        limit: asyncio.Semaphore,
    ) -> None:
        store, now = self._store(name), self._clock.now()
        mine = store.load(now)
        if mine is None or not self._fits(mine) or identity.renew_at(mine.certificate) <= now:
            await registered()
            subject = serving_subject(name, self._config.node_ip)
            approve = bool(self._config.kubeconfig)
            async with limit:
                mine = await ask(client, self._clock, subject, SERVING, approve=approve)
            store.save(mine)
            self._loaded.discard(name)
            log.info("serving certificate obtained", extra={"node": name})
        if name not in self._loaded:
            identity.load_identity(self._contexts[name], mine)
            self._loaded.add(name)

"""How the node proves who it is: a client certificate by CSR from a bootstrap token, and a serving certificate by CSR.

Keys are made here, stored 0600 and never sent. A certificate that is on disk and still good is used without asking
anybody, so that a node starts while its API is away. Both are renewed at four fifths of their life, with the
certificate at hand; TLS contexts take the new one up in place, for connections made from then on.
"""

import datetime as dt
import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509

from cluster_agent.node.config import NodeConfig
from machinery.client import identity, kubeconfig
from machinery.client.identity import Identity, Subject
from machinery.client.interface import Client
from machinery.client.kubeconfig import Access, write_secret
from machinery.client.rest import RestClient
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.meta.errors import StatusError

log = logging.getLogger(__name__)

SIGNER_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
SIGNER_SERVING = "kubernetes.io/kubelet-serving"
RETRY = Backoff(base_s=1.0, cap_s=30.0)
RENEW_CHECK_S = 60.0
ASKING_TIMEOUT_S = 60.0


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


async def ask(
    client: Client, clock: Clock, subject: Subject, signer: str, usage: str, prefix: str
) -> Identity:
    """Ask for a certificate until there is one."""
    failures = 0
    while True:
        try:
            return await identity.request_certificate(
                client,
                clock,
                identity.new_key(),
                subject,
                signer=signer,
                usages=["digital signature", usage],
                name_prefix=prefix,
                timeout_s=ASKING_TIMEOUT_S,
            )
        except (
            StatusError, ConnectionError, TimeoutError, identity.SigningRefused,
        ) as error:  # fmt: skip
            failures += 1
            extra = {"signer": signer, "error": str(error) or type(error).__name__}
            log.warning("certificate not obtained", extra=extra)
            await clock.sleep(RETRY.delay(failures))


def client_subject(node_name: str) -> Subject:
    return Subject(f"system:node:{node_name}", ["system:nodes"])


def serving_subject(config: NodeConfig, names: Sequence[str]) -> Subject:
    """For every node of this process, at its address."""
    return Subject(f"system:node:{names[0]}", ["system:nodes"], list(names), [config.node_ip])


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
            mine = await ask(
                client, self._clock, subject, SIGNER_CLIENT, "client auth", "node-csr-"
            )
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
                mine = await ask(
                    client, self._clock, subject, SIGNER_CLIENT, "client auth", "node-csr-"
                )
                self._store.save(mine)
                identity.load_identity(self._context, mine)
                log.info("client certificate renewed", extra={"node": self._config.node_name})
            await self._clock.sleep(RENEW_CHECK_S)


class ServingCertificate:
    """The certificate of the HTTPS endpoint; the context answers no handshake before there is one."""

    def __init__(self, config: NodeConfig, clock: Clock, ca: bytes) -> None:
        self._config, self._clock = config, clock
        self._store = IdentityStore(config.state_dir, "serving")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.verify_mode = ssl.CERT_REQUIRED
        if ca:
            self.context.load_verify_locations(cadata=ca.decode())

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

    async def keep(self, client: Client, names: Sequence[str], ready: Callable[[], None]) -> None:
        """Get one, and renew it in time, until cancelled."""
        first = True
        while True:
            now = self._clock.now()
            mine = self._store.load(now)
            if mine is None or not self._fits(mine) or identity.renew_at(mine.certificate) <= now:
                subject = serving_subject(self._config, names)
                mine = await ask(
                    client, self._clock, subject, SIGNER_SERVING, "server auth", "node-serving-"
                )
                self._store.save(mine)
                identity.load_identity(self.context, mine)
                log.info("serving certificate obtained", extra={"node": names[0]})
            elif first:
                identity.load_identity(self.context, mine)
            if first:
                ready()
                first = False
            await self._clock.sleep(RENEW_CHECK_S)

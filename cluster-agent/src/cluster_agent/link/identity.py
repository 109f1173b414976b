"""Who this member is to the federation: a certificate by CSR, asked for with a bootstrap token, kept and renewed.

The key never leaves the machine. Where a good certificate exists the token is not used any more; at four fifths of its life
the next one is asked for with the present one, until it is there. With a certificate that has expired (the machine was away for too
long) nobody can ask for anything: then it takes a new token, as the first time.
"""

import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from machinery.client.identity import (
    Identity,
    SigningRefused,
    Subject,
    client_context,
    expires_at,
    load_identity,
    new_key,
    renew_at,
    request_certificate,
)
from machinery.client.rest import RestClient
from machinery.kit.clock import Clock
from machinery.meta.errors import StatusError

log = logging.getLogger(__name__)

SIGNER = "ubernetes.io/cluster-agent"
USER_PREFIX = "ubernetes:cluster:"
GROUP = "ubernetes:clusters"
USAGES = ("client auth", "digital signature")
RENEW_CHECK_S = 3600.0
RENEW_RETRY_S = 60.0


class CertificateExpired(Exception):
    """The agent has no way left to say who it is."""


@dataclass(frozen=True, slots=True)
class FederationAccess:
    """Where the federation is and how to know it."""

    url: str
    ca: bytes
    token: str = ""


class AgentIdentity:
    """The member's certificate in `directory`, and the TLS context that carries it."""

    def __init__(
        self, cluster: str, access: FederationAccess, directory: Path, clock: Clock
    ) -> None:
        self._cluster, self._access, self._clock = cluster, access, clock
        self._key, self._certificate = directory / "agent.key", directory / "agent.crt"
        self.context: ssl.SSLContext = client_context(ca=access.ca)
        self._taken = b""

    async def obtain(self) -> None:
        """Have a certificate in the context. Raises CertificateExpired, and what asking for one raises."""
        held = self._held()
        if held is None or self._expired(held):
            if held is not None and not self._access.token:
                raise CertificateExpired(self._wording(held))
            held = await self._request(client_context(ca=self._access.ca), self._access.token)
            self._keep(held)
        self._take(held)

    def _take(self, identity: Identity) -> None:
        if identity.certificate != self._taken:
            load_identity(self.context, identity)
            self._taken = identity.certificate

    def _expired(self, identity: Identity) -> bool:
        return self._clock.now() >= expires_at(identity.certificate)

    def _wording(self, identity: Identity) -> str:
        return (
            f"the certificate of cluster {self._cluster} expired on {expires_at(identity.certificate):%Y-%m-%d}, so the "
            f"federation does not know this agent any more: make a token with `fedctl join {self._cluster}` and run the "
            "`cluster-agent join` that it prints"
        )

    def _held(self) -> Identity | None:
        if not self._certificate.exists() or not self._key.exists():
            return None
        return Identity(self._key.read_bytes(), self._certificate.read_bytes())

    def _keep(self, identity: Identity) -> None:
        for path, content in (
            (self._key, identity.key),
            (self._certificate, identity.certificate),
        ):
            fresh = path.with_suffix(path.suffix + ".new")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            fresh.replace(path)

    async def _request(self, context: ssl.SSLContext, token: str) -> Identity:
        client = RestClient(self._access.url, context, token=token)
        subject = Subject(USER_PREFIX + self._cluster, (GROUP,))
        try:
            return await request_certificate(
                client,
                self._clock,
                new_key(),
                subject,
                signer=SIGNER,
                usages=USAGES,
                name_prefix=f"cluster-{self._cluster}-",
            )
        finally:
            await client.close()

    async def renew_forever(self) -> None:
        """Ask for the next certificate when it is time; the context takes it up for new connections."""
        while True:
            pause = RENEW_CHECK_S
            try:
                await self._renew()
            except (StatusError, ConnectionError, TimeoutError, SigningRefused) as error:
                log.warning("certificate not renewed", extra={"error": str(error)})
                pause = RENEW_RETRY_S
            except CertificateExpired as error:
                log.error("certificate expired", extra={"error": str(error)})
                pause = RENEW_RETRY_S
            await self._clock.sleep(pause)

    async def _renew(self) -> None:
        await self.obtain()  # also what `cluster-agent join` has put there meanwhile
        held = self._held()
        if held is not None and self._clock.now() >= renew_at(held.certificate):
            fresh = await self._request(self.context, "")
            self._keep(fresh)
            self._take(fresh)

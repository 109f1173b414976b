"""Who this member is to the federation: a certificate by CSR, asked for with a bootstrap token, kept and renewed.

The key never leaves the machine. Where a certificate exists the token is not used any more; at four fifths of its life
the next one is asked for with the present one.
"""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from machinery.client.identity import (
    Identity,
    Subject,
    client_context,
    load_identity,
    new_key,
    renew_at,
    request_certificate,
)
from machinery.client.rest import RestClient
from machinery.kit.clock import Clock

SIGNER = "ubernetes.io/cluster-agent"
USER_PREFIX = "ubernetes:cluster:"
GROUP = "ubernetes:clusters"
USAGES = ("client auth", "digital signature")
RENEW_CHECK_S = 3600.0


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

    async def obtain(self) -> None:
        """Have a certificate in the context. Raises what asking for one raises."""
        held = self._held()
        if held is None:
            held = await self._request(client_context(ca=self._access.ca), self._access.token)
            self._keep(held)
        load_identity(self.context, held)

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
            held = self._held()
            if held is not None and self._clock.now() >= renew_at(held.certificate):
                fresh = await self._request(self.context, "")
                self._keep(fresh)
                load_identity(self.context, fresh)
            await self._clock.sleep(RENEW_CHECK_S)

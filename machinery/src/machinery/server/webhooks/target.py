"""Where a webhook listens: the `clientConfig` of a webhook or of a definition, and the endpoints of its service. Pure.

A service is asked by the name `NAME.NAMESPACE.svc`, which its certificate must have, at the addresses of its ready endpoints:
by EndpointSlices, of pods or written by hand, or by its external name. Its cluster IP is not used, since the
server's machine may have no rules for it.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from machinery.meta.resource import Document


class Unresolved(ValueError):
    """The service leads nowhere; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask."""

    url: str
    """Without a query."""
    ca_pem: bytes
    """Who may have signed its certificate; empty: those whom the machine trusts."""
    service: tuple[str, str, int] | None = None
    """(namespace, name, port)."""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 443


def target_of(config: Mapping[str, Any]) -> Target:
    """The target of a validated `clientConfig`. A bundle that is no base64 is one that nobody has signed by."""
    try:
        ca = base64.b64decode(config.get("caBundle") or "", validate=True)
    except binascii.Error:
        ca = b"?"
    service = config.get("service")
    if not service:
        return Target(str(config.get("url") or ""), ca)
    namespace, name = service["namespace"], service["name"]
    port = int(service.get("port") or 443)
    path = service.get("path") or ""
    path = path if path.startswith("/") or not path else f"/{path}"
    return Target(f"https://{name}.{namespace}.svc:{port}{path}", ca, (namespace, name, port))


def places(
    name: str, port: int, service: Document | None, slices: Iterable[Document]
) -> list[tuple[str, int]]:
    """(address, port) of everybody behind a service's port. Raises Unresolved."""
    if service is None:
        raise Unresolved(f'service "{name}" not found')
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return [(str(spec.get("externalName") or ""), port)]
    ports = [one for one in spec.get("ports") or () if one.get("port") == port]
    if not ports:
        raise Unresolved(f'no service port {port} found for service "{name}"')
    wanted = ports[0].get("name") or ""
    found = [
        (str(address), int(one["port"]))
        for slice_ in slices
        for one in slice_.get("ports") or ()
        if (one.get("name") or "") == wanted and one.get("port")
        for endpoint in slice_.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in (endpoint.get("addresses") or ())[:1]
    ]
    if not found:
        raise Unresolved(f'no endpoints available for service "{name}"')
    return found

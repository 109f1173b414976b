"""Where a request to a proxy goes: `name`, `name:port` or `scheme:name:port`, read as upstream reads it. Pure.

A Service's endpoints count only where a pod of the same namespace has the address: who may write endpoints must not reach
what the server can reach. No address that is the machine's own or the link's is ever dialled.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from machinery.meta import errors
from machinery.meta.resource import Document

SCHEMES = ("", "http", "https")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


class Named(NamedTuple):
    """A name in a URL, taken apart."""

    scheme: str
    name: str
    port: str


class Place(NamedTuple):
    """What is dialled."""

    host: str
    port: str
    tls: bool

    @property
    def text(self) -> str:
        """As it stands in messages and in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def split(identity: str, what: str) -> Named:
    """The parts of a name in a URL; `what` is told where it has no such form. Raises BadRequest."""
    parts = identity.split(":")
    if len(parts) == 1:
        found = Named("", parts[0], "")
    elif len(parts) == 2:
        found = Named("", parts[0], parts[1])
    elif len(parts) == 3:
        found = Named(*parts)
    else:
        found = Named("", "", "")
    if not found.name or found.scheme not in SCHEMES:
        raise errors.BadRequest(f'invalid {what} request "{identity}"')
    return found


def place_of(host: str, port: str, scheme: str) -> Place:
    """The place of an address. Raises BadRequest for one that must not be dialled."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise errors.BadRequest("address not allowed") from None
    own = address.is_loopback or address.is_link_local or address.is_unspecified
    if own or address.is_multicast or host == "255.255.255.255":
        raise errors.BadRequest("address not allowed")
    tls = scheme == "https"
    return Place(host, port or ("443" if tls else "80"), tls)


def of_pod(pod: Document, asked: Named) -> Place:
    """Without a port: the first that a container declares. Raises BadRequest."""
    port = asked.port
    if not port:
        ports = (
            declared.get("containerPort")
            for container in (pod.get("spec") or {}).get("containers") or ()
            for declared in (container.get("ports") or ())[:1]
        )
        port = str(next(ports, ""))
    return place_of(str((pod.get("status") or {}).get("podIP") or ""), port, asked.scheme)


def port_name(service: Document, asked: Named) -> str:
    """The name of the port that is meant: given, or that of a number. Raises ServiceUnavailable."""
    if not _NUMBER.fullmatch(asked.port):
        return asked.port
    number = int(asked.port)
    for port in (service.get("spec") or {}).get("ports") or ():
        if port.get("port") == number:
            return str(port.get("name") or "")
    raise errors.ServiceUnavailable(f'no service port {number} found for service "{asked.name}"')


class Endpoint(NamedTuple):
    """One address of a Service, and the pod that is said to have it."""

    address: str
    port: str
    pod: str


def endpoints(slices: Iterable[Document], name: str) -> list[Endpoint]:
    """The ready ones behind the port of that name that are pods."""
    return [
        Endpoint(str(address), str(port["port"]), str(target["name"]))
        for one in slices
        for port in one.get("ports") or ()
        if (port.get("name") or "") == name and port.get("port")
        for endpoint in one.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready", True)
        for target in (endpoint.get("targetRef") or {},)
        if target.get("kind") == "Pod" and target.get("name")
        for address in (endpoint.get("addresses") or ())[:1]
    ]


def has_address(pod: Document, address: str) -> bool:
    """Whether the address is the pod's."""
    return any(one.get("ip") == address for one in (pod.get("status") or {}).get("podIPs") or ())


def none_available(identity: str) -> errors.StatusError:
    """What is said of a Service behind which nobody is."""
    return errors.ServiceUnavailable(f'no endpoints available for service "{identity}"')

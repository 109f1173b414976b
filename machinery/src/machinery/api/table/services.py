"""Rows of Services, Endpoints and EndpointSlices."""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final

from machinery.api.table.cells import (
    AGE,
    NAME,
    NONE,
    Printer,
    TableColumn,
    age_of,
    name_of,
    selector_text,
)
from machinery.meta.resource import Document

SHOWN_MAX: Final = 3
_SPEC: Final = "=io.k8s.api.core.v1.ServiceSpec/"
_SLICE: Final = "=io.k8s.api.discovery.v1.EndpointSlice/"


def _service(document: Document, now: dt.datetime) -> list[Any]:
    spec = document.get("spec") or {}
    addresses = spec.get("clusterIPs") or (NONE,)
    selector = spec.get("selector")
    return [
        name_of(document),
        spec.get("type", ""),
        addresses[0],
        _outside(spec, document.get("status") or {}),
        ",".join(_port(port) for port in spec.get("ports") or ()) or NONE,
        age_of(document, now),
        selector_text({"matchLabels": selector} if selector else None),
    ]


def _outside(spec: Document, status: Document) -> str:
    """By what name or address the world reaches it."""
    kind, given = spec.get("type"), list(spec.get("externalIPs") or ())
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    if kind != "LoadBalancer":
        return ",".join(given) or NONE
    ingress = (status.get("loadBalancer") or {}).get("ingress") or ()
    balancers = sorted({one.get("ip") or one.get("hostname") or "" for one in ingress} - {""})
    return ",".join([*balancers, *given]) or "<pending>"


def _port(port: Document) -> str:
    number = f"{port.get('port', 0)}"
    if port.get("nodePort"):
        number += f":{port['nodePort']}"
    return f"{number}/{port.get('protocol', '')}"


def _endpoints(document: Document, now: dt.datetime) -> list[Any]:
    subsets = document.get("subsets") or ()
    found = [text for subset in subsets for text in _ready(subset)]
    return [name_of(document), _few(found) if subsets else NONE, age_of(document, now)]


def _ready(subset: Document) -> Iterable[str]:
    addresses = [one.get("ip", "") for one in subset.get("addresses") or ()]
    ports = subset.get("ports") or ()
    if not ports:
        return addresses
    return [_joined(ip, port.get("port", 0)) for port in ports for ip in addresses]


def _joined(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _slice(document: Document, now: dt.datetime) -> list[Any]:
    endpoints = document.get("endpoints") or ()
    ports = [_slice_port(port) for port in document.get("ports") or ()]
    addresses = [text for endpoint in endpoints for text in endpoint.get("addresses") or ()]
    return [
        name_of(document),
        document.get("addressType", ""),
        _few(ports) or "<unset>",
        _few(addresses) or "<unset>",
        age_of(document, now),
    ]


def _slice_port(port: Document) -> str:
    number = port.get("port")
    return str(number) if number is not None else port.get("name") or "*"


def _few(texts: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    shown = ",".join(texts[:SHOWN_MAX])
    more = len(texts) - SHOWN_MAX
    return f"{shown} + {more} more..." if more > 0 else shown


SERVICE: Final = Printer(
    (
        NAME,
        TableColumn("Type", _SPEC + "type"),
        TableColumn("Cluster-IP", _SPEC + "clusterIP"),
        TableColumn("External-IP", _SPEC + "externalIPs"),
        TableColumn("Port(s)", _SPEC + "ports"),
        AGE,
        TableColumn("Selector", _SPEC + "selector", priority=1),
    ),
    _service,
)
ENDPOINTS: Final = Printer(
    (NAME, TableColumn("Endpoints", "=io.k8s.api.core.v1.Endpoints/subsets"), AGE), _endpoints
)
ENDPOINT_SLICE: Final = Printer(
    (
        NAME,
        TableColumn("AddressType", _SLICE + "addressType"),
        TableColumn("Ports", _SLICE + "ports"),
        TableColumn("Endpoints", _SLICE + "endpoints"),
        AGE,
    ),
    _slice,
)

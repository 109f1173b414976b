"""Endpoints and EndpointSlice: addresses that traffic may be sent to, and ports."""

from collections.abc import Sequence
from typing import Final

from machinery.api.validation import addresses
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE, labels
from machinery.api.validation.services import FAMILIES, app_protocol, named_port, protocol
from machinery.meta import names
from machinery.meta.resource import Document

ENDPOINTS_MAX: Final = 1000
ADDRESSES_MAX: Final = 100
PORTS_MAX: Final = 100
TOPOLOGY_MAX: Final = 16
HINTS_MAX: Final = 8


# ------------------------------------------------------------------------------------------------------ EndpointSlice
def endpoint_slice(document: Document, causes: Causes) -> None:
    kind = document.get("addressType", "")
    if not kind:
        causes.required("addressType")
    else:
        causes.one_of("addressType", kind, ("FQDN", *FAMILIES))
    _slice_ports(document.get("ports") or (), causes)
    endpoints = document.get("endpoints") or ()
    if len(endpoints) > ENDPOINTS_MAX:
        causes.too_many("endpoints", len(endpoints), ENDPOINTS_MAX)
        return
    for index, endpoint in enumerate(endpoints):
        _endpoint(endpoint, kind, f"endpoints[{index}]", causes)


def endpoint_slice_update(new: Document, old: Document, causes: Causes) -> None:
    endpoint_slice(new, causes)
    kind = new.get("addressType", "")
    if kind != old.get("addressType", ""):
        causes.invalid("addressType", kind, IMMUTABLE)


def _slice_ports(ports: Sequence[Document], causes: Causes) -> None:
    if len(ports) > PORTS_MAX:
        causes.too_many("ports", len(ports), PORTS_MAX)
        return
    seen: set[str] = set()
    for index, port in enumerate(ports):
        field, name = f"ports[{index}]", port.get("name", "")
        named_port(port, field, causes, must_have_name=False)
        if name in seen:
            causes.duplicate(f"{field}.name", name)
        seen.add(name)
        if (number := port.get("port")) is not None:
            causes.invalid_each(f"{field}.port", number, names.port_number(number))
        protocol(port, field, causes)
        app_protocol(port, field, causes)


def _endpoint(endpoint: Document, kind: str, field: str, causes: Causes) -> None:
    found = endpoint.get("addresses") or ()
    if not found:
        causes.required(f"{field}.addresses", "must contain at least 1 address")
    elif len(found) > ADDRESSES_MAX:
        causes.too_many(f"{field}.addresses", len(found), ADDRESSES_MAX)
    for index, text in enumerate(found):
        _slice_address(text, kind, f"{field}.addresses", index, causes)
    if (node := endpoint.get("nodeName")) is not None:
        causes.invalid_each(f"{field}.nodeName", node, names.dns_subdomain(node))
    if topology := endpoint.get("deprecatedTopology"):
        if len(topology) > TOPOLOGY_MAX:
            causes.too_many(f"{field}.deprecatedTopology", len(topology), TOPOLOGY_MAX)
        labels(topology, f"{field}.deprecatedTopology", causes)
    if (hostname := endpoint.get("hostname")) is not None:
        causes.invalid_each(f"{field}.hostname", hostname, names.dns_label(hostname))
    for key in ("forZones", "forNodes"):
        _hints((endpoint.get("hints") or {}).get(key) or (), f"{field}.hints.{key}", causes)


def _slice_address(text: str, kind: str, field: str, index: int, causes: Causes) -> None:
    place = f"{field}[{index}]"
    if kind == "FQDN":
        causes.invalid_each(place, text, names.fully_qualified_domain(text))
    if kind not in FAMILIES:
        return
    found = addresses.address(place, text, causes)
    if found is None:
        return
    if f"IPv{found.version}" != kind:
        causes.invalid(field, text, f"must be an {kind} address")
    addresses.endpoint_address(place, text, causes)


def _hints(hints: Sequence[Document], field: str, causes: Causes) -> None:
    if len(hints) > HINTS_MAX:
        causes.too_many(field, len(hints), HINTS_MAX)
        return
    seen: set[str] = set()
    for index, hint in enumerate(hints):
        place, name = f"{field}[{index}].name", hint.get("name", "")
        if name in seen:
            causes.duplicate(place, name)
        seen.add(name)
        causes.invalid_each(place, name, names.qualified_name(name))


# ---------------------------------------------------------------------------------------------------------- Endpoints
def endpoints(document: Document, causes: Causes) -> None:
    for index, subset in enumerate(document.get("subsets") or ()):
        field = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            causes.required(field, "must specify `addresses` or `notReadyAddresses`")
        for key in ("addresses", "notReadyAddresses"):
            for number, one in enumerate(subset.get(key) or ()):
                _address(one, f"{field}.{key}[{number}]", causes)
        ports = subset.get("ports") or ()
        for number, port in enumerate(ports):
            _port(port, f"{field}.ports[{number}]", causes, must_have_name=len(ports) > 1)


def _address(one: Document, field: str, causes: Causes) -> None:
    text = one.get("ip", "")
    _ = addresses.address(f"{field}.ip", text, causes)
    if hostname := one.get("hostname"):
        causes.invalid_each(f"{field}.hostname", hostname, names.dns_label(hostname))
    if (node := one.get("nodeName")) is not None:
        causes.invalid_each(f"{field}.nodeName", node, names.dns_subdomain(node))
    addresses.endpoint_address(f"{field}.ip", text, causes)


def _port(port: Document, field: str, causes: Causes, *, must_have_name: bool) -> None:
    named_port(port, field, causes, must_have_name=must_have_name)
    number = port.get("port", 0)
    causes.invalid_each(f"{field}.port", number, names.port_number(number))
    protocol(port, field, causes)
    app_protocol(port, field, causes)

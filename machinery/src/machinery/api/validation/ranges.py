"""IPAddress and ServiceCIDR: cluster addresses by name, and the ranges that they come from."""

import ipaddress
from typing import Final

from machinery.api.validation import addresses
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE
from machinery.meta import names
from machinery.meta.resource import Document

_FIELD: Final = "spec.cidrs"
_PARENT: Final = "spec.parentRef"
_FAMILIES: Final = (
    "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
)


def ip_address(document: Document, causes: Causes) -> None:
    """The object that has the address must be named."""
    parent = (document.get("spec") or {}).get("parentRef")
    if parent is None:
        causes.required(_PARENT)
        return
    if group := parent.get("group"):
        causes.invalid_each(f"{_PARENT}.group", group, names.dns_subdomain(group))
    for key in ("resource", "name"):
        value = parent.get(key, "")
        if not value:
            causes.required(f"{_PARENT}.{key}")
        else:
            causes.invalid_each(f"{_PARENT}.{key}", value, names.path_segment(value))
    if namespace := parent.get("namespace"):
        causes.invalid_each(f"{_PARENT}.namespace", namespace, names.path_segment(namespace))


def ip_address_update(new: Document, old: Document, causes: Causes) -> None:
    after, before = ((d.get("spec") or {}).get("parentRef") for d in (new, old))
    if after != before:
        causes.invalid(_PARENT, after, IMMUTABLE)


def service_cidr(document: Document, causes: Causes) -> None:
    """One range, or one of each family."""
    spec = document.get("spec") or {}
    cidrs = spec.get("cidrs") or []
    shown = {"CIDRs": cidrs}
    if not cidrs:
        causes.required(_FIELD, "at least one CIDR required")
        return
    if len(cidrs) > 2:
        causes.invalid(_FIELD, shown, "may only hold up to 2 values")
        return
    if len(cidrs) == 2 and len({_family(text) for text in cidrs} - {0}) != 2:
        causes.invalid(_FIELD, shown, _FAMILIES)
        return
    for index, text in enumerate(cidrs):
        _canonical(f"{_FIELD}[{index}]", text, causes)


def service_cidr_update(new: Document, old: Document, causes: Causes) -> None:
    """A second family may come; what is there stays."""
    after, before = ((d.get("spec") or {}).get("cidrs") or [] for d in (new, old))
    if len(after) == len(before):
        for index, (text, held) in enumerate(zip(after, before, strict=True)):
            if text != held:
                causes.invalid(f"{_FIELD}[{index}]", text, IMMUTABLE)
    elif (len(before), len(after)) == (1, 2):
        if after[0] != before[0]:
            causes.invalid(f"{_FIELD}[0]", after[0], IMMUTABLE)
        elif {_family(text) for text in after} != {4, 6}:
            causes.invalid(_FIELD, {"CIDRs": after}, _FAMILIES)
        else:
            _canonical(f"{_FIELD}[1]", after[1], causes)
    else:
        causes.invalid(_FIELD, after, IMMUTABLE)


def _family(text: str) -> int:
    try:
        return ipaddress.ip_network(text, strict=False).version
    except ValueError:
        return 0


def _canonical(field: str, text: str, causes: Causes) -> None:
    before = len(causes)
    addresses.network(field, text, causes)
    if len(causes) > before:
        return
    held = ipaddress.ip_interface(text)
    if held.ip != held.network.network_address:
        causes.invalid(field, text, "must not have bits set beyond the prefix length")
    elif str(held.network) != text:
        causes.invalid(field, text, f'must be in canonical form ("{held.network}")')

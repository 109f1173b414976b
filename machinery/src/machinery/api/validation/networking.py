"""Ingresses and NetworkPolicies."""

import ipaddress
from typing import Any, Final

from machinery.api.validation import addresses
from machinery.api.validation.causes import Causes
from machinery.api.validation.selectors import label_selector
from machinery.meta import names
from machinery.meta.resource import Document

CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"
_PATH_TYPES: Final = ("Exact", "ImplementationSpecific", "Prefix")
_SEQUENCES: Final = ("//", "/./", "/../", "%2f", "%2F")
_ENDINGS: Final = ("/..", "/.")
_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_TYPES_MAX: Final = 2
_WILDCARD: Final = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower "
    "case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used "
    "for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


# ------------------------------------------------------------------------------------------------------------- Ingress
def new_ingress(document: Document, causes: Causes) -> None:
    """A new one may not name its class twice over."""
    spec, metadata = document.get("spec") or {}, document.get("metadata") or {}
    named = (metadata.get("annotations") or {}).get(CLASS_ANNOTATION)
    given = spec.get("ingressClassName")
    if named is not None and given is not None and named != given:
        causes.invalid(
            f"annotations.{CLASS_ANNOTATION}",
            named,
            "must match `ingressClassName` when both are specified",
        )
    ingress(document, causes)


def ingress(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and backend is None:
        causes.invalid(
            "spec", spec.get("rules"), "either `defaultBackend` or `rules` must be specified"
        )
    if backend is not None:
        _backend(backend, "spec.defaultBackend", causes)
    for index, rule in enumerate(rules):
        _rule(rule, f"spec.rules[{index}]", causes)
    for index, entry in enumerate(spec.get("tls") or ()):
        for number, host in enumerate(entry.get("hosts") or ()):
            _host(host, f"spec.tls[{index}].hosts[{number}]", causes)
    if (name := spec.get("ingressClassName")) is not None:
        causes.invalid_each("spec.ingressClassName", name, names.dns_subdomain(name))


def _host(host: str, field: str, causes: Causes) -> None:
    if not host.startswith("*"):
        causes.invalid_each(field, host, names.dns_subdomain(host))
    elif not host.startswith("*.") or names.dns_subdomain(host[2:]):
        causes.invalid(field, host, _WILDCARD)


def _rule(rule: Document, field: str, causes: Causes) -> None:
    host = rule.get("host", "")
    if host and addresses.parsed(host) is not None:
        causes.invalid(f"{field}.host", host, "must be a DNS name, not an IP address")
    elif host:
        _host(host, f"{field}.host", causes)
    http = rule.get("http")
    if http is None:
        return
    paths = http.get("paths") or []
    if not paths:
        causes.required(f"{field}.http.paths")
    for index, path in enumerate(paths):
        _path(path, f"{field}.http.paths[{index}]", causes)


def _path(path: Document, field: str, causes: Causes) -> None:
    kind, text = path.get("pathType"), path.get("path", "")
    if kind is None:
        causes.required(f"{field}.pathType", "pathType must be specified")
    elif kind in ("Exact", "Prefix"):
        _strict_path(text, f"{field}.path", causes)
    elif kind == "ImplementationSpecific":
        if text and not text.startswith("/"):
            causes.invalid(f"{field}.path", text, "must be an absolute path")
    else:
        causes.unsupported(f"{field}.pathType", kind, _PATH_TYPES)
    _backend(path.get("backend") or {}, f"{field}.backend", causes)


def _strict_path(text: str, field: str, causes: Causes) -> None:
    if not text.startswith("/"):
        causes.invalid(field, text, "must be an absolute path")
    for bad in _SEQUENCES:
        if bad in text:
            causes.invalid(field, text, f"must not contain '{bad}'")
    for bad in _ENDINGS:
        if text.endswith(bad):
            causes.invalid(field, text, f"cannot end with '{bad}'")


def _backend(backend: Document, field: str, causes: Causes) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        causes.invalid(field, "", "cannot set both resource and service backends")
    elif resource is not None:
        for key in ("kind", "name"):
            if not resource.get(key):
                causes.required(f"{field}.resource.{key}")
    elif service is not None:
        _service(service, field, causes)
    else:
        causes.required(field, "resource or service backend is required")


def _service(service: Document, field: str, causes: Causes) -> None:
    name, port = service.get("name", ""), service.get("port") or {}
    if not name:
        causes.required(f"{field}.service.name")
    else:
        causes.invalid_each(f"{field}.service.name", name, names.dns_label(name))
    number, named = port.get("number", 0), port.get("name", "")
    if named and number:
        causes.invalid(field, "", "cannot set both port name & port number")
    elif named:
        where = f"{field}.service.port.name"
        causes.invalid_each(where, named, names.port_name(named))
    elif number:
        causes.invalid_each(f"{field}.service.port.number", number, names.port_number(number))
    else:
        causes.required(field, "port name or number is required")


# ------------------------------------------------------------------------------------------------------- NetworkPolicy
def network_policy(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    label_selector(spec.get("podSelector"), "spec.podSelector", causes)
    for key, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(key) or ()):
            where = f"spec.{key}[{index}]"
            for number, port in enumerate(rule.get("ports") or ()):
                _port(port, f"{where}.ports[{number}]", causes)
            for number, peer in enumerate(rule.get(peers) or ()):
                _peer(peer, f"{where}.{peers}[{number}]", causes)
    types = spec.get("policyTypes") or []
    if len(types) > _TYPES_MAX:
        causes.invalid("spec.policyTypes", types, "may not specify more than two policyTypes")
        return
    for index, one in enumerate(types):
        causes.one_of(f"spec.policyTypes[{index}]", one, ("Egress", "Ingress"))


def _port(port: Document, field: str, causes: Causes) -> None:
    protocol = port.get("protocol")
    if protocol is not None:
        causes.one_of(f"{field}.protocol", protocol, _PROTOCOLS)
    number: Any = port.get("port")
    last = port.get("endPort")
    if isinstance(number, str):
        causes.invalid_each(f"{field}.port", number, names.port_name(number))
        if last is not None:
            causes.invalid(
                f"{field}.endPort", last, "may not be specified when `port` is non-numeric"
            )
    elif number is not None:
        causes.invalid_each(f"{field}.port", number, names.port_number(number))
        if last is not None:
            if last < number:
                causes.invalid(
                    f"{field}.endPort", number, "must be greater than or equal to `port`"
                )
            causes.invalid_each(f"{field}.endPort", last, names.port_number(last))
    elif last is not None:
        causes.invalid(
            f"{field}.endPort", last, "may not be specified when `port` is not specified"
        )


def _peer(peer: Document, field: str, causes: Causes) -> None:
    others = [key for key in ("podSelector", "namespaceSelector") if peer.get(key) is not None]
    for key in others:
        label_selector(peer[key], f"{field}.{key}", causes)
    block = peer.get("ipBlock")
    if block is not None:
        _block(block, f"{field}.ipBlock", causes)
    if not others and block is None:
        causes.required(field, "must specify a peer")
    elif others and block is not None:
        causes.forbidden(field, "may not specify both ipBlock and another peer")


def _block(block: Document, field: str, causes: Causes) -> None:
    cidr = block.get("cidr", "")
    if not cidr:
        causes.required(f"{field}.cidr")
        return
    before = len(causes)
    addresses.network(f"{field}.cidr", cidr, causes)
    if len(causes) > before:
        return
    whole = ipaddress.ip_network(cidr, strict=False)
    for index, text in enumerate(block.get("except") or ()):
        where = f"{field}.except[{index}]"
        before = len(causes)
        addresses.network(where, text, causes)
        if len(causes) > before:
            return
        part = ipaddress.ip_network(text, strict=False)
        inside = part.network_address in whole and part.prefixlen > whole.prefixlen
        if not inside:
            causes.invalid(where, text, "must be a strict subset of `cidr`")

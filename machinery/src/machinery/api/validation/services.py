"""Service: its type decides which fields it must and may not have."""

from typing import Any, Final

from machinery.api.services import (
    CLUSTER_IP,
    EXTERNAL_NAME,
    LOAD_BALANCER,
    NODE_PORT,
    NONE,
    is_external,
    is_headless,
    needs_cluster_ip,
    needs_health_port,
)
from machinery.api.validation import addresses
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import labels
from machinery.meta import names
from machinery.meta.resource import Document

PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
FAMILIES: Final = ("IPv4", "IPv6")
FAMILY_POLICIES: Final = ("PreferDualStack", "RequireDualStack", "SingleStack")
AFFINITY_SECONDS_MAX: Final = 86400
KUBELET_PORT: Final = 10250
_TYPES: Final = (CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT)
_DISTRIBUTIONS: Final = ("PreferClose", "PreferSameZone", "PreferSameNode")
_HINTS: Final = "service.kubernetes.io/topology-aware-hints"
_MODE: Final = "service.kubernetes.io/topology-mode"
_RANGES: Final = "service.beta.kubernetes.io/load-balancer-source-ranges"
_ONCE: Final = "may not change once set"
_BALANCERS_ONLY: Final = "may only be used when `type` is 'LoadBalancer'"


def service(document: Document, causes: Causes) -> None:
    """A Service as it would be stored, with its addresses and ports."""
    spec = document.get("spec") or {}
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    _topology(annotations, causes)
    if not spec.get("ports") and not is_headless(spec) and spec.get("type") != EXTERNAL_NAME:
        causes.required("spec.ports")
    _by_type(spec, causes)
    _ports(spec, causes)
    if selector := spec.get("selector"):
        labels(selector, "spec.selector", causes)
    _affinity(spec, causes)
    families(spec, causes)
    _external_ips(spec, causes)
    _type(spec, causes)
    _numbers_once(spec, causes)
    _source_ranges(spec, annotations, causes)
    _balancer(spec, causes)
    _policies(spec, causes)


def service_update(new: Document, old: Document, causes: Causes) -> None:
    """What an update may not change, then all of the above."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if EXTERNAL_NAME not in (spec.get("type"), before.get("type")):
        _addresses_kept(spec, before, causes)
        _families_kept(spec, before, causes)
    both = spec.get("type") == before.get("type") == LOAD_BALANCER
    if both and spec.get("loadBalancerClass") != before.get("loadBalancerClass"):
        causes.invalid("spec.loadBalancerClass", spec.get("loadBalancerClass"), _ONCE)
    service(new, causes)


# ---------------------------------------------------------------------------------------------------------- the parts
def _topology(annotations: Document, causes: Causes) -> None:
    hints, mode = annotations.get(_HINTS), annotations.get(_MODE)
    if hints is not None and mode is not None and hints != mode:
        causes.invalid(
            f"metadata.annotations[{_MODE}]",
            mode,
            f"must match annotations[{_HINTS}] when both are specified",
        )


def _by_type(spec: Document, causes: Causes) -> None:
    kind = spec.get("type")
    if kind == LOAD_BALANCER:
        for index, port in enumerate(spec.get("ports") or ()):
            if port.get("port") == KUBELET_PORT:
                causes.invalid(
                    f"spec.ports[{index}]",
                    KUBELET_PORT,
                    f"may not expose port {KUBELET_PORT} externally since it is used by kubelet",
                )
    if kind in (LOAD_BALANCER, NODE_PORT) and is_headless(spec):
        causes.invalid(
            "spec.clusterIPs[0]", NONE, f"may not be set to 'None' for {kind} services"
        )  # fmt: skip
    if kind == EXTERNAL_NAME:
        for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(key):
                causes.forbidden(f"spec.{key}", "may not be set for ExternalName services")
        target = spec.get("externalName", "").removesuffix(".")
        if target:
            causes.invalid_each("spec.externalName", target, names.dns_subdomain(target))
        else:
            causes.required("spec.externalName")


def _ports(spec: Document, causes: Causes) -> None:
    ports = spec.get("ports") or ()
    seen: set[str] = set()
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        named_port(port, field, causes, must_have_name=len(ports) > 1)
        name = port.get("name")
        if name and name in seen:
            causes.duplicate(f"{field}.name", name)
        seen.add(name)
        number = port.get("port", 0)
        causes.invalid_each(f"{field}.port", number, names.port_number(number))
        protocol(port, field, causes)
        target = port.get("targetPort", 0)
        check = names.port_name if isinstance(target, str) else names.port_number
        causes.invalid_each(f"{field}.targetPort", target, check(target))
        app_protocol(port, field, causes)


def named_port(port: Document, field: str, causes: Causes, *, must_have_name: bool) -> None:
    """The name of a port of a Service or of Endpoints."""
    name = port.get("name", "")
    if name:
        causes.invalid_each(f"{field}.name", name, names.dns_label(name))
    elif must_have_name:
        causes.required(f"{field}.name")


def protocol(port: Document, field: str, causes: Causes) -> None:
    value = port.get("protocol", "")
    if not value:
        causes.required(f"{field}.protocol")
    else:
        causes.one_of(f"{field}.protocol", value, PROTOCOLS)


def app_protocol(port: Document, field: str, causes: Causes) -> None:
    value = port.get("appProtocol")
    if value is not None:
        causes.invalid_each(f"{field}.appProtocol", value, names.qualified_name(value))


def _affinity(spec: Document, causes: Causes) -> None:
    value, config = spec.get("sessionAffinity", ""), spec.get("sessionAffinityConfig")
    if not value:
        causes.required("spec.sessionAffinity")
    else:
        causes.one_of("spec.sessionAffinity", value, ("ClientIP", "None"))
    field = "spec.sessionAffinityConfig"
    if value == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        if seconds is None:
            causes.required(field, "when session affinity type is ClientIP")
        elif not 0 < seconds <= AFFINITY_SECONDS_MAX:
            causes.invalid(
                f"{field}.clientIP.timeoutSeconds",
                seconds,
                f"must be greater than 0 and less than {AFFINITY_SECONDS_MAX}",
            )
    elif value == "None" and config is not None:
        causes.forbidden(field, "must not be set when session affinity is None")


def _external_ips(spec: Document, causes: Causes) -> None:
    for index, text in enumerate(spec.get("externalIPs") or ()):
        field = f"spec.externalIPs[{index}]"
        if addresses.address(field, text, causes) is not None:
            addresses.endpoint_address(field, text, causes)


def _type(spec: Document, causes: Causes) -> None:
    kind = spec.get("type", "")
    if not kind:
        causes.required("spec.type")
    else:
        causes.one_of("spec.type", kind, _TYPES)
    if kind == CLUSTER_IP:
        for index, port in enumerate(spec.get("ports") or ()):
            if port.get("nodePort"):
                causes.forbidden(
                    f"spec.ports[{index}].nodePort", "may not be used when `type` is 'ClusterIP'"
                )


def _numbers_once(spec: Document, causes: Causes) -> None:
    """No two ports of one protocol with the same nodePort, none with the same port."""
    ports = spec.get("ports") or ()
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        key = (port.get("protocol", ""), port.get("nodePort", 0))
        if key[1] and key in node_ports:
            causes.duplicate(f"spec.ports[{index}].nodePort", key[1])
        node_ports.add(key)
    numbers: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        key = (port.get("protocol", ""), port.get("port", 0))
        if key in numbers:
            causes.duplicate(f"spec.ports[{index}]", _go_port(*key))
        numbers.add(key)


def _go_port(protocol_name: str, number: int) -> Document:
    """How upstream shows the pair that stands twice: its internal struct, otherwise empty."""
    return {
        "Name": "", "Protocol": protocol_name, "AppProtocol": None, "Port": number,
        "TargetPort": 0, "NodePort": 0,
    }  # fmt: skip


def _source_ranges(spec: Document, annotations: Document, causes: Causes) -> None:
    ranges: list[str] = spec.get("loadBalancerSourceRanges") or []
    field = "spec.LoadBalancerSourceRanges"
    if ranges:
        if spec.get("type") != LOAD_BALANCER:
            causes.forbidden(field, _BALANCERS_ONLY)
        for index, text in enumerate(ranges):
            addresses.network(f"{field}[{index}]", text.strip(), causes)
    elif _RANGES in annotations:
        field = f"metadata.annotations[{_RANGES}]"
        if spec.get("type") != LOAD_BALANCER:
            causes.forbidden(field, _BALANCERS_ONLY)
        for text in filter(None, annotations[_RANGES].strip().split(",")):
            addresses.network(field, text.strip(), causes)


def _balancer(spec: Document, causes: Causes) -> None:
    balances = spec.get("type") == LOAD_BALANCER
    asked, chosen = spec.get("allocateLoadBalancerNodePorts"), spec.get("loadBalancerClass")
    if asked is not None and not balances:
        causes.forbidden("spec.allocateLoadBalancerNodePorts", _BALANCERS_ONLY)
    if asked is None and balances:
        causes.required("allocateLoadBalancerNodePorts")
    if chosen is None:
        return
    if balances:
        causes.invalid_each("spec.loadBalancerClass", chosen, names.qualified_name(chosen))
    else:
        causes.forbidden("spec.loadBalancerClass", _BALANCERS_ONLY)


def _policies(spec: Document, causes: Causes) -> None:
    external = spec.get("externalTrafficPolicy", "")
    if not is_external(spec):
        if external:
            causes.invalid(
                "spec.externalTrafficPolicy",
                external,
                "may only be set for externally-accessible services",
            )
    elif not external:
        causes.required("spec.externalTrafficPolicy")
    else:
        causes.one_of("spec.externalTrafficPolicy", external, ("Cluster", "Local"))
    _health_port(spec, causes)
    internal = spec.get("internalTrafficPolicy")
    if internal is None and needs_cluster_ip(spec):
        causes.required("spec.internalTrafficPolicy")
    if internal is not None:
        causes.one_of("spec.internalTrafficPolicy", internal, ("Cluster", "Local"))
    distribution = spec.get("trafficDistribution")
    if distribution is not None:
        causes.one_of("spec.trafficDistribution", distribution, _DISTRIBUTIONS)


def _health_port(spec: Document, causes: Causes) -> None:
    field, number = "spec.healthCheckNodePort", spec.get("healthCheckNodePort", 0)
    if needs_health_port(spec):
        if not number:
            causes.required(field)
        else:
            causes.invalid_each(field, number, names.port_number(number))
    elif number:
        causes.invalid(
            field,
            number,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        )


# --------------------------------------------------------------------------------------------- addresses and families
def families(spec: Document, causes: Causes) -> None:
    """clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy among themselves; asked before anything is allocated, too."""
    if spec.get("type") == EXTERNAL_NAME:
        return
    single, several = spec.get("clusterIP") or "", list(spec.get("clusterIPs") or ())
    if single and not several:
        causes.required("spec.clusterIPs")
    elif single and several[0] != single:
        causes.invalid("spec.clusterIPs", several, "first value must match `clusterIP`")
    elif several and not single:
        causes.invalid(
            "spec.clusterIPs", several, "must be empty when `clusterIP` is not specified"
        )
    wanted = spec.get("ipFamilies") or ()
    for index, family in enumerate(wanted):
        causes.one_of(f"spec.ipFamilies[{index}]", family, FAMILIES)
        if family in wanted[:index]:
            causes.duplicate(f"spec.ipFamilies[{index}]", family)
    if (policy := spec.get("ipFamilyPolicy")) is not None:
        causes.one_of("spec.ipFamilyPolicy", policy, FAMILY_POLICIES)
    if _well_formed(several, causes) and several and several != [NONE]:
        _families_of(several, wanted, causes)


def _well_formed(several: list[str], causes: Causes) -> bool:
    before = len(causes)
    for index, text in enumerate(several):
        if index == 0 and text == NONE:
            if len(several) > 1:
                causes.invalid(
                    "spec.clusterIPs", several, "'None' must be the first and only value"
                )
            continue
        _ = addresses.address(f"spec.clusterIPs[{index}]", text, causes)
    well = len(causes) == before
    if len(several) > 2:
        causes.invalid("spec.clusterIPs", several, "may only hold up to 2 values")
    return well


def _families_of(several: list[str], wanted: Any, causes: Causes) -> None:
    found = [family_of(text) for text in several]
    if len(found) > 1 and len(set(found)) != len(found):
        causes.invalid(
            "spec.clusterIPs", several, "may specify no more than one IP for each IP family"
        )
    for index, (text, family, given) in enumerate(zip(several, found, wanted, strict=False)):
        if given in FAMILIES and given != family:
            causes.invalid(
                f"spec.clusterIPs[{index}]",
                text,
                f"expected an {given} value as indicated by `ipFamilies[{index}]`",
            )


def family_of(text: str) -> str:
    """IPv4 or IPv6."""
    return "IPv6" if ":" in text else "IPv4"


def _addresses_kept(spec: Document, before: Document, causes: Causes) -> None:
    if is_headless(spec) and is_headless(before):
        return
    new, old = list(spec.get("clusterIPs") or ()), list(before.get("clusterIPs") or ())
    if len(new) == len(old):
        for index, (mine, was) in enumerate(zip(new, old, strict=True)):
            if mine != was:
                causes.invalid(f"spec.clusterIPs[{index}]", new, _ONCE)
        return
    if old and not new:
        causes.invalid("spec.clusterIPs[0]", None, "primary clusterIP can not be unset")
    elif old and new[0] != old[0]:
        causes.invalid("spec.clusterIPs[0]", new, _ONCE)
    if len(new) == 1 < len(old):
        _single_stack(spec, "clusterIP", causes)


def _families_kept(spec: Document, before: Document, causes: Causes) -> None:
    if is_headless(spec) or is_headless(before):
        return
    new, old = list(spec.get("ipFamilies") or ()), list(before.get("ipFamilies") or ())
    if len(new) == len(old):
        for index, (mine, was) in enumerate(zip(new, old, strict=True)):
            if mine != was:
                causes.invalid(f"spec.ipFamilies[{index}]", new, _ONCE)
        return
    if old and not new:
        causes.invalid("spec.ipFamilies[0]", None, "primary ipFamily can not be unset")
    elif old and new[0] != old[0]:
        causes.invalid("spec.ipFamilies[0]", new, _ONCE)
    if len(new) == 1 < len(old):
        _single_stack(spec, "ipFamily", causes)


def _single_stack(spec: Document, what: str, causes: Causes) -> None:
    policy = spec.get("ipFamilyPolicy")
    if policy != "SingleStack":
        causes.invalid(
            "spec.ipFamilyPolicy",
            policy,
            f"must be set to 'SingleStack' when releasing the secondary {what}",
        )

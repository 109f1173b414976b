"""Services, Endpoints and EndpointSlices: defaults, and what an update of a Service means where fields hang together.

A Service's type decides which fields it may have, and clients leave out what the server allocated for them. So an update
first gets back what it did not mention (`patch_allocated`), the old single `clusterIP` and the newer `clusterIPs` are
brought into line (`normalize`), and what belongs to a type that was left is dropped, unless the client touched it
(`drop_left_behind`). Pure; addresses and node ports are the server's (`server/services`).
"""

from typing import Any, Final

from machinery.meta.resource import Document

NONE: Final = "None"
AFFINITY_SECONDS: Final = 10800
HEALTH_PORT: Final = "healthCheckNodePort"
EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT = "ExternalName", "LoadBalancer", "NodePort"
CLUSTER_IP = "ClusterIP"


# ---------------------------------------------------------------------------------------------- what a type asks for
def is_headless(spec: Document) -> bool:
    """clusterIP None: no virtual address, the endpoints themselves are published."""
    return list(spec.get("clusterIPs") or ()) == [NONE] or (
        not spec.get("clusterIPs") and spec.get("clusterIP") == NONE
    )


def needs_cluster_ip(spec: Document) -> bool:
    return spec.get("type") in (CLUSTER_IP, NODE_PORT, LOAD_BALANCER)


def needs_node_ports(spec: Document) -> bool:
    """Whether ports may have a nodePort at all."""
    return spec.get("type") in (NODE_PORT, LOAD_BALANCER)


def wants_node_ports(spec: Document) -> bool:
    """Whether ports without a nodePort are given one."""
    if spec.get("type") == LOAD_BALANCER:
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == NODE_PORT


def needs_health_port(spec: Document) -> bool:
    return spec.get("type") == LOAD_BALANCER and spec.get("externalTrafficPolicy") == "Local"


def is_external(spec: Document) -> bool:
    """Reached from outside the cluster."""
    if spec.get("type") == CLUSTER_IP:
        return bool(spec.get("externalIPs"))
    return needs_node_ports(spec)


# ----------------------------------------------------------------------------------------------------------- defaults
def service_defaults(document: Document) -> Document:
    """A Service with the defaults of v1."""
    spec = dict(document.get("spec") or {})
    spec.setdefault("sessionAffinity", "None")
    _affinity(spec)
    spec.setdefault("type", CLUSTER_IP)
    if ports := spec.get("ports"):
        spec["ports"] = [_port(port) for port in ports]
    if is_external(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if needs_cluster_ip(spec):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == LOAD_BALANCER:
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    status = _status(document.get("status") or {}, spec["type"])
    return {**document, "spec": spec, "status": status}


def _affinity(spec: Document) -> None:
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        given = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if given.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}


def _port(port: Document) -> Document:
    out = {**port, "protocol": port.get("protocol") or "TCP"}
    if not out.get("targetPort"):
        out["targetPort"] = out.get("port", 0)
    return out


def _status(status: Document, service_type: str) -> Document:
    balancer = status.get("loadBalancer") or {}
    ingress = balancer.get("ingress")
    if ingress and service_type == LOAD_BALANCER:
        filled = [
            {**one, "ipMode": "VIP"} if one.get("ip") and one.get("ipMode") is None else one
            for one in ingress
        ]
        balancer = {**balancer, "ingress": filled}
    return {**status, "loadBalancer": balancer}


def endpoints_defaults(document: Document) -> Document:
    """Endpoints with the protocol of each port."""
    subsets = document.get("subsets")
    if not subsets:
        return document
    filled = []
    for subset in subsets:
        if ports := subset.get("ports"):
            ports = [{**port, "protocol": port.get("protocol") or "TCP"} for port in ports]
            subset = {**subset, "ports": ports}  # noqa: PLW2901 - a copy of what was looped over
        filled.append(subset)
    return {**document, "subsets": filled}


def slice_defaults(document: Document) -> Document:
    """An EndpointSlice with name and protocol of each port."""
    ports = document.get("ports")
    if not ports:
        return document
    filled = []
    for port in ports:
        name = port.get("name")
        filled.append(
            {**port, "name": name if name is not None else "", "protocol": port.get("protocol") or "TCP"}
        )  # fmt: skip
    return {**document, "ports": filled}


# ------------------------------------------------------------------------------------------------------------- create
def prepare_create(document: Document) -> Document:
    """A new Service: no status of the client's."""
    return {**document, "status": {"loadBalancer": {}}}


def with_plural_addresses(document: Document) -> Document:
    """clusterIPs from a lone clusterIP, of a client that knows only that."""
    spec = document.get("spec") or {}
    if not spec.get("clusterIP") or spec.get("clusterIPs"):
        return document
    return {**document, "spec": {**spec, "clusterIPs": [spec["clusterIP"]]}}


# ------------------------------------------------------------------------------------------------------------- update
def prepare_update(document: Document, old: Document) -> Document:
    """The Service that a write to its main endpoint leads to, before anything is allocated."""
    spec = dict(document.get("spec") or {})
    before = old.get("spec") or {}
    patch_allocated(spec, before)
    normalize(spec, before)
    drop_left_behind(spec, before)
    return {**document, "spec": spec}


def patch_allocated(spec: Document, before: Document) -> None:
    """Give back what the server had allocated and the client left out. Changes `spec`, a copy of the caller's."""
    if needs_cluster_ip(before) and needs_cluster_ip(spec):
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if not spec.get("clusterIPs") and spec.get("clusterIP") == before.get("clusterIP"):
            _put(spec, "clusterIPs", before.get("clusterIPs"))
    if needs_node_ports(before) and needs_node_ports(spec):
        spec["ports"] = _patched_ports(spec.get("ports") or [], before.get("ports") or [])
    if needs_health_port(before) and needs_health_port(spec) and not spec.get(HEALTH_PORT):
        _put(spec, HEALTH_PORT, before.get(HEALTH_PORT))


def _patched_ports(ports: list[Document], before: list[Document]) -> list[Document]:
    """Ports of the same name keep their nodePort, unless another port has it now."""
    used = {p["nodePort"] for p in before if p.get("nodePort")}
    used &= {p["nodePort"] for p in ports if p.get("nodePort")}
    known = {p.get("name", ""): p.get("nodePort", 0) for p in before}
    out: list[Document] = []
    for port in ports:
        number = known.get(port.get("name", ""), 0)
        if not port.get("nodePort") and number and number not in used:
            used.add(number)
            port = {**port, "nodePort": number}  # noqa: PLW2901 - a copy of what was looped over
        out.append(port)
    return out


def normalize(spec: Document, before: Document) -> None:
    """Bring clusterIP and clusterIPs into line where the client changed one of them. Changes `spec`."""
    single, was = spec.get("clusterIP") or "", before.get("clusterIP") or ""
    if before.get("clusterIPs") and not spec.get("clusterIPs") and single == was:
        spec["clusterIPs"] = before["clusterIPs"]
    if single == was or not _same(spec, before, "clusterIPs"):
        return
    if was and not single:
        spec.pop("clusterIPs", None)
    else:
        spec["clusterIPs"] = [single]


def drop_left_behind(spec: Document, before: Document) -> None:
    """Drop what belongs to the type that was left and the client did not touch. Changes `spec`."""
    if needs_cluster_ip(before) and not needs_cluster_ip(spec):
        if _same(spec, before, "clusterIP") and _same(spec, before, "clusterIPs"):
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
        for key in ("ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            _drop_same(spec, before, key)
    if needs_node_ports(before) and not needs_node_ports(spec) and _same_node_ports(spec, before):
        spec["ports"] = [
            {k: v for k, v in port.items() if k != "nodePort"} for port in spec.get("ports") or ()
        ]
    if needs_health_port(before) and not needs_health_port(spec):
        _drop_same(spec, before, HEALTH_PORT)
    if before.get("type") == LOAD_BALANCER and spec.get("type") != LOAD_BALANCER:
        _drop_same(spec, before, "allocateLoadBalancerNodePorts")
        _drop_same(spec, before, "loadBalancerClass")
    if is_external(before) and not is_external(spec):
        _drop_same(spec, before, "externalTrafficPolicy")


def _same_node_ports(spec: Document, before: Document) -> bool:
    numbers = [{p.get("nodePort", 0) for p in s.get("ports") or ()} for s in (spec, before)]
    return numbers[0] == numbers[1]


def _same(spec: Document, before: Document, key: str) -> bool:
    return (spec.get(key) or None) == (before.get(key) or None)


def _drop_same(spec: Document, before: Document, key: str) -> None:
    if key in spec and _same(spec, before, key):
        del spec[key]


def _put(spec: Document, key: str, value: Any) -> None:
    if value:
        spec[key] = value


# ----------------------------------------------------------------------------------------------------- EndpointSlice
def slice_changed(new: Document, old: Document) -> bool:
    """Whether a slice's generation rises: with its content or its labels."""
    parts = [
        {k: v for k, v in d.items() if k not in ("metadata", "apiVersion", "kind")} for d in (new, old)
    ]  # fmt: skip
    labels = [(d.get("metadata") or {}).get("labels") or {} for d in (new, old)]
    return parts[0] != parts[1] or labels[0] != labels[1]

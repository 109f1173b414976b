"""Views of NetworkPolicy (networking.k8s.io), and of pods as whoever enforces one reads them.

Selectors stay in wire shape: `machinery.meta.selectors.from_object` makes them askable, and an absent one is not an empty
one. `PolicyPod` is a quarter of a Pod in memory; a node that enforces policies holds one for every pod of its cluster.
"""

from typing import Any

import msgspec

from machinery.api.core import PodIP
from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import ObjectKey, Resource

LabelSelector = dict[str, Any]


class IPBlock(View):
    cidr: str = ""
    except_: tuple[str, ...] = msgspec.field(name="except", default=())


class NetworkPolicyPeer(View):
    """Either a block, or pods of the policy's namespace, or pods of namespaces."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IPBlock | None = msgspec.field(name="ipBlock", default=None)


class NetworkPolicyPort(View):
    """A number, with `end_port` a range, or a name; without either every port of the protocol."""

    protocol: str = "TCP"
    port: int | str | None = None
    end_port: int | None = None


class NetworkPolicyIngressRule(View):
    from_: tuple[NetworkPolicyPeer, ...] = msgspec.field(name="from", default=())
    ports: tuple[NetworkPolicyPort, ...] = ()


class NetworkPolicyEgressRule(View):
    to: tuple[NetworkPolicyPeer, ...] = ()
    ports: tuple[NetworkPolicyPort, ...] = ()


class NetworkPolicySpec(View):
    """`policy_types` is filled in by the server."""

    pod_selector: LabelSelector = {}
    policy_types: tuple[str, ...] = ()
    ingress: tuple[NetworkPolicyIngressRule, ...] = ()
    egress: tuple[NetworkPolicyEgressRule, ...] = ()


class NetworkPolicy(Object):
    spec: NetworkPolicySpec = NetworkPolicySpec()


class PolicyPodPort(View):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class PolicyPodContainer(View):
    """`restart_policy` of an init container that runs beside the others is Always."""

    ports: tuple[PolicyPodPort, ...] = ()
    restart_policy: str = ""


class PolicyPodSpec(View):
    node_name: str = ""
    host_network: bool = False
    containers: tuple[PolicyPodContainer, ...] = ()
    init_containers: tuple[PolicyPodContainer, ...] = ()


class PolicyPodStatus(View):
    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: tuple[PodIP, ...] = msgspec.field(name="podIPs", default=())


class PolicyPodMeta(View):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}


class PolicyPod(View):
    """A Pod: where it is, what it is called and where it listens."""

    metadata: PolicyPodMeta = PolicyPodMeta()
    spec: PolicyPodSpec = PolicyPodSpec()
    status: PolicyPodStatus = PolicyPodStatus()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.metadata.namespace, self.metadata.name)

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None


NETWORK_POLICIES: Resource[NetworkPolicy] = Resource(
    "networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True, NetworkPolicy
)
POLICY_PODS: Resource[PolicyPod] = Resource("", "v1", "pods", "Pod", True, PolicyPod)

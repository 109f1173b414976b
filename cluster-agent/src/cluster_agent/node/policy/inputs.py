"""NetworkPolicies, pods and namespaces of the API, turned into what the enforcer enforces.

`policy_of` and `pod_of` are the rule, `PolicyFeed` keeps the enforcer at it. While the cluster has no policy, one watch of
policies is all that it costs; pods and namespaces of the whole cluster are watched from the first policy to the last.

A pod's address comes from the kubelet of this node before the API has it (`announce`): its containers start when its
policies hold. Not selected, and no peer by its labels: a pod on the host's network, and one that has ended.
"""

import asyncio
import logging
from typing import TypeAlias

from cluster_agent.node.policy.enforcer import Enforcer
from cluster_agent.node.policy.model import (
    EGRESS,
    INGRESS,
    Block,
    Group,
    Pod,
    Policy,
    Port,
    Rule,
)
from machinery.api import core, network_kinds
from machinery.api.core import NAMESPACES, Namespace
from machinery.api.network_kinds import (
    NETWORK_POLICIES,
    POLICY_PODS,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    PolicyPod,
)
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner
from machinery.meta.selectors import EVERYTHING, from_object

log = logging.getLogger(__name__)

ENDED = ("Succeeded", "Failed")

AnyPod: TypeAlias = PolicyPod | core.Pod
"""As the API tells it to us, or as the kubelet has it."""


# --------------------------------------------------------------------------------------------------------------- values
def policy_of(policy: network_kinds.NetworkPolicy) -> Policy:
    """A NetworkPolicy as the server keeps it. Pure."""
    namespace, spec = policy.metadata.namespace, policy.spec
    given = {
        INGRESS: tuple(_rule(namespace, one.from_, one.ports) for one in spec.ingress),
        EGRESS: tuple(_rule(namespace, one.to, one.ports) for one in spec.egress),
    }
    types = [one.lower() for one in spec.policy_types]
    if not types:
        types = [INGRESS, EGRESS] if spec.egress else [INGRESS]
    return Policy(
        subject=Group(from_object(spec.pod_selector), namespace),
        rules={direction: given[direction] for direction in types if direction in given},
    )


def _rule(
    namespace: str, peers: tuple[NetworkPolicyPeer, ...], ports: tuple[NetworkPolicyPort, ...]
) -> Rule:
    return Rule(
        tuple(dict.fromkeys(_peer(namespace, peer) for peer in peers)),
        tuple(dict.fromkeys(_port(port) for port in ports)),
    )


def _peer(namespace: str, peer: NetworkPolicyPeer) -> Group | Block:
    if peer.ip_block is not None:
        return Block(peer.ip_block.cidr, peer.ip_block.except_)
    pods = EVERYTHING if peer.pod_selector is None else from_object(peer.pod_selector)
    if peer.namespace_selector is None:
        return Group(pods, namespace)
    return Group(pods, spaces=from_object(peer.namespace_selector))


def _port(port: NetworkPolicyPort) -> Port:
    protocol = port.protocol.lower()
    if isinstance(port.port, str):
        return Port(protocol, name=port.port)
    return Port(protocol, port.port, port.end_port)


def pod_of(pod: AnyPod, announced: tuple[str, ...] = ()) -> Pod | None:
    """A pod that has a place in the network, or None. `announced`: addresses that the API may not have yet. Pure."""
    spec, status = pod.spec, pod.status
    if spec.host_network or status.phase in ENDED:
        return None
    ips = tuple(one.ip for one in status.pod_ips) or ((status.pod_ip,) if status.pod_ip else ())
    sidecars = (one for one in spec.init_containers if one.restart_policy == "Always")
    ports = [
        (port.name, port.protocol.lower(), port.container_port)
        for container in (*spec.containers, *sidecars)
        for port in container.ports
        if port.name
    ]
    return Pod(
        labels=pod.metadata.labels,
        ips=ips or announced,
        node=spec.node_name,
        ports=tuple(dict.fromkeys(ports)),
        leaving=pod.deleting,
    )


# ----------------------------------------------------------------------------------------------------------------- feed
class PolicyFeed:
    """Keeps an enforcer at what the API says; `run` is its task."""

    def __init__(self, enforcer: Enforcer, client: Client, clock: Clock) -> None:
        self.enforcer, self._client, self._clock = enforcer, client, clock
        self.policies = Informer(client, NETWORK_POLICIES, clock)
        self.pods: Informer[PolicyPod] | None = None
        """While there is a policy."""
        self.known = asyncio.Event()
        """Set once and for all when everything was heard of for the first time."""
        self._announced: dict[str, tuple[str, ...]] = {}
        """uid of a pod of this node -> its addresses."""
        self._look = asyncio.Event()
        self.policies.on_change(self._on_policy)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            _ = group.create_task(self.policies.run())
            await self.policies.wait_synced()
            while True:
                if len(self.policies):
                    await self._enforce()
                else:
                    self._complete()
                    _ = await self._look.wait()
                    self._look.clear()

    async def _enforce(self) -> None:
        """From the first policy to the last."""
        pods = Informer(self._client, POLICY_PODS, self._clock)
        spaces = Informer(self._client, NAMESPACES, self._clock)
        pods.on_change(self._on_pod)
        spaces.on_change(self._on_space)
        self.enforcer.complete(False)
        self.pods = pods
        tasks = TaskOwner()
        try:
            _ = tasks.spawn(pods.run(), "pods of the cluster")
            _ = tasks.spawn(spaces.run(), "namespaces of the cluster")
            await pods.wait_synced()
            await spaces.wait_synced()
            log.info("network policies are enforced", extra={"policies": len(self.policies)})
            self._complete()
            while len(self.policies):
                _ = await self._look.wait()
                self._look.clear()
        finally:
            self.pods = None
            await tasks.close()
        self.enforcer.forget_pods()
        log.info("no network policy is left")

    def _complete(self) -> None:
        self.enforcer.complete()
        self.known.set()

    # -------------------------------------------------------------------------------------------------- from the API
    def _on_policy(
        self,
        old: network_kinds.NetworkPolicy | None,
        new: network_kinds.NetworkPolicy | None,
    ) -> None:
        policy = new or old
        assert policy is not None
        self.enforcer.put_policy(policy.key, policy_of(new) if new is not None else None)
        self._look.set()

    def _on_pod(self, old: PolicyPod | None, new: PolicyPod | None) -> None:
        pod = new or old
        assert pod is not None
        self.enforcer.put_pod(pod.key, self._pod_of(new) if new is not None else None)

    def _pod_of(self, pod: AnyPod) -> Pod | None:
        return pod_of(pod, self._announced.get(pod.metadata.uid, ()))

    def _on_space(self, old: Namespace | None, new: Namespace | None) -> None:
        space = new or old
        assert space is not None
        labels = new.metadata.labels if new is not None else None
        self.enforcer.put_space(space.metadata.name, labels)

    # ---------------------------------------------------------------------------------------------- from the kubelet
    def announce(self, pod: core.Pod, ips: tuple[str, ...]) -> None:
        """A pod of this node has its addresses and will run; the API may know later, or not of the pod at all yet."""
        uid = pod.metadata.uid
        if self._announced.get(uid) == ips:
            return
        self._announced[uid] = ips
        if self.pods is not None:
            held = self.pods.get(pod.key)
            known = held is not None and held.metadata.uid == uid
            self.enforcer.put_pod(
                pod.key, self._pod_of(held if held is not None and known else pod)
            )

    def forget(self, pod: core.Pod) -> None:
        """The pod is gone from this node."""
        _ = self._announced.pop(pod.metadata.uid, None)
        if self.pods is not None and self.pods.get(pod.key) is None:
            self.enforcer.put_pod(pod.key, None)

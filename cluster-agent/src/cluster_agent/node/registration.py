"""The Node object and its Lease: that the node exists, what it offers, and that it lives.

Documents are made by pure functions; `Registration` keeps one or many nodes (hollow ones share it) in step: created
when absent, also after somebody deleted them; status patched when it differs from what the API has and otherwise
every five minutes; leases renewed every ten seconds. Conditions of others stay: the patch is strategic, by type.
"""

import asyncio
import datetime as dt
import logging
import os
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster_agent.node.annotations import Annotations
from cluster_agent.node.config import VERSION, NodeConfig
from cluster_agent.node.cri.interface import RuntimeStatus
from machinery.api.coordination import LEASES
from machinery.api.core import NODES, Node
from machinery.client.informer import Informer
from machinery.client.interface import Client, PatchType
from machinery.kit.clock import Clock, rfc3339, rfc3339_micro
from machinery.meta.errors import AlreadyExists, NotFound, StatusError
from machinery.meta.objectmeta import condition
from machinery.meta.quantity import quantity_of
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

CHECK_S = 10.0
LEASE_NAMESPACE = "kube-node-lease"
BURST = 16
"""Requests at a time when many hollow nodes register or renew."""

_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found out about this machine at the start."""

    arch: str
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str
    cpus: int
    memory_bytes: int
    disk_bytes: int

    @classmethod
    def read(cls, state_dir: str) -> "Machine":
        """Look at /proc and /etc."""
        disk = os.statvfs(state_dir)
        memory = next(
            (line for line in _text("/proc/meminfo").splitlines() if line.startswith("MemTotal")),
            "MemTotal: 1048576 kB",
        )
        os_image = next(
            (
                line.split("=", 1)[1].strip('"')
                for line in _text("/etc/os-release").splitlines()
                if line.startswith("PRETTY_NAME=")
            ),
            "Linux",
        )
        return cls(
            arch=_ARCH.get(platform.machine(), platform.machine()),
            kernel=platform.release(),
            os_image=os_image,
            machine_id=_text("/etc/machine-id").strip(),
            boot_id=_text("/proc/sys/kernel/random/boot_id").strip(),
            cpus=os.cpu_count() or 1,
            memory_bytes=int(memory.split()[1]) * 1024,
            disk_bytes=disk.f_blocks * disk.f_frsize,
        )


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What changes while the node runs."""

    name: str
    ip: str
    port: int
    runtime_version: str
    """`containerd://1.6.20`."""
    ready: bool = True
    not_ready_message: str = ""
    images: Sequence[Document] = field(default=())


# -------------------------------------------------------------------------------------------------------- documents
def node_labels(config: NodeConfig, machine: Machine, name: str) -> dict[str, str]:
    """The labels that a node gives itself."""
    labels = {
        "beta.kubernetes.io/arch": machine.arch,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.arch,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }
    if config.zone:
        labels["topology.kubernetes.io/zone"] = config.zone
    if config.region:
        labels["topology.kubernetes.io/region"] = config.region
    if config.hollow:
        labels["ubernetes.io/hollow"] = "true"
    return labels | dict(config.labels)


def node_document(
    config: NodeConfig, machine: Machine, facts: NodeFacts, now: dt.datetime
) -> Document:
    """The Node as it registers."""
    spec: Document = {}
    if config.pod_cidr and not (config.hollow and config.hollow_count > 1):
        spec |= {"podCIDR": config.pod_cidr, "podCIDRs": [config.pod_cidr]}
    if config.taints:
        spec["taints"] = [dict(taint) for taint in config.taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": facts.name, "labels": node_labels(config, machine, facts.name)},
        "spec": spec,
        "status": node_status(config, machine, facts, now, None),
    }


def capacity(config: NodeConfig, machine: Machine) -> dict[str, str]:
    """What the machine has; settings win over measurements."""
    measured = {
        "cpu": str(machine.cpus),
        "ephemeral-storage": f"{machine.disk_bytes // 1024}Ki",
        "memory": f"{machine.memory_bytes // 1024}Ki",
        "pods": str(config.max_pods),
    }
    return measured | dict(config.capacity)


def allocatable(capacities: Mapping[str, str], reserved: Mapping[str, str]) -> dict[str, str]:
    """Capacity less what is reserved, never below zero."""
    result = dict(capacities)
    for name, amount in reserved.items():
        if name in result:
            has, kept = quantity_of(result[name]), quantity_of(amount)
            result[name] = str(replace(has, value=max(has.value - kept.value, has.value * 0)))
    return result


def node_status(
    config: NodeConfig,
    machine: Machine,
    facts: NodeFacts,
    now: dt.datetime,
    before: Node | None,
) -> Document:
    """The status of a Node; transition times are kept while a condition's status stays."""
    capacities = capacity(config, machine)
    return {
        "addresses": [
            {"type": "InternalIP", "address": facts.ip},
            {"type": "Hostname", "address": facts.name},
        ],
        "allocatable": allocatable(capacities, config.reserved),
        "capacity": capacities,
        "conditions": _conditions(facts, now, before),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": facts.port}},
        "images": list(facts.images),
        "nodeInfo": {
            "architecture": machine.arch,
            "bootID": machine.boot_id,
            "containerRuntimeVersion": facts.runtime_version,
            "kernelVersion": machine.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": VERSION,
            "machineID": machine.machine_id,
            "operatingSystem": "linux",
            "osImage": machine.os_image,
            "systemUUID": machine.machine_id,
        },
    }


def _conditions(facts: NodeFacts, now: dt.datetime, before: Node | None) -> list[Document]:
    wanted = [(kind, "False", reason, message) for kind, reason, message in _PRESSURES]
    if facts.ready:
        wanted.append(("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    else:
        wanted.append(("Ready", "False", "KubeletNotReady", facts.not_ready_message))
    known = before.status.conditions if before is not None else ()
    result = []
    for kind, status, reason, message in wanted:
        old = condition(known, kind)
        since = now
        if old is not None and old.status == status and old.last_transition_time is not None:
            since = old.last_transition_time
        result.append(
            {
                "type": kind,
                "status": status,
                "lastHeartbeatTime": rfc3339(now),
                "lastTransitionTime": rfc3339(since),
                "reason": reason,
                "message": message,
            }
        )
    return result


def differs(config: NodeConfig, machine: Machine, facts: NodeFacts, node: Node) -> bool:
    """Whether the API's Node says something else than is true (times aside)."""
    status = node.status
    capacities = capacity(config, machine)
    endpoint = status.daemon_endpoints.kubelet_endpoint
    same = (
        status.capacity == capacities
        and status.allocatable == allocatable(capacities, config.reserved)
        and [(a.type, a.address) for a in status.addresses]
        == [("InternalIP", facts.ip), ("Hostname", facts.name)]
        and endpoint is not None
        and endpoint.port == facts.port
        and status.node_info.kubelet_version == VERSION
        and status.node_info.boot_id == machine.boot_id
        and status.node_info.container_runtime_version == facts.runtime_version
        and [list(i.names) for i in status.images] == [i["names"] for i in facts.images]
    )
    if not same:
        return True
    ready = condition(status.conditions, "Ready")
    wanted = ("True", "") if facts.ready else ("False", facts.not_ready_message)
    if ready is None or ready.status != wanted[0] or (wanted[1] and ready.message != wanted[1]):
        return True
    return any(
        (found := condition(status.conditions, kind)) is None or found.status != "False"
        for kind, _, _ in _PRESSURES
    )


def missing_labels(config: NodeConfig, machine: Machine, node: Node) -> dict[str, str]:
    """Our own labels that the Node does not carry (any more)."""
    wanted = node_labels(config, machine, node.metadata.name)
    return {k: v for k, v in wanted.items() if node.metadata.labels.get(k) != v}


def ready_message(status: RuntimeStatus) -> str:
    """Why a node is not ready; empty when it is. Upstream's wording."""
    if not status.runtime_ready:
        return "container runtime is down"
    if not status.network_ready:
        return (
            "container runtime network not ready: NetworkReady=false "
            f"reason:NetworkPluginNotReady message:{status.message}"
        )
    return ""


def lease_document(name: str, duration_s: int, now: dt.datetime, uid: str) -> Document:
    """The node's Lease; owned by the Node, so that it goes with it."""
    metadata: Document = {"name": name, "namespace": LEASE_NAMESPACE}
    if uid:
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": duration_s,
            "renewTime": rfc3339_micro(now),
        },
    }


# -------------------------------------------------------------------------------------------------------- the effects
class Registration:
    """Keeps the Nodes of this process registered, their status true and their leases fresh."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        config: NodeConfig,
        machine: Machine,
        nodes: Informer[Node],
        facts: Callable[[str], NodeFacts],
        renewed: Callable[[str, str, float], None] = lambda name, word, at: None,
        annotations: Callable[[str], Annotations] = lambda name: Annotations(),
    ) -> None:
        """`renewed` hears, before a Lease is renewed, of the node, the time written there and the monotonic time.
        `annotations` are what a node wants on its Node; whoever changes them calls `wake`."""
        self._renewed, self._annotations = renewed, annotations
        self._client, self._clock, self._config = client, clock, config
        self._machine, self._nodes, self._facts = machine, nodes, facts
        self._names = config.node_names()
        self._reported: dict[str, float] = {}
        self._leased: set[str] = set()
        self._limit = asyncio.Semaphore(BURST)
        self._wake = asyncio.Event()
        nodes.on_change(self._on_node)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        name = (old or new or Node()).metadata.name
        if name in self._names and new is None:
            self._leased.discard(name)
            self._wake.set()

    def wake(self) -> None:
        """Something that the Node tells has changed: look now."""
        self._wake.set()

    async def register_all(self) -> None:
        """Create or adopt every Node, and its lease. Raises when the API is away."""
        await self._each(self._register)
        await self._each(self._renew)

    async def run_status(self) -> None:
        """Until cancelled: a look every ten seconds, or when woken."""
        while True:
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self._each(self._check_logged)

    async def run_leases(self) -> None:
        """Until cancelled: a renewal every ten seconds."""
        while True:
            started = self._clock.monotonic()
            await self._each(self._renew_logged)
            spent = self._clock.monotonic() - started
            await self._clock.sleep(max(self._config.lease_renew_s - spent, 1.0))

    async def _each(self, work: Callable[[str], Awaitable[None]]) -> None:
        if len(self._names) == 1:
            await work(self._names[0])
            return
        async with asyncio.TaskGroup() as group:
            for name in self._names:
                _ = group.create_task(self._limited(work, name))

    async def _limited(self, work: Callable[[str], Awaitable[None]], name: str) -> None:
        async with self._limit:
            await work(name)

    async def _register(self, name: str) -> None:
        now = self._clock.now()
        document = node_document(self._config, self._machine, self._facts(name), now)
        notes = self._annotations(name).missing({})
        document["metadata"]["annotations"] = {
            **(document["metadata"].get("annotations") or {}),
            **{key: value for key, value in notes.items() if value is not None},
        }
        try:
            await self._client.create(NODES, document)
            log.info("node registered", extra={"node": name})
        except AlreadyExists:
            node = await self._client.get(NODES, ObjectKey("", name))
            await self._adopt(node)
        self._reported[name] = self._clock.monotonic()

    async def _adopt(self, node: Node) -> None:
        name = node.metadata.name
        if labels := missing_labels(self._config, self._machine, node):
            patch = {"metadata": {"labels": labels}}
            await self._client.patch(NODES, node.key, patch)
        await self._report(name, node)

    async def _report(self, name: str, node: Node | None) -> None:
        now = self._clock.now()
        status = node_status(self._config, self._machine, self._facts(name), now, node)
        addresses = [*status["addresses"], {"$patch": "replace"}]
        await self._client.patch(
            NODES,
            ObjectKey("", name),
            {"status": status | {"addresses": addresses}},
            PatchType.STRATEGIC,
            subresource="status",
        )
        self._reported[name] = self._clock.monotonic()

    async def check(self, name: str) -> None:
        """One look at one Node. Raises StatusError, ConnectionError."""
        node = self._nodes.get(ObjectKey("", name))
        if node is None:
            if self._nodes.synced:
                await self._register(name)
                await self._renew(name)
            return
        age = self._clock.monotonic() - self._reported.get(name, float("-inf"))
        if missing_labels(self._config, self._machine, node):
            await self._adopt(node)
        elif age >= self._config.status_report_s or differs(
            self._config, self._machine, self._facts(name), node
        ):
            try:
                await self._report(name, node)
            except NotFound:
                await self._register(name)
                return
        if notes := self._annotations(name).missing(node.metadata.annotations):
            await self._client.patch(NODES, node.key, {"metadata": {"annotations": notes}})

    async def _check_logged(self, name: str) -> None:
        try:
            await self.check(name)
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.warning("node status not written", extra={"node": name, "error": str(error)})

    async def _renew(self, name: str) -> None:
        key = ObjectKey(LEASE_NAMESPACE, name)
        now = self._clock.now()
        self._renewed(name, rfc3339_micro(now), self._clock.monotonic())
        if name in self._leased:
            try:
                patch = {"spec": {"renewTime": rfc3339_micro(now)}}
                await self._client.patch(LEASES, key, patch)
            except NotFound:
                self._leased.discard(name)
            else:
                return
        node = self._nodes.get(ObjectKey("", name))
        uid = node.metadata.uid if node is not None else ""
        document = lease_document(name, self._config.lease_duration_s, now, uid)
        try:
            await self._client.create(LEASES, document, LEASE_NAMESPACE)
        except AlreadyExists:
            await self._client.patch(LEASES, key, {"spec": document["spec"]})
        self._leased.add(name)

    async def _renew_logged(self, name: str) -> None:
        try:
            await self._renew(name)
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.warning("lease not renewed", extra={"node": name, "error": str(error)})

"""The scheduler's picture of the cluster: nodes as rows of arrays, pods counted into them.

A decision over a thousand nodes must not walk a thousand Python objects. Rows hold what changes with each placement
(used resources) as numpy arrays; what depends on a node alone is cached per class of pods and dropped when the node's
own facts change. The picture is mutable and has one owner; a decision reads it, `assume` writes it.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from machinery.api.core import Node, Pod
from machinery.scheduling import resources
from machinery.scheduling.resources import CPU, MEMORY, PODS, STORAGE
from machinery.scheduling.selection import Matcher

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
MATCHERS_KEPT_MAX = 256
FIRST_COLUMNS = (CPU, MEMORY, PODS, STORAGE)


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the node that a pod takes; the empty address is all addresses."""

    address: str
    protocol: str
    port: int

    def clashes(self, other: "HostPort") -> bool:
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.address == other.address or not self.address or not other.address


class PodInfo:
    """A pod and what the scheduler derives from it once."""

    __slots__ = ("namespace", "pod", "ports", "requests", "scored", "uid")

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.uid = pod.metadata.uid or f"{pod.metadata.namespace}/{pod.metadata.name}"
        self.namespace = pod.metadata.namespace
        self.requests = resources.pod_requests(pod)
        self.scored = resources.pod_scored_requests(pod)
        self.ports = host_ports(pod)

    @property
    def labels(self) -> Mapping[str, str]:
        return self.pod.metadata.labels

    @property
    def terminating(self) -> bool:
        return self.pod.metadata.deletion_timestamp is not None

    @property
    def has_affinity(self) -> bool:
        affinity = self.pod.spec.affinity
        return affinity is not None and (
            affinity.pod_affinity is not None or affinity.pod_anti_affinity is not None
        )


def host_ports(pod: Pod) -> tuple[HostPort, ...]:
    """The ports that the pod takes on its node."""
    found = []
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        for port in container.ports:
            number = port.host_port or (port.container_port if pod.spec.host_network else 0)
            if number:
                address = "" if port.host_ip in ("", "0.0.0.0", "::") else port.host_ip  # noqa: S104
                found.append(HostPort(address, port.protocol or "TCP", number))
    return tuple(found)


def node_facts(node: Node) -> tuple[object, ...]:
    """What of a node static filters and scores depend on; a heartbeat does not change it."""
    return (
        tuple(sorted(node.metadata.labels.items())),
        node.spec.taints,
        node.spec.unschedulable,
        tuple(sorted((k, str(v)) for k, v in node.status.allocatable.items())),
        node.status.images,
    )


class Snapshot:
    """Nodes and the pods on them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.nodes: list[Node] = []
        self.pods: list[dict[str, PodInfo]] = []
        self.columns: dict[str, int] = {name: i for i, name in enumerate(FIRST_COLUMNS)}
        self.generation = 0
        """Grows when a node's own facts or the set of nodes change; caches hang on it."""
        self.with_affinity: dict[str, tuple[str, PodInfo]] = {}
        """Placed pods with affinity terms of their own, by uid, with their node's name."""
        self._rows: dict[str, int] = {}
        self._where: dict[str, str] = {}
        self._orphans: dict[str, dict[str, PodInfo]] = {}
        self._facts: list[tuple[object, ...]] = []
        self._allocatable = np.zeros((0, len(FIRST_COLUMNS)), np.int64)
        self._used = np.zeros((0, len(FIRST_COLUMNS)), np.int64)
        self._scored = np.zeros((0, 2), np.int64)
        self._topologies: dict[str, tuple[Ints, list[str]]] = {}
        self._counts: OrderedDict[tuple[str, Matcher], Ints] = OrderedDict()

    # ------------------------------------------------------------------------------------------ nodes
    def __len__(self) -> int:
        return len(self.names)

    def row(self, node: str) -> int | None:
        return self._rows.get(node)

    def set_node(self, node: Node) -> bool:
        """Add or replace a node; True when something that placement depends on has changed."""
        name = node.metadata.name
        facts = node_facts(node)
        row = self._rows.get(name)
        if row is None:
            self._append(node, facts)
            for info in self._orphans.pop(name, {}).values():
                self._place(info, name)
            return True
        self.nodes[row] = node
        if self._facts[row] == facts:
            return False
        self._facts[row] = facts
        self._set_allocatable(row, node)
        self._changed()
        return True

    def remove_node(self, name: str) -> None:
        """Forget a node; its pods wait, should it come back."""
        row = self._rows.get(name)
        if row is None:
            return
        waiting = dict(self.pods[row])
        for uid in list(waiting):
            self.remove_pod(uid)
        keep = [i for i in range(len(self.names)) if i != row]
        self._allocatable = self._allocatable[keep]
        self._used, self._scored = self._used[keep], self._scored[keep]
        for column in (self.names, self.nodes, self.pods, self._facts):
            del column[row]
        self._rows = {n: i for i, n in enumerate(self.names)}
        self._counts.clear()
        self._changed()
        for info in waiting.values():
            self._orphan(info, name)

    def _append(self, node: Node, facts: tuple[object, ...]) -> None:
        width = len(self.columns)
        self._rows[node.metadata.name] = len(self.names)
        self.names.append(node.metadata.name)
        self.nodes.append(node)
        self.pods.append({})
        self._facts.append(facts)
        self._allocatable = np.vstack([self._allocatable, np.zeros((1, width), np.int64)])
        self._used = np.vstack([self._used, np.zeros((1, width), np.int64)])
        self._scored = np.vstack([self._scored, np.zeros((1, 2), np.int64)])
        self._counts.clear()
        self._set_allocatable(len(self.names) - 1, node)
        self._changed()

    def _set_allocatable(self, row: int, node: Node) -> None:
        offered = resources.node_allocatable(node)
        for name in offered:
            self._column(name)
        self._allocatable[row] = 0
        for name, value in offered.items():
            self._allocatable[row, self.columns[name]] = value

    def _column(self, resource: str) -> int:
        column = self.columns.get(resource)
        if column is None:
            column = self.columns[resource] = len(self.columns)
            empty = np.zeros((len(self.names), 1), np.int64)
            self._allocatable = np.hstack([self._allocatable, empty])
            self._used = np.hstack([self._used, empty])
        return column

    def _changed(self) -> None:
        self.generation += 1
        self._topologies.clear()

    # ------------------------------------------------------------------------------------------- pods
    def add_pod(self, info: PodInfo, node: str) -> None:
        """Count a pod on its node (assumed or bound). A pod known elsewhere moves."""
        known = self._where.get(info.uid)
        if known is not None:
            self.remove_pod(info.uid)
        if node in self._rows:
            self._place(info, node)
        else:
            self._orphan(info, node)

    def remove_pod(self, uid: str) -> None:
        """Take a pod out; unknown pods are no error."""
        node = self._where.pop(uid, None)
        if node is None:
            return
        self.with_affinity.pop(uid, None)
        row = self._rows.get(node)
        if row is None:
            self._orphans.get(node, {}).pop(uid, None)
            return
        self._count(self.pods[row].pop(uid), row, -1)

    def has_pod(self, uid: str) -> bool:
        return uid in self._where

    def _orphan(self, info: PodInfo, node: str) -> None:
        self._where[info.uid] = node
        self._orphans.setdefault(node, {})[info.uid] = info

    def _place(self, info: PodInfo, node: str) -> None:
        row = self._rows[node]
        self._where[info.uid] = node
        self.pods[row][info.uid] = info
        if info.has_affinity:
            self.with_affinity[info.uid] = (node, info)
        self._count(info, row, 1)

    def _count(self, info: PodInfo, row: int, sign: int) -> None:
        for name, value in info.requests.items():
            column = self._column(name)  # may widen the arrays, so it comes first
            self._used[row, column] += sign * value
        self._used[row, self.columns[PODS]] += sign
        self._scored[row, 0] += sign * info.scored[0]
        self._scored[row, 1] += sign * info.scored[1]
        if info.terminating:
            return
        for (namespace, matcher), counts in self._counts.items():
            if namespace == info.namespace and matcher(info.labels):
                counts[row] += sign

    # ------------------------------------------------------------------------------------------ reads
    @property
    def allocatable(self) -> Ints:
        return self._allocatable

    @property
    def used(self) -> Ints:
        return self._used

    @property
    def scored(self) -> Ints:
        """CPU and memory used, with defaults for pods that ask for nothing."""
        return self._scored

    def topology(self, key: str) -> tuple[Ints, list[str]]:
        """For each row the index of its value of the label `key` (-1: absent), and the values."""
        known = self._topologies.get(key)
        if known is None:
            values: dict[str, int] = {}
            codes = np.full(len(self.nodes), -1, np.int64)
            for row, node in enumerate(self.nodes):
                value = node.metadata.labels.get(key)
                if value is not None:
                    codes[row] = values.setdefault(value, len(values))
            known = self._topologies[key] = (codes, list(values))
        return known

    def counts(self, namespace: str, matcher: Matcher) -> Ints:
        """How many pods (not terminating) of the namespace match, by row. Kept up to date; do not write."""
        key = (namespace, matcher)
        known = self._counts.get(key)
        if known is None:
            known = np.zeros(len(self.names), np.int64)
            for row, pods in enumerate(self.pods):
                known[row] = sum(
                    1
                    for info in pods.values()
                    if info.namespace == namespace and not info.terminating and matcher(info.labels)
                )
            self._counts[key] = known
            if len(self._counts) > MATCHERS_KEPT_MAX:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(key)
        return known

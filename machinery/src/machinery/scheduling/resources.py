"""What a pod asks and what a node offers, as integers: milli-CPU, bytes, counts."""

from collections.abc import Callable, Mapping
from functools import lru_cache

from machinery.api.core import Container, Node, Pod
from machinery.meta.quantity import quantity_of

CPU, MEMORY, PODS, STORAGE = "cpu", "memory", "pods", "ephemeral-storage"
DEFAULT_MILLI_CPU = 100
DEFAULT_MEMORY = 200 * 1024 * 1024
"""What a container without a request counts in scores (not in filters), as in kube-scheduler."""

Amounts = dict[str, int]


def amounts(quantities: Mapping[str, str | int | float]) -> Amounts:
    """Quantities as integers; CPU in thousandths, the rest rounded up to whole units."""
    return {name: amount(name, quantity) for name, quantity in quantities.items()}


@lru_cache(maxsize=4096)
def amount(resource: str, quantity: str | int | float) -> int:
    """One quantity as an integer of the resource's unit; the same few texts come again in every pod."""
    parsed = quantity_of(quantity)
    return parsed.milli if resource == CPU else parsed.whole


def pod_requests(pod: Pod) -> Amounts:
    """max(Σ containers + sidecars, peak of init containers) + overhead (KEP-753)."""
    return _combine(pod, lambda container: amounts(container.resources.requests))


def pod_scored_requests(pod: Pod) -> tuple[int, int]:
    """CPU and memory with a default for each container that asks for nothing."""

    def asked(container: Container) -> Amounts:
        found = amounts(container.resources.requests)
        return {
            CPU: found.get(CPU, DEFAULT_MILLI_CPU),
            MEMORY: found.get(MEMORY, DEFAULT_MEMORY),
        }

    total = _combine(pod, asked)
    return total.get(CPU, 0), total.get(MEMORY, 0)


def _combine(pod: Pod, ask: Callable[[Container], Amounts]) -> Amounts:
    total: Amounts = {}
    for container in pod.spec.containers:
        _add(total, ask(container))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in pod.spec.init_containers:
        own = ask(container)
        if container.restart_policy == "Always":
            _add(sidecars, own)
            _raise(peak, sidecars)
        else:
            _raise(
                peak, {name: own.get(name, 0) + sidecars.get(name, 0) for name in own | sidecars}
            )
    _add(total, sidecars)
    _raise(total, peak)
    _add(total, amounts(pod.spec.overhead))
    return total


def _add(into: Amounts, more: Mapping[str, int]) -> None:
    for name, value in more.items():
        into[name] = into.get(name, 0) + value


def _raise(into: Amounts, floor: Mapping[str, int]) -> None:
    for name, value in floor.items():
        into[name] = max(into.get(name, 0), value)


def node_allocatable(node: Node) -> Amounts:
    """What the node offers to pods; capacity where the kubelet has not said allocatable."""
    return amounts(node.status.allocatable or node.status.capacity)

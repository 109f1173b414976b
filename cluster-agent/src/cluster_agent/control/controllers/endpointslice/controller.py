"""EndpointSlice controller, the acting half.

A pod's change concerns the Services of its namespace that select it, found by one label of their selector. Events of pods
of a large Service are gathered for a moment that grows with its size: each pass rewrites whole slices. A slice that was
made is waited for before more are made; an update that was planned on an older slice is refused by its revision and
planned again.
"""

from collections.abc import Callable, Iterable

from cluster_agent.control.controllers.endpointslice import backends
from cluster_agent.control.controllers.endpointslice.plan import MANAGER, plan
from cluster_agent.control.controllers.endpointslice.triggers import TriggerTimes
from machinery.api.core import NODES, PODS, Node, Pod
from machinery.api.discovery_kinds import ENDPOINTSLICES, MANAGED_BY_LABEL, EndpointSlice
from machinery.api.service_kinds import SERVICES, Service
from machinery.client.informer import Informer
from machinery.controller.action import Result
from machinery.controller.expectations import Expectations
from machinery.controller.manager import Manager
from machinery.meta.resource import ObjectKey

SERVICE_INDEX = "service"
ZONE = "topology.kubernetes.io/zone"
SELECTOR = f"{MANAGED_BY_LABEL}={MANAGER}"
GATHER_ABOVE_PODS = 50
GATHER_S_PER_50_PODS = 0.02
GATHER_S_MAX = 0.5


class EndpointSliceReconciler:
    """Read, plan, act; the key is the Service's."""

    def __init__(self, manager: Manager) -> None:
        self._executor = manager.executor
        self._services = services_of(manager)
        self._pods = pods_of(manager)
        self._nodes = manager.informer(NODES)
        self._slices = manager.informer(ENDPOINTSLICES, label_selector=SELECTOR)
        self._slices.add_index(SERVICE_INDEX, lambda one: [str(service_key(one))])
        self._expectations = Expectations(self._slices, manager.clock)
        self._triggers = TriggerTimes()

    async def reconcile(self, key: ObjectKey) -> Result:
        service = self._services.get(key)
        if service is None:
            self._expectations.forget(key)
            self._triggers.forget(key)
            return Result()
        if not self._expectations.satisfied(key):
            return Result()
        pods = candidates(self._pods, service)
        actions = plan(
            service,
            pods,
            self._zones(pods),
            self._slices.by_index(SERVICE_INDEX, str(key)),
            self._triggers.of(service, (pod for pod in pods if backends.selects(service, pod))),
        )
        return await self._executor.apply(actions, on_done=self._expectations.note(key))

    def _zones(self, pods: Iterable[Pod]) -> dict[str, str]:
        names = {pod.spec.node_name for pod in pods}
        nodes = (self._nodes.get(ObjectKey("", name)) for name in names if name)
        return {n.metadata.name: n.metadata.labels.get(ZONE, "") for n in nodes if n is not None}


def services_of(manager: Manager) -> Informer[Service]:
    """The informer of Services, indexed by a label of their selector."""
    informer = manager.informer(SERVICES)
    informer.add_index(backends.SELECTOR_INDEX, backends.selector_key)
    return informer


def pods_of(manager: Manager) -> Informer[Pod]:
    """The informer of pods, indexed by their labels."""
    informer = manager.informer(PODS)
    informer.add_index(
        backends.LABEL_INDEX,
        lambda pod: backends.label_keys(pod.metadata.namespace, pod.metadata.labels),
    )
    return informer


def candidates(pods: Informer[Pod], service: Service) -> list[Pod]:
    """Pods with the first label of the selector; the plan looks at the others."""
    keys = backends.selector_key(service)
    return pods.by_index(backends.LABEL_INDEX, keys[0]) if keys else []


def services_selecting(services: Informer[Service], pod: Pod) -> list[Service]:
    """The Services that select a pod."""
    keys = backends.label_keys(pod.metadata.namespace, pod.metadata.labels)
    found = (s for key in keys for s in services.by_index(backends.SELECTOR_INDEX, key))
    return [service for service in found if backends.selects(service, pod)]


def service_key(one: EndpointSlice) -> ObjectKey:
    return ObjectKey(one.metadata.namespace, one.service_name)


def gather_s(pods: int) -> float:
    """How long events of pods may be gathered before the Service is looked at."""
    return min(GATHER_S_MAX, (pods - 1) // GATHER_ABOVE_PODS * GATHER_S_PER_50_PODS)


def concerns(old: Pod, new: Pod) -> bool:
    """Whether an endpoint may differ between two states of a pod."""
    a, b = old.status, new.status
    same = (
        old.metadata.labels == new.metadata.labels
        and old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        and (a.phase, a.pod_ip, a.pod_ips, a.conditions)
        == (b.phase, b.pod_ip, b.pod_ips, b.conditions)
        and old.spec.node_name == new.spec.node_name
    )
    return not same


def watch_pods(
    manager: Manager, enqueue_after: Callable[[ObjectKey, float], None], services: Informer[Service]
) -> None:
    """Have the Services looked at that a pod's change concerns."""
    pods = pods_of(manager)

    def on_pod(old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is not None and not concerns(old, new):
            return
        for pod in (old, new):
            for service in services_selecting(services, pod) if pod is not None else ():
                enqueue_after(service.key, gather_s(len(candidates(pods, service))))

    pods.on_change(on_pod)


def setup(manager: Manager) -> None:
    """Watch Services, pods, slices and nodes' zones."""
    reconciler = EndpointSliceReconciler(manager)
    services, pods = services_of(manager), pods_of(manager)
    builder = manager.controller("endpointslice", reconciler)
    builder.watches(SERVICES)
    builder.watches(ENDPOINTSLICES, lambda one: [service_key(one)], label_selector=SELECTOR)
    watch_pods(manager, builder.queue.add_after, services)

    def on_node(old: Node | None, new: Node | None) -> None:
        before, after = (
            n.metadata.labels.get(ZONE, "") if n is not None else "" for n in (old, new)
        )
        if before == after:
            return
        node = new or old
        for pod in pods.list():
            if node is not None and pod.spec.node_name == node.metadata.name:
                for service in services_selecting(services, pod):
                    builder.enqueue(service.key)

    manager.informer(NODES).on_change(on_node)

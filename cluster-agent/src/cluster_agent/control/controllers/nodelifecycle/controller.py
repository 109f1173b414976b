"""Node lifecycle, the acting half: a monitor that looks at all nodes every few seconds, and a reconciler of taints."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster_agent.control.controllers import conditions
from cluster_agent.control.controllers.nodelifecycle import taints
from cluster_agent.control.controllers.nodelifecycle.health import (
    Seen,
    is_silent,
    observe,
    ready_status,
    unknown_conditions,
)
from cluster_agent.control.controllers.nodelifecycle.zones import Pace, Zones, zone_of
from cluster_agent.control.controllers.pods import ready_condition
from machinery.api.coordination import LEASES
from machinery.api.core import NODES, PODS, Node, Pod
from machinery.controller.action import Action, Emit, Result, SetStatus
from machinery.controller.executor import Executor
from machinery.controller.manager import ControllerBuilder, Manager
from machinery.controllers.events import executor_for
from machinery.controllers.mirrors import is_mirror
from machinery.kit.clock import rfc3339
from machinery.meta.errors import Conflict, NotFound
from machinery.meta.objectmeta import ObjectMeta
from machinery.meta.resource import ObjectKey

log = logging.getLogger(__name__)

NODE_INDEX = "node"
LEASE_NAMESPACE = "kube-node-lease"
EVICTION_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class LifecycleConfig:
    """How long nodes are believed, and how fast they are emptied."""

    monitor_period_s: float = 5.0
    """Between two looks at all nodes."""
    grace_s: float = 50.0
    """Silence after which a node is unknown."""
    startup_grace_s: float = 60.0
    """The same for a node that has never reported."""
    pace: Pace = Pace()


class NodeMonitor:
    """Looks at all nodes; `run_once` is one look."""

    def __init__(self, manager: Manager, executor: Executor, config: LifecycleConfig) -> None:
        self._clock, self._executor, self._config = manager.clock, executor, config
        self._nodes, self._pods = manager.informer(NODES), manager.informer(PODS)
        self._leases = manager.informer(LEASES, LEASE_NAMESPACE)
        self._pods.add_index(NODE_INDEX, node_index)
        self._seen: dict[str, Seen] = {}
        self._unmarked: set[str] = set()
        self.zones = Zones(config.pace)
        self.builder: ControllerBuilder | None = None

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.run_once()
            await self._clock.sleep(self._config.monitor_period_s)

    async def run_once(self) -> None:
        """Who came, who went, who is silent, and what that makes of the zones."""
        nodes = [node for node in self._nodes.list() if not is_mirror(node)]
        await self._register({node.metadata.name: node for node in nodes})
        verdicts = [(node, await self._look_at(node)) for node in nodes]
        was_all = self.zones.all_disrupted
        changed = self.zones.update(verdicts, self._clock.monotonic())
        if was_all and not self.zones.all_disrupted:
            self._hear_from_all()
        await self._tell_paused([n for n, ready in verdicts if zone_of(n) in changed and not ready])
        for node in nodes:
            if zone_of(node) in changed and self.builder is not None:
                self.builder.enqueue(node.key)

    async def _register(self, nodes: dict[str, Node]) -> None:
        for name, node in nodes.items():
            if name not in self._seen:
                text = f"Node {name} event: Registered Node {name} in Controller"
                await self._emit(node.metadata, "Normal", "RegisteredNode", text)
        for name in [n for n in self._seen if n not in nodes]:
            gone = ObjectMeta(name=name, uid=self._seen.pop(name).uid)
            text = f"Node {name} event: Removing Node {name} from Controller"
            await self._emit(gone, "Normal", "RemovingNode", text)
            self._unmarked.discard(name)

    async def _look_at(self, node: Node) -> bool:
        """Whether the node is ready, after a silent one has been written down as unknown."""
        name, monotonic = node.metadata.name, self._clock.monotonic()
        lease = self._leases.get(ObjectKey(LEASE_NAMESPACE, name))
        seen = self._seen[name] = observe(self._seen.get(name), node, lease, monotonic)
        ready = ready_status(node) == "True"
        config = self._config
        if is_silent(seen, monotonic, config.grace_s, config.startup_grace_s):
            fresh = unknown_conditions(node, self._clock.now())
            if fresh is not None and await self._write_unknown(node, fresh) and ready:
                text = f"Node {name} status is now: NodeNotReady"
                await self._emit(node.metadata, "Normal", "NodeNotReady", text)
                self._unmarked.add(name)
            ready = False
        if not ready and name in self._unmarked:
            await self._mark_pods(name)
        return ready

    async def _write_unknown(self, node: Node, fresh: Sequence[object]) -> bool:
        version = node.metadata.resource_version
        action = SetStatus(NODES, node.key, {"conditions": fresh}, resource_version=version)
        try:
            await self._executor.apply([action])
        except (Conflict, NotFound):
            return False  # it spoke meanwhile, or is gone: the next look decides
        log.warning("node is silent", extra={"node": node.metadata.name})
        return True

    async def _mark_pods(self, node: str) -> None:
        """The pods of a silent node are not ready: nobody vouches for them."""
        complete = True
        for pod in self._pods.by_index(NODE_INDEX, node):
            try:
                await self._executor.apply(not_ready(pod, rfc3339(self._clock.now())))
            except NotFound:
                continue
            except Conflict:
                complete = False
        if complete:
            self._unmarked.discard(node)

    def _hear_from_all(self) -> None:
        """The silence of everything was ours: everyone is given the whole grace again."""
        now = self._clock.monotonic()
        for name, seen in self._seen.items():
            self._seen[name] = Seen(seen.uid, seen.renewed, seen.heartbeat, seen.reported, now)

    async def _tell_paused(self, silent: Iterable[Node]) -> None:
        for node in silent:
            if not self.zones.is_paused(zone_of(node)):
                continue
            who = "no node of any zone is" if self.zones.all_disrupted else "too few nodes here are"
            text = f"Evictions are paused: {who} ready"
            await self._emit(node.metadata, "Warning", "EvictionsPaused", text)

    async def _emit(self, meta: ObjectMeta, kind: str, reason: str, message: str) -> None:
        key = ObjectKey("", meta.name)
        await self._executor.apply([Emit(NODES, key, meta.uid, kind, reason, message)])


class TaintReconciler:
    """Keeps one node's taints in step with its conditions and its zone's pace."""

    def __init__(self, manager: Manager, executor: Executor, zones: Zones) -> None:
        self._clock, self._executor, self._zones = manager.clock, executor, zones
        self._nodes = manager.informer(NODES)

    async def reconcile(self, key: ObjectKey) -> Result:
        node = self._nodes.get(key)
        if node is None or is_mirror(node):
            return Result()
        outcome = taints.plan(
            node,
            all_disrupted=self._zones.all_disrupted,
            may_evict=lambda: self._zones.may_evict(node, self._clock.monotonic()),
            now=self._clock.now(),
        )
        if outcome.patch is not None:
            await self._executor.apply([outcome.patch])
        return Result(requeue_after=EVICTION_RETRY_S if outcome.waits else None)


def node_index(pod: Pod) -> tuple[str, ...]:
    """Index: the pod's node."""
    return (pod.spec.node_name,) if pod.spec.node_name else ()


def not_ready(pod: Pod, moment: str) -> list[Action]:
    """The pod's Ready at False, and a word about why; nothing if it is so already."""
    ready = ready_condition(pod)
    if ready is None or ready.status == "False" or is_mirror(pod):
        return []
    fresh = conditions.to_wire(ready) | {"status": "False", "lastTransitionTime": moment}
    body = {"conditions": conditions.replaced(pod.status.conditions, fresh)}
    meta = pod.metadata
    return [
        SetStatus(PODS, pod.key, body, resource_version=meta.resource_version),
        Emit(PODS, pod.key, meta.uid, "Warning", "NodeNotReady", "Node is not ready"),
    ]


def setup(manager: Manager, config: LifecycleConfig = LifecycleConfig()) -> None:
    """Watch nodes, their Leases and pods."""
    executor = executor_for(manager, "node-controller")
    monitor = NodeMonitor(manager, executor, config)
    reconciler = TaintReconciler(manager, executor, monitor.zones)
    monitor.builder = manager.controller("node-taints", reconciler, workers=2).watches(NODES)
    manager.runnable("node-monitor", monitor.run)

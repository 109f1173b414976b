"""The nodes of a modelled member, and who runs on them: decided by the scheduler's own code, as the member would.

A pod that no node has room for waits, and is asked again when room comes free, the oldest first. Nodes offer pods and
nothing else: what resources do to a decision is in the scheduler's own tests, what matters here is that a cluster can be full.
"""

from collections.abc import Callable

from machinery.api.core import Node, NodeStatus, Pod
from machinery.meta.objectmeta import ObjectMeta
from machinery.scheduling.decide import Decider, Placed
from machinery.scheduling.scores import Context
from machinery.scheduling.snapshot import PodInfo, Snapshot

NODES = 2
"""Of each member."""
CONTEXT = Context()


class Nodes:
    """Room for `pods` pods on NODES nodes. `roll` gives numbers in [0, 1), for ties."""

    def __init__(self, pods: int, roll: Callable[[], float]) -> None:
        self._snapshot = Snapshot()
        self._decider = Decider(self._snapshot, lambda count: int(roll() * count))
        self._bound: set[str] = set()
        self.resize(pods)

    def resize(self, pods: int) -> None:
        """The nodes offer so many from now on; what runs, runs on."""
        self.offered = pods
        for number in range(NODES):
            share = pods // NODES + (number < pods % NODES)
            meta = ObjectMeta(name=f"node-{number}")
            self._snapshot.set_node(
                Node(metadata=meta, status=NodeStatus(allocatable={"pods": str(share)}))
            )

    @property
    def bound(self) -> int:
        """Pods that have a node."""
        return len(self._bound)

    def bind(self, uid: str) -> bool:
        """Whether the pod has a node now."""
        if uid in self._bound:
            return True
        if self.bound >= self.offered:
            return False  # as every node would say
        info = PodInfo(Pod(metadata=ObjectMeta(name=uid, namespace="default", uid=uid)))
        answer = self._decider.decide(info, CONTEXT)
        if not isinstance(answer, Placed):
            return False
        self._snapshot.add_pod(info, answer.node)
        self._bound.add(uid)
        return True

    def release(self, uid: str) -> bool:
        """The pod is gone; whether its node has room for another now."""
        if uid not in self._bound:
            return False
        self._bound.discard(uid)
        self._snapshot.remove_pod(uid)
        return True

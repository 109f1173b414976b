"""How many replicas would really fit: the scheduler's filters, without placing anything."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.control.estimates import Estimates, read, replica
from machinery.api.core import NODES, PODS, Node, Pod
from machinery.api.fleet.work import ReplicaRequirements
from machinery.client.interface import Listing
from machinery.meta.errors import BadRequest, Invalid
from machinery.meta.resource import Document
from machinery.scheduling.decide import Decider, Placed
from machinery.scheduling.estimate import Estimate, estimate
from machinery.scheduling.scores import Context
from machinery.scheduling.snapshot import PodInfo, Snapshot
from machinery.server.call import Call
from machinery.server.user import UserInfo


def node(name: str, cpu: str = "4", pods: int = 10, **spec: Any) -> Node:
    labels = spec.pop("labels", {})
    return msgspec.convert(
        {
            "metadata": {"name": name, "labels": labels},
            "spec": spec,
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": str(pods)}},
        },
        Node,
    )


def pod(name: str, cpu: str = "1", where: str = "", **spec: Any) -> Pod:
    phase = spec.pop("phase", "Running")
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "demo", "uid": name},
            "spec": {
                "nodeName": where,
                "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}],
            }
            | spec,
            "status": {"phase": phase},
        },
        Pod,
    )


def snapshot(*nodes: Node, pods: tuple[Pod, ...] = ()) -> Snapshot:
    made = Snapshot()
    for one in nodes:
        made.set_node(one)
    for one in pods:
        made.add_pod(PodInfo(one), one.spec.node_name)
    return made


def asks(cpu: str = "1", **claim: Any) -> Pod:
    document: Document = {"resourceRequest": {"cpu": cpu}} | ({"nodeClaim": claim} if claim else {})
    return replica(msgspec.convert(document, ReplicaRequirements))


TAINTED = {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}
SSD = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}  # fmt: skip
CASES: dict[str, tuple[Snapshot, Pod, dict[str, int]]] = {
    "by node, not by the sum": (snapshot(node("a", "1500m"), node("b", "1500m")), asks(), {"a": 1, "b": 1}),
    "beside what is there": (snapshot(node("a"), pods=(pod("p", "2500m", "a"),)), asks(), {"a": 1}),
    "pods": (snapshot(node("a", pods=2)), asks("0"), {"a": 2}),
    "nothing is asked": (snapshot(node("a")), replica(ReplicaRequirements()), {"a": 10}),
    "too big for any": (snapshot(node("a"), node("b")), asks("5"), {}),
    "a resource that nobody has": (
        snapshot(node("a")),
        replica(msgspec.convert({"resourceRequest": {"example.com/gpu": "1"}}, ReplicaRequirements)),
        {},
    ),
    "cordoned": (snapshot(node("a", unschedulable=True), node("b")), asks(), {"b": 4}),
    "tainted": (snapshot(node("a", **TAINTED), node("b")), asks(), {"b": 4}),
    "tolerated": (
        snapshot(node("a", **TAINTED), node("b")),
        asks(tolerations=[{"key": "gpu", "operator": "Exists"}]),
        {"a": 4, "b": 4},
    ),
    "selected": (
        snapshot(node("a", labels={"disk": "ssd"}), node("b")),
        asks(nodeSelector={"disk": "ssd"}),
        {"a": 4},
    ),
    "by affinity": (
        snapshot(node("a", labels={"disk": "ssd"}), node("b", labels={"disk": "hdd"})),
        asks(hardNodeAffinity=SSD),
        {"a": 4},
    ),
    "no nodes": (snapshot(), asks(), {}),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "shape", "by_node"), CASES.values(), ids=CASES.keys())
def test_what_fits(nodes: Snapshot, shape: Pod, by_node: dict[str, int]) -> None:
    found = estimate(nodes, shape)
    assert (found.replicas, found.by_node) == (sum(by_node.values()), by_node)


def test_no_more_than_wanted() -> None:
    nodes = snapshot(node("a"), node("b"))
    assert estimate(nodes, asks(), wanted=5) == Estimate(5, {"a": 4, "b": 1})
    assert estimate(nodes, asks(), wanted=0) == Estimate(0)
    assert estimate(snapshot(), asks(), wanted=0) == Estimate(0)


def test_pods_that_wait_are_owed_room() -> None:
    waiting = [pod("w", "1500m"), pod("x", "1")]
    found = estimate(snapshot(node("a"), node("b")), asks(), waiting, 8)
    assert found.replicas == 5
    assert found.reason.endswith("Room for 3 is left to pods that wait for a node.")
    assert estimate(snapshot(node("a")), asks(), [pod("w", "99")]).replicas == 0


def test_the_reason_is_in_the_schedulers_words() -> None:
    nodes = snapshot(node("a", **TAINTED), node("b"), node("c", "500m"))
    assert estimate(nodes, asks(), wanted=9).reason == (
        "4 replicas fit, of 3 nodes: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), "
        "1 node(s) took what fits."
    )


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5), st.booleans()), max_size=6),
    st.integers(0, 12),
)
def test_the_scheduler_places_exactly_so_many(
    machines: list[tuple[int, int, bool]], cpu: int
) -> None:
    made = snapshot(
        *(
            node(f"n{i}", f"{size * 100}m", pods, **(TAINTED if tainted else {}))
            for i, (size, pods, tainted) in enumerate(machines)
        )
    )
    shape = asks(f"{cpu * 100}m")
    found = estimate(made, shape)
    decider, placed = Decider(made, lambda _: 0), 0
    while True:
        one = pod(f"p{placed}", f"{cpu * 100}m")
        answer = decider.decide(PodInfo(one), Context())
        if not isinstance(answer, Placed):
            break
        made.add_pod(PodInfo(one), answer.node)
        placed += 1
    assert found.replicas == placed


# ------------------------------------------------------------------------------------------------------- the review
class Cluster:
    """A client that lists; counts how often."""

    def __init__(self, nodes: list[Node], pods: list[Pod]) -> None:
        self.held: dict[str, list[Any]] = {NODES.plural: nodes, PODS.plural: pods}
        self.lists = 0

    async def list(self, resource: Any) -> Listing[Any]:
        self.lists += 1
        return Listing(self.held[resource.plural], "7", "")


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


CALL = Call(UserInfo("ubernetes:federation"))


def body(**spec: Any) -> Document:
    return {"apiVersion": "ubernetes.io/v1alpha1", "kind": "CapacityEstimate", "spec": spec}


def test_the_review() -> None:
    there = [pod("p", "1", "a"), pod("done", "3", "a", phase="Succeeded"), pod("waits", "1")]
    cluster, clock = Cluster([node("a"), node("b", **TAINTED)], there), Clock()
    review = Estimates(lambda: cluster, clock)  # type: ignore[arg-type, return-value]
    asked = body(replicaRequirements={"resourceRequest": {"cpu": "1"}}, replicas=9)
    answer = asyncio.run(review.answer(asked, CALL))
    assert answer["spec"] == asked["spec"] and answer["metadata"] == {}
    assert (answer["status"]["replicas"], answer["status"]["byNode"]) == (
        2, [{"name": "a", "replicas": 3}],
    )  # fmt: skip
    assert answer["status"]["reason"].startswith("2 replicas fit, of 2 nodes")
    assert asyncio.run(review.answer(body(replicaRequirements={}), CALL))["status"]["replicas"] == 8
    assert cluster.lists == 2
    cluster.held[PODS.plural], clock.now = [], 1.0
    assert asyncio.run(review.answer(asked, CALL))["status"]["replicas"] == 4


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ({"replicaRequirements": []}, BadRequest, "CapacityEstimate cannot be read"),
        ({"replicaRequirements": {}, "replicas": -1}, Invalid, "spec.replicas: Invalid value: -1"),
        ({"replicaRequirements": {"resourceRequest": {"cpu": "much"}}}, Invalid, r"resourceRequest\[cpu\]: Invalid value"),
        ({"replicaRequirements": {"resourceRequest": {"cpu": "-1"}}}, Invalid, "greater than or equal to 0"),
        ({"replicaRequirements": {"nodeClaim": {"tolerations": "all"}}}, BadRequest, "tolerations"),
    ],
    ids=["no struct", "less than none", "no quantity", "a negative one", "no list"],
)  # fmt: skip
def test_what_cannot_be_asked(spec: Document, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        read(body(**spec))

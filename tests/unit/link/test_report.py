"""What a member says of itself."""

import asyncio

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from cluster_agent.link.report import Place, Reporter, cluster_document, prove, status
from machinery.api.core import (
    NODES,
    PODS,
    Container,
    Node,
    NodeSpec,
    NodeStatus,
    Pod,
    PodSpec,
    PodStatus,
    ResourceRequirements,
)
from machinery.api.fleet.cluster import CLUSTERS
from machinery.client.informer import Informer
from machinery.meta.errors import Conflict, Forbidden, NotFound
from machinery.meta.objectmeta import Condition, ObjectMeta
from machinery.meta.resource import ObjectKey

PLACE = Place(
    "alpha", "lab", "region-1", ("zone-a",), "https://198.18.0.1:6443", "0.1.0", "v1.36.2+ubernetes",
    (("apps/v1", (("Deployment", "deployments"),)),),
)  # fmt: skip


def node(name: str, ready: str = "True", *, cordoned: bool = False) -> Node:
    return Node(
        metadata=ObjectMeta(name=name),
        spec=NodeSpec(unschedulable=cordoned),
        status=NodeStatus(
            allocatable={"cpu": "2", "memory": "1Gi", "pods": "110"},
            conditions=(Condition(type="Ready", status=ready),),
        ),
    )


def pod(name: str, where: str = "", phase: str = "Running") -> Pod:
    container = Container(name="c", resources=ResourceRequirements(requests={"cpu": "250m"}))
    return Pod(
        metadata=ObjectMeta(name=name),
        spec=PodSpec(containers=(container,), node_name=where),
        status=PodStatus(phase=phase),
    )


def test_the_cluster_says_where_it_is() -> None:
    spec = cluster_document(PLACE, "id-1")["spec"]
    assert spec["zones"] == ["zone-a"]
    assert (spec["provider"], spec["region"], spec["syncMode"]) == ("lab", "region-1", "Pull")


def test_room_counts_usable_nodes_and_living_pods() -> None:
    nodes = [node("a"), node("b", "Unknown"), node("c", cordoned=True)]
    pods = [pod("p", "a"), pod("waits"), pod("done", "a", "Succeeded")]
    said = status(PLACE, nodes, pods)
    assert said["nodeSummary"] == {"totalNum": 3, "readyNum": 2}
    summary = said["resourceSummary"]
    assert summary["allocatable"] == {"cpu": "2000m", "memory": "1073741824", "pods": "110"}
    assert summary["allocated"] == {"cpu": "250m", "pods": "1"}
    assert summary["allocating"] == {"cpu": "250m", "pods": "1"}


def test_kinds_are_listed_by_group_version() -> None:
    assert status(PLACE, [], [])["apiEnablements"] == [
        {"groupVersion": "apps/v1", "resources": [{"kind": "Deployment", "name": "deployments"}]}
    ]


# ----------------------------------------------------------------------------------------------------------- identity
class OfTheName(FakeClient):
    """A federation that knows another cluster under the name, until a person settles it."""

    def __init__(self, refusals: int, error: Exception) -> None:
        super().__init__()
        self.fail_next("patch", *([error] * refusals))


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("refusals", "error", "waited"),
    [
        (0, Conflict("taken"), 0.0),
        (3, Conflict("taken"), 90.0),
        (3, ConnectionError("cut"), 6.0),
        (3, Forbidden("not yet"), 6.0),
        (1, NotFound("new"), 0.0),
    ],
    ids=["known", "the name is another's", "not reached", "rights are being made", "new"],
)
async def test_an_agent_does_nothing_before_its_name_is_its_own(
    refusals: int, error: Exception, waited: float
) -> None:
    client, loop = OfTheName(refusals, error), asyncio.get_running_loop()
    if not isinstance(error, NotFound):
        await client.create(CLUSTERS, {"metadata": {"name": "alpha"}})
    began = loop.time()
    await prove(client, LoopClock(), "alpha", "id-1")
    assert loop.time() - began == pytest.approx(waited)


async def test_kinds_that_come_while_it_runs_are_told_with_the_next_report() -> None:
    client, clock = FakeClient(), LoopClock()
    nodes, pods = Informer(client, NODES, clock), Informer(client, PODS, clock)
    kinds = list(PLACE.kinds)
    reporter = Reporter(client, clock, PLACE, "id-1", nodes, pods, lambda: tuple(kinds))
    await reporter.introduce()
    await reporter.run_once()
    kinds.append(("webapp.my.domain/v1", (("Guestbook", "guestbooks"),)))
    await reporter.run_once()
    held = await client.get(CLUSTERS, ObjectKey("", "alpha"))
    told = {
        one.group_version: [r.kind for r in one.resources] for one in held.status.api_enablements
    }
    assert told == {"apps/v1": ["Deployment"], "webapp.my.domain/v1": ["Guestbook"]}

"""What nodes have free, by platform and by shape."""

import msgspec
import pytest
from tests.unit.link.test_report import PLACE, node, pod

from cluster_agent.link.nodes import free, modelings, platforms
from cluster_agent.link.report import status
from machinery.api.core import Node
from machinery.api.fleet.cluster import ResourceModel
from machinery.meta.objectmeta import ObjectMeta


def labelled(name: str, arch: str = "", ready: str = "True", *, cordoned: bool = False) -> Node:
    labels = {"kubernetes.io/arch": arch, "kubernetes.io/os": "linux"} if arch else {}
    made = node(name, ready, cordoned=cordoned)
    return msgspec.structs.replace(made, metadata=ObjectMeta(name=name, labels=labels))


MODELS = msgspec.convert(
    [
        {"grade": 0, "ranges": [{"name": "cpu", "min": "0", "max": "1"}]},
        {"grade": 1, "ranges": [{"name": "cpu", "min": "1", "max": "2"}]},
        {
            "grade": 2,
            "ranges": [
                {"name": "cpu", "min": "2", "max": "9223372036854775807"},
                {"name": "memory", "min": "1Gi", "max": "9223372036854775807"},
            ],
        },
    ],
    tuple[ResourceModel, ...],
)


def test_free_is_what_pods_leave_of_nodes_that_take_some() -> None:
    nodes = [
        labelled("a", "amd64"),
        labelled("b", "amd64", "Unknown"),
        labelled("c", cordoned=True),
    ]
    room = free(nodes, [pod("p", "a"), pod("q", "a"), pod("r", "b"), pod("s", "gone")])
    assert room == {"a": {"cpu": 1500, "memory": 2**30, "pods": 108}}


def test_a_node_that_is_asked_for_too_much_has_nothing() -> None:
    room = free([labelled("a")], [pod(str(n), "a") for n in range(9)])
    assert room["a"]["cpu"] == 0


def test_platforms() -> None:
    nodes = [
        labelled("a", "amd64"),
        labelled("b", "arm64"),
        labelled("c", "arm64", cordoned=True),
        labelled("d", "s390x", "Unknown"),
    ]
    found = platforms(nodes, free(nodes, [pod("p", "b")]))
    assert found == [
        {
            "platform": "linux/amd64",
            "readyNum": 1,
            "free": {"cpu": "2000m", "memory": "1073741824", "pods": "110"},
        },
        {
            "platform": "linux/arm64",
            "readyNum": 2,
            "free": {"cpu": "1750m", "memory": "1073741824", "pods": "109"},
        },
    ]


def test_a_node_that_does_not_say_what_it_is_might_be_anything() -> None:
    assert platforms([labelled("a", "amd64"), labelled("b")], {}) == []
    assert platforms([labelled("a", "amd64"), labelled("b", ready="False")], {}) != []
    assert platforms([], {}) == []


@pytest.mark.parametrize(
    ("room", "counts"),
    [
        ({}, [0, 0, 0]),
        ({"a": {"cpu": 500, "memory": 2**40}}, [1, 0, 0]),
        ({"a": {"cpu": 1999}}, [0, 1, 0]),
        ({"a": {"cpu": 2000, "memory": 2**30}}, [0, 0, 1]),
        ({"a": {"cpu": 64_000, "memory": 2**30 - 1}}, [0, 1, 0]),
        ({"a": {"cpu": 0}, "b": {"cpu": 9000, "memory": 2**33}, "c": {"cpu": 1500}}, [1, 1, 1]),
    ],
    ids=["no node", "small", "just not", "just", "short of memory", "all"],
)
def test_shapes(room: dict[str, dict[str, int]], counts: list[int]) -> None:
    assert [m["count"] for m in modelings(MODELS, room)] == counts


def test_shapes_are_counted_by_the_models_of_the_cluster() -> None:
    said = status(PLACE, [labelled("a")], [pod("p", "a")], MODELS)
    assert [m["count"] for m in said["resourceSummary"]["allocatableModelings"]] == [0, 1, 0]
    assert status(PLACE, [labelled("a")], [])["resourceSummary"]["allocatableModelings"] == []

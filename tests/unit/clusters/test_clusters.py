"""Clusters as the planner sees them, mirrors of their objects, and the tokens that let them join."""

from typing import Any

import msgspec
import pytest

from federation.clusters.bootstrap import cluster_groups, new_token, secret_document
from federation.clusters.candidates import candidate, candidates
from federation.clusters.mirroring import NAME_MAX, OWNERS, mirror_name, mirrored, source_of
from federation.placement.model import Shape
from machinery.api.fleet.cluster import Cluster
from machinery.kit.clock import parse_time
from machinery.kit.ids import SeededIds
from machinery.meta.resource import Document


def cluster(name: str = "alpha", *, status: Document | None = None, **spec: Any) -> Cluster:
    metadata = {"name": name, "labels": {"tier": "a"}} | spec.pop("metadata", {})
    return msgspec.convert(
        {"metadata": metadata, "spec": {"syncMode": "Pull"} | spec, "status": status or {}}, Cluster
    )


@pytest.mark.parametrize(
    ("summary", "wanted"),
    [
        (None, None),
        ({"allocatable": {"cpu": "4", "pods": "10"}}, {"cpu": 4000, "pods": 10}),
        (
            {
                "allocatable": {"cpu": "4", "pods": "10"},
                "allocated": {"cpu": "1500m", "pods": "3"},
                "allocating": {"pods": "2"},
            },
            {"cpu": 2500, "pods": 5},
        ),
    ],
    ids=["nothing reported", "empty", "placed and waiting pods are subtracted"],
)
def test_free_room(summary: Document | None, wanted: dict[str, int] | None) -> None:
    status = {"resourceSummary": summary} if summary is not None else {}
    assert candidate(cluster(status=status)).free == wanted


def test_kinds_and_place() -> None:
    status = {
        "apiEnablements": [{"groupVersion": "apps/v1", "resources": [{"kind": "Deployment"}]}]
    }
    found = candidate(cluster(status=status, zones=["z-1", "z-2"], region="r", provider="p"))
    assert found.kinds == {("apps/v1", "Deployment")}
    assert (found.zones, found.region, found.provider) == (("z-1", "z-2"), "r", "p")
    assert candidate(cluster(zone="old")).zones == ("old",)
    assert candidate(cluster()).kinds is None


def test_node_shapes() -> None:
    """A grade that is counted and not described says nothing."""
    ranges = [{"name": "cpu", "min": "2", "max": "4"}, {"name": "memory", "min": "8Gi", "max": "1"}]
    counted = [{"grade": 1, "count": 3}, {"grade": 7, "count": 9}]
    found = candidate(
        cluster(
            status={"resourceSummary": {"allocatableModelings": counted}},
            resourceModels=[{"grade": 1, "ranges": ranges}],
        )
    )
    assert found.shapes == (Shape(3, {"cpu": 2000, "memory": 8 * 2**30}),)
    assert found.barred == ""
    assert candidate(cluster()).shapes == ()


def test_a_member_that_leaves_is_no_candidate() -> None:
    going = cluster("beta", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert [c.name for c in candidates([cluster("gamma"), going, cluster("alpha")])] == [
        "alpha",
        "gamma",
    ]


def test_mirror_names() -> None:
    assert mirror_name("web-abc", "alpha") == "web-abc.alpha"
    long = mirror_name("w" * 253, "alpha")
    assert len(long) == NAME_MAX
    assert long.endswith(".alpha")
    assert long != mirror_name("w" * 252 + "x", "alpha")


def test_a_pod_is_mirrored_with_its_node_and_without_its_owner() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-abc",
            "namespace": "demo",
            "resourceVersion": "9",
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": True}],
            "finalizers": ["x"],
        },
        "spec": {"nodeName": "node-1"},
    }
    mirror = mirrored(pod, "alpha")
    assert mirror["metadata"]["name"] == "web-abc.alpha"
    assert mirror["metadata"]["labels"] == {"ubernetes.io/cluster": "alpha"}
    assert mirror["spec"]["nodeName"] == "node-1.alpha"
    assert "ReplicaSet" in mirror["metadata"]["annotations"][OWNERS]
    assert not {"ownerReferences", "finalizers", "resourceVersion"} & mirror["metadata"].keys()
    assert source_of(mirror) == ("alpha", "web-abc")
    assert source_of(pod) is None
    assert pod["metadata"]["name"] == "web-abc"


@pytest.mark.parametrize(
    ("involved", "wanted"),
    [
        ({"kind": "Pod", "name": "web-abc"}, "web-abc.alpha"),
        ({"kind": "Node", "name": "node-1"}, "node-1.alpha"),
        ({"kind": "Deployment", "name": "web"}, "web"),
    ],
)
def test_an_event_points_at_the_mirror(involved: Document, wanted: str) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "demo"},
        "involvedObject": involved,
    }
    assert mirrored(event, "alpha")["involvedObject"]["name"] == wanted


def test_a_token_is_for_one_cluster() -> None:
    token = new_token(SeededIds(1))
    assert len(str(token).split(".")[0]) == 6
    groups = cluster_groups("alpha")
    made = secret_document(token, groups, parse_time("2026-01-01T00:00:00Z"), "join alpha")
    assert made["stringData"]["auth-extra-groups"].endswith(":alpha")
    assert made["stringData"]["expiration"] == "2026-01-01T00:00:00Z"
    assert made["metadata"]["name"] == f"bootstrap-token-{token.identity}"

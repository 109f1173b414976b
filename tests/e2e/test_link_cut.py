"""A cluster whose link alone is cut, on real gateways: it keeps what it serves; when it dies for good it is replaced."""

import os

import pytest
from tests.support.fleet import (
    ZONES,
    Document,
    Fleet,
    Workload,
    deployment,
    deployments,
    until,
)

from machinery.api.fleet.multicluster import CLUSTER_NETWORKS, UNREACHABLE
from machinery.api.fleet.resilience import FAILURE_DOMAINS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(400),
]
NAMESPACE = "linkcut"
PEERS = ("beta", "gamma")
LOOKS = 40
"""Reads of the verdict and the placement while the link stays cut."""


def domain(fleet: Fleet, name: str) -> Document:
    status: Document = fleet.api().get(f"{FAILURE_DOMAINS.path('')}/{name}").get("status") or {}
    return status


def placed(fleet: Fleet) -> dict[str, int]:
    path = f"/apis/work.karmada.io/v1alpha2/namespaces/{NAMESPACE}/resourcebindings/web-deployment"
    targets = fleet.api().get(path)["spec"].get("clusters") or []
    return {t["name"]: t.get("replicas", 0) for t in targets}


def reaches(fleet: Fleet, who: str, whom: str) -> bool:
    status = fleet.api().get(f"{CLUSTER_NETWORKS.path('')}/{who}").get("status") or {}
    return any(p["cluster"] == whom and p["path"] != UNREACHABLE for p in status.get("peers") or [])


def test_a_cut_link_moves_nothing_and_a_dead_zone_does(own: Fleet) -> None:
    api = own.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    api.create(deployments(NAMESPACE), deployment("web", NAMESPACE, 6))
    web = Workload(own, NAMESPACE, "web")
    web.stands(2, 2, 2)
    until(lambda: all(reaches(own, peer, "alpha") for peer in PEERS), "peers reach alpha")
    before = placed(own)

    own.lab("cut", ZONES["alpha"], "--from", "federation")
    until(lambda: domain(own, "cluster.alpha").get("verdict") == "LinkCut", "alpha's link is cut")
    said = domain(own, "cluster.alpha")
    assert [one["cluster"] for one in said["evidence"]] == list(PEERS)
    assert "only its link is cut" in said["message"]
    for _ in range(LOOKS):
        assert domain(own, "cluster.alpha")["verdict"] == "LinkCut"
        assert placed(own) == before

    own.lab("kill", ZONES["alpha"])
    until(lambda: domain(own, "cluster.alpha").get("verdict") == "Dead", "alpha is dead")
    until(lambda: placed(own) == {"beta": 3, "gamma": 3}, "its replicas run elsewhere")
    until(lambda: web.spread()[1:] == [3, 3], "they are ready")

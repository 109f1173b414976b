"""A cluster that runs already becomes a fourth member by its kubeconfig: `cluster-agent link`, with the printed rights alone.

The foreign cluster is one of another lab with a federation of its own, of which this one knows nothing but its API.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fleet import (
    AT_ONCE,
    KUBECTL,
    MEMBERS,
    Fleet,
    Workload,
    condition,
    deployment,
    deployments,
    is_ready,
    run,
    standing,
    until,
)

from machinery.client import kubeconfig

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.timeout(600)]
AGENT = Path(sys.executable).parent / "cluster-agent"
CLUSTERS = "/apis/cluster.karmada.io/v1alpha1/clusters"
ACCOUNT = ("-n", "ubernetes-link", "link")


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Fleet]:
    """Somebody else's cluster, with one real node."""
    if os.geteuid() != 0:
        pytest.skip("real containers need root")
    if KUBECTL is None:
        pytest.skip("kubectl is not installed")
    yield from standing(Fleet(tmp_path / "theirs" / ".lab", "--clusters", "delta"))


@pytest.fixture
def agent(fleet: Fleet, theirs: Fleet, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`cluster-agent link` beside it; afterwards the federation is as it was."""
    theirs.kubectl("delta", "apply", "-f", "-", stdin=run((str(AGENT), "link", "--print-rbac")))
    (tmp_path / "token").write_text(theirs.kubectl("delta", "create", "token", *ACCOUNT).strip())
    known = kubeconfig.load(theirs.kubeconfig, "delta")
    access = kubeconfig.Access(known.server, known.ca, token_file=str(tmp_path / "token"))
    kubeconfig.write(tmp_path / "edge.kubeconfig", kubeconfig.document("edge", access))
    asked = (sys.executable, "-m", "federation.cli", "join", "edge", "--kubeconfig")
    words = run((*asked, fleet.kubeconfig)).split()
    printed = dict(zip(words, words[1:], strict=False))
    (tmp_path / "join-token").write_text(printed["--token"])
    process = subprocess.Popen(
        [
            AGENT, "link", "--cluster", "edge", "--kubeconfig", tmp_path / "edge.kubeconfig",
            "--federation", printed["--federation"], "--ca-data", printed["--ca-data"],
            "--token-file", tmp_path / "join-token", "--data-dir", tmp_path / "edge",
            "--provider", "acme", "--region", "region-9", "--zone", "zone-x",
            "--log-file", tmp_path / "link.log",
        ],
        env={**os.environ, "NO_PROXY": "*"},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
        if any(c["metadata"]["name"] == "edge" for c in fleet.api().list(CLUSTERS)):
            fleet.api().delete(f"{CLUSTERS}/edge")
        until(lambda: len(fleet.api().list(CLUSTERS)) == len(MEMBERS), "three members again")


def test_a_deployment_is_spread_to_a_cluster_that_is_not_ours(
    fleet: Fleet, theirs: Fleet, agent: subprocess.Popen[bytes], namespace: str
) -> None:
    api = fleet.api()
    until(lambda: is_ready(api.get(f"{CLUSTERS}/edge")), "edge is Ready")
    web = Workload(fleet, namespace, "web")
    api.create(deployments(namespace), deployment("web", namespace, 8, container=AT_ONCE))
    until(lambda: dict(web.count()) == dict.fromkeys([*MEMBERS, "edge"], 2), web.names, 120)
    for kind, status in (("MemberRights", "True"), ("GrantsEnforced", "False")):
        until(
            lambda k=kind, s=status: condition(api.get(f"{CLUSTERS}/edge"), k).get("status") == s,
            lambda: f"edge's conditions: {api.get(f'{CLUSTERS}/edge')['status']['conditions']}",
        )

    pods = [p["metadata"]["name"] for p in web.pods() if p["metadata"]["name"].endswith(".edge")]
    there = theirs.kubectl("delta", "get", "pods", "-n", namespace, "-o", "name")
    assert sorted(f"pod/{name.removesuffix('.edge')}" for name in pods) == sorted(there.split())
    assert "serving on port" in fleet.kubectl("federation", "logs", "-n", namespace, pods[0])
    said = fleet.kubectl(
        "federation", "exec", "-n", namespace, pods[0], "--", "wget", "-qO-", "http://127.0.0.1/"
    )
    assert said.split()[0] == pods[0].removesuffix(".edge")

    api.delete(deployments(namespace, "web"))
    until(
        lambda: "No resources" in theirs.kubectl("delta", "get", "pods", "-n", namespace),
        "the foreign cluster is empty again",
    )
    assert agent.poll() is None

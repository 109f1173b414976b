"""Acceptance 4 and 5: whichever of our processes dies or freezes, promises are kept and containers never notice.

How long a service was away is printed (`pytest -s`, or -rP); what is asserted is generous, because the machine may be
busy with something else.
"""

import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest
from tests.support.fleet import (
    AT_ONCE,
    Document,
    Fleet,
    Standing,
    Workload,
    answer,
    clusters_ready,
    condition,
    deployment,
    deployments,
    is_ready,
    until,
)
from tests.support.storm import Storm, verify
from tests.support.survival import LONG

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.timeout(300)]

COUNT = 500
NAMESPACE = "standing"
AWAY_S = 30.0
NOT_HEARD = ("ClusterNotReachable", "ClusterLinkCut")
FROZEN_S = 60.0 if LONG else 18.0
CLUSTERS = "/apis/cluster.karmada.io/v1alpha1/clusters"


@pytest.fixture(scope="module")
def web(fleet: Fleet) -> Iterator[Workload]:
    """Six pods that have to live through everything below, two in each zone."""
    api = fleet.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    api.create(deployments(NAMESPACE), deployment("web", NAMESPACE, 6))
    web = Workload(fleet, NAMESPACE, "web")
    web.stands(2, 2, 2)
    yield web
    api.delete(f"/api/v1/namespaces/{NAMESPACE}")


@pytest.fixture
def failover_frozen(fleet: Fleet) -> Iterator[None]:
    """The operator's kill switch. On a busy machine a restart can outlast the failure clock; what happens then is
    another test's matter."""
    path = "/apis/ubernetes.io/v1alpha1/federationconfigs"
    kind = {"apiVersion": "ubernetes.io/v1alpha1", "kind": "FederationConfig"}
    spec = {"metadata": {"name": "default"}, "spec": {"failover": "Frozen"}}
    fleet.api().create(path, kind | spec)
    yield
    fleet.api().delete(f"{path}/default")


def restarted(fleet: Fleet, name: str, pid: int) -> bool:
    process = fleet.processes()[name]
    return bool(process["pid"]) and process["pid"] != pid and process["ready"]


@pytest.mark.usefixtures("failover_frozen")
@pytest.mark.parametrize(
    ("victim", "context"),
    [
        ("federation-1", "federation"),
        ("alpha-control", "alpha"),
        ("alpha-node-1", "alpha"),
        ("alpha-node-1-containerd", "alpha"),
    ],
)
def test_kill_9_during_500_creates(
    fleet: Fleet, web: Workload, namespace: str, victim: str, context: str
) -> None:
    until(lambda: namespace_there(fleet, context, namespace), f"{namespace} in {context}")
    standing = Standing(web)
    killed: list[int] = []
    storm = Storm(fleet, context, namespace, COUNT)
    account = storm.run(lambda: killed.append(fleet.signal(victim)), at=COUNT // 3)
    until(lambda: restarted(fleet, victim, killed[0]), f"{victim} to be restarted")
    verify(fleet.api(context), namespace, account, COUNT)
    if victim in ("federation-1", "alpha-control"):
        assert account.unknown, "the kill came while creates were under way"
        print(
            f"{victim}: away for {account.longest_silence_s:.1f} s, {len(account.unknown)} answers lost"
        )
        assert account.longest_silence_s < AWAY_S
    else:
        assert not account.unknown, "the API server has no part in it"
    until(lambda: clusters_ready(fleet), "all members Ready")
    until(lambda: all(is_ready(n) for n in fleet.api("alpha").list("/api/v1/nodes")), "nodes Ready")
    standing.unchanged()


def namespace_there(fleet: Fleet, context: str, namespace: str) -> bool:
    names = [n["metadata"]["name"] for n in fleet.api(context).list("/api/v1/namespaces")]
    return namespace in names


@pytest.mark.usefixtures("failover_frozen")
def test_the_node_and_its_containerd_are_killed_and_still_work(fleet: Fleet, web: Workload) -> None:
    """Both at once; afterwards the node takes a new pod, and ends one."""
    standing = Standing(web)
    pids = {n: fleet.signal(n) for n in ("beta-node-1-containerd", "beta-node-1")}
    begun = time.monotonic()
    for name, pid in pids.items():
        until(partial(restarted, fleet, name, pid), f"{name} to be restarted")
    print(f"node and containerd: back after {time.monotonic() - begun:.1f} s")
    standing.unchanged()
    api = fleet.api()
    pin = {"nodeSelector": {"kubernetes.io/hostname": "node-1"}}
    body = deployment("later", NAMESPACE, 3, container=AT_ONCE, **pin)
    api.create(deployments(NAMESPACE), body)
    later = Workload(fleet, NAMESPACE, "later")
    later.stands(1, 1, 1)
    assert later.serves("beta")
    api.delete(deployments(NAMESPACE, "later"))
    until(lambda: not later.pods("beta"), lambda: f"later to be gone: {later.names()}")
    standing.unchanged()


def test_a_frozen_control_process_is_reported_and_nothing_is_deleted(
    fleet: Fleet, web: Workload
) -> None:
    """Its peers still reach it, so only its link is cut; until they say so, or if they never do, it is not reachable.

    Either way alpha's own containers are left alone.
    """
    standing = Standing(web)
    inside = web.pods("alpha")
    mirrors = uids(web)
    works = live_works(fleet)
    fleet.signal("alpha-control", signal.SIGSTOP)
    frozen = time.monotonic()
    try:
        until(lambda: ready(fleet)["status"] != "True", "alpha to be reported not Ready")
        print(f"frozen control: reported after {time.monotonic() - frozen:.1f} s")
        verdict = ready(fleet)
        assert verdict["status"] == "Unknown"
        assert verdict["reason"] in NOT_HEARD
        assert "No heartbeat for more than" in verdict["message"]
        until(lambda: told(fleet), "an Event on the Cluster that says so")
        until(lambda: cluster(fleet, "alpha")["spec"].get("taints"), "the taint")
        for member in ("beta", "gamma"):
            assert is_ready(cluster(fleet, member))

        def outlasted() -> bool:
            assert standing.kept(), "no container was stopped or started anew"
            for pod in inside:
                assert fleet.fetch(pod, "alpha") == answer(pod, "alpha"), "its workloads run on"
            assert mirrors <= uids(web), "no pod was deleted"
            assert works <= live_works(fleet), "nothing was told to go"
            return time.monotonic() - frozen > FROZEN_S

        until(outlasted, "the freeze to end")
    finally:
        fleet.signal("alpha-control", signal.SIGCONT)
    until(lambda: clusters_ready(fleet), "alpha to be Ready again")
    until(lambda: not cluster(fleet, "alpha")["spec"].get("taints"), "the taint to be gone")
    web.total(6)


def uids(web: Workload) -> set[str]:
    return {
        pod["metadata"]["uid"] for pod in web.pods() if "deletionTimestamp" not in pod["metadata"]
    }


def cluster(fleet: Fleet, name: str) -> Document:
    return fleet.api().get(f"{CLUSTERS}/{name}")


def ready(fleet: Fleet) -> Document:
    return condition(cluster(fleet, "alpha"))


def told(fleet: Fleet) -> bool:
    events = fleet.api().list("/api/v1/events")
    about = [e for e in events if e["involvedObject"].get("name") == "alpha"]
    return any(e["reason"] in NOT_HEARD for e in about)


def live_works(fleet: Fleet) -> set[str]:
    """The uids of alpha's Works, without those on their way out."""
    found = fleet.api().list("/apis/work.karmada.io/v1alpha1/namespaces/karmada-es-alpha/works")
    return {w["metadata"]["uid"] for w in found if "deletionTimestamp" not in w["metadata"]}

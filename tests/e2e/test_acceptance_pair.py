"""Acceptance 6: two federation servers on one PostgreSQL. Lines 2 to 4 hold, whichever of them is killed.

Both serve behind one address; one leads. What is asserted of a killed one is what a client at the address sees. Each stands
in a zone, and dies with it: the issue on the federation's brain wants the loss of the server's own zone tested.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.support.fleet import (
    AT_ONCE,
    KUBECTL,
    MEMBERS,
    ZONES,
    Api,
    Fleet,
    Standing,
    Workload,
    clusters_ready,
    deployment,
    deployments,
    is_ready,
    standing,
    until,
)
from tests.support.postgres import Postgres, postgres
from tests.support.sampler import Sample
from tests.support.storm import Storm, verify
from tests.support.survival import FLEET, Scene

from federation.app import LEASE
from federation.lab import state
from machinery.client import kubeconfig

__all__ = ["postgres"]  # the fixture

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.timeout(300)]

HOMES = {"federation-1": "zone-a", "federation-2": "zone-b"}
SERVERS = tuple(HOMES)
NAMESPACE = "pair"
COUNT = 500
AWAY_S = 30.0
TRAFFIC_S = 6.0
OWN_ZONE_S = 45.0
"""A leader's lease runs out, its successor hears nothing of the zone for itself, and pods start."""


@pytest.fixture(scope="module")
def pair(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The default fleet with two federation servers."""
    url = {"FEDERATION_DATABASE_URL": postgres.fresh_url()}
    options = ("--servers", "2", "--server-zones", ",".join(HOMES.values()))
    yield from standing(Fleet(tmp_path_factory.mktemp("pair") / ".lab", *options, env=url))


@pytest.fixture(scope="module")
def web(pair: Fleet) -> Workload:
    """Six pods, two in each zone."""
    pair.api().create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    body = deployment("web", NAMESPACE, 6, container=AT_ONCE)
    pair.api().create(deployments(NAMESPACE), body)
    web = Workload(pair, NAMESPACE, "web")
    web.stands(2, 2, 2)
    return web


@pytest.fixture
def each(pair: Fleet) -> Iterator[dict[str, Api]]:
    """A client of each server, past the common address."""
    known = state.load(pair.directory)
    assert known is not None
    access = kubeconfig.load(pair.kubeconfig, "federation")
    found = {
        host.name: Api(replace(access, server=f"https://{host.address}:6443"))
        for host in known.plan().federation
    }
    yield found
    for api in found.values():
        api.close()


def test_both_servers_tell_the_same(pair: Fleet, web: Workload, each: dict[str, Api]) -> None:
    """Members, nodes, and mirrors of pods: whoever is asked."""
    assert set(each) == set(SERVERS)
    for name, api in each.items():
        found = api.list("/apis/cluster.karmada.io/v1alpha1/clusters")
        assert [c["metadata"]["name"] for c in found if is_ready(c)] == list(MEMBERS), name
        until(partial(sees, api, web), f"{name} to show all pods and nodes")
    if KUBECTL is not None:
        told = pair.kubectl("federation", "get", "clusters", "--no-headers").splitlines()
        assert [line.split()[0] for line in told] == list(MEMBERS)


def sees(api: Api, web: Workload) -> bool:
    pods = {p["metadata"]["name"] for p in api.list(f"/api/v1/namespaces/{NAMESPACE}/pods")}
    nodes = {n["metadata"]["name"] for n in api.list("/api/v1/nodes")}
    inside = {f"{p['metadata']['name']}.{member}" for member in MEMBERS for p in web.pods(member)}
    return pods == inside and nodes == {f"node-1.{member}" for member in MEMBERS}


def test_spread(pair: Fleet, web: Workload) -> None:
    pair.api().merge(deployments(NAMESPACE, "web"), {"spec": {"replicas": 7}})
    assert web.total(7) == [3, 2, 2]
    pair.api().merge(deployments(NAMESPACE, "web"), {"spec": {"replicas": 6}})
    web.stands(2, 2, 2)
    for member in MEMBERS:
        assert web.serves(member)


@pytest.mark.parametrize("victim", SERVERS)
def test_either_is_killed_during_500_creates(
    pair: Fleet, web: Workload, each: dict[str, Api], victim: str
) -> None:
    namespace = f"storm-{victim}"
    pair.api().create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    before = Standing(web)
    account = Storm(pair, "federation", namespace, COUNT).run(
        lambda: pair.signal(victim), at=COUNT // 3
    )
    print(
        f"{victim}: away for {account.longest_silence_s:.1f} s, {len(account.unknown)} answers lost"
    )
    assert account.longest_silence_s < AWAY_S
    verify(pair.api(), namespace, account, COUNT)
    after = deployment("after", namespace, 3)
    pair.api().create(deployments(namespace), after)
    Workload(pair, namespace, "after").stands(1, 1, 1)
    until(partial(all_ready, pair), f"{victim} to be back")
    for name, api in each.items():
        verify(api, namespace, account, COUNT)
        until(partial(clusters_ready, pair), "three Ready members")
        until(partial(sees, api, web), f"{name} to show all pods and nodes")
    before.unchanged()


def all_ready(pair: Fleet) -> bool:
    return all(process["ready"] for process in pair.processes().values())


def leading(pair: Fleet) -> str:
    """The server that holds the lease."""
    known = state.load(pair.directory)
    assert known is not None
    path = f"/apis/coordination.k8s.io/v1/namespaces/{LEASE.namespace}/leases/{LEASE.name}"
    holder: str = pair.api().get(path)["spec"]["holderIdentity"]
    return next(h.name for h in known.plan().federation if holder.startswith(f"{h.address}:"))


def test_the_leader_dies_with_its_zone(pair: Fleet, web: Workload, tmp_path: Path) -> None:
    """The other server takes over, believes no silence but what it heard itself, and moves what ran in the zone."""
    leader = leading(pair)
    zone = HOMES[leader]
    dead = next(member for member in MEMBERS if ZONES[member] == zone)
    scene = Scene(pair, "own-zone", tmp_path)
    six = scene.workload("six", 6)
    six.stands(2, 2, 2)
    scene.export("six")
    living = [other for other in ZONES.values() if other != zone]

    def elsewhere(sample: Sample) -> bool:
        return sum(not pod.endswith(f".{dead}") for pod in sample.serving("six") or ()) >= 6

    with scene.sampler() as sampler, scene.load("six", *living, domain=FLEET) as load:
        until(lambda: load.answering(time.time() - 2) == set(MEMBERS), "answers from all clusters")
        time.sleep(1)
        killed = time.time()
        pair.lab("kill", zone)
        until(lambda: sampler.first(elsewhere, killed), lambda: f"six elsewhere: {six.names()}")
        moved = sampler.first(elsewhere, killed)
        assert leading(pair) != leader
        pair.lab("revive", zone)
        six.total(6)
        until(lambda: six.count()[dead] > 0, f"{dead} to be used again")
        until(partial(all_ready, pair), f"{leader} to be back")
    assert moved is not None
    print(
        f"{leader} and {dead} lost: six elsewhere after {moved.t - killed:.1f} s; {len(load.requests)} requests, "
        f"{len(load.failed())} failed, the last {max((r.t for r in load.failed()), default=killed) - killed:.1f} s after"
    )
    assert moved.t - killed < OWN_ZONE_S
    assert not load.failed(killed + TRAFFIC_S)
    web.stands(2, 2, 2)
    scene.end()

"""Acceptance 6: two federation servers on one PostgreSQL. Lines 2 to 4 hold, whichever of them is killed.

Both serve behind one address; one leads. What is asserted of a killed one is what a client at the address sees.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from tests.support.fleet import (
    AT_ONCE,
    KUBECTL,
    MEMBERS,
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
from tests.support.storm import Storm, verify

from federation.lab import state
from machinery.client import kubeconfig

__all__ = ["postgres"]  # the fixture

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.timeout(300)]

SERVERS = ("federation-1", "federation-2")
NAMESPACE = "pair"
COUNT = 500
AWAY_S = 30.0


@pytest.fixture(scope="module")
def pair(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The default fleet with two federation servers."""
    url = {"FEDERATION_DATABASE_URL": postgres.fresh_url()}
    yield from standing(Fleet(tmp_path_factory.mktemp("pair") / ".lab", "--servers", "2", env=url))


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

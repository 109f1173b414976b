"""Issue "It survives", line 5: the federation server is cut off from everything, and its PostgreSQL dies. Nothing moves.

Short by default; with UBERNETES_TEST_LONG=1 the faults last as long as in the promise: ten minutes and two.
"""

import os
import signal
import time
from collections.abc import Sequence
from functools import partial

import pytest
from tests.support.fleet import (
    AT_ONCE,
    MEMBERS,
    ZONES,
    Fleet,
    Refused,
    Workload,
    clusters_ready,
    condition,
    core,
    is_ready,
    until,
)
from tests.support.postgres import Postgres
from tests.support.sampler import Sample, Sampler, gaps
from tests.support.survival import (
    CLUSTERS,
    LONG,
    Load,
    Scene,
    events_about,
    in_zone,
    verdict,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(1200 if LONG else 300),
]

WANTED = 6
CUT_S = 600.0 if LONG else 20.0
DATABASE_S = 120.0 if LONG else 14.0
QUIET_S = 5.0
"""After everything is back: what would move late."""


def all_six(sample: Sample) -> bool:
    return len(sample.serving("web") or ()) == WANTED


def kept(samples: Sequence[Sample]) -> bool:
    """Whether the same containers ran in every sample."""
    runs = {tuple(in_zone(s, m, "web") for m in MEMBERS) for s in samples}
    return len(runs) == 1


def replaced(fleet: Fleet, spare: Workload, member: str) -> None:
    """The member mends itself: a pod that is deleted there comes back, without the federation."""
    (pod,) = spare.pods(member)
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    fleet.api(member).delete(core(spare.namespace, "pods", name))

    def new() -> bool:
        found = spare.pods(member)
        return len(found) == 1 and found[0]["metadata"]["uid"] != uid and is_ready(found[0])

    until(new, f"{member} to replace {name}")


def mirrored(spare: Workload) -> bool:
    """Whether the federation shows the pods that there are."""
    there = {f"{p['metadata']['name']}.{m}" for m in MEMBERS for p in spare.pods(m)}
    return {p["metadata"]["name"] for p in spare.pods()} == there


def nothing_happened(load: Load, sampler: Sampler) -> str:
    """Clients and containers; the figures."""
    samples = sampler.samples()
    assert not load.failed()
    assert {r.cluster for r in load.requests} == set(MEMBERS)
    assert kept(samples)
    return f"{len(load.requests)} requests, 0 failed; {len(samples)} samples, longest gap {gaps(samples):.2f} s"


def test_a_server_that_is_cut_off_freezes(survivor: Fleet, scene: Scene) -> None:
    web, spare = scene.workload("web", WANTED), scene.workload("spare", 3, container=AT_ONCE)
    web.stands(2, 2, 2)
    spare.stands(1, 1, 1)
    with scene.sampler() as sampler, scene.load("web", *ZONES.values()) as load:
        until(lambda: sampler.first(all_six, 0), "samples of all six")
        stood = scene.placement("web")
        cut = time.time()
        survivor.lab("cut", "federation")
        until(lambda: verdict(survivor, "fleet") == "ServerCutOff", "the server's doubt of itself")
        noticed = time.time()
        for member in MEMBERS:
            replaced(survivor, spare, member)
        until(lambda: time.time() - cut >= CUT_S, "the cut", CUT_S + 10)
        assert verdict(survivor, "fleet") == "ServerCutOff"
        # an object has only so many Events in a while, and on this fleet much has happened: one of them tells
        told = set().union(*(events_about(survivor, name, cut) for name in (*MEMBERS, "fleet")))
        clusters = survivor.api().list(CLUSTERS)
        assert scene.placement("web") == stood
        healed = time.time()
        survivor.lab("heal", "federation")
        until(lambda: clusters_ready(survivor), "all members Ready")
        back = time.time()
        until(lambda: verdict(survivor, "fleet") == "Healthy", "the server to trust itself")
        time.sleep(QUIET_S)
    print(
        f"cut for {healed - cut:.0f} s, noticed after {noticed - cut:.1f} s, all Ready {back - healed:.1f} s after it; "
        + nothing_happened(load, sampler)
    )
    print(sorted(told))
    assert "VerdictServerCutOff" in told
    assert {condition(c)["status"] for c in clusters} == {"Unknown"}
    assert scene.placement("web") == stood
    assert not events_about(survivor, "web-deployment", cut) & {"EvictWorkload", "Failback"}


def refused(fleet: Fleet, namespace: str) -> Refused | None:
    """What a write is answered; None while it is not refused."""
    try:
        fleet.api().create(core(namespace, "configmaps"), {"metadata": {"generateName": "try-"}})
    except Refused as error:
        return error
    return None


def test_a_dead_database_stops_writes_and_nothing_else(
    survivor: Fleet, scene: Scene, postgres: Postgres
) -> None:
    web, spare = scene.workload("web", WANTED), scene.workload("spare", 3, container=AT_ONCE)
    web.stands(2, 2, 2)
    spare.stands(1, 1, 1)
    server = survivor.pids()["federation-1"]
    with scene.sampler() as sampler, scene.load("web", *ZONES.values()) as load:
        until(lambda: sampler.first(all_six, 0), "samples of all six")
        stood = scene.placement("web")
        died = time.time()
        postgres.stop(signal.SIGQUIT)
        try:
            error = until(lambda: refused(survivor, scene.namespace), "a write to be refused")
            replaced(survivor, spare, "beta")
            until(lambda: time.time() - died >= DATABASE_S, "the time", DATABASE_S + 10)
            again = refused(survivor, scene.namespace)
            known = survivor.api().list(CLUSTERS)
            reads = [s for s in sampler.samples(died)]
        finally:
            postgres.start()
        up = time.time()
        until(lambda: refused(survivor, scene.namespace) is None, "writes to be accepted")
        accepted = time.time()
        until(lambda: clusters_ready(survivor), "all members Ready")
        until(lambda: verdict(survivor, "fleet") == "Healthy", "the server to trust itself")
        ready = time.time()
        until(partial(mirrored, spare), lambda: f"what changed meanwhile: {spare.names()}")
        seen = time.time()
        time.sleep(QUIET_S)
    print(
        f"database away for {up - died:.0f} s, writes again {accepted - up:.1f} s and all Ready {ready - up:.1f} s after it, what changed in a member is seen after {seen - up:.1f} s; "
        + nothing_happened(load, sampler)
    )
    print(error)
    print(again)
    assert len(known) == len(MEMBERS)
    assert again is not None
    assert again.code == 503
    assert "database" in str(again)
    assert all(s.ready is not None for s in reads), "reads go on"
    assert survivor.pids()["federation-1"] == server, "the same process all the time"
    assert scene.placement("web") == stood
    assert not events_about(survivor, "web-deployment", died) & {"EvictWorkload", "Failback"}

"""Issue "It survives", line 6: lines that flap move nothing, and a drain loses no request."""

import os
import sys
import time

import pytest
from tests.support.fleet import MEMBERS, ZONES, Fleet, clusters_ready, run, until
from tests.support.sampler import Sample, gaps
from tests.support.survival import DOMAIN, FLEET, Scene, dips, events_about, in_zone

from federation.lab import inject
from machinery.kit.clock import SystemClock

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(300),
]

WANTED = 6
FLAPS, FLAP_S, BETWEEN_S = 10, 4.0, 1.0


def all_six(sample: Sample) -> bool:
    return len(sample.serving("web") or ()) == WANTED


def nothing_in_beta(sample: Sample) -> bool:
    return all_six(sample) and not in_zone(sample, "beta", "web")


def fedctl(fleet: Fleet, *words: str) -> str:
    return run((sys.executable, "-m", "federation.cli", *words, "--kubeconfig", fleet.kubeconfig))


def test_ten_flaps_move_nothing(survivor: Fleet, scene: Scene) -> None:
    scene.workload("web", WANTED).stands(2, 2, 2)
    with scene.sampler() as sampler:
        start = until(lambda: sampler.first(all_six, 0), "samples of all six")
        stood = scene.placement("web")
        begun = time.time()
        lines = inject.injector(survivor.directory, SystemClock())  # without the start of `fedctl`
        for _ in range(FLAPS):
            lines.cut("zone-c", "", one_way=False)
            time.sleep(FLAP_S)
            lines.heal("zone-c", "", one_way=False)
            time.sleep(BETWEEN_S)
        until(lambda: clusters_ready(survivor), "all members Ready")
        ended = time.time()
        samples = sampler.samples()
    told = events_about(survivor, "gamma", begun) | events_about(survivor, "web-deployment", begun)
    print(f"{FLAPS} flaps in {ended - begun:.0f} s; {len(samples)} samples; told: {sorted(told)}")
    assert not told & {"EvictWorkload", "EvictionCancelled", "VerdictDead", "VerdictServerCutOff"}
    assert scene.placement("web") == stood
    for member in MEMBERS:
        held = {in_zone(s, member, "web") for s in samples}
        assert held == {in_zone(start, member, "web")}


def test_a_drain_under_load(survivor: Fleet, scene: Scene) -> None:
    scene.workload("web", WANTED).stands(2, 2, 2)
    clients = [ZONES["alpha"], ZONES["gamma"]]
    if DOMAIN == FLEET:  # beta's own pods go: only Services of all clusters still answer there
        scene.export("web")
        clients.append(ZONES["beta"])
    with scene.sampler() as sampler, scene.load("web", *clients, domain=DOMAIN) as load:
        until(lambda: sampler.first(all_six, 0), "samples of all six")
        sure = {c for c in MEMBERS if ZONES[c] in clients}
        until(lambda: sure <= load.answering(time.time() - 2), "answers from their clusters")
        begun = time.time()
        told = fedctl(survivor, "drain", "beta")
        drained = time.time()
        until(lambda: sampler.first(nothing_in_beta, begun), "beta to be empty")
        time.sleep(2)
        fedctl(survivor, "uncordon", "beta")
        samples = sampler.samples()
    print(told)
    print(
        f"drained in {drained - begun:.1f} s; {len(load.requests)} requests, {len(load.failed())} failed; "
        f"{len(samples)} samples, longest gap {gaps(samples):.2f} s"
    )
    assert not load.failed(begun)
    assert not dips(samples, "web", WANTED)

"""Issue "It survives", line 2: a zone loses its power under load and gets it back. Nobody notices for long, and nothing dips.

Everything is judged by samples of containerd and the API (five a second), and by what clients in the two other zones saw.
"""

import os
import time

import pytest
from tests.support.fleet import Fleet, condition, until
from tests.support.sampler import Sample, gaps
from tests.support.survival import (
    CLUSTERS,
    DOMAIN,
    FLEET,
    Scene,
    dips,
    events_about,
    unseen,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(300),
]

WANTED = 6
TRAFFIC_S = 6.0
RECOVERY_S = 30.0
RETURN_S = 60.0
GAP_S = 5.0


def recovered(sample: Sample) -> bool:
    """All that is wanted serves in the two living zones."""
    serving = sample.serving("web")
    return serving is not None and sum(not p.endswith(".alpha") for p in serving) >= WANTED


def at_home(sample: Sample) -> bool:
    """Alpha is used again, and exactly as many containers run as are wanted."""
    serving = sample.serving("web")
    if serving is None or sample.spread("web").total() != WANTED:
        return False
    return len(serving) == WANTED and sample.spread("web")["alpha"] > 0


def test_a_killed_zone_and_its_return(survivor: Fleet, scene: Scene) -> None:
    web = scene.workload("web", WANTED)
    web.stands(2, 2, 2)
    expected = {"beta", "gamma"}
    if DOMAIN == FLEET:
        scene.export("web")
        expected |= {"alpha"}
    clients = scene.load("web", "zone-b", "zone-c", domain=DOMAIN)
    with scene.sampler() as sampler, clients as load:
        until(lambda: sampler.first(at_home, 0), "samples of all six")
        until(lambda: load.answering(time.time() - 2) == expected, "answers from all clusters")
        steady = time.time()
        time.sleep(1)
        killed = time.time()
        survivor.lab("kill", "zone-a")
        until(lambda: sampler.first(recovered, killed), lambda: f"six elsewhere: {web.names()}")
        ready = condition(survivor.api().get(f"{CLUSTERS}/alpha"))
        told = events_about(survivor, "alpha", killed) | events_about(survivor, "web", killed)
        told |= events_about(survivor, "web-deployment", killed)
        recovery = sampler.first(recovered, killed)
        revived = time.time()
        survivor.lab("revive", "zone-a")
        until(lambda: sampler.first(at_home, revived), lambda: f"six with alpha: {web.names()}")
        returned = sampler.first(at_home, revived)
        time.sleep(2)
        samples = sampler.samples()
    assert recovery is not None
    assert returned is not None
    failed = load.failed()
    print(
        f"six elsewhere {recovery.t - killed:.1f} s after the kill, home {returned.t - revived:.1f} s after the return; "
        f"{len(load.requests)} requests, {len(failed)} failed; {len(samples)} samples, longest gap {gaps(samples):.2f} s, "
        f"{unseen(samples)} without all answers"
    )
    print(sorted(told))
    assert recovery.t - killed < RECOVERY_S
    assert returned.t - revived < RETURN_S
    assert not dips([s for s in samples if s.t >= recovery.t], "web", WANTED)
    assert not load.failed(killed + TRAFFIC_S)
    assert not load.failed(steady, killed)
    assert load.answering(steady, killed) == expected
    assert load.answering(revived) == expected
    assert (ready["status"], ready["reason"]) == ("Unknown", "ClusterNotReachable")
    assert "No heartbeat for more than" in ready["message"]
    assert {"ClusterNotReachable", "VerdictDead", "EvictWorkload"} <= told
    assert gaps(samples) < GAP_S
    assert at_home(samples[-1])

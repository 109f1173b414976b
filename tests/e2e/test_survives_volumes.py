"""Issue "The federation's brain", part 6: what a copy wrote to its volume moves with it when its zone dies, and how much is lost is told.

The copy counts in an emptyDir, twice a second, and logs each number with the time. A snapshot is the file's only line: number and time
of the last tick before it, so what the told recovery point has to be can be read off the snapshot itself and the clock.
"""

import json
import os
import time

import pytest
from tests.support.fleet import (
    MEMBERS,
    ZONES,
    Document,
    Fleet,
    Workload,
    cluster_of,
    condition,
    core,
    deployment,
    deployments,
    is_ready,
    until,
)
from tests.support.survival import Scene, events_about

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(300),
]

NAME = "counter"
IMAGE = "docker.io/lab/busybox:1"
COUNT = """
trap 'exit 0' TERM
n=0
if [ -f /data/count ]; then read n _ < /data/count; fi
while :; do
  n=$((n + 1)); line="$n $(date +%s)"; echo "$line" > /data/new; mv /data/new /data/count; echo "$line"; sleep 0.5
done
"""
EVERY_S = 10
HEARTBEAT_S = 2.0
SLACK_S = 2.5
"""Whole seconds in the counter's own times, and a tick; besides what the snapshot's command took on this machine."""


def counter(namespace: str) -> Document:
    mount = {"name": "data", "mountPath": "/data"}
    container = {
        "name": NAME,
        "image": IMAGE,
        "command": ["sh", "-c", COUNT],
        "volumeMounts": [mount],
    }
    data = {"name": "data", "emptyDir": {}}
    return deployment(NAME, namespace, 1, container=container, volumes=[data])


def policy() -> Document:
    volumes = {
        "snapshot": {"command": ["cat", "/data/count"]},
        "restore": {"command": ["sh", "-c", 'echo "$UBERNETES_SNAPSHOT" > /data/count']},
        "intervalSeconds": EVERY_S,
    }
    wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    return {
        "apiVersion": "ubernetes.io/v1alpha1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": NAME},
        "spec": {"resourceSelectors": [wanted], "volumes": volumes},
    }


def ticks(fleet: Fleet, pod: Document) -> list[tuple[int, int]]:
    """(number, time) of each line that it logged."""
    path = f"{core(pod['metadata']['namespace'], 'pods', pod['metadata']['name'])}/log"
    found = fleet.api().get(f"{path}?container={NAME}")["text"]
    return [(int(n), int(at)) for n, at in (line.split() for line in found.splitlines())]


def test_a_killed_zone_costs_what_was_written_since_the_last_snapshot(
    survivor: Fleet, scene: Scene
) -> None:
    api = survivor.api()
    path = f"/apis/ubernetes.io/v1alpha1/namespaces/{scene.namespace}/resiliencepolicies"
    api.create(path, policy())
    api.create(deployments(scene.namespace), counter(scene.namespace))
    work = Workload(survivor, scene.namespace, NAME)

    def running(*clusters: str) -> Document | None:
        return next((p for p in work.pods() if is_ready(p) and cluster_of(p) in clusters), None)

    def kept() -> list[Document]:
        text = scene.binding(NAME)["metadata"]["annotations"].get("ubernetes.io/snapshots", "{}")
        found: list[Document] = json.loads(text).get("kept", [])
        return found

    old = until(lambda: running(*MEMBERS), lambda: f"a copy: {work.names()}")
    home = cluster_of(old)
    until(lambda: len(kept()) >= 2, kept)
    time.sleep(EVERY_S / 2)
    written = ticks(survivor, old)
    killed = time.time()
    survivor.lab("kill", ZONES[home])
    others = [name for name in MEMBERS if name != home]
    new = until(lambda: running(*others), lambda: f"a copy elsewhere: {work.names()}")
    there = cluster_of(new)
    begun = until(lambda: ticks(survivor, new), "its first tick")[0]

    def measured() -> Document | None:
        told = condition(scene.binding(NAME), "RecoveryPoint")
        return told if there in told.get("message", "") else None

    told = until(measured, lambda: scene.binding(NAME))
    binding = scene.binding(NAME)
    record = json.loads(binding["metadata"]["annotations"]["ubernetes.io/restores"])[there]
    (task,) = binding["spec"]["gracefulEvictionTasks"]
    shelf = json.loads(binding["metadata"]["annotations"]["ubernetes.io/snapshots"])
    slack = SLACK_S + shelf["last"].get(home, {}).get("tookS", 0.0)
    number, at = (int(word) for word in record["snapshot"].split())
    print(
        f"killed {killed - at:.1f} s after the tick that the snapshot holds, told {record['lostS']} s; old copy came to "
        f"{written[-1]}, the new one began with {begun} from {record['snapshot']!r}"
    )
    assert begun[0] == number + 1, "it goes on counting where the snapshot was made"
    assert (number, at) in written, "the old copy wrote what was restored"
    lost = written[-1][1] - at
    assert record["lostS"] >= lost - slack, "no less is told than was written since"
    assert abs(record["lostS"] - (killed - at)) <= HEARTBEAT_S + slack
    assert (told["status"], told["reason"]) == ("True", "Measured")
    assert f"may lack the last {record['lostS']:g} s" in told["message"]
    assert f"its newest snapshot is {record['lostS']:g} s old" in task["message"]
    assert {"EvictWorkload", "RecoveryPoint"} <= events_about(survivor, NAME, killed)
    survivor.lab("revive", ZONES[home])

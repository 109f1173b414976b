"""Pod statuses: phases, container states and conditions in upstream's words."""

from typing import Any

import pytest
from tests.unit.node.worlds import after, container, observed, pod, record, sandbox, world

from cluster_agent.node.kubelet.status import pod_status
from cluster_agent.node.kubelet.world import Ending, Health, Wait, World

INIT = container("init")


def status(seen: World, now: float = 60) -> dict[str, Any]:
    return pod_status(seen, after(now), runtime="containerd", host_ip="192.0.2.1")


def conditions(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c.get("reason", "")) for c in document["conditions"]}


DONE = record("c", 0, "exited", end=1)
FAILED = record("c", 0, "exited", code=1, end=1)
LOOPING = record("c", 4, "exited", code=1, start=50, end=55, failures=4)

PHASES: dict[str, tuple[World, str]] = {
    "nothing yet": (world(pod()), "Pending"),
    "running": (world(pod(), observed(record("c"))), "Running"),
    "one of two started": (
        world(pod(container("c"), container("d")), observed(record("c"))),
        "Pending",
    ),
    "initialising": (world(pod(init=(INIT,)), observed(record("init"))), "Pending"),
    "init failed, will be tried again": (
        world(pod(init=(INIT,)), observed(record("init", 0, "exited", code=1, end=1))),
        "Pending",
    ),
    "init failed for good": (
        world(
            pod(init=(INIT,), restartPolicy="Never"),
            observed(record("init", 0, "exited", code=1, end=1)),
        ),
        "Failed",
    ),
    "crash loop stays Running": (world(pod(), observed(LOOPING)), "Running"),
    "succeeded": (world(pod(restartPolicy="Never"), observed(DONE)), "Succeeded"),
    "failed": (world(pod(restartPolicy="Never"), observed(FAILED)), "Failed"),
    "OnFailure in back-off": (world(pod(restartPolicy="OnFailure"), observed(LOOPING)), "Running"),
    "Always, just ended": (world(pod(), observed(DONE)), "Running"),
    "deadline passed, released": (
        world(
            pod(),
            observed(record("c", 0, "exited", code=143, end=9)),
            ending=Ending(after(5), 30, False, "DeadlineExceeded", "too long", "Failed"),
            released=True,
        ),
        "Failed",
    ),
    "deleted, ended well": (
        world(
            pod(status={"phase": "Running"}),
            observed(DONE),
            ending=Ending(after(0), 30, True),
            released=True,
        ),
        "Succeeded",
    ),
    "deleted, killed": (
        world(
            pod(status={"phase": "Running"}),
            observed(record("c", 0, "exited", code=137, end=1)),
            ending=Ending(after(0), 30, True),
            released=True,
        ),
        "Failed",
    ),
    "deleted, still stopping": (
        world(
            pod(status={"phase": "Running"}),
            observed(record("c")),
            ending=Ending(after(0), 30, True),
        ),
        "Running",
    ),
}


@pytest.mark.parametrize(("seen", "phase"), PHASES.values(), ids=PHASES.keys())
def test_phase(seen: World, phase: str) -> None:
    assert status(seen)["phase"] == phase


PULL = Wait("ErrImagePull", "not found", after(50), after(70))
STATES: dict[str, tuple[World, float, dict[str, Any]]] = {
    "creating": (world(pod()), 60, {"waiting": {"reason": "ContainerCreating"}}),
    "initialising": (
        world(pod(init=(INIT,)), observed(record("init"))),
        60,
        {"waiting": {"reason": "PodInitializing"}},
    ),
    "running": (
        world(pod(), observed(record("c", start=3))),
        60,
        {"running": {"startedAt": "2026-01-01T12:00:03Z"}},
    ),
    "just failed to pull": (
        world(pod(), observed(), waits={"c": PULL}),
        50.5,
        {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
    ),
    "waiting to pull again": (
        world(pod(), observed(), waits={"c": PULL}),
        60,
        {
            "waiting": {
                "reason": "ImagePullBackOff",
                "message": 'Back-off pulling image "local/app:1": ErrImagePull: not found',
            }
        },
    ),
    "configuration missing": (
        world(
            pod(),
            observed(),
            waits={
                "c": Wait(
                    "CreateContainerConfigError", 'configmap "x" not found', after(59), after(70)
                )
            },
        ),
        60,
        {
            "waiting": {
                "reason": "CreateContainerConfigError",
                "message": 'configmap "x" not found',
            }
        },
    ),
    "crash loop": (
        world(pod(), observed(LOOPING)),
        60,
        {
            "waiting": {
                "reason": "CrashLoopBackOff",
                "message": ("back-off 1m20s restarting failed container=c pod=web_demo(uid-1)"),
            }
        },
    ),
    "completed": (
        world(pod(restartPolicy="Never"), observed(DONE)),
        60,
        {
            "terminated": {
                "exitCode": 0,
                "reason": "Completed",
                "startedAt": "2026-01-01T12:00:00Z",
                "finishedAt": "2026-01-01T12:00:01Z",
                "containerID": "containerd://c-0",
            }
        },
    ),
    "out of memory, with last words": (
        world(
            pod(restartPolicy="Never"),
            observed(record("c", 0, "exited", code=137, end=1, reason="OOMKilled")),
            messages={"c-0": "farewell"},
        ),
        60,
        {
            "terminated": {
                "exitCode": 137,
                "reason": "OOMKilled",
                "message": "farewell",
                "startedAt": "2026-01-01T12:00:00Z",
                "finishedAt": "2026-01-01T12:00:01Z",
                "containerID": "containerd://c-0",
            }
        },
    ),
}


@pytest.mark.parametrize(("seen", "now", "state"), STATES.values(), ids=STATES.keys())
def test_container_state(seen: World, now: float, state: dict[str, Any]) -> None:
    assert status(seen, now)["containerStatuses"][0]["state"] == state


def test_a_crash_loop_tells_the_last_exit_and_the_count() -> None:
    found = status(world(pod(), observed(LOOPING)))["containerStatuses"][0]
    assert found["restartCount"] == 4
    assert found["lastState"]["terminated"]["exitCode"] == 1
    assert (found["ready"], found["started"]) == (False, False)


def test_a_restarted_container_remembers_the_attempt_before() -> None:
    seen = world(pod(), observed(FAILED, record("c", 1, start=2)))
    found = status(seen)["containerStatuses"][0]
    assert found["lastState"]["terminated"]["containerID"] == "containerd://c-0"
    assert (found["containerID"], found["ready"]) == ("containerd://c-1", True)


CONDITIONS: dict[str, tuple[World, dict[str, tuple[str, str]]]] = {
    "nothing yet": (
        world(pod()),
        {
            "PodReadyToStartContainers": ("False", ""),
            "Initialized": ("True", ""),
            "Ready": ("False", "ContainersNotReady"),
            "ContainersReady": ("False", "ContainersNotReady"),
            "PodScheduled": ("True", ""),
        },
    ),
    "running and ready": (
        world(pod(), observed(record("c"))),
        {
            "PodReadyToStartContainers": ("True", ""),
            "Initialized": ("True", ""),
            "Ready": ("True", ""),
            "ContainersReady": ("True", ""),
            "PodScheduled": ("True", ""),
        },
    ),
    "running, not ready": (
        world(pod(), observed(record("c")), health={"c-0": Health(ready=False)}),
        {"Ready": ("False", "ContainersNotReady"), "Initialized": ("True", "")},
    ),
    "initialising": (
        world(pod(init=(INIT,)), observed(record("init"))),
        {"Initialized": ("False", "ContainersNotInitialized")},
    ),
    "succeeded": (
        world(pod(restartPolicy="Never"), observed(DONE, boxes=(sandbox(ready=False),))),
        {
            "PodReadyToStartContainers": ("False", ""),
            "Initialized": ("True", "PodCompleted"),
            "Ready": ("False", "PodCompleted"),
            "ContainersReady": ("False", "PodCompleted"),
        },
    ),
    "failed": (
        world(pod(restartPolicy="Never"), observed(FAILED)),
        {"Ready": ("False", "PodFailed"), "ContainersReady": ("False", "PodFailed")},
    ),
    "gate missing": (
        world(pod(readinessGates=[{"conditionType": "lb"}]), observed(record("c"))),
        {"Ready": ("False", "ReadinessGatesNotReady"), "ContainersReady": ("True", "")},
    ),
    "gate open": (
        world(
            pod(
                readinessGates=[{"conditionType": "lb"}],
                status={"conditions": [{"type": "lb", "status": "True"}]},
            ),
            observed(record("c")),
        ),
        {"Ready": ("True", "")},
    ),
}


@pytest.mark.parametrize(("seen", "wanted"), CONDITIONS.values(), ids=CONDITIONS.keys())
def test_conditions(seen: World, wanted: dict[str, tuple[str, str]]) -> None:
    found = conditions(status(seen))
    assert {kind: found[kind] for kind in wanted} == wanted


def test_a_condition_keeps_its_transition_time_while_its_status_stays() -> None:
    since = "2026-01-01T12:00:07Z"
    known = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]}
    document = status(world(pod(status=known), observed(record("c"))))
    ready = next(c for c in document["conditions"] if c["type"] == "Ready")
    assert ready["lastTransitionTime"] == since


def test_foreign_conditions_are_left_to_their_writers() -> None:
    known = {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}
    kinds = conditions(status(world(pod(status=known), observed(record("c")))))
    assert "DisruptionTarget" not in kinds


def test_addresses() -> None:
    document = status(world(pod(), observed(record("c"))))
    assert (document["podIP"], document["podIPs"]) == ("10.0.0.5", [{"ip": "10.0.0.5"}])
    assert (document["hostIP"], document["qosClass"]) == ("192.0.2.1", "BestEffort")


def test_a_pod_in_the_hosts_network_has_the_hosts_address() -> None:
    seen = world(pod(hostNetwork=True), observed(record("c"), boxes=(sandbox(ip=""),)))
    assert status(seen)["podIP"] == "192.0.2.1"

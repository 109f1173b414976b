"""The kubelet's planner, case by case; and that no interruption changes where it ends."""

from typing import Any

import pytest
from tests.unit.node.worlds import (
    after,
    container,
    observed,
    pod,
    record,
    sandbox,
    world,
)

from cluster_agent.node.kubelet.plan import (
    CreateSandbox,
    Release,
    RemoveContainer,
    RemoveSandbox,
    StartContainer,
    StopContainer,
    plan,
)
from cluster_agent.node.kubelet.world import Ending, Health, Wait, World

SIDECAR = container("side", restartPolicy="Always")
INIT = container("init")
STARTING = Health(started=False, ready=False)
ENDING = Ending(after(0), 30.0, deleted=True)
COMPLETED = Ending(after(0), 30.0, deleted=False, phase="Failed", reason="DeadlineExceeded")


def start(name: str, attempt: int = 0, failures: int = 0, existing: str = "") -> StartContainer:
    return StartContainer(name, attempt, failures, existing)


CASES: dict[str, tuple[World, float, list[Any], float | None]] = {
    "nothing there: a sandbox": (world(pod()), 0, [CreateSandbox(0)], None),
    "sandbox: the container": (world(pod(), observed()), 0, [start("c")], None),
    "all run: nothing": (world(pod(), observed(record("c"))), 5, [], None),
    "created but not started: start that one": (
        world(pod(), observed(record("c", phase="created"))),
        1,
        [start("c", 0, 0, "c-0")],
        None,
    ),
    "two containers start in order": (
        world(pod(container("a"), container("b")), observed()),
        0,
        [start("a"), start("b")],
        None,
    ),
    "first restart at once": (
        world(pod(), observed(record("c", 0, "exited", code=1, end=3))),
        3,
        [start("c", 1, 1)],
        None,
    ),
    "second restart waits 10 s": (
        world(pod(), observed(record("c", 1, "exited", code=1, start=3, end=5, failures=1))),
        6,
        [],
        15,
    ),
    "second restart after 10 s": (
        world(pod(), observed(record("c", 1, "exited", code=1, start=3, end=5, failures=1))),
        15,
        [start("c", 2, 2)],
        None,
    ),
    "the pause is capped at 300 s": (
        world(pod(), observed(record("c", 9, "exited", start=3, end=5, failures=9))),
        6,
        [],
        305,
    ),
    "ten good minutes reset the back-off": (
        world(pod(), observed(record("c", 9, "exited", start=0, end=601, failures=9))),
        601,
        [start("c", 10, 0)],
        None,
    ),
    "a clock that jumped back does not wait for ever": (
        world(pod(), observed(record("c", 1, "exited", start=9000, end=9005, failures=1))),
        0,
        [start("c", 2, 2)],
        None,
    ),
    "OnFailure restarts a failure": (
        world(pod(restartPolicy="OnFailure"), observed(record("c", 0, "exited", code=1, end=1))),
        1,
        [start("c", 1, 1)],
        None,
    ),
    "OnFailure: success is the end": (
        world(pod(restartPolicy="OnFailure"), observed(record("c", 0, "exited", end=1))),
        1,
        [Release(forget=False)],
        None,
    ),
    "Never: failure is the end": (
        world(pod(restartPolicy="Never"), observed(record("c", 0, "exited", code=1, end=1))),
        1,
        [Release(forget=False)],
        None,
    ),
    "Never with one still running: wait": (
        world(
            pod(container("a"), container("b"), restartPolicy="Never"),
            observed(record("a", 0, "exited", code=1, end=1), record("b")),
        ),
        1,
        [],
        None,
    ),
    "the end, cleared away: nothing": (
        world(pod(restartPolicy="Never"), observed(record("c", 0, "exited", end=1)), released=True),
        1,
        [],
        None,
    ),
    "the API says it has ended: never run again": (
        world(pod(restartPolicy="Never", status={"phase": "Succeeded"})),
        0,
        [Release(forget=False)],
        None,
    ),
    "init first": (world(pod(init=(INIT,)), observed()), 0, [start("init")], None),
    "init runs: wait": (world(pod(init=(INIT,)), observed(record("init"))), 0, [], None),
    "init done: main": (
        world(pod(init=(INIT,)), observed(record("init", 0, "exited", end=1))),
        1,
        [start("c")],
        None,
    ),
    "init failed: again": (
        world(pod(init=(INIT,)), observed(record("init", 0, "exited", code=1, end=1))),
        1,
        [start("init", 1, 1)],
        None,
    ),
    "init failed under Never: the end": (
        world(
            pod(init=(INIT,), restartPolicy="Never"),
            observed(record("init", 0, "exited", code=1, end=1)),
        ),
        1,
        [Release(forget=False)],
        None,
    ),
    "init under Always restarts on failure only": (
        world(pod(init=(INIT,)), observed(record("init", 0, "exited", end=1), record("c"))),
        1,
        [],
        None,
    ),
    "sidecar starts, main waits for it": (
        world(pod(init=(SIDECAR,)), observed(record("side")), health={"side-0": STARTING}),
        0,
        [],
        None,
    ),
    "sidecar started: main": (
        world(pod(init=(SIDECAR,)), observed(record("side"))),
        0,
        [start("c")],
        None,
    ),
    "sidecar died beside main: restarted, main left alone": (
        world(
            pod(init=(SIDECAR,)), observed(record("side", 0, "exited", code=1, end=1), record("c"))
        ),
        1,
        [start("side", 1, 1)],
        None,
    ),
    "sidecar restarts even under Never": (
        world(
            pod(init=(SIDECAR,), restartPolicy="Never"),
            observed(record("side", 0, "exited", code=1, end=1), record("c")),
        ),
        1,
        [start("side", 1, 1)],
        None,
    ),
    "main done under Never: sidecar stops": (
        world(
            pod(init=(SIDECAR,), restartPolicy="Never"),
            observed(record("side"), record("c", 0, "exited", end=1)),
        ),
        1,
        [StopContainer("side-0", "side", 30.0, "ending")],
        None,
    ),
    "liveness failed": (
        world(
            pod(terminationGracePeriodSeconds=7),
            observed(record("c")),
            health={"c-0": Health(failed="liveness")},
        ),
        1,
        [StopContainer("c-0", "c", 7.0, "liveness")],
        None,
    ),
    "liveness failed, with a grace of its own": (
        world(
            pod(container("c", livenessProbe={"terminationGracePeriodSeconds": 3})),
            observed(record("c")),
            health={"c-0": Health(failed="liveness")},
        ),
        1,
        [StopContainer("c-0", "c", 3.0, "liveness")],
        None,
    ),
    "being stopped already: nothing": (
        world(
            pod(),
            observed(record("c")),
            health={"c-0": Health(failed="liveness")},
            stopping=frozenset({"c-0"}),
        ),
        1,
        [],
        None,
    ),
    "pull failed: wait, first for the message to change": (
        world(pod(), observed(), waits={"c": Wait("ErrImagePull", "no", after(0), after(10))}),
        0.5,
        [],
        1,
    ),
    "pull failed: wait": (
        world(pod(), observed(), waits={"c": Wait("ErrImagePull", "no", after(0), after(10))}),
        5,
        [],
        10,
    ),
    "pull failed: again": (
        world(pod(), observed(), waits={"c": Wait("ErrImagePull", "no", after(0), after(10))}),
        10,
        [start("c")],
        None,
    ),
    "sandbox failed: wait": (
        world(pod(), waits={"": Wait("ContainerCreating", "", after(0), after(0.5))}),
        0.1,
        [],
        0.5,
    ),
    "sandbox died with its containers: a new one": (
        world(
            pod(),
            observed(record("c", 0, "exited", code=137, end=5), boxes=(sandbox(ready=False),)),
        ),
        6,
        [CreateSandbox(1)],
        None,
    ),
    "sandbox died, container lives: stop it first": (
        world(pod(), observed(record("c"), boxes=(sandbox(ready=False),))),
        6,
        [StopContainer("c-0", "c", 0, "sandbox")],
        None,
    ),
    "new sandbox: containers come again, init too": (
        world(
            pod(init=(INIT,)),
            observed(
                record("init", 0, "exited", end=1),
                record("c", 0, "exited", code=137, start=1, end=5),
                boxes=(sandbox(1), sandbox(0, ready=False)),
            ),
        ),
        6,
        [start("init", 1, 1)],
        None,
    ),
    "new sandbox under Never: what has ended stays ended": (
        world(
            pod(container("a"), container("b"), restartPolicy="Never"),
            observed(
                record("a", 0, "exited", code=1, end=5),
                boxes=(sandbox(1), sandbox(0, ready=False)),
            ),
        ),
        6,
        [start("b")],
        None,
    ),
    "old attempts and the empty old sandbox go": (
        world(
            pod(),
            observed(
                record("c", 1, "exited", end=1, box=1),
                record("c", 2, "exited", end=2, box=1),
                record("c", 3, box=1),
                boxes=(sandbox(1), sandbox(0, ready=False)),
            ),
        ),
        9,
        [RemoveContainer("c-1"), RemoveSandbox("s0")],
        None,
    ),
    "runtime forgot all, the API did not": (
        world(
            pod(
                status={
                    "containerStatuses": [
                        {"name": "c", "restartCount": 4, "containerID": "containerd://x"}
                    ]
                }
            ),
            observed(),
        ),
        0,
        [start("c", 5)],
        None,
    ),
    "deadline: look again then": (
        world(pod(activeDeadlineSeconds=60), observed(record("c"))),
        5,
        [],
        60,
    ),
    "deleted: stop": (
        world(pod(), observed(record("c")), ending=ENDING),
        1,
        [StopContainer("c-0", "c", 30.0, "ending")],
        None,
    ),
    "deleted: main first, sidecar later": (
        world(pod(init=(SIDECAR,)), observed(record("side"), record("c")), ending=ENDING),
        1,
        [StopContainer("c-0", "c", 30.0, "ending")],
        None,
    ),
    "deleted: sidecar gets the rest of the grace": (
        world(
            pod(init=(SIDECAR,)),
            observed(record("side"), record("c", 0, "exited", code=143, end=10)),
            ending=ENDING,
        ),
        10,
        [StopContainer("side-0", "side", 20.0, "ending")],
        None,
    ),
    "deleted: sidecars from last to first, at least 2 s": (
        world(
            pod(init=(SIDECAR, container("side2", restartPolicy="Always"))),
            observed(record("side"), record("side2"), record("c", 0, "exited", code=137, end=30)),
            ending=ENDING,
        ),
        31,
        [StopContainer("side2-0", "side2", 2.0, "ending")],
        None,
    ),
    "deleted while initialising": (
        world(pod(init=(INIT,)), observed(record("init")), ending=ENDING),
        1,
        [StopContainer("init-0", "init", 30.0, "ending")],
        None,
    ),
    "deleted before anything ran": (world(pod(), ending=ENDING), 1, [Release(forget=True)], None),
    "deleted: all ended": (
        world(pod(), observed(record("c", 0, "exited", end=2)), ending=ENDING),
        2,
        [Release(forget=True)],
        None,
    ),
    "deleted in back-off: no restart": (
        world(
            pod(),
            observed(record("c", 3, "exited", code=1, end=2, failures=3)),
            ending=ENDING,
            released=True,
        ),
        99,
        [],
        None,
    ),
    "past its deadline: containers stay for their logs": (
        world(pod(), observed(record("c", 0, "exited", code=137, end=2)), ending=COMPLETED),
        2,
        [Release(forget=False)],
        None,
    ),
}


@pytest.mark.parametrize(("seen", "now", "steps", "wake"), CASES.values(), ids=CASES.keys())
def test_plan(seen: World, now: float, steps: list[Any], wake: float | None) -> None:
    result = plan(seen, after(now))
    assert list(result.steps) == steps
    assert result.wake_at == (None if wake is None else after(wake))


@pytest.mark.parametrize("seen", [c[0] for c in CASES.values()], ids=CASES.keys())
def test_a_plan_is_the_same_when_asked_twice(seen: World) -> None:
    assert plan(seen, after(20)) == plan(seen, after(20))


@pytest.mark.parametrize("seen", [c[0] for c in CASES.values()], ids=CASES.keys())
def test_a_healthy_running_container_is_never_stopped_unless_the_pod_ends(seen: World) -> None:
    boxed = seen.observed.sandbox
    if seen.ending is not None or boxed is None or not boxed.ready:
        return
    stopped = {s.id for s in plan(seen, after(20)).steps if isinstance(s, StopContainer)}
    sidecars = {c.name for c in seen.pod.spec.init_containers}
    for known in seen.observed.containers:
        if known.running and not seen.health_of(known.id).failed and known.name not in sidecars:
            assert known.id not in stopped

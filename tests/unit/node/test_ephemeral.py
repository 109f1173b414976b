"""Ephemeral containers: when they start, what is said of them, and what they leave alone."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cri_api.v1 import api_pb2 as pb
from tests.unit.node.kubelets import Bench
from tests.unit.node.worlds import (
    after,
    container,
    observed,
    pod,
    record,
    sandbox,
    world,
)

from cluster_agent.node.cri import convert
from cluster_agent.node.cri.interface import ContainerConfig, SandboxConfig
from cluster_agent.node.kubelet.checkpoint import Checkpoints
from cluster_agent.node.kubelet.events import pod_subject
from cluster_agent.node.kubelet.plan import (
    CreateSandbox,
    Release,
    StartContainer,
    StopContainer,
    plan,
)
from cluster_agent.node.kubelet.status import pod_status
from cluster_agent.node.kubelet.world import Ending, Wait, World
from machinery.api.core import Pod

DBG = container("dbg", image="local/tools:1")
INIT = container("init")
GONE = {"name": "dbg", "containerID": "containerd://dbg-0", "imageID": "sha256:1"}
LOST = (sandbox(1), sandbox(0, ready=False))


def guest(phase: str = "running", **fields: Any) -> Any:
    return record("dbg", phase=phase, image="local/tools:1", **fields)


def remembered(**state: Any) -> dict[str, Any]:
    """A status of the API, of a container that the runtime has forgotten."""
    return {"phase": "Running", "ephemeralContainerStatuses": [GONE | {"state": state}]}


WAIT = Wait("ErrImagePull", "no such image", after(0), after(10))
START = StartContainer("dbg", 0)

PLANS: dict[str, tuple[World, float, list[Any], float | None]] = {
    "no sandbox yet: that first": (world(pod(guests=(DBG,))), 0, [CreateSandbox(0)], None),
    "beside what runs": (world(pod(guests=(DBG,)), observed(record("c"))), 1, [START], None),
    "behind what starts": (
        world(pod(guests=(DBG,)), observed()), 1, [StartContainer("c", 0), START], None
    ),
    "while the pod initialises": (
        world(pod(init=(INIT,), guests=(DBG,)), observed(record("init"))), 1, [START], None
    ),
    "while another is in its back-off": (
        world(pod(guests=(DBG,)), observed(record("c", 2, "exited", code=1, end=1, failures=3))),
        2, [START], 41,
    ),
    "several": (
        world(pod(guests=(DBG, container("more"))), observed(record("c"), guest())),
        1, [StartContainer("more", 0)], None,
    ),
    "it runs: nothing": (world(pod(guests=(DBG,)), observed(record("c"), guest())), 1, [], None),
    "created, not started: start that one": (
        world(pod(guests=(DBG,)), observed(record("c"), guest("created"))),
        1, [StartContainer("dbg", 0, 0, "dbg-0")], None,
    ),
    "created in a sandbox that is gone: anew": (
        world(pod(guests=(DBG,)), observed(record("c", 1, box=1), guest("created"), boxes=LOST)),
        1, [StartContainer("dbg", 1)], None,
    ),
    "ended well: never again": (
        world(pod(guests=(DBG,)), observed(record("c"), guest("exited", end=1))), 9, [], None
    ),
    "failed: never again, whatever the pod's policy": (
        world(pod(guests=(DBG,)), observed(record("c"), guest("exited", code=1, end=1))), 9, [], None
    ),
    "ended with its sandbox: never again": (
        world(
            pod(guests=(DBG,)),
            observed(record("c", 1, box=1), guest("exited", code=137, end=1), boxes=LOST),
        ),
        9, [], None,
    ),
    "the runtime forgot it, the API did not: never again": (
        world(pod(guests=(DBG,), status=remembered(running={})), observed(record("c"))), 9, [], None
    ),
    "the runtime lost track: stopped": (
        world(pod(guests=(DBG,)), observed(record("c"), guest("unknown"))),
        9, [StopContainer("dbg-0", "dbg", 0, "unknown")], None,
    ),
    "its image is not to be had: later": (
        world(pod(guests=(DBG,)), observed(record("c")), waits={"dbg": WAIT}), 2, [], 10
    ),
    "then again": (
        world(pod(guests=(DBG,)), observed(record("c")), waits={"dbg": WAIT}), 10, [START], None
    ),
    "a sandbox that died takes it along": (
        world(pod(guests=(DBG,)), observed(guest(), boxes=(sandbox(ready=False),))),
        1, [StopContainer("dbg-0", "dbg", 0, "sandbox")], None,
    ),
    "the others have ended for good: it is stopped": (
        world(pod(guests=(DBG,), restartPolicy="Never"), observed(record("c", 0, "exited", end=1), guest())),
        2, [StopContainer("dbg-0", "dbg", 30.0, "ending")], None,
    ),
    "all have ended: the sandbox goes": (
        world(
            pod(guests=(DBG,), restartPolicy="Never"),
            observed(record("c", 0, "exited", end=1), guest("exited", code=143, end=2)),
        ),
        2, [Release(forget=False)], None,
    ),
    "it alone has ended: the pod goes on": (
        world(pod(guests=(DBG,), restartPolicy="Never"), observed(record("c"), guest("exited", end=1))),
        2, [], None,
    ),
    "deleted: killed with the pod": (
        world(pod(guests=(DBG,)), observed(record("c"), guest()), ending=Ending(after(0), 5.0, deleted=True)),
        1,
        [StopContainer("c-0", "c", 5.0, "ending"), StopContainer("dbg-0", "dbg", 5.0, "ending")],
        None,
    ),
    "deleted before it was started: not any more": (
        world(pod(guests=(DBG,)), observed(record("c")), ending=Ending(after(0), 5.0, deleted=True)),
        1, [StopContainer("c-0", "c", 5.0, "ending")], None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "now", "steps", "wake"), PLANS.values(), ids=PLANS.keys())
def test_plan(seen: World, now: float, steps: list[Any], wake: float | None) -> None:
    result = plan(seen, after(now))
    assert list(result.steps) == steps
    assert result.wake_at == (None if wake is None else after(wake))


# -------------------------------------------------------------------------------------------------------------- status
def status(seen: World, now: float = 60) -> dict[str, Any]:
    return pod_status(seen, after(now), runtime="containerd", host_ip="192.0.2.1")


PULLING = Wait("ErrImagePull", "no such image", after(60), after(70))
ENDED = {
    "exitCode": 3, "reason": "Error", "startedAt": "2026-01-01T12:00:00Z",
    "finishedAt": "2026-01-01T12:00:09Z", "containerID": "containerd://dbg-0",
}  # fmt: skip
UNSEEN = {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": None, "finishedAt": None}  # fmt: skip

STATES: dict[str, tuple[World, dict[str, Any]]] = {
    "not there yet": (
        world(pod(guests=(DBG,)), observed(record("c"))), {"waiting": {"reason": "ContainerCreating"}}
    ),
    "runs": (
        world(pod(guests=(DBG,)), observed(record("c"), guest(start=5))),
        {"running": {"startedAt": "2026-01-01T12:00:05Z"}},
    ),
    "ended": (
        world(pod(guests=(DBG,)), observed(record("c"), guest("exited", code=3, end=9))), {"terminated": ENDED}
    ),
    "its image fails": (
        world(pod(guests=(DBG,)), observed(record("c")), waits={"dbg": PULLING}),
        {"waiting": {"reason": "ErrImagePull", "message": "no such image"}},
    ),
    "its image failed a while ago": (
        world(pod(guests=(DBG,)), observed(record("c")), waits={"dbg": Wait("ErrImagePull", "none", after(50), after(70))}),
        {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "local/tools:1": ErrImagePull: none'}},
    ),
    "forgotten by the runtime while it ran": (
        world(pod(guests=(DBG,), status=remembered(running={})), observed(record("c"))),
        {"terminated": UNSEEN | {"message": "The container could not be located when the pod was observed"}},
    ),
    "forgotten by the runtime after its end": (
        world(pod(guests=(DBG,), status=remembered(terminated=ENDED)), observed(record("c"))), {"terminated": ENDED}
    ),
    "never ran, and the pod has ended": (
        world(pod(guests=(DBG,)), observed(record("c", 0, "exited", end=2)), ending=Ending(after(0), 1, True), released=True),
        {"terminated": UNSEEN | {"message": "The container could not be located when the pod was terminated"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "state"), STATES.values(), ids=STATES.keys())
def test_state(seen: World, state: dict[str, Any]) -> None:
    (found,) = status(seen)["ephemeralContainerStatuses"]
    assert found["state"] == state
    assert (found["name"], found["image"]) == ("dbg", "local/tools:1")
    assert (found["ready"], found["restartCount"], found["lastState"]) == (False, 0, {})
    assert "started" not in found


@pytest.mark.parametrize(
    "records", [[], [guest()], [guest("exited", code=1, end=1)]], ids=["none", "runs", "failed"]
)
@pytest.mark.parametrize("main", [record("c"), record("c", 0, "exited", code=1, end=1)])
def test_nothing_else_of_the_status_changes(main: Any, records: list[Any]) -> None:
    without = status(world(pod(restartPolicy="Never"), observed(main)))
    found = status(world(pod(guests=(DBG,), restartPolicy="Never"), observed(main, *records)))
    del found["ephemeralContainerStatuses"]
    assert found == without


def test_a_pod_without_them_says_nothing_of_them() -> None:
    assert "ephemeralContainerStatuses" not in status(world(pod(), observed(record("c"))))


def test_events_name_the_field() -> None:
    wanted = pod(init=(INIT,), guests=(DBG,))
    assert pod_subject(wanted, "dbg").field_path == "spec.ephemeralContainers{dbg}"
    assert pod_subject(wanted, "c").field_path == "spec.containers{c}"
    assert pod_subject(wanted, "init", init=True).field_path == "spec.initContainers{init}"


@pytest.mark.parametrize(
    ("shared", "target", "mode", "target_id"),
    [
        ({}, "", pb.CONTAINER, ""),
        ({}, "main", pb.TARGET, "main"),
        ({"share_pid": True}, "main", pb.POD, ""),
        ({"host_pid": True}, "main", pb.NODE, ""),
    ],
)
def test_whose_processes_it_sees(
    shared: dict[str, bool], target: str, mode: int, target_id: str
) -> None:
    """Where all containers of the pod share one namespace there is nothing to join."""
    box = SandboxConfig("u", "web", "demo", 0, **shared)
    made = convert.container_config(ContainerConfig("dbg", 0, "x", target_id=target), box)
    options = made.linux.security_context.namespace_options
    assert (options.pid, options.target_id) == (mode, target_id)


# ------------------------------------------------------------------------------------------------- over a hollow runtime
def joined(wanted: Pod, *guests: dict[str, Any], version: int = 2) -> Pod:
    """The pod, with ephemeral containers that somebody has added."""
    document = msgspec.to_builtins(wanted)
    document["spec"]["ephemeralContainers"] = list(guests)
    document["metadata"] |= {"generation": version, "resourceVersion": str(version)}
    return msgspec.convert(document, Pod)


def spoken(bench: Bench) -> dict[str, Any]:
    """The newest state of the only one."""
    (found,) = bench.statuses.last["ephemeralContainerStatuses"]
    return dict(found["state"])


@pytest.mark.looptime
async def test_one_that_is_added_runs_once_and_its_end_is_kept() -> None:
    async with Bench() as bench:
        bench.kubelet.apply(pod(meta={"generation": 1}))
        await asyncio.sleep(1)
        bench.kubelet.apply(joined(pod(), DBG))
        await asyncio.sleep(1)
        assert list(spoken(bench)) == ["running"]
        assert bench.statuses.last["phase"] == "Running"
        (made,) = (await bench.runtime.observe("uid-1")).of("dbg")
        bench.runtime.crash(made.id, 3)
        await asyncio.sleep(900)
        assert spoken(bench)["terminated"]["exitCode"] == 3
        assert len((await bench.runtime.observe("uid-1")).of("dbg")) == 1
        assert (await bench.runtime.observe("uid-1")).of("c")[-1].attempt == 0


@pytest.mark.looptime
async def test_a_target_that_the_pod_has_not_yet_is_waited_for() -> None:
    async with Bench() as bench:
        wanted = pod(init=(INIT,))
        bench.kubelet.apply(joined(wanted, DBG | {"targetContainerName": "c"}))
        await asyncio.sleep(1)
        assert spoken(bench)["waiting"]["reason"] == "CreateContainerConfigError"
        assert spoken(bench)["waiting"]["message"] == "unable to find target container c"
        (first,) = (await bench.runtime.observe("uid-1")).of("init")
        bench.runtime.crash(first.id, 0)
        await asyncio.sleep(60)
        assert list(spoken(bench)) == ["running"]


@pytest.mark.looptime
async def test_another_kubelet_finds_it_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    async with Bench(checkpoints=checkpoints) as first:
        first.kubelet.apply(pod(meta={"generation": 1}))
        await asyncio.sleep(1)
        first.kubelet.apply(joined(pod(), DBG))
        await asyncio.sleep(1)
    async with Bench(runtime=first.runtime, checkpoints=checkpoints) as second:
        second.kubelet.restore()
        await asyncio.sleep(60)
        assert list(spoken(second)) == ["running"]
        (made,) = (await second.runtime.observe("uid-1")).of("dbg")
        assert made.attempt == 0

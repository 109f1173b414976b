"""One step of a Deployment: sizes, proportional scaling, revisions, conditions; and that steps converge."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.control.builders import NOW, ago, deployment, replica_set

from cluster_agent.control.controllers.deployment import limits, revisions, scaling, status
from cluster_agent.control.controllers.deployment.plan import (
    plan,
    plan_collision,
    plan_create_failed,
)
from cluster_agent.control.controllers.deployment.scaling import Sizes
from cluster_agent.control.controllers.workloads import Deployment, ReplicaSet, ReplicaSetSpec
from machinery.api.apps import DeploymentStatus, ReplicaSetStatus
from machinery.controller.action import Create, Delete, Emit, Patch, RequeueAfter, SetStatus
from machinery.meta.objectmeta import Condition, ObjectMeta, condition


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (10, "25%", "25%", (3, 2)),
        (1, "25%", "25%", (1, 0)),
        (4, "1%", "1%", (1, 0)),
        (4, 0, "1%", (0, 1)),
        (0, "25%", "25%", (0, 1)),
        (10, 0, 0, (0, 1)),
        (9, "34%", "12%", (4, 1)),
        (8, "100%", "0%", (8, 0)),
    ],
)
def test_fenceposts(
    replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]
) -> None:
    assert limits.fenceposts(deployment(replicas, surge=surge, unavailable=unavailable)) == expected


def writes(actions: list[Any]) -> dict[str, int]:
    """Name -> new size of every ReplicaSet that is made or resized."""
    sizes = {}
    for action in actions:
        if isinstance(action, Create):
            sizes["new"] = action.document["spec"]["replicas"]
        elif isinstance(action, Patch) and "spec" in action.patch:
            sizes[action.key.name] = action.patch["spec"]["replicas"]  # type: ignore[call-overload]
    return sizes


def status_of(actions: list[Any]) -> dict[str, Any]:
    return dict(next(a.status for a in actions if isinstance(a, SetStatus)))


@pytest.mark.parametrize(
    ("d", "sets", "expected"),
    [
        pytest.param(deployment(5), [], {"new": 5}, id="first"),
        pytest.param(
            deployment(5, image="img:2", surge=2, unavailable=1),
            [replica_set("a", 5, desired=5)],
            {"new": 2, "a": 4},
            id="new template: surge up and spare down in one step",
        ),
        pytest.param(
            deployment(1, image="img:2", surge=0, unavailable=1),
            [replica_set("a", 1, desired=1)],
            {"new": 0, "a": 0},
            id="no surge: the old goes first",
        ),
        pytest.param(
            deployment(3, image="img:2", surge=1, unavailable=0),
            [
                replica_set("a", 3, available=1, desired=3),
                replica_set("b", 1, image="img:2", available=1, age_s=10, desired=3),
            ],
            {"a": 2},
            id="broken old pods go first",
        ),
        pytest.param(
            deployment(5),
            [replica_set("a", 2, desired=2)],
            {"a": 5},
            id="scaled: the only living one takes it all",
        ),
        pytest.param(
            deployment(10, image="img:2", recreate=True),
            [replica_set("a", 10, desired=10)],
            {"a": 0},
            id="recreate: all old first",
        ),
        pytest.param(
            deployment(2, image="img:2", recreate=True),
            [replica_set("a", 0, actual=0, desired=2)],
            {"new": 2},
            id="recreate: new when all old are gone",
        ),
        pytest.param(
            deployment(2, image="img:2", recreate=True),
            [replica_set("a", 0, actual=1, desired=2)],
            {},
            id="recreate: waits for counted pods",
        ),
        pytest.param(deployment(5, paused=True), [], {}, id="paused: nothing is made"),
        pytest.param(
            deployment(15, image="img:2", surge=3, unavailable=2),
            [
                replica_set("a", 8, desired=10, most=13),
                replica_set("b", 5, image="img:2", age_s=10, desired=10, most=13),
            ],
            {"a": 11, "b": 7},
            id="scaled up in mid rollout: in proportion",
        ),
        pytest.param(
            deployment(0, image="img:2"),
            [
                replica_set("a", 8, desired=10, most=13),
                replica_set("b", 5, image="img:2", age_s=10, desired=10, most=13),
            ],
            {"a": 0, "b": 0},
            id="scaled to nothing in mid rollout",
        ),
        pytest.param(
            deployment(3, image="img:2"),
            [
                replica_set("a", 2, desired=2, available=2),
                replica_set("b", 3, image="img:2", age_s=10, desired=3, available=3),
            ],
            {"a": 0},
            id="saturated: the old ones end",
        ),
    ],
)
def test_sizes(d: Deployment, sets: list[ReplicaSet], expected: dict[str, int]) -> None:
    assert writes(plan(d, sets, {}, NOW)) == expected


def test_recreate_waits_for_pods_that_still_run() -> None:
    d = deployment(2, image="img:2", recreate=True)
    old = replica_set("a", 0, actual=0, desired=2)
    assert writes(plan(d, [old], {"a-uid": 1}, NOW)) == {}
    assert writes(plan(d, [old], {"a-uid": 0}, NOW)) == {"new": 2}


def test_new_replica_set_carries_revision_sizes_and_copied_annotations() -> None:
    d = deployment(4, annotations={"team": "x", revisions.REVISION: "7"}, min_ready_seconds=5)
    actions = plan(d, [replica_set("a", 4, image="img:0", revision=7, desired=4)], {}, NOW)
    created = next(a for a in actions if isinstance(a, Create)).document
    name = created["metadata"]["name"]
    digest = name.removeprefix("d-")
    assert created["metadata"]["annotations"] == {
        "team": "x",
        revisions.REVISION: "8",
        revisions.DESIRED_REPLICAS: "4",
        revisions.MAX_REPLICAS: "5",
    }
    assert created["spec"]["template"]["metadata"]["labels"] == {
        "app": "d",
        "pod-template-hash": digest,
    }
    assert created["spec"]["selector"] == {"matchLabels": {"app": "d", "pod-template-hash": digest}}
    assert created["spec"]["minReadySeconds"] == 5
    assert created["metadata"]["ownerReferences"][0]["uid"] == "d-uid"
    emitted = [a.message for a in actions if isinstance(a, Emit)]
    assert emitted[0] == f"Scaled up replica set {name} from 0 to 1"
    patch = next(a for a in actions if isinstance(a, Patch) and a.key.name == "d")
    assert patch.patch == {"metadata": {"annotations": {revisions.REVISION: "8"}}}


def test_rollback_raises_the_revision_and_remembers_the_old_one() -> None:
    sets = [
        replica_set("a", 0, actual=0, revision=1, desired=5),
        replica_set("b", 5, image="img:2", revision=3, age_s=10, desired=5),
    ]
    actions = plan(deployment(5, surge=1, unavailable=0), sets, {}, NOW)
    notes = next(a for a in actions if isinstance(a, Patch) and a.key.name == "a").patch
    assert notes["metadata"]["annotations"] == {  # type: ignore[call-overload]
        revisions.REVISION: "4",
        revisions.REVISION_HISTORY: "1",
        revisions.MAX_REPLICAS: "6",
    }


def test_collision_gives_another_name() -> None:
    first = revisions.template_hash({"a": 1}, None)
    assert revisions.template_hash({"a": 1}, 1) != first
    assert plan_collision(deployment())[0].status == {"collisionCount": 1}  # type: ignore[union-attr]
    again = deployment(status=DeploymentStatus(collision_count=1))
    assert plan_collision(again)[0].status == {"collisionCount": 2}  # type: ignore[union-attr]


def test_failed_creation_is_told() -> None:
    actions = plan_create_failed(deployment(), "d-x", "no", NOW)
    cond = status_of(actions)["conditions"][0]
    assert (cond["type"], cond["status"], cond["reason"]) == (
        "Progressing",
        "False",
        "ReplicaSetCreateError",
    )
    assert actions[-1].message == 'Failed to create new replica set "d-x": no'  # type: ignore[union-attr]


def settled(replicas: int, **more: Any) -> DeploymentStatus:
    conditions = (
        Condition(type="Available", status="True", reason="MinimumReplicasAvailable"),
        Condition(type="Progressing", status="True", reason="NewReplicaSetAvailable"),
    )
    return DeploymentStatus(
        observed_generation=1,
        replicas=replicas,
        updated_replicas=replicas,
        ready_replicas=replicas,
        available_replicas=replicas,
        terminating_replicas=0,
        conditions=conditions,
        **more,
    )


def test_complete_deployment_is_left_alone() -> None:
    d = deployment(3, status=settled(3), annotations={revisions.REVISION: "1"})
    sets = [replica_set("a", 3, desired=3, most=4)]
    assert plan(d, sets, {}, NOW) == []


def test_history_is_trimmed_when_complete() -> None:
    d = deployment(
        1, status=settled(1), annotations={revisions.REVISION: "5"}, revision_history_limit=1
    )
    sets = [
        replica_set("old1", 0, image="i1", revision=1, actual=0),
        replica_set("old2", 0, image="i2", revision=2, actual=0),
        replica_set("busy", 0, image="i3", revision=0, actual=1),
        replica_set("cur", 1, revision=5, desired=1),
    ]
    gone = [a.key.name for a in plan(d, sets, {}, NOW) if isinstance(a, Delete)]
    assert gone == ["old1"]


def test_deadline_passes_and_is_told_once() -> None:
    started = Condition(
        type="Progressing",
        status="True",
        reason="ReplicaSetUpdated",
        last_update_time=ago(20),
        last_transition_time=ago(30),
    )
    before = DeploymentStatus(replicas=3, updated_replicas=3, conditions=(started,))
    sets = [replica_set("a", 3, available=0, desired=3)]
    early = deployment(3, status=before, progress_deadline_seconds=60)
    wait = next(a for a in plan(early, sets, {}, NOW) if isinstance(a, RequeueAfter))
    assert wait.seconds == 41.0
    late = deployment(3, status=before, progress_deadline_seconds=10)
    actions = plan(late, sets, {}, NOW)
    told = {c["type"]: c for c in status_of(actions)["conditions"]}["Progressing"]
    assert (told["status"], told["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert told["message"] == 'ReplicaSet "a" has timed out progressing.'
    assert not [a for a in actions if isinstance(a, RequeueAfter)]


@pytest.mark.parametrize("deadline", [600, limits.NO_LIMIT])
def test_pause_is_noted_where_progress_is_watched(deadline: int) -> None:
    d = deployment(3, paused=True, progress_deadline_seconds=deadline)
    found = {c["type"]: c for c in status_of(plan(d, [], {}, NOW))["conditions"]}
    assert ("Progressing" in found) == (deadline == 600)


def test_resume_after_pause() -> None:
    noted = Condition(type="Progressing", status="Unknown", reason="DeploymentPaused")
    d = deployment(3, status=DeploymentStatus(conditions=(noted,)))
    after = condition(status.pause_conditions(d, NOW), "Progressing")
    assert after is not None
    assert (after.status, after.reason) == ("Unknown", "DeploymentResumed")


def test_replica_failure_is_lifted_up() -> None:
    failed = Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message="no")
    sets = [replica_set("a", 3, actual=0, desired=3, conditions=(failed,))]
    told = {c["type"]: c for c in status_of(plan(deployment(3), sets, {}, NOW))["conditions"]}
    assert told["ReplicaFailure"]["message"] == "no"


def test_empty_selector_is_refused() -> None:
    d = deployment(3)
    everything = Deployment(metadata=d.metadata, spec=type(d.spec)(template=d.spec.template))
    actions = plan(everything, [], {}, NOW)
    assert [a.reason for a in actions if isinstance(a, Emit)] == ["SelectingAll"]
    assert not [a for a in actions if isinstance(a, Create)]


# ------------------------------------------------------------------------------------------------- properties
class World:
    """A Deployment whose plans are carried out at once; pods come up and go as the test says."""

    def __init__(self, d: Deployment, sets: list[ReplicaSet]) -> None:
        self.deployment, self.sets = d, {rs.metadata.name: rs for rs in sets}
        self.now = NOW

    def step(self) -> bool:
        """One pass; whether it changed any size."""
        actions = plan(self.deployment, list(self.sets.values()), {}, self.now)
        changed = False
        for action in actions:
            match action:
                case Create(document=document):
                    self._create(dict(document))
                    changed = True
                case Patch(key=key, patch=patch) if key.name in self.sets:
                    changed |= self._patch(key.name, dict(patch))  # type: ignore[arg-type]
                case SetStatus(status=wire):
                    self._set_status(dict(wire))
                case Delete(key=key):
                    del self.sets[key.name]
                case _:
                    pass
        return changed

    def _create(self, document: dict[str, Any]) -> None:
        metadata = document["metadata"]
        self.now += dt.timedelta(seconds=1)
        self.sets[metadata["name"]] = ReplicaSet(
            metadata=ObjectMeta(
                name=metadata["name"],
                namespace="ns",
                uid=metadata["name"] + "-uid",
                creation_timestamp=self.now,
                annotations=metadata["annotations"],
            ),
            spec=ReplicaSetSpec(
                replicas=document["spec"]["replicas"], template=document["spec"]["template"]
            ),
            status=ReplicaSetStatus(terminating_replicas=0),
        )

    def _patch(self, name: str, patch: dict[str, Any]) -> bool:
        rs = self.sets[name]
        meta = rs.metadata
        notes = {**meta.annotations, **patch.get("metadata", {}).get("annotations", {})}
        size = patch.get("spec", {}).get("replicas", rs.spec.replicas)
        self.sets[name] = ReplicaSet(
            metadata=ObjectMeta(
                name=name,
                namespace="ns",
                uid=meta.uid,
                creation_timestamp=meta.creation_timestamp,
                annotations=notes,
            ),
            spec=ReplicaSetSpec(replicas=size, template=rs.spec.template),
            status=rs.status,
        )
        return bool(size != rs.spec.replicas)

    def _set_status(self, wire: dict[str, Any]) -> None:
        d = self.deployment
        fresh = DeploymentStatus(
            observed_generation=wire.get("observedGeneration") or 0,
            replicas=wire.get("replicas") or 0,
            updated_replicas=wire.get("updatedReplicas") or 0,
            available_replicas=wire.get("availableReplicas") or 0,
        )
        self.deployment = Deployment(metadata=d.metadata, spec=d.spec, status=fresh)

    def settle(self, name: str, available: int) -> None:
        """The ReplicaSet controller did its work; `available` of the pods are up."""
        rs = self.sets[name]
        up = min(available, rs.spec.replicas)
        self.sets[name] = ReplicaSet(
            metadata=rs.metadata,
            spec=rs.spec,
            status=ReplicaSetStatus(
                replicas=rs.spec.replicas,
                ready_replicas=up,
                available_replicas=up,
                terminating_replicas=0,
            ),
        )

    def available(self) -> int:
        return sum(min(rs.status.available_replicas, rs.spec.replicas) for rs in self.sets.values())

    def total(self) -> int:
        return sum(rs.spec.replicas for rs in self.sets.values())


limit = st.one_of(st.integers(0, 4), st.sampled_from(["0%", "10%", "25%", "34%", "50%", "100%"]))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    replicas = draw(st.integers(0, 12))
    d = deployment(replicas, image="img:9", surge=draw(limit), unavailable=draw(limit))
    sets = []
    for index in range(draw(st.integers(0, 4))):
        size = draw(st.integers(0, 8))
        image = draw(st.sampled_from([f"img:{index}", "img:9"])) if index == 3 else f"img:{index}"
        sets.append(
            replica_set(
                f"rs{index}",
                size,
                image=image,
                available=draw(st.integers(0, size)),
                revision=index,
                age_s=100 - index,
                desired=draw(st.one_of(st.none(), st.just(replicas), st.integers(0, 12))),
                most=draw(st.one_of(st.none(), st.integers(1, 15))),
            )
        )
    return World(d, sets)


@settings(max_examples=300, deadline=None)
@given(worlds(), st.data())
def test_any_state_converges_within_the_limits(world: World, data: st.DataObject) -> None:
    """Whatever is there, and however slowly pods come up, steps end with all pods new and keep both promises."""
    d = world.deployment
    surge = limits.max_surge(d)
    for _ in range(400):
        before, total = world.available(), world.total()
        scaled = scaling.is_scaling(world.deployment, Sizes(list(world.sets.values()), None))
        changed = world.step()
        if not scaled:
            floor = limits.min_available(d)
            assert world.available() >= min(before, floor), (
                "gave up available pods that were promised"
            )
            assert world.total() <= max(total, d.spec.replicas + surge), "went over the surge"
        new = revisions.find_new(d, world.sets.values())
        for name, rs in list(world.sets.items()):
            up = rs.status.available_replicas
            if new is not None and name == new.metadata.name:
                up += data.draw(st.integers(0, 2)) if changed else 2
            world.settle(name, up)
        if (
            not changed
            and new is not None
            and world.total() == new.spec.replicas == d.spec.replicas
        ):
            break
    else:
        pytest.fail("did not come to rest")
    assert new is not None
    assert all(
        rs.spec.replicas == 0 for rs in world.sets.values() if rs.metadata.uid != new.metadata.uid
    )


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_a_lagging_status_never_costs_availability(world: World) -> None:
    """Steps taken one after another without any news from the ReplicaSets still leave what was promised."""
    d = world.deployment
    floor = limits.min_available(d)
    for _ in range(6):
        before = world.available()
        scaled = scaling.is_scaling(world.deployment, Sizes(list(world.sets.values()), None))
        world.step()
        if not scaled:
            assert world.available() >= min(before, floor)

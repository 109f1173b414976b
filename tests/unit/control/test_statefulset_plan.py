"""StatefulSet: the next step from any state, by the order of the pods; claims and who owns them; what is reported."""

import itertools
from typing import Any

import pytest
from tests.unit.control.builders import NOW, ago
from tests.unit.control.set_builders import (
    CLAIM,
    NEW,
    OLD,
    REVISIONS,
    member,
    stateful_set,
    volume_claim,
)

from cluster_agent.control.controllers.sets import (
    CLAIMS,
    ClaimRetention,
    PersistentVolumeClaim,
    StatefulSet,
    StatefulSetStatus,
)
from cluster_agent.control.controllers.statefulset import status
from cluster_agent.control.controllers.statefulset.identity import ordinal_of, pod_document
from cluster_agent.control.controllers.statefulset.plan import plan, told, unavailable_max
from machinery.api.core import PODS, Pod
from machinery.controller.action import Action, Create, Delete, Emit, Patch, RequeueAfter, SetStatus
from machinery.meta.objectmeta import OwnerReference
from machinery.meta.resource import ObjectKey

Claims = dict[str, PersistentVolumeClaim]
DELETE_BOTH = ClaimRetention(when_deleted="Delete", when_scaled="Delete")
ON_SCALE = ClaimRetention(when_scaled="Delete")
ON_DELETE = ClaimRetention(when_deleted="Delete")


def steps(actions: list[Action]) -> list[str]:
    """What is done, in short: `+w-0:img:1`, `-w-1`, `~w-0`, `!`."""
    told = []
    for action in actions:
        match action:
            case Create():
                name = action.document["metadata"]["name"]
                if action.resource is PODS:
                    name += f":{action.document['spec']['containers'][0]['image']}"
                told.append(f"+{name}")
            case Delete():
                told.append(f"-{action.key.name}")
            case Patch():
                told.append(f"~{action.key.name}")
            case Emit():
                told.append("!")
            case _:
                raise AssertionError(action)
    return told


def next_steps(set_: StatefulSet, pods: list[Pod], claims: Claims | None = None) -> list[str]:
    return steps(plan(set_, pods, claims or {}, REVISIONS, NOW))


def waiting(ordinal: int, **fields: Any) -> Pod:
    return member(ordinal, phase="Pending", ready_s=None, **fields)


@pytest.mark.parametrize(
    ("set_", "pods", "wanted"),
    [
        pytest.param(stateful_set(), [], ["+w-0:img:2"], id="the first alone"),
        pytest.param(stateful_set(), [waiting(0)], [], id="the next waits for it"),
        pytest.param(stateful_set(), [member(0)], ["+w-1:img:2"], id="and comes when it is ready"),
        pytest.param(
            stateful_set(min_ready_seconds=30), [member(0, ready_s=10)], [], id="for long enough"
        ),
        pytest.param(
            stateful_set(), [member(0), member(2)], ["+w-1:img:2"], id="a gap is filled first"
        ),
        pytest.param(stateful_set(start=5), [], ["+w-5:img:2"], id="numbers from five"),
        pytest.param(
            stateful_set(parallel=True),
            [member(1)],
            ["+w-0:img:2", "+w-2:img:2"],
            id="parallel: all at once",
        ),
        pytest.param(
            stateful_set(), [member(0), member(1, deleting=True)], [], id="nothing while one ends"
        ),
        pytest.param(
            stateful_set(),
            [member(0, phase="Failed", ready_s=None)],
            ["-w-0"],
            id="a failed pod makes room",
        ),
        pytest.param(
            stateful_set(),
            [member(0, phase="Succeeded", ready_s=None, deleting=True)],
            [],
            id="once",
        ),
        pytest.param(
            stateful_set(1), [member(0, labelled=False)], ["~w-0"], id="an adopted pod is labelled"
        ),
    ],
)
def test_pods_that_are_wanted(set_: StatefulSet, pods: list[Pod], wanted: list[str]) -> None:
    assert next_steps(set_, pods) == wanted


@pytest.mark.parametrize(
    ("set_", "pods", "wanted"),
    [
        pytest.param(
            stateful_set(1), [member(0), member(1), member(2)], ["-w-2"], id="the highest first"
        ),
        pytest.param(
            stateful_set(1), [member(0), member(1), member(2, deleting=True)], [], id="one by one"
        ),
        pytest.param(
            stateful_set(2), [waiting(0), member(1), member(2)], [], id="not while one is not ready"
        ),
        pytest.param(
            stateful_set(1), [member(0), member(1), waiting(2)], ["-w-2"], id="but itself may be it"
        ),
        pytest.param(
            stateful_set(1), [member(0), waiting(1), waiting(2)], [], id="or the lowest such"
        ),
        pytest.param(
            stateful_set(1, parallel=True),
            [member(0), waiting(1), member(2)],
            ["-w-2", "-w-1"],
            id="parallel: all at once",
        ),
        pytest.param(
            stateful_set(1, start=1), [member(0), member(1)], ["-w-0"], id="below the first number"
        ),
        pytest.param(stateful_set(0), [member(0)], ["-w-0"], id="none at all"),
    ],
)
def test_pods_that_are_not(set_: StatefulSet, pods: list[Pod], wanted: list[str]) -> None:
    assert next_steps(set_, pods) == wanted


def old(*ordinals: int) -> list[Pod]:
    return [member(ordinal, revision=OLD) for ordinal in ordinals]


@pytest.mark.parametrize(
    ("set_", "pods", "wanted"),
    [
        pytest.param(stateful_set(), old(0, 1, 2), ["-w-2"], id="the highest first"),
        pytest.param(stateful_set(), [*old(0, 1), member(2)], ["-w-1"], id="then the next"),
        pytest.param(stateful_set(), [*old(0, 1), waiting(2)], [], id="when that is ready"),
        pytest.param(
            stateful_set(min_ready_seconds=60),
            [*(member(n, revision=OLD) for n in (0, 1)), member(2, ready_s=5)],
            [],
            id="for long enough",
        ),
        pytest.param(stateful_set(partition=2), [*old(0, 1), member(2)], [], id="to the partition"),
        pytest.param(
            stateful_set(partition=2), [*old(1), member(2)], ["+w-0:img:1"], id="below it as it was"
        ),
        pytest.param(
            stateful_set(partition=1, start=4),
            [member(5), member(6)],
            ["+w-4:img:1"],
            id="counted from the first number",
        ),
        pytest.param(stateful_set(on_delete=True), old(0, 1, 2), [], id="only when it is deleted"),
        pytest.param(
            stateful_set(on_delete=True), old(1, 2), ["+w-0:img:2"], id="then of the new template"
        ),
        pytest.param(
            stateful_set(),
            [*old(0), waiting(1, revision=OLD), *old(2)],
            [],
            id="a broken pod blocks the template that would mend it",
        ),
        pytest.param(
            stateful_set(parallel=True), [*old(0, 1), waiting(2)], [], id="parallel: as careful"
        ),
        pytest.param(
            stateful_set(parallel=True), old(0, 1, 2), ["-w-2"], id="parallel: one by one"
        ),
        pytest.param(
            stateful_set(5, most=2), old(0, 1, 2, 3, 4), ["-w-4", "-w-3"], id="several at once"
        ),
        pytest.param(
            stateful_set(5, most=2, parallel=True),
            [*old(0, 1, 2, 3), waiting(4)],
            ["-w-3"],
            id="less those that are missing",
        ),
        pytest.param(
            stateful_set(5, most="50%", partition=3),
            old(0, 1, 2, 3, 4),
            ["-w-4", "-w-3"],
            id="a share",
        ),
    ],
)
def test_updates(set_: StatefulSet, pods: list[Pod], wanted: list[str]) -> None:
    assert next_steps(set_, pods) == wanted


@pytest.mark.parametrize(("most", "wanted"), [(None, 1), (0, 1), (3, 3), ("1%", 1), ("21%", 3)])
def test_how_many_may_be_missing(most: int | str | None, wanted: int) -> None:
    assert unavailable_max(stateful_set(10, most=most)) == wanted


def replayed(set_: StatefulSet, pods: list[Pod]) -> list[str]:
    """Apply plans until nothing is left to do, with a kubelet that makes every pod ready."""
    living = {pod.metadata.name: pod for pod in pods}
    for _ in range(50):
        actions = plan(set_, list(living.values()), {}, REVISIONS, NOW)
        if not actions:
            break
        for action in actions:
            if isinstance(action, Create):
                ordinal = ordinal_of("w", action.document["metadata"]["name"])
                assert ordinal is not None
                labels = action.document["metadata"]["labels"]
                living[f"w-{ordinal}"] = member(
                    ordinal, revision=labels["controller-revision-hash"]
                )
            elif isinstance(action, Delete):
                del living[action.key.name]
    return sorted(f"{n}:{p.metadata.labels['controller-revision-hash']}" for n, p in living.items())


def test_from_any_state_it_comes_to_rest_whole() -> None:
    states = (None, OLD, NEW)
    for held in itertools.product(states, repeat=5):
        pods = [member(n, revision=one) for n, one in enumerate(held) if one is not None]
        for parallel in (False, True):
            rest = replayed(stateful_set(3, parallel=parallel), pods)
            assert rest == [f"w-{n}:{NEW}" for n in range(3)], held


# -------------------------------------------------------------------------------------------------------------- claims
def held(**claims: PersistentVolumeClaim) -> Claims:
    return {f"data-w-{name[1:]}": claim for name, claim in claims.items()}


def owner(kind: str, name: str, uid: str) -> OwnerReference:
    return OwnerReference(
        api_version="v1" if kind == "Pod" else "apps/v1",
        kind=kind,
        name=name,
        uid=uid,
        controller=True,
        block_owner_deletion=True,
    )


SET = owner("StatefulSet", "w", "w-uid")


def with_claim(replicas: int, keep: ClaimRetention = ClaimRetention()) -> StatefulSet:  # noqa: B008
    return stateful_set(replicas, keep=keep, volume_claim_templates=(CLAIM,))


@pytest.mark.parametrize(
    ("set_", "pods", "claims", "wanted"),
    [
        pytest.param(with_claim(1), [], {}, ["+data-w-0", "+w-0:img:2"], id="before its pod"),
        pytest.param(
            with_claim(1), [], held(c0=volume_claim(0)), ["+w-0:img:2"], id="one that is there"
        ),
        pytest.param(
            with_claim(1), [waiting(0)], {}, ["+data-w-0"], id="one that a waiting pod has lost"
        ),
        pytest.param(
            with_claim(1),
            [],
            held(c0=volume_claim(0, deleting=True)),
            ["!"],
            id="not while it is being deleted",
        ),
        pytest.param(
            with_claim(1, ON_SCALE),
            [],
            held(c0=volume_claim(0, owner("Pod", "w-0", "gone"))),
            [],
            id="not while it is collected with the pod before",
        ),
        pytest.param(
            with_claim(1, ON_SCALE),
            [member(0), member(1)],
            held(c0=volume_claim(0), c1=volume_claim(1)),
            ["~data-w-1", "-w-1"],
            id="goes with a pod that is not wanted",
        ),
        pytest.param(
            with_claim(1),
            [member(0), member(1)],
            held(c0=volume_claim(0), c1=volume_claim(1)),
            ["-w-1"],
            id="stays",
        ),
        pytest.param(
            with_claim(1, ON_DELETE), [member(0)], held(c0=volume_claim(0)), ["~data-w-0"], id="set"
        ),
        pytest.param(
            with_claim(1, ON_DELETE), [member(0)], held(c0=volume_claim(0, SET)), [], id="known"
        ),
        pytest.param(
            with_claim(1), [member(0)], held(c0=volume_claim(0, SET)), ["~data-w-0"], id="let go"
        ),
        pytest.param(
            with_claim(1, ON_DELETE),
            [member(0)],
            held(c0=volume_claim(0, owner("Other", "x", "u"))),
            [],
            id="another controller's",
        ),
    ],
)
def test_claims(set_: StatefulSet, pods: list[Pod], claims: Claims, wanted: list[str]) -> None:
    assert next_steps(set_, pods, claims) == wanted


def test_the_owner_of_a_claim() -> None:
    """Made for the set, given to a pod that goes for good, both with the version that was read."""
    made = plan(with_claim(1, DELETE_BOTH), [], {}, REVISIONS, NOW)[0]
    assert isinstance(made, Create)
    assert made.document["metadata"]["labels"] == {"app": "d"}
    assert [o["kind"] for o in made.document["metadata"]["ownerReferences"]] == ["StatefulSet"]
    set_, gone = with_claim(0, DELETE_BOTH), member(0)
    claims = held(c0=volume_claim(0, SET))
    given = plan(set_, [gone], claims, REVISIONS, NOW)[0]
    assert isinstance(given, Patch)
    assert isinstance(given.patch, dict)
    (reference,) = given.patch["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["uid"]) == ("Pod", gone.metadata.uid)
    assert (given.resource_version, given.uid) == ("7", "claim-0")


def test_a_pod_and_its_identity() -> None:
    set_ = with_claim(3)
    template = {
        "metadata": {"labels": {"app": "d"}, "annotations": {"a": "b"}},
        "spec": {
            "containers": [{"name": "c"}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        },
    }
    made = pod_document(set_, 2, template, NEW)
    assert made["metadata"]["name"] == made["spec"]["hostname"] == "w-2"
    assert made["metadata"]["annotations"] == {"a": "b"}
    assert made["spec"]["subdomain"] == "svc"
    assert made["metadata"]["labels"] == {
        "app": "d",
        "statefulset.kubernetes.io/pod-name": "w-2",
        "apps.kubernetes.io/pod-index": "2",
        "controller-revision-hash": NEW,
    }
    assert made["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-w-2"}},
        {"name": "tmp", "emptyDir": {}},
    ]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("w-0", 0), ("w-12", 12), ("w", None), ("w-", None), ("w-x", None), ("v-w-1", None)],
)
def test_numbers_in_names(name: str, wanted: int | None) -> None:
    assert ordinal_of("w", name) == wanted


# -------------------------------------------------------------------------------------------------------------- status
def test_counts() -> None:
    set_ = stateful_set(4, min_ready_seconds=50)
    pods = [
        member(0, revision=OLD),
        member(1, revision=OLD, deleting=True),
        member(2, ready_s=20),
        waiting(3),
    ]
    fresh = status.counted(set_, pods, (OLD, NEW), 1, NOW)
    assert (fresh.replicas, fresh.ready_replicas, fresh.available_replicas) == (4, 3, 2)
    assert (fresh.current_replicas, fresh.updated_replicas) == (1, 2)
    assert (fresh.current_revision, fresh.update_revision) == (OLD, NEW)
    actions = status.plan_status(set_, fresh, pods, NOW)
    assert [type(action) for action in actions] == [SetStatus, RequeueAfter]
    assert actions[1] == RequeueAfter(30.0)


def test_a_rollout_that_is_over_makes_its_revision_the_current_one() -> None:
    pods = [member(n) for n in range(3)]
    assert status.counted(stateful_set(3), pods, (OLD, NEW), 0, NOW).current_revision == NEW
    by_hand = status.counted(stateful_set(3, on_delete=True), pods, (OLD, NEW), 0, NOW)
    assert by_hand.current_revision == OLD
    growing = status.counted(stateful_set(4), pods, (OLD, NEW), 0, NOW)
    assert growing.current_revision == OLD


def test_a_status_that_is_right_is_not_written() -> None:
    set_ = stateful_set(0)
    fresh = status.counted(set_, [], (NEW, NEW), 0, NOW)
    known = StatefulSetStatus(
        observed_generation=2, current_revision=NEW, update_revision=NEW, collision_count=0
    )
    assert fresh == known
    assert status.plan_status(stateful_set(0, status=known), fresh, [], NOW) == []
    assert ago(0) == NOW


# --------------------------------------------------------------------------------------------------------------- words
@pytest.mark.parametrize(
    ("action", "error", "wanted"),
    [
        (
            Create(PODS, {"metadata": {"name": "w-1"}}),
            "",
            ("Normal", "SuccessfulCreate", "Create Pod w-1 in StatefulSet w successful"),
        ),
        (
            Create(PODS, {"metadata": {"name": "w-1"}}),
            "no",
            ("Warning", "FailedCreate", "Create Pod w-1 in StatefulSet w failed error: no"),
        ),
        (
            Create(CLAIMS, {"metadata": {"name": "data-w-1"}}),
            "",
            (
                "Normal",
                "SuccessfulCreate",
                "Create Claim data-w-1 Pod w-1 in StatefulSet w success",
            ),
        ),
        (
            Create(CLAIMS, {"metadata": {"name": "data-w-1"}}),
            "no",
            (
                "Warning",
                "FailedCreate",
                "Create Claim data-w-1 for Pod w-1 in StatefulSet w failed error: no",
            ),
        ),
        (
            Delete(PODS, ObjectKey("ns", "w-1")),
            "",
            ("Normal", "SuccessfulDelete", "Delete Pod w-1 in StatefulSet w successful"),
        ),
    ],
)
def test_words(action: Action, error: str, wanted: tuple[str, str, str]) -> None:
    event = told(stateful_set(), action, error)
    assert event is not None
    assert (event.type, event.reason, event.message) == wanted

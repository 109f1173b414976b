"""ReplicaSet: how many pods to make or delete, which go first, and what is reported."""

import random

import pytest
from tests.unit.control.builders import NOW, pod, replica_set

from cluster_agent.control.controllers.replicaset.controller import gather_s
from cluster_agent.control.controllers.replicaset.plan import (
    BURST_PODS_MAX,
    Failure,
    Pods,
    plan,
    plan_status,
    pod_document,
    sort_out,
)
from cluster_agent.control.controllers.replicaset.ranking import first_to_go
from machinery.api.core import PODS, Pod
from machinery.api.fleet.resilience import GRANT_SECONDS
from machinery.controller.action import Create, Delete, RequeueAfter, SetStatus
from machinery.meta.objectmeta import Condition


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            pod("z", node="", phase="Pending"), pod("a", phase="Pending"), id="unassigned"
        ),
        pytest.param(pod("z", phase="Pending"), pod("a", phase="Running"), id="pending"),
        pytest.param(pod("z", phase="Unknown"), pod("a", phase="Running"), id="unknown"),
        pytest.param(pod("z"), pod("a", ready_s=5), id="not ready"),
        pytest.param(pod("z", ready_s=9000, cost="-5"), pod("a", ready_s=5), id="cost"),
        pytest.param(
            pod("z", ready_s=9000, node="full"), pod("a", ready_s=5), id="siblings on the node"
        ),
        pytest.param(pod("z", ready_s=5), pod("a", ready_s=9000), id="ready for less"),
        pytest.param(
            pod("z", ready_s=100, restarts=3), pod("a", ready_s=100, restarts=1), id="restarts"
        ),
        pytest.param(
            pod("z", ready_s=100, age_s=200), pod("a", ready_s=100, age_s=9000), id="young"
        ),
        pytest.param(
            pod("z", ready_s=1001, uid="1", restarts=0),
            pod("a", ready_s=1000, uid="2", restarts=9),
            id="same bucket of time: uid, before restarts",
        ),
    ],
)
def test_who_goes_first(first: Pod, second: Pod) -> None:
    on_node = {"full": 2, "n1": 1}
    for order in ([first, second], [second, first]):
        gone = first_to_go(order, 1, on_node, NOW)
        assert [p.metadata.name for p in gone] == ["z"]


def test_ranking_does_not_depend_on_the_order_given() -> None:
    pods = [
        pod(f"p{i}", ready_s=2.0**i, node=f"n{i % 3}", cost=str(i % 2), restarts=i % 4)
        for i in range(1, 20)
    ]
    expected = [p.metadata.name for p in first_to_go(pods, 10, {}, NOW)]
    random.Random(1).shuffle(pods)
    assert [p.metadata.name for p in first_to_go(pods, 10, {}, NOW)] == expected


def test_missing_pods_are_made_up_to_the_burst() -> None:
    rs = replica_set("rs", 700)
    actions = plan(rs, [], (), NOW)
    assert len(actions) == BURST_PODS_MAX
    assert {type(action) for action in actions} == {Create}


def test_surplus_pods_are_deleted_by_uid() -> None:
    rs = replica_set("rs", 1)
    pods = [pod("a", ready_s=100), pod("b")]
    assert plan(rs, pods, pods, NOW) == [Delete(PODS, pods[1].key, uid="b-uid")]


def test_right_number_is_left_alone() -> None:
    assert plan(replica_set("rs", 1), [pod("a")], (), NOW) == []


@pytest.mark.parametrize(
    ("annotations", "active", "ending", "made"),
    [
        ({}, 0, 1, 1),
        ({GRANT_SECONDS: "20"}, 0, 1, 0),
        ({GRANT_SECONDS: "20"}, 0, 2, 0),
        ({GRANT_SECONDS: "20"}, 0, 0, 1),
        ({GRANT_SECONDS: "20"}, 1, 1, 0),
    ],
    ids=["at once", "waits for its end", "for both", "gone", "there"],
)
def test_in_mode_consistency_the_next_pod_waits_for_the_end_of_the_last(
    annotations: dict[str, str], active: int, ending: int, made: int
) -> None:
    rs = replica_set("rs", 1)
    rs.spec.template["metadata"] = {"annotations": annotations}
    assert len(plan(rs, [pod(f"p{i}") for i in range(active)], (), NOW, ending)) == made


def test_pod_of_the_template() -> None:
    document = pod_document(replica_set("rs", 1))
    assert document["metadata"]["generateName"] == "rs-"
    assert document["metadata"]["labels"] == {"app": "d", "pod-template-hash": "rs"}
    owner = document["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("ReplicaSet", "rs-uid", True)


def test_counts() -> None:
    rs = replica_set("rs", 3, actual=0)
    labels = {"app": "d", "pod-template-hash": "rs"}
    pods = sort_out(
        [
            pod("a", ready_s=100, labels=labels),
            pod("b", labels=labels),
            pod("c", labels={"app": "d"}),
            pod("d", phase="Failed", labels=labels),
            pod("e", deleting=True, labels=labels),
            pod("f", deleting=True, phase="Succeeded", labels=labels),
        ]
    )
    (action,) = plan_status(rs, pods, None, NOW)
    assert isinstance(action, SetStatus)
    assert action.status == {
        "observedGeneration": 1,
        "replicas": 3,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "terminatingReplicas": 1,
        "conditions": None,
    }


def test_unchanged_counts_are_not_written() -> None:
    rs = replica_set("rs", 1)
    labels = {"app": "d", "pod-template-hash": "rs"}
    assert plan_status(rs, Pods([pod("a", ready_s=1, labels=labels)], []), None, NOW) == []


def test_ready_pod_turns_available_later() -> None:
    rs = replica_set("rs", 1, actual=0)
    slow = type(rs)(
        metadata=rs.metadata,
        spec=type(rs.spec)(replicas=1, min_ready_seconds=10, template=rs.spec.template),
        status=rs.status,
    )
    actions = plan_status(slow, Pods([pod("a", ready_s=4)], []), None, NOW)
    assert actions[-1] == RequeueAfter(6.0)
    assert isinstance(actions[0], SetStatus)
    assert actions[0].status["availableReplicas"] is None


def test_failure_stands_until_a_pass_succeeds() -> None:
    rs = replica_set("rs", 3, actual=0)
    (told,) = plan_status(rs, Pods([], []), Failure("FailedCreate", "no room"), NOW)
    assert isinstance(told, SetStatus)
    assert told.status["conditions"][0]["message"] == "no room"
    old = Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message="first")
    failing = replica_set("rs", 3, actual=0, conditions=(old,))
    assert plan_status(failing, Pods([], []), Failure("FailedCreate", "second"), NOW) == []
    (cleared,) = plan_status(failing, Pods([], []), None, NOW)
    assert isinstance(cleared, SetStatus)
    assert cleared.status["conditions"] is None


@pytest.mark.parametrize(
    ("replicas", "look_s", "expected"),
    [
        (0, 0.0, 0.0), (50, 0.1, 0.0), (5000, 0.0, 0.2), (10**6, 0.0, 0.25),
        (5000, 0.015, 0.45), (5000, 0.001, 0.2), (5000, 9.0, 1.0),
    ],
)  # fmt: skip
def test_gathering_grows_with_size(replicas: int, look_s: float, expected: float) -> None:
    assert gather_s(replicas, look_s) == pytest.approx(expected)

"""Job: what a look shows, whether it is decided, what is made and deleted, and how ends are counted."""

import datetime as dt
import itertools
from typing import Any

import pytest
from tests.unit.control.builders import NOW, ago
from tests.unit.control.job_builders import indexed, job, per_index, pod, uncounted

from cluster_agent.control.controllers.batch import (
    FailureRule,
    Job,
    JobStatus,
    OnExitCodes,
    OnPodCondition,
    PodFailurePolicy,
    SuccessPolicy,
    SuccessRule,
    UncountedTerminatedPods,
)
from cluster_agent.control.controllers.job.backoff import Record, finished_at
from cluster_agent.control.controllers.job.indexes import Indexes, parse
from cluster_agent.control.controllers.job.judge import completed, deadline_in, judge
from cluster_agent.control.controllers.job.plan import BURST_PODS_MAX, Order, idle, plan
from cluster_agent.control.controllers.job.podmaking import pod_document
from cluster_agent.control.controllers.job.policies import match, met_rule
from cluster_agent.control.controllers.job.sight import FAILURES, IGNORED, TRACKING, look
from cluster_agent.control.controllers.job.status import UNCOUNTED_MAX, Tally, tally, write
from machinery.api.core import Pod
from machinery.controller.action import Create, Delete, Patch
from machinery.meta.objectmeta import Condition, condition

NO_RECORD = Record()


def policy(*rules: FailureRule) -> PodFailurePolicy:
    return PodFailurePolicy(rules)


def on_codes(action: str, *values: int, operator: str = "In") -> FailureRule:
    return FailureRule(action=action, on_exit_codes=OnExitCodes(operator, values))


def on_disruption(action: str) -> FailureRule:
    return FailureRule(action=action, on_pod_conditions=(OnPodCondition("DisruptionTarget"),))


DISRUPTED = (Condition(type="DisruptionTarget", status="True"),)


# ------------------------------------------------------------------------------------------------------------- indexes
@pytest.mark.parametrize(
    ("text", "completions", "told", "count"),
    [
        ("", 5, "", 0),
        ("0", 5, "0", 1),
        ("0,1", 5, "0,1", 2),
        ("0-2,4", 5, "0-2,4", 4),
        ("0,1,2", 5, "0-2", 3),
        ("1,3-9", 5, "1,3,4", 3),
        ("7", 5, "", 0),
        ("x,2,3-y", 5, "2", 1),
    ],
)
def test_indexes_are_read_and_told(text: str, completions: int, told: str, count: int) -> None:
    found = parse(text, completions)
    assert (str(found), len(found)) == (told, count)
    assert {i for i in range(completions) if i in found} | set(found.absent(completions)) == set(
        range(completions)
    )


def test_indexes_are_a_set() -> None:
    for left, right in itertools.product(range(16), repeat=2):
        a = {i for i in range(4) if left >> i & 1}
        b = {i for i in range(4) if right >> i & 1}
        one, other = Indexes().with_indexes(a), Indexes().with_indexes(b)
        assert set(range(4)) - set((one | other).absent(4)) == a | b
        assert one & other == len(a & b)
        assert parse(str(one | other), 4) == one | other


# ------------------------------------------------------------------------------------------------------------ policies
@pytest.mark.parametrize(
    ("rules", "failed", "action"),
    [
        pytest.param((), pod("p", "Failed"), "", id="no rule"),
        pytest.param((on_codes("Count", 1),), pod("p", "Failed", code=2), "", id="another code"),
        pytest.param((on_codes("Ignore", 2),), pod("p", "Failed", code=2), "Ignore", id="in"),
        pytest.param(
            (on_codes("FailJob", 2, operator="NotIn"),), pod("p", "Failed", code=1), "FailJob", id="not in"
        ),
        pytest.param(
            (on_codes("FailJob", 2, operator="NotIn"),), pod("p", "Failed", code=0), "", id="code 0 never"
        ),
        pytest.param(
            (on_disruption("Ignore"), on_codes("FailJob", 1)),
            pod("p", "Failed", conditions=DISRUPTED), "Ignore", id="the first rule counts",
        ),
        pytest.param((on_disruption("Ignore"),), pod("p", "Failed"), "", id="no such condition"),
    ],
)  # fmt: skip
def test_what_a_policy_says_of_a_failure(
    rules: tuple[FailureRule, ...], failed: Pod, action: str
) -> None:
    said = match(job(pod_failure_policy=policy(*rules)), failed)
    assert said.action == action
    assert said.counts == (action != "Ignore")


def test_a_rule_may_name_a_container() -> None:
    rule = FailureRule(action="FailJob", on_exit_codes=OnExitCodes("In", (1,), "other"))
    assert match(job(pod_failure_policy=policy(rule)), pod("p", "Failed")).action == ""
    rule = FailureRule(action="FailJob", on_exit_codes=OnExitCodes("In", (1,), "c"))
    said = match(job(pod_failure_policy=policy(rule)), pod("p", "Failed"))
    assert said.message == (
        "Container c for pod ns/p failed with exit code 1 matching FailJob rule at index 0"
    )


@pytest.mark.parametrize(
    ("rules", "done", "met"),
    [
        ((), "0-2", None),
        ((SuccessRule(None, 2),), "0", None),
        ((SuccessRule(None, 2),), "0,3", 0),
        ((SuccessRule("1-2", None),), "0,1", None),
        ((SuccessRule("1-2", None),), "1,2", 0),
        ((SuccessRule("1-3", 2),), "0,1", None),
        ((SuccessRule("1-3", 2),), "1,3", 0),
        ((SuccessRule("0", None), SuccessRule(None, 1)), "4", 1),
        ((SuccessRule("9", None),), "0-4", None),
    ],
)
def test_which_rule_of_success_is_met(
    rules: tuple[SuccessRule, ...], done: str, met: int | None
) -> None:
    assert met_rule(SuccessPolicy(rules), parse(done, 5), 5) == met


# ------------------------------------------------------------------------------------------------------------ back-off
def failed_ago(*seconds: float) -> list[Pod]:
    return [pod(f"f{n}", "Failed", ended_s=s) for n, s in enumerate(seconds)]


@pytest.mark.parametrize(
    ("succeeded", "failed", "wait_s"),
    [
        pytest.param([], [], 0, id="nothing failed"),
        pytest.param([], failed_ago(4), 6, id="10 s after the first"),
        pytest.param([], failed_ago(30, 4), 16, id="20 s after the second"),
        pytest.param([], failed_ago(99, 50, 4), 36, id="40 s after the third"),
        pytest.param([], failed_ago(*range(0, 200, 10)), 600, id="10 min at most"),
        pytest.param([], failed_ago(11), 0, id="over"),
        pytest.param([pod("s", "Succeeded", ended_s=2)], failed_ago(4), 0, id="a success since"),
        pytest.param([pod("s", "Succeeded", ended_s=9)], failed_ago(30, 4), 6, id="one before"),
    ],
)
def test_how_long_a_job_waits(succeeded: list[Pod], failed: list[Pod], wait_s: float) -> None:
    record = NO_RECORD.seen(succeeded, failed)
    assert record.wait_s(NOW) == wait_s
    assert record.seen(succeeded, failed) == record, "looking twice changes nothing"


def test_when_a_pod_ended() -> None:
    assert finished_at(pod("p", "Failed", ended_s=5)) == ago(5)
    assert finished_at(pod("p", "Running", ended_s=7)) == ago(7), "since it is unready"
    going = pod("p", "Running", ready=True, deleting=True)
    assert finished_at(going) == NOW - dt.timedelta(seconds=30), "since its deletion was asked for"
    assert finished_at(pod("p", "Running", ready=True)) == ago(1000), "since it was made"


# ------------------------------------------------------------------------------------------------------------- verdict
def judged(wish: Job, *pods: Pod) -> str:
    found = judge(look(wish, pods), NOW)
    return f"{found.type} {found.reason}" if found is not None else ""


FAIL_JOB = policy(on_codes("FailJob", 42))
FAIL_INDEX = policy(on_codes("FailIndex", 9))
ON_FAILURE = {"spec": {"restartPolicy": "OnFailure"}}
LIMIT = "FailureTarget BackoffLimitExceeded"


@pytest.mark.parametrize(
    ("wish", "pods", "told"),
    [
        pytest.param(job(), [pod("a")], "", id="runs"),
        pytest.param(job(backoff_limit=1), failed_ago(1), "", id="one failure is allowed"),
        pytest.param(job(backoff_limit=1), failed_ago(1, 2), LIMIT, id="two are not"),
        pytest.param(
            job(backoff_limit=1, status=uncounted(failed=("gone",))), failed_ago(1), LIMIT, id="one is uncounted"
        ),
        pytest.param(
            job(backoff_limit=1, status=JobStatus(failed=1)), failed_ago(1), LIMIT, id="one is counted"
        ),
        pytest.param(
            job(backoff_limit=0, status=JobStatus(failed=0)), [pod("a", "Failed", tracked=False)], "", id="counted long ago"
        ),
        pytest.param(
            job(backoff_limit=0, pod_failure_policy=policy(on_codes("Ignore", 1))), failed_ago(1), "", id="ignored"
        ),
        pytest.param(
            job(pod_failure_policy=FAIL_JOB), [pod("a", "Failed", code=42)], "FailureTarget PodFailurePolicy", id="policy"
        ),
        pytest.param(job(backoff_limit=2, template=ON_FAILURE), [pod("a", restarts=2)], LIMIT, id="restarts"),
        pytest.param(job(backoff_limit=2, template=ON_FAILURE), [pod("a", restarts=1)], "", id="one restart"),
        pytest.param(job(backoff_limit=0, template=ON_FAILURE), [pod("a", restarts=1)], LIMIT, id="no restart allowed"),
        pytest.param(
            job(active_deadline_seconds=60, status=JobStatus(start_time=ago(60))), [pod("a")],
            "FailureTarget DeadlineExceeded", id="deadline",
        ),
        pytest.param(
            job(active_deadline_seconds=60, suspend=True, status=JobStatus(start_time=ago(90))), [], "", id="suspended"
        ),
        pytest.param(job(backoff_limit=0), [pod("a", deleting=True)], LIMIT, id="deleted counts as failed"),
        pytest.param(
            job(backoff_limit=0, pod_replacement_policy="Failed"), [pod("a", deleting=True)], "", id="not before its end"
        ),
        pytest.param(
            per_index(3, 0, max_failed_indexes=1), [pod("a", "Failed", index=0), pod("b", "Failed", index=1)],
            "FailureTarget MaxFailedIndexesExceeded", id="too many indexes",
        ),
        pytest.param(
            per_index(2, 0), [pod("a", "Failed", index=0), pod("b", "Succeeded", index=1)],
            "FailureTarget FailedIndexes", id="all decided",
        ),
        pytest.param(per_index(2, 0), [pod("a", "Failed", index=0), pod("b", index=1)], "", id="one undecided"),
        pytest.param(per_index(2, 1), [pod("a", "Failed", index=0)], "", id="an index may fail once"),
        pytest.param(
            per_index(1, 1), [pod("a", "Failed", index=0, failures=1)], "FailureTarget FailedIndexes", id="not twice"
        ),
        pytest.param(
            per_index(1, 5, pod_failure_policy=FAIL_INDEX), [pod("a", "Failed", index=0, code=9)],
            "FailureTarget FailedIndexes", id="FailIndex",
        ),
        pytest.param(
            indexed(3, success_policy=SuccessPolicy((SuccessRule(None, 1),))), [pod("a", "Succeeded", index=2)],
            "SuccessCriteriaMet SuccessPolicy", id="success policy",
        ),
    ],
)  # fmt: skip
def test_whether_a_job_is_decided(wish: Job, pods: list[Pod], told: str) -> None:
    assert judged(wish, *pods) == told


def test_what_was_decided_stands() -> None:
    met = completed(ago(5))
    wish = job(backoff_limit=0, status=JobStatus(conditions=(met,)))
    assert judge(look(wish, failed_ago(1)), NOW) == met


def test_the_deadline_is_looked_forward_to() -> None:
    wish = job(active_deadline_seconds=60, status=JobStatus(start_time=ago(45)))
    assert deadline_in(wish, NOW) == 15
    assert deadline_in(job(), NOW) is None


# ---------------------------------------------------------------------------------------------------------------- plan
def planned(wish: Job, *pods: Pod, record: Record = NO_RECORD) -> Order:
    return plan(look(wish, pods), record, NOW)


def made(order: Order) -> list[str]:
    """Names, or the prefix, of what is made and deleted."""
    found = []
    for action in order.actions:
        if isinstance(action, Create):
            found.append("+" + action.document["metadata"]["generateName"])
        elif isinstance(action, Delete):
            found.append("-" + action.key.name)
    return found


SOME = [pod("a"), pod("b"), pod("c")]


@pytest.mark.parametrize(
    ("wish", "pods", "wanted"),
    [
        pytest.param(job(parallelism=3), [], ["+j-"] * 3, id="a work queue"),
        pytest.param(job(parallelism=3), [pod("a", "Succeeded"), pod("b")], [], id="none after a success"),
        pytest.param(job(parallelism=2, completions=5), [], ["+j-"] * 2, id="parallelism"),
        pytest.param(
            job(parallelism=4, completions=5, status=JobStatus(succeeded=3)), [pod("a")], ["+j-"], id="what is left"
        ),
        pytest.param(job(parallelism=0, completions=5), SOME[:1], ["-a"], id="paused"),
        pytest.param(job(suspend=True, completions=1), SOME[:1], ["-a"], id="suspended"),
        pytest.param(
            job(parallelism=1, completions=1), [pod("a", deleting=True)], ["+j-"], id="a deleted one is replaced at once"
        ),
        pytest.param(
            job(parallelism=1, completions=1, pod_replacement_policy="Failed"), [pod("a", deleting=True)], [],
            id="not before its end",
        ),
        pytest.param(indexed(3), [], ["+j-0-", "+j-1-", "+j-2-"], id="each index"),
        pytest.param(
            indexed(4, parallelism=2, status=JobStatus(completed_indexes="1")), [pod("a", index=0)], ["+j-2-"], id="the next"
        ),
        pytest.param(indexed(2), [pod("a", index=0), pod("b", index=0), pod("c", index=1)], ["-a"], id="twice"),
        pytest.param(indexed(1), [pod("a", index=0), pod("b"), pod("c", index=7)], ["-b", "-c"], id="no index of it"),
        pytest.param(
            per_index(3, 0, parallelism=3), [pod("a", "Failed", index=0), pod("b", index=1)], ["+j-2-"], id="a failed index is over"
        ),
    ],
)  # fmt: skip
def test_what_is_made_and_deleted(wish: Job, pods: list[Pod], wanted: list[str]) -> None:
    assert made(planned(wish, *pods)) == wanted


def test_who_is_stopped_is_not_counted() -> None:
    order = planned(job(suspend=True), pod("a", ready=True))
    assert [type(action) for action in order.actions] == [Patch, Delete]
    assert (order.active, order.ready, order.terminating) == (0, 0, 1)


def test_no_pass_makes_more_than_a_burst() -> None:
    assert planned(job(parallelism=2000, completions=2000)).makes == BURST_PODS_MAX


def test_after_a_failure_a_job_waits() -> None:
    record = NO_RECORD.seen([], failed_ago(4))
    order = planned(job(parallelism=2, completions=2), pod("b", ready=True), record=record)
    assert (order.actions, order.wait_s) == ((), 6)
    assert order.active == 0, "as upstream tells it"


def test_indexes_wait_each_for_itself() -> None:
    wish = per_index(3, 5, parallelism=3)
    order = planned(wish, pod("a", "Failed", index=0, ended_s=4), pod("b", index=1))
    assert made(order) == ["+j-2-"]
    order = planned(
        wish, pod("a", "Failed", index=0, ended_s=4), pod("b", index=1), pod("c", index=2)
    )
    assert (made(order), order.wait_s) == ([], 6)
    order = planned(
        wish,
        pod("a", "Failed", index=0, ended_s=11, failures=1),
        pod("b", index=1),
        pod("c", index=2),
    )
    assert (made(order), order.wait_s) == ([], 9), "20 s after the second failure of the index"


# ------------------------------------------------------------------------------------------------------------ the pods
def test_a_pod_knows_its_index() -> None:
    spec = {
        "initContainers": [{"name": "i"}],
        "containers": [
            {"name": "c"},
            {"name": "own", "env": [{"name": "JOB_COMPLETION_INDEX", "value": "x"}]},
        ],
    }
    wish = indexed(
        3, template={"metadata": {"labels": {"a": "b"}, "finalizers": ["x/y"]}, "spec": spec}
    )
    document = pod_document(wish, 2)
    meta, index = document["metadata"], "batch.kubernetes.io/job-completion-index"
    assert meta["generateName"] == "j-2-"
    assert meta["labels"] == {"a": "b", index: "2"}
    assert meta["annotations"] == {index: "2"}
    assert meta["finalizers"] == ["x/y", TRACKING]
    assert meta["ownerReferences"][0]["kind"] == "Job"
    assert document["spec"]["hostname"] == "j-2"
    variable = {
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{index}']"}},
    }
    found = [
        c.get("env") for c in document["spec"]["initContainers"] + document["spec"]["containers"]
    ]
    assert found == [[variable], [variable], [{"name": "JOB_COMPLETION_INDEX", "value": "x"}]]
    assert spec["containers"][0] == {"name": "c"}, "the template is not touched"


def test_failures_are_carried_on() -> None:
    wish = per_index(3, 5, pod_failure_policy=policy(on_codes("Ignore", 7)))

    def noted(replaced: Pod | None) -> dict[str, str]:
        notes = pod_document(wish, 0, replaced)["metadata"]["annotations"]
        return {name: notes[name] for name in (FAILURES, IGNORED) if name in notes}

    assert noted(None) == {FAILURES: "0"}
    assert noted(pod("a", "Failed", index=0, failures=2)) == {FAILURES: "3"}
    assert noted(pod("a", "Failed", index=0, failures=2, code=7)) == {FAILURES: "2", IGNORED: "1"}


def test_a_long_name_leaves_room_for_the_index() -> None:
    wish = indexed(3)
    long = Job(metadata=type(wish.metadata)(name="x" * 60), spec=wish.spec)
    prefix = pod_document(long, 12)["metadata"]["generateName"]
    assert len(prefix) == 58
    assert prefix.endswith("x-12-")


# ------------------------------------------------------------------------------------------------------------ counting
def counted(
    wish: Job, *pods: Pod, decided: Condition | None = None, order: Order | None = None
) -> Tally:
    sight = look(wish, pods)
    decided = decided or judge(sight, NOW)
    return tally(sight, decided, order or idle(sight), NOW, acted=decided is None)


def names(pods: Any) -> list[str]:
    return [one.metadata.name for one in pods]


def test_an_end_is_written_down_before_it_is_counted() -> None:
    ended = pod("a", "Succeeded")
    first = counted(job(completions=2), ended, pod("b", "Failed"), pod("c"))
    waiting = UncountedTerminatedPods(("a-uid",), ("b-uid",))
    assert first.status.uncounted_terminated_pods == waiting
    assert (first.status.succeeded, first.status.failed) == (0, 0)
    assert names(first.counted) == ["a", "b"]
    again = counted(job(completions=2, status=first.status), ended, pod("b", "Failed"), pod("c"))
    assert again.status == first.status, "what was cut off here is taken up again"
    assert names(again.counted) == ["a", "b"]
    freed = pod("a", "Succeeded", tracked=False)
    second = counted(job(completions=2, status=again.status), freed, pod("c"))
    assert second.status.uncounted_terminated_pods == UncountedTerminatedPods()
    assert (second.status.succeeded, second.status.failed) == (1, 1), "one is gone altogether"
    third = counted(job(completions=2, status=second.status), freed, pod("c"))
    assert third.status == second.status
    assert write(job(completions=2, status=second.status), third.status) == []


def test_an_index_is_counted_by_itself() -> None:
    first = counted(indexed(3), pod("a", "Succeeded", index=1), pod("b", index=0))
    assert (first.status.completed_indexes, first.status.succeeded) == ("1", 1)
    assert first.status.uncounted_terminated_pods == UncountedTerminatedPods()
    assert names(first.counted) == ["a"]
    shrunk = counted(indexed(1, status=first.status), pod("b", index=0))
    assert (shrunk.status.completed_indexes, shrunk.status.succeeded) == ("", 0)


def test_a_failed_pod_waits_for_the_one_that_replaces_it() -> None:
    failed = pod("a", "Failed", index=0)
    assert names(counted(per_index(), failed, pod("b", index=1)).counted) == []
    after = counted(per_index(), failed, pod("a2", index=0, failures=1))
    assert names(after.counted) == ["a"]
    assert after.status.failed_indexes == ""


def test_only_so_many_are_counted_at_once() -> None:
    pods = [pod(f"p{n}", "Succeeded") for n in range(UNCOUNTED_MAX + 9)]
    assert len(counted(job(completions=2000), *pods).counted) == UNCOUNTED_MAX


def test_of_a_failed_job_everybody_has_failed() -> None:
    wish = job(completions=3, parallelism=3, backoff_limit=0)
    first = counted(wish, pod("a", "Failed"), pod("b"), order=Order(0, 0, 1))
    held = first.status.uncounted_terminated_pods
    assert held is not None
    assert held.failed == ("a-uid", "b-uid")
    assert condition(first.status.conditions, "FailureTarget") is not None
    assert condition(first.status.conditions, "Failed") is None, "b has not gone yet"
    last = counted(job(backoff_limit=0, status=first.status), pod("a", "Failed", tracked=False))
    assert last.status.failed == 2
    assert [event.reason for event in last.told] == ["BackoffLimitExceeded"]
    assert condition(last.status.conditions, "Failed") is not None


def test_whom_success_stops_has_not_failed() -> None:
    wish = indexed(2, success_policy=SuccessPolicy((SuccessRule(None, 1),)))
    for going in (False, True):
        found = counted(
            wish,
            pod("a", "Succeeded", index=0),
            pod("b", index=1, deleting=going),
            order=Order(0, 0, 1),
        )
        assert found.status.uncounted_terminated_pods == UncountedTerminatedPods()
        assert names(found.counted) == ["a", "b"]


@pytest.mark.parametrize("left", ["terminating", "tracked", "uncounted", ""])
def test_the_end_waits_for_everybody(left: str) -> None:
    status = JobStatus(succeeded=1, conditions=(completed(ago(1)),), start_time=ago(9))
    pods = {
        "terminating": [pod("a", deleting=True, tracked=False)],
        "tracked": [pod("a", "Succeeded")],
    }
    if left == "uncounted":
        status = uncounted(succeeded=("a-uid",))
        pods = {left: [pod("a", "Succeeded")]}
    found = counted(job(status=status), *pods.get(left, []), decided=completed(ago(1)))
    assert (condition(found.status.conditions, "Complete") is None) == bool(left)
    assert bool(found.told) == (not left)


def test_who_is_resumed_starts_anew() -> None:
    suspended = counted(job(suspend=True)).status
    assert suspended.start_time is None
    held = condition(suspended.conditions, "Suspended")
    assert held is not None
    assert held.status == "True"
    resumed = counted(job(status=suspended))
    assert resumed.status.start_time == NOW
    assert [event.reason for event in resumed.told] == ["Resumed"]
    assert counted(job(status=resumed.status)).told == ()


def test_too_many_successes_are_told() -> None:
    status = JobStatus(succeeded=2, conditions=(completed(ago(1)),), start_time=ago(9))
    told = counted(job(completions=1, status=status), decided=completed(ago(1))).told
    assert [event.reason for event in told] == ["TooManySucceededPods", "Completed"]


def test_of_a_job_that_goes_nobody_is_held() -> None:
    found = counted(job(deleting=True), pod("a"), pod("b", "Succeeded"))
    assert names(found.counted) == ["a", "b"]
    held = found.status.uncounted_terminated_pods
    assert held == UncountedTerminatedPods(("b-uid",))


def test_the_status_is_written_from_what_was_read() -> None:
    wish = job()
    (action,) = write(wish, counted(wish, pod("a", ready=True)).status)
    assert action.resource_version == "10"
    assert action.status["active"] == 1
    assert action.status["ready"] == 1
    assert action.status["succeeded"] is None

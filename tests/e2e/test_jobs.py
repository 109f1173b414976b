"""Jobs and CronJobs in a member's real containers, and a Job of the federation whose end is told there."""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.fleet import MEMBERS, WHOAMI, Document, Fleet, Refused, condition, core, until

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.timeout(600)]

Kubectl = Callable[..., str]
MEMBER = "alpha"
NUMBERS = itertools.count(os.getpid() * 100)
FAILED_CODE = 3


def batch(namespace: str, plural: str, name: str = "") -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def job_spec(script: str, **spec: Any) -> Document:
    container = {"name": "work", "image": WHOAMI, "command": ["sh", "-c", script]}
    pod = {
        "containers": [container],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
    }
    return {"template": {"spec": pod}, **spec}


def job(name: str, script: str, **spec: Any) -> Document:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": job_spec(script, **spec),
    }


@pytest.fixture
def place(fleet: Fleet) -> Iterator[str]:
    """A namespace of the member's own."""
    name = f"jobs-{next(NUMBERS)}"
    api = fleet.api(MEMBER)
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


def ended(fleet: Fleet, namespace: str, name: str, how: str, context: str = MEMBER) -> Document:
    """The Job, once it has ended so."""
    path = batch(namespace, "jobs", name)

    def told() -> Document | None:
        found = fleet.api(context).get(path)
        return found if condition(found, how).get("status") == "True" else None

    return until(told, lambda: f"{how}: {fleet.api(context).get(path).get('status')}", 120)


def pods_of(fleet: Fleet, namespace: str, name: str, context: str = MEMBER) -> list[Document]:
    selector = quote(f"batch.kubernetes.io/job-name={name}")
    return fleet.api(context).list(f"{core(namespace, 'pods')}?labelSelector={selector}")


def test_an_indexed_job_works_on_each_index_once(
    fleet: Fleet, kubectl: Kubectl, place: str
) -> None:
    script = "echo $JOB_COMPLETION_INDEX on $(hostname)"
    wish = job("sum", script, completions=3, parallelism=2, completionMode="Indexed")
    fleet.api(MEMBER).create(batch(place, "jobs"), wish)
    status = ended(fleet, place, "sum", "Complete")["status"]
    assert (status["succeeded"], status["completedIndexes"]) == (3, "0-2")
    assert status["uncountedTerminatedPods"] == {}
    assert {"startTime", "completionTime"} <= set(status)
    pods = pods_of(fleet, place, "sum")
    said = {kubectl(MEMBER, "logs", "-n", place, pod["metadata"]["name"]).strip() for pod in pods}
    assert said == {f"{index} on sum-{index}" for index in range(3)}
    assert all(not pod["metadata"].get("finalizers") for pod in pods), "every end is counted"
    row = kubectl(MEMBER, "get", "jobs", "-n", place, "--no-headers").split()
    assert row[:3] == ["sum", "Complete", "3/3"]


def test_a_failing_job_tries_again_later_and_then_gives_up(fleet: Fleet, place: str) -> None:
    wish = job("bad", f"exit {FAILED_CODE}", backoffLimit=1)
    fleet.api(MEMBER).create(batch(place, "jobs"), wish)
    live = ended(fleet, place, "bad", "Failed")
    assert condition(live, "Failed")["reason"] == "BackoffLimitExceeded"
    assert live["status"]["failed"] == 2
    pods = pods_of(fleet, place, "bad")
    codes = [p["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] for p in pods]
    assert codes == [FAILED_CODE, FAILED_CODE]


def test_a_policy_says_at_once_that_there_is_no_use(fleet: Fleet, place: str) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [FAILED_CODE]}}
    policy = {"rules": [rule]}
    wish = job("moot", f"exit {FAILED_CODE}", backoffLimit=6, podFailurePolicy=policy)
    fleet.api(MEMBER).create(batch(place, "jobs"), wish)
    live = ended(fleet, place, "moot", "Failed")
    why = condition(live, "Failed")
    assert why["reason"] == "PodFailurePolicy"
    assert f"failed with exit code {FAILED_CODE} matching FailJob rule at index 0" in why["message"]
    assert live["status"]["failed"] == 1


def test_a_job_goes_when_its_time_is_over(fleet: Fleet, place: str) -> None:
    api = fleet.api(MEMBER)
    api.create(batch(place, "jobs"), job("brief", "true", ttlSecondsAfterFinished=3))
    ended(fleet, place, "brief", "Complete")

    def gone() -> bool:
        try:
            api.get(batch(place, "jobs", "brief"))
        except Refused as refused:
            return refused.code == 404 and not pods_of(fleet, place, "brief")
        return False

    until(gone, "neither the Job nor its pod", 60)


def test_a_suspended_job_stops_and_goes_on(fleet: Fleet, place: str) -> None:
    api, path = fleet.api(MEMBER), batch(place, "jobs", "long")
    api.create(batch(place, "jobs"), job("long", "sleep 3600", parallelism=2))

    def active(wanted: int) -> bool:
        return bool(api.get(path)["status"].get("ready", 0) == wanted)

    until(lambda: active(2), "two that work")
    begun = api.get(path)["status"]["startTime"]
    api.merge(path, {"spec": {"suspend": True}})
    until(lambda: active(0) and not pods_of(fleet, place, "long"), "nobody works")
    assert "failed" not in api.get(path)["status"], "who is stopped has not failed"
    api.merge(path, {"spec": {"suspend": False}})
    until(lambda: active(2), "two that work again")
    assert api.get(path)["status"]["startTime"] > begun


def test_a_deleted_pod_is_counted_and_replaced_after_its_end(fleet: Fleet, place: str) -> None:
    api, path = fleet.api(MEMBER), batch(place, "jobs", "one")
    wish = job("one", "sleep 3600", parallelism=1, podReplacementPolicy="Failed")
    api.create(batch(place, "jobs"), wish)
    until(lambda: api.get(path)["status"].get("ready") == 1, "one that works")
    first = pods_of(fleet, place, "one")[0]["metadata"]
    api.delete(core(place, "pods", first["name"]))

    def replaced() -> bool:
        status, pods = api.get(path)["status"], pods_of(fleet, place, "one")
        names = [pod["metadata"]["name"] for pod in pods]
        return status.get("ready") == 1 and status.get("failed") == 1 and first["name"] not in names

    until(replaced, lambda: f"another: {api.get(path)['status']}")
    assert len(pods_of(fleet, place, "one")) == 1


def test_a_cron_job_starts_each_minute_and_by_hand(
    fleet: Fleet, kubectl: Kubectl, place: str
) -> None:
    api, path = fleet.api(MEMBER), batch(place, "cronjobs", "tick")
    template = {"spec": job_spec("true")}
    api.create(
        batch(place, "cronjobs"),
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "tick"},
            "spec": {"schedule": "* * * * *", "jobTemplate": template},
        },
    )
    kubectl(MEMBER, "create", "job", "-n", place, "now", "--from=cronjob/tick")
    ended(fleet, place, "now", "Complete")
    until(
        lambda: api.get(path)["status"].get("lastScheduleTime"),
        lambda: f"a start: {api.get(path)['status']}",
        90,
    )

    def made() -> list[Document]:
        jobs = api.list(batch(place, "jobs"))
        return [j for j in jobs if j["metadata"]["name"].startswith("tick-")]

    name = until(made, "its Job")[0]["metadata"]["name"]
    assert name.removeprefix("tick-").isdecimal()
    ended(fleet, place, name, "Complete")
    until(lambda: not api.get(path)["status"].get("active"), "nothing is active")
    assert api.get(path)["status"]["lastSuccessfulTime"]
    api.delete(f"{path}?propagationPolicy=Background")
    until(lambda: not api.list(batch(place, "jobs")), "its Jobs go with it")


def test_the_federation_hears_that_its_job_is_done(fleet: Fleet, namespace: str) -> None:
    wish = job("fan", "true", completions=3, parallelism=3)
    fleet.api().create(batch(namespace, "jobs"), wish)
    status = ended(fleet, namespace, "fan", "Complete", "federation")["status"]
    assert status["succeeded"] == 3
    there = 0
    for member in MEMBERS:
        try:
            live = fleet.api(member).get(batch(namespace, "jobs", "fan"))
        except Refused:
            continue
        there += live["status"]["succeeded"]
        assert condition(live, "Complete")["status"] == "True"
    assert there == 3

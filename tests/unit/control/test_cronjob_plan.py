"""CronJob: which start is due, what is missed, what of its Jobs stays, and what is told. And Jobs whose time is over."""

import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import pytest
from tests.unit.control.builders import NOW, ago
from tests.unit.control.job_builders import cron, run

from cluster_agent.control.controllers import ttlafterfinished
from cluster_agent.control.controllers.batch import COMPLETE, FAILED, CronJob, Job
from cluster_agent.control.controllers.cronjob.plan import (
    AFTER_DUE_S,
    MISSED_MANY,
    Plan,
    job_document,
    job_name,
    plan,
    started,
    write,
)
from cluster_agent.control.controllers.cronjob.schedule import (
    ScheduleError,
    ZoneError,
    times,
    zone_of,
)
from machinery.controller.action import Delete, Emit, RequeueAfter

MINUTE = int(NOW.timestamp()) // 60
"""NOW is a whole minute: a start is due right then."""


def told(planned: Plan) -> list[str]:
    return [action.reason for action in planned.actions if isinstance(action, Emit)]


def deleted(planned: Plan) -> list[str]:
    return [action.key.name for action in planned.actions if isinstance(action, Delete)]


def due(wish: CronJob, jobs: Sequence[Job] = (), now: dt.datetime = NOW) -> str:
    """The name of the Job that is made."""
    planned = plan(wish, jobs, now)
    return "" if planned.start is None else planned.start.document["metadata"]["name"]


SOON = NOW + dt.timedelta(seconds=3)
RUNNING = run("c-1")


@pytest.mark.parametrize(
    ("wish", "jobs", "made", "words"),
    [
        pytest.param(cron(age_s=30), [], f"c-{MINUTE}", [], id="the first"),
        pytest.param(cron(age_s=-1), [], "", [], id="not yet"),
        pytest.param(cron(last=NOW), [], "", [], id="made already"),
        pytest.param(cron(last=ago(180)), [], f"c-{MINUTE}", [], id="of several the newest"),
        pytest.param(cron(age_s=30, suspend=True), [], "", [], id="suspended"),
        pytest.param(cron(age_s=30, deleting=True), [], "", [], id="on its way out"),
        pytest.param(
            cron(last=ago(60), active=("c-1",)), [RUNNING], f"c-{MINUTE}", [], id="beside another"
        ),
        pytest.param(
            cron(last=ago(60), active=("c-1",), concurrency_policy="Forbid"), [RUNNING], "", ["JobAlreadyActive"],
            id="not beside another",
        ),
        pytest.param(
            cron(last=ago(60), active=("c-1",), concurrency_policy="Forbid"), [run("c-1", COMPLETE)], f"c-{MINUTE}",
            ["SawCompletedJob"], id="when the other has ended",
        ),
        pytest.param(cron(last=ago(60), starting_deadline_seconds=10), [], f"c-{MINUTE}", [], id="in time"),
        pytest.param(cron(last=ago(60), starting_deadline_seconds=2), [], "", [], id="too late"),
        pytest.param(
            cron("*/30 * * * *", last=ago(1800)), [], f"c-{MINUTE}", [], id="every half hour"
        ),
        pytest.param(cron(last=ago(60 * (MISSED_MANY + 5))), [], f"c-{MINUTE}", ["TooManyMissedTimes"], id="missed many"),
        pytest.param(cron(last=ago(60 * MISSED_MANY)), [], f"c-{MINUTE}", [], id="missed not so many"),
        pytest.param(cron("61 * * * *", age_s=60), [], "", ["UnparseableSchedule"], id="no schedule"),
        pytest.param(cron("0 0 31 2 *", age_s=60), [], "", ["InvalidSchedule"], id="never due"),
        pytest.param(cron(age_s=60, time_zone="Mars/Olympus"), [], "", ["UnknownTimeZone"], id="no time zone"),
        pytest.param(cron("@hourly", last=ago(7200)), [], f"c-{MINUTE}", [], id="a word"),
        pytest.param(cron("0 13 * * *", last=ago(86400), time_zone="Europe/Berlin"), [], f"c-{MINUTE}", [], id="elsewhere"),
        pytest.param(cron("@every 90s", last=ago(180)), [], f"c-{MINUTE}", [], id="so often"),
    ],
)  # fmt: skip
def test_which_job_is_made(wish: CronJob, jobs: Sequence[Job], made: str, words: list[str]) -> None:
    assert due(wish, jobs, SOON) == made
    assert told(plan(wish, jobs, SOON)) == words


def test_a_start_that_was_missed_for_good_is_told_with_its_time() -> None:
    wish = cron("0 * * * *", last=ago(7200), starting_deadline_seconds=2)
    assert told(plan(wish, (), NOW + dt.timedelta(seconds=1))) == []
    late = plan(wish, (), NOW + dt.timedelta(seconds=2, microseconds=1))
    assert late.start is None
    waits = cron("0 * * * *", last=ago(3600))
    planned = plan(waits, (), NOW + dt.timedelta(minutes=5))
    assert planned.due == NOW, "without a deadline it is made up for"


def test_what_stands_in_the_way_is_replaced() -> None:
    wish = cron(last=ago(60), active=("c-1",), concurrency_policy="Replace")
    planned = plan(wish, [RUNNING], SOON)
    assert deleted(planned) == ["c-1"]
    assert planned.start is not None
    made = run(f"c-{MINUTE}")
    assert [ref.name for ref in started(wish, planned, made).active] == [f"c-{MINUTE}"]


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "wait_s"),
    [
        ("* * * * *", None, NOW, 60),
        ("*/5 * * * *", None, SOON, 297),
        ("0 0 * * *", None, NOW, 12 * 3600),
        ("0 0 * * *", "America/New_York", NOW, 17 * 3600),
        ("@every 1h30m", None, NOW, 5400),
    ],
)
def test_when_to_look_again(
    schedule: str, zone: str | None, now: dt.datetime, wait_s: float
) -> None:
    planned = plan(cron(schedule, last=NOW, time_zone=zone), (), now)
    assert planned.wait_s == pytest.approx(wait_s + AFTER_DUE_S)


def test_a_clock_that_jumped_costs_nothing() -> None:
    planned = plan(cron(last=ago(50 * 365 * 86400)), (), SOON)
    assert planned.due == NOW
    assert told(planned) == ["TooManyMissedTimes"]


def test_an_hour_that_a_zone_leaves_out_is_not_due() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    schedule = times("30 2 * * *", zone_of("Europe/Berlin"))
    eve = dt.datetime(2026, 3, 28, 12, tzinfo=berlin)
    assert schedule.following(eve) == dt.datetime(2026, 3, 30, 2, 30, tzinfo=berlin)


@pytest.mark.parametrize("text", ["@every", "@every soon", "@every 5", "* * * *", "@sometimes"])
def test_what_no_schedule_is(text: str) -> None:
    with pytest.raises(ScheduleError):
        times(text, dt.UTC)


def test_what_no_zone_is() -> None:
    for name in ("Mars/Olympus", "../etc/passwd", "/etc/localtime"):
        with pytest.raises(ZoneError):
            zone_of(name)


# ---------------------------------------------------------------------------------------------------------- its Jobs
def test_a_job_says_when_it_was_due() -> None:
    wish = cron(time_zone="Europe/Berlin")
    document = job_document(wish, NOW)
    metadata = document["metadata"]
    assert metadata["name"] == job_name(wish, NOW) == f"c-{MINUTE}"
    note = "batch.kubernetes.io/cronjob-scheduled-timestamp"
    assert metadata["annotations"] == {note: "2026-01-01T13:00:00+01:00"}
    assert job_document(cron(), NOW)["metadata"]["annotations"] == {note: "2026-01-01T12:00:00Z"}
    assert metadata["ownerReferences"][0]["kind"] == "CronJob"
    assert document["spec"] == {"template": {}}


@pytest.mark.parametrize(
    ("limits", "gone"),
    [
        ((3, 1), ["f1"]),
        ((1, 1), ["s3", "s2", "f1"]),
        ((0, 0), ["s3", "s2", "s1", "f1", "f2"]),
        ((None, None), []),
        ((None, 5), []),
    ],
)
def test_of_ended_jobs_the_oldest_go(
    limits: tuple[int | None, int | None], gone: list[str]
) -> None:
    jobs = [
        run("s1", COMPLETE, started_s=10), run("s2", COMPLETE, started_s=20), run("s3", COMPLETE, started_s=30),
        run("f1", FAILED, started_s=40), run("f2", FAILED, started_s=15), RUNNING,
    ]  # fmt: skip
    wish = cron(
        last=NOW,
        active=("c-1", "s3"),
        successful_jobs_history_limit=limits[0],
        failed_jobs_history_limit=limits[1],
    )
    planned = plan(wish, jobs, NOW)
    assert deleted(planned) == gone
    assert [ref.name for ref in planned.status.active] == ["c-1"]


def test_what_its_jobs_say_is_told() -> None:
    wish = cron(last=NOW, active=("done", "lost", "c-1"))
    jobs = [run("done", COMPLETE, ended_s=20), run("strange"), RUNNING]
    planned = plan(wish, jobs, NOW)
    assert told(planned) == ["SawCompletedJob", "UnexpectedJob", "MissingJob"]
    assert [ref.name for ref in planned.status.active] == ["c-1"]
    assert planned.status.last_successful_time == ago(20)
    older = plan(wish, [run("done", COMPLETE, ended_s=20), run("old", COMPLETE, ended_s=90)], NOW)
    assert older.status.last_successful_time == ago(20)


def test_the_status_is_written_only_when_it_is_new() -> None:
    wish = cron(last=ago(60), active=("c-1",))
    assert write(wish, wish.status) == []
    planned = plan(wish, [RUNNING], SOON)
    (action,) = write(wish, started(wish, planned, run(f"c-{MINUTE}")))
    assert action.resource_version == "10"
    assert action.status["lastScheduleTime"] == "2026-01-01T12:00:00Z"
    assert [ref["name"] for ref in action.status["active"]] == ["c-1", f"c-{MINUTE}"]


# ---------------------------------------------------------------------------------------------------------------- ttl
@pytest.mark.parametrize(
    ("ended", "ended_s", "ttl", "wanted"),
    [
        ("", 0.0, 5, None),
        (COMPLETE, 5.0, None, None),
        (COMPLETE, 4.0, 10, 6.0),
        (FAILED, 4.0, 10, 6.0),
        (COMPLETE, 10.0, 10, "deleted"),
        (FAILED, 0.0, 0, "deleted"),
    ],
)
def test_when_a_job_is_over(
    ended: str, ended_s: float, ttl: int | None, wanted: float | str | None
) -> None:
    actions = ttlafterfinished.plan(run("j", ended, ended_s=ended_s, ttl=ttl), NOW)
    if wanted is None:
        assert actions == []
    elif wanted == "deleted":
        (action,) = actions
        assert isinstance(action, Delete)
        assert (action.uid, action.resource_version) == ("j-uid", "7")
        assert action.propagation_policy == "Foreground"
    else:
        assert actions == [RequeueAfter(float(wanted))]

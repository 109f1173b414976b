"""Cron schedules: fields, days, time zones with their lost and doubled hours."""

import datetime as dt
import zoneinfo

import pytest

from machinery.kit import cron

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text + ":00+00:00")


@pytest.mark.parametrize(
    ("schedule", "after", "wanted"),
    [
        ("* * * * *", "2026-01-01T00:00", "2026-01-01T00:01"),
        ("*/15 * * * *", "2026-01-01T00:00", "2026-01-01T00:15"),
        ("7/20 * * * *", "2026-01-01T00:47", "2026-01-01T01:07"),
        ("30 6 * * *", "2026-01-01T06:30", "2026-01-02T06:30"),
        ("0 0 31 * *", "2026-01-31T00:00", "2026-03-31T00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00", "2104-02-29T00:00"),
        ("0 9 * * 1-5", "2026-01-02T10:00", "2026-01-05T09:00"),
        ("0 9 * * MON,fri", "2026-01-02T10:00", "2026-01-05T09:00"),
        ("0 9 * * 7", "2026-01-02T10:00", "2026-01-04T09:00"),
        ("0 9 * * 0", "2026-01-02T10:00", "2026-01-04T09:00"),
        ("0 0 13 * 5", "2026-01-10T00:00", "2026-01-13T00:00"),
        ("0 0 13 * 5", "2026-01-13T00:00", "2026-01-16T00:00"),
        ("0 0 ? * 5", "2026-01-10T00:00", "2026-01-16T00:00"),
        ("0 0 1 jan-feb,DEC *", "2026-02-02T00:00", "2026-12-01T00:00"),
        ("@hourly", "2026-01-01T00:01", "2026-01-01T01:00"),
        ("@yearly", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("0 0 30 2 *", "2026-01-01T00:00", None),
    ],
)
def test_when_it_is_due_next(schedule: str, after: str, wanted: str | None) -> None:
    found = cron.parse(schedule).following(at(after), dt.UTC)
    assert found == (None if wanted is None else at(wanted))


@pytest.mark.parametrize(
    ("schedule", "until", "wanted"),
    [
        ("*/15 * * * *", "2026-01-01T00:15", "2026-01-01T00:15"),
        ("*/15 * * * *", "2026-01-01T00:14", "2026-01-01T00:00"),
        ("0 0 1 1 *", "2026-12-31T23:59", "2026-01-01T00:00"),
        ("0 0 29 2 *", "2027-01-01T00:00", "2024-02-29T00:00"),
        ("0 0 31 2 *", "2027-01-01T00:00", None),
    ],
)
def test_when_it_was_due_last(schedule: str, until: str, wanted: str | None) -> None:
    found = cron.parse(schedule).preceding(at(until), dt.UTC)
    assert found == (None if wanted is None else at(wanted))


@pytest.mark.parametrize(
    ("why", "schedule", "after", "wanted"),
    [
        ("winter", "0 8 * * *", "2026-01-01T00:00", "2026-01-01T07:00"),
        ("summer", "0 8 * * *", "2026-07-01T00:00", "2026-07-01T06:00"),
        ("the lost hour is not due", "30 2 * * *", "2026-03-29T00:00", "2026-03-30T00:30"),
        ("the doubled one twice: first", "30 2 * * *", "2026-10-24T12:00", "2026-10-25T00:30"),
        ("and again", "30 2 * * *", "2026-10-25T00:30", "2026-10-25T01:30"),
        ("every hour is every hour", "0 * * * *", "2026-10-25T00:00", "2026-10-25T01:00"),
        ("the zone's day counts", "0 0 1 * *", "2026-01-15T00:00", "2026-01-31T23:00"),
    ],
)
def test_time_zones(why: str, schedule: str, after: str, wanted: str) -> None:
    assert cron.parse(schedule).following(at(after), BERLIN) == at(wanted), why


@pytest.mark.parametrize(
    "text",
    [
        "", "bad", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
        "* * * * 8", "*/0 * * * *", "*/x * * * *", "5-1 * * * *", "1-2-3 * * * *", ", * * * *", "-1 * * * *",
        "* * * foo *", "@often", "TZ=UTC 0 * * * *", "² * * * *", "+1 * * * *",
    ],
)  # fmt: skip
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        _ = cron.parse(text)

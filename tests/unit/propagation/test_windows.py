"""Maintenance windows: when they are open, over midnight, weeks and changes of clocks."""

import datetime as dt

import pytest

from federation.controllers.failback import opens_s
from federation.domains.settings import Settings
from federation.propagation import windows
from machinery.api.fleet.resilience import Failback, MaintenanceWindow

NIGHT = MaintenanceWindow("22:00", "04:00")
NOON = MaintenanceWindow("12:00", "13:00")
SUNDAY = MaintenanceWindow("01:00", "05:00", ("Sun",))
SATURDAY_NIGHT = MaintenanceWindow("22:00", "04:00", ("Sat",))
WHOLE_DAY = MaintenanceWindow("00:00", "00:00")
BERLIN = "Europe/Berlin"
HOUR = 3600.0


@pytest.mark.parametrize(
    ("given", "zone", "now", "wait_h"),
    [
        ((), "", "2026-01-01T12:00", 0),
        ((NOON,), "", "2026-01-01T12:30", 0),
        ((NOON,), "", "2026-01-01T12:00", 0),
        ((NOON,), "", "2026-01-01T13:00", 23),
        ((NOON,), "", "2026-01-01T11:00", 1),
        ((NIGHT,), "", "2026-01-01T23:00", 0),
        ((NIGHT,), "", "2026-01-02T03:59", 0),
        ((NIGHT,), "", "2026-01-02T04:00", 18),
        ((NOON, NIGHT), "", "2026-01-01T14:00", 8),
        ((WHOLE_DAY,), "", "2026-01-01T17:00", 0),
        ((SUNDAY,), "", "2026-01-04T02:00", 0),
        ((SUNDAY,), "", "2026-01-04T05:00", 7 * 24 - 4),
        ((SUNDAY,), "", "2026-01-05T01:00", 6 * 24),
        ((SATURDAY_NIGHT,), "", "2026-01-04T03:00", 0),
        ((SATURDAY_NIGHT,), "", "2026-01-03T03:00", 19),
        ((NOON,), BERLIN, "2026-01-01T11:30", 0),
        ((NOON,), BERLIN, "2026-07-01T10:30", 0),
        ((NOON,), BERLIN, "2026-07-01T11:30", 22.5),
        ((NOON,), BERLIN, "2026-03-28T12:00", 22),
        ((NOON,), BERLIN, "2026-10-24T11:00", 24),
    ],
)
def test_opening(given: tuple[MaintenanceWindow, ...], zone: str, now: str, wait_h: float) -> None:
    moment = dt.datetime.fromisoformat(now).replace(tzinfo=dt.UTC)
    assert windows.opens_s(given, zone, moment) == wait_h * HOUR


def test_an_unknown_zone_is_told() -> None:
    with pytest.raises(ValueError, match="unknown time zone 'Mars/Olympus'"):
        windows.opens_s((NOON,), "Mars/Olympus", dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    told = list(windows.faults(Failback(time_zone="Mars/Olympus"), "spec.failback"))
    assert [field for field, _, _ in told] == ["spec.failback.timeZone"]
    assert list(windows.faults(Failback(time_zone=BERLIN), "spec.failback")) == []


@pytest.mark.parametrize(
    ("own", "fleet", "wait_h"),
    [
        (Failback(), Settings(), 0),
        (Failback(), Settings(failback_windows=(NIGHT,)), 10),
        (Failback(windows=(NOON,)), Settings(failback_windows=(NIGHT,)), 0),
        (Failback(windows=(NOON,)), Settings(failback_time_zone="Asia/Tokyo"), 15),
        (Failback(windows=(NOON,), time_zone="UTC"), Settings(failback_time_zone="Asia/Tokyo"), 0),
    ],
)
def test_a_policys_windows_stand_in_place_of_the_federations(
    own: Failback, fleet: Settings, wait_h: float
) -> None:
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    assert opens_s(own, fleet, noon) == wait_h * HOUR

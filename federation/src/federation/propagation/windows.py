"""Maintenance windows: when workloads may begin to go back. Pure, but for the tables of time zones.

A window is given in local time and opens on the days that it names (on every day, if it names none); one that ends before it
begins, or when it begins, ends on the next day. It is open from its first second to before its last one. In the hour that a
change of clocks leaves out or repeats, the zone's own rule says which second is meant.
"""

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence

from machinery.api.fleet.resilience import Failback, MaintenanceWindow

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
AHEAD = 9
"""Days to look ahead: a window opens once a week at least, and the clocks may change."""


def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """The zone; UTC where nothing is said. Raises ValueError for one that nobody knows."""
    try:
        return zoneinfo.ZoneInfo(name or "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name!r}") from error


def opens_s(windows: Sequence[MaintenanceWindow], zone: str, now: dt.datetime) -> float:
    """Seconds until a window is open, 0 while one is, or where there are none. Raises ValueError for an unknown zone."""
    if not windows:
        return 0.0
    waits = [
        max(0.0, (begin - now).total_seconds())
        for window in windows
        for begin, end in _times(window, zone_of(zone), now)
        if end > now
    ]
    return min(waits, default=float("inf"))


def _times(
    window: MaintenanceWindow, zone: zoneinfo.ZoneInfo, now: dt.datetime
) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """When it opens and closes, in UTC, from yesterday on."""
    today = now.astimezone(zone).date()
    first, last = _clock(window.start), _clock(window.end)
    for offset in range(-1, AHEAD):
        day = today + dt.timedelta(days=offset)
        if window.days and DAYS[day.weekday()] not in window.days:
            continue
        until = day if last > first else day + dt.timedelta(days=1)
        begin = dt.datetime.combine(day, first, zone).astimezone(dt.UTC)
        yield begin, dt.datetime.combine(until, last, zone).astimezone(dt.UTC)


def _clock(text: str) -> dt.time:
    hours, _, minutes = text.partition(":")
    return dt.time(int(hours), int(minutes))


def faults(failback: Failback, where: str) -> Iterable[tuple[str, object, str]]:
    """What the schema cannot see: (field, value, why)."""
    try:
        _ = zone_of(failback.time_zone)
    except ValueError as error:
        yield f"{where}.timeZone", failback.time_zone, str(error)

"""When a CronJob is due: by its schedule, in its time zone; or every so often. Pure."""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Final, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from machinery.kit import cron

EVERY: Final = "@every "
_UNITS: Final = {
    "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9,
}  # fmt: skip
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


class ScheduleError(ValueError):
    """A schedule that is never due, or that nobody can read."""


class ZoneError(ValueError):
    """A time zone that is not known here."""


class Times(Protocol):
    """When something is due."""

    def following(self, after: dt.datetime) -> dt.datetime:
        """The first moment after `after`, in UTC. Raises ScheduleError: there is none."""


@dataclass(frozen=True, slots=True)
class ByClock:
    """Whenever a clock on the wall of the zone shows it."""

    schedule: cron.Schedule
    zone: dt.tzinfo

    def following(self, after: dt.datetime) -> dt.datetime:
        found = self.schedule.following(after, self.zone)
        if found is None:
            raise ScheduleError("it is never due")
        return found


@dataclass(frozen=True, slots=True)
class EverySoOften:
    """So many seconds after the last time."""

    period_s: int

    def following(self, after: dt.datetime) -> dt.datetime:
        return after.replace(microsecond=0) + dt.timedelta(seconds=self.period_s)


def zone_of(name: str | None) -> dt.tzinfo:
    """The time zone of that name; without one UTC, whatever the machine's clock shows. Raises ZoneError."""
    if not name:
        return dt.UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ZoneError(f"unknown time zone {name}") from None


def times(schedule: str, zone: dt.tzinfo) -> Times:
    """Raises ScheduleError."""
    if schedule.startswith(EVERY):
        return EverySoOften(max(1, int(_seconds(schedule.removeprefix(EVERY).strip()))))
    try:
        return ByClock(cron.parse(schedule), zone)
    except ValueError as error:
        raise ScheduleError(str(error)) from None


def _seconds(text: str) -> float:
    """A duration such as `1h30m`."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ScheduleError(f"{text!r} is no duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)

"""Cron schedules: when one is due next, and when it was due last. Pure, in any time zone.

Five fields (minute, hour, day of month, month, day of week), each `*` or `?`, numbers, names, ranges, lists and steps; or a word
such as `@daily`. Where both days are restricted, one of them is enough, as cron has it. A moment is due when a clock on the
wall of that time zone shows it: an hour that a zone leaves out is not due, and one that it has twice is due twice.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

WORDS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")  # fmt: skip
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAYS_MAX: Final = 366 * 8 + 2
"""No schedule that is ever due waits longer: 29 February, over a century without a leap day."""
_DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Field:
    low: int
    high: int
    names: tuple[str, ...] = ()

    def values(self, text: str) -> frozenset[int]:
        """What a field allows. Raises ValueError."""
        return frozenset(value for item in text.split(",") for value in self._item(item))

    def _item(self, item: str) -> range:
        span, slash, step = item.partition("/")
        if slash and not (step.isascii() and step.isdigit() and int(step)):
            raise ValueError(f"{item!r}: a step is a positive number")
        if span in ("*", "?"):
            first, last = self.low, self.high
        else:
            begin, dash, end = span.partition("-")
            first = self._number(begin)
            last = self._number(end) if dash else self.high if slash else first
        if not self.low <= first <= last <= self.high:
            raise ValueError(f"{item!r} is not between {self.low} and {self.high}")
        return range(first, last + 1, int(step) if slash else 1)

    def _number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.names.index(text.lower()) + (1 if self.low == 1 else 0)
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"{text!r} is no number")
        return int(text)


_FIELDS: Final = (
    _Field(0, 59),
    _Field(0, 23),
    _Field(1, 31),
    _Field(1, 12, _MONTHS),
    _Field(0, 7, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The minutes, hours and so on that are due; `weekdays` from 0, Sunday."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool
    """Both days are restricted: one of them is enough."""

    def following(self, after: dt.datetime, zone: dt.tzinfo) -> dt.datetime | None:
        """The first moment after `after`, in UTC; None where there is none."""
        after = after.astimezone(dt.UTC)
        day = after.astimezone(zone).date()
        for number in range(_DAYS_MAX):
            if (found := self._first(day + _DAY * number, after, zone)) is not None:
                return found
        return None

    def _first(self, day: dt.date, after: dt.datetime, zone: dt.tzinfo) -> dt.datetime | None:
        """The first moment of one day of the zone after `after`. Hours that lie before it, or after what was found, cost nothing."""
        if not self._due(day):
            return None
        first: dt.datetime | None = None
        for hour in sorted(self.hours):
            begin = dt.datetime.combine(day, dt.time(hour))
            if begin.replace(minute=59, tzinfo=zone, fold=1) <= after:
                continue
            if first is not None and begin.replace(tzinfo=zone) > first:
                break
            for minute in self.minutes:
                for moment in _instants(begin.replace(minute=minute), zone):
                    if moment > after and (first is None or moment < first):
                        first = moment
        return first

    def preceding(self, until: dt.datetime, zone: dt.tzinfo) -> dt.datetime | None:
        """The last moment that is not after `until`, in UTC; None where there is none."""
        day = until.astimezone(zone).date()
        for number in range(_DAYS_MAX):
            if found := [t for t in self._moments(day - _DAY * number, zone) if t <= until]:
                return max(found)
        return None

    def _due(self, day: dt.date) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return of_month or of_week if self.either else of_month and of_week

    def _moments(self, day: dt.date, zone: dt.tzinfo) -> Iterator[dt.datetime]:
        """All of one day of the zone, in UTC."""
        if not self._due(day):
            return
        for hour in self.hours:
            for minute in self.minutes:
                wall = dt.datetime.combine(day, dt.time(hour, minute))
                yield from _instants(wall, zone)


def _instants(wall: dt.datetime, zone: dt.tzinfo) -> set[dt.datetime]:
    """When the zone's clocks show `wall`: once, twice, or never."""
    both = (wall.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC) for fold in (0, 1))
    return {t for t in both if t.astimezone(zone).replace(tzinfo=None) == wall}


def parse(text: str) -> Schedule:
    """Raises ValueError with what is wrong."""
    parts = WORDS.get(text, text).split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"five fields are wanted, not {len(parts)}")
    minutes, hours, days, months, weekdays = (
        field.values(part) for field, part in zip(_FIELDS, parts, strict=True)
    )
    either = not any(part.startswith(("*", "?")) for part in (parts[2], parts[4]))
    week = frozenset(day % 7 for day in weekdays)
    return Schedule(minutes, hours, days, months, week, either)

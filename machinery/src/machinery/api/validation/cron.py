"""Cron schedules as CronJobs write them: five fields, or a word such as `@daily`; refusals in the words of upstream's parser."""

from collections.abc import Mapping
from typing import Final

_MONTHS: Final = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
_DAYS: Final = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: Final[tuple[tuple[int, int, Mapping[str, int]], ...]] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, {name: index + 1 for index, name in enumerate(_MONTHS)}),
    (0, 6, {name: index for index, name in enumerate(_DAYS)}),
)
_WORDS: Final = frozenset(
    ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
)


class ScheduleError(ValueError):
    """A schedule that cannot be read."""


def check(schedule: str) -> None:
    """Raises ScheduleError with what is wrong."""
    text = schedule
    if text.startswith(("TZ=", "CRON_TZ=")):
        text = text.partition(" ")[2].strip()
    if not text:
        raise ScheduleError("empty spec string")
    if text.startswith("@"):
        _word(text)
        return
    parts = text.split()
    if len(parts) != len(_FIELDS):
        shown = " ".join(parts)
        raise ScheduleError(f"expected exactly 5 fields, found {len(parts)}: [{shown}]")
    for part, (low, high, words) in zip(parts, _FIELDS, strict=True):
        for item in part.replace(",", " ").split():
            _item(item, low, high, words)


def _word(text: str) -> None:
    if text in _WORDS:
        return
    if text.startswith("@every "):
        if not any(letter.isdigit() for letter in text):
            raise ScheduleError(f"failed to parse duration {text}")
        return
    raise ScheduleError(f"unrecognized descriptor: {text}")


def _item(item: str, low: int, high: int, words: Mapping[str, int]) -> None:
    """One of `*`, `a`, `a-b`, each with `/step`."""
    span, *steps = item.split("/")
    ends = span.split("-")
    if len(ends) > 2:
        raise ScheduleError(f"too many hyphens: {item}")
    if ends[0] in ("*", "?"):
        first, last = low, high
    else:
        first = _number(ends[0], words)
        last = _number(ends[1], words) if len(ends) == 2 else first
    if len(steps) > 1:
        raise ScheduleError(f"too many slashes: {item}")
    if steps:
        step = _number(steps[0], {})
        if len(ends) == 1:
            last = high
    else:
        step = 1
    _in_range(item, first, last, low, high)
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {item}")


def _in_range(item: str, first: int, last: int, low: int, high: int) -> None:
    if first < low:
        raise ScheduleError(f"beginning of range ({first}) below minimum ({low}): {item}")
    if last > high:
        raise ScheduleError(f"end of range ({last}) above maximum ({high}): {item}")
    if first > last:
        raise ScheduleError(f"beginning of range ({first}) beyond end of range ({last}): {item}")


def _number(text: str, words: Mapping[str, int]) -> int:
    if text.lower() in words:
        return words[text.lower()]
    if not text.lstrip("+-").isdecimal():
        raise ScheduleError(
            f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax'
        )
    number = int(text)
    if number < 0:
        raise ScheduleError(f"negative number ({number}) not allowed: {text}")
    return number

"""Durations as Go writes them (`1h30m`, `45s`, `500ms`). Pure."""

import re

_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
NONE = "None"


def seconds(text: str) -> float:
    """Raises ValueError with the words of Go's parser."""
    if text == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            break
        total += float(part[1]) * _SECONDS[part[2]]
        at = part.end()
    if not text or at < len(text):
        raise ValueError(f'time: invalid duration "{text}"')
    return total


def limit(text: str) -> float | None:
    """A deadline in seconds; None where there is none. Raises ValueError."""
    return None if text == NONE else seconds(text)

"""Numbers that may be percentages (`3`, `25%`). Pure."""

import re

_PERCENT = re.compile(r"[0-9]+%")


def valid(value: object) -> bool:
    """A whole number from 0 on, or a percentage."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return value >= 0
    return isinstance(value, str) and _PERCENT.fullmatch(value) is not None


def rounded_down(value: int | str, whole: int) -> int:
    """How many that are of `whole`."""
    return value if isinstance(value, int) else whole * int(value.rstrip("%")) // 100


def rounded_up(value: int | str, whole: int) -> int:
    """The same, as PodDisruptionBudgets round."""
    return value if isinstance(value, int) else -(-whole * int(value.rstrip("%")) // 100)

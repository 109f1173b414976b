"""Paths of fields as messages name them: `spec.containers[0].name`. Pure.

A path is made for each value that is looked at, and a client chooses the keys: without a bound, one key of a megabyte above a
hundred thousand values is a hundred gigabytes of copying. Beyond the bound a path grows no more.
"""

from typing import Final

PATH_MAX: Final = 2048
"""Letters, more or less. The longest of built kinds has some two hundred."""


def below(path: str, key: str) -> str:
    """The path of a field."""
    if len(path) > PATH_MAX:
        return path
    shown = key if len(key) <= PATH_MAX else key[:PATH_MAX] + "..."
    return f"{path}.{shown}" if path else shown


def item(path: str, index: int | str) -> str:
    """The path of a list's item, by its place or by its keys."""
    if len(path) > PATH_MAX:
        return path
    return f"{path}[{index if isinstance(index, int) else index[:PATH_MAX]}]"

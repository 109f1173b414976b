"""Annotations of our own Node that parts of the node want to have: said by them, written by the registration."""

from collections.abc import Callable, Mapping


class Annotations:
    """What is wanted, by name; None: not there. Names that nobody spoke of are left alone."""

    def __init__(self) -> None:
        self._wanted: dict[str, str | None] = {}
        self._told: list[Callable[[], None]] = []

    def on_change(self, told: Callable[[], None]) -> None:
        """Call this whenever something else is wanted."""
        self._told.append(told)

    def put(self, name: str, value: str | None) -> None:
        """Want this value from now on."""
        if name in self._wanted and self._wanted[name] == value:
            return
        self._wanted[name] = value
        for told in self._told:
            told()

    def missing(self, held: Mapping[str, str]) -> dict[str, str | None]:
        """What has to be written over `held`, as a merge patch has it."""
        return {name: value for name, value in self._wanted.items() if held.get(name) != value}

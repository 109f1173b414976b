"""What counts as a controller, for the tests of its shape and of the one-writer table.

A controller room (`CONTROLLER_ROOMS`) holds four things: `__init__` (no code), `registry` (names all), helpers (listed in
HELPERS: they wire nothing up and plan nothing), and controllers. A controller is a module, or a package whose acting half
is `controller.py` and whose `plan` is in any one of its modules.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.tidy import tree

HELPERS: Mapping[str, frozenset[str]] = {
    "machinery.controllers": frozenset({"events", "mirrors"}),
    "federation.controllers": frozenset({"reservations"}),
    "cluster_agent.control.controllers": frozenset(
        {
            "api_errors",
            "batch",
            "claims",
            "conditions",
            "histories",
            "history",
            "imports",
            "ownership",
            "pods",
            "selectors",
            "sets",
            "workloads",
        }
    ),
}
NOT_CONTROLLERS = frozenset({"", "registry"})


@dataclass(frozen=True, slots=True)
class Found:
    """One child of a controller room."""

    room: str
    name: str
    files: tuple[str, ...]

    @property
    def plans(self) -> bool:
        return any("plan" in tree.defined(file) for file in self.files)

    @property
    def wires(self) -> bool:
        acting = [file for file in self.files if len(self.files) == 1 or "controller.py" in file]
        return any("setup" in tree.defined(file) for file in acting)


def children() -> list[Found]:
    """Every module and package directly in a controller room."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for file in tree.sources():
        name = tree.module(file)
        for room in tree.CONTROLLER_ROOMS:
            if name.startswith(room + "."):
                child = name.removeprefix(room + ".").partition(".")[0]
                grouped.setdefault((room, child), []).append(file)
    return [Found(room, name, tuple(files)) for (room, name), files in sorted(grouped.items())]


def controllers() -> list[Found]:
    """Those that must have the shape of a controller."""
    return [
        child
        for child in children()
        if child.name not in NOT_CONTROLLERS and child.name not in HELPERS[child.room]
    ]


def helpers() -> list[Found]:
    """Those that must not."""
    return [child for child in children() if child.name in HELPERS[child.room]]

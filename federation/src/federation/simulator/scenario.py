"""What happens in a history: users' operations and faults, one step after another, all from the seed. Pure.

The generator keeps a book of what should exist, so that most steps make sense when their time comes; a step that does not
(its object is gone, the server is down) is refused by the server as it would be for a real user, and the history goes on.
Each chapter ends with a quiet point: everything is healed, and everything must come right.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from federation.simulator.workload import BROKEN_IMAGE

CHAPTERS = 2
STEPS = 32
"""Steps of a chapter, the quiet point not counted."""
IMAGES = ("whoami:1", "whoami:2", "whoami:3")
REPLICAS_MAX = 12
NAMESPACES_MAX, DEPLOYMENTS_MAX, CONFIGS_MAX = 3, 6, 4
STRATEGIES = ("Duplicated", "Aggregated", "Static", "Pinned")
PODS = (3, 18)


@dataclass(frozen=True, slots=True)
class Step:
    """`wait` seconds, then `verb`. `where` is a namespace or a member; the rest is what the verb needs."""

    wait: float
    verb: str
    where: str = ""
    name: str = ""
    value: str | int | float = ""
    extra: str = ""

    def __str__(self) -> str:
        parts = (self.verb, self.where, self.name, str(self.value), self.extra)
        return " ".join(part for part in parts if part)


@dataclass(slots=True)
class _Book:
    """What the generator believes to exist."""

    namespaces: list[str] = field(default_factory=list)
    deployments: list[tuple[str, str]] = field(default_factory=list)
    configs: list[tuple[str, str]] = field(default_factory=list)
    policies: list[tuple[str, str]] = field(default_factory=list)
    faulty: dict[str, str] = field(default_factory=dict)
    """Member -> the verb that ends its fault."""


class Scenario:
    """Steps for one seed."""

    def __init__(self, seed: int, members: Sequence[str]) -> None:
        self._random = random.Random(f"scenario-{seed}")  # noqa: S311 - the seed decides
        self._members = list(members)
        self._book = _Book()
        self._verbs: tuple[tuple[int, Callable[[], Step | None]], ...] = (
            (9, self._create_deployment),
            (10, self._scale),
            (6, self._image),
            (2, self._label),
            (3, self._delete_deployment),
            (3, self._create_config),
            (4, self._change_config),
            (2, self._delete_config),
            (2, self._create_namespace),
            (1, self._delete_namespace),
            (12, self._fault),
            (8, self._end_fault),
            (2, self._restart),
            (2, self._resize),
            (3, self._create_policy),
            (2, self._delete_policy),
        )

    def steps(self, chapters: int = CHAPTERS, steps: int = STEPS) -> list[Step]:
        """The whole history."""
        history: list[Step] = []
        for _ in range(chapters):
            history += [self._next() for _ in range(steps)]
            history.append(Step(0.0, "quiet"))
            self._book.faulty.clear()
        return history

    def _next(self) -> Step:
        if not self._book.namespaces:
            step = self._create_namespace()
            assert step is not None, "the first namespace can always be made"
            return step
        weights = [weight for weight, _ in self._verbs]
        while True:
            (_, make) = self._random.choices(self._verbs, weights)[0]
            step = make()
            if step is not None:
                return step

    def _wait(self) -> float:
        """Mostly a moment, at times at once, at times long enough for a verdict."""
        kind = self._random.random()
        if kind < 0.2:
            return 0.0
        if kind < 0.9:
            return round(self._random.expovariate(1 / 1.2), 3)
        return round(self._random.uniform(9.0, 16.0), 3)

    def _step(self, verb: str, where: str = "", name: str = "", value: str | int | float = "", extra: str = "") -> Step:  # noqa: PLR0913, E501 # fmt: skip
        return Step(self._wait(), verb, where, name, value, extra)

    # ------------------------------------------------------------------------------------------------- users
    def _some_image(self) -> str:
        return BROKEN_IMAGE if self._random.random() < 0.1 else self._random.choice(IMAGES)

    def _replicas(self) -> int:
        return self._random.randint(0, REPLICAS_MAX)

    def _create_namespace(self) -> Step | None:
        if len(self._book.namespaces) >= NAMESPACES_MAX:
            return None
        free = [f"demo-{i}" for i in range(5) if f"demo-{i}" not in self._book.namespaces]
        name = self._random.choice(free)
        self._book.namespaces.append(name)
        return self._step("create-namespace", name)

    def _delete_namespace(self) -> Step | None:
        if len(self._book.namespaces) < 2:
            return None
        name = self._random.choice(self._book.namespaces)
        book = self._book
        book.namespaces.remove(name)
        book.deployments = [key for key in book.deployments if key[0] != name]
        book.configs = [key for key in book.configs if key[0] != name]
        book.policies = [key for key in book.policies if key[0] != name]
        return self._step("delete-namespace", name)

    def _create_deployment(self) -> Step | None:
        if len(self._book.deployments) >= DEPLOYMENTS_MAX:
            return None
        where = self._random.choice(self._book.namespaces)
        name = f"web-{self._random.randint(0, 4)}"
        if (where, name) in self._book.deployments:
            return None
        self._book.deployments.append((where, name))
        count = str(self._replicas())
        config = f"settings-{self._random.randint(0, 2)}" if self._random.random() < 0.6 else ""
        return self._step("create-deployment", where, name, f"{count} {self._some_image()}", config)

    def _of(self, keys: list[tuple[str, str]]) -> tuple[str, str] | None:
        return self._random.choice(keys) if keys else None

    def _scale(self) -> Step | None:
        key = self._of(self._book.deployments)
        return self._step("scale", *key, self._replicas()) if key else None

    def _image(self) -> Step | None:
        key = self._of(self._book.deployments)
        return self._step("image", *key, self._some_image()) if key else None

    def _label(self) -> Step | None:
        key = self._of(self._book.deployments)
        return self._step("label", *key, f"tier-{self._random.randint(0, 9)}") if key else None

    def _delete_deployment(self) -> Step | None:
        key = self._of(self._book.deployments)
        if key is None:
            return None
        self._book.deployments.remove(key)
        policy = "Foreground" if self._random.random() < 0.2 else "Background"
        return self._step("delete-deployment", *key, policy)

    def _create_config(self) -> Step | None:
        where = self._random.choice(self._book.namespaces)
        name = f"settings-{self._random.randint(0, 2)}"
        if (where, name) in self._book.configs or len(self._book.configs) >= CONFIGS_MAX:
            return None
        self._book.configs.append((where, name))
        return self._step("create-config", where, name, self._random.randint(0, 99))

    def _change_config(self) -> Step | None:
        key = self._of(self._book.configs)
        return self._step("change-config", *key, self._random.randint(0, 99)) if key else None

    def _delete_config(self) -> Step | None:
        key = self._of(self._book.configs)
        if key is None:
            return None
        self._book.configs.remove(key)
        return self._step("delete-config", *key)

    def _create_policy(self) -> Step | None:
        """A policy of the namespace's own for one Deployment, by its name."""
        key = self._of(self._book.deployments)
        if key is None or key in self._book.policies:
            return None
        self._book.policies.append(key)
        return self._step("create-policy", *key, self._random.choice(STRATEGIES))

    def _delete_policy(self) -> Step | None:
        key = self._of(self._book.policies)
        if key is None:
            return None
        self._book.policies.remove(key)
        return self._step("delete-policy", *key)

    # ------------------------------------------------------------------------------------------------- faults
    def _fault(self) -> Step | None:
        well = [name for name in self._members if name not in self._book.faulty]
        if not well:
            return None
        member = self._random.choice(well)
        verb, end = self._random.choice(
            (("crash", "return"), ("power-loss", "return"), ("cut", "heal"), ("slow", "heal"))
        )
        self._book.faulty[member] = end
        return self._step(verb, member)

    def _end_fault(self) -> Step | None:
        ill = sorted(self._book.faulty)
        if not ill:
            return None
        member = self._random.choice(ill)
        return self._step(self._book.faulty.pop(member), member)

    def _restart(self) -> Step:
        return self._step("restart-server", value=round(self._random.uniform(0.0, 6.0), 2))

    def _resize(self) -> Step:
        member = self._random.choice(self._members)
        return self._step("resize", member, value=self._random.randint(*PODS))

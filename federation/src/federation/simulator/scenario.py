"""What happens in a history: users' operations and faults, one step after another, all from the seed. Pure.

The generator keeps a book of what should exist, so that most steps make sense when their time comes; a step that does not
(its object is gone, the server is down) is refused by the server as it would be for a real user, and the history goes on.
Each chapter ends with a quiet point: everything is healed, and everything must come right.

Every seed has every kind of fault: a chapter draws them like cards from a shuffled deck, so that rare ones are not left to
luck. An event is a user's operation, a fault, or the end of one; time that only passes is none.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from federation.simulator.kinds import FIGURE_OF, PREFERS
from federation.simulator.workload import BROKEN_IMAGE

CHAPTERS = 2
EVENTS = 102
"""Events of a chapter, at least."""
IMAGES = ("whoami:1", "whoami:2", "whoami:3")
REPLICAS_MAX = 9
NAMESPACES_MAX, DEPLOYMENTS_MAX, ONES_MAX, CONFIGS_MAX = 3, 3, 3, 3
GADGETS_MAX, ROLES_MAX = 2, 2
STRATEGIES = ("Duplicated", "Aggregated", "Static", "Pinned", "Tolerant", "Tolerant", "Few")
VERBS = ("get", "list", "watch")
"""What a ClusterRole allows."""
PRICES = ("1", "2", "4", "8")
"""What a member costs or emits: far enough apart that no rounding makes two alike."""
ODD_PRICES = ("", "dear")
"""It is not told, or nobody can read it."""
REJOINS = ("keepOriginal", "bestScore", "longestRunning")
ONE = "one-"
"""Names of workloads of one replica in mode consistency begin so."""
PODS = (3, 18)
SWITCHES = ("Frozen", "DryRun")
SKEW_S = 900
"""How wrong a member's wall clock may be."""
FLAP_S = (0.3, 8.0)
"""Shorter than the failure clock's 10 s."""
LONG_S = (29.0, 36.0)
"""Long enough for grants to end and for replicas of mode consistency to be moved (`resilience.fence_s`)."""

ENDS: Mapping[str, str] = {
    "crash": "return",
    "power-loss": "return",
    "cut": "heal",
    "mute": "heal",
    "deafen": "heal",
    "slow": "heal",
    "cordon": "uncordon",
    "drain": "uncordon",
}
"""What one member suffers, and what ends it."""
DECK: Sequence[str] = (
    *("crash", "cut", "mute") * 3,
    *("power-loss", "slow", "skew", "resize", "deafen") * 2,
    *("flap",) * 8,
    *("kill-server",) * 7,
    *("drain",) * 4,
    "restart-server", "mass-loss", "zone-loss", "outage", "cordon", "switch",
)  # fmt: skip
"""Kinds of faults, each as often as it is in here."""
PATHS: Sequence[str] = ("path-cut",) * 4
"""More of them, where members probe one another."""
PATH_S = (2.0, 25.0)
COUNTED_MAX = 5
"""What befalls more members at one moment counts as so many events: one loss of a big fleet shall not be a whole chapter."""
TOO = "too"
"""`extra` of the others."""
END_SHARE = 10
"""Of those that suffer, a tenth recovers at once; in a small fleet one does."""
NOT_EVENTS = frozenset({"quiet", "pass"})
FAULTS = frozenset({*DECK, *PATHS, *ENDS, *ENDS.values()})


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

    @property
    def events(self) -> int:
        """How many events it is: what ends by itself begins and ends."""
        if self.verb in NOT_EVENTS or self.extra == TOO:
            return 0
        return 2 if self.verb in ("flap", "path-cut") else 1

    @property
    def faults(self) -> int:
        """How many of them are faults, or the ends of such."""
        return self.events if self.verb in FAULTS else 0


@dataclass(slots=True)
class _Book:
    """What the generator believes to exist."""

    namespaces: list[str] = field(default_factory=list)
    deployments: list[tuple[str, str]] = field(default_factory=list)
    configs: list[tuple[str, str]] = field(default_factory=list)
    policies: list[tuple[str, str]] = field(default_factory=list)
    gadgets: list[tuple[str, str]] = field(default_factory=list)
    roles: list[tuple[str, str]] = field(default_factory=list)
    faulty: dict[str, str] = field(default_factory=dict)
    """Member -> the verb that ends its fault; `fleet` -> `switch`."""


class Scenario:
    """Steps for one seed. `zones`: zone -> members; `paths`: there is a network between members; `custom`: users bring a kind
    of their own; `wide`: they write objects of a cluster; `spared`: faults that do not happen."""

    def __init__(
        self,
        seed: int,
        zones: Mapping[str, Sequence[str]],
        *,
        paths: bool = False,
        custom: bool = False,
        wide: bool = False,
        spared: Collection[str] = (),
    ) -> None:
        self._random = random.Random(f"scenario-{seed}")  # noqa: S311 - the seed decides
        self._zones = {zone: list(names) for zone, names in zones.items()}
        self._members = sorted(name for names in zones.values() for name in names)
        self._book = _Book()
        self._kinds = [k for k in (*DECK, *(PATHS if paths else ())) if k not in spared]
        self._deck: list[str] = []
        self._verbs: tuple[tuple[int, Callable[[], list[Step]]], ...] = (
            (5, self._create_deployment),
            (6, self._create_one),
            (9, self._scale),
            (4, self._image),
            (6, self._label),
            (3, self._delete_deployment),
            (3, self._create_config),
            (5, self._change_config),
            (2, self._delete_config),
            (2, self._create_namespace),
            (1, self._delete_namespace),
            (3, self._create_policy),
            (2, self._delete_policy),
            (2, self._price),
            *(self._of_gadgets() if custom else ()),
            *(self._of_roles() if wide else ()),
            (26, self._fault),
            (22, self._end_fault),
        )

    def prices(self) -> list[Step]:
        """What members cost and emit when the history begins."""
        return [
            Step(0.0, "price", member, figure, self._random.choice(PRICES))
            for member in self._members
            for figure in FIGURE_OF
        ]

    def steps(self, chapters: int = CHAPTERS, events: int = EVENTS) -> list[Step]:
        """The whole history."""
        history: list[Step] = []
        for _ in range(chapters):
            begun = len(history)
            while sum(step.events for step in history[begun:]) < events:
                history += self._next()
            history.append(Step(0.0, "quiet"))
            self._book.faulty.clear()
        return history

    def _next(self) -> list[Step]:
        if not self._book.namespaces:
            return self._create_namespace()
        weights = [weight for weight, _ in self._verbs]
        while True:
            (_, make) = self._random.choices(self._verbs, weights)[0]
            steps = make()
            if steps:
                return steps

    def _wait(self) -> float:
        """Mostly a moment, often at once, at times long enough for a verdict."""
        kind = self._random.random()
        if kind < 0.4:
            return 0.0
        if kind < 0.97:
            return round(self._random.expovariate(1 / 0.5), 3)
        return round(self._random.uniform(9.0, 16.0), 3)

    def _step(self, verb: str, where: str = "", name: str = "", value: str | int | float = "", extra: str = "") -> Step:  # noqa: PLR0913, E501 # fmt: skip
        return Step(self._wait(), verb, where, name, value, extra)

    # ------------------------------------------------------------------------------------------------- users
    def _some_image(self) -> str:
        return BROKEN_IMAGE if self._random.random() < 0.1 else self._random.choice(IMAGES)

    def _replicas(self) -> int:
        return self._random.randint(0, REPLICAS_MAX)

    def _create_namespace(self) -> list[Step]:
        if len(self._book.namespaces) >= NAMESPACES_MAX:
            return []
        free = [f"demo-{i}" for i in range(5) if f"demo-{i}" not in self._book.namespaces]
        name = self._random.choice(free)
        self._book.namespaces.append(name)
        return [self._step("create-namespace", name)]

    def _delete_namespace(self) -> list[Step]:
        if len(self._book.namespaces) < 2:
            return []
        name = self._random.choice(self._book.namespaces)
        book = self._book
        book.namespaces.remove(name)
        book.deployments = [key for key in book.deployments if key[0] != name]
        book.configs = [key for key in book.configs if key[0] != name]
        book.policies = [key for key in book.policies if key[0] != name]
        book.gadgets = [key for key in book.gadgets if key[0] != name]
        return [self._step("delete-namespace", name)]

    def _plain(self) -> list[tuple[str, str]]:
        return [key for key in self._book.deployments if not key[1].startswith(ONE)]

    def _create_deployment(self) -> list[Step]:
        where = self._random.choice(self._book.namespaces)
        name = f"web-{self._random.randint(0, 3)}"
        if len(self._plain()) >= DEPLOYMENTS_MAX or (where, name) in self._book.deployments:
            return []
        self._book.deployments.append((where, name))
        count = str(self._replicas())
        extra = ""
        if (kind := self._random.random()) < 0.4:
            extra = f"settings-{self._random.randint(0, 1)}"
        elif kind < 0.6:
            extra = self._random.choice(REJOINS)
        elif kind < 0.9:
            extra = self._random.choice(tuple(PREFERS))
        return [
            self._step("create-deployment", where, name, f"{count} {self._some_image()}", extra)
        ]

    def _create_one(self) -> list[Step]:
        where = self._random.choice(self._book.namespaces)
        name = f"{ONE}{self._random.randint(0, 2)}"
        ones = len(self._book.deployments) - len(self._plain())
        if ones >= ONES_MAX or (where, name) in self._book.deployments:
            return []
        self._book.deployments.append((where, name))
        return [
            self._step("create-deployment", where, name, f"1 {self._random.choice(IMAGES)}"),
        ]

    def _of(self, keys: list[tuple[str, str]]) -> tuple[str, str] | None:
        return self._random.choice(keys) if keys else None

    def _scale(self) -> list[Step]:
        key = self._of(self._plain())
        return [self._step("scale", *key, self._replicas())] if key else []

    def _image(self) -> list[Step]:
        key = self._of(self._book.deployments)
        if key is None:
            return []
        one = key[1].startswith(ONE)
        return [
            self._step("image", *key, self._random.choice(IMAGES) if one else self._some_image())
        ]

    def _label(self) -> list[Step]:
        key = self._of(self._book.deployments)
        return [self._step("label", *key, f"tier-{self._random.randint(0, 9)}")] if key else []

    def _delete_deployment(self) -> list[Step]:
        key = self._of(self._book.deployments)
        if key is None:
            return []
        self._book.deployments.remove(key)
        policy = "Foreground" if self._random.random() < 0.2 else "Background"
        return [self._step("delete-deployment", *key, policy)]

    def _create_config(self) -> list[Step]:
        where = self._random.choice(self._book.namespaces)
        name = f"settings-{self._random.randint(0, 1)}"
        if (where, name) in self._book.configs or len(self._book.configs) >= CONFIGS_MAX:
            return []
        self._book.configs.append((where, name))
        return [self._step("create-config", where, name, self._random.randint(0, 99))]

    def _change_config(self) -> list[Step]:
        key = self._of(self._book.configs)
        return [self._step("change-config", *key, self._random.randint(0, 99))] if key else []

    def _delete_config(self) -> list[Step]:
        key = self._of(self._book.configs)
        if key is None:
            return []
        self._book.configs.remove(key)
        return [self._step("delete-config", *key)]

    def _create_policy(self) -> list[Step]:
        """A policy of the namespace's own for one Deployment, by its name."""
        key = self._of(self._plain())
        if key is None or key in self._book.policies:
            return []
        self._book.policies.append(key)
        return [self._step("create-policy", *key, self._random.choice(STRATEGIES))]

    def _delete_policy(self) -> list[Step]:
        key = self._of(self._book.policies)
        if key is None:
            return []
        self._book.policies.remove(key)
        return [self._step("delete-policy", *key)]

    def _price(self) -> list[Step]:
        """An operator says what a member costs or emits."""
        odd = self._random.random() < 0.2
        value = self._random.choice(ODD_PRICES if odd else PRICES)
        figure = self._random.choice(tuple(FIGURE_OF))
        return [self._step("price", self._random.choice(self._members), figure, value)]

    # ------------------------------------------------------------------------------------------------- further kinds
    def _of_gadgets(self) -> tuple[tuple[int, Callable[[], list[Step]]], ...]:
        return (4, self._create_gadget), (5, self._change_gadget), (2, self._delete_gadget)

    def _create_gadget(self) -> list[Step]:
        where = self._random.choice(self._book.namespaces)
        key = where, f"gadget-{self._random.randint(0, 1)}"
        if key in self._book.gadgets or len(self._book.gadgets) >= GADGETS_MAX:
            return []
        self._book.gadgets.append(key)
        value = f"{self._random.randint(0, REPLICAS_MAX)} {self._random.choice(IMAGES)}"
        return [self._step("create-gadget", *key, value)]

    def _change_gadget(self) -> list[Step]:
        key = self._of(self._book.gadgets)
        return [self._step("change-gadget", *key, self._replicas())] if key else []

    def _delete_gadget(self) -> list[Step]:
        key = self._of(self._book.gadgets)
        if key is None:
            return []
        self._book.gadgets.remove(key)
        return [self._step("delete-gadget", *key)]

    def _of_roles(self) -> tuple[tuple[int, Callable[[], list[Step]]], ...]:
        return (2, self._create_role), (3, self._change_role), (1, self._delete_role)

    def _create_role(self) -> list[Step]:
        key = "", f"viewer-{self._random.randint(0, 2)}"
        if key in self._book.roles or len(self._book.roles) >= ROLES_MAX:
            return []
        self._book.roles.append(key)
        return [self._step("create-role", *key, self._random.choice(VERBS))]

    def _change_role(self) -> list[Step]:
        key = self._of(self._book.roles)
        return [self._step("change-role", *key, self._random.choice(VERBS))] if key else []

    def _delete_role(self) -> list[Step]:
        key = self._of(self._book.roles)
        if key is None:
            return []
        self._book.roles.remove(key)
        return [self._step("delete-role", *key)]

    # ------------------------------------------------------------------------------------------------- faults
    def _fault(self) -> list[Step]:
        if not self._deck:
            self._deck = list(self._kinds)
            self._random.shuffle(self._deck)
        verb = self._deck.pop()
        match verb:
            case "kill-server":
                writes = self._random.randint(1, 25)
                down_s = round(self._random.uniform(0.0, 4.0), 2)
                return [self._step(verb, value=writes, extra=str(down_s))]
            case "restart-server":
                return [self._step(verb, value=round(self._random.uniform(0.0, 6.0), 2))]
            case "mass-loss":
                most = self._random.sample(self._members, len(self._members) // 2 + 1)
                return self._together(sorted(most))
            case "zone-loss":
                return self._together(self._zones[self._random.choice(sorted(self._zones))])
            case "switch":
                if "fleet" in self._book.faulty:
                    return []
                self._book.faulty["fleet"] = "switch"
                return [self._step(verb, value=self._random.choice(SWITCHES))]
            case _:
                return self._of_one(verb)

    def _together(self, names: Sequence[str]) -> list[Step]:
        """All of them at one moment, and then some time."""
        verb = self._random.choice(("cut", "crash", "power-loss", "mute"))
        well = [name for name in names if name not in self._book.faulty]
        for name in well:
            self._book.faulty[name] = ENDS[verb]
        long = round(self._random.uniform(8.0, 15.0), 2)
        return [*_all_of(verb, well), Step(long, "pass")]

    def _of_one(self, verb: str) -> list[Step]:
        well = [name for name in self._members if name not in self._book.faulty]
        if not well:
            return []
        member = self._random.choice(well)
        match verb:
            case "flap":
                return [self._step(verb, member, value=round(self._random.uniform(*FLAP_S), 2))]
            case "path-cut":
                peer = self._random.choice([name for name in self._members if name != member])
                seconds = round(self._random.uniform(*PATH_S), 2)
                return [self._step(verb, member, peer, seconds)]
            case "skew":
                return [self._step(verb, member, value=self._random.randint(-SKEW_S, SKEW_S))]
            case "resize":
                return [self._step(verb, member, value=self._random.randint(*PODS))]
            case "outage":
                verb = self._random.choice(("cut", "crash", "power-loss", "mute"))
                self._book.faulty[member] = ENDS[verb]
                long = round(self._random.uniform(*LONG_S), 2)
                return [self._step(verb, member), Step(long, "pass")]
            case _:
                self._book.faulty[member] = ENDS[verb]
                return [self._step(verb, member)]

    def _end_fault(self) -> list[Step]:
        ill = sorted(self._book.faulty)
        if not ill:
            return []
        member = self._random.choice(ill)
        end = self._book.faulty.pop(member)
        if end == "switch":
            return [self._step(end, value="Enabled")]
        alike = [name for name in ill if self._book.faulty.get(name) == end]
        more = alike[: len(ill) // END_SHARE]
        for name in more:
            del self._book.faulty[name]
        return [self._step(end, member), *_all_of(end, more, counted=COUNTED_MAX - 1)]


def _all_of(verb: str, names: Sequence[str], counted: int = COUNTED_MAX) -> list[Step]:
    """The same for all of them at one moment."""
    return [
        Step(0.0, verb, name, extra=TOO if number >= counted else "")
        for number, name in enumerate(names)
    ]

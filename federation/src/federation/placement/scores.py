"""Scores of clusters, where a workload prefers some to others: cost, carbon, capacity, locality. Pure.

A ResiliencePolicy says what counts and how much (`scores: [{by: cost, weight: 5}, {by: carbon}]`), a Cluster says by its
annotations what it costs and emits. Each score is 0 to 100 among the clusters that passed the filters:

    cost, carbon   100 for the least, half of it for twice as much; a cluster that does not tell counts as the mean of the others
    capacity       100 for the one that can run most of the workload, half of it for half as much
    locality       100 for clusters that hold the workload (Karmada's ClusterLocality), 0 for the others

A cluster's score is the sum of these times their weights, and at least 1. Without a rule about locality, clusters that hold the
workload come first whatever the others cost: a change of prices moves nothing that runs. With one, staying has its price like
everything else, at the next decision. A decision from scratch (`rescheduleTriggeredAt`) follows the scores alone.

Where the placement chooses (a constraint with maxGroups, Aggregated, a tier), clusters with the higher score come first, as far
as they have room; Aggregated fills them one after the other. Where it divides by free room, the room is weighed by the score.
Static weights and federation v1's preferences are the author's own numbers, and Duplicated without a constraint runs in every
cluster: scores have no say there, which is told. Tiers, groups' balance and spread go before scores.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from federation.placement.model import Candidate, Warned
from machinery.api.fleet.resilience import ScoreRule

COST, CARBON, CAPACITY, LOCALITY = "cost", "carbon", "capacity", "locality"
FIGURES = {COST: "ubernetes.io/cost-per-cpu-hour", CARBON: "ubernetes.io/carbon-g-per-kwh"}
"""What a Cluster tells by annotation: a price for an hour of one CPU, in one currency for the whole federation, and grams of
CO2 equivalent for a kilowatt-hour. Decimal numbers."""
HIGHEST = 100
DIGITS, PLACES = 9, 6
"""A figure has at most so many digits before its point and so many after it."""

UNTOLD, NO_SAY, SET_ASIDE = "ScoreUntold", "ScoresHaveNoSay", "ScoresSetAside"
ADVICE = frozenset({UNTOLD, NO_SAY, SET_ASIDE})
"""Warnings about a preference: what is demanded is kept all the same."""
FEW = 3
"""Clusters that share a fate are named up to so many."""

Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Scores:
    """Of the clusters that passed the filters, by name."""

    rules: tuple[ScoreRule, ...]
    of: Counts
    """Sums of score times weight, at least 1."""
    parts: Mapping[str, Counts]
    """By rule: 0 to 100."""
    untold: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By rule: who does not tell the figure."""
    stays: bool = True
    """Whether clusters that hold the workload come first."""
    need: int = 1
    """A cluster with room for fewer replicas comes after all that have it."""

    def rank(self, name: str, space: int, held: bool) -> tuple[bool, bool, int]:
        """The lower, the better; `space` is its room with what it holds."""
        return self.stays and not held, space < self.need, -self.of[name]

    def mean(self, name: str) -> int:
        """0 to 100."""
        return self.of[name] // sum(rule.weight for rule in self.rules)

    def of_group(self, members: Iterable[Candidate], spaces: Counts) -> int:
        """The mean of the members' scores by what each can run; 0 where none can run anything."""
        able = [(self.of[c.name], spaces[c.name]) for c in members if spaces[c.name] >= self.need]
        return sum(s * n for s, n in able) // sum(n for _, n in able) if able else 0


def figure(text: str) -> int:
    """A figure in millionths. Raises ValueError with one sentence without its stop."""
    whole, point, rest = text.strip().partition(".")
    digits = whole + rest
    if not (whole and digits.isascii() and digits.isdigit()) or (point and not rest):
        raise ValueError(f"{text!r} is not a decimal number of at least 0")
    if len(whole) > DIGITS or len(rest) > PLACES:
        raise ValueError(
            f"{text!r} has more than {DIGITS} digits before its point or {PLACES} after it"
        )
    return int(whole + rest.ljust(PLACES, "0"))


def figures(annotations: Mapping[str, str]) -> dict[str, int]:
    """What a cluster tells, as far as it can be read; what cannot counts as not told."""
    return {by: value for by, value in _read(annotations).items() if isinstance(value, int)}


def misread(annotations: Mapping[str, str]) -> str:
    """What of the figures cannot be read, without its stop; empty: nothing."""
    wrong = _read(annotations).items()
    return "; ".join(f"{FIGURES[by]} {said}" for by, said in wrong if isinstance(said, str))


def _read(annotations: Mapping[str, str]) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    for by, annotation in FIGURES.items():
        if (text := annotations.get(annotation)) is not None:
            try:
                found[by] = figure(text)
            except ValueError as error:
                found[by] = str(error)
    return found


def scored(
    rules: Sequence[ScoreRule],
    candidates: Sequence[Candidate],
    spaces: Counts,
    held: Iterable[str],
    *,
    fresh: bool,
    need: int = 1,
) -> Scores:
    """The scores of these clusters; `spaces` is what each can run of the workload, with what it holds."""
    names = [c.name for c in candidates]
    inside = frozenset(held)
    parts: dict[str, Counts] = {}
    untold: dict[str, frozenset[str]] = {}
    for rule in rules:
        if rule.by in FIGURES:
            told = {c.name: c.figures[rule.by] for c in candidates if rule.by in c.figures}
            untold[rule.by] = frozenset(names) - told.keys()
            parts[rule.by] = _cheap(told, names)
        elif rule.by == CAPACITY:
            most = max(spaces.values(), default=0) or 1
            parts[CAPACITY] = {name: HIGHEST * spaces[name] // most for name in names}
        else:
            stays = frozenset[str]() if fresh else inside
            parts[LOCALITY] = {name: HIGHEST if name in stays else 0 for name in names}
    sums = {name: max(1, sum(r.weight * parts[r.by][name] for r in rules)) for name in names}
    first = not fresh and LOCALITY not in parts
    return Scores(tuple(rules), sums, parts, untold, first, need)


def _cheap(told: Counts, names: Sequence[str]) -> dict[str, int]:
    """100 times the least of the figures over each; the mean of that for those that have none."""
    least = min(told.values(), default=0)
    found = {name: HIGHEST * least // value if value else HIGHEST for name, value in told.items()}
    mean = sum(found.values()) // len(found) if found else 0
    return {name: found.get(name, mean) for name in names}


def unsaid(scores: Scores) -> list[Warned]:
    """Which figures are asked for and not told."""
    told = []
    for by, missing in scores.untold.items():
        if not missing:
            continue
        names = sorted(missing)
        shown = ", ".join(names[:FEW])
        if len(names) > FEW:
            shown += f" and {len(names) - FEW} more"
        text = f"no cluster tells its {by} ({FIGURES[by]}), which has no say"
        if len(names) < len(scores.of):
            text = (
                f"no {by} ({FIGURES[by]}) is told by {shown}: each counts as the mean of the others"
            )
        told.append(Warned(UNTOLD, text))
    return told

"""How many placement decisions a core makes in a second, and what one costs: the pure planners, and all of `place`.

    python tests/bench/bench_placement.py [--seconds 1]

No store, no server, no network: values in, values out, in one thread. A planner divides replicas over clusters; `place` also
filters the clusters and selects among them, as the placer does for every binding. Seconds are CPU seconds of this process, since
the machine is shared; the yardstick beside them tells how slow it is at the moment.

The baseline of the same run: seats given one by one from a heap of fractions, as the procedure of Sainte-Laguë is written
down and as Karmada does it. For scale: Karmada publishes 22 scheduled bindings a second with its estimators and three etcd
writes for each, and on two cores was measured at 42; these figures are without any write and not to be compared with those.
"""

import argparse
import heapq
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import yardstick
from tests.bench.report import Figure, hand_over

from federation.placement.divide import webster
from federation.placement.model import Candidate, Request
from federation.placement.plan import place
from federation.placement.planners import PLANNERS, Question
from federation.placement.preferences import Preference
from machinery.api.fleet.policy import (
    ClusterPreferences,
    Placement,
    ReplicaSchedulingStrategy,
    SpreadConstraint,
)

WANTED = {100: 5000, 1000: 500}
"""Decisions a second, by clusters."""
QUESTIONS = 64
"""Different ones are asked in turn, so that nothing is answered from memory."""


def one_by_one(seats: int, weights: Mapping[str, int]) -> dict[str, int]:
    """The baseline: every seat is given by itself."""
    given = dict.fromkeys(weights, 0)
    heap = [(-Fraction(weight), 0, name) for name, weight in weights.items()]
    heapq.heapify(heap)
    for _ in range(seats):
        _, held, name = heap[0]
        given[name] = held + 1
        heapq.heapreplace(heap, (-Fraction(weights[name], 2 * held + 3), held + 1, name))
    return given


def questions(clusters: int, dice: random.Random, *, narrow: bool) -> list[Question]:
    """Weights alone, or with what runs, capacities and bounds."""
    names = [f"member-{i:04}" for i in range(clusters)]
    found = []
    for number in range(QUESTIONS):
        wanted = {name: Preference(weight=dice.randint(1, 9)) for name in names}
        current: dict[str, int] = {}
        capacity: dict[str, int] = {}
        if narrow:
            wanted = {
                name: Preference(dice.randint(0, 2), dice.randint(9, 40), dice.randint(1, 9))
                for name in names
            }
            current = {name: dice.randint(0, 12) for name in names}
            capacity = {name: dice.randint(4, 40) for name in names}
        total = 10 * clusters + number
        key = f"shop/service-{number}"
        found.append(Question(total, names, wanted, False, current, capacity, key))
    return found


def fleet(clusters: int, dice: random.Random) -> list[Candidate]:
    """Members in ten zones of five regions."""
    return [
        Candidate(
            f"member-{i:04}",
            {"env": "prod"},
            "provider",
            f"region-{i % 5}",
            (f"zone-{i % 10}",),
            kinds=frozenset({("apps/v1", "Deployment")}),
            free={"cpu": dice.randint(20_000, 200_000), "memory": 2**40, "pods": 500},
        )
        for i in range(clusters)
    ]


DYNAMIC = ReplicaSchedulingStrategy(
    replica_scheduling_type="Divided",
    replica_division_preference="Weighted",
    weight_preference=ClusterPreferences(dynamic_weight="AvailableReplicas"),
)
PLACEMENTS = {
    "dynamic weights": Placement(replica_scheduling=DYNAMIC),
    "balanced over zones": Placement(
        spread_constraints=(SpreadConstraint(spread_by_field="zone", min_groups=1),),
        replica_scheduling=DYNAMIC,
    ),
    "regions and clusters": Placement(
        spread_constraints=(
            SpreadConstraint(spread_by_field="region", min_groups=2, max_groups=3),
            SpreadConstraint(spread_by_field="cluster", min_groups=4, max_groups=30),
        ),
        replica_scheduling=DYNAMIC,
    ),
}


def rate(asked: Sequence[Callable[[], object]], seconds: float) -> float:
    """Answers a CPU second."""
    done, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        for ask in asked:
            _ = ask()
        done += len(asked)
    return done / spent


def bench(seconds: float) -> list[Figure]:
    """All of them."""
    dice, samples = random.Random(1), [yardstick.measure()]
    figures: list[Figure] = []

    def tell(name: str, asked: Sequence[Callable[[], object]], least: float | None) -> None:
        found = rate(asked, seconds)
        samples.append(yardstick.measure())
        quiet = yardstick.when_quiet(1e6 / found, samples)
        note = f"{1e6 / found:,.0f} us CPU each, {quiet}"
        figures.append(Figure(name, found, "decisions/CPU s", least=least, note=note))

    for clusters, least in WANTED.items():
        plain = questions(clusters, dice, narrow=False)
        narrow = questions(clusters, dice, narrow=True)
        for name, planner in PLANNERS.items():
            tell(
                f"planner {name}, {clusters} clusters",
                [partial(planner, q) for q in plain],
                least,
            )
            tell(
                f"planner {name}, {clusters} clusters, bounds, capacities and what runs",
                [partial(planner, q) for q in narrow],
                None,
            )
        weights = [{name: p.weight for name, p in q.preferences.items()} for q in plain]
        tell(
            f"division of {10 * clusters} replicas over {clusters} clusters",
            [partial(webster, 10 * clusters, w, "uid") for w in weights],
            least,
        )
        tell(
            f"  baseline: the same one by one, {clusters} clusters",
            [partial(one_by_one, 10 * clusters, w) for w in weights[:4]],
            None,
        )
        members = fleet(clusters, dice)
        for name, placement in PLACEMENTS.items():
            asked = [
                Request(
                    f"uid-{i}",
                    "apps/v1",
                    "Deployment",
                    placement,
                    2 * clusters + i,
                    {"cpu": 250, "memory": 2**28},
                )
                for i in range(QUESTIONS)
            ]
            tell(
                f"place, {name}, {clusters} clusters",
                [partial(place, r, members) for r in asked],
                least if placement.spread_constraints == () else None,
            )
    return [*figures, yardstick.figure(samples)]


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds for each figure")
    parser.add_argument("--json", default="", help="write the figures into this file")
    got = parser.parse_args()
    hand_over(bench(got.seconds), got.json)


if __name__ == "__main__":
    main()

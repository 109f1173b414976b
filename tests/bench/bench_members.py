"""What a member costs the federation's deciding parts in a second, with 500, 1,000 and 5,000 of them: it should stay the same.

    .venv/bin/python tests/bench/bench_members.py [--quick] [--seconds 20]

Not a fleet: the pure loops that look at every member, and the controllers' books, in virtual time. A second of a member
is half a heartbeat (it renews every 2 s) that is noted, and a fiftieth of a report that changes its Cluster; once a second all
members are judged together (`judge_fleet`, peers' words left out), and each is looked at by the failure clock. Beside it a
decision over the whole fleet is measured, which costs what its candidates cost: it is named apart, since how many decisions
there are does not hang on the number of members. The store and the API, which such a fleet would spread over several servers,
are not in it; with them, in the simulator: `python -m federation.simulator --clusters 100`.

CPU seconds of this process; the baseline of the run is the smallest fleet.
"""

import argparse
import datetime as dt
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import yardstick
from tests.bench.bench_placement import PLACEMENTS
from tests.bench.report import Figure, hand_over

from federation.clusters.candidates import candidates
from federation.controllers.health import Heartbeats
from federation.domains.clock import FailureClock, judge
from federation.domains.verdict import Evidence, judge_fleet
from federation.placement.model import Request
from federation.placement.plan import place
from machinery.api.coordination import Lease, LeaseSpec
from machinery.api.fleet.cluster import Cluster, ClusterSpec, ClusterStatus, ResourceSummary
from machinery.meta.objectmeta import ObjectMeta

FLEETS = (500, 1000, 5000)
ZONES_OF = 50
"""Members of a zone."""
FLAT = 1.5
"""A member of the biggest fleet may cost so much more than one of the smallest."""
CLOCK = FailureClock()
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Book:
    """A fleet of modelled members, second by second."""

    def __init__(self, members: int) -> None:
        self.now = 0.0
        self.names = [f"member-{number:05}" for number in range(members)]
        self.zones = {
            name: (f"zone-{number // ZONES_OF}",) for number, name in enumerate(self.names)
        }
        self.beats = Heartbeats(lambda: self.now, lambda: True)
        self.dice = random.Random(1)
        self.clusters = {name: self._cluster(name) for name in self.names}

    def _cluster(self, name: str) -> Cluster:
        offered = {"cpu": str(self.dice.randint(20, 200)), "memory": "1Ti", "pods": "500"}
        return Cluster(
            metadata=ObjectMeta(name=name),
            spec=ClusterSpec(provider="bench", region="region-1", zones=self.zones[name]),
            status=ClusterStatus(resource_summary=ResourceSummary(allocatable=offered)),
        )

    def second(self, number: int) -> None:
        """Half of the members beat, some report, all are judged."""
        self.now = float(number)
        renewed = START + dt.timedelta(seconds=number)
        for name in self.names[number % 2 :: 2]:
            lease = Lease(metadata=ObjectMeta(name=name), spec=LeaseSpec(renew_time=renewed))
            self.beats.observe(None, lease)
        for name in self.names[number % ZONES_OF :: ZONES_OF]:
            self.clusters[name] = self._cluster(name)
        evidence = [
            Evidence(name, self.zones[name], self.beats.silent_s(name)) for name in self.names
        ]
        _ = judge_fleet(evidence, CLOCK)
        for name in self.names:
            _ = judge(self.beats.silent_s(name), CLOCK)


def per_member(members: int, seconds: int) -> float:
    """CPU µs of a member in a second."""
    book = Book(members)
    book.second(0)
    before = time.process_time()
    for number in range(1, seconds + 1):
        book.second(number)
    return (time.process_time() - before) / seconds / members * 1e6


def decision(members: int, times: int) -> float:
    """CPU µs of a decision, for each member that it may choose."""
    book = Book(members)
    request = Request(
        "uid", "apps/v1", "Deployment", PLACEMENTS["dynamic weights"], members, {"cpu": 250}
    )
    _ = place(request, candidates(book.clusters.values()))
    before = time.process_time()
    for _ in range(times):
        _ = place(request, candidates(book.clusters.values()))
    return (time.process_time() - before) / times / members * 1e6


def bench(seconds: int) -> list[Figure]:
    """All fleets, in turns, the least of three: a neighbour makes it only dearer."""
    samples = [yardstick.measure()]
    cost = dict.fromkeys(FLEETS, float("inf"))
    chosen = dict.fromkeys(FLEETS, float("inf"))
    for _ in range(3):
        for members in FLEETS:
            cost[members] = min(cost[members], per_member(members, seconds))
            chosen[members] = min(chosen[members], decision(members, seconds))
            samples.append(yardstick.measure())
    figures = []
    for members in FLEETS:
        ratio = cost[members] / cost[FLEETS[0]]
        limit = FLAT * cost[FLEETS[0]] if members > FLEETS[0] else None
        note = f"{ratio:.2f} times that of {FLEETS[0]}" if limit else "baseline"
        what = f"{members:,} members, pure loops in virtual time: a member's second"
        figures.append(Figure(what, cost[members], "us CPU", most=limit, note=note))
    for members in FLEETS:
        note = f"{chosen[members] * members / 1e3:.2f} ms a decision"
        figures.append(
            Figure(f"  a decision, per member of {members:,}", chosen[members], "us CPU", note=note)
        )
    return [*figures, yardstick.figure(samples)]


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="few seconds of each fleet")
    parser.add_argument("--seconds", type=int, default=20, help="virtual seconds of each fleet")
    parser.add_argument("--json", default="", help="write the figures into this file")
    got = parser.parse_args()
    hand_over(bench(3 if got.quick else got.seconds), got.json)


if __name__ == "__main__":
    main()

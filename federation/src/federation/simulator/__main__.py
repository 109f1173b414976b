"""`python -m federation.simulator`: many histories, or one again, or a hunt for planted bugs.

--seeds N plays N seeds (--from K: beginning with K) and stops at the first broken rule; --seed S --verbose tells one story;
--clusters N, --shape and --events play them with another fleet (`federation.simulator.fleets`); --restarts plays one short history once
for each of its writes, and kills the server after it; --bugs plants every bug of `federation.simulator.bugs` and looks for the first seed that shows it, among --seeds (500).
"""

import argparse
import gc
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from federation.simulator import bugs
from federation.simulator.apart import apart
from federation.simulator.fleets import EVEN, SHAPES, SMALL, fleet
from federation.simulator.rules import Broken
from federation.simulator.scenario import EVENTS
from federation.simulator.virtual import Deadlock, run
from federation.simulator.world import Options, Told, history

TAIL = 40
"""Lines of the story that are shown of a broken history."""
PROGRESS_S = 2.0
SEEDS, HUNTED = 200, 500
RESTART_EVENTS = 20
"""Events of a history that is played once for each of its writes."""
NO_WRITE = 10**9
"""More writes than a history makes: the server is never killed."""
COLLECTED_FROM = 50
"""Members of a fleet whose history is not small: what is let go there is collected meanwhile, though seldom."""
COLLECTED = (100_000, 50, 1_000)
"""Thresholds of that, as a server has them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One seed."""

    seed: int
    events: int
    faults: int
    virtual_s: float
    cpu_s: float
    writes: int
    digest: int
    """Of what was written; the same seed has the same one again."""
    broken: str
    story: tuple[str, ...]


def play(seed: int, options: Options | None = None) -> Outcome:
    """Play one seed to its end or its first breach."""
    options = options or Options()
    logging.getLogger().setLevel(logging.ERROR)
    told = Told(seed)
    started = time.process_time()
    broken = ""
    with _collected(seldom=len(options.places) >= COLLECTED_FROM):
        try:
            run(history(seed, options, told))
        except (Broken, Deadlock) as breach:
            broken = str(breach)
        cpu_s = time.process_time() - started
    return Outcome(
        seed,
        told.events,
        told.faults,
        told.virtual_s,
        cpu_s,
        told.writes,
        told.digest,
        broken,
        tuple(told.lines),
    )


@contextmanager
def _collected(*, seldom: bool) -> Iterator[None]:
    """Collect garbage seldom, or not at all."""
    before, enabled = gc.get_threshold(), gc.isenabled()
    if seldom:
        gc.set_threshold(*COLLECTED)
        gc.enable()
    else:
        gc.disable()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if enabled:
            gc.enable()
        else:
            gc.disable()


def play_apart(seed: int, options: Options | None = None) -> Outcome:
    """The same in a process of its own. Raises Lost."""
    return apart(play, seed, options)


def outcomes(plays: Sequence[tuple[int, Options]], jobs: int) -> Iterator[Outcome]:
    """Each history's outcome, in order."""
    seeds, options = [seed for seed, _ in plays], [option for _, option in plays]
    if len(plays) == 1:
        yield from map(play, seeds, options)
        return
    if jobs == 1:
        yield from map(play_apart, seeds, options)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(play_apart, seeds, options, chunksize=4)
        finally:
            pool.shutdown(cancel_futures=True)


def say(text: str, *, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def report(outcome: Outcome, *, whole: bool) -> None:
    """The story of a broken history, and how to see it again."""
    lines = outcome.story if whole else outcome.story[-TAIL:]
    for line in lines:
        say(line)
    if outcome.broken:
        say(f"\nseed {outcome.seed} breaks a rule: {outcome.broken}")
        say(f"again: make sim SEED={outcome.seed}")
        say(f"   or: python -m federation.simulator --seed {outcome.seed} --verbose")


@dataclass(slots=True)
class Sums:
    """Of all seeds that were played."""

    seeds: int = 0
    events: int = 0
    faults: int = 0
    writes: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    least: int = 0
    """Events of the shortest history."""
    members: int = len(SMALL)

    def add(self, outcome: Outcome) -> None:
        self.least = min(self.least, outcome.events) if self.seeds else outcome.events
        self.seeds += 1
        self.events += outcome.events
        self.faults += outcome.faults
        self.writes += outcome.writes
        self.virtual_s += outcome.virtual_s
        self.cpu_s += outcome.cpu_s

    def __str__(self) -> str:
        return (
            f"{self.events} events ({self.least} or more each, {self.faults} of them faults), {self.members} members, "
            f"{self.writes} writes, {self.virtual_s / 3600:.1f} virtual hours, {self.cpu_s:.1f} CPU seconds"
        )


def many(plays: Sequence[tuple[int, Options]], jobs: int) -> int:
    """Play all; the exit code."""
    sums = Sums(members=len(plays[0][1].places)) if plays else Sums()
    shown = time.monotonic()
    for outcome in outcomes(plays, jobs):
        sums.add(outcome)
        if outcome.broken:
            report(outcome, whole=False)
            return 1
        if time.monotonic() - shown > PROGRESS_S:
            shown = time.monotonic()
            say(f"{sums.seeds}/{len(plays)} seeds: {sums}")
    say(f"{sums.seeds} seeds hold every rule: {sums}")
    return 0


def one(seed: int, options: Options, *, whole: bool) -> int:
    """Play one; the exit code."""
    outcome = play(seed, options)
    if whole or outcome.broken:
        report(outcome, whole=whole)
    if outcome.broken:
        return 1
    sums = Sums(members=len(options.places))
    sums.add(outcome)
    say(f"seed {seed} holds every rule: {sums}")
    return 0


def restarts(seed: int, options: Options, jobs: int) -> int:
    """One short history again and again, the server killed after its first write, its second, and so on; the exit code."""
    short = replace(options, chapters=1, events=RESTART_EVENTS)
    whole = play(seed, replace(short, kill_after=NO_WRITE))
    if whole.broken:
        report(whole, whole=False)
        return 1
    say(
        f"seed {seed} makes {whole.writes} writes in {whole.events} events; the server dies after each"
    )
    return many([(seed, replace(short, kill_after=n)) for n in range(1, whole.writes + 1)], jobs)


# ---------------------------------------------------------------------------------------------------- planted bugs
def hunted(name: str, seeds: Sequence[int]) -> bugs.Caught:
    """Look for one bug."""

    def found(seed: int) -> tuple[str, float]:
        outcome = play_apart(seed)
        return outcome.broken, outcome.cpu_s

    return bugs.hunt(name, seeds, found)


def every_bug(seeds: Sequence[int], jobs: int) -> int:
    """Hunt all of them, print a table; the exit code."""
    missed = 0
    say(f"{'bug':<20} {'seed':>5} {'by rule':<10} {'CPU s':>6}  what is wrong")
    with ProcessPoolExecutor(jobs) as pool:
        for caught in pool.map(hunted, bugs.BUGS, [seeds] * len(bugs.BUGS)):
            bug = bugs.BUGS[caught.name]
            right = caught.rule in bug.rules
            missed += not right
            seed = str(caught.seed) if caught.seed else "-"
            said = caught.rule or "not found"
            say(f"{caught.name:<20} {seed:>5} {said:<10} {caught.cpu_s:>6.1f}  {bug.sentence}")
            if caught.seed and not right:
                say(f"    meant to break {', '.join(sorted(bug.rules))}, but: {caught.broken}")
    say(
        f"{len(bugs.BUGS) - missed} of {len(bugs.BUGS)} planted bugs are found within {len(seeds)} seeds"
    )
    return 1 if missed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m federation.simulator", description="A fleet in virtual time."
    )
    parser.add_argument("--seeds", type=int, help="how many histories (200; 500 with --bugs)")
    parser.add_argument("--from", "--first", dest="first", type=int, default=1, help="first seed")
    parser.add_argument("--seed", type=int, help="play this one only")
    parser.add_argument("--clusters", type=int, default=len(SMALL), help="members of the fleet (5)")
    parser.add_argument("--shape", choices=SHAPES, default=EVEN, help="how they are spread")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"of a chapter ({EVENTS})")
    parser.add_argument("--restarts", action="store_true", help="kill the server after each write")
    parser.add_argument("--verbose", action="store_true", help="tell the whole story")
    parser.add_argument("--bugs", action="store_true", help="plant bugs and look for each")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    arguments = parser.parse_args(argv)
    small = arguments.clusters == len(SMALL) and arguments.shape == EVEN
    places = SMALL if small else fleet(arguments.clusters, arguments.shape)
    options = Options(places, events=arguments.events)
    jobs = max(1, arguments.jobs)
    if arguments.restarts:
        return restarts(arguments.seed or arguments.first, options, jobs)
    if arguments.seed is not None:
        return one(arguments.seed, options, whole=arguments.verbose)
    count = arguments.seeds or (HUNTED if arguments.bugs else SEEDS)
    seeds = range(arguments.first, arguments.first + count)
    return every_bug(seeds, jobs) if arguments.bugs else many([(s, options) for s in seeds], jobs)


if __name__ == "__main__":
    sys.exit(main())

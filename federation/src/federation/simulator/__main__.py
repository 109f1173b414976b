"""`python -m federation.simulator`: many histories, or one again.

--seeds N plays the seeds 1 to N (from --first on) and stops at the first broken rule; --seed S --verbose tells one story.
"""

import argparse
import gc
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from federation.simulator.rules import Broken
from federation.simulator.virtual import Deadlock, run
from federation.simulator.world import Options, Told, history

TAIL = 40
"""Lines of the story that are shown of a broken history."""
PROGRESS_S = 2.0
COLLECT_EVERY = 8
"""Histories between two collections: one is short and small, and collecting costs as much as a tenth of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One seed."""

    seed: int
    events: int
    virtual_s: float
    cpu_s: float
    writes: int
    broken: str
    story: tuple[str, ...]


def play(seed: int, options: Options | None = None) -> Outcome:
    """Play one seed to its end or its first breach."""
    logging.getLogger().setLevel(logging.ERROR)
    gc.disable()
    told = Told(seed)
    started = time.process_time()
    broken = ""
    try:
        run(history(seed, options or Options(), told))
    except (Broken, Deadlock) as breach:
        broken = str(breach)
    if seed % COLLECT_EVERY == 0:
        gc.collect()
    gc.enable()
    cpu_s = time.process_time() - started
    return Outcome(seed, told.events, told.virtual_s, cpu_s, told.writes, broken, tuple(told.lines))


def outcomes(seeds: Sequence[int], jobs: int) -> Iterator[Outcome]:
    """Each seed's outcome, in order."""
    if jobs == 1:
        yield from map(play, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(play, seeds, chunksize=4)
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


def many(seeds: Sequence[int], jobs: int) -> int:
    """Play all; the exit code."""
    events, virtual_s, cpu_s, writes, done = 0, 0.0, 0.0, 0, 0
    shown = time.monotonic()
    for outcome in outcomes(seeds, jobs):
        done += 1
        events, writes = events + outcome.events, writes + outcome.writes
        virtual_s, cpu_s = virtual_s + outcome.virtual_s, cpu_s + outcome.cpu_s
        if outcome.broken:
            report(outcome, whole=False)
            return 1
        if time.monotonic() - shown > PROGRESS_S:
            shown = time.monotonic()
            say(f"{done}/{len(seeds)} seeds, {events} events, {virtual_s / 3600:.1f} virtual hours")
    say(
        f"{done} seeds hold every rule: {events} events, {writes} writes, "
        f"{virtual_s:.0f} virtual seconds, {cpu_s:.1f} CPU seconds"
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m federation.simulator", description="A fleet in virtual time."
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many histories")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="play this one only")
    parser.add_argument("--verbose", action="store_true", help="tell the whole story")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    arguments = parser.parse_args(argv)
    if arguments.seed is None:
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        return many(seeds, max(1, arguments.jobs))
    outcome = play(arguments.seed)
    if arguments.verbose or outcome.broken:
        report(outcome, whole=arguments.verbose)
    if not outcome.broken:
        say(
            f"seed {outcome.seed} holds every rule: {outcome.events} events, {outcome.writes} writes, "
            f"{outcome.virtual_s:.0f} virtual seconds, {outcome.cpu_s:.2f} CPU seconds"
        )
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""A member that dies again and again is judged later and later, and a verdict that stands is not taken back by itself."""

import pytest

from federation.controllers.domains import Memory
from federation.domains.clock import FailureClock
from federation.domains.verdict import Evidence, Finding, judge_fleet

CLOCK = FailureClock()
SILENCE_S, STEP_S = 100.0, 0.5


def silence(memory: Memory, start: float) -> list[tuple[float, Finding]]:
    """One silence of alpha while beta is heard: changes of its verdict, in seconds of the silence."""
    changes: list[tuple[float, Finding]] = []
    for step in range(int(SILENCE_S / STEP_S)):
        now = start + step * STEP_S
        alpha = Evidence("alpha", silent_s=step * STEP_S, verdicts=memory.verdicts("alpha", now))
        found = judge_fleet([alpha, Evidence("beta", silent_s=1.0)], CLOCK)
        memory.note(found, now)
        finding = found.clusters["alpha"].finding
        if not changes or changes[-1][1] is not finding:
            changes.append((step * STEP_S, finding))
    return changes


@pytest.mark.parametrize(
    ("before", "patience"), [(0, 10.0), (1, 10.0), (2, 10.0), (3, 20.0), (4, 40.0), (5, 80.0)]
)
def test_a_verdict_stands_while_the_silence_lasts(before: int, patience: float) -> None:
    memory = Memory()
    for number in range(before):
        silence(memory, number * SILENCE_S)
    changes = silence(memory, before * SILENCE_S)
    assert changes == [
        (0.0, Finding.HEALTHY),
        (CLOCK.suspect_s, Finding.SUSPECT),
        (patience, Finding.DEAD),
    ]


def test_old_verdicts_are_forgotten() -> None:
    memory = Memory()
    for number in range(3):
        silence(memory, number * SILENCE_S)
    assert silence(memory, 10_000.0)[-1] == (10.0, Finding.DEAD)

"""Bugs that are planted on purpose are found: `python -m federation.simulator --bugs` hunts them all from seed 1.

The table says where each one was found first. Histories change with the product and with the scenario: a bug that is not
found there any more is hunted for a little further, and the table is to be brought up to date.
"""

import pytest

from federation.simulator import bugs
from federation.simulator.__main__ import play

FIRST: dict[str, int] = {
    "forgotten cancel": 1,
    "eager delete": 1,
    "inventory skipped": 1,
    "surge forgotten": 1,
    "panic": 2,
    "fence ignored": 1,
    "link taken for life": 3,
    "drain overlaps": 2,
    "endless grants": 1,
    "switch ignored": 8,
    "taints ignored": 1,
    "hasty failback": 2,
    "old answer": 2,
    "work forgotten": 1,
    "clock believed": 1,
    "spare for all": 1,
    "failback at once": 1,
    "half is whole": 28,
    "drain for all": 3,
    "cordon drains": 2,
    "settings stay behind": 2,
    "start blames": 1,
    "brake of the living": 2,
    "rounding loses": 1,
    "room given twice": 3,
    "zones filled up": 1,
    "dear taken for cheap": 3,
    "customs undivided": 3,
    "ties by turns": 2,
}
"""Bug -> the seed that shows it first; what is wrong stands in `bugs.BUGS`."""
FURTHER = 12
"""Seeds that are tried from there on."""


def test_at_least_twenty_bugs_are_planted_and_each_is_in_the_table() -> None:
    assert len(bugs.BUGS) >= 20
    assert set(FIRST) == set(bugs.BUGS)
    assert max(FIRST.values()) <= 500


@pytest.mark.sim
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", FIRST, ids=lambda name: f"{name}: {bugs.BUGS[name].sentence}")
def test_a_planted_bug_is_found(name: str) -> None:
    first = FIRST[name]

    def found(seed: int) -> tuple[str, float]:
        outcome = play(seed)
        return outcome.broken, outcome.cpu_s

    caught = bugs.hunt(name, range(first, first + FURTHER), found)
    assert caught.rule in bugs.BUGS[name].rules, caught


def test_a_bug_is_gone_after_the_hunt() -> None:
    right = [[getattr(o, n) for o, n, _ in bug.patches] for bug in bugs.BUGS.values()]
    for bug in bugs.BUGS.values():
        with bugs.planted(bug):
            assert all(getattr(o, n) is wrong for o, n, wrong in bug.patches)
    assert right == [[getattr(o, n) for o, n, _ in bug.patches] for bug in bugs.BUGS.values()]

"""The failure clock: silence to verdict, and when to look again."""

import pytest

from federation.domains.clock import LOOK_LATE_S, FailureClock, State, judge, next_look

CLOCK = FailureClock()


@pytest.mark.parametrize(
    ("silent_s", "state", "status", "look_s"),
    [
        (None, State.NEVER_SEEN, "Unknown", None),
        (0.0, State.READY, "True", 6.0),
        (5.999, State.READY, "True", 0.001),
        (6.0, State.SUSPECT, "True", 4.0),
        (9.5, State.SUSPECT, "True", 0.5),
        (10.0, State.UNREACHABLE, "Unknown", None),
        (3600.0, State.UNREACHABLE, "Unknown", None),
    ],
)
def test_verdicts(silent_s: float | None, state: State, status: str, look_s: float | None) -> None:
    verdict = judge(silent_s, CLOCK)
    assert (verdict.state, verdict.status, verdict.reason) == (state, status, state.value)
    wait = next_look(silent_s, CLOCK)
    assert wait == (None if look_s is None else pytest.approx(look_s + LOOK_LATE_S))


def test_a_look_always_lies_ahead() -> None:
    """A look that came a rounding error too early must not be followed by one after no time."""
    almost = 6.0 - 1e-12
    wait = next_look(almost, CLOCK)
    assert wait is not None
    assert wait >= LOOK_LATE_S
    assert judge(almost + wait, CLOCK).state is State.SUSPECT

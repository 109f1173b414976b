"""Exponential back-off with a cap and, where peers could march in step, jitter."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: base, base*factor, … never above cap; `jitter` is the share of a delay that may be added."""

    base_s: float
    cap_s: float
    factor: float = 2.0
    jitter: float = 0.0

    def delay(self, failures: int, roll: Callable[[], float] = lambda: 0.0) -> float:
        """The pause after the `failures`-th failure in a row (1 is the first). `roll` gives a number in [0, 1)."""
        assert failures >= 1
        exponent = min(failures - 1, 64)
        plain = min(self.base_s * self.factor**exponent, self.cap_s)
        return plain * (1 + self.jitter * roll())

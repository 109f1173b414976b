"""How long a fuzzer runs, and what holds for every input: no exception but the expected ones, and bounded time and memory.

    @fuzzed(examples=200, raw=st.binary())
    def test_…(raw): …

In the suite a fuzzer runs `examples` inputs, always the same ones. With FUZZ_SECONDS=60 (`make fuzz`) it runs rounds of other
inputs until the time is over; what fails is shrunk and printed, and goes into a table of regressions.
"""

import contextlib
import functools
import gc
import os
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
ROUND_EXAMPLES = 500
INPUT_CPU_S_MAX = 8.0
"""CPU of one input, generously: a busy machine is slow, not quadratic."""
GROWTH_MIB_MAX = 256
"""What a whole fuzzer may add to the process."""


def fuzzed(examples: int, **strategies: Any) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """A test that is given inputs of these strategies."""

    def decorate(test: Callable[..., None]) -> Callable[[], None]:
        @functools.wraps(test)
        def bounded(**inputs: Any) -> None:
            with quick():
                test(**inputs)

        def one_round(count: int, *, always_the_same: bool) -> None:
            settings(
                max_examples=count,
                deadline=None,
                database=None,
                derandomize=always_the_same,
                phases=(Phase.explicit, Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            )(given(**strategies)(bounded))()

        def run() -> None:
            with light():
                if not SECONDS:
                    one_round(examples, always_the_same=True)
                    return
                until = time.monotonic() + SECONDS
                while time.monotonic() < until:
                    one_round(ROUND_EXAMPLES, always_the_same=False)

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return pytest.mark.timeout(SECONDS + 240)(run)

    return decorate


@contextlib.contextmanager
def quick(limit_s: float = INPUT_CPU_S_MAX) -> Iterator[None]:
    """What happens here costs no more CPU than that."""
    began = time.process_time()
    yield
    spent = time.process_time() - began
    assert spent < limit_s, f"one input cost {spent:.2f} s of CPU"


@contextlib.contextmanager
def light(limit_mib: int = GROWTH_MIB_MAX) -> Iterator[None]:
    """What happens here does not swell the process."""
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < limit_mib, f"the process grew by {grown:.0f} MiB"

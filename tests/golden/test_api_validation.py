"""Every recorded create and update of the built kinds, answered as the real server answered it."""

import pytest
from tests.golden.api_pipeline import Case, cases, play, recorded

FILES = ("1-objects", "2-validation", "2b-fieldvalidation-updates", "6-lifecycle")
CASES = [case for file in FILES for case in cases(file)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_answer(case: Case) -> None:
    assert play(case) == recorded(case)


def test_that_the_recordings_are_there() -> None:
    assert len(CASES) > 240

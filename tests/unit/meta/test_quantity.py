"""Quantities: the canonical form is the one that the API gives back."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery.meta import quantity

CANONICAL = [
    ("0", "0"), ("0m", "0"), ("1", "1"), ("1000m", "1"), ("0.5", "500m"), ("1.5", "1500m"), ("100m", "100m"),
    ("1000", "1k"), ("1500", "1500"), ("1e3", "1e3"), ("1E", "1E"), ("5e-3", "5e-3"), ("1024Ki", "1Mi"),
    ("1Gi", "1Gi"), ("1.5Gi", "1536Mi"), ("1023", "1023"), ("0.5Ki", "512"), ("0.5Gi", "512Mi"), ("1Ki", "1Ki"),
    ("1000Mi", "1000Mi"), ("+1", "1"), ("-1", "-1"), ("-1500m", "-1500m"), (".5", "500m"), ("5.", "5"),
    ("1n", "1n"), ("0.1n", "1n"), ("1u", "1u"), ("1000u", "1m"), ("12345678901", "12345678901"),
]  # fmt: skip
REFUSED = [
    "",
    "x",
    "1x",
    "1 ",
    " 1",
    "1Kii",
    "1ki",
    "--1",
    "1.2.3",
    "e3",
    "Ki",
    ".",
    "1e",
    "1mKi",
    "0x10",
]


@pytest.mark.parametrize(("text", "form"), CANONICAL)
def test_canonical_form(text: str, form: str) -> None:
    assert quantity.canonical(text) == form


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match the regular expression"):
        quantity.parse(text)


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["m", "", "k", "M", "G", "Ki", "Mi", "Gi", "e3"]),
)
def test_the_canonical_form_keeps_the_value_and_is_stable(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    form = quantity.canonical(text)
    assert quantity.parse(form).value == quantity.parse(text).value
    assert quantity.canonical(form) == form


@pytest.mark.parametrize(("raw", "milli", "whole"), [("100m", 100, 1), ("1", 1000, 1), (0.5, 500, 1), (2, 2000, 2), ("1n", 1, 1), ("1Ki", 1024000, 1024)])  # fmt: skip
def test_counting_rounds_up(raw: str | float, milli: int, whole: int) -> None:
    parsed = quantity.quantity_of(raw)
    assert (parsed.milli, parsed.whole) == (milli, whole)


def test_exactness() -> None:
    assert quantity.parse("0.1").value * 3 == Fraction(3, 10)

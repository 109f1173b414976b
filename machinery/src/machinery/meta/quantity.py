"""Quantities of resources (`500m`, `1Gi`, `2e3`): parsed exactly, compared, and written as Kubernetes writes them.

A value is a fraction plus the family of its suffix (binary, decimal, exponent). The canonical form has no fraction and the
largest suffix that keeps it exact; a binary quantity below 1024 or with a fractional part becomes decimal; finer than nano
is rounded up. The limits of upstream's int64 scale at the far ends are not imitated: numbers here do not overflow.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

PATTERN_MESSAGE: Final = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_SHAPE = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)?", re.ASCII)
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL: Final = {
    "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
_BY_EXPONENT: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BY_SHIFT: Final = {shift: suffix for suffix, shift in _BINARY.items()}
_NANO: Final = Fraction(1, 10**9)
_TEXT_MAX: Final = 512
"""Longest text that is read: a number of more letters says nothing, and costs its length squared."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact amount and the suffix family it was written in: `binary`, `decimal` or `exponent`."""

    value: Fraction
    family: str = "decimal"

    @property
    def milli(self) -> int:
        """Thousandths, rounded up: how CPU is counted."""
        return -((-self.value * 1000).__floor__())

    @property
    def whole(self) -> int:
        """Units, rounded up: how bytes and pods are counted."""
        return -((-self.value).__floor__())

    @property
    def integral(self) -> bool:
        return self.value.denominator == 1

    def __str__(self) -> str:
        return _format(self.value, self.family)


@lru_cache(maxsize=4096)
def parse(text: str) -> Quantity:
    """The quantity of a text. Raises ValueError with upstream's sentence for anything else."""
    found = _SHAPE.fullmatch(text) if len(text) <= _TEXT_MAX else None
    if found is None:
        raise ValueError(PATTERN_MESSAGE)
    sign, number, suffix = found.groups()
    suffix = suffix or ""
    value = Fraction(number if number[-1] != "." else number[:-1])
    family = "decimal"
    if suffix in _BINARY:
        value, family = value * (1 << _BINARY[suffix]), "binary"
    elif suffix in _DECIMAL:
        value *= Fraction(10) ** _DECIMAL[suffix]
    else:
        exponent = int(suffix[1:])
        if abs(exponent) > 400:
            raise ValueError(PATTERN_MESSAGE)
        value, family = value * Fraction(10) ** exponent, "exponent"
    value = _round_up(value)
    return Quantity(-value if sign == "-" else value, family)


def quantity_of(raw: str | int | float) -> Quantity:
    """A quantity as it stands in an object, where JSON numbers are allowed too."""
    return parse(raw if isinstance(raw, str) else _number_text(raw))


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The form in which the server gives the quantity back. Raises ValueError."""
    return str(parse(text))


def canonical_of(raw: str | int | float) -> str:
    """`canonical` of what stands in an object."""
    return canonical(raw if isinstance(raw, str) else _number_text(raw))


def _number_text(raw: int | float) -> str:
    text = repr(raw)
    return text.replace("e+", "e")


def _round_up(value: Fraction) -> Fraction:
    """Finer than nano is rounded away from zero (values here carry no sign yet)."""
    scaled = value / _NANO
    return value if scaled.denominator == 1 else Fraction(-((-scaled).__floor__())) * _NANO


def _format(value: Fraction, family: str) -> str:
    if value == 0:
        return "0"
    if family == "binary" and abs(value) >= 1024 and value.denominator == 1:
        return _format_binary(value.numerator)
    exponent = _decimal_exponent(value)
    mantissa = (value / Fraction(10) ** exponent).numerator
    if family == "exponent":
        return f"{mantissa}e{exponent}" if exponent else str(mantissa)
    return f"{mantissa}{_BY_EXPONENT[exponent]}"


def _format_binary(value: int) -> str:
    shift = 0
    while shift < 60 and value % 1024 == 0:
        value, shift = value // 1024, shift + 10
    return f"{value}{_BY_SHIFT.get(shift, '')}"


def _decimal_exponent(value: Fraction) -> int:
    """The largest multiple of three, at most 18, by which the value is still a whole number."""
    exponent = -9
    while exponent < 18 and (value / Fraction(10) ** (exponent + 3)).denominator == 1:
        exponent += 3
    return exponent

"""Lists of resources as exact quantities: added, subtracted, compared.

A sum is written in the form of its first part, as upstream does: 0 has no form of its own.
"""

from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from typing import Any

from machinery.meta.quantity import Quantity, quantity_of

Amounts = dict[str, Quantity]
ZERO = Quantity(Fraction(0))
ONE = Quantity(Fraction(1))


def read(found: Mapping[str, Any] | None) -> Amounts:
    """The quantities of a resource list in an object."""
    return {name: quantity_of(value) for name, value in (found or {}).items()}


def written(amounts: Mapping[str, Quantity]) -> dict[str, str]:
    """As objects have it, by name."""
    return {name: str(amounts[name]) for name in sorted(amounts)}


def count(number: int) -> Quantity:
    return Quantity(Fraction(number))


def plus(a: Quantity, b: Quantity) -> Quantity:
    return Quantity(a.value + b.value, a.family if a.value else b.family)


def add(a: Mapping[str, Quantity], b: Mapping[str, Quantity]) -> Amounts:
    """Each resource of either."""
    out = dict(a)
    for name, value in b.items():
        out[name] = plus(out[name], value) if name in out else value
    return out


def subtract(a: Mapping[str, Quantity], b: Mapping[str, Quantity]) -> Amounts:
    """`a` without `b`, never below zero; a resource of `b` alone counts as none."""
    out = dict(a)
    for name, value in b.items():
        held = out.get(name, ZERO)
        out[name] = Quantity(max(held.value - value.value, Fraction(0)), held.family)
    return out


def highest(a: Mapping[str, Quantity], b: Mapping[str, Quantity]) -> Amounts:
    """The larger of both, resource by resource."""
    out = dict(a)
    for name, value in b.items():
        if name not in out or value.value > out[name].value:
            out[name] = value
    return out


def masked(amounts: Mapping[str, Quantity], names: Collection[str]) -> Amounts:
    """Only the resources named."""
    return {name: value for name, value in amounts.items() if name in names}


def shown(amounts: Mapping[str, Quantity], names: Iterable[str]) -> str:
    """`cpu=1,pods=2`, by name."""
    return ",".join(f"{name}={amounts[name]}" for name in sorted(names) if name in amounts)

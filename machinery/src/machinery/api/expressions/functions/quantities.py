"""Quantities: `quantity`, `isQuantity` and what can be done with one. They are exact, and equal by value."""

from fractions import Fraction
from typing import Final

from machinery.api.expressions.functions.shape import (
    QUANTITY,
    Function,
    Value,
    free,
    made,
    text_in,
)
from machinery.meta.quantity import parse

_INTEGERS: Final = range(-(1 << 63), 1 << 63)


def _quantity(text: str) -> Value:
    return _of(parse(text).value)


def _is_quantity(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _of(value: Fraction) -> Value:
    return made(QUANTITY, str(value))


def _in(quantity: Value) -> Fraction:
    return Fraction(text_in(quantity))


def _is_integer(quantity: Value) -> bool:
    value = _in(quantity)
    return value.denominator == 1 and value.numerator in _INTEGERS


def _as_integer(quantity: Value) -> int:
    if not _is_integer(quantity):
        raise ValueError("cannot convert value to integer")
    return _in(quantity).numerator


def _compare(left: Value, right: Value) -> int:
    one, other = _in(left), _in(right)
    return (one > other) - (one < other)


def _sign(quantity: Value) -> int:
    value = _in(quantity)
    return (value > 0) - (value < 0)


FUNCTIONS: Final = (
    free("quantity", "string_to_quantity", ("string",), QUANTITY, _quantity),
    free("isQuantity", "is_quantity_string", ("string",), "bool", _is_quantity),
    Function("sign", "quantity_sign", (QUANTITY,), "int", _sign),
    Function("isGreaterThan", "quantity_is_greater_than", (QUANTITY, QUANTITY), "bool", lambda a, b: _compare(a, b) > 0),
    Function("isLessThan", "quantity_is_less_than", (QUANTITY, QUANTITY), "bool", lambda a, b: _compare(a, b) < 0),
    Function("compareTo", "quantity_compare_to", (QUANTITY, QUANTITY), "int", _compare),
    Function("asApproximateFloat", "quantity_get_float", (QUANTITY,), "double", lambda a: float(_in(a))),
    Function("asInteger", "quantity_get_int", (QUANTITY,), "int", _as_integer),
    Function("isInteger", "quantity_is_integer", (QUANTITY,), "bool", _is_integer),
    Function("add", "quantity_add", (QUANTITY, QUANTITY), QUANTITY, lambda a, b: _of(_in(a) + _in(b))),
    Function("add", "quantity_add_int", (QUANTITY, "int"), QUANTITY, lambda a, b: _of(_in(a) + b)),
    Function("sub", "quantity_sub", (QUANTITY, QUANTITY), QUANTITY, lambda a, b: _of(_in(a) - _in(b))),
    Function("sub", "quantity_sub_int", (QUANTITY, "int"), QUANTITY, lambda a, b: _of(_in(a) - b)),
)  # fmt: skip

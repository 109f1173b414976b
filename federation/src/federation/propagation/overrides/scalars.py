"""What a plain YAML scalar means, and how a value is written, as in the YAML library of Go that Karmada uses (YAML 1.1, v2).

Not Python's YAML: `22:22` is text and no number of base 60, `y` is true, `1e3` and `08` are numbers, dates are text.
"""

import re
from typing import Any, Final

_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE: Final = frozenset(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"))
_FALSE: Final = frozenset(
    ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
)
_INTEGER: Final = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|0[0-7]*|[1-9][0-9]*)"
)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASE_60: Final = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_DATE: Final = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    r"(?:[Tt ][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:\.[0-9]*)?(?: ?(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?)?"
)
_SPECIAL: Final = frozenset(
    (".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN", "<<")
)  # fmt: skip
_LEAST, _MOST = -(2**63), 2**64 - 1
_WHOLE_MAX: Final = 1e21
"""From here on Go's JSON writes floats with an exponent."""
_PLAIN_EXPONENTS: Final = range(-4, 6)
"""Within these Go's YAML writes floats without an exponent."""


def resolved(text: str) -> Any:
    """The value of a plain scalar."""
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[0] in "0123456789+-.":
        number = _number(text.replace("_", ""))
        return text if number is None else number
    return text


def _number(text: str) -> int | float | None:
    if _INTEGER.fullmatch(text) and _LEAST <= (whole := _integer(text)) <= _MOST:
        return whole
    return float(text) if _FLOAT.fullmatch(text) else None


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    sign = -1 if text.startswith("-") else 1
    if digits[0] == "0" and digits[1:].isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def reads_otherwise(text: str) -> bool:
    """Whether the text must be quoted to stay text."""
    if text in _SPECIAL or _BASE_60.fullmatch(text) or _DATE.fullmatch(text):
        return True
    return not isinstance(resolved(text), str)


def through_json(value: Any) -> Any:
    """A float as JSON keeps it: without a fraction it is an integer."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE_MAX:
        return int(value)
    return value


def written(value: Any) -> str:
    """A null, boolean or number in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    value = through_json(value)
    return _float(value) if isinstance(value, float) else str(value)


def _float(value: float) -> str:
    """The shortest digits that read the same; an exponent has two digits at least."""
    shortest = repr(value)
    power = int(f"{value:.17e}".partition("e")[2])
    if power in _PLAIN_EXPONENTS:
        return shortest
    mantissa = shortest.partition("e")[0]
    if "e" not in shortest:
        digits = shortest.replace("-", "").replace(".", "").strip("0")
        mantissa = ("-" if value < 0 else "") + digits[0] + f".{digits[1:]}".rstrip(".")
    return f"{mantissa}e{power:+03d}"

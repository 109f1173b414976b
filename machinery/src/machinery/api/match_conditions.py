"""`matchConditions` of webhooks: expressions in CEL that must all be true for a request to be theirs.

One that is false decides, whatever others would have done; else one that fails is the webhook's failure.
"""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final

from machinery.api import cel
from machinery.api.validation.rules import RULE_LETTERS_MAX

NOT_INSTALLED: Final = "the package cel-expr-python is not installed here"
VARIABLES: Final = ("object", "oldObject", "request")
_FAULTS: Final = (RuntimeError, ValueError, TypeError, OverflowError, ArithmeticError, LookupError)


@cache
def _environment() -> Any:
    return cel.environment(lambda types: dict.fromkeys(VARIABLES, types.DYN))


@lru_cache(maxsize=1024)
def _program(expression: str) -> Any:
    """The compiled expression. Raises ValueError with upstream's words."""
    if cel.library() is None:
        raise ValueError(NOT_INSTALLED)
    if len(expression) > RULE_LETTERS_MAX:
        raise ValueError(f"it is longer than {RULE_LETTERS_MAX} characters")
    try:
        program = _environment().compile(expression)
    except RuntimeError as error:
        raise ValueError(f"compilation failed: {cel.compile_fault(error)}") from None
    found = str(program.return_type().name())
    if found not in ("BOOL", "DYN"):
        raise ValueError(f"must evaluate to bool but got {found.lower()}")
    return program


def condition_fault(expression: str) -> str:
    """Why the text is no condition; empty when it is one."""
    try:
        _program(expression)
    except ValueError as error:
        return str(error)
    return ""


class Failed(Exception):
    """A condition could not be evaluated, and none is false."""


def all_hold(conditions: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> bool:
    """Whether every condition is true of `object`, `oldObject` and `request`. Raises Failed."""
    faults = []
    for condition in conditions:
        name, expression = condition["name"], condition["expression"].strip()
        try:
            found = _program(expression).eval(data=dict(variables)).value()
        except _FAULTS as error:
            faults.append(f"match condition {name!r} failed to evaluate: {error}")
            continue
        if found is False:
            return False
        if found is not True:
            faults.append(f"match condition {name!r} did not evaluate to bool: {found}")
    if faults:
        raise Failed("; ".join(faults))
    return True

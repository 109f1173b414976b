"""`variable__`: what a policy's `variables.x` becomes. Where its value comes from is set round an evaluation (`looking_up`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from machinery.api.expressions.functions.shape import Value, free

Lookup = Callable[[str], Value]
"""The value of a variable, of one whose type is optional a list of none or one. Raises ValueError."""
_LOOKUP: ContextVar[Lookup] = ContextVar("lookup")
PREFIX: Final = "variables."


@contextmanager
def looking_up(lookup: Lookup) -> Iterator[None]:
    """Programs that run within find the values of `variables.…` there."""
    token = _LOOKUP.set(lookup)
    try:
        yield
    finally:
        _LOOKUP.reset(token)


FUNCTIONS: Final = (
    free("variable__", "variable__", ("string",), "dyn", lambda name: _LOOKUP.get()(name)),
)

"""Keys that every log line of a stretch of work carries: controller, key, reconcile_id.

`bind` sets them for the current task and what it awaits; `ContextFilter`, put on a handler, copies them onto each
record as if they had been given in `extra`.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_bound: ContextVar[Mapping[str, str]] = ContextVar("log_context", default={})  # noqa: B039 - never mutated


@contextmanager
def bind(**keys: str) -> Iterator[None]:
    """Add `keys` to the log lines written inside."""
    token = _bound.set({**_bound.get(), **keys})
    try:
        yield
    finally:
        _bound.reset(token)


def bound() -> Mapping[str, str]:
    """The keys bound here."""
    return _bound.get()


class ContextFilter(logging.Filter):
    """Copies the bound keys onto records; a record's own key wins."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _bound.get().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True

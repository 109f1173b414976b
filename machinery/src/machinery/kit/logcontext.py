"""Keys that every log line of a stretch of work carries: controller, key, reconcile_id.

`bind` sets them for the current task and what it awaits; `ContextFilter`, put on a handler, copies them onto each
record as if they had been given in `extra`.
"""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar

_bound: ContextVar[Mapping[str, str]] = ContextVar("log_context", default={})  # noqa: B039 - never mutated


class _Binding:
    """A stretch of work. A class, since each look at each key is one, and a generator takes three times as long."""

    __slots__ = ("_keys", "_token")

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = keys

    def __enter__(self) -> None:
        self._token = _bound.set({**_bound.get(), **self._keys})

    def __exit__(self, *_: object) -> None:
        _bound.reset(self._token)


def bind(**keys: str) -> AbstractContextManager[None]:
    """Add `keys` to the log lines written inside."""
    return _Binding(keys)


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

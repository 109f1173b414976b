"""Every task has an owner.

A background task that dies unseen is the worst failure of an asyncio daemon. `TaskOwner` keeps its tasks, reports
a death through one callback, and cancels and awaits all of them on close.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

_RUNNING: "set[asyncio.Task[Any]]" = set()
"""The loop itself holds tasks weakly, and a stream's protocol its reader: two pumps that wait for one another's sockets
are a cycle that nothing else refers to, and would be collected in mid-flight."""


class TaskOwner:
    """A set of background tasks with one life. `on_death` hears of a task that raised; default: an error log."""

    def __init__(self, on_death: Callable[[str, BaseException], None] | None = None) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_death = on_death
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """Start `work` in the background under this owner."""
        assert not self._closed, f"spawn of {name} on a closed owner"
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        _RUNNING.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        _RUNNING.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._on_death is not None:
            self._on_death(task.get_name(), error)
        else:
            log.error("background task died", extra={"task": task.get_name()}, exc_info=error)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called; nothing can be spawned any more."""
        return self._closed

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Cancel every task and wait for its end."""
        self._closed = True
        await cancel_all(self._tasks)


async def cancel_all(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel `tasks` and wait until each has ended, whatever it ends with."""
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)
    for task in pending:
        if not task.cancelled():
            task.exception()

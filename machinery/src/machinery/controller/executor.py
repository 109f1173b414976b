"""The one place where a plan meets the API: applies Actions, in order, and tells what came of them.

Order is kept, with two liberties that nobody can see but in time: Deletes in a row run side by side, and Creates in a
row run in batches of 1, 2, 4 …, so that a quota or a broken template is found out with one refused request and not
with five hundred (upstream's slow start). The first failure ends the plan and is raised; what was applied before it
has been told to `on_done`. A 404 on delete, and a 409 on create with `exists_ok`, are what was wanted.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias, assert_never

from machinery.client.interface import Client, DeleteOptions, PatchType
from machinery.controller.action import (
    Action,
    Create,
    Delete,
    Emit,
    Patch,
    RequeueAfter,
    Result,
    SetStatus,
)
from machinery.controller.recorder import EventRecorder
from machinery.meta.errors import AlreadyExists, NotFound

PARALLEL_MAX = 64
"""Requests of one plan in flight."""

OnDone: TypeAlias = Callable[[Action, Any], None]
"""(action, the object that the server answered, or None): called after each applied action."""


class Executor:
    """Applies plans through one client; Emits go to the recorder."""

    def __init__(self, client: Client, recorder: EventRecorder) -> None:
        self._client, self._recorder = client, recorder
        self._listeners: list[OnDone] = []

    def listen(self, hear: OnDone) -> None:
        """`hear` is called after each action that is applied from now on, whoever asked for it. It must not wait."""
        self._listeners.append(hear)

    async def apply(self, actions: Iterable[Action], *, on_done: OnDone | None = None) -> Result:
        """Apply `actions`; the Result asks for the earliest RequeueAfter among them."""
        actions = list(actions)
        if not actions:  # most looks find everything as it should be
            return Result()
        applied: list[Action] = []

        def done(action: Action, answer: Any) -> None:
            applied.append(action)
            if on_done is not None:
                on_done(action, answer)
            for hear in self._listeners:
                hear(action, answer)

        for run in _runs(actions):
            for batch in _batches(run):
                await self._apply_batch(batch, done)
        delays = [a.seconds for a in applied if isinstance(a, RequeueAfter)]
        return Result(min(delays, default=None), applied)

    async def _apply_batch(self, batch: Sequence[Action], done: OnDone) -> None:
        """All of `batch` side by side; waits for all, then raises the first error, in the plan's order."""
        if len(batch) == 1:
            done(batch[0], await self._apply(batch[0]))
            return
        errors: dict[int, Exception] = {}

        async def one(index: int, action: Action) -> None:
            try:
                answer = await self._apply(action)
            except Exception as error:  # noqa: BLE001 - collected: the others run to their end, then it is raised
                errors[index] = error
            else:
                done(action, answer)

        async with asyncio.TaskGroup() as group:
            for index, action in enumerate(batch):
                _ = group.create_task(one(index, action))
        if errors:
            raise errors[min(errors)]

    async def _apply(self, action: Action) -> Any:
        match action:
            case Create():
                return await self._create(action)
            case Patch():
                body = guarded_patch(action)
                return await self._client.patch(
                    action.resource, action.key, body, action.patch_type
                )
            case SetStatus():
                body = _with_metadata({"status": action.status}, action.resource_version, "")
                return await self._client.patch(
                    action.resource, action.key, body, PatchType.MERGE, subresource="status"
                )
            case Delete():
                await self._delete(action)
            case Emit():
                self._recorder.emit(action)
            case RequeueAfter():
                pass
            case _:
                assert_never(action)
        return None

    async def _create(self, action: Create) -> Any:
        namespace = (action.document.get("metadata") or {}).get("namespace") or ""
        try:
            return await self._client.create(action.resource, action.document, namespace)
        except AlreadyExists:
            if action.exists_ok:
                return None
            raise

    async def _delete(self, action: Delete) -> None:
        options = DeleteOptions(
            grace_period_seconds=action.grace_period_seconds,
            propagation_policy=action.propagation_policy or None,
            uid=action.uid or None,
            resource_version=action.resource_version or None,
        )
        try:
            await self._client.delete(action.resource, action.key, options)
        except NotFound:
            return


def guarded_patch(action: Patch) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
    """The patch body with its preconditions built in: tests for a JSON patch, metadata for the others."""
    if isinstance(action.patch, Mapping):
        return _with_metadata(action.patch, action.resource_version, action.uid)
    guards = [("/metadata/uid", action.uid), ("/metadata/resourceVersion", action.resource_version)]
    return [{"op": "test", "path": path, "value": value} for path, value in guards if value] + list(
        action.patch
    )


def _with_metadata(body: Mapping[str, Any], resource_version: str, uid: str) -> Mapping[str, Any]:
    guards = {"resourceVersion": resource_version, "uid": uid}
    guards = {name: value for name, value in guards.items() if value}
    if not guards:
        return body
    return {**body, "metadata": {**(body.get("metadata") or {}), **guards}}


def _runs(actions: Iterable[Action]) -> Iterator[list[Action]]:
    """Neighbours that may run side by side: Creates of one resource, Deletes; anything else alone."""
    serial = 0

    def company(action: Action) -> tuple[Any, ...]:
        nonlocal serial
        if isinstance(action, Create):
            return (Create, action.resource.gvk)
        if isinstance(action, Delete):
            return (Delete,)
        serial += 1
        return (serial,)

    for _, run in groupby(actions, key=company):
        yield list(run)


def _batches(run: Sequence[Action]) -> Iterator[Sequence[Action]]:
    """Creates by slow start, everything else as many at a time as are allowed."""
    size = 1 if isinstance(run[0], Create) else PARALLEL_MAX
    start = 0
    while start < len(run):
        yield run[start : start + size]
        start += size
        size = min(size * 2, PARALLEL_MAX)

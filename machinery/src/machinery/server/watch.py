"""Watches: one change, encoded once, written to everybody whom it concerns, at most once per tick of the loop.

Watchers with the same selector and the same form of answer share a channel. A change is offered only to the channels
that an index says it may concern (all of a kind, one namespace, one name, one node), so a thousand kubelets, or the agents
of a thousand members, cost one dictionary look-up and not a thousand selectors. A channel keeps the frames that a watcher
has not yet taken, and each watcher a cursor; a watcher whose socket is full lags, and one that lags too far is told 410 and
closed. Nobody waits for a slow reader.

What a write to a watcher costs is TLS and a system call, whatever is in it. So a channel of many watchers that has just spoken
keeps what comes for some milliseconds and tells it together; after a silence a change is told at once.

The type of an event is the selector's view: an object that begins to match is ADDED, one that ceases is DELETED.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from machinery.api.scheme import ServedKind
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import Expired, NotFound, StatusError
from machinery.server import codec
from machinery.server.cache import CacheEvent, Entry, KindCache, Selection, WatchCache
from machinery.server.config import ServerConfig
from machinery.server.replies import dumps
from machinery.server.webhooks.conversion import converting, converts, outward_all
from machinery.store.interface import Change

ADDED, MODIFIED, DELETED, BOOKMARK = "ADDED", "MODIFIED", "DELETED", "BOOKMARK"
RETRY_LAGGING_S = 0.05
GATHER_S = 0.005
"""How long a change may wait for others at most."""
GATHER_WATCHER_S = 0.00005
"""For each watcher: some five times what it takes to write to one, so that a channel takes a fifth of the loop's time at most."""
GATHER_FROM_S = 0.001
"""Who would gather for less than a timer can tell gathers nothing."""
PIECE_BYTES = 64 * 1024
"""TLS copies what it is given at once as a whole, for each watcher: more than that leaves the processor's caches."""
END_CHUNK = b"0\r\n\r\n"


class Transport(Protocol):
    """The part of asyncio.Transport that a watcher needs."""

    def write(self, data: bytes) -> None: ...

    def get_write_buffer_size(self) -> int: ...

    def is_closing(self) -> bool: ...


Encode = Callable[[str, bytes, int], bytes]
"""(event type, stored value, revision) -> the event's JSON line."""


def chunk(line: bytes) -> bytes:
    """A line as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(line), line)


def pieces(data: bytes) -> Sequence[bytes]:
    """What is written at once."""
    if len(data) <= PIECE_BYTES:
        return (data,)
    return [data[first : first + PIECE_BYTES] for first in range(0, len(data), PIECE_BYTES)]


def too_old(revision: int, floor: int) -> Expired:
    """The 410 of a watch."""
    return Expired(f"too old resource version: {revision} ({floor})")


def error_line(error: StatusError) -> bytes:
    """The ERROR event that ends a stream."""
    return dumps({"type": "ERROR", "object": error.to_status()})


class Channel:
    """A selector in one form, and what it has said that not all of its watchers have taken."""

    def __init__(
        self,
        cache: KindCache,
        selection: Selection,
        encode: Encode,
        form: str,
        kind: ServedKind | None = None,
    ) -> None:
        self.cache = cache
        self.kind = kind or cache.kind
        """As which the objects are told."""
        self.selection = selection
        self.encode = encode
        self.form = form
        self.watchers: list[Watcher] = []
        self.frames: deque[bytes] = deque()
        self.base = 0
        """Number of the first frame in `frames`."""
        self.due = 0.0
        """When it may speak again, by the loop's clock."""

    @property
    def end(self) -> int:
        return self.base + len(self.frames)

    def spoke(self, now: float) -> None:
        """Everybody was just told of everything: the next changes gather for a while."""
        wait = min(GATHER_S, GATHER_WATCHER_S * len(self.watchers))
        self.due = now + wait if wait >= GATHER_FROM_S else now

    def offer(self, event: CacheEvent) -> bool:
        """Take a change if the selector sees it."""
        seen = classify(self.selection, event, self.cache.kind)
        if seen is None:
            return False
        kind, entry = seen
        key = (kind, self.form)
        frame = event.frames.get(key) if self.form else None
        if frame is None:
            frame = chunk(self.encode(kind, entry.value, event.revision))
            if self.form:
                event.frames[key] = frame
        self.frames.append(frame)
        return True

    def flush(self, buffer_max: int, lag_max: int) -> bool:
        """Write what is new to every watcher that can take it; whether one is left lagging."""
        end = self.end
        joined: dict[int, Sequence[bytes]] = {}
        lagging = False
        for watcher in tuple(self.watchers):
            if watcher.cursor == end:
                continue
            if not watcher.ready or watcher.transport.get_write_buffer_size() > buffer_max:
                lagging = True
                continue
            data = joined.get(watcher.cursor)
            if data is None:
                skip = watcher.cursor - self.base
                data = pieces(b"".join(list(self.frames)[skip:] if skip else self.frames))
                joined[watcher.cursor] = data
            watcher.write(*data)
            watcher.cursor = end
        if lagging:
            self._drop_slow(lag_max)
        self._trim()
        return lagging

    def _drop_slow(self, lag_max: int) -> None:
        for watcher in tuple(self.watchers):
            if self.end - watcher.cursor > lag_max:
                watcher.fail(too_old(watcher.revision, self.cache.changed))

    def fail(self, error: StatusError) -> None:
        """End every stream with the reason."""
        for watcher in tuple(self.watchers):
            watcher.fail(error)

    def _trim(self) -> None:
        if not self.watchers:
            self.base, keep = self.end, 0
        else:
            low = min(watcher.cursor for watcher in self.watchers)
            keep = self.end - low
            self.base = low
        while len(self.frames) > keep:
            self.frames.popleft()


class Watcher:
    """One client's stream."""

    def __init__(self, transport: Transport, revision: int, bookmarks: bool) -> None:
        self.transport = transport
        self.revision = revision
        """Where it began; what it was told since is not counted."""
        self.bookmarks = bookmarks
        self.cursor = 0
        self.ready = False
        """Whether the initial state is out; until then the channel's frames wait."""
        self.written = False
        self.broken = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, *parts: bytes) -> None:
        if self.transport.is_closing():
            self.finish()
            return
        self.written = True
        for part in parts:
            self.transport.write(part)

    def fail(self, error: StatusError) -> None:
        """Say why, and end."""
        self.broken = True
        if not self.transport.is_closing():
            self.transport.write(chunk(error_line(error)))
        self.finish()

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class LocalWatcher:
    """A stream within the process: entries instead of bytes."""

    def __init__(self, cache: KindCache, selection: Selection, limit: int) -> None:
        self.cache = cache
        self.selection = selection
        self.queue: deque[tuple[str, Entry | None, int]] = deque()
        self.expired: Expired | None = None
        self.closed = False
        self._limit = limit
        self._wake: asyncio.Future[None] | None = None

    def offer(self, event: CacheEvent) -> None:
        inside = self.selection.namespace
        if inside and inside != event.entry.namespace:
            return  # of many that each follow one namespace, all but one end here
        seen = classify(self.selection, event, self.cache.kind)
        if seen is not None:
            self.push(seen[0], seen[1], event.revision)

    def push(self, kind: str, entry: Entry | None, revision: int) -> None:
        if len(self.queue) >= self._limit:
            self.fail(too_old(revision, self.cache.changed))
            return
        self.queue.append((kind, entry, revision))
        self.wake()

    def fail(self, error: Expired) -> None:
        self.expired = error
        self.wake()

    def close(self) -> None:
        self.closed = True
        self.wake()

    def wake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def wait(self) -> None:
        """Until there is something in the queue, or an end."""
        if self.queue or self.expired is not None or self.closed:
            return
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake


def classify(selection: Selection, event: CacheEvent, kind: ServedKind) -> tuple[str, Entry] | None:
    """What the change is in the eyes of a selector: (event type, the state to show)."""
    previous = event.previous
    was = previous is not None and selection.matches(previous, kind)
    if event.change is Change.DELETE:
        return (DELETED, event.entry) if was else None
    now = selection.matches(event.entry, kind)
    if now:
        return (MODIFIED if was else ADDED, event.entry)
    if was and previous is not None:
        return (DELETED, previous)
    return None


class Backlog:
    """Events that wait until a webhook has converted their objects; all behind them wait too, for their order."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._events: deque[CacheEvent] = deque()
        self._tasks: TaskOwner | None = None
        self._wake: Callable[[], None] | None = None
        self._working = False
        self._idle: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return self._working or bool(self._events)

    def work_with(self, tasks: TaskOwner, wake: Callable[[], None]) -> None:
        """Convert in a task of that owner; `wake` is called when channels have something to say."""
        self._tasks, self._wake = tasks, wake

    def add(self, event: CacheEvent) -> None:
        self._events.append(event)
        if not self._working and self._tasks is not None and not self._tasks.closed:
            self._working = True
            _ = self._tasks.spawn(self._work(), "watch-conversion")

    def clear(self) -> None:
        """Nobody is left to be told."""
        self._events.clear()

    async def settled(self) -> None:
        """Until everything that has happened was told."""
        while self:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(future)
            await future

    async def _work(self) -> None:
        try:
            while self._events:
                await self._convert(list(self._events))
                while self._events:
                    event = self._events[0]
                    for channel in tuple(self._hub.concerned(event)):
                        await self._offer(channel, event)
                    if self._events and self._events[0] is event:
                        self._events.popleft()
                    if self._wake is not None:
                        self._wake()
        finally:
            self._working = False
            for future in self._idle:
                if not future.done():
                    future.set_result(None)
            self._idle.clear()

    async def _convert(self, events: list[CacheEvent]) -> None:
        """Ask about all of them together; what fails fails again when it is told."""
        entries = [event.entry for event in events]
        kinds = {channel.kind.api_version: channel.kind for channel in self._hub.channels.values()}
        for kind in kinds.values():
            with contextlib.suppress(StatusError):
                _ = await outward_all(kind, [entry.document() for entry in entries])

    async def _offer(self, channel: Channel, event: CacheEvent) -> None:
        try:
            if await converting(lambda: channel.offer(event)):
                self._hub.touched[channel] = None
        except StatusError as error:
            channel.fail(error)


class Hub:
    """The watchers of one kind."""

    def __init__(self, cache: KindCache) -> None:
        self.cache = cache
        self.channels: dict[object, Channel] = {}
        self._general: dict[object, Channel] = {}
        self._by_name: dict[str, dict[object, Channel]] = {}
        self._by_node: dict[str, dict[object, Channel]] = {}
        self._by_namespace: dict[str, dict[object, Channel]] = {}
        self.locals: dict[LocalWatcher, None] = {}
        self._locals_by_namespace: dict[str, dict[LocalWatcher, None]] = {}
        self.touched: dict[Channel, None] = {}
        self.backlog = Backlog(self)
        cache.listeners.append(self._on_event)

    def offer(self, event: CacheEvent) -> None:
        """To every channel that it may concern. Raises ConversionWanted; who has got it is not offered it again."""
        for channel in self.concerned(event):
            if channel.offer(event):
                self.touched[channel] = None

    def _on_event(self, event: CacheEvent) -> None:
        if self.backlog or converts(self.cache.kind):
            self.backlog.add(event)
        else:
            self.offer(event)
        for name in ("", event.entry.namespace) if event.entry.namespace else ("",):
            for local in self._locals_by_namespace.get(name, ()):
                local.offer(event)

    def attach(self, local: LocalWatcher) -> None:
        """Offer changes to a watcher of this process from now on."""
        self.locals[local] = None
        self._locals_by_namespace.setdefault(local.selection.namespace, {})[local] = None

    def detach(self, local: LocalWatcher) -> None:
        """The reverse of `attach`."""
        del self.locals[local]
        inside = self._locals_by_namespace[local.selection.namespace]
        del inside[local]
        if not inside:
            del self._locals_by_namespace[local.selection.namespace]

    def concerned(self, event: CacheEvent) -> Iterable[Channel]:
        """The channels whose selectors may see it."""
        yield from self._general.values()
        if self._by_namespace and (inside := self._by_namespace.get(event.entry.namespace)):
            yield from inside.values()
        if self._by_name and (named := self._by_name.get(event.entry.name)):
            yield from named.values()
        if self._by_node:
            now = event.entry.node
            before = event.previous.node if event.previous is not None else now
            if found := self._by_node.get(now):
                yield from found.values()
            if before != now and (found := self._by_node.get(before)):
                yield from found.values()

    def _slot(self, selection: Selection) -> dict[object, Channel]:
        if selection.name:
            return self._by_name.setdefault(selection.name, {})
        if selection.node:
            return self._by_node.setdefault(selection.node, {})
        if selection.namespace:
            return self._by_namespace.setdefault(selection.namespace, {})
        return self._general

    def join(  # noqa: PLR0913 - who, what, in which form, as which kind
        self,
        watcher: Watcher,
        selection: Selection,
        encode: Encode,
        form: str,
        kind: ServedKind | None = None,
    ) -> Channel:
        """Add a watcher to the channel of its selector; a form without a name is never shared."""
        key = (selection.key, form) if form else watcher
        channel = self.channels.get(key)
        if channel is None:
            channel = Channel(self.cache, selection, encode, form, kind)
            self.channels[key] = channel
            self._slot(selection)[key] = channel
        watcher.cursor = channel.end
        channel.watchers.append(watcher)
        return channel

    def leave(self, watcher: Watcher, channel: Channel) -> None:
        channel.watchers.remove(watcher)
        if channel.watchers:
            return
        key = (channel.selection.key, channel.form) if channel.form else watcher
        self.channels.pop(key, None)
        selection = channel.selection
        slot = self._slot(selection)
        slot.pop(key, None)
        if not slot:
            self._forget(selection)
        self.touched.pop(channel, None)

    def _forget(self, selection: Selection) -> None:
        """Nobody is left where `_slot` put the channels of the selection."""
        if selection.name:
            self._by_name.pop(selection.name, None)
        elif selection.node:
            self._by_node.pop(selection.node, None)
        elif selection.namespace:
            self._by_namespace.pop(selection.namespace, None)

    def reset(self) -> None:
        """Continuity was lost: everybody begins again."""
        self.backlog.clear()
        error = too_old(0, self.cache.changed)
        for channel in tuple(self.channels.values()):
            for watcher in tuple(channel.watchers):
                watcher.fail(error)
        for local in self.locals:
            local.fail(error)

    def close(self) -> None:
        """End every stream in good order; what was said already still goes out."""
        self.backlog.clear()
        for channel in tuple(self.channels.values()):
            for watcher in tuple(channel.watchers):
                watcher.finish()
        for local in self.locals:
            local.close()


class Watches:
    """The hubs of all kinds, their flush and their bookmarks."""

    def __init__(self, cache: WatchCache, config: ServerConfig) -> None:
        self._cache = cache
        self._config = config
        self._hubs = {kind_cache.prefix: Hub(kind_cache) for kind_cache in cache.all()}
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        """When the timer wakes."""
        self.tasks = TaskOwner()
        for hub in self._hubs.values():
            hub.backlog.work_with(self.tasks, self._schedule)
        cache.on_batch.append(self._schedule)
        cache.on_reset.append(self._reset)

    def hub(self, kind: ServedKind) -> Hub:
        """The hub of a kind that is stored. Raises NotFound where a dynamic kind is gone meanwhile."""
        found = self._hubs.get(codec.storage_prefix(kind))
        if found is None:
            raise NotFound("the server could not find the requested resource", details={})
        return found

    def open(self, cache: KindCache) -> None:
        """Take in one more kind."""
        hub = self._hubs[cache.prefix] = Hub(cache)
        hub.backlog.work_with(self.tasks, self._schedule)

    def end(self, kind: ServedKind) -> None:
        """End every stream of a kind, whose definition has changed: clients begin anew from where they were."""
        self._close(self.hub(kind))

    def shut(self, kind: ServedKind) -> None:
        """End every stream of a kind, and forget it."""
        self._close(self._hubs.pop(codec.storage_prefix(kind)))

    def poke(self, kind: ServedKind, channel: Channel) -> None:
        """Look at a channel at the next tick: a watcher has become ready."""
        self.hub(kind).touched[channel] = None
        self._schedule()

    def count(self) -> int:
        """Open watches."""
        return sum(
            len(hub.locals) + sum(len(c.watchers) for c in hub.channels.values())
            for hub in self._hubs.values()
        )

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        now = asyncio.get_running_loop().time()
        due = 0.0
        for hub in self._hubs.values():
            if not hub.touched:
                continue
            touched, hub.touched = hub.touched, {}
            for channel in touched:
                again = channel.due
                if again <= now:
                    again = now + RETRY_LAGGING_S if self._say(channel) else 0.0
                    channel.spoke(now)
                if again:
                    hub.touched[channel] = None
                    due = min(due or again, again)
        if due:
            self._wake(due)

    def _wake(self, due: float) -> None:
        """Look again then, or before."""
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._woken)

    def _woken(self) -> None:
        self._timer = None
        self._schedule()

    def _say(self, channel: Channel) -> bool:
        """Write what is new; whether a watcher is left lagging."""
        config = self._config
        return channel.flush(config.watch_buffer_bytes_max, config.watch_lag_events_max)

    def _close(self, hub: Hub) -> None:
        """End the streams of a kind; what was said already, and is only gathered, still goes out."""
        for channel in hub.touched:
            _ = self._say(channel)
        hub.close()

    def _reset(self) -> None:
        for hub in self._hubs.values():
            hub.reset()

    def bookmark_all(self) -> None:
        """Tell every watcher that asked for it, and that is up to date, how far it is."""
        revision = self._cache.revision
        for hub in self._hubs.values():
            for local in hub.locals:
                local.push(BOOKMARK, None, revision)
            if hub.backlog:  # nobody was told of everything until now
                continue
            for channel in tuple(hub.channels.values()):
                frame = None
                for watcher in tuple(channel.watchers):
                    if not watcher.bookmarks or watcher.cursor != channel.end:
                        continue
                    if revision <= watcher.revision:
                        continue
                    frame = frame or chunk(channel.encode(BOOKMARK, b"", revision))
                    watcher.revision = revision
                    watcher.write(frame)

    def close_all(self) -> None:
        """End every stream: the server stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for hub in self._hubs.values():
            self._close(hub)

    async def stop(self) -> None:
        """`close_all`, and nothing goes on afterwards."""
        self.close_all()
        await self.tasks.close()

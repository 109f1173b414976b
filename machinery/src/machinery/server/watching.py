"""WATCH over HTTP: the initial state if asked for, then the channel's frames until the client, the time or a fault ends it."""

import asyncio
from collections.abc import Iterable, Sequence

import orjson
from aiohttp import web

from machinery.api.scheme import ServedKind
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.meta.errors import Expired, StatusError
from machinery.server import codec, render
from machinery.server.audit.event import Trail
from machinery.server.cache import CacheEvent, Entry, KindCache, Selection, WatchCache
from machinery.server.config import ServerConfig
from machinery.server.connections import Connection
from machinery.server.fairness import SEAT
from machinery.server.listing import (
    check_watch_options,
    parse_int,
    parse_revision,
    selection_of,
    wait_until,
)  # fmt: skip
from machinery.server.negotiate import negotiate
from machinery.server.replies import Reply, Streamed, dumps
from machinery.server.request import RequestInfo, truthy
from machinery.server.watch import (
    ADDED,
    BOOKMARK,
    END_CHUNK,
    Channel,
    Encode,
    Hub,
    Transport,
    Watcher,
    Watches,
    chunk,
    classify,
    error_line,
    pieces,
    too_old,
)  # fmt: skip
from machinery.server.webhooks.conversion import converting, converts, outward_all

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nCache-Control: no-cache, private\r\n\r\n"
LAST_BOOKMARK_S = 2.0
INITIAL_END = "k8s.io/initial-events-end"


class WatchServer:
    """Serves watches of one API server."""

    def __init__(
        self, cache: WatchCache, watches: Watches, config: ServerConfig, clock: Clock, ids: Ids
    ) -> None:
        self._cache = cache
        self._watches = watches
        self._config = config
        self._clock = clock
        self._ids = ids

    async def serve(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind, stored: ServedKind
    ) -> web.StreamResponse:
        """The whole life of one watch. Raises before the first byte; afterwards errors travel as events."""
        accepted = negotiate(request.headers.get("Accept", ""), streaming=True)
        include = render.include_object(info.first("includeObject"))
        initial = check_watch_options(info)
        selection = _selection(info, kind)
        timeout = self._timeout(info)
        revision = info.first("resourceVersion")
        start = parse_revision(revision) if revision else 0
        bookmarks = truthy(info, "allowWatchBookmarks")
        encode, form = render.event_encoder(kind, stored, accepted, include, self._clock.now)
        cache = self._cache.of(stored)
        await self._caught_up(start, initial=initial)
        hub = self._watches.hub(stored)
        await hub.backlog.settled()
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        past = None
        if start and not initial:
            past = cache.since(start)
            if past is None:
                return self._expired(too_old(start, cache.floor))
        transport.write(HEAD if info.audit is None else _head(info.audit))
        watcher = Watcher(transport, start, bookmarks)
        channel = hub.join(watcher, selection, encode, form, kind)
        protocol = request.protocol
        if isinstance(protocol, Connection):
            protocol.on_lost = watcher.finish
        try:
            if past is None:
                await self._initial(watcher, kind, cache, selection, encode, bookmark=initial)
            else:
                told = _told(past, selection, stored)
                for frame in await self._frames(kind, encode, told):
                    watcher.write(frame)
            if (seat := request.get(SEAT)) is not None:
                seat.leave()
            watcher.ready = True
            self._watches.poke(stored, channel)
            await self._live(watcher, hub, channel, encode, timeout)
        except StatusError as error:  # the head is out: the rest is told as an event
            watcher.fail(error)
        finally:
            hub.leave(watcher, channel)
            if isinstance(protocol, Connection):
                protocol.on_lost = None
        return self._end(transport, watcher)

    async def _caught_up(self, start: int, *, initial: bool) -> None:
        """A client that has seen more than there is must list again, not wait for ever. Raises Timeout."""
        if not start or initial:
            await self._cache.fresh()
        if start:
            await wait_until(self._cache, start)

    def _timeout(self, info: RequestInfo) -> float:
        seconds = parse_int(info.first("timeoutSeconds"))
        if seconds > 0:
            return float(seconds)
        spread = int(self._ids.uid()[:4], 16) / 0xFFFF
        return self._config.watch_timeout_s * (1 + spread)

    def _expired(self, error: Expired) -> Reply:
        """A watch that cannot begin: one ERROR event, as the stream would have ended."""
        return Reply(200, error_line(error))

    async def _frames(
        self, kind: ServedKind, encode: Encode, told: Sequence[tuple[str, bytes, int]]
    ) -> list[bytes]:
        """The events' frames. Raises InternalError where nobody converts an object."""
        if not converts(kind):
            return [chunk(encode(*one)) for one in told]
        _ = await outward_all(kind, [codec.decode(value, revision) for _, value, revision in told])
        return [chunk(await converting(lambda: encode(*one))) for one in told]  # noqa: B023 - called at once

    async def _initial(  # noqa: PLR0913 - to whom, of what, in which form
        self,
        watcher: Watcher,
        kind: ServedKind,
        cache: KindCache,
        selection: Selection,
        encode: Encode,
        *,
        bookmark: bool,
    ) -> None:
        """Everything that is there, in segments; changes meanwhile wait in the channel."""
        entries: Sequence[Entry] = cache.select(selection)
        revision = self._cache.revision
        size = self._config.list_segment_objects
        for first in range(0, len(entries), size):
            told = [(ADDED, entry.value, entry.revision) for entry in entries[first : first + size]]
            frames = await self._frames(kind, encode, told)
            watcher.write(*pieces(b"".join(frames)))
            await self._drained(watcher.transport)
            if watcher.done.done():
                return
        watcher.revision = max(watcher.revision, revision)
        if bookmark and watcher.bookmarks:
            line = _initial_end(encode(BOOKMARK, b"", revision))
            watcher.write(chunk(line))

    async def _drained(self, transport: Transport) -> None:
        """Let others run; wait while the client does not read."""
        await asyncio.sleep(0)
        while (
            transport.get_write_buffer_size() > self._config.watch_buffer_bytes_max
            and not transport.is_closing()
        ):
            await self._clock.sleep(0.02)

    async def _live(
        self, watcher: Watcher, hub: Hub, channel: Channel, encode: Encode, timeout_s: float
    ) -> None:
        early = LAST_BOOKMARK_S if watcher.bookmarks and timeout_s > LAST_BOOKMARK_S else 0.0
        if await _ended(watcher, timeout_s - early) or not early:
            return
        if watcher.written and watcher.cursor == channel.end and not hub.backlog:
            watcher.write(chunk(encode(BOOKMARK, b"", self._cache.revision)))
        await _ended(watcher, early)

    def _end(self, transport: asyncio.Transport, watcher: Watcher) -> Streamed:
        if not transport.is_closing():
            transport.write(END_CHUNK)
        return Streamed(keep_alive=not watcher.broken)


def _told(
    past: Iterable[CacheEvent], selection: Selection, stored: ServedKind
) -> list[tuple[str, bytes, int]]:
    """What happened since the client was last told, as its selector sees it."""
    return [
        (seen[0], seen[1].value, event.revision)
        for event in past
        if (seen := classify(selection, event, stored)) is not None
    ]


def _selection(info: RequestInfo, kind: ServedKind) -> Selection:
    found = selection_of(
        kind, info.namespace, info.first("labelSelector"), info.first("fieldSelector")
    )
    if info.name:  # /watch/…/<name>, or the same by field selector
        found.name = info.name
    return found


async def _ended(watcher: Watcher, seconds: float) -> bool:
    done, _ = await asyncio.wait([watcher.done], timeout=seconds)
    return bool(done)


def _head(trail: Trail) -> bytes:
    """The head with its audit id: a watch begins to be answered here."""
    trail.begun(200)
    return HEAD[:-2] + trail.header() + b"\r\n"


def _initial_end(line: bytes) -> bytes:
    """The bookmark that says: the initial state is complete."""
    event = orjson.loads(line)
    event["object"]["metadata"]["annotations"] = {INITIAL_END: "true"}
    return dumps(event)

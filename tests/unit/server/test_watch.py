"""Channels and watchers: what a selector sees, who is written to, what becomes of the slow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from machinery.api.kinds import BUILTIN, POD
from machinery.meta.selectors import EVERYTHING, parse, parse_fields
from machinery.server import codec
from machinery.server.cache import CacheEvent, Entry, KindCache, Selection, WatchCache
from machinery.server.config import ServerConfig
from machinery.server.watch import (
    ADDED,
    DELETED,
    GATHER_S,
    MODIFIED,
    PIECE_BYTES,
    Channel,
    Hub,
    LocalWatcher,
    Watcher,
    Watches,
    classify,
    pieces,
)  # fmt: skip
from machinery.store.interface import Change
from machinery.store.memory import MemoryStore


def entry(name: str, revision: int, label: str = "", node: str = "") -> Entry:
    metadata: dict[str, Any] = {"name": name, "namespace": "a"}
    if label:
        metadata["labels"] = {"sel": label}
    value = codec.encode(POD, {"metadata": metadata, "spec": {"nodeName": node} if node else {}})
    return Entry(f"a/{name}", value, revision, pod=True)


class Pipe:
    """A transport that remembers; `full` makes its buffer look full."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.full = False
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 1 << 30 if self.full else 0

    def is_closing(self) -> bool:
        return self.closing

    def events(self) -> list[tuple[str, str]]:
        """(type, resourceVersion) of everything written."""
        found = []
        for line in b"".join(self.written).split(b"\r\n"):
            if line.startswith(b"{"):
                event = orjson.loads(line)
                metadata = event["object"].get("metadata", {})
                found.append((event["type"], metadata.get("resourceVersion", "")))
        return found


def encode(kind: str, value: bytes, revision: int) -> bytes:
    shown = codec.splice(value, revision, codec.head_size(POD)) if value else b"{}"
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), shown)


SELECTED = Selection("", parse("sel=yes"), EVERYTHING)


@pytest.mark.parametrize(
    ("change", "before", "after", "expected"),
    [
        (Change.CREATE, None, "yes", (ADDED, "after")),
        (Change.CREATE, None, "no", None),
        (Change.UPDATE, "yes", "yes", (MODIFIED, "after")),
        (Change.UPDATE, "no", "yes", (ADDED, "after")),
        (Change.UPDATE, "yes", "no", (DELETED, "before")),
        (Change.UPDATE, "no", "no", None),
        (Change.DELETE, "yes", "yes", (DELETED, "after")),
        (Change.DELETE, "no", "no", None),
    ],
)
def test_classify(
    change: Change, before: str | None, after: str, expected: tuple[str, str] | None
) -> None:
    previous = None if before is None else entry("p", 1, before)
    event = CacheEvent(change, entry("p", 2, after), previous, 2)
    seen = classify(SELECTED, event, POD)
    if expected is None:
        assert seen is None
        return
    shown = event.entry if expected[1] == "after" else previous
    assert seen == (expected[0], shown)


class Stage:
    """A hub over an empty cache."""

    def __init__(self) -> None:
        self.cache = KindCache(POD, ServerConfig())
        self.cache.load([], 1)
        self.hub = Hub(self.cache)
        self.revision = 1

    def watch(
        self, selection: Selection | None = None, form: str = "json"
    ) -> tuple[Pipe, Watcher, Channel]:
        pipe = Pipe()
        watcher = Watcher(pipe, 1, bookmarks=False)
        watcher.ready = True
        channel = self.hub.join(watcher, selection or Selection(""), encode, form)
        return pipe, watcher, channel

    def happen(self, name: str = "p", label: str = "", node: str = "", was: str = "") -> CacheEvent:
        self.revision += 1
        previous = entry(name, self.revision - 1, label, was) if was else None
        change = Change.UPDATE if was else Change.CREATE
        event = CacheEvent(change, entry(name, self.revision, label, node), previous, self.revision)
        for listener in self.cache.listeners:
            listener(event)
        return event

    def flush(self, lag_max: int = 100) -> None:
        touched, self.hub.touched = self.hub.touched, {}
        for channel in touched:
            if channel.flush(1 << 20, lag_max):
                self.hub.touched[channel] = None


@pytest.fixture
async def stage() -> Stage:
    return Stage()


async def test_watchers_of_one_selector_share_one_frame(stage: Stage) -> None:
    first, _, channel = stage.watch()
    second, _, other = stage.watch()
    assert channel is other
    event = stage.happen()
    stage.happen()
    stage.flush()
    assert first.events() == second.events() == [(ADDED, "2"), (ADDED, "3")]
    assert first.written[0] is second.written[0], "joined once for both"
    assert len(event.frames) == 1
    assert not channel.frames, "nothing is kept that everybody has taken"


async def test_only_concerned_channels_hear(stage: Stage) -> None:
    node_1, _, _ = stage.watch(Selection("", EVERYTHING, parse_fields("spec.nodeName=n1")))
    node_2, _, _ = stage.watch(Selection("", EVERYTHING, parse_fields("spec.nodeName=n2")))
    named, _, _ = stage.watch(Selection("a", EVERYTHING, parse_fields("metadata.name=q")))
    stage.happen(node="n1")
    stage.flush()
    assert (node_1.events(), node_2.events(), named.events()) == ([(ADDED, "2")], [], [])
    stage.happen(node="n2", was="n1")
    stage.flush()
    assert node_1.events()[1:] == [(DELETED, "3")], "moved away: with the change's revision"
    assert node_2.events() == [(ADDED, "3")]
    stage.happen(name="q")
    stage.flush()
    assert named.events() == [(ADDED, "4")]


async def test_a_slow_watcher_lags_and_catches_up(stage: Stage) -> None:
    slow, _, channel = stage.watch()
    quick, _, _ = stage.watch()
    slow.full = True
    for _ in range(3):
        stage.happen()
        stage.flush()
    assert len(quick.events()) == 3
    assert slow.events() == []
    assert len(channel.frames) == 3
    slow.full = False
    stage.flush()
    assert slow.events() == quick.events()
    assert not channel.frames


async def test_a_watcher_that_lags_too_far_is_told_410_and_ended(stage: Stage) -> None:
    slow, watcher, channel = stage.watch()
    slow.full = True
    for _ in range(4):
        stage.happen()
        stage.flush(lag_max=3)
    assert watcher.done.done()
    assert watcher.broken
    assert [kind for kind, _ in slow.events()] == ["ERROR"]
    assert b'"code":410' in slow.written[0]
    stage.hub.leave(watcher, channel)
    assert not stage.hub.channels


async def test_what_happens_before_the_initial_state_is_out_waits(stage: Stage) -> None:
    pipe, watcher, _ = stage.watch()
    watcher.ready = False
    stage.happen()
    stage.flush()
    assert pipe.events() == []
    watcher.ready = True
    stage.flush()
    assert pipe.events() == [(ADDED, "2")]


async def test_leaving_clears_the_indexes(stage: Stage) -> None:
    joined = [
        stage.watch(Selection("", EVERYTHING, parse_fields(fields)))
        for fields in ("spec.nodeName=n1", "metadata.name=q")
    ]
    joined.append(stage.watch(form=""))
    joined.append(stage.watch(form=""))
    assert len(stage.hub.channels) == 4, "a form without a name is never shared"
    for _, watcher, channel in joined:
        stage.hub.leave(watcher, channel)
    stage.happen(name="q", node="n1")
    assert not stage.hub.channels
    assert not stage.hub.touched


async def test_reset_ends_everybody_with_410(stage: Stage) -> None:
    pipe, watcher, _ = stage.watch()
    local = LocalWatcher(stage.cache, Selection(""), 10)
    stage.hub.attach(local)
    stage.hub.reset()
    assert watcher.done.done()
    assert [kind for kind, _ in pipe.events()] == ["ERROR"]
    assert local.expired is not None


async def test_a_local_watcher_is_bounded_too(stage: Stage) -> None:
    local = LocalWatcher(stage.cache, Selection(""), 2)
    stage.hub.attach(local)
    for _ in range(3):
        stage.happen()
    await asyncio.wait_for(local.wait(), 1)
    assert local.expired is not None
    assert len(local.queue) == 2


@contextlib.asynccontextmanager
async def followed() -> AsyncIterator[tuple[MemoryStore, Watches]]:
    """A store, and the watches of what is written to it."""
    store = MemoryStore()
    await store.start()
    cache = WatchCache(store, BUILTIN, ServerConfig())
    await cache.start()
    watches = Watches(cache, ServerConfig())
    try:
        yield store, watches
    finally:
        await watches.stop()
        await cache.stop()
        await store.close()


def joined(watches: Watches, *, bookmarks: bool = False) -> tuple[Pipe, Channel]:
    pipe = Pipe()
    watcher = Watcher(pipe, 0, bookmarks)
    watcher.ready = True
    return pipe, watches.hub(POD).join(watcher, Selection(""), encode, "json")


async def test_bookmarks_go_to_those_who_asked_and_are_up_to_date() -> None:
    async with followed() as (_, watches):
        asked, _ = joined(watches, bookmarks=True)
        silent, _ = joined(watches)
        watches.bookmark_all()
        watches.bookmark_all()
        assert [kind for kind, _ in asked.events()] == ["BOOKMARK"], "once a revision"
        assert silent.events() == []
        assert watches.count() == 2


async def put(store: MemoryStore, watches: Watches, name: str) -> None:
    """Write a pod, and let whoever is told at once be told."""
    value = codec.encode(POD, {"metadata": {"name": name, "namespace": "a"}})
    row = await store.create(f"{codec.storage_prefix(POD)}a/{name}", value)
    (channel,) = watches.hub(POD).channels.values()
    while channel.cache.changed < row.revision:  # noqa: ASYNC110 - what it waits for has no event
        await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("watchers", "wait"), [(1, 0.0), (19, 0.0), (20, 0.001), (100, GATHER_S), (1000, GATHER_S)]
)
async def test_the_more_watchers_the_longer_changes_gather(watchers: int, wait: float) -> None:
    async with followed() as (_, watches):
        channel, *_ = [joined(watches)[1] for _ in range(watchers)]
        channel.spoke(7.0)
        assert channel.due == pytest.approx(7.0 + wait)


async def test_after_a_silence_at_once_and_then_together() -> None:
    async with followed() as (store, watches):
        (first, channel), (second, _) = joined(watches), joined(watches)
        await put(store, watches, "a")
        assert (len(first.written), len(second.written)) == (1, 1)
        channel.due = asyncio.get_running_loop().time() + 1000
        await put(store, watches, "b")
        await put(store, watches, "c")
        assert len(first.written) == 1, "they gather"
        channel.due = 0.0
        await put(store, watches, "d")
        assert (len(first.written), len(first.events())) == (2, 4)
        assert second.events() == first.events()


async def test_what_gathers_is_told_when_its_time_has_come() -> None:
    async with followed() as (store, watches):
        pipe, channel = joined(watches)
        channel.due = asyncio.get_running_loop().time() + 0.002
        await put(store, watches, "a")
        async with asyncio.timeout(10):
            while not pipe.written:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.001)


async def test_what_has_gathered_goes_out_before_the_end() -> None:
    async with followed() as (store, watches):
        pipe, channel = joined(watches)
        channel.due = asyncio.get_running_loop().time() + 1000
        await put(store, watches, "a")
        assert not pipe.written
        watches.end(POD)
        assert [kind for kind, _ in pipe.events()] == [ADDED]
        assert channel.watchers[0].done.done()


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_much_is_written_in_pieces(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    cut = pieces(data[:size])
    assert b"".join(cut) == data[:size]
    assert all(len(piece) <= PIECE_BYTES for piece in cut)


async def test_one_that_lags_keeps_nobody_else_waiting() -> None:
    async with followed() as (store, watches):
        (slow, _), (quick, _) = joined(watches), joined(watches)
        slow.full = True
        for name in "abc":
            await put(store, watches, name)
        assert (len(slow.written), len(quick.written)) == (0, 3)
        slow.full = False
        await put(store, watches, "d")
        assert slow.events() == quick.events()


async def test_a_change_is_offered_to_the_watchers_of_its_namespace_only(stage: Stage) -> None:
    here, watcher, channel = stage.watch(Selection("a"))
    _, _, elsewhere = stage.watch(Selection("b"))
    offered: list[Channel] = []
    for one in (channel, elsewhere):
        one.offer = lambda event, one=one: not offered.append(one) and Channel.offer(one, event)  # type: ignore[method-assign,misc]
    event = stage.happen()
    assert offered == [channel]
    stage.flush()
    assert here.events() == [(ADDED, str(event.revision))]
    stage.hub.leave(watcher, channel)
    stage.happen()
    assert offered == [channel], "and to nobody once they are gone"


async def test_a_change_is_offered_to_the_local_watchers_of_its_namespace_only(
    stage: Stage,
) -> None:
    everywhere, here, elsewhere = (
        LocalWatcher(stage.cache, Selection(namespace), 10) for namespace in ("", "a", "b")
    )
    offered: list[LocalWatcher] = []
    for one in (everywhere, here, elsewhere):
        one.offer = lambda _, one=one: offered.append(one)  # type: ignore[method-assign,misc]
        stage.hub.attach(one)
    stage.happen()
    assert offered == [everywhere, here]
    stage.hub.detach(here)
    stage.happen()
    assert offered == [everywhere, here, everywhere]
    assert list(stage.hub.locals) == [everywhere, elsewhere]

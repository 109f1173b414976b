"""The watch cache: indexes, ring, exact states; and that what it says is what the store holds."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machinery.api.core import Pod
from machinery.api.kinds import BUILTIN, POD
from machinery.api.scheme import Scheme
from machinery.meta.objectmeta import Object
from machinery.meta.selectors import EVERYTHING, parse, parse_fields
from machinery.server import codec
from machinery.server.cache import Entry, KindCache, Selection, WatchCache
from machinery.server.config import ServerConfig
from machinery.store.interface import Change, Event, Row
from machinery.store.memory import MemoryStore

SCHEME = Scheme(BUILTIN)
PREFIX = codec.storage_prefix(POD)


def pod(name: str, labels: dict[str, str] | None = None, node: str = "", owner: str = "") -> bytes:
    metadata: dict[str, Any] = {"name": name, "namespace": "a"}
    if labels:
        metadata["labels"] = labels
    if owner:
        metadata["ownerReferences"] = [{"uid": owner}]
    document = {"metadata": metadata, "spec": {"nodeName": node} if node else {}}
    return codec.encode(POD, document)


class Log:
    """Feeds a KindCache as the store would."""

    def __init__(self, config: ServerConfig | None = None) -> None:
        self.cache = KindCache(POD, config or ServerConfig())
        self.cache.load([], 1)
        self.revision = 1
        self.rows: dict[str, Row] = {}
        self.states: dict[int, dict[str, bytes]] = {1: {}}

    def write(self, key: str, value: bytes | None) -> None:
        """Create, update or (None) delete `a/<name>`."""
        self.revision += 1
        path = PREFIX + key
        previous = self.rows.get(path)
        if value is None:
            assert previous is not None
            change, row = Change.DELETE, Row(path, previous.value, self.revision, 1)
            del self.rows[path]
        else:
            change = Change.CREATE if previous is None else Change.UPDATE
            row = Row(path, value, self.revision, 1)
            self.rows[path] = row
        self.cache.apply(Event(change, row, previous))
        self.states[self.revision] = {k[len(PREFIX) :]: r.value for k, r in self.rows.items()}


def names(cache: KindCache, labels: str = "", fields: str = "", namespace: str = "a") -> list[str]:
    selection = Selection(
        namespace,
        parse(labels) if labels else EVERYTHING,
        parse_fields(fields) if fields else EVERYTHING,
    )
    return [entry.name for entry in cache.select(selection)]


@pytest.fixture
def log() -> Log:
    log = Log()
    log.write("a/p3", pod("p3", {"app": "x", "tier": "1"}, "n1", "o1"))
    log.write("a/p1", pod("p1", {"app": "x"}, "n2", "o1"))
    log.write("a/p2", pod("p2", {"app": "y"}, "n1"))
    log.write("b/p1", pod("p1", {"app": "x"}))
    return log


@pytest.mark.parametrize(
    ("labels", "fields", "namespace", "expected"),
    [
        ("", "", "a", ["p1", "p2", "p3"]),
        ("", "", "", ["p1", "p2", "p3", "p1"]),
        ("app=x", "", "a", ["p1", "p3"]),
        ("app=x,tier", "", "a", ["p3"]),
        ("app in (x,y),tier!=1", "", "a", ["p1", "p2"]),
        ("app=z", "", "a", []),
        ("", "spec.nodeName=n1", "a", ["p2", "p3"]),
        ("app=y", "spec.nodeName=n1", "", ["p2"]),
        ("", "metadata.name=p2", "a", ["p2"]),
        ("", "metadata.name=p1", "", ["p1", "p1"]),
        ("", "metadata.name!=p1", "a", ["p2", "p3"]),
        ("", "metadata.namespace=b", "", ["p1"]),
        ("", "metadata.name=nope", "a", []),
    ],
)
def test_select(log: Log, labels: str, fields: str, namespace: str, expected: list[str]) -> None:
    assert names(log.cache, labels, fields, namespace) == expected


def test_indexes_follow_changes(log: Log) -> None:
    log.write("a/p3", pod("p3", {"app": "z"}, "n9"))
    assert names(log.cache, "app=x") == ["p1"]
    assert names(log.cache, "app=z") == ["p3"]
    assert [e.name for e in log.cache.on_node("n1")] == ["p2"]
    assert [e.name for e in log.cache.owned_by("o1")] == ["p1"]
    log.write("a/p3", None)
    assert names(log.cache) == ["p1", "p2"]
    assert log.cache.on_node("n9") == []


def test_an_old_change_is_not_applied_twice(log: Log) -> None:
    row = Row(PREFIX + "a/p9", pod("p9"), log.revision, log.revision)
    assert log.cache.apply(Event(Change.CREATE, row, None)) is None
    assert "p9" not in names(log.cache)


def test_ring_is_bounded_by_count_and_bytes() -> None:
    log = Log(ServerConfig(watch_ring_events_max=3))
    for number in range(6):
        log.write("a/p", pod("p", {"n": str(number)}))
    assert log.cache.since(3) is None
    events = log.cache.since(4)
    assert events is not None
    assert [event.revision for event in events] == [5, 6, 7]
    small = Log(ServerConfig(watch_ring_bytes_max=len(pod("p")) + 1))
    small.write("a/p", pod("p"))
    small.write("a/q", pod("q"))
    assert small.cache.since(1) is None
    assert small.cache.since(2) is not None


WRITES = st.lists(st.tuples(st.sampled_from(["a/p", "a/q", "b/p"]), st.integers(0, 3)), max_size=30)


@settings(deadline=None, max_examples=60)
@given(WRITES)
def test_state_at_any_revision_is_what_was_then(writes: list[tuple[str, int]]) -> None:
    log = Log()
    for key, number in writes:
        if number == 0:
            if PREFIX + key in log.rows:
                log.write(key, None)
        else:
            log.write(key, pod(key[2:], {"n": str(number)}))
    for revision, expected in log.states.items():
        if revision == log.cache.floor and revision != log.cache.changed:
            continue
        state = log.cache.state_at(revision)
        assert state is not None
        assert {key: entry.value for key, entry in state.items()} == expected


def test_views_of_one_object_share_what_is_equal() -> None:
    document = {
        "kind": "Pod", "apiVersion": "v1", "spec": {"nodeName": "n1"},
        "metadata": {"name": "x", "namespace": "a", "labels": {"app": "web"}, "annotations": {"b/c": "d"},
                     "uid": "u", "finalizers": ["f"], "ownerReferences": [{"uid": "o", "controller": True}]},
    }  # fmt: skip
    value, head = codec.encode(POD, document), codec.head_size(POD)
    entry = Entry("a/x", value, 7, pod=True)
    pod_view, bare = entry.view(Pod, head), entry.view(Object, head)
    assert pod_view == msgspec.json.decode(codec.splice(value, 7, head), type=Pod)
    assert bare == msgspec.json.decode(codec.splice(value, 7, head), type=Object)
    assert bare.metadata is pod_view.metadata
    assert pod_view.metadata.labels is entry.labels
    assert entry.view(Pod, head) is pod_view
    assert entry.view(Object, head) is bare


def test_a_view_without_the_usual_metadata_is_left_as_it_is() -> None:
    class Own(msgspec.Struct):
        metadata: dict[str, Any]

    entry = Entry("a/x", pod("x", {"app": "web"}), 7, pod=True)
    view = entry.view(Own, codec.head_size(POD))
    assert view.metadata == {"name": "x", "namespace": "a", "labels": {"app": "web"}, "resourceVersion": "7"}  # fmt: skip


def test_splice_gives_the_object_with_its_revision() -> None:
    value = pod("p")
    head = codec.head_size(POD)
    assert head == len(codec.head_of(POD))
    whole = orjson.loads(codec.splice(value, 42, head))
    assert whole["metadata"]["resourceVersion"] == "42"
    assert whole == codec.decode(value, 42)


@pytest.mark.parametrize("kind", [k for k in BUILTIN if k.storable], ids=lambda k: k.group_resource)
def test_head_size_of_every_kind(kind: Any) -> None:
    assert codec.head_size(kind) == len(codec.head_of(kind))


async def test_follows_the_store_and_waits_for_what_was_written() -> None:
    store = MemoryStore()
    await store.start()
    await store.create(PREFIX + "a/old", pod("old"))
    cache = WatchCache(store, SCHEME.kinds, ServerConfig())
    await cache.start()
    try:
        pods = cache.of(POD)
        assert names(pods) == ["old"]
        row = await store.create(PREFIX + "a/new", pod("new"))
        assert await cache.fresh() == row.revision
        assert names(pods) == ["new", "old"]
        assert not await cache.wait_for(row.revision + 100, 0.01)
    finally:
        await cache.stop()
        await store.close()

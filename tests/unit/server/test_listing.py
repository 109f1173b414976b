"""The decision table of LIST, tokens, pages."""

from typing import Any

import pytest

from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.kit.clock import FakeClock
from machinery.meta.errors import BadRequest, Expired, Invalid, Timeout
from machinery.server import codec, listing
from machinery.server.cache import KindCache, Selection, WatchCache
from machinery.server.config import ServerConfig
from machinery.server.listing import ContinueExpired, Lister, ListQuery, list_query
from machinery.server.request import parse_target
from machinery.store.memory import MemoryStore

SCHEME = Scheme(BUILTIN)
CONFIG_MAP = SCHEME.by_plural("", "v1", "configmaps")
DEPLOYMENT = SCHEME.by_plural("apps", "v1", "deployments")
assert CONFIG_MAP is not None
assert DEPLOYMENT is not None


class World:
    """A store with ConfigMaps a…e, and a lister over it."""

    def __init__(self) -> None:
        assert CONFIG_MAP is not None
        self.store = MemoryStore()
        self.clock = FakeClock()
        self.cache = WatchCache(self.store, BUILTIN, ServerConfig(watch_ring_events_max=6))
        self.lister = Lister(self.cache, self.clock, 300, ahead_wait_s=0.01)
        self.kinds: KindCache = self.cache.of(CONFIG_MAP)

    async def put(self, name: str, namespace: str = "o", **labels: str) -> int:
        assert CONFIG_MAP is not None
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        value = codec.encode(CONFIG_MAP, {"metadata": metadata})
        key = codec.storage_key(CONFIG_MAP, namespace, name)
        row = self.store.get(key)
        if row is None:
            return (await self.store.create(key, value)).revision
        return (await self.store.update(key, value, row.revision)).revision

    async def names(self, **options: Any) -> tuple[list[str], listing.Page]:
        query = ListQuery(Selection("o"), **options)
        page = await self.lister.page(self.kinds, query)
        return [entry.name for entry in page.entries], page


@pytest.fixture
async def world() -> Any:
    world = World()
    await world.store.start()
    await world.cache.start()
    for name in "abcde":
        await world.put(name)
    yield world
    await world.cache.stop()
    await world.store.close()


async def test_unset_is_everything_committed(world: World) -> None:
    revision = await world.put("f")
    names, page = await world.names()
    assert names == list("abcdef")
    assert page.revision == revision


async def test_pages_are_of_one_moment(world: World) -> None:
    names, first = await world.names(limit=2)
    assert (names, first.remaining) == (["a", "b"], 3)
    await world.put("bb")
    for name in "cde":
        await world.put(name, changed="yes")
    names, second = await world.names(limit=2, continue_=first.continue_)
    assert (names, second.remaining) == (["c", "d"], 1)
    assert second.revision == first.revision
    assert all(not entry.labels for entry in second.entries), "as they were then"
    names, last = await world.names(continue_=second.continue_)
    assert (names, last.continue_, last.remaining) == (["e"], "", None)


async def test_a_started_list_expires(world: World) -> None:
    _, page = await world.names(limit=2)
    for number in range(8):
        await world.put("a", n=str(number))
    world.clock.advance(301)
    with pytest.raises(ContinueExpired) as caught:
        await world.names(limit=2, continue_=page.continue_)
    status = caught.value.to_status()
    assert status["code"] == 410
    names, _ = await world.names(continue_=status["metadata"]["continue"])
    assert names == ["c", "d", "e"], "the rest, as it is now"


async def test_pages_over_all_namespaces(world: World) -> None:
    await world.put("a", namespace="p")
    page = await world.lister.page(world.kinds, ListQuery(Selection(""), limit=4))
    assert listing.decode_token(page.continue_)[1] == "o/d\0"
    rest = await world.lister.page(world.kinds, ListQuery(Selection(""), continue_=page.continue_))
    assert [entry.key for entry in rest.entries] == ["o/e", "p/a"]


async def test_exact(world: World) -> None:
    _, page = await world.names()
    then = page.revision
    await world.put("z")
    names, exact = await world.names(revision=str(then), match="Exact")
    assert (names, exact.revision) == (list("abcde"), then)
    names, _ = await world.names(revision=str(then), limit=2)
    assert names == ["a", "b"], "a limit with a revision means exactly that one"
    for number in range(8):
        await world.put("a", n=str(number))
    world.clock.advance(301)
    with pytest.raises(Expired, match="too old"):
        await world.names(revision=str(then), match="Exact")
    names, _ = await world.names(revision=str(then))
    assert names == [*"abcde", "z"], "at least that one"


async def test_zero_ignores_the_limit(world: World) -> None:
    await world.cache.fresh()
    names, page = await world.names(revision="0", limit=2)
    assert (names, page.continue_) == (list("abcde"), "")


async def test_ahead_of_us(world: World) -> None:
    with pytest.raises(Timeout, match="Too large resource version: 999") as caught:
        await world.names(revision="999")
    assert caught.value.details is not None
    assert caught.value.details["retryAfterSeconds"] == 1
    with pytest.raises(Timeout) as exact:
        await world.names(revision="999", match="Exact")
    assert "retryAfterSeconds" not in (exact.value.details or {})


@pytest.mark.parametrize("text", ["abc", "-1", "1.5"])
async def test_what_is_no_revision(world: World, text: str) -> None:
    with pytest.raises(BadRequest, match="invalid resource version"):
        await world.names(revision=text)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (listing.encode_token(5, "ns/x\0"), (5, "ns/x\0")),
        (listing.encode_token(-1, "x\0"), (-1, "x\0")),
        (listing.encode_token(0, "x"), "incorrect encoded start resourceVersion"),
        (listing.encode_token(5, "../x"), "continue key is not valid: ../x"),
        (listing.encode_token(5, ""), "continue token is empty"),
        ("garbage", "invalid character '\\u0081'"),
        ("eyJ2IjoibWV0YS5rOHMuaW8vdjIifQ", "does not recognize this encoded version meta.k8s.io/v2"),
    ],
)  # fmt: skip
def test_tokens(token: str, expected: Any) -> None:
    if isinstance(expected, tuple):
        assert listing.decode_token(token) == expected
        return
    with pytest.raises(BadRequest) as caught:
        listing.decode_token(token)
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("resourceVersionMatch=Exact", "unless resourceVersion is provided"),
        ("resourceVersion=0&resourceVersionMatch=Exact", 'is forbidden for resourceVersion "0"'),
        ("resourceVersion=1&resourceVersionMatch=Bogus", 'Unsupported value: "Bogus"'),
        ("resourceVersion=1&resourceVersionMatch=Exact&continue=x", "forbidden when continue is provided"),
        ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
    ],
)  # fmt: skip
def test_forbidden_combinations(query: str, expected: str) -> None:
    assert CONFIG_MAP is not None
    with pytest.raises(Invalid) as caught:
        list_query(CONFIG_MAP, parse_target("GET", f"/api/v1/configmaps?{query}"))
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("kind", "query", "expected"),
    [
        (CONFIG_MAP, "limit=abc", 'strconv.ParseInt: parsing "abc"'),
        (CONFIG_MAP, "labelSelector=a%3D%3D%3Db", ""),
        (CONFIG_MAP, "fieldSelector=spec.x%3D1", "is not a known field selector"),
        (DEPLOYMENT, "fieldSelector=status.replicas%3D1", "is not a known field selector"),
    ],
)
def test_what_cannot_be_understood(kind: Any, query: str, expected: str) -> None:
    with pytest.raises(BadRequest) as caught:
        list_query(kind, parse_target("GET", f"/apis/x/v1/y?{query}"))
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("watch=1&resourceVersionMatch=NotOlderThan", "unless sendInitialEvents is provided"),
        ("watch=1&sendInitialEvents=true", "requires setting resourceVersionMatch"),
        ("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", 'Unsupported value: "Exact"'),
    ],
)
def test_forbidden_on_a_watch(query: str, expected: str) -> None:
    with pytest.raises(Invalid) as caught:
        listing.check_watch_options(parse_target("GET", f"/api/v1/pods?{query}"))
    assert expected in caught.value.message


def test_initial_events() -> None:
    good = "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    assert listing.check_watch_options(parse_target("GET", good))
    assert not listing.check_watch_options(parse_target("GET", "/api/v1/pods?watch=1"))

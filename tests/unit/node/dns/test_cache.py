"""How long answers of upstream are kept, how many, and what happens when their time is over."""

import pytest

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.cache import FAILED, Key, Reply, ReplyCache, lifetime
from cluster_agent.node.dns.wire import Record

OWNER = wire.name_of("a.test")
KEY = Key(OWNER, wire.A)


def a(ttl: int) -> Record:
    return Record(OWNER, wire.A, ttl, b"\1\2\3\4")


def cname(ttl: int) -> Record:
    return Record(OWNER, wire.CNAME, ttl, wire.name_of("b.test"))


def soa(ttl: int, minimum: int) -> Record:
    return Record(OWNER, wire.SOA, ttl, wire.soa_data(OWNER, OWNER, (1, 2, 3, 4, minimum)))


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        pytest.param(Reply(wire.NOERROR, (a(60),)), 60, id="as it says"),
        pytest.param(Reply(wire.NOERROR, (a(9_999),)), 300, id="not for ever"),
        pytest.param(Reply(wire.NOERROR, (cname(7), a(60))), 7, id="the shortest of a chain"),
        pytest.param(Reply(wire.NOERROR, (a(0),)), 0, id="not at all"),
        pytest.param(Reply(wire.NXDOMAIN, (), (soa(20, 10),)), 10, id="minimum of SOA"),
        pytest.param(Reply(wire.NXDOMAIN, (), (soa(8, 10),)), 8, id="TTL of SOA"),
        pytest.param(Reply(wire.NXDOMAIN, (), (soa(900, 900),)), 30, id="a no not for ever"),
        pytest.param(Reply(wire.NXDOMAIN), 0, id="a no without SOA"),
        pytest.param(Reply(wire.NOERROR), 0, id="nothing"),
        pytest.param(Reply(wire.NOERROR, (cname(9),), (soa(20, 20),)), 9, id="alias to no data"),
        pytest.param(Reply(wire.NOERROR, (cname(9),)), 0, id="alias to who knows"),
        pytest.param(Reply(wire.REFUSED, (a(60),)), 0, id="error"),
    ],
)
def test_lifetimes(reply: Reply, wanted: int) -> None:
    assert lifetime(reply, 300, 30) == wanted


def test_the_number_of_entries_is_bounded() -> None:
    cache = ReplyCache(3, 300, 30, 30.0)
    keys = [Key(wire.name_of(f"{i}.test"), wire.A) for i in range(4)]
    for key in keys[:3]:
        cache.put(key, Reply(wire.NOERROR, (a(60),)), 0.0)
    assert cache.fresh(keys[0], 1.0) is not None
    cache.put(keys[3], Reply(wire.NOERROR, (a(60),)), 2.0)
    assert [cache.fresh(key, 3.0) is not None for key in keys] == [True, False, True, True]
    assert len(cache) == 3


def test_what_may_not_be_kept_does_not_push_out_what_may() -> None:
    cache = ReplyCache(3, 300, 30, 30.0)
    cache.put(KEY, Reply(wire.NOERROR, (a(60),)), 0.0)
    cache.put(KEY, Reply(wire.NXDOMAIN), 1.0)
    assert cache.fresh(KEY, 2.0) is not None and len(cache) == 1


@pytest.mark.parametrize(
    ("now", "fresh", "stale"),
    [(0.0, 60, 5), (59.9, 1, 5), (60.0, None, 5), (89.9, None, 5), (90.0, None, None)],
)
def test_ages(now: float, fresh: int | None, stale: int | None) -> None:
    cache = ReplyCache(3, 300, 30, 30.0)
    cache.put(KEY, Reply(wire.NOERROR, (a(60),)), 0.0)
    found, old = cache.fresh(KEY, now), cache.stale(KEY, now)
    assert (found and found.answer[0].ttl) == fresh
    assert (old and old.answer[0].ttl) == stale


def test_a_failure_serves_what_is_stale_for_a_while() -> None:
    cache = ReplyCache(3, 300, 30, 30.0)
    cache.put(KEY, Reply(wire.NOERROR, (a(60),)), 0.0)
    cache.put_failure(KEY, 70.0)
    assert cache.fresh(KEY, 74.0) is not None
    assert cache.fresh(KEY, 75.0) is None
    cache.put_failure(KEY, 95.0)
    assert cache.fresh(KEY, 95.5) is FAILED
    assert cache.fresh(KEY, 96.0) is None and cache.stale(KEY, 96.0) is None


@pytest.mark.parametrize("do", [True, False])
def test_signatures_are_kept_apart(do: bool) -> None:
    cache = ReplyCache(3, 300, 30, 30.0)
    cache.put(KEY._replace(do=do), Reply(wire.NOERROR, (a(60),)), 0.0)
    assert cache.fresh(KEY._replace(do=not do), 1.0) is None

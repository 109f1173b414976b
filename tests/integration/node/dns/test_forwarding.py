"""Names of others: a fake upstream on loopback that is slow, loses, lies, is old, or is gone."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.integration.node.dns.clients import serving, tcp, udp
from tests.integration.node.dns.upstreams import FakeUpstream, running
from tests.unit.node.dns.dnsworld import told

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.model import Service, State
from machinery.kit.clock import FakeClock

pytestmark = pytest.mark.integration
NAME = "www.example.test"
GOOD = ("NOERROR", [f"{NAME}. A 192.0.2.1"])
FAST: dict[str, Any] = {"upstream_timeout_s": 0.05}


def upstream(**settings: object) -> FakeUpstream:
    made = FakeUpstream(**settings)  # type: ignore[arg-type]
    made.put(NAME, wire.A, b"\xc0\0\2\1")
    return made


def dead_port() -> int:
    """A port of loopback that nobody listens on, in UDP or TCP."""
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as udp_, socket.socket() as tcp_:
            udp_.bind(("127.0.0.1", 0))
            port: int = udp_.getsockname()[1]
            try:
                tcp_.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


async def test_forwarded_and_kept() -> None:
    fake = upstream()
    async with running(fake) as where, serving(upstreams=(where,)) as (_, port):
        for spelled in (NAME, NAME.upper(), NAME):
            response = await udp(port, spelled, "A")
            assert [told(response)[0], response.answer[0].rdata] == ["NOERROR", b"\xc0\0\2\1"]
            assert response.flags & wire.RA and not response.flags & wire.AA
    assert len(fake.asked) == 1 and fake.asked[0][0].udp_size == 1232


async def test_what_does_not_exist_is_kept_too() -> None:
    fake = upstream()
    async with running(fake) as where, serving(upstreams=(where,)) as (_, port):
        for _ in range(20):  # a search path asks again and again
            assert (await udp(port, f"{NAME}.corp.test", "A")).rcode == wire.NXDOMAIN
            assert told(await udp(port, NAME, "AAAA"))[0] == "NODATA"
    assert len(fake.asked) == 2


async def test_a_storm_over_the_search_path_stays_at_home() -> None:
    fake = upstream()
    async with running(fake) as where, serving(upstreams=(where,)) as (_, port):
        for search in ("demo.svc.cluster.local", "svc.cluster.local", "cluster.local"):
            assert (await udp(port, f"{NAME}.{search}", "A")).rcode == wire.NXDOMAIN
    assert fake.asked == []


async def test_equal_questions_share_one_query() -> None:
    fake = upstream(delay_s=0.05)
    async with (
        running(fake) as where,
        serving(upstreams=(where,)) as (_, port),
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(udp(port, NAME, "A", id_=i)) for i in range(30)]
    assert {told(t.result())[0] for t in tasks} == {"NOERROR"}
    assert [t.result().id for t in tasks] == list(range(30))
    assert len(fake.asked) == 1


async def test_times_to_live_run_down() -> None:
    clock, fake = FakeClock(), upstream()
    async with running(fake) as where, serving(upstreams=(where,), clock=clock) as (_, port):
        assert (await udp(port, NAME, "A")).answer[0].ttl == 60
        clock.advance(21)
        assert (await udp(port, NAME, "A")).answer[0].ttl == 39
        assert len(fake.asked) == 1
        clock.advance(40)
        assert (await udp(port, NAME, "A")).answer[0].ttl == 60
        assert len(fake.asked) == 2


# ---------------------------------------------------------------------------------------------------------- transports
async def test_tcp_when_the_answer_is_too_large() -> None:
    fake = upstream()
    for i in range(200):
        fake.put("big.test", wire.A, bytes((192, 0, 3, i)))
    async with running(fake) as where, serving(upstreams=(where,)) as (_, port):
        assert len((await tcp(port, "big.test", "A")).answer) == 200
        part = await udp(port, "big.test", "A")
        assert part.truncated and 0 < len(part.answer) < 200
    assert [datagram for _, datagram in fake.asked] == [True, False]


async def test_a_server_without_edns() -> None:
    fake = upstream(old=True)
    async with running(fake) as where, serving(upstreams=(where,)) as (_, port):
        assert told(await udp(port, NAME, "A")) == GOOD
    assert [query.udp_size for query, _ in fake.asked] == [1232, 0]


async def test_forged_answers_are_passed_over() -> None:
    def forge(answer: bytes) -> list[bytes]:
        other_id = bytes((answer[0] ^ 1,)) + answer[1:]
        other_name = answer[:13] + b"x" + answer[14:]
        return [other_id, other_name, answer[:-4] + b"evil", answer[:20]]

    fake = upstream(forge=forge)
    async with running(fake) as where, serving(upstreams=(where,)) as (_, port):
        assert told(await udp(port, NAME, "A")) == GOOD


# -------------------------------------------------------------------------------------------------------------- faults
async def test_a_lost_datagram_is_asked_again() -> None:
    fake = upstream(lose=lambda count: count == 1)
    async with running(fake) as where, serving(upstreams=(where,), **FAST) as (_, port):
        assert told(await udp(port, NAME, "A")) == GOOD
    assert len(fake.asked) == 2
    assert fake.asked[0][0].id != fake.asked[1][0].id


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"lose": lambda _: True}, id="silent"),
        pytest.param({"rcode": wire.SERVFAIL}, id="SERVFAIL"),
        pytest.param({"rcode": wire.REFUSED}, id="REFUSED"),
        pytest.param({"forge": lambda a: [a[:20]], "lose": lambda _: True}, id="malformed"),
        pytest.param({"delay_s": 5.0}, id="slow"),
    ],
)
async def test_the_next_server_is_asked(bad: dict[str, object]) -> None:
    broken, fake = upstream(**bad), upstream()
    async with (
        running(broken) as first,
        running(fake) as second,
        serving(upstreams=(first, second), **FAST) as (_, port),
    ):
        assert told(await udp(port, NAME, "A")) == GOOD
    assert len(broken.asked) == len(fake.asked) == 1


async def test_a_server_that_is_gone_costs_no_time() -> None:
    fake = upstream()
    gone = f"127.0.0.1#{dead_port()}"
    settings: dict[str, Any] = {"upstream_timeout_s": 30.0, "upstream_deadline_s": 60.0}
    async with running(fake) as where, serving(upstreams=(gone, where), **settings) as (_, port):
        assert told(await udp(port, NAME, "A")) == GOOD


async def test_a_server_that_failed_is_asked_last_for_a_while() -> None:
    clock = FakeClock()
    broken, fake = upstream(lose=lambda _: True), upstream()
    async with (
        running(broken) as first,
        running(fake) as second,
        serving(upstreams=(first, second), clock=clock, **FAST) as (_, port),
    ):
        for i in range(5):
            assert (await udp(port, f"{i}.test", "A")).rcode == wire.NXDOMAIN
        assert len(broken.asked) == 1 and len(fake.asked) == 5
        clock.advance(11)
        assert (await udp(port, "9.test", "A")).rcode == wire.NXDOMAIN
        assert len(broken.asked) == 2


async def test_nobody_answers() -> None:
    clock, fake = FakeClock(), upstream(lose=lambda _: True)
    async with (
        running(fake) as where,
        serving(upstreams=(where,), clock=clock, **FAST) as (_, port),
    ):
        assert (await udp(port, NAME, "A")).rcode == wire.SERVFAIL
        assert len(fake.asked) == 2
        assert (await udp(port, NAME, "A")).rcode == wire.SERVFAIL
        assert len(fake.asked) == 2  # the failure is remembered for a moment
        clock.advance(1.5)
        fake.lose = lambda _: False
        assert told(await udp(port, NAME, "A")) == GOOD


async def test_the_deadline_ends_all_attempts() -> None:
    fake = upstream(lose=lambda _: True)
    settings: dict[str, Any] = {"upstream_timeout_s": 60.0, "upstream_deadline_s": 0.05}
    async with running(fake) as where, serving(upstreams=(where,), **settings) as (_, port):
        assert (await udp(port, NAME, "A")).rcode == wire.SERVFAIL
    assert len(fake.asked) == 1


async def test_an_old_answer_serves_while_upstream_is_away() -> None:
    clock, fake = FakeClock(), upstream()
    settings: dict[str, Any] = {**FAST, "stale_wait_s": 0.2}
    async with (
        running(fake) as where,
        serving(upstreams=(where,), clock=clock, **settings) as (_, port),
    ):
        assert told(await udp(port, NAME, "A")) == GOOD
        fake.rcode = wire.SERVFAIL
        clock.advance(61)
        stale = await udp(port, NAME, "A")
        assert told(stale) == GOOD and stale.answer[0].ttl == 5
        asked = len(fake.asked)
        assert told(await udp(port, NAME, "A")) == GOOD
        assert len(fake.asked) == asked  # upstream is left in peace
        clock.advance(30)
        assert (await udp(port, NAME, "A")).rcode == wire.SERVFAIL
        fake.rcode = None
        clock.advance(2)
        assert (await udp(port, NAME, "A")).answer[0].ttl == 60


async def test_too_many_waiting_queries_of_one_client_fail() -> None:
    fake = upstream(lose=lambda _: True)
    settings: dict[str, Any] = {
        "inflight_per_source_max": 3,
        "upstream_deadline_s": 0.3,
        "upstream_timeout_s": 0.3,
    }
    async with (
        running(fake) as where,
        serving(upstreams=(where,), **settings) as (server, port),
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(udp(port, f"{i}.test", "A")) for i in range(10)]
    assert {t.result().rcode for t in tasks} == {wire.SERVFAIL}
    assert len(fake.asked) == 3
    assert not server.resolver.waiting


# -------------------------------------------------------------------------------------------------------- ExternalName
def external(target: str) -> State:
    return State((Service("demo", "ext", external_name=target),), namespaces=frozenset({"demo"}))


@pytest.mark.parametrize("ask", [udp, tcp], ids=["udp", "tcp"])
async def test_an_external_name_is_followed(ask: object) -> None:
    assert callable(ask)
    fake, name = upstream(), "ext.demo.svc.cluster.local"
    async with running(fake) as where, serving(external(NAME), upstreams=(where,)) as (_, port):
        for _ in range(2):
            response = await ask(port, name, "A")
            assert told(response) == (
                "NOERROR", [f"{name}. CNAME {NAME}.", f"{NAME}. A 192.0.2.1"],
            )  # fmt: skip
        assert told(await ask(port, name, "AAAA")) == ("NOERROR", [f"{name}. CNAME {NAME}."])


async def test_an_external_name_that_leads_nowhere() -> None:
    fake, name = upstream(), "ext.demo.svc.cluster.local"
    async with (
        running(fake) as where,
        serving(external("nope.test"), upstreams=(where,)) as (_, port),
    ):
        assert told(await udp(port, name, "A")) == ("NXDOMAIN", [f"{name}. CNAME nope.test."])
        fake.rcode = wire.SERVFAIL
        assert (await udp(port, name, "AAAA")).rcode == wire.SERVFAIL


async def test_an_external_name_without_upstream() -> None:
    name = "ext.demo.svc.cluster.local"
    async with serving(external(NAME)) as (_, port):
        assert (await udp(port, name, "A")).rcode == wire.SERVFAIL
        assert told(await udp(port, name, "CNAME")) == ("NOERROR", [f"{name}. CNAME {NAME}."])
        assert (await udp(port, NAME, "A")).rcode == wire.REFUSED


# ---------------------------------------------------------------------------------------------------------- resolv.conf
async def test_resolv_conf_is_read_again_when_it_changes(tmp_path: Path) -> None:
    clock, fake = FakeClock(), upstream()
    path = tmp_path / "resolv.conf"
    async with running(fake) as where, serving(resolv_conf=str(path), clock=clock) as (_, port):
        assert (await udp(port, NAME, "A")).rcode == wire.REFUSED
        path.write_text(f"# ours\nsearch test\nnameserver {where}\nnameserver nonsense\n")
        os.utime(path, ns=(1, 1))
        assert (await udp(port, NAME, "A")).rcode == wire.REFUSED
        clock.advance(6)
        assert told(await udp(port, NAME, "A")) == GOOD
        path.unlink()
        clock.advance(6)
        assert (await udp(port, "other.test", "A")).rcode == wire.NXDOMAIN


async def test_a_server_does_not_ask_itself() -> None:
    port = dead_port()
    settings: dict[str, Any] = {"upstreams": (f"127.0.0.1#{port}",), "port": port}
    async with serving(**settings) as (_, bound):
        assert (await udp(bound, NAME, "A")).rcode == wire.REFUSED

"""Real sockets on loopback: both transports, truncation, readiness, clients that misbehave."""

import asyncio
import random
import socket

import pytest
from tests.integration.node.dns.clients import serving, tcp, tcp_raw, udp, udp_raw
from tests.unit.node.dns.dnsworld import STATE, many, question, told

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.model import DnsConfig
from cluster_agent.node.dns.response import read_response
from cluster_agent.node.dns.server import DnsServer
from machinery.kit.clock import SystemClock

pytestmark = pytest.mark.integration
WEB = "web.demo.svc.cluster.local"
BIG = "big.demo.svc.cluster.local"


@pytest.mark.parametrize("ask", [udp, tcp], ids=["udp", "tcp"])
async def test_a_name_over_both_transports(ask: object) -> None:
    assert callable(ask)
    async with serving() as (_, port):
        response = await ask(port, WEB, "A")
        assert told(response) == ("NOERROR", [f"{WEB}. A 10.96.0.20"])
        assert response.flags & wire.AA and not response.flags & wire.RA
        assert (await ask(port, f"nope.{WEB}", "A")).rcode == wire.NXDOMAIN


async def test_over_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 on loopback")
    async with serving(address="::1") as (_, port):
        response = await udp(port, WEB, "AAAA", address="::1")
        assert told(response) == ("NOERROR", [f"{WEB}. AAAA fd00:96::20"])


async def test_truncated_over_udp_and_whole_over_tcp() -> None:
    async with serving(many(300)) as (_, port):
        for edns in (True, False):
            part = await udp(port, BIG, "A", edns=edns)
            assert part.truncated and 0 < len(part.answer) < 300
        whole = await tcp(port, BIG, "A")
        assert not whole.truncated and len(whole.answer) == 300
        assert set(part.answer) < set(whole.answer)


async def test_many_questions_on_one_connection() -> None:
    async with serving() as (_, port):
        answers = await tcp_raw(port, *(question(WEB, "A", id_=i) for i in range(50)))
        assert [read_response(answer).id for answer in answers] == list(range(50))


async def test_many_datagrams_at_once() -> None:
    async with serving() as (_, port), asyncio.TaskGroup() as group:
        tasks = [group.create_task(udp(port, WEB, "A", id_=i)) for i in range(100)]
    assert [task.result().id for task in tasks] == list(range(100))


async def test_noise_is_survived() -> None:
    async with serving() as (_, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for data in (b"", b"x", bytes(12), b"\xff" * 600, question(WEB, "A")[:-5]):
                sock.sendto(data, ("127.0.0.1", port))
        assert (await udp_raw(port, question(WEB, "A")[:20]))[3] & 0xF == wire.FORMERR
        assert (await udp(port, WEB, "A")).rcode == wire.NOERROR


async def test_slow_and_silent_connections_are_closed() -> None:
    async with serving(tcp_idle_s=0.05) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\0")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
        assert (await tcp(port, WEB, "A")).rcode == wire.NOERROR


async def test_connections_are_limited() -> None:
    async with serving(tcp_connections_max=2) as (_, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:  # both are being served before the third comes
            data = question(WEB, "A")
            writer.write(len(data).to_bytes(2, "big") + data)
            assert await reader.readexactly(2)
        third, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            assert await third.read() == b""
        for other in (writer, *(w for _, w in held)):
            other.close()


async def test_names_fail_until_they_are_known() -> None:
    async with serving(None) as (server, port):
        assert (await udp(port, WEB, "A")).rcode == wire.SERVFAIL
        before = server.ready
        server.set_state(STATE)
        assert (before, server.ready) == (False, True)
        assert (await udp(port, WEB, "A")).rcode == wire.NOERROR


async def test_a_taken_port_is_an_error_that_leaves_nothing_behind() -> None:
    async with serving() as (_, port):
        with pytest.raises(OSError, match="in use"):
            async with serving(port=port):
                raise AssertionError("two servers on one port")
        config = DnsConfig(addresses=("127.0.0.2", "127.0.0.1"), port=port, resolv_conf="")
        server = DnsServer(config, SystemClock(), random.random)
        with pytest.raises(OSError, match="in use"):
            await server.start()
        async with serving(address="127.0.0.2", port=port) as (other, _):
            assert other.ready and not server.ready


async def test_an_address_that_comes_later() -> None:
    async with serving(address="192.0.2.77", free_bind=True) as (server, port):
        assert server.ready and port > 0
    with pytest.raises(OSError, match="assign"):
        async with serving(address="192.0.2.77"):
            raise AssertionError("the address is not this host's")

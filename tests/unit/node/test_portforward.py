"""Port-forward at the kubelet: SPDY's pairs of streams, and the older WebSocket channels, to servers on this machine."""

import asyncio
import base64
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from tests.support.pipes import pipe_pair

from cluster_agent.node.cri import convert
from cluster_agent.node.cri.interface import RuntimeFault
from cluster_agent.node.netns import connect_localhost
from cluster_agent.node.portforward import (
    PAIRS_MAX,
    ChannelForwarding,
    Ends,
    Forwarding,
    Target,
    WebSocketPipe,
    channel_ports,
)
from machinery.kit.tasks import TaskOwner
from machinery.wire.channels import V4_BASE64
from machinery.wire.spdy.connection import Connection, Stream, StreamReset

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says everything back, and its length after the end of what it hears."""
    total = 0
    while data := await reader.read(65536):
        total += len(data)
        writer.write(data)
        await writer.drain()
    writer.write(f"|{total}".encode())
    writer.close()


async def dial(port: int) -> Ends:
    try:
        return await connect_localhost("", port)
    except OSError as error:
        raise RuntimeFault(str(error)) from error


TARGET = Target("box", dial)


@asynccontextmanager
async def listening(serve: Serve = echo) -> AsyncIterator[int]:
    owner = TaskOwner()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(
        lambda reader, writer: void(owner.spawn(one(reader, writer), "pod")), "127.0.0.1", 0
    )
    yield server.sockets[0].getsockname()[1]
    server.close()
    await owner.close()
    await server.wait_closed()


def void(_: object) -> None:
    """For callbacks that return nothing."""


@asynccontextmanager
async def client() -> AsyncIterator[Connection]:
    near, far = pipe_pair()
    made, owner = Connection(near, client=True), TaskOwner()
    owner.spawn(Forwarding(far, TARGET).run(), "server")
    owner.spawn(made.run(), "client")
    yield made
    await owner.close()


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


async def pair(connection: Connection, port: int, request: str) -> tuple[Stream, Stream]:
    """(data, error), opened as kubectl does."""
    headers = {"port": str(port), "requestID": request}
    error = await connection.open(headers | {"streamType": "error"})
    error.close()
    return await connection.open(headers | {"streamType": "data"}), error


async def everything(stream: Stream) -> bytes:
    got = b""
    while data := await stream.read():
        got += data
    return got


async def test_a_connection_with_its_ends_one_by_one() -> None:
    async with listening() as port, client() as connection:
        data, error = await pair(connection, port, "0")
        reading = asyncio.ensure_future(everything(data))
        await data.write(b"x" * 500_000)
        data.close()
        assert await reading == b"x" * 500_000 + b"|500000", (
            "it still answers after the end of the input"
        )
        assert await everything(error) == b""


async def test_two_at_once_on_one_connection() -> None:
    async with listening() as port, client() as connection:
        first, _ = await pair(connection, port, "0")
        second, _ = await pair(connection, port, "1")
        await second.write(b"two")
        assert await second.read() == b"two"
        await first.write(b"one")
        assert await first.read() == b"one"


async def test_a_port_that_nobody_listens_on_is_told_and_the_others_go_on() -> None:
    async with listening() as port, client() as connection:
        nobody = free_port()
        data, error = await pair(connection, nobody, "0")
        assert (await everything(error)).decode() == (
            f"error forwarding port {nobody} to pod box, uid : IPv4: dial tcp4 127.0.0.1:{nobody}: connect: connection "
            f"refused IPv6 dial tcp6 [::1]:{nobody}: connect: connection refused"
        )
        assert await data.read() == b""
        data, _ = await pair(connection, port, "1")
        await data.write(b"here")
        assert await data.read() == b"here"


async def test_a_client_that_goes_away_hangs_up_at_the_pod() -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        gone.set()
        writer.close()

    async with listening(serve) as port:
        async with client() as connection:
            data, _ = await pair(connection, port, "0")
            await data.write(b"x")
        async with asyncio.timeout(5):
            await gone.wait()


async def test_a_reset_stream_ends_its_pair() -> None:
    async with listening() as port, client() as connection:
        data, error = await pair(connection, port, "0")
        await data.write(b"x")
        assert await data.read() == b"x"
        data.reset()
        assert await everything(error) == b""


async def test_a_pod_that_breaks_the_connection_resets_the_stream_and_says_no_word() -> None:
    """A text on the error stream would make kubectl give up all its connections."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        at_once = struct.pack("ii", 1, 0)
        held = writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()

    async with listening(serve) as port, client() as connection:
        data, error = await pair(connection, port, "0")
        await data.write(b"x" * 1000)
        with pytest.raises(StreamReset):
            await everything(data)
        assert await everything(error) == b""


@pytest.mark.parametrize(
    "headers",
    [
        {"streamType": "data"},
        {"streamType": "data", "port": "0", "requestID": "0"},
        {"streamType": "data", "port": "65536", "requestID": "0"},
        {"streamType": "data", "port": "8o", "requestID": "0"},
        {"streamType": "stdin", "port": "80", "requestID": "0"},
        {"port": "80", "requestID": "0"},
    ],
)
async def test_streams_that_mean_nothing_are_refused(headers: dict[str, str]) -> None:
    async with client() as connection:
        with pytest.raises(StreamReset):
            await connection.open(headers)


async def test_a_second_stream_of_a_kind_is_refused() -> None:
    async with client() as connection:
        headers = {"streamType": "error", "port": "80", "requestID": "0"}
        await connection.open(headers)
        with pytest.raises(StreamReset):
            await connection.open(headers)


async def test_streams_that_are_opened_and_reset_are_no_way_around_the_limit() -> None:
    async with client() as connection:
        for number in range(PAIRS_MAX):
            headers = {"streamType": "error", "port": "80", "requestID": str(number)}
            (await connection.open(headers)).reset()
        with pytest.raises(StreamReset):
            await connection.open({"streamType": "error", "port": "80", "requestID": "one more"})


async def test_clients_without_request_ids() -> None:
    async with listening() as port, client() as connection:
        await connection.open({"streamType": "error", "port": str(port)})
        data = await connection.open({"streamType": "data", "port": str(port)})
        await data.write(b"old")
        assert await data.read() == b"old"


# ------------------------------------------------------------------------------------------------------ by WebSocket
@asynccontextmanager
async def served(
    work: Callable[[web.WebSocketResponse], Awaitable[None]], protocol: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket to `work`."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        ws = web.WebSocketResponse(protocols=(protocol,), compress=False)
        await ws.prepare(request)
        await work(ws)
        return ws

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=(protocol,)) as found,
    ):
        yield found
    await runner.cleanup()


async def test_spdy_tunnelled_in_websocket_messages() -> None:
    async with (
        listening() as port,
        served(
            lambda ws: Forwarding(WebSocketPipe(ws), TARGET).run(), "SPDY/3.1+portforward.k8s.io"
        ) as ws,
    ):

        class Tunnel:
            async def read(self) -> bytes:
                return await ws.receive_bytes()

            async def write(self, data: bytes) -> None:
                for start in range(0, len(data), 7):  # where a message ends means nothing
                    await ws.send_bytes(data[start : start + 7])

            async def close(self) -> None:
                await ws.close()

        owner, connection = (
            TaskOwner(on_death=lambda _name, _error: None),
            Connection(Tunnel(), client=True),
        )
        owner.spawn(connection.run(), "client")
        data, error = await pair(connection, port, "0")
        await data.write(b"through the tunnel")
        data.close()
        assert await everything(data) == b"through the tunnel|18"
        assert await everything(error) == b""
        await owner.close()


async def test_channels_as_the_python_client_speaks_them() -> None:
    async with listening() as port:
        nobody = free_port()
        async with served(
            lambda ws: ChannelForwarding(ws, TARGET, [port, nobody]).run(), "v4.channel.k8s.io"
        ) as ws:
            first = [await ws.receive_bytes() for _ in range(4)]
            assert first == [
                bytes((channel,)) + number.to_bytes(2, "little")
                for channel, number in enumerate((port, port, nobody, nobody))
            ]
            refusal = await ws.receive_bytes()
            assert refusal.startswith(b"\x03error forwarding port %d to pod box, uid : " % nobody)
            await ws.send_bytes(b"\x00hello")
            assert await ws.receive_bytes() == b"\x00hello"
            for _ in range(100):
                await ws.send_bytes(b"\x02for the port that nobody listens on")
            await ws.send_bytes(b"\x09for no port")
            await ws.send_bytes(b"\x00again")
            assert await ws.receive_bytes() == b"\x00again"


async def test_channels_in_base64() -> None:
    async with (
        listening() as port,
        served(lambda ws: ChannelForwarding(ws, TARGET, [port], V4_BASE64).run(), V4_BASE64) as ws,
    ):
        number = base64.b64encode(port.to_bytes(2, "little")).decode()
        assert [await ws.receive_str() for _ in range(2)] == [f"0{number}", f"1{number}"]
        await ws.send_str("0" + base64.b64encode(b"hello").decode())
        assert await ws.receive_str() == "0" + base64.b64encode(b"hello").decode()


async def test_the_channels_socket_ends_with_the_last_port() -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.close()

    async with (
        listening(serve) as port,
        served(lambda ws: ChannelForwarding(ws, TARGET, [port]).run(), "v4.channel.k8s.io") as ws,
    ):
        heard = [message.data async for message in ws]
        assert heard[2:] == [b"\x00bye"]


@pytest.mark.parametrize(
    ("values", "wanted"), [(["80"], [80]), (["80,81", "82"], [80, 81, 82]), (["65535"], [65535])]
)
def test_ports_of_a_query(values: list[str], wanted: list[int]) -> None:
    assert channel_ports(values) == wanted


@pytest.mark.parametrize(
    "values", [[], [""], ["0"], ["65536"], ["x"], ["-1"], ["80,"], ["1"] * 128]
)
def test_no_ports(values: list[str]) -> None:
    with pytest.raises(ValueError, match="port"):
        channel_ports(values)


# --------------------------------------------------------------------------------------------------- whose network it is
def told(*namespaces: dict[str, str]) -> dict[str, str]:
    spec = {"linux": {"namespaces": [{"type": "pid"}, *namespaces]}}
    return {"info": json.dumps({"pid": 7, "runtimeSpec": spec})}


@pytest.mark.parametrize(
    ("info", "wanted"),
    [
        (told({"type": "network", "path": "/var/run/netns/x"}), "/var/run/netns/x"),
        (told({"type": "network"}), "/proc/7/ns/net"),
        (told(), ""),
    ],
    ids=["named", "of-the-process", "the-hosts"],
)
def test_a_sandbox_says_which_network_it_has(info: dict[str, str], wanted: str) -> None:
    assert convert.network_namespace(info) == wanted


@pytest.mark.parametrize("info", [{}, {"info": "x"}, {"info": "{}"}, {"info": "[]"}])
def test_a_sandbox_that_does_not_say_it_is_not_taken_for_the_hosts(info: dict[str, str]) -> None:
    with pytest.raises(RuntimeFault, match="which network"):
        convert.network_namespace(info)

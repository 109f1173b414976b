"""The reversed link: HTTP/1.1 requests from the federation to a member, on connections that the member dialled.

Only outbound connections leave a member. It dials `GET /ubernetes/v1/link` with `Upgrade: ubernetes-link` over TLS;
the federation answers 101, and from then on the roles are reversed: the federation writes ordinary HTTP/1.1 requests
into the socket and the member answers them with an ordinary aiohttp server. There is no multiplexing and no framing of
ours: one request at a time on each connection, several connections, and an upgrade (exec, port-forward) simply owns
its connection until the end. A slow stream cannot stall another, and TCP does the flow control.

    member (`linkdialer.LinkDialer`)           federation (`linkpool.LinkPool`, one for each member)
    keeps 2 connections dialled and unused,    →       `accept` takes them in, unused ones wait in line
    dials another when one is taken,           ←       a request takes one, and keeps it alive for the next
    64 at most

Versions are handshaken in headers: each side says its own and the oldest it still speaks (n-2), each may refuse. A dead
path shows by TCP keepalive and TCP_USER_TIMEOUT within half a minute, and by `ping` when the federation asks. Over TLS
there is no half-close: closing one direction closes both, after everything written before has been delivered.

Who is at the other end is not this module's matter: the federation authenticates the dialling request as any other,
and the member's `handler` decides what the federation may do (`request[VIA_LINK]` is True).
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict

LINK_PATH = "/ubernetes/v1/link"
PING_PATH = "/ubernetes/v1/link/ping"
UPGRADE_TOKEN = "ubernetes-link"
VERSION_HEADER = "Ubernetes-Link-Version"
OLDEST_HEADER = "Ubernetes-Link-Oldest"
VIA_LINK = web.RequestKey("VIA_LINK", bool)
"""Set on a request that came through the link."""

VERSION = 1
SKEW_MAX = 2

IDLE_TARGET = 2
CONNECTIONS_MAX = 64
HEAD_BYTES_MAX = 64 * 1024
DIAL_TIMEOUT_S = 10.0
TAKE_TIMEOUT_S = 10.0
PING_TIMEOUT_S = 5.0
KEEPALIVE_S = 30.0
"""How long a connection that served a request is kept for the next one."""


class LinkDown(ConnectionError):
    """The member has no connection to give, or the one in use broke."""


class LinkRefused(Exception):
    """The federation answered the dial with something other than 101; the message is its own."""


class MalformedHead(ValueError):
    """What came was not an HTTP/1.1 response."""


# ---------------------------------------------------------------------------------------------------- versions
@dataclass(frozen=True, slots=True)
class LinkVersion:
    """What one side speaks."""

    current: int = VERSION
    oldest: int = max(1, VERSION - SKEW_MAX)

    def headers(self) -> dict[str, str]:
        return {VERSION_HEADER: str(self.current), OLDEST_HEADER: str(self.oldest)}


OURS = LinkVersion()


def incompatible(ours: LinkVersion, headers: Mapping[str, str], who: str) -> str:
    """Why the peer with these headers cannot be talked to; empty when it can. `who` names the peer."""
    try:
        theirs = LinkVersion(int(headers[VERSION_HEADER]), int(headers[OLDEST_HEADER]))
    except (KeyError, ValueError):
        return f"{who} sent no valid {VERSION_HEADER} and {OLDEST_HEADER} headers"
    if theirs.current < ours.oldest:
        return (
            f"{who} speaks link version {theirs.current}; the oldest still spoken here is "
            f"{ours.oldest}: upgrade {who}"
        )
    if ours.current < theirs.oldest:
        return (
            f"{who} speaks link versions {theirs.oldest} to {theirs.current}, this side only up to "
            f"{ours.current}: upgrade this side"
        )
    return ""


def watch_the_path(transport: asyncio.BaseTransport) -> None:
    """Have the kernel notice a dead path: 15 s + 3 probes when idle, 20 s when data is not acknowledged."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        watch_the_path_of(sock)


def watch_the_path_of(sock: socket.socket) -> None:
    """As `watch_the_path`, of a TCP socket; without it a cut is waited out for as long again, or a quarter of an hour."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status line and headers of a response that is not read by aiohttp."""

    status: int
    headers: CIMultiDict[str]

    @classmethod
    def parse(cls, head: bytes) -> "ResponseHead":
        """`head` ends with the empty line. Raises MalformedHead."""
        status_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        protocol, _, rest = status_line.partition(" ")
        if not protocol.startswith("HTTP/1.") or not rest[:3].isdecimal():
            raise MalformedHead(f"not an HTTP/1.1 status line: {status_line[:80]!r}")
        headers: CIMultiDict[str] = CIMultiDict()
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name:
                raise MalformedHead(f"not a header: {line[:80]!r}")
            headers.add(name, value.strip())
        return cls(int(rest[:3]), headers)


def content_length(headers: Mapping[str, str], most: int) -> int:
    """How long a body is said to be, at most `most`; 0 where it is not said."""
    text = headers.get("Content-Length", "0").lstrip("0")
    if not (text.isascii() and text.isdecimal()):
        return 0
    return most if len(text) > len(str(most)) else min(int(text), most)


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """A request head for a connection that aiohttp does not write. Raises ValueError on a line break inside."""
    lines = [
        f"{method} {target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("line break in a request head")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

"""Which protocol a request for exec, attach or port-forward is upgraded to: a table of what clients offer. Pure.

    exec, attach    WebSocket: v5, v4 (kubectl ≥ 1.30, the Python client),      SPDY: v4, v3, v2, v1 (older kubectl, and its fallback)
                    v1, v4 and v1 in base64, none named (which is v1)
    port-forward    WebSocket: SPDY tunnelled (kubectl ≥ 1.31), v4 channels,    SPDY: portforward.k8s.io
                    the same in base64, none named

By SPDY the client's first choice that we know is taken, by WebSocket our best. Refusals are in upstream's words and with its
codes, which clients take as the sign to try another way.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from machinery.wire import channels

SPDY = "SPDY/3.1"
PROTOCOL_HEADER = "X-Stream-Protocol-Version"
ACCEPTED_HEADER = "X-Accepted-Stream-Protocol-Versions"
PORT_FORWARD = "portforward.k8s.io"
TUNNEL = f"{SPDY}+{PORT_FORWARD}"
STREAM_V4, STREAM_V3, STREAM_V2, STREAM_V1 = (
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
)
_FORWARDED = (TUNNEL, channels.V4, channels.V4_BASE64)
EXEC_PROTOCOLS = (STREAM_V4, STREAM_V3, STREAM_V2, STREAM_V1)

Values = Callable[[str], Sequence[str]]
"""All values of a request's header."""


class NoUpgrade(Exception):
    """The request is not upgraded: status, text, and the headers that say what would be."""

    def __init__(self, status: int, message: str, accepted: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = [(ACCEPTED_HEADER, name) for name in accepted]


class Upgrade(NamedTuple):
    """What is spoken from now on."""

    spdy: bool
    """SPDY on the socket itself; else WebSocket."""
    protocol: str
    """By WebSocket empty where the client named none."""


def for_exec(values: Values) -> Upgrade:
    """For exec and attach. Raises NoUpgrade."""
    if not _websocket(values):
        return _spdy(values, EXEC_PROTOCOLS)
    offered = listed(values("Sec-WebSocket-Protocol"))
    protocol = channels.choose(offered)
    if offered and not protocol:
        known = ", ".join(channels.SERVED)
        raise NoUpgrade(400, f"a WebSocket with one of these protocols is needed: {known}")
    return Upgrade(False, protocol)


def for_port_forward(values: Values) -> Upgrade:
    """For port-forward. Raises NoUpgrade."""
    if not _websocket(values):
        return _spdy(values, (PORT_FORWARD,))
    offered = listed(values("Sec-WebSocket-Protocol"))
    for known in _FORWARDED:
        if known in offered:
            return Upgrade(False, known)
    if offered:
        known = ", ".join(_FORWARDED)
        raise NoUpgrade(400, f"a WebSocket with one of these protocols is needed: {known}")
    return Upgrade(False, "")


def answer(upgrade: Upgrade) -> bytes:
    """The head that begins SPDY."""
    assert upgrade.spdy
    return (
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
        f"Upgrade: {SPDY}\r\n{PROTOCOL_HEADER}: {upgrade.protocol}\r\n\r\n"
    ).encode()


def listed(values: Sequence[str]) -> list[str]:
    """The members of a header that may come several times, each a list with commas."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def is_websocket(answered: Mapping[str, str]) -> bool:
    """Whether the headers of an answer say that a WebSocket begins; names in any case, or as aiohttp's."""
    values = [value for name, value in answered.items() if name.lower() == "upgrade"]
    return _websocket(lambda _: values)


def _websocket(values: Values) -> bool:
    return "websocket" in (value.lower() for value in listed(values("Upgrade")))


def _spdy(values: Values, known: Sequence[str]) -> Upgrade:
    connection = ",".join(values("Connection")).lower()
    if "upgrade" not in connection or SPDY.lower() not in ",".join(values("Upgrade")).lower():
        raise NoUpgrade(400, "unable to upgrade: missing upgrade headers in request")
    offered = listed(values(PROTOCOL_HEADER))
    if not offered:
        raise NoUpgrade(400, f"unable to upgrade: {PROTOCOL_HEADER} is required")
    for name in offered:
        if name in known:
            return Upgrade(True, name)
    text = f"client supports [{' '.join(offered)}], server accepts [{' '.join(known)}]"
    raise NoUpgrade(403, f"unable to upgrade: unable to negotiate protocol: {text}", known)

"""What clients offer for exec, attach and port-forward, and what they get."""

import pytest

from machinery.wire import upgrade
from machinery.wire.upgrade import NoUpgrade, Upgrade

WS = ("Connection: Upgrade", "Upgrade: websocket")
SPDY = ("Connection: Upgrade", "Upgrade: SPDY/3.1")
KUBECTL_OLD = tuple(
    f"X-Stream-Protocol-Version: {name}"
    for name in ("v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io")
)


def values(*lines: str) -> upgrade.Values:
    pairs = [line.split(": ") for line in lines]
    return lambda name: [value for key, value in pairs if key.lower() == name.lower()]


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ((*WS, "Sec-WebSocket-Protocol: v5.channel.k8s.io"), Upgrade(False, "v5.channel.k8s.io")),
        ((*WS, "Sec-WebSocket-Protocol: v4.channel.k8s.io, v5.channel.k8s.io"), Upgrade(False, "v5.channel.k8s.io")),
        ((*WS, "Sec-WebSocket-Protocol: v4.channel.k8s.io"), Upgrade(False, "v4.channel.k8s.io")),
        ((*WS, "Sec-WebSocket-Protocol: base64.channel.k8s.io"), Upgrade(False, "base64.channel.k8s.io")),
        (WS, Upgrade(False, "")),
        ((*SPDY, *KUBECTL_OLD), Upgrade(True, "v4.channel.k8s.io")),
        ((*SPDY, "X-Stream-Protocol-Version: v2.channel.k8s.io, v4.channel.k8s.io"), Upgrade(True, "v2.channel.k8s.io")),
        (("Connection: keep-alive, upgrade", "Upgrade: spdy/3.1", "X-Stream-Protocol-Version: channel.k8s.io"), Upgrade(True, "channel.k8s.io")),
    ],
)  # fmt: skip
def test_exec(lines: tuple[str, ...], wanted: Upgrade) -> None:
    assert upgrade.for_exec(values(*lines)) == wanted


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ((*WS, "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io"), Upgrade(False, upgrade.TUNNEL)),
        ((*WS, "Sec-WebSocket-Protocol: v4.channel.k8s.io"), Upgrade(False, "v4.channel.k8s.io")),
        ((*WS, "Sec-WebSocket-Protocol: v4.base64.channel.k8s.io"), Upgrade(False, "v4.base64.channel.k8s.io")),
        (WS, Upgrade(False, "")),
        ((*SPDY, "X-Stream-Protocol-Version: portforward.k8s.io"), Upgrade(True, "portforward.k8s.io")),
    ],
)  # fmt: skip
def test_port_forward(lines: tuple[str, ...], wanted: Upgrade) -> None:
    assert upgrade.for_port_forward(values(*lines)) == wanted


@pytest.mark.parametrize(
    ("lines", "status", "words"),
    [
        ((), 400, "unable to upgrade: missing upgrade headers in request"),
        (("Upgrade: SPDY/3.1",), 400, "missing upgrade headers"),
        (("Connection: Upgrade", "Upgrade: h2c"), 400, "missing upgrade headers"),
        (SPDY, 400, "unable to upgrade: X-Stream-Protocol-Version is required"),
        (
            (*SPDY, "X-Stream-Protocol-Version: v9.channel.k8s.io"), 403,
            "unable to upgrade: unable to negotiate protocol: client supports [v9.channel.k8s.io], server accepts [",
        ),
        ((*WS, "Sec-WebSocket-Protocol: v9.channel.k8s.io"), 400, "v4.channel.k8s.io"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("choose", [upgrade.for_exec, upgrade.for_port_forward])
def test_refused(choose, lines: tuple[str, ...], status: int, words: str) -> None:
    with pytest.raises(NoUpgrade) as refused:
        choose(values(*lines))
    assert (refused.value.status, words in refused.value.message) == (status, True)


def test_a_refusal_says_what_would_be_spoken() -> None:
    with pytest.raises(NoUpgrade) as refused:
        upgrade.for_port_forward(values(*SPDY, "X-Stream-Protocol-Version: x"))
    assert refused.value.headers == [("X-Accepted-Stream-Protocol-Versions", "portforward.k8s.io")]


def test_the_answer() -> None:
    assert upgrade.answer(Upgrade(True, "v4.channel.k8s.io")) == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
    )

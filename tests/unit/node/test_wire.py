"""The channel protocols, hand-made Protocol Buffers, and who may enter the endpoint."""

import datetime as dt

import pytest

from cluster_agent.node.cri import pbwire
from cluster_agent.node.server import may_enter, subject_of
from machinery.wire import channels
from machinery.wire.channels import Frame


def test_frames_there_and_back() -> None:
    for channel in range(5):
        assert channels.decode(channels.encode(channel, b"x\0y")) == Frame(channel, b"x\0y")
    closing = channels.decode(channels.encode_close(channels.STDIN))
    assert closing is not None and channels.closes(closing, channels.STDIN)
    assert not channels.closes(closing, channels.STDOUT)
    assert channels.decode(b"") is None


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        (["v5.channel.k8s.io", "v4.channel.k8s.io"], "v5.channel.k8s.io"),
        (["v4.channel.k8s.io", "v5.channel.k8s.io"], "v5.channel.k8s.io"),
        (["channel.k8s.io", "v4.channel.k8s.io"], "v4.channel.k8s.io"),
        (["base64.channel.k8s.io", "v4.base64.channel.k8s.io"], "v4.base64.channel.k8s.io"),
        (["base64.channel.k8s.io", "channel.k8s.io"], "channel.k8s.io"),
        (["SPDY/3.1+portforward.k8s.io"], ""),
        ([], ""),
    ],
)
def test_choice(offered: list[str], wanted: str) -> None:
    assert channels.choose(offered) == wanted


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b'{"Width":80,"Height":24}', (80, 24)),
        (b'{"Width":0,"Height":24}', None),
        (b'{"Width":80}', None),
        (b"nonsense", None),
        (b'{"Width":99999,"Height":24}', None),
        (b"[]", None),
    ],
)
def test_sizes(data: bytes, wanted: tuple[int, int] | None) -> None:
    assert channels.resize_of(data) == wanted


@pytest.mark.parametrize("code", [0, 1, 137])
def test_exit_codes_there_and_back(code: int) -> None:
    assert channels.exit_code_of(channels.exit_code(code)) == code


def test_a_command_that_could_not_run_has_no_exit_code() -> None:
    assert channels.exit_code_of(channels.failure("no such file")) is None


def test_the_first_message_is_on_the_lowest_channel_written() -> None:
    assert channels.first_channel(stdout=True, stderr=True) == channels.STDOUT
    assert channels.first_channel(stdout=False, stderr=True) == channels.STDERR
    assert channels.first_channel(stdout=False, stderr=False) == channels.ERROR


def test_messages_there_and_back() -> None:
    raw = pbwire.message(_1="name", _2=b"", _3=True, _4=300, _16="far")
    assert list(pbwire.fields(raw)) == [(1, b"name"), (3, 1), (4, 300), (16, b"far")]
    assert (pbwire.text(raw, 1), pbwire.first(raw, 9)) == ("name", None)


@pytest.mark.parametrize("raw", [b"\x0a\x05ab", b"\x80", b"\x0b", b"\x08"])
def test_malformed_messages_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        list(pbwire.fields(raw))


@pytest.mark.parametrize(
    ("subject", "wanted"),
    [
        (("kube-apiserver-kubelet-client", ()), True),
        (("boss", ("system:masters",)), True),
        (("system:node:x", ("system:nodes",)), False),
        (("", ()), False),
    ],
)
def test_who_may_enter(subject: tuple[str, tuple[str, ...]], wanted: bool) -> None:
    assert may_enter(subject, ("kube-apiserver-kubelet-client",)) is wanted


def test_a_certificate_that_has_ended_on_a_living_connection_is_nobodys() -> None:
    certificate = {
        "subject": ((("organizationName", "system:masters"),), (("commonName", "boss"),)),
        "notAfter": "Jan  2 03:04:05 2027 GMT",
    }
    end = dt.datetime(2027, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert subject_of(certificate, end) == ("boss", ("system:masters",))
    assert subject_of(certificate, end + dt.timedelta(seconds=1)) == ("", ())
    assert subject_of({}, end) == ("", ())

"""The channel protocols of exec and attach over WebSocket: `v5.channel.k8s.io`, `v4.channel.k8s.io` and what came before.

Each message begins with one byte that names a channel: 0 stdin, 1 stdout, 2 stderr, 3 error (one Status document
at the end), 4 resize (`{"Width":80,"Height":24}`). Version 5 adds the message `255 <channel>`: that channel ends,
which is how the end of a pipe reaches a remote `cat`; version 4 cannot say it. `channel.k8s.io` says a failure in words at the end,
and nothing of a success. The `base64` forms are for clients whose messages are text: a digit for the channel, then the data
in base64 (k8s.io/apimachinery/pkg/util/httpstream/wsstream). Pure; the sockets are elsewhere.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from machinery.meta.resource import Document

V1, V4, V5 = "channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"
V1_BASE64, V4_BASE64 = "base64.channel.k8s.io", "v4.base64.channel.k8s.io"
PROTOCOLS = (V5, V4)
"""What we ask for ourselves, best first."""
SERVED = (V5, V4, V4_BASE64, V1, V1_BASE64)
"""What we answer, best first; who names none speaks `channel.k8s.io`."""

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE = 255
MESSAGE_BYTES_MAX = 32 * 1024
"""Data bytes in one message of ours."""


class Frame(NamedTuple):
    """One message. A close of channel n is Frame(CLOSE, bytes([n]))."""

    channel: int
    data: bytes


def encode(channel: int, data: bytes) -> bytes:
    """The message that carries `data` on `channel`."""
    return bytes((channel,)) + data


def encode_close(channel: int) -> bytes:
    """Version 5: `channel` ends here."""
    return bytes((CLOSE, channel))


def decode(message: bytes) -> Frame | None:
    """The frame of a message; None for one without a channel, which is to be ignored."""
    return Frame(message[0], message[1:]) if message else None


def packed(protocol: str, channel: int, data: bytes) -> bytes | str:
    """What goes over the WebSocket of that protocol: a text where it is base64."""
    if protocol not in (V1_BASE64, V4_BASE64):
        return encode(channel, data)
    return chr(ord("0") + channel) + base64.b64encode(data).decode()


def unpacked(protocol: str, message: bytes | str) -> Frame | None:
    """The frame of what came, binary or text; None for what is to be ignored."""
    raw = message.encode() if isinstance(message, str) else message
    frame = decode(raw)
    if frame is None or protocol not in (V1_BASE64, V4_BASE64):
        return frame
    try:
        data = base64.b64decode(frame.data, validate=True)
    except binascii.Error:
        return None
    channel = frame.channel - ord("0")
    return Frame(channel, data) if channel >= 0 else None


def closes(frame: Frame, channel: int) -> bool:
    """Whether the frame ends `channel`."""
    return frame.channel == CLOSE and frame.data[:1] == bytes((channel,))


def choose(offered: Sequence[str]) -> str:
    """The protocol to speak with a client that offers these; empty if there is none."""
    return next((name for name in SERVED if name in offered), "")


def first_channel(*, stdout: bool, stderr: bool) -> int:
    """The lowest channel we write to: an empty message on it tells the client that the far end is up."""
    return STDOUT if stdout else STDERR if stderr else ERROR


def resize_of(data: bytes) -> tuple[int, int] | None:
    """(width, height), or None when it is not a size."""
    try:
        size = orjson.loads(data)
        width, height = int(size["Width"]), int(size["Height"])
    except (ValueError, KeyError, TypeError):
        return None
    return (width, height) if 0 < width < 65536 and 0 < height < 65536 else None


def encode_resize(width: int, height: int) -> bytes:
    """The whole message."""
    return encode(RESIZE, orjson.dumps({"Width": width, "Height": height}))


# ---------------------------------------------------------------------------------------------- the final Status
def success() -> Document:
    """The command ended with 0."""
    return {"metadata": {}, "status": "Success"}


def exit_code(code: int) -> Document:
    """The command ended with `code`."""
    if code == 0:
        return success()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure(message: str) -> Document:
    """The command could not be run at all."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


def final_words(status: Document, protocol: str) -> bytes:
    """What the error channel says at the end, also by SPDY: from version 4 on the document, before it the words of a failure."""
    if protocol in (V5, V4, V4_BASE64):
        return orjson.dumps(status)
    return b"" if status["status"] == "Success" else str(status["message"]).encode()


def exit_code_of(status: Document) -> int | None:
    """The code that a final Status carries: 0, a code, or None when the command could not be run."""
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    for cause in causes:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    return None

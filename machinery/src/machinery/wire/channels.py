"""The channel protocols of exec and attach over WebSocket: `v4.channel.k8s.io` and `v5.channel.k8s.io`.

Each binary message begins with one byte that names a channel: 0 stdin, 1 stdout, 2 stderr, 3 error (one Status document
at the end), 4 resize (`{"Width":80,"Height":24}`). Version 5 adds the message `255 <channel>`: that channel ends,
which is how the end of a pipe reaches a remote `cat`; version 4 cannot say it. Pure; the sockets are elsewhere.
"""

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from machinery.meta.resource import Document

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
PROTOCOLS = (V5, V4)
"""What we speak, best first."""

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


def closes(frame: Frame, channel: int) -> bool:
    """Whether the frame ends `channel`."""
    return frame.channel == CLOSE and frame.data[:1] == bytes((channel,))


def choose(offered: Sequence[str]) -> str:
    """The protocol to speak with a client that offers these; empty if there is none."""
    return next((name for name in PROTOCOLS if name in offered), "")


def first_message(*, stdout: bool, stderr: bool) -> bytes:
    """An empty message on the lowest channel we write to: it tells the client that the far end is up."""
    return bytes((STDOUT if stdout else STDERR if stderr else ERROR,))


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


def exit_code_of(status: Document) -> int | None:
    """The code that a final Status carries: 0, a code, or None when the command could not be run."""
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    for cause in causes:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    return None

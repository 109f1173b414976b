"""The supervisor's socket: one JSON line asks, one JSON line answers.

A unix socket's path may not exceed 107 bytes, and a checkout may lie deeper: both ends therefore reach it through an open
descriptor of the lab's directory.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SOCKET = "supervisor.sock"


class NoSupervisor(Exception):
    """Nobody listens: the lab is down, or its supervisor died."""


@contextmanager
def socket_path(directory: str) -> Iterator[str]:
    """A short path to the lab's socket, valid inside the block."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


def listen(directory: str) -> socket.socket:
    """Bind the socket, in place of one that a dead supervisor left."""
    with socket_path(directory) as path:
        if os.path.lexists(path):
            os.unlink(path)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(path)
        os.chmod(path, 0o600)
    return server


def ask(directory: str, verb: str, timeout_s: float = 10.0, **words: Any) -> dict[str, Any]:
    """Send one request and return its answer. Raises NoSupervisor."""
    try:
        with socket_path(directory) as path, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(path)
            connection.sendall(json.dumps({"do": verb} | words).encode() + b"\n")
            with connection.makefile("rb") as answer:
                line = answer.readline()
    except OSError as error:
        raise NoSupervisor(str(error)) from error
    if not line:
        raise NoSupervisor("the supervisor closed the connection")
    answer_document: dict[str, Any] = json.loads(line)
    return answer_document

"""Sockets in a pod's network namespace.

A socket belongs for ever to the namespace that its thread was in when it was made. So a thread of its own enters the
namespace, makes the socket and ends; the loop, which never leaves its namespace, connects it. Threads of a pool would come
back in the wrong place. Needs CAP_SYS_ADMIN.
"""

import asyncio
import ctypes
import os
import socket
import threading

CLONE_NEWNET = 0x40000000
CONNECT_TIMEOUT_S = 10.0
_LIBC = ctypes.CDLL(None, use_errno=True)


def socket_in(namespace: str, family: socket.AddressFamily) -> socket.socket:
    """A TCP socket of the namespace at that path; empty is our own. Raises OSError."""
    if not namespace:
        return socket.socket(family, socket.SOCK_STREAM)
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            with open(namespace, "rb") as held:  # noqa: PTH123 - not a file to be read
                if _LIBC.setns(held.fileno(), CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), namespace)  # noqa: TRY301
            made.append(socket.socket(family, socket.SOCK_STREAM))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make, name="netns", daemon=True)
    thread.start()
    thread.join()
    found = made[0]
    if isinstance(found, OSError):
        raise found
    return found


async def connect_localhost(
    namespace: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the port on the namespace's own 127.0.0.1, else [::1]. Raises ConnectionError that tells of both."""
    tried = []
    for version, family, host in ((4, socket.AF_INET, "127.0.0.1"), (6, socket.AF_INET6, "::1")):
        try:
            return await _connect(namespace, family, host, port)
        except OSError as error:
            shown, colon = (host, ":") if version == 4 else (f"[{host}]", "")
            tried.append(f"IPv{version}{colon} dial tcp{version} {shown}:{port}: {_words(error)}")
    raise ConnectionError(" ".join(tried))


async def _connect(
    namespace: str, family: socket.AddressFamily, host: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    made = socket_in(namespace, family)
    try:
        made.setblocking(False)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(made, (host, port))
        return await asyncio.open_connection(sock=made)
    except BaseException:
        made.close()
        raise


def _words(error: OSError) -> str:
    """As Go says it: `connect: connection refused`."""
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    said = os.strerror(error.errno) if error.errno else str(error)
    return f"connect: {said[:1].lower()}{said[1:]}"

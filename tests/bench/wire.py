"""Clients of a bench: HTTP by hand over TLS, in processes of their own, so that what is measured is the server."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from tests.support.apiserver import RunningServer

Files = dict[str, str]
"""User -> file of certificate and key; `ca` -> the authority's."""
Begin = Callable[[], Awaitable[float]]


def context(files: Files, user: str) -> ssl.SSLContext:
    """The client's side of TLS."""
    tls = ssl.create_default_context(cafile=files["ca"])
    tls.check_hostname = False
    tls.load_cert_chain(files[user])
    return tls


def request(method: str, path: str, body: bytes = b"", media: str = "", accept: str = "") -> bytes:
    """The request's bytes; `accept` is what encodings the client takes."""
    lines = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nUser-Agent: bench/1\r\n"
    if accept:
        lines += f"Accept-Encoding: {accept}\r\n"
    if body:
        lines += f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n"
    return f"{lines}\r\n".encode() + body


class Wire:
    """One connection that speaks HTTP by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def several(cls, port: int, files: Files, user: str, count: int) -> list["Wire"]:
        tls = context(files, user)
        return [
            cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls)) for _ in range(count)
        ]

    async def ask(self, method: str, path: str, body: bytes = b"", media: str = "") -> int:
        """The status; the answer is read to its end."""
        self.writer.write(request(method, path, body, media))
        return (await self.answer())[0]

    async def answer(self) -> tuple[int, int]:
        """(status, bytes of the body) of what was asked last."""
        status, head = await self.head()
        if b"chunked" not in head:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            await self.reader.readexactly(length)
            return status, length
        total = 0
        while size := len(await self.chunk()):
            total += size
        return status, total

    def send(self, method: str, path: str, accept: str = "") -> None:
        self.writer.write(request(method, path, accept=accept))

    async def head(self) -> tuple[int, bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        return int(head.split()[1]), head

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]


def process(work: Any, told: Any, go: Any, *arguments: Any) -> None:
    """A process: `work(*arguments, begin)`, whose outcome is told."""

    async def begin() -> float:
        """When all are ready: until when it goes."""
        told.put("ready")
        until: float = await asyncio.get_running_loop().run_in_executor(None, go.get)
        return until

    told.put(uvloop.run(work(*arguments, begin)))


async def credentials(
    server: RunningServer, folder: Path, users: Sequence[tuple[str, str, tuple[str, ...]]]
) -> Files:
    """Certificates of (file's name, user, groups)."""
    files = {"ca": str(folder / "ca")}
    (folder / "ca").write_text(server.api.ca_pem)
    for name, user, groups in users:
        pair = server.api.client_pair(user, groups)
        files[name] = str(folder / name)
        Path(files[name]).write_bytes(pair.certificate + pair.key)
    return files


async def bind(server: RunningServer, user: str, role: str) -> None:
    """Give a user a cluster role everywhere."""
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
    }
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    await server.rest.request("POST", path, body=json.dumps(binding).encode())

"""GETs that are answered between two bytes: the same words, the same rights and the same order as the usual way."""

import asyncio
import json
import re
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server

pytestmark = pytest.mark.integration
MAP = "/api/v1/namespaces/default/configmaps/one"
MAPS = "/api/v1/namespaces/default/configmaps"
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Wire:
    """A connection that sees every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, Any]]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        size = LENGTH.search(head)
        assert size is not None, head
        return int(head.split()[1]), json.loads(await self.reader.readexactly(int(size[1])))


async def connect(server: RunningServer, user: str, groups: tuple[str, ...] = ()) -> Wire:
    tls = server.tls(server.api.client_pair(user, groups))
    return Wire(*await asyncio.open_connection("127.0.0.1", server.api.port, ssl=tls))


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


async def filled(server: RunningServer) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "one"},
        "data": {"a": "b"},
    }
    await server.rest.request("POST", MAPS, body=json.dumps(body).encode())


def at_once(server: RunningServer) -> int:
    """How many requests were answered at once so far."""
    assert server.api.quick is not None
    return server.api.quick.answered


async def test_the_answer_is_the_usual_one() -> None:
    async with running_server() as server:
        await filled(server)
        wire = await connect(server, "root", ("system:masters",))
        wire.writer.write(get(f"{MAP}?resourceVersion=0"))
        usual = await wire.answer()
        before = at_once(server)
        wire.writer.write(get(MAP))
        assert await wire.answer() == usual
        assert at_once(server) == before + 1
        assert usual[1]["data"] == {"a": "b"}
        wire.writer.close()


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with running_server() as server:
        await filled(server)
        wire = await connect(server, "root", ("system:masters",))
        wire.writer.write(get(MAP))
        await wire.answer()
        before = at_once(server)
        wire.writer.write(get(MAP) + get(MAP) + get(MAPS) + get(MAP) + get(MAP))
        kinds = [(await wire.answer())[1]["kind"] for _ in range(5)]
        assert kinds == ["ConfigMap", "ConfigMap", "ConfigMapList", "ConfigMap", "ConfigMap"]
        assert at_once(server) <= before + 2
        wire.writer.write(get(MAP))
        assert (await wire.answer())[0] == 200
        wire.writer.close()


@pytest.mark.parametrize(
    ("path", "lines", "status"),
    [
        (f"{MAPS}/none", (), 404),
        ("/api/v1/nothings/x", (), 404),
        ("/api/v1/configmaps/one", (), 404),
        ("/api/v1/namespaces/default/nodes/x", (), 404),
        (MAP, ("Accept: application/json;as=Table;v=v1;g=meta.k8s.io",), 200),
        (MAP, ("Accept: image/png",), 406),
        (MAP, ("Authorization: Bearer wrong",), 401),
        (MAP, ("Impersonate-User: nobody",), 403),
        (MAP, ("User-Agent: curl/8",), 200),
        (MAP, ("Connection: close",), 200),
        (f"{MAP}/status", (), 404),
    ],
)
async def test_everything_else_goes_the_usual_way(
    path: str, lines: tuple[str, ...], status: int
) -> None:
    async with running_server() as server:
        await filled(server)
        wire = await connect(server, "root", ("system:masters",))
        wire.writer.write(get(MAP))
        await wire.answer()
        before = at_once(server)
        wire.writer.write(get(path, *lines))
        assert (await wire.answer())[0] == status
        assert at_once(server) == before
        wire.writer.close()


async def test_rights_are_asked_every_time() -> None:
    async with running_server() as server:
        await filled(server)
        wire = await connect(server, "eve")
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "eve"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view",
            },
            "subjects": [
                {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "eve"},
            ],
        }  # fmt: skip
        path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
        statuses = []
        for step in ("", "POST", "DELETE"):
            if step == "POST":
                await server.rest.request("POST", path, body=json.dumps(binding).encode())
            if step == "DELETE":
                await server.rest.request("DELETE", f"{path}/eve")
            wire.writer.write(get(MAP))
            statuses.append((await wire.answer())[0])
        assert statuses == [403, 200, 403]
        wire.writer.close()

"""Pod security over a running server: who is warned of what, in the recorded words."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.apiserver import running_server

from machinery.server.config import ServerConfig
from machinery.server.pki import client_context
from machinery.server.user import UserInfo

FOLDER = Path(__file__).parents[2] / "golden" / "api"
CONFIG = ServerConfig(
    static_tokens=(("tok", UserInfo("admin", ("system:masters",))),), taint_new_nodes=True
)


def recorded() -> list[Any]:
    lines = (FOLDER / "7-auth.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["seq"] == "podsecurity"]


@pytest.mark.integration
async def test_warnings_are_those_of_a_real_server() -> None:
    async with running_server(config=CONFIG) as server:
        connector = aiohttp.TCPConnector(ssl=client_context(server.api.ca_pem))
        async with aiohttp.ClientSession(connector=connector) as session:
            session.headers["Authorization"] = "Bearer tok"
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "o7c"}}
            await session.post(server.api.url + "/api/v1/namespaces", json=space)
            told, wanted = [], []
            for record in recorded():
                request = record["request"]
                headers = {"Content-Type": "application/json", **(request.get("headers") or {})}
                data = json.dumps(request.get("body"))
                url = server.api.url + request["path"]
                async with session.request(
                    request["method"], url, data=data, headers=headers
                ) as answer:
                    told.append((record["id"], answer.status, answer.headers.getall("Warning", [])))
                response = record["response"]
                warned = response["headers"].get("warning") or []
                wanted.append((record["id"], response["status"], warned))
    assert told == wanted

"""PostgreSQL's primary dies under two API servers and 200 writes a second; then one of the servers dies too.

Everything is a real process: a primary, its synchronous standby, two API servers on one URL with both hosts. Clients note
what they were told, watchers what they saw, and at the end the two accounts are compared.
"""

import asyncio
import contextlib
import itertools
import json
import random
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from tests.support.postgres import Postgres, replicated

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]

WRITERS, PAUSE_S = 40, 0.2
"""So they ask for 200 writes a second together."""
TOKEN = "tok-root"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PATH = "/api/v1/namespaces/default/configmaps"
WAIT_S = 60.0
BACK_S = 30.0
"""So soon writes must go on after the promotion; measured: one or two seconds on an idle machine."""

SERVER = """
import asyncio, json, sys
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.server.app import ApiServer
from machinery.server.config import ServerConfig
from machinery.server.user import UserInfo
from machinery.store.sql import open_store

async def main(url, pki_dir, token):
    store = open_store(url)
    await store.start()
    tokens = ((token, UserInfo("root", ("system:masters",))),)
    config = ServerConfig(pki_dir=pki_dir, static_tokens=tokens, service_accounts=False)
    server = ApiServer(Scheme(BUILTIN), store, config, SystemClock(), SystemIds())
    await server.start()
    print(json.dumps([server.url, server.ca_pem]), flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@dataclass
class Server:
    """One API server's process."""

    process: subprocess.Popen[str]
    url: str
    ca: str


def run_server(url: str, folder: Path, name: str) -> Server:
    """Start one, and wait until it serves."""
    command = [sys.executable, "-c", SERVER, url, str(folder / "pki"), TOKEN]
    with (folder / f"{name}.log").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (folder / f"{name}.log").read_text()
    return Server(process, *json.loads(line))


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    with replicated() as (primary, standby):
        yield primary, standby
        if not primary.running:
            primary.start()  # what kill -9 left in shared memory it tidies up itself
            primary.stop()


@contextlib.contextmanager
def two_servers(url: str, folder: Path) -> Iterator[list[Server]]:
    servers: list[Server] = []
    try:
        for name in ("one", "other"):
            servers.append(run_server(url, folder, name))
        yield servers
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()
            assert server.process.stdout is not None
            server.process.stdout.close()


@dataclass
class Refusal:
    """An answer that was not a yes: a status with its body, or a broken connection (0)."""

    at: float
    status: int
    text: str = ""
    retry_after: str = ""


@dataclass
class Told:
    """What all writers were told. `acknowledged` has (name, resourceVersion) and when it was said."""

    acknowledged: dict[tuple[str, int], float] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    slowest_s: float = 0.0

    async def until(self, since: float, count: int) -> float:
        """When the `count`th write after `since` was acknowledged."""
        await until(lambda: sum(at > since for at in self.acknowledged.values()) >= count)
        return sorted(at for at in self.acknowledged.values() if at > since)[count - 1]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)


class Writer:
    """A client with both addresses, which creates ConfigMaps and updates each of them nine times."""

    def __init__(
        self, session: aiohttp.ClientSession, servers: list[Server], name: str, told: Told
    ) -> None:
        self._session, self._name, self._told = session, name, told
        self._urls = [server.url for server in servers]
        self._random = random.Random(name)

    async def run(self, ended: asyncio.Event) -> None:
        for number in itertools.count():
            name, version, round_ = f"{self._name}-{number}", 0, 0
            while round_ < 10:
                if ended.is_set():
                    return
                started = time.monotonic()
                written = await self._write(name, version, round_)
                self._told.slowest_s = max(self._told.slowest_s, time.monotonic() - started)
                if written:
                    version, round_ = written, round_ + 1
                else:
                    version = await self._read(name)
                await asyncio.sleep(max(0.0, PAUSE_S - (time.monotonic() - started)))

    def _any(self) -> str:
        return self._random.choice(self._urls)

    async def _write(self, name: str, version: int, round_: int) -> int:
        """The new version, or 0 for what was not acknowledged."""
        metadata: dict[str, Any] = {"name": name}
        method, path = "POST", PATH
        if version:
            metadata["resourceVersion"] = str(version)
            method, path = "PUT", f"{PATH}/{name}"
        body = {"metadata": metadata, "data": {"round": str(round_)}}
        refusal = Refusal(time.monotonic(), 0)
        try:
            async with self._session.request(method, self._any() + path, json=body) as answer:
                if answer.status in (200, 201):
                    new = int((await answer.json())["metadata"]["resourceVersion"])
                    self._told.acknowledged[name, new] = time.monotonic()
                    return new
                refusal.status, refusal.text = answer.status, await answer.text()
                refusal.retry_after = answer.headers.get("Retry-After", "")
        except aiohttp.ClientConnectionError as error:
            refusal.text = repr(error)
        self._told.refusals.append(refusal)
        return 0

    async def _read(self, name: str) -> int:
        """What version there is now, of whichever server tells; 0 if there is none."""
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with self._session.get(f"{self._any()}{PATH}/{name}") as answer:
                if answer.status == 200:
                    return int((await answer.json())["metadata"]["resourceVersion"])
        return 0


class Watcher:
    """A client that watches from where it was, at the next address when one breaks."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str], version: int) -> None:
        self._session, self._urls, self._version = session, urls, version
        self.seen: list[tuple[str, int]] = []
        self.expired = 0

    async def run(self) -> None:
        for place in itertools.cycle(self._urls):
            query = f"?watch=1&resourceVersion={self._version}"
            with contextlib.suppress(aiohttp.ClientError):
                async with self._session.get(place + PATH + query) as answer:
                    self.expired += answer.status == 410
                    async for line in answer.content:
                        self._take(json.loads(line))
            await asyncio.sleep(0.05)

    def _take(self, event: dict[str, Any]) -> None:
        if event.get("type") not in ("ADDED", "MODIFIED", "DELETED"):
            self.expired += event.get("object", event).get("code") == 410
            return
        metadata = event["object"]["metadata"]
        self._version = int(metadata["resourceVersion"])
        self.seen.append((metadata["name"], self._version))

    async def until(self, name: str) -> None:
        await until(lambda: any(seen == name for seen, _ in reversed(self.seen)))


@contextlib.asynccontextmanager
async def tasks(*works: Any) -> AsyncIterator[None]:
    """These run meanwhile, and none may fail."""
    running = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        results = await asyncio.gather(*running, return_exceptions=True)
    assert not [r for r in results if isinstance(r, Exception)]


async def synchronous(url: str) -> None:
    """Wait until the primary acknowledges nothing that its standby does not have."""
    connection = await asyncpg.connect(url)
    async with asyncio.timeout(WAIT_S):
        while True:
            state = await connection.fetchval("SELECT sync_state FROM pg_stat_replication")
            if state == "sync":
                break
            await asyncio.sleep(0.05)
    await connection.close()


def both(url: str, primary: Postgres, standby: Postgres) -> str:
    one = f"127.0.0.1:{primary.port}"
    return url.replace(one, f"{one},127.0.0.1:{standby.port}") + "?target_session_attrs=read-write"


async def last_write(session: aiohttp.ClientSession, url: str, name: str) -> int:
    body = {"metadata": {"name": name}}
    async with session.post(url + PATH, json=body) as answer:
        assert answer.status == 201, await answer.text()
        return int((await answer.json())["metadata"]["resourceVersion"])


def check_watcher(watcher: Watcher, told: Told) -> None:
    versions = [version for _, version in watcher.seen]
    assert versions == sorted(set(versions)), "an event came twice or out of order"
    missed = told.acknowledged.keys() - set(watcher.seen)
    assert not missed, f"{len(missed)} acknowledged writes were not seen: {sorted(missed)[:5]}"
    assert watcher.expired == 0


async def check_objects(
    session: aiohttp.ClientSession, url: str, start: int, watcher: Watcher
) -> None:
    """Each object stands at its last event; the first was written before anybody watched."""
    async with session.get(url + PATH) as answer:
        items = (await answer.json())["items"]
    there = {i["metadata"]["name"]: int(i["metadata"]["resourceVersion"]) for i in items}
    assert there == {"start": start, **dict(watcher.seen)}


async def logged(url: str) -> set[tuple[str, int]]:
    """(name, revision) of what the database itself holds; nothing is trimmed before 10,000 revisions."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT key, revision FROM store_log WHERE key LIKE '%/configmaps/%'"
    )
    await connection.close()
    return {(row[0].rpartition("/")[2], row[1]) for row in rows}


async def test_a_standby_is_promoted_and_a_server_dies_under_load(
    pair: tuple[Postgres, Postgres], tmp_path: Path
) -> None:
    primary, standby = pair
    own = primary.fresh_url()
    await synchronous(own)
    told, ended = Told(), asyncio.Event()
    with two_servers(both(own, primary, standby), tmp_path) as servers:
        tls = ssl.create_default_context(cadata=servers[0].ca)
        connector = aiohttp.TCPConnector(ssl=tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:
            start = await last_write(session, servers[0].url, "start")
            urls = [server.url for server in servers]
            watchers = [Watcher(session, order, start) for order in (urls, urls[::-1])]
            writers = [Writer(session, servers, f"w{n}", told) for n in range(WRITERS)]
            async with tasks(*(w.run() for w in watchers)):
                async with asyncio.TaskGroup() as group:
                    for writer in writers:
                        _ = group.create_task(writer.run(ended))
                    began = await told.until(0.0, 100)
                    rate = 400 / (await told.until(began, 400) - began)
                    await asyncio.to_thread(primary.kill)
                    died = time.monotonic()
                    await until(lambda: bool(told.refusals))
                    promoted = time.monotonic()
                    await asyncio.to_thread(standby.sql, "postgres", "SELECT pg_promote()")
                    back = await told.until(promoted, 1)
                    await told.until(promoted, 400)
                    refused = [r for r in told.refusals if r.at >= died]
                    lone = time.monotonic()
                    servers[0].process.send_signal(signal.SIGKILL)
                    servers[0].process.wait()
                    await told.until(lone, 400)
                    ended.set()
                await last_write(session, servers[1].url, "last")
                async with asyncio.TaskGroup() as group:
                    for watcher in watchers:
                        _ = group.create_task(watcher.until("last"))
            await check_objects(session, servers[1].url, start, watchers[1])
    print(
        f"{rate:.0f} writes/s; {len(told.acknowledged)} acknowledged, {len(refused)} refused while the database was away, "
        f"writing {back - promoted:.1f} s after the promotion began, slowest answer {told.slowest_s:.1f} s"
    )
    assert back - promoted < BACK_S
    for watcher in watchers:
        check_watcher(watcher, told)
    assert watchers[0].seen == watchers[1].seen
    database = await logged(own.replace(str(primary.port), str(standby.port)))
    assert told.acknowledged.keys() <= database
    assert set(watchers[0].seen) <= database
    assert {r.status for r in refused} <= {0, 409, 503}
    unavailable = [r for r in refused if r.status == 503]
    assert unavailable
    assert all(r.retry_after == "1" or "outcome is unknown" in r.text for r in unavailable)
    assert all("the store is unavailable" in r.text for r in unavailable)

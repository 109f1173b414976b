"""`fedctl backup` beside a federation server that is written to, `kill -9`, `fedctl restore` elsewhere, and everybody is back."""

import asyncio
import contextlib
import datetime as dt
import itertools
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from tests.integration.node.clusters import eventually
from tests.support.postgres import Postgres, postgres

from cluster_agent.cli import ControlFile, FederationFile, main, start_control
from federation.clusters import bootstrap
from machinery.api.core import CONFIGMAPS
from machinery.api.fleet.cluster import CLUSTERS, READY
from machinery.client import kubeconfig
from machinery.client.interface import ListOptions
from machinery.client.rest import RestClient
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import Expired, StatusError
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document, ObjectKey

__all__ = ["postgres"]
pytestmark = [pytest.mark.integration, pytest.mark.slow]
CLOCK, IDS = SystemClock(), SystemIds()
ALPHA = ObjectKey("", "alpha")


async def program(*words: str, code: int = 0) -> str:
    """A command to its end; what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "federation.cli", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said = (await process.communicate())[0].decode()
    assert process.returncode == code, said
    return said


@contextlib.asynccontextmanager
async def server(folder: Path, data: Path, port: int, url: str = "") -> AsyncIterator[RestClient]:
    """A federation server of its own process, killed in the end, and its administrator."""
    config = {"dataDir": str(data), "listen": [f"127.0.0.1:{port}"], "databaseUrl": url}
    file = folder / f"{data.name}.yaml"
    file.write_text(yaml.safe_dump(config))
    start = "import sys; from federation.app import main; sys.exit(main(sys.argv[1:]))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", start, "--config", str(file), "--log-file", str(folder / "log"),
        env=os.environ | {"FEDERATION_DATABASE_URL": url},
    )  # fmt: skip
    try:
        admin = data / "admin.kubeconfig"
        await eventually(admin.exists)
        client = kubeconfig.load(admin).client()
        await eventually(lambda: answers(client))
        try:
            yield client
        finally:
            await client.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def answers(client: RestClient) -> bool:
    try:
        return bool(await client.request("GET", "/readyz"))
    except (ConnectionError, StatusError):
        return False


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def note(number: int) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"note-{number}", "namespace": "default"},
        "data": {"number": str(number)},
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Database URLs before and after."""
    if request.param == "sqlite":
        return "", ""
    database: Postgres = request.getfixturevalue("postgres")
    return database.fresh_url(), database.fresh_url()


async def test_everything_is_back_and_the_member_comes_by_itself(
    tmp_path: Path, places: tuple[str, str]
) -> None:
    port, old, new = free_port(), tmp_path / "old", tmp_path / "new"
    file = str(tmp_path / "federation.backup")
    before, after = ([] if not url else ["--database-url", url] for url in places)
    async with contextlib.AsyncExitStack() as stack:
        async with server(tmp_path, old, port, places[0]) as admin:
            link, control = await join(stack, admin, tmp_path, port)
            await eventually(lambda: ready(admin))
            acknowledged: list[int] = []

            async def write() -> None:
                for number in itertools.count():
                    await admin.create(CONFIGMAPS, note(number))
                    acknowledged.append(number)

            writing = asyncio.get_running_loop().create_task(write())
            await eventually(lambda: len(acknowledged) > 20)
            known = len(acknowledged)
            said = await program("backup", file, "--data-dir", str(old), *before)
            assert "NOT encrypted" in said
            await eventually(lambda: len(acknowledged) > known + 20)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            last = await admin.list(CONFIGMAPS, "default")
            uids = {c.metadata.name: c.metadata.uid for c in last.items}
            ca = (old / "pki" / "ca.crt").read_bytes()
        shutil.rmtree(old)  # the host is lost

        said = await program("restore", file, "--data-dir", str(new), *after)
        assert "Start the federation server with this dataDir" in said
        assert "not empty" in await program("restore", file, "--data-dir", str(new), code=1)
        async with server(tmp_path, new, port, places[1]) as admin:
            assert (new / "pki" / "ca.crt").read_bytes() == ca
            listing = await admin.list(CONFIGMAPS, "default")
            held = {c.metadata.name: c.metadata.uid for c in listing.items}
            assert {f"note-{n}" for n in range(known)} <= held.keys() < uids.keys()
            assert all(uids[name] == uid for name, uid in held.items())
            with pytest.raises(Expired):
                await watch_once(admin, last.resource_version)
            fresh = await admin.create(CONFIGMAPS, note(10**6))
            assert int(fresh.metadata.resource_version) > int(last.resource_version)
            await eventually(lambda: link.connected and ready(admin))
            assert control.server is not None


async def join(stack: contextlib.AsyncExitStack, admin: RestClient, folder: Path, port: int):
    """A member in this process."""
    group = bootstrap.cluster_groups("alpha")
    token = await bootstrap.mint(admin, group, dt.timedelta(hours=1), "t", CLOCK, IDS)
    ca = folder / "federation-ca.crt"
    ca.write_bytes((folder / "old" / "pki" / "ca.crt").read_bytes())
    access = FederationFile(f"https://127.0.0.1:{port}", str(ca), str(token))
    settings = ControlFile(
        "alpha", str(folder / "alpha"), listen=("127.0.0.1:0",), federation=access
    )
    control, link = await start_control(settings)
    assert link is not None
    stack.push_async_callback(control.stop)
    stack.push_async_callback(link.stop)
    return link, control


async def ready(admin: RestClient) -> bool:
    try:
        cluster = await admin.get(CLUSTERS, ALPHA)
    except StatusError:
        return False
    return is_true(cluster.status.conditions, READY)


async def watch_once(client: RestClient, version: str) -> None:
    options = ListOptions(resource_version=version)
    async for _ in client.watch(CONFIGMAPS, "default", options):
        return


async def test_a_members_control_plane_is_kept_with_the_same_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def settings(name: str) -> Path:
        path = tmp_path / f"{name}.yaml"
        content = {"cluster": "alpha", "dataDir": str(tmp_path / name), "listen": ["127.0.0.1:0"]}
        path.write_text(yaml.safe_dump(content))
        return path

    backup = str(tmp_path / "alpha.backup")
    control, _ = await start_control(
        ControlFile("alpha", str(tmp_path / "old"), listen=("127.0.0.1:0",))
    )
    assert control.server is not None
    made = await control.server.client(manager="test").create(CONFIGMAPS, note(1))
    assert await asyncio.to_thread(main, ["backup", backup, "--config", str(settings("old"))]) == 0
    await control.stop()
    words = ["restore", backup, "--config", str(settings("new"))]
    assert await asyncio.to_thread(main, words) == 0
    assert await asyncio.to_thread(main, words) == 1
    assert "is not empty" in capsys.readouterr().err
    wrong = await program(
        "restore", backup, "--data-dir", str(tmp_path / "third"), code=1
    )  # fmt: skip
    assert "this is the backup of a member, not of a federation" in wrong
    control, _ = await start_control(
        ControlFile("alpha", str(tmp_path / "new"), listen=("127.0.0.1:0",))
    )
    assert control.server is not None
    found = await control.server.client(manager="test").get(CONFIGMAPS, made.key)
    assert found.metadata.uid == made.metadata.uid
    await control.stop()

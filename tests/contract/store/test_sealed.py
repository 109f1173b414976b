"""Sealed values in both databases: nothing of a Secret on the disk, rotation by a restart, and what a missing key means."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from tests.support.postgres import Postgres, postgres
from tests.unit.store.test_sealing import PLAIN, SECRET, gcm, key, sealer

from machinery.kit.clock import SystemClock
from machinery.server.resealing import reseal
from machinery.store.interface import StoreUnavailable
from machinery.store.sealing import Sealer
from machinery.store.sql import open_store, transfer

__all__ = ["postgres"]  # the fixture
WORD = b'{"kind":"Secret","data":{"password":"open sesame"}}'
OLD, NEW = key("old"), key("new", "b")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    found: str = request.getfixturevalue("postgres").fresh_url()
    return found


async def lying(url: str) -> bytes:
    """All that is in the database, raw."""
    if url.startswith("sqlite"):
        folder = Path(url.removeprefix("sqlite:///")).parent
        return b"".join(path.read_bytes() for path in folder.iterdir())
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT value FROM store_log")
    await connection.close()
    return b"".join(row["value"] or b"" for row in rows)


async def with_store(url: str, found: Sealer | None, work: Callable[..., object]) -> None:
    store = open_store(url, sealer=found)
    await store.start()
    try:
        await work(store)  # type: ignore[misc]
    finally:
        await store.close()


async def test_the_disk_has_nothing_of_it(url: str) -> None:
    async def write(store: object) -> None:
        await store.create(SECRET, WORD)  # type: ignore[attr-defined]

    await with_store(url, sealer(gcm(OLD)), write)
    found = await lying(url)
    assert b"k8s:enc:aesgcm:v1:old:" in found
    assert b"sesame" not in found


async def test_a_key_is_rotated_by_a_restart_and_the_old_one_may_go(url: str) -> None:
    for providers in (
        [PLAIN],
        [gcm(OLD), PLAIN],
        [gcm(NEW, OLD)],
        [gcm(NEW)],
        [PLAIN, gcm(NEW)],
        [PLAIN],
    ):
        store = open_store(url, sealer=sealer(*providers))
        await store.start()
        row = store.get(SECRET) or await store.create(SECRET, WORD)
        assert row.value == WORD
        stale = list(store.stale)
        assert await reseal(store, SystemClock()) == len(stale)
        assert store.stale == []
        await store.close()


async def test_what_lay_there_before_goes(url: str) -> None:
    store = open_store(url)
    await store.start()
    await store.create(SECRET, WORD)
    await store.close()
    assert b"sesame" in await lying(url)
    store = open_store(url, sealer=sealer(gcm(OLD)))
    await store.start()
    assert await reseal(store, SystemClock()) == 1
    for _ in range(100):
        if b"sesame" not in await lying(url):
            break
        await asyncio.sleep(0.05)
    await store.close()
    assert b"sesame" not in await lying(url)


async def test_without_the_key_a_server_does_not_start_and_says_which(url: str) -> None:
    store = open_store(url, sealer=sealer(gcm(OLD)))
    await store.start()
    await store.create(SECRET, WORD)
    await store.close()
    with pytest.raises(StoreUnavailable, match="aesgcm key 'old'"):
        await open_store(url).start()


async def test_a_backup_keeps_it_sealed_and_opens_where_the_key_is(
    url: str, tmp_path: Path
) -> None:
    store = open_store(url, sealer=sealer(gcm(OLD)))
    await store.start()
    await store.create(SECRET, WORD)
    state = await transfer.read(url)
    await store.close()
    assert [row.value[:22] for row in state.rows] == [b"k8s:enc:aesgcm:v1:old:"]
    place = f"sqlite:///{tmp_path}/restored/store.db"
    await transfer.fill(place, state, "store@head")
    again = open_store(place, sealer=sealer(gcm(OLD)))
    await again.start()
    row = again.get(SECRET)
    await again.close()
    assert row is not None
    assert row.value == WORD


async def test_a_replica_that_lacks_a_key_refuses_writes_and_says_why(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    behind, ahead = open_store(url), open_store(url, sealer=sealer(gcm(NEW)))
    await behind.start()
    await ahead.start()
    try:
        await ahead.create(SECRET, WORD)
        for _ in range(100):
            if behind.away:
                break
            await asyncio.sleep(0.05)
        assert "aesgcm key 'new'" in behind.away
        with pytest.raises(StoreUnavailable):
            await behind.create("/registry/core/configmaps/a/b", b"{}")
    finally:
        await ahead.close()
        await behind.close()

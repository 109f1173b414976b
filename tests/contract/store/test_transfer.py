"""A store's state taken out beside its writer and put into an empty one, of the same or the other database."""

import asyncio
import itertools

import pytest
from tests.contract.store.conftest import PostgresBackend, SqliteBackend
from tests.support.postgres import Postgres

from machinery.store.interface import Compacted, Durability
from machinery.store.sql.transfer import REVISION_STEP, Saved, TransferError, fill, read


@pytest.fixture(params=["sqlite", "postgresql"])
def source(request, tmp_path):
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    server: Postgres = request.getfixturevalue("postgres")
    return PostgresBackend(server)


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request, tmp_path):
    if request.param == "sqlite":
        folder = tmp_path / "target"
        folder.mkdir()
        return SqliteBackend(folder)
    server: Postgres = request.getfixturevalue("postgres")
    return PostgresBackend(server)


async def test_the_present_state_moves_and_numbers_go_on_above(source, target) -> None:
    url = source.url()
    store = source.open(url)
    await store.start()
    first = await store.create("/a", b"one")
    changed = await store.update("/a", b"two", first.revision)
    gone = await store.create("/b", b"gone")
    await store.delete("/b", gone.revision)
    kept = await store.create("/c", b"\x00\xff" * 1000)
    await store.create("/mirror", b"m", Durability.MEMORY)
    state = await read(url)
    after = await store.update("/a", b"after the backup", changed.revision)
    newest = store.current_revision()
    await store.close()

    place = target.url()
    await fill(place, state, "store@head")
    fresh = target.open(place)
    await fresh.start()
    rows = {row.key: row for row in fresh.list("/").rows}
    assert set(rows) == {"/a", "/c"}
    assert (rows["/a"].value, rows["/a"].revision) == (b"two", changed.revision)
    assert rows["/a"].create_revision == first.revision
    assert rows["/c"].value == kept.value
    assert fresh.current_revision() >= state.revision + REVISION_STEP > newest
    for old in (first.revision, after.revision, newest):
        with pytest.raises(Compacted):
            fresh.watch("/", old)
    again = await fresh.update("/a", b"three", changed.revision)
    made = await fresh.create("/b", b"again")
    assert newest < again.revision < made.revision
    await fresh.close()

    reopened = target.open(place)
    await reopened.start()
    assert {row.key: row.value for row in reopened.list("/").rows} == {
        "/a": b"three", "/b": b"again", "/c": kept.value,
    }  # fmt: skip
    await reopened.close()


async def test_what_is_read_beside_a_writer_is_one_moment(source) -> None:
    """Pairs are written one after the other: the second never without the first."""
    url = source.url()
    store = source.open(url)
    await store.start()
    written, wanted = 0, asyncio.Event()

    async def write() -> None:
        nonlocal written
        for number in itertools.count():
            await store.create(f"/first/{number}", b"x")
            await store.create(f"/second/{number}", b"x")
            written += 1
            wanted.set()

    async def more() -> None:
        start = written
        while written < start + 3:
            wanted.clear()
            await wanted.wait()

    writing, states = asyncio.get_running_loop().create_task(write()), []
    for _ in range(5):
        await more()
        states.append(await read(url))
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert len({state.revision for state in states}) == 5
    for state in states:
        keys = {row.key for row in state.rows}
        firsts = sum(key.startswith("/first/") for key in keys)
        seconds = len(keys) - firsts
        assert seconds <= firsts <= seconds + 1
        assert {f"/first/{number}" for number in range(firsts)} <= keys
        assert max((row.revision for row in state.rows), default=1) <= state.revision
    await store.close()


async def test_a_store_that_was_used_is_not_filled(target) -> None:
    place = target.url()
    store = target.open(place)
    await store.start()
    row = await store.create("/a", b"x")
    await store.delete("/a", row.revision)
    await store.close()
    with pytest.raises(TransferError, match="empty"):
        await fill(place, Saved([], 1, []), "store@head")


async def test_a_newer_schema_is_not_filled(target) -> None:
    with pytest.raises(TransferError, match="newer database schema"):
        await fill(target.url(), Saved([], 1, ["store_0999"]), "store@head")


async def test_a_store_that_is_not_there_is_said_so(tmp_path) -> None:
    with pytest.raises(TransferError, match="there is no store at"):
        await read(f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(TransferError, match="cannot be reached"):
        await read("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(TransferError, match="cannot be reached"):
        await read("postgresql://nobody@127.0.0.1:1,127.0.0.1:2/none")
    with pytest.raises(TransferError, match="cannot be read; use"):
        await read("postgresql://nobody@127.0.0.1:port/none")
    with pytest.raises(TransferError, match="neither SQLite nor PostgreSQL"):
        await read("mysql://x/y")

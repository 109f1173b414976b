"""SQLite when the disk says no: a failed commit, a second process, a damaged file."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from machinery.kit.clock import FakeClock
from machinery.store.interface import (
    Compacted,
    Durability,
    KeyExists,
    Row,
    StoreUnavailable,
)
from machinery.store.sql.sqlite import RESERVE_REVISIONS, SqliteStore


class Faults:
    """What the next commits do; shared with the connection class below."""

    before = 0
    """So many commits fail without happening."""
    after = 0
    """So many commits happen and then report an error."""


class FaultyConnection(sqlite3.Connection):
    """A disk that fails at COMMIT."""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and Faults.before:
            Faults.before -= 1
            raise sqlite3.OperationalError("disk I/O error")
        cursor = super().execute(sql, *arguments)
        if sql == "COMMIT" and Faults.after:
            Faults.after -= 1
            raise sqlite3.OperationalError("disk I/O error after all")
        return cursor


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    Faults.before = Faults.after = 0
    store = SqliteStore(str(tmp_path / "a.db"), connection_class=FaultyConnection)
    await store.start()
    yield store
    await store.close()


async def reopened(tmp_path: Path, **options: Any) -> SqliteStore:
    store = SqliteStore(str(tmp_path / "a.db"), **options)
    await store.start()
    return store


async def test_failed_commit_drops_head_back(store: SqliteStore, tmp_path: Path) -> None:
    old = await store.create("/a/old", b"1")
    watch = store.watch("/a/", store.current_revision())
    Faults.before = 1
    results = await asyncio.gather(
        store.create("/a/new", b"1"),
        store.update("/a/old", b"2", old.revision),
        store.delete("/a/old", old.revision),
        store.create("/a/new", b"2"),
        return_exceptions=True,
    )
    # The first two were in the failed batch; the other two waited for them and were judged by what is committed.
    assert [type(result) for result in results[:2]] == [StoreUnavailable] * 2
    assert [type(result) for result in results[2:]] == [Row, Row]
    events = [(event.row.key, event.row.value) for event in await anext(aiter(watch))]
    assert events == [("/a/new", b"2"), ("/a/old", b"1")]
    created = await store.create("/a/old", b"3")
    await store.close()
    again = await reopened(tmp_path)
    assert {row.key: row.value for row in again.list("/a/").rows} == {
        "/a/old": b"3",
        "/a/new": b"2",
    }
    assert again.get("/a/old") == created
    await again.close()


async def test_nothing_is_published_of_a_failed_commit(store: SqliteStore) -> None:
    watch = store.watch("/a/", store.current_revision())
    for _ in range(3):
        Faults.before = 1
        with pytest.raises(StoreUnavailable, match="disk I/O error"):
            await store.create("/a/x", b"1")
        assert store.get("/a/x") is None
        assert not store.list("/a/").rows
    row = await store.create("/a/x", b"2")
    assert [event.row for event in await anext(aiter(watch))] == [row]


async def test_commit_that_happened_despite_its_error_is_a_success(store: SqliteStore) -> None:
    Faults.after = 1
    row = await store.create("/a/x", b"1")
    assert store.get("/a/x") == row
    with pytest.raises(KeyExists):
        await store.create("/a/x", b"2")
    assert (await store.update("/a/x", b"2", row.revision)).value == b"2"


async def test_relaxed_writes_go_on_when_the_disk_fails(store: SqliteStore) -> None:
    first = await store.create("/a/lease", b"1", Durability.RELAXED)
    Faults.before = 1
    durable, relaxed = await asyncio.gather(
        store.create("/a/x", b"1"),
        store.update("/a/lease", b"2", first.revision, Durability.RELAXED),
        return_exceptions=True,
    )
    assert isinstance(durable, StoreUnavailable)
    assert isinstance(relaxed, Row)
    assert store.get("/a/lease") == relaxed


async def test_full_disk(tmp_path: Path) -> None:
    class SmallConnection(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.execute("PRAGMA max_page_count = 60").close()

    store = await reopened(tmp_path, connection_class=SmallConnection)
    kept = []
    with pytest.raises(StoreUnavailable, match="full"):
        for i in range(1000):
            kept.append(await store.create(f"/a/{i:04}", os.urandom(3000)))
    assert list(store.list("/a/").rows) == kept
    gone = await store.delete(kept[0].key, kept[0].revision) if len(kept) > 1 else None
    await store.close()
    again = await reopened(tmp_path)
    assert list(again.list("/a/").rows) == (kept[1:] if gone else kept)
    await again.close()


async def test_relaxed_and_memory_rows_over_a_clean_restart(
    store: SqliteStore, tmp_path: Path
) -> None:
    lease = await store.create("/a/lease", b"1", Durability.RELAXED)
    durable = await store.create("/a/pod", b"1")
    lease = await store.update("/a/lease", b"2", lease.revision, Durability.RELAXED)
    gone = await store.create("/a/gone", b"1", Durability.RELAXED)
    await store.delete("/a/gone", gone.revision, None, Durability.RELAXED)
    pod = await store.update("/a/pod", b"2", durable.revision, Durability.RELAXED)
    mirror = await store.create("/a/mirror", b"1", Durability.MEMORY)
    top = store.current_revision()
    await store.close()
    again = await reopened(tmp_path)
    assert list(again.list("/a/").rows) == [lease, pod]
    assert again.current_revision() >= top >= mirror.revision
    with pytest.raises(Compacted):
        again.watch("/a/", durable.revision)
    assert (await again.create("/a/more", b"1")).revision > top
    await again.close()


async def test_relaxed_delete_of_a_stored_row_is_flushed(
    store: SqliteStore, tmp_path: Path
) -> None:
    row = await store.create("/a/x", b"1")
    await store.delete("/a/x", row.revision, None, Durability.RELAXED)
    other = await store.create("/a/y", b"1")
    await store.delete("/a/y", other.revision, None, Durability.RELAXED)
    back = await store.create("/a/y", b"2", Durability.RELAXED)
    back = await store.update("/a/y", b"3", back.revision)
    await store.close()
    again = await reopened(tmp_path)
    assert list(again.list("/a/").rows) == [back]
    await again.close()


async def test_relaxed_rows_are_flushed_when_due(tmp_path: Path) -> None:
    clock = FakeClock()
    store = await reopened(tmp_path, clock=clock, relaxed_flush_s=100.0)
    await store.create("/a/lease", b"1", Durability.RELAXED)
    database = sqlite3.connect(tmp_path / "a.db")
    count = "SELECT count(*) FROM store_log WHERE key = '/a/lease'"
    assert database.execute(count).fetchone() == (0,)
    clock.advance(101)
    await store.create("/a/x", b"1")
    await store.create("/a/y", b"1")  # the flush stands between the two commits
    assert database.execute(count).fetchone() == (1,)
    database.close()
    await store.close()


async def test_trimming_keeps_the_file_bounded(tmp_path: Path) -> None:
    store = await reopened(tmp_path, retain_revisions=50)
    row = await store.create("/a/x", b"1")
    for i in range(1000):
        row = await store.update("/a/x", b"%d" % i, row.revision)
        assert store.trim_backlog <= 50 + 100
    gone = await store.create("/a/gone", b"1")
    await store.delete("/a/gone", gone.revision)
    await store.compact(store.current_revision())
    for _ in range(1000):
        if not store.trim_backlog:
            break
        await asyncio.sleep(0.01)
    database = sqlite3.connect(tmp_path / "a.db")
    assert database.execute("SELECT count(*) FROM store_log").fetchone() == (1,)
    database.close()
    await store.create("/a/gone", b"2")
    await store.close()
    again = await reopened(tmp_path)
    assert [row.value for row in again.list("/a/").rows] == [b"2", b"999"]
    await again.close()


@pytest.mark.parametrize("trimmed_transactions", range(4))
async def test_deleted_objects_do_not_reappear_after_any_trim(
    tmp_path: Path, trimmed_transactions: int
) -> None:
    store = await reopened(tmp_path, retain_revisions=10**6)
    for i in range(400):
        row = await store.create(f"/a/{i}", b"1")
        row = await store.update(f"/a/{i}", b"2", row.revision)
        await store.delete(f"/a/{i}", row.revision)
    store._trim_to = store.current_revision()
    for _ in range(trimmed_transactions):
        assert await store._trim()
    assert store.trim_backlog == max(0, 1200 - 500 * trimmed_transactions)
    await store.close()
    again = await reopened(tmp_path)
    assert not again.list("/a/").rows
    row = await again.create("/a/7", b"3")
    await again.close()
    third = await reopened(tmp_path)
    assert list(third.list("/a/").rows) == [row]
    await third.close()


async def test_second_process_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=f"in use by process {os.getpid()}.*PostgreSQL"):
        await reopened(tmp_path)
    await store.close()
    await (await reopened(tmp_path)).close()


@pytest.mark.parametrize(
    ("keep", "at_least"), [(0.0, 0), (0.3, 0), (0.6, 1), (0.9, 20), (0.999, 45)]
)
async def test_truncated_wal_keeps_a_prefix_of_the_commits(
    tmp_path: Path, keep: float, at_least: int
) -> None:
    store = await reopened(tmp_path)
    rows = [await store.create(f"/a/{i:03}", b"v" * 200) for i in range(50)]
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        (copy / f"a.db{suffix}").write_bytes((tmp_path / f"a.db{suffix}").read_bytes())
    await store.close()
    wal = copy / "a.db-wal"
    os.truncate(wal, int(wal.stat().st_size * keep))
    again = await reopened(copy)
    survivors = list(again.list("/a/").rows)
    assert survivors == rows[: len(survivors)]
    assert at_least <= len(survivors) < 50
    await again.create("/a/more", b"1")
    await again.close()


@pytest.mark.parametrize("keep", [0.5, 0.9])
async def test_truncated_file_is_refused_with_a_clear_error(tmp_path: Path, keep: float) -> None:
    store = await reopened(tmp_path)
    for i in range(50):
        await store.create(f"/a/{i:03}", os.urandom(2000))
    await store.close()
    path = tmp_path / "a.db"
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(StoreUnavailable, match="restore it from a backup"):
        await reopened(tmp_path)
    with pytest.raises(StoreUnavailable, match="restore it from a backup"):  # the lock was released
        await reopened(tmp_path)


async def test_damaged_value_is_refused(tmp_path: Path) -> None:
    store = await reopened(tmp_path)
    await store.create("/a/x", b"v" * 100)
    await store.close()
    database = sqlite3.connect(tmp_path / "a.db")
    (value,) = database.execute("SELECT value FROM store_log").fetchone()
    database.execute("UPDATE store_log SET value = ?", (value[:-1] + bytes([value[-1] ^ 1]),))
    database.commit()
    database.close()
    with pytest.raises(StoreUnavailable, match="damaged"):
        await reopened(tmp_path)


async def test_schema_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    await (await reopened(tmp_path)).close()
    database = sqlite3.connect(tmp_path / "a.db")
    database.execute("UPDATE alembic_version SET version_num = 'store_9999'")
    database.commit()
    database.close()
    with pytest.raises(StoreUnavailable, match="store_9999"):
        await reopened(tmp_path)


CHILD = """
import asyncio, sys
from machinery.store.interface import Durability
from machinery.store.sql import open_store

async def main():
    store = open_store(sys.argv[1])
    await store.start()
    async def writer(n):
        for i in range(100000):
            row = await store.create(f"/a/{n}-{i}", b"value %d" % i)
            print(row.key, row.revision, flush=True)
            lease = await store.create(f"/lease/{n}-{i}", b"1", Durability.RELAXED)
            mirror = await store.create(f"/mirror/{n}-{i}", b"1", Durability.MEMORY)
            print("-", max(lease.revision, mirror.revision), flush=True)
    async with asyncio.TaskGroup() as group:
        for n in range(8):
            group.create_task(writer(n))

asyncio.run(main())
"""


def killed_writer(url: str, lines_wanted: int) -> list[tuple[str, int]]:
    """Run a writer, kill -9 it in the middle; what it was told is written."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(lines_wanted)]
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    told = [*lines, *rest.splitlines(keepends=True)]
    return [(line.split()[0], int(line.split()[1])) for line in told if line.endswith("\n")]


async def test_kill_9_loses_no_answered_write_and_no_number(tmp_path: Path) -> None:
    highest = 0
    told: dict[str, int] = {}
    for _ in range(3):
        got = killed_writer(f"sqlite:///{tmp_path}/a.db", 500)
        fresh = {key: revision for key, revision in got if key != "-"}
        assert min(revision for _, revision in got) > highest
        highest = max(revision for _, revision in got)
        told |= fresh
        store = await reopened(tmp_path)
        assert store.current_revision() >= highest
        for key, revision in told.items():
            row = store.get(key)
            assert row is not None
            assert row.revision == revision
        assert not store.list("/mirror/").rows
        with pytest.raises(Compacted):
            store.watch("/a/", highest - 1)
        rows = list(store.list("/a/").rows)
        for row in rows:
            await store.delete(row.key, row.revision)
        told.clear()
        highest = store.current_revision()
        await store.close()
    assert highest >= 3 * RESERVE_REVISIONS

"""Every store against a dictionary, in any order of operations, with restarts in between."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.contract.store.conftest import Backend

from machinery.store.interface import (
    Change,
    Compacted,
    Durability,
    Event,
    KeyExists,
    KeyNotFound,
    RevisionMismatch,
    Row,
    Watch,
)

T = TypeVar("T")
KEYS = st.sampled_from(
    [f"/r/{kind}/{name}" for kind in ("a", "b/c", "b/d") for name in ("x", "y", "z")]
)
PREFIXES = st.sampled_from(["/", "/r/", "/r/a/", "/r/b/", "/r/b/c/"])
VALUES = st.binary(max_size=40)
CLASSES = st.sampled_from(list(Durability))


class StoreMachine(RuleBasedStateMachine):
    """The model is a dict of rows and the list of all events."""

    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.url = self.backend.url()
        self.store = self.backend.open(self.url)
        self.do(self.store.start())
        self.rows: dict[str, Row] = {}
        self.memory: set[str] = set()
        self.events: list[Event] = []
        self.watches: list[tuple[Watch, str, int]] = []
        self.floor = self.store.oldest_revision()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.do(self.store.close())
        self.runner.close()

    def happened(self, change: Change, row: Row, durability: Durability) -> None:
        last = self.events[-1].row.revision if self.events else 0
        assert row.revision > last
        self.events.append(Event(change, row, self.rows.get(row.key)))
        if change is Change.DELETE:
            del self.rows[row.key]
            self.memory.discard(row.key)
        else:
            self.rows[row.key] = row
            if change is Change.CREATE and durability is Durability.MEMORY:
                self.memory.add(row.key)

    @rule(key=KEYS, value=VALUES, durability=CLASSES)
    def create(self, key: str, value: bytes, durability: Durability) -> None:
        if key in self.rows:
            with pytest.raises(KeyExists):
                self.do(self.store.create(key, value, durability))
            return
        row = self.do(self.store.create(key, value, durability))
        assert row == Row(key, value, row.revision, row.revision)
        self.happened(Change.CREATE, row, durability)

    @rule(key=KEYS, value=VALUES, durability=CLASSES, stale=st.integers(0, 2))
    def update(self, key: str, value: bytes, durability: Durability, stale: int) -> None:
        old = self.rows.get(key)
        expected = (old.revision if old else 5) - stale
        if old is None or stale:
            with pytest.raises(KeyNotFound if old is None else RevisionMismatch):
                self.do(self.store.update(key, value, expected, durability))
            return
        row = self.do(self.store.update(key, value, expected, durability))
        assert row == Row(key, value, row.revision, old.create_revision)
        self.happened(Change.UPDATE, row, durability)

    @rule(key=KEYS, value=st.none() | VALUES, durability=CLASSES, stale=st.integers(0, 2))
    def delete(self, key: str, value: bytes | None, durability: Durability, stale: int) -> None:
        old = self.rows.get(key)
        expected = (old.revision if old else 5) - stale
        if old is None or stale:
            with pytest.raises(KeyNotFound if old is None else RevisionMismatch):
                self.do(self.store.delete(key, expected, value, durability))
            return
        row = self.do(self.store.delete(key, expected, value, durability))
        last = old.value if value is None else value
        assert row == Row(key, last, row.revision, old.create_revision)
        self.happened(Change.DELETE, row, durability)

    @rule(prefix=PREFIXES, back=st.integers(0, 20))
    def watch(self, prefix: str, back: int) -> None:
        after = max(self.store.current_revision() - back, 0)
        if after < self.floor:
            with pytest.raises(Compacted):
                self.store.watch(prefix, after)
        else:
            self.watches.append((self.store.watch(prefix, after), prefix, after))

    @rule()
    def read_watches(self) -> None:
        for watch, prefix, after in self.watches:
            expected = [
                event
                for event in self.events
                if event.row.key.startswith(prefix) and event.row.revision > after
            ]
            assert self.do(read(watch, len(expected))) == expected
            watch.close()
        self.watches.clear()

    @rule(back=st.integers(0, 10))
    def compact(self, back: int) -> None:
        revision = max(self.store.current_revision() - back, 0)
        self.floor = max(self.floor, revision)
        assert self.do(self.store.compact(revision)) == self.floor

    @rule()
    def restart(self) -> None:
        if not self.backend.persistent:
            return
        self.read_watches()
        self.do(self.store.close())
        self.store = self.backend.open(self.url)
        self.do(self.store.start())
        for key in self.memory:
            del self.rows[key]
        self.memory.clear()
        assert self.store.current_revision() >= (self.events[-1].row.revision if self.events else 0)
        self.floor = self.store.oldest_revision()
        if self.events:
            assert self.floor == self.store.current_revision()

    @invariant()
    def state_agrees(self) -> None:
        for prefix in ("/", "/r/b/"):
            expected = [self.rows[key] for key in sorted(self.rows) if key.startswith(prefix)]
            assert list(self.store.list(prefix).rows) == expected
        assert self.store.oldest_revision() == self.floor
        for key, row in self.rows.items():
            assert self.store.get(key) == row


async def read(watch: Watch, count: int) -> list[Event]:
    events: list[Event] = []
    batches = aiter(watch)
    while len(events) < count:
        events += await asyncio.wait_for(anext(batches), 10)
    return events


@pytest.mark.timeout(180)
def test_any_order_of_operations(backend: Backend) -> None:
    machine = type("Machine", (StoreMachine,), {"backend": backend})
    examples = 20 if backend.persistent else 100
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

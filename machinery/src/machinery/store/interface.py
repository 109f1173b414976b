"""The door to the store: a revisioned log of keys and bytes, as kine and etcd have it.

One decimal revision counts the whole store. Every change appends a row (revision, key, change, value, previous
revision of the key); compare-and-swap is by schema, UNIQUE(key, previous revision). A write is answered only when
it is durable. A watcher sees every change after its revision once, in order, or is told that it cannot.

    StoreError
    ├── KeyExists        create of a key that is there
    ├── KeyNotFound      update or delete of a key that is not
    ├── RevisionMismatch the key has moved on; carries the current row
    ├── Compacted        the asked revision is older than what is kept
    ├── FutureRevision   the asked revision has not been issued yet
    └── StoreUnavailable the database did not take the write; nothing was changed
"""

import asyncio
import enum
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec


class StoreError(Exception):
    """Anything the store refuses."""


class KeyExists(StoreError):
    """Create of a key that is there."""


class KeyNotFound(StoreError):
    """The key is not there."""


class RevisionMismatch(StoreError):
    """The key's revision is not the expected one."""

    def __init__(self, key: str, current: "Row | None") -> None:
        super().__init__(f"{key} has moved on")
        self.key = key
        self.current = current


class Compacted(StoreError):
    """The revision is older than what is kept; start again from a list."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"revision {revision} is compacted; the oldest kept is {oldest}")
        self.revision = revision
        self.oldest = oldest


class FutureRevision(StoreError):
    """The revision is ahead of the store."""

    def __init__(self, revision: int, current: int) -> None:
        super().__init__(f"revision {revision} is ahead of {current}")
        self.revision = revision
        self.current = current


class StoreUnavailable(StoreError):
    """The write was not taken; nothing changed."""


class Durability(enum.Enum):
    """How safe a write is when it is answered."""

    DURABLE = "durable"
    """On disk before the answer."""
    RELAXED = "relaxed"
    """In memory, on disk later (heartbeat Leases and Events; SQLite only, elsewhere the same as DURABLE)."""
    MEMORY = "memory"
    """In this process's memory alone (mirrors of what another process owns): never on disk, gone after a restart.

    The revision comes from the same counter and get, list and watch see the row like any other. The class belongs to
    the key: one created MEMORY stays so until it is deleted, and one that is stored stays stored, whatever a later
    write asks.
    """


class Change(enum.IntEnum):
    """What a log row did to its key."""

    CREATE = 1
    UPDATE = 2
    DELETE = 3


class Row(msgspec.Struct, frozen=True, gc=False):
    """A key's value at a revision; `create_revision` is the one it was created with.

    A struct of msgspec's, as hundreds of thousands are held: cheap to make, and nothing that the collector must look at.
    """

    key: str
    value: bytes
    revision: int
    create_revision: int


class Event(msgspec.Struct, frozen=True, gc=False):
    """One change. For a delete `row.revision` is the revision of the deletion and `row.value` the last value."""

    change: Change
    row: Row
    previous: Row | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows in key order as of one revision."""

    rows: Sequence[Row]
    revision: int


class Store(Protocol):
    """A dozen methods on bytes. Keys are `/`-separated text; a prefix ends in `/`."""

    async def start(self) -> None:
        """Open, migrate where owned, replay. After it the methods below work."""
        ...

    async def close(self) -> None:
        """Flush relaxed writes and end; watchers end too."""
        ...

    def current_revision(self) -> int:
        """The newest revision that readers may see."""
        ...

    def oldest_revision(self) -> int:
        """The oldest revision from which a watch can still start."""
        ...

    async def barrier(self) -> int:
        """Wait until every write committed anywhere before this call is visible here; the revision then.

        Raises StoreUnavailable while the database is away.
        """
        ...

    @property
    def away(self) -> str:
        """Why nobody can be asked for newer rows now, in a sentence's beginning; empty in ordinary times."""
        ...

    @property
    def reads_are_current(self) -> bool:
        """Whether `get` shows every committed write without a `barrier`, because nobody else writes."""
        ...

    @property
    def stale(self) -> Sequence[str]:
        """Keys of rows that lie in the database otherwise than they would be written now: plain, or sealed with another key."""
        ...

    def get(self, key: str) -> Row | None:
        """The committed row."""
        ...

    def list(self, prefix: str) -> Snapshot:
        """All committed rows below `prefix`, in key order, of one revision."""
        ...

    async def create(
        self, key: str, value: bytes, durability: Durability = Durability.DURABLE
    ) -> Row:
        """Raises KeyExists, StoreUnavailable."""
        ...

    def begin_create(
        self, key: str, value: bytes, durability: Durability = Durability.DURABLE
    ) -> asyncio.Future[Row] | None:
        """`create` without a task: its outcome, where nothing has to be waited for before the write is on its way.

        None, and nothing is done, where another write of the key is in flight or `create` would refuse at once.
        """
        ...

    async def update(
        self,
        key: str,
        value: bytes,
        expected_revision: int,
        durability: Durability = Durability.DURABLE,
    ) -> Row:
        """Compare-and-swap. Raises RevisionMismatch, KeyNotFound, StoreUnavailable."""
        ...

    def begin_update(
        self,
        key: str,
        value: bytes,
        expected_revision: int,
        durability: Durability = Durability.DURABLE,
    ) -> asyncio.Future[Row] | None:
        """`update` without a task, as `begin_create` is to `create`."""
        ...

    def in_flight(self, key: str) -> bool:
        """Whether a write of the key is on its way, so that another would have to wait."""
        ...

    async def delete(
        self,
        key: str,
        expected_revision: int,
        value: bytes | None = None,
        durability: Durability = Durability.DURABLE,
    ) -> Row:
        """Compare-and-swap delete; `value` replaces the last value in the event (final state of the object).

        The returned row carries the deletion's revision. Raises RevisionMismatch, KeyNotFound, StoreUnavailable.
        """
        ...

    def watch(self, prefix: str, after_revision: int) -> "Watch":
        """Every event below `prefix` with a revision above `after_revision`. Raises Compacted, FutureRevision."""
        ...

    async def compact(self, revision: int) -> int:
        """Forget superseded rows up to `revision`; the oldest revision kept afterwards. Runs by itself too."""
        ...


class Watch(Protocol):
    """A contiguous stream of events. Ends with Compacted if the reader fell behind what is kept."""

    def __aiter__(self) -> AsyncIterator[Sequence[Event]]:
        """Batches, in revision order; a batch is what one commit round made visible."""
        ...

    def close(self) -> None:
        """End the stream; the iterator stops."""
        ...

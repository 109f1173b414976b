"""The store in the memory of one process: the twin of the real ones for tests and the simulator.

A write is committed the moment it is asked for. Every durability is the same here: nothing outlives the process.
"""

from machinery.store.history import History
from machinery.store.log import LogStore, Write


class MemoryStore(LogStore):
    """A Store without a disk."""

    def __init__(self, history: History | None = None) -> None:
        super().__init__(history)
        self._refusal = ""

    async def start(self) -> None:
        self._refusal = ""

    async def close(self) -> None:
        self._refusal = "the store is closed"
        self._view.history.end()

    def _submit(self, write: Write) -> None:
        revision = self._view.revision + 1
        self._publish([(write, revision)], revision)

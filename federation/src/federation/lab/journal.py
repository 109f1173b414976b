"""What the lab makes outside its own directory, written down before it is made.

`down` undoes the lines in reverse. Names are derived from the lab's directory, so most of it could be found again without a
journal; directories that others use too could not: only the journal knows whether they were there before.

Limit: a line is flushed, not synced: it survives every kill -9, not the machine's power loss (after which nothing but
directories is left anyway).
"""

import json
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["directory", "cgroup", "link", "mount"]

FILE = "journal.jsonl"


class Entry(msgspec.Struct, frozen=True):
    """One thing: a directory (removed if empty), a cgroup name, a link, a mount point."""

    kind: Kind
    name: str


class Journal:
    """The journal of the lab in `directory`."""

    def __init__(self, directory: str) -> None:
        self._path = Path(directory, FILE)

    def record(self, kind: Kind, name: str) -> None:
        """Write one line, before the thing is made."""
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": kind, "name": name}) + "\n")

    def entries(self) -> list[Entry]:
        """All lines, oldest first. A last line cut off by a kill was not yet acted on."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_bytes().splitlines():
            try:
                found.append(msgspec.json.decode(line, type=Entry))
            except msgspec.DecodeError:
                break
        return found

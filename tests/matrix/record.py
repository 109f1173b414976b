"""What a run of the matrix found: one cell a check, with its level and, when it is not green, the reason.

A cell is `pass` only when the effect was seen by another client than the one that asked (`truth.py`): a status of 200 says
nothing. Threads write to one recorder. The file beside the document holds cells in an order that does not depend on the run.
"""

import json
import re
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PASS, FAIL, ABSENT = "pass", "fail", "absent"
"""Seen to work; did not; the client itself has no such request, or the server refuses it for a stated reason."""


VERBS = (
    "create", "get", "list", "watch", "update", "patch json", "patch merge", "patch strategic", "apply", "status", "scale",
    "delete", "deletecollection",
)  # fmt: skip
"""Columns of the table of resources."""


@dataclass(frozen=True, order=True)
class Cell:
    """One check: what (`table`, `item`, `verb`), where and by whom, and how it ended.

    level: M (must), S (should), L (later) of the checklist. told: why it is not green; empty when it is.
    """

    table: str
    server: str
    item: str
    verb: str
    client: str
    level: str
    outcome: str
    told: str = ""


def key(cell: Cell) -> tuple[str, ...]:
    """Which check it is of."""
    return (cell.table, cell.server, cell.item, cell.verb, cell.client)


class Absent(Exception):
    """Raised by a check: this client has no such request, or the server refuses it for this reason."""


class Wrong(Exception):
    """Raised by a check: the effect is not what it must be."""


def require(condition: object, told: Callable[[], object] | str) -> None:
    """Raises Wrong with what was found instead."""
    if not condition:
        raise Wrong(told if isinstance(told, str) else str(told()))


@dataclass
class Recorder:
    """Runs checks and keeps their cells. `versions`: of every client and server that took part."""

    versions: dict[str, str] = field(default_factory=dict)
    only: str = ""
    """While writing a check: run only those whose `item verb client` contains it."""
    say: Callable[[str], None] = print
    _cells: dict[tuple[str, ...], Cell] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, cell: Cell, body: Callable[[], Any]) -> bool:
        """Run it; whether it passed. `cell.outcome` is overwritten."""
        if self.only and self.only not in f"{cell.server} {cell.item} {cell.verb} {cell.client}":
            return True
        try:
            body()
            outcome, told = PASS, ""
        except Absent as error:
            outcome, told = ABSENT, str(error)
        except Exception as error:
            outcome, told = FAIL, _first_line(error)
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.say(
                f"RED {cell.server}: {cell.item} {cell.verb} [{cell.client}]"
                f" {told[:400]} ({Path(where.filename).name}:{where.lineno})"
            )
        self.add(
            Cell(
                cell.table,
                cell.server,
                cell.item,
                cell.verb,
                cell.client,
                cell.level,
                outcome,
                told,
            )
        )
        return outcome == PASS

    def add(self, cell: Cell) -> None:
        with self._lock:
            before = self._cells.get(key(cell))
            if before is None or before.outcome == PASS:  # a red of any of several runs stays red
                self._cells[key(cell)] = cell

    def cells(self) -> list[Cell]:
        with self._lock:
            return sorted(self._cells.values())


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"/tmp/matrix-\w+/", "", text)  # the folder of one run
    text = text.partition(" Original traceback:")[0]
    text = re.sub(
        r"HTTP response headers: HTTPHeaderDict\(.*?\}\) ", "", text
    )  # ids of one request
    if not isinstance(error, Wrong | AssertionError):
        text = f"{type(error).__name__}: {text}"
    return text[:500]


# ---------------------------------------------------------------------------------------------------------- the file
def dump(versions: dict[str, str], cells: Iterable[Cell]) -> str:
    """JSON, one line an item, so that a change of one cell is a change of one line."""
    tree: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in sorted(cells):
        row = tree.setdefault(cell.table, {}).setdefault(f"{cell.server}: {cell.item}", {})
        told = "" if cell.outcome == PASS else f": {cell.told}"
        row.setdefault(cell.verb, {"level": cell.level})[cell.client] = cell.outcome + told
    lines = [f'{{"versions": {json.dumps(versions, sort_keys=True)}']
    for table, rows in tree.items():
        body = ",\n".join(
            f"  {json.dumps(item)}: {json.dumps(verbs, ensure_ascii=False)}"
            for item, verbs in rows.items()
        )
        lines.append(f",{json.dumps(table)}: {{\n{body}\n}}")
    return "\n".join(lines) + "\n}\n"


def load(text: str) -> tuple[dict[str, str], list[Cell]]:
    """The reverse of `dump`."""
    tree = json.loads(text)
    versions = tree.pop("versions")
    cells = []
    for table, rows in tree.items():
        for key, verbs in rows.items():
            server, _, item = key.partition(": ")
            for verb, told in verbs.items():
                level = told.pop("level")
                for client, outcome in told.items():
                    word, _, why = outcome.partition(": ")
                    cells.append(Cell(table, server, item, verb, client, level, word, why))
    return versions, cells


def reds(cells: Iterable[Cell]) -> list[Cell]:
    """What makes the matrix fail: what must or should work and does not. A stated exception is ABSENT, not red."""
    return [c for c in cells if c.outcome == FAIL and c.level in ("M", "S")]

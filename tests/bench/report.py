"""The common shape of all figures: what was measured, what is wanted, and the baseline it must be seen beside.

A bench script prints its table and, with `--json FILE`, leaves its figures there; `test_bench.py` runs them all and
puts the tables together. No figure fails a run: the machine is shared, and the one who reads judges.
"""

import datetime as dt
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HEAD = ("what", "measured", "unit", "wanted", "")


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str
    most: float | None = None
    """Wanted: not more than this."""
    least: float | None = None
    """Wanted: not less than this."""
    note: str = ""

    @property
    def wanted(self) -> str:
        if self.most is not None:
            return f"<= {_number(self.most)}"
        return f">= {_number(self.least)}" if self.least is not None else ""

    @property
    def verdict(self) -> str:
        """`ok`, `MISSED`, or nothing where nothing was promised."""
        if self.most is None and self.least is None:
            return self.note
        good = (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )
        return " ".join(filter(None, ["ok" if good else "MISSED", self.note]))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies; 0.99 of few is the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}".rstrip("0").rstrip(".")


def table(figures: Iterable[Figure]) -> str:
    """The figures in columns."""
    rows = [HEAD] + [(f.name, _number(f.value), f.unit, f.wanted, f.verdict) for f in figures]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    return "\n".join(
        f"{name:{widths[0]}}  {value:>{widths[1]}} {unit:{widths[2]}}  {wanted:{widths[3]}}  {rest}".rstrip()
        for name, value, unit, wanted, rest in rows
    )


def hand_over(figures: Sequence[Figure], file: str) -> None:
    """Print the table; leave the figures in `file` when one is named."""
    print(table(figures), flush=True)
    if file:
        Path(file).write_text(json.dumps([asdict(figure) for figure in figures]))


def read(file: Path) -> list[Figure]:
    """What `hand_over` left."""
    return [Figure(**entry) for entry in json.loads(file.read_text())]


def save(figures: Sequence[Figure], folder: Path) -> Path:
    """Write `<date>.json`: the figures and the machine they are from."""
    folder.mkdir(exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    file = folder / f"{now:%Y-%m-%dT%H%M%SZ}.json"
    document = {
        "at": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "figures": [asdict(figure) for figure in figures],
    }
    file.write_text(json.dumps(document, indent=1) + "\n")
    return file

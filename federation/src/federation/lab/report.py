"""What recorded requests say: a summary, and text bars by second and answering zone. `picture` draws the same.

The file holds one JSON object a line: requests, and marks of the faults that were made meanwhile.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from federation.lab.faults import Mark
from federation.lab.requests import Request

ERRORS = "errors"
UNKNOWN = "unknown"
BAR_COLUMNS = 60


@dataclass(frozen=True, slots=True)
class Recording:
    """The contents of a file, in order of time."""

    requests: tuple[Request, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one recording. Times are seconds from its first request."""

    total: int
    errors: Counter[str]
    by_zone: Counter[str]
    by_source: Counter[str]
    p50_ms: float
    p99_ms: float
    first_error_s: float | None
    last_error_s: float | None


def parse(data: bytes) -> Recording:
    """A recording from the file's bytes. Raises msgspec.DecodeError; a last line cut by a kill is left out."""
    lines = [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
    requests, marks = [], []
    for line in lines:
        if b'"mark"' in line:
            marks.append(msgspec.json.decode(line, type=Mark))
        else:
            requests.append(msgspec.json.decode(line, type=Request))
    requests.sort(key=lambda r: r.t)
    return Recording(tuple(requests), tuple(sorted(marks, key=lambda m: m.t)))


def summarise(recording: Recording) -> Summary:
    """Count. A request belongs to the moment at which it began."""
    requests = recording.requests
    start = requests[0].t if requests else 0.0
    failed = [r for r in requests if not r.ok]
    took = sorted(r.ms for r in requests if r.ok)
    return Summary(
        total=len(requests),
        errors=Counter(r.error for r in failed),
        by_zone=Counter(r.zone or UNKNOWN for r in requests if r.ok),
        by_source=Counter(r.source for r in requests),
        p50_ms=_percentile(took, 0.50),
        p99_ms=_percentile(took, 0.99),
        first_error_s=round(failed[0].t - start, 2) if failed else None,
        last_error_s=round(failed[-1].t - start, 2) if failed else None,
    )


def by_second(recording: Recording) -> list[Counter[str]]:
    """For each second since the first request: answers by zone, and errors."""
    requests = recording.requests
    if not requests:
        return []
    start = requests[0].t
    found = [Counter[str]() for _ in range(int(requests[-1].t - start) + 1)]
    for request in requests:
        found[int(request.t - start)][_series(request)] += 1
    return found


def _series(request: Request) -> str:
    return (request.zone or UNKNOWN) if request.ok else ERRORS


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


# ------------------------------------------------------------------------------------------------------ text
def text(recording: Recording) -> str:
    """Bars by second, then the summary."""
    seconds = by_second(recording)
    zones = zones_of(seconds)
    most = max((count.total() for count in seconds), default=0)
    letters = {zone: chr(ord("a") + i) for i, zone in enumerate(zones)} | {ERRORS: "!"}
    lines = []
    for number, count in enumerate(seconds):
        bar = "".join(
            letters[name] * _width(count[name], most) for name in (*zones, ERRORS) if count[name]
        )
        told = f"{count.total():5d}" + (f" {count[ERRORS]} failed" if count[ERRORS] else "")
        marks = "".join(f"  <- {mark.mark}" for mark in _marks_in(recording, number))
        lines.append(f"{number:4d} s |{bar:{BAR_COLUMNS}}|{told}{marks}")
    lines.append("       " + "  ".join(f"{letter} {name}" for name, letter in letters.items()))
    return "\n".join([*lines, "", *figures(summarise(recording))])


def _width(count: int, most: int) -> int:
    """At least one column: a single error must be seen."""
    return max(1, count * BAR_COLUMNS // most)


def _marks_in(recording: Recording, second: int) -> Iterable[Mark]:
    start = recording.requests[0].t
    return (m for m in recording.marks if int(m.t - start) == second and m.t >= start)


def figures(summary: Summary) -> list[str]:
    """The summary in a few lines."""
    failed = summary.errors.total()
    lines = [
        f"{summary.total} requests, {failed} failed; {summary.p50_ms:.1f} ms at the median, "
        f"{summary.p99_ms:.1f} ms at 99 %"
    ]
    lines += [f"  from {source}: {n}" for source, n in sorted(summary.by_source.items()) if source]
    lines += [f"  answered by {zone}: {n}" for zone, n in sorted(summary.by_zone.items())]
    lines += [f"  failed: {error}: {n}" for error, n in summary.errors.most_common()]
    if failed:
        lines.append(
            f"  first failure at {summary.first_error_s} s, last at {summary.last_error_s} s"
        )
    return lines


def zones_of(seconds: Iterable[Counter[str]]) -> list[str]:
    """Every zone that answered, by name."""
    return sorted({name for count in seconds for name in count} - {ERRORS})

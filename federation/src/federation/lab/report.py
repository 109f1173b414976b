"""What recorded requests say: a summary, text bars by second and answering zone, and the same as an SVG picture.

The file holds one JSON object a line: requests, and marks of the faults that were made meanwhile. Drawn by hand: a picture of
stacked bars is fifty lines, a plotting library is fifty megabytes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import msgspec

from federation.lab.faults import Mark
from federation.lab.requests import Request

ERRORS = "errors"
UNKNOWN = "unknown"
COLOURS = ("#3d6fb6", "#e0a030", "#4f9d69", "#8a63b0", "#6b7f8c", "#b5785a")
RED = "#c8102e"
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
    zones = _zones(seconds)
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


def _zones(seconds: Iterable[Counter[str]]) -> list[str]:
    return sorted({name for count in seconds for name in count} - {ERRORS})


# ------------------------------------------------------------------------------------------------------ picture
_WIDTH, _HEIGHT = 960, 360
_LEFT, _TOP, _RIGHT, _BOTTOM = 56, 64, 16, 44
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)


def svg(recording: Recording, title: str) -> str:
    """Stacked bars: one column a second, a colour for each answering zone, errors in red on top."""
    seconds = by_second(recording)
    zones = _zones(seconds)
    most = max((count.total() for count in seconds), default=0) or 1
    colours = {zone: COLOURS[i % len(COLOURS)] for i, zone in enumerate(zones)} | {ERRORS: RED}
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(seconds))
    tall = _HEIGHT - _TOP - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="15">{escape(title)}</text>',
        *_legend(colours),
        *_axes(len(seconds), most, step, tall),
    ]
    for number, count in enumerate(seconds):
        bottom = float(_TOP + tall)
        for name, colour in colours.items():
            if count[name]:
                size = count[name] * tall / most
                bottom -= size
                parts.append(
                    f'<rect x="{_LEFT + number * step:.2f}" y="{bottom:.2f}" width="{max(step - 0.5, 0.5):.2f}" '
                    f'height="{size:.2f}" fill="{colour}"/>'
                )
    parts += _mark_lines(recording, step, tall, len(seconds))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(colours: dict[str, str]) -> list[str]:
    parts, x = [], _LEFT
    for name, colour in colours.items():
        parts.append(f'<rect x="{x}" y="30" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="40">{escape(name)}</text>')
        x += 32 + 7 * len(name)
    return parts


def _axes(seconds: int, most: int, step: float, tall: int) -> list[str]:
    floor = _TOP + tall
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = floor - share * tall
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * share:g}</text>'
        )
    tick = next((t for t in _TICKS if seconds / t <= 16), _TICKS[-1])
    for number in range(0, seconds + 1, tick):
        x = _LEFT + number * step
        parts.append(
            f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{number}</text>'
            f'<line x1="{x:.1f}" y1="{floor}" x2="{x:.1f}" y2="{floor + 4}" stroke="#888888"/>'
        )
    parts.append(
        f'<text x="{_WIDTH // 2}" y="{_HEIGHT - 8}" text-anchor="middle">seconds; requests a second by '
        "answering zone</text>"
    )
    return parts


def _mark_lines(recording: Recording, step: float, tall: int, seconds: int) -> list[str]:
    parts = []
    start = recording.requests[0].t if recording.requests else 0.0
    for mark in recording.marks:
        at = mark.t - start
        if not 0 <= at <= seconds:
            continue
        x = _LEFT + at * step
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{_TOP + tall}" stroke="#222222" '
            f'stroke-dasharray="4 3"/><text x="{x + 3:.1f}" y="{_TOP - 8}">{escape(mark.mark)}</text>'
        )
    return parts

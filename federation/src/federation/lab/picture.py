"""A recording as an SVG picture: requests a second by answering zone, stacked, with errors in red and a flag for each fault.

Drawn by hand: a picture of stacked bars is a page, a plotting library is fifty megabytes. It has a ground of its own, light or
dark as the reader's screen prefers, so it stands in any page. Colours are told apart by colour-blind eyes too (Okabe and Ito,
2008); errors lie on top in red and keep a visible height, however few they are.

Limits: one column a second; flags that would cover each other are put into one of three rows.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from federation.lab.report import ERRORS, Recording, by_second, summarise, zones_of

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#8c8c8c")
RED = "#d7191c"
_WIDTH, _HEIGHT = 960, 440
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 136, 24, 58
_WIDE, _TALL = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_FLOOR = _TOP + _TALL
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
_TICKS_MAX, _LINES_MAX = 14, 6
_ERROR_TALL_MIN = 2.0
_LETTER, _FLAG_ROWS, _FLAG_TALL = 7.0, 3, 15

_STYLE = """\
<style>
svg { font-family: "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; font-size: 13px; }
.ground { fill: #ffffff; stroke: #d0d7de; } text { fill: #1f2328; } .quiet { fill: #59636e; }
.title { font-size: 18px; font-weight: bold; } .grid { stroke: #d8dee4; } .axis { stroke: #59636e; }
.flag { stroke: #1f2328; stroke-dasharray: 5 3; } .flagged { font-size: 12px; font-weight: bold; }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117; stroke: #3d444d; } text { fill: #e6edf3; } .quiet { fill: #9198a1; }
.grid { stroke: #30363d; } .axis { stroke: #9198a1; } .flag { stroke: #e6edf3; }
}
</style>"""


def svg(recording: Recording, title: str) -> str:
    """The picture's text."""
    seconds = by_second(recording)
    zones = zones_of(seconds)
    most = max((count.total() for count in seconds), default=0)
    top = max(1, math.ceil(most / _unit(most)) * _unit(most))
    colours = {zone: COLOURS[i % len(COLOURS)] for i, zone in enumerate(zones)} | {ERRORS: RED}
    step = _WIDE / max(1, len(seconds))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        _STYLE,
        f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="6"/>',
        f'<text class="title" x="{_LEFT}" y="32">{escape(title)}</text>',
        f'<text class="quiet" x="{_LEFT}" y="54">{escape(_figures(recording))}</text>',
        *_legend(colours, recording),
        *_axes(len(seconds), top, step),
        *_bars(seconds, colours, top, step),
        *_flags(recording, step, len(seconds)),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _figures(recording: Recording) -> str:
    """One line under the title."""
    found = summarise(recording)
    sources = ", ".join(sorted(name for name in found.by_source if name))
    text = f"{found.total} requests" + (f" from {sources}" if sources else "")
    if not found.errors:
        return f"{text}; none failed"
    assert found.first_error_s is not None
    assert found.last_error_s is not None
    lasted = found.last_error_s - found.first_error_s
    return f"{text}; {found.errors.total()} failed, the last {lasted:.1f} s after the first"


def _legend(colours: dict[str, str], recording: Recording) -> list[str]:
    """Below the figures: a square, the name, how many."""
    found = summarise(recording)
    counts = found.by_zone + Counter({ERRORS: found.errors.total()})
    parts, x = [], float(_LEFT)
    for name, colour in colours.items():
        parts.append(f'<rect x="{x:.0f}" y="68" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(
            f'<text x="{x + 18:.0f}" y="78.5">{escape(name)} '
            f'<tspan class="quiet">{counts[name]}</tspan></text>'
        )
        x += 44 + _LETTER * (len(name) + len(str(counts[name])))
    return parts


def _unit(most: int) -> int:
    """Between two lines of the grid: 1, 2 or 5 with zeros, so that at most six reach `most`."""
    steps: Iterable[int] = (
        share * zeros for zeros in (1, 10, 100, 1_000, 10_000, 100_000) for share in (1, 2, 5)
    )
    return next(step for step in steps if most <= _LINES_MAX * step)


def _axes(seconds: int, top: int, step: float) -> list[str]:
    parts = []
    for value in range(0, top + 1, _unit(top)):
        y = _FLOOR - value / top * _TALL
        parts.append(
            f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _WIDE}" y2="{y:.1f}"/>'
            f'<text class="quiet" x="{_LEFT - 8}" y="{y + 4.5:.1f}" text-anchor="end">{value}</text>'
        )
    tick = next((t for t in _TICKS if seconds / t <= _TICKS_MAX), _TICKS[-1])
    for number in range(0, seconds + 1, tick):
        x = _LEFT + number * step
        parts.append(
            f'<line class="axis" x1="{x:.1f}" y1="{_FLOOR}" x2="{x:.1f}" y2="{_FLOOR + 5}"/>'
            f'<text class="quiet" x="{x:.1f}" y="{_FLOOR + 20}" text-anchor="middle">{number}</text>'
        )
    middle = _TOP + _TALL / 2
    parts += [
        f'<line class="axis" x1="{_LEFT}" y1="{_FLOOR}" x2="{_LEFT + _WIDE}" y2="{_FLOOR}"/>',
        f'<text x="{_LEFT + _WIDE / 2:.0f}" y="{_HEIGHT - 16}" text-anchor="middle">'
        "time since the first request (s)</text>",
        f'<text x="20" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 20 {middle:.0f})">'
        "requests (1/s)</text>",
    ]
    return parts


def _bars(
    seconds: Sequence[Counter[str]], colours: dict[str, str], top: int, step: float
) -> list[str]:
    parts = []
    width = max(step - 0.6, 0.6)
    for number, count in enumerate(seconds):
        bottom = float(_FLOOR)
        for name, colour in colours.items():
            if not count[name]:
                continue
            tall = count[name] * _TALL / top
            tall = max(tall, _ERROR_TALL_MIN) if name == ERRORS else tall
            bottom -= tall
            parts.append(
                f'<rect x="{_LEFT + number * step:.2f}" y="{bottom:.2f}" width="{width:.2f}" '
                f'height="{tall:.2f}" fill="{colour}"/>'
            )
    return parts


def _flags(recording: Recording, step: float, seconds: int) -> list[str]:
    """A line at each mark with its words above; the rows keep neighbours apart."""
    start = recording.requests[0].t if recording.requests else 0.0
    shown = [(m.t - start, m.mark) for m in recording.marks if 0 <= m.t - start <= seconds]
    parts = []
    for row, (at, words) in zip(
        _rows([(at * step, words) for at, words in shown]), shown, strict=True
    ):
        x, y = _LEFT + at * step, _TOP - 10 - row * _FLAG_TALL
        before = x + _LETTER * len(words) > _LEFT + _WIDE
        anchor, aside = ("end", -4) if before else ("start", 4)
        parts.append(
            f'<line class="flag" x1="{x:.1f}" y1="{y - 10:.1f}" x2="{x:.1f}" y2="{_FLOOR}"/>'
            f'<text class="flagged" x="{x + aside:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
        )
    return parts


def _rows(flags: Iterable[tuple[float, str]]) -> list[int]:
    """The lowest row in which each flag's words cover no earlier ones; the last row takes what fits nowhere."""
    ends = [-math.inf] * _FLAG_ROWS
    rows = []
    for x, words in flags:
        row = next((i for i, end in enumerate(ends) if end < x), _FLAG_ROWS - 1)
        ends[row] = x + _LETTER * len(words) + 12
        rows.append(row)
    return rows

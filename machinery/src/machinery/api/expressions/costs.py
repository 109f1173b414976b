"""What a rule may cost before it is run: the letters that it may read or make, estimated from above.

The library bounds a run's iterations and its depth, not the texts that are handled in each: `self.list.all(x, self.text.replace('a',
'b') != '')` reads a megabyte ten thousand times, `cel.bind(a, self.text + self.text, …)` doubles it with every level. Upstream
counts units of cost while a rule runs; here the longest text, how many values there are, and what the rule's words can do with them
are multiplied before. An object that is small is never refused. Pure.
"""

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

ITERATIONS_MAX: Final = 10_000
"""The library's own bound of one run."""
LETTERS_MAX: Final = 10_000_000
"""Of one run: about half a second, and 200 MB where each of them becomes a value."""
TEXTS: Final = re.compile(r"'(?:\\.|[^'\\])*+'?|\"(?:\\.|[^\"\\])*+\"?")
"""Literals of a rule, the last one perhaps without its end; in time that grows with the rule."""
_MACROS: Final = re.compile(r"\.(?:all|exists|exists_one|map|filter)\(")
_HANDLES_TEXT: Final = re.compile(
    r"\+|\b(?:replace|split|join|matches|find|findAll|contains|indexOf|lastIndexOf|substring|quote|"
    r"lowerAscii|upperAscii|trim|reverse|startsWith|endsWith|format|encode|decode|string|bytes|size)\b"
)
_REPLACES: Final = re.compile(r"\.replace\(")
_REPLACES_PLAINLY: Final = re.compile(r"\.replace\([^(),]*,\s*''\s*[,)]")
_DOUBLES: Final = re.compile(r"\+|\bquote\b|\bencode\b")


class Size(NamedTuple):
    """What there is of a document."""

    values: int
    longest: int
    """Letters of the longest text."""


class _Shape(NamedTuple):
    macros: int
    handles_text: bool
    squares: int
    growth: int


def size_of(*documents: Any) -> Size:
    """The size of all documents together."""
    values = longest = 0
    left = list(documents)
    while left:
        one = left.pop()
        values += 1
        if one.__class__ is str:
            longest = max(longest, len(one))
        elif one.__class__ is dict:
            left.extend(one.values())
            longest = max(longest, max(map(len, one), default=0))
        elif one.__class__ is list:
            left.extend(one)
    return Size(values, longest)


def estimate(*documents: Any) -> Size:
    """The same from above, at the speed of JSON: commas and colons within texts count too."""
    raw = orjson.dumps(documents)
    texts = raw.replace(b"\\\\", b"__").replace(b'\\"', b"__").split(b'"')
    return Size(sum(map(raw.count, (b",", b"{", b"["))) + 1, max(map(len, texts)))


def handles_text(expression: str) -> bool:
    """Whether a run may handle letters at all."""
    return _shape(expression).handles_text


def letters(expression: str, size: Size) -> int:
    """How many letters a run may handle."""
    shape = _shape(expression)
    if not shape.handles_text:
        return 0
    longest = max(size.longest, len(expression))
    runs = min(ITERATIONS_MAX, size.values ** min(shape.macros, 8)) if shape.macros else 1
    return int(longest ** (1 + shape.squares) * runs * shape.growth)


@lru_cache(maxsize=4096)
def _shape(expression: str) -> _Shape:
    plain = TEXTS.sub("''", expression)
    doubles = len(_DOUBLES.findall(plain))
    return _Shape(
        len(_MACROS.findall(plain)),
        _HANDLES_TEXT.search(plain) is not None,
        min(8, len(_REPLACES.findall(plain)) - len(_REPLACES_PLAINLY.findall(plain))),
        1 << min(doubles, 64) if "cel.bind(" in plain else 1 + doubles,
    )

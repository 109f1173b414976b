"""How much an expression in CEL may have to handle, estimated from above before it is run: values, and eight letters as one.

The library bounds a run's iterations (10,000) and depth, not what each of them handles: `cel.bind(a, [b, b], cel.bind(b, [a, a], …))`
doubles what comes out with every level, a list may be added to itself ten thousand times, and every mention of a variable is a
copy of its object. So the expression is read as nested operands, each of which is at most as much as what it names, all parts of an
operator or a call are added up, and a macro does its body once for everything that there is and once more for each item of what
does not depend on it. Of an object of usual size a usual expression may handle some thousands of values. Pure.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from machinery.meta.resource import Document

ITERATIONS_MAX: Final = 10_000
"""The library's own bound of one run."""
LETTERS: Final = 8
"""So many letters count as a value."""
FAR: Final = 2**62
"""More than anybody allows."""
DEPTH_MAX: Final = 100
"""Of brackets; the library's own parser goes a little further."""
_NESTED_MAX: Final = 8
"""Macros within macros; ten thousand iterations are spent sooner."""
_JUDGES: Final = frozenset({"all", "exists", "exists_one", "existsOne"})
_MAKES: Final = frozenset({"map", "optMap", "optFlatMap"})
_MACROS: Final = _JUDGES | _MAKES | {"filter"}
_SPREADS: Final = frozenset({"split", "findAll", "quote", "format", "encode", "decode", "bytes"})
_OPENS: Final = {"(": ")", "[": "]", "{": "}"}
_TOKEN: Final = re.compile(
    r"""(?P<blank>\s+|//[^\n]*)
    |(?P<text>(?:[rR][bB]?|[bB][rR])(?:'''[\s\S]*?'''|\"\"\"[\s\S]*?\"\"\"|'[^'\n]*'|"[^"\n]*")
      |[bB]?(?:'''(?:\\[\s\S]|[^\\])*?'''|\"\"\"(?:\\[\s\S]|[^\\])*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
    |(?P<name>`[^`\n]*`|[A-Za-z_]\w*)
    |(?P<number>\d[\w.]*)
    |(?P<sign>[\s\S])""",
    re.VERBOSE,
)


class _Token(NamedTuple):
    kind: str
    text: str


class Size(NamedTuple):
    """What there is of a value."""

    values: int
    widest: int
    """Items of its longest list or map."""


def size_of(value: object) -> Size:
    """The size of a document, or of anything in one."""
    count, letters, widest = 0, 0, 1
    left = [value]
    while left:
        one = left.pop()
        count += 1
        if isinstance(one, str):
            letters += len(one)
        elif isinstance(one, Mapping):
            widest = max(widest, len(one))
            letters += sum(len(str(key)) for key in one)
            left.extend(one.values())
        elif isinstance(one, list):
            widest = max(widest, len(one))
            left.extend(one)
    return Size(count + letters // LETTERS, widest)


def work(expression: str, given: Document) -> int:
    """An upper bound of what a run on these variables handles, in values; `FAR` where it is beyond all bounds."""
    sizes = {name: size_of(value) for name, value in given.items()}
    tokens = _tokens(expression)
    literals = 1 + sum(token.text == "," for token in tokens)
    widest = max([literals, *(size.widest for size in sizes.values())])
    reader = _Reader(tokens, widest, max((size.values for size in sizes.values()), default=1))
    found = reader.sum(0, reader.end, {name: size.values for name, size in sizes.items()})
    return min(FAR, found.size + found.work)


@lru_cache(maxsize=256)
def _tokens(expression: str) -> tuple[_Token, ...]:
    found = (_Token(m.lastgroup or "", m[0]) for m in _TOKEN.finditer(expression))
    return tuple(token for token in found if token.kind != "blank")


class _Cost(NamedTuple):
    size: int
    """Of what comes out, in values."""
    work: int

    def also(self, other: "_Cost", times: int = 1) -> "_Cost":
        """With what is done besides."""
        size, work = self.size + times * other.size, self.work + times * other.work
        return _Cost(min(FAR, size), min(FAR, work))


class _Reader:
    """One expression; positions are of tokens."""

    def __init__(self, tokens: tuple[_Token, ...], widest: int, largest: int) -> None:
        self._tokens, self._largest = tokens, largest
        self._widest = min(ITERATIONS_MAX, widest)
        self.end = len(tokens)
        self._closes = dict(_pairs(tokens))
        self._depth = self._nested = 0

    def sum(self, start: int, end: int, known: Mapping[str, int]) -> _Cost:
        """All operands between two positions."""
        if self._depth > DEPTH_MAX:
            return _Cost(FAR, FAR)
        self._depth += 1
        total, at = _Cost(0, 0), start
        while at < end:
            operand, at = self._operand(at, end, known)
            total = total.also(operand)
        self._depth -= 1
        return total

    def _operand(self, at: int, end: int, known: Mapping[str, int]) -> tuple[_Cost, int]:
        """(one operand with all that hangs on it, where it ends)."""
        token = self._tokens[at]
        if token.text == "cel" and self._is(at + 2, "bind", end) and self._is(at + 3, "(", end):
            found, at = self._bound(at + 3, end, known)
        elif token.kind == "name" and self._is(at + 1, "(", end):
            found, at = self._call(token.text, _Cost(1, 1), at + 1, known)
        elif token.kind == "name":
            size = known.get(token.text, 1)
            found, at = _Cost(size, size), at + 1
        elif token.text in _OPENS:
            close = self._closes.get(at, end)
            found, at = _Cost(1, 1).also(self.sum(at + 1, close, known)), close + 1
        else:
            size = 1 + (len(token.text) // LETTERS if token.kind == "text" else 0)
            found, at = _Cost(size, size), at + 1
        return self._hanging(found, at, end, known)

    def _hanging(
        self, found: _Cost, at: int, end: int, known: Mapping[str, int]
    ) -> tuple[_Cost, int]:
        """Fields, indexes and methods behind an operand."""
        while at < end:
            token = self._tokens[at]
            if token.text == "[":
                close = self._closes.get(at, end)
                found, at = found.also(self.sum(at + 1, close, known)), close + 1
                continue
            if token.text != ".":
                break
            at += 2 if self._is(at + 1, "?", end) else 1
            if self._is(at + 1, "(", end):
                found, at = self._call(self._tokens[at].text, found, at + 1, known)
            else:
                at += 1
        return found, at

    def _call(
        self, name: str, target: _Cost, opens: int, known: Mapping[str, int]
    ) -> tuple[_Cost, int]:
        """A function or a method, whose parenthesis opens there."""
        close = self._closes.get(opens, self.end)
        if name in _MACROS and self._is(opens + 2, ",", close):
            return self._macro(name, target, opens, known), close + 1
        given = self.sum(opens + 1, close, known)
        found = target.also(given)
        if name == "replace":
            more = LETTERS * (target.size + 1) * (given.size + 1)
            found = found.also(_Cost(more, more))
        elif name in _SPREADS:
            found = found.also(found, LETTERS)
        return found, close + 1

    def _macro(self, name: str, target: _Cost, opens: int, known: Mapping[str, int]) -> _Cost:
        """`target.name(variable, body)`."""
        if self._nested >= _NESTED_MAX:
            return _Cost(FAR, FAR)
        self._nested += 1
        variable, start, close = self._tokens[opens + 1].text, opens + 3, self._closes[opens]
        body = self.sum(start, close, {**known, variable: target.size})
        apart = self.sum(start, close, {**known, variable: 0})
        self._nested -= 1
        grown = target.size > self._largest
        times = min(ITERATIONS_MAX, target.size) if grown else self._widest
        made = body.also(apart, times)
        work = min(FAR, target.work + made.work)
        if name in _MAKES:
            return _Cost(made.size, work)
        return _Cost(1 if name in _JUDGES else target.size, work)

    def _bound(self, opens: int, end: int, known: Mapping[str, int]) -> tuple[_Cost, int]:
        """`cel.bind(name, value, body)`, whose parenthesis opens there."""
        close = self._closes.get(opens, end)
        comma = self._comma(opens + 3, close)
        variable = self._tokens[opens + 1].text if opens + 1 < end else ""
        value = self.sum(opens + 3, comma, known)
        body = self.sum(comma + 1, close, {**known, variable: value.size})
        return _Cost(body.size, min(FAR, value.work + body.work)), close + 1

    def _is(self, at: int, text: str, end: int) -> bool:
        return at < end and self._tokens[at].text == text

    def _comma(self, at: int, end: int) -> int:
        """The next comma that is in no further bracket; `end` where there is none."""
        while at < end:
            if self._tokens[at].text == ",":
                return at
            at = self._closes.get(at, at) + 1
        return end


def _pairs(tokens: tuple[_Token, ...]) -> Iterator[tuple[int, int]]:
    """(where a bracket opens, where it closes)."""
    opened: list[int] = []
    for at, token in enumerate(tokens):
        if token.text in _OPENS:
            opened.append(at)
        elif token.text in _OPENS.values() and opened:
            yield opened.pop(), at

"""Expressions as they are written, before the parser sees them: what it does not know is written otherwise.

    x.all(i, v, C)            x.pairs__().all(p, cel.bind(i, p.key__(), cel.bind(v, p.value__(), C)))
    x.transformMap(k, v, T)   … .map(p, pair__(p.key__(), T)).map__()
    Object.spec{replicas: 1}  object__("spec", {"replicas": 1}), likewise JSONPatch{…}

An `Origin` tells for each letter of the new text where it stood in the old one, so that complaints show what was written.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<text>[rR]?[bB]?[rR]?(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<quoted>`[^`\n]*`)
    |(?P<number>[0-9][0-9A-Za-z_.]*)|(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_OPENING: Final = {"(": ")", "[": "]", "{": "}"}
STRUCTS: Final = ("Object", "JSONPatch")
TWO_VARIABLES: Final = {
    "all": (3, 3), "exists": (3, 3), "existsOne": (3, 3), "exists_one": (3, 3),
    "transformList": (3, 4), "transformMap": (3, 4), "transformMapEntry": (3, 4),
}  # fmt: skip
"""Macros, and how many arguments make one of two variables."""
RESERVED: Final = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function",
        "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
"""What is no name in an expression."""
_NEEDED: Final = re.compile(
    r"\.\s*(?:all|exists|existsOne|exists_one|transformList|transformMap|transformMapEntry)\s*\("
)
_STRUCT: Final = re.compile(r"\b(?:Object|JSONPatch)\b")


class Token(NamedTuple):
    """A piece of the text."""

    kind: str
    text: str
    at: int


class Piece(NamedTuple):
    """A piece of the new text; `at` is where it stood, or what it is for."""

    text: str
    at: int


class Origin:
    """Where the letters of a text came from."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._starts: list[int] = []
        self._pieces: list[Piece] = []
        length = 0
        for piece in pieces:
            self._starts.append(length)
            self._pieces.append(piece)
            length += len(piece.text)
        self.text = "".join(piece.text for piece in pieces)

    def of(self, at: int, original: str) -> int:
        """The place in the old text of a place in the new one."""
        if not self._starts:
            return at
        index = max(0, bisect_right(self._starts, at) - 1)
        piece = self._pieces[index]
        within = at - self._starts[index]
        copied = original[piece.at : piece.at + len(piece.text)] == piece.text
        return piece.at + within if copied else piece.at


def rewritten(
    text: str, *, structs: bool = False, renamed: Mapping[str, str] = MappingProxyType({})
) -> Origin | None:
    """The text as the parser can read it; None where it can as it is. `structs`: `Object{…}` and `JSONPatch{…}` are known.
    `renamed`: variables, and the names that stand for them."""
    if not (renamed or _NEEDED.search(text) or (structs and _STRUCT.search(text))):
        return None
    return Origin(list(_Rewriting(text, structs=structs, renamed=renamed).pieces()))


class _Rewriting:
    """One text on its way."""

    def __init__(self, text: str, *, structs: bool, renamed: Mapping[str, str]) -> None:
        self._tokens = [
            Token(found.lastgroup or "mark", found[0], found.start())
            for found in _TOKEN.finditer(text)
        ]
        self._renamed = renamed
        self._ends = self._matched()
        self._structs = structs
        self._depth = 0

    def pieces(self) -> Iterator[Piece]:
        return self._between(0, len(self._tokens))

    def _matched(self) -> dict[int, int]:
        """From the index of each opening bracket to that of its closing one."""
        ends: dict[int, int] = {}
        held: list[tuple[str, int]] = []
        for index, token in enumerate(self._tokens):
            if token.kind != "mark":
                continue
            if token.text in _OPENING:
                held.append((_OPENING[token.text], index))
            elif held and token.text == held[-1][0]:
                ends[held.pop()[1]] = index
        return ends

    def _between(self, begin: int, end: int) -> Iterator[Piece]:
        index = begin
        while index < end:
            token = self._tokens[index]
            macro = self._macro(index) if token.text == "." else None
            struct = self._struct(index) if self._structs and token.text in STRUCTS else None
            if macro is not None:
                pieces, index = macro
                yield from pieces
            elif struct is not None:
                pieces, index = struct
                yield from pieces
            else:
                renamed = self._renamed.get(token.text) if self._is_variable(index) else None
                yield Piece(renamed or token.text, token.at)
                index += 1

    def _is_variable(self, index: int) -> bool:
        """A name, and not that of a field."""
        if self._tokens[index].kind != "name":
            return False
        before = index - 1
        while before >= 0 and self._tokens[before].kind == "space":
            before -= 1
        if before >= 0 and self._tokens[before].text == "?":  # `.?name`, but not `a ?name : b`
            before -= 1 if self._text(before - 1) == "." else 0
        return before < 0 or self._tokens[before].text != "."

    def _next(self, index: int) -> int:
        """The next token that is no space."""
        index += 1
        while index < len(self._tokens) and self._tokens[index].kind == "space":
            index += 1
        return index

    def _text(self, index: int) -> str:
        return self._tokens[index].text if index < len(self._tokens) else ""

    # ------------------------------------------------------------------------------------ macros of two variables
    def _macro(self, index: int) -> tuple[list[Piece], int] | None:
        """The macro after the dot at `index`, rewritten, and where the text goes on."""
        name_at = self._next(index)
        name = self._text(name_at)
        counts = TWO_VARIABLES.get(name)
        opening = self._next(name_at)
        if counts is None or self._text(opening) != "(" or opening not in self._ends:
            return None
        closing = self._ends[opening]
        arguments = list(self._arguments(opening + 1, closing))
        if not counts[0] <= len(arguments) <= counts[1]:
            return None
        first, second = (self._single(one) for one in arguments[:2])
        if first is None or second is None:
            return None
        self._depth += 1
        pair = f"pair{self._depth}__"
        bodies = [list(self._between(*one)) for one in arguments[2:]]
        at = self._tokens[name_at].at
        return list(_expanded(name, pair, first, second, bodies, at)), closing + 1

    def _arguments(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """The tokens of each argument."""
        start = index = begin
        while index < end:
            if self._text(index) == ",":
                yield start, index
                start = index + 1
            index = self._ends.get(index, index) + 1
        yield start, end

    def _single(self, span: tuple[int, int]) -> Token | None:
        """The one name that an argument is."""
        found = [one for one in self._tokens[span[0] : span[1]] if one.kind != "space"]
        if len(found) != 1 or found[0].kind != "name":
            return None
        return found[0]._replace(text=self._renamed.get(found[0].text, found[0].text))

    # -------------------------------------------------------------------------------------------------- structures
    def _struct(self, index: int) -> tuple[list[Piece], int] | None:
        """`Object.a.b{…}` at `index`, rewritten, and where the text goes on."""
        path, at = [], index
        while self._text(self._next(at)) == ".":
            name_at = self._next(self._next(at))
            if name_at >= len(self._tokens) or self._tokens[name_at].kind != "name":
                return None
            path.append(self._text(name_at))
            at = name_at
        opening = self._next(at)
        if self._text(opening) != "{" or opening not in self._ends:
            return None
        begin = self._tokens[index]
        title = ".".join([begin.text, *path])
        pieces = [Piece(f"{function_of(title)}(", begin.at), Piece("{", self._tokens[opening].at)]
        for number, span in enumerate(self._arguments(opening + 1, self._ends[opening])):
            if number:
                pieces.append(Piece(",", self._tokens[span[0] - 1].at))
            pieces.extend(self._field(*span))
        closing = self._tokens[self._ends[opening]]
        return [*pieces, Piece("}", closing.at), Piece(")", closing.at)], self._ends[opening] + 1

    def _field(self, begin: int, end: int) -> Iterator[Piece]:
        """`name: value` with its name as a text."""
        index = self._next(begin - 1)
        if self._text(index) == "?":
            yield Piece("?", self._tokens[index].at)
            index = self._next(index)
        if index < end and self._tokens[index].kind in ("name", "quoted"):
            token = self._tokens[index]
            if self._text(self._next(index)) == ":":
                yield Piece(f'"{token.text.strip("`")}"', token.at)
                index += 1
        yield from self._between(index, end)


def function_of(title: str) -> str:
    """The function that `Object.a.b{…}` becomes a call of."""
    return "struct__" + title.replace("_", "_1").replace(".", "_0")


def title_of(function: str) -> str:
    """The other way round; empty for any other function."""
    if not function.startswith("struct__"):
        return ""
    return function.removeprefix("struct__").replace("_0", ".").replace("_1", "_")


def titles_in(text: str) -> set[str]:
    """The structures that a rewritten text names."""
    return {title_of(found) for found in re.findall(r"\bstruct__\w+", text)}


def _expanded(
    name: str, pair: str, first: Token, second: Token, bodies: list[list[Piece]], at: int
) -> Iterator[Piece]:
    def bound(body: list[Piece]) -> Iterator[Piece]:
        yield Piece("cel.bind(", at)
        yield Piece(first.text, first.at)
        yield Piece(f", {pair}.key__(), cel.bind(", at)
        yield Piece(second.text, second.at)
        yield Piece(f", {pair}.value__(), ", at)
        yield from body
        yield Piece("))", at)

    yield Piece(".pairs__()", at)
    if not name.startswith("transform"):
        macro = "exists_one" if name == "existsOne" else name
        yield Piece(f".{macro}({pair}, ", at)
        yield from bound(bodies[0])
        yield Piece(")", at)
        return
    if len(bodies) > 1:
        yield Piece(f".filter({pair}, ", at)
        yield from bound(bodies[0])
        yield Piece(")", at)
    made = f"pair__({pair}.key__(), " if name == "transformMap" else ""
    yield Piece(f".map({pair}, {made}", at)
    yield from bound(bodies[-1])
    yield Piece(f"){')' if made else ''}", at)
    yield Piece({"transformMap": ".map__()", "transformMapEntry": ".merged__()"}.get(name, ""), at)


def escaped(name: str) -> str:
    """A field's name as an identifier of CEL."""
    if name in RESERVED:
        return f"__{name}__"
    out = name.replace("__", "__underscores__")
    for letter, word in ((".", "dot"), ("-", "dash"), ("/", "slash")):
        out = out.replace(letter, f"__{word}__")
    return out

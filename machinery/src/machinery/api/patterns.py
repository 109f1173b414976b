"""Patterns of schemas and rules: Go's regular expressions, in time that grows with the text and no faster.

Whoever may write a definition chooses the pattern, and whoever may write an object the text: `(a+)+$` would hold Python's engine,
and with it the whole server, for years. Go's engine and RE2 are one design, so RE2 (google-re2, Google's own binding) reads what
Go reads and refuses what Go refuses; it is imported with the first pattern. Where it is not installed (a node, which meets
patterns of our own schemas only) Python's engine takes the pattern translated.
"""

import importlib
import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final

Search = Callable[[str], Any]
_MEMORY_BYTES_MAX: Final = 8 << 20
"""Of one compiled pattern; a larger one is refused as too large."""
_GO_WORDS: Final = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
}
"""RE2's complaints that Go words otherwise."""


class BadPattern(ValueError):
    """It is no pattern; the message is Go's."""


@cache
def _re2() -> Any:
    """The library, or None where it is not installed."""
    try:
        return importlib.import_module("re2")
    except ImportError:
        return None


def searcher(pattern: str) -> Search:
    """A function that finds the pattern's first match in a text. Raises BadPattern."""
    library = _re2()
    if library is None:
        return _of_python(pattern)
    options = library.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES_MAX
    try:
        search: Search = library.compile(pattern, options).search
    except library.error as error:
        raise BadPattern(_in_go_words(_told(error))) from None
    return search


@lru_cache(maxsize=4096)
def known(pattern: str) -> Search | None:
    """`searcher`, remembered; None for what is no pattern."""
    try:
        return searcher(pattern)
    except BadPattern:
        return None


def pattern_fault(pattern: str) -> str:
    """What Go's engine says of a pattern that is none; empty where it is one."""
    try:
        searcher(pattern)
    except BadPattern as error:
        return str(error)
    return ""


def _told(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _in_go_words(text: str) -> str:
    if text.startswith("trailing \\"):
        return "trailing backslash at end of expression: ``"
    if text.startswith("pattern too large"):
        return "expression too large"
    why, colon, at = text.partition(": ")
    words = _GO_WORDS.get(why, why)
    return f"{words}: `{at}`" if colon else words


# ---------------------------------------------------------------------------------------------------- without RE2
_CLASSES: Final = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "0-9A-Za-z", "upper": "A-Z", "lower": "a-z",
    "space": r"\t\n\v\f\r ", "xdigit": "0-9A-Fa-f", "word": r"0-9A-Za-z_", "blank": r"\t ",
    "punct": r"!-/:-@\[-`{-~", "print": " -~", "graph": "!-~", "cntrl": r"\x00-\x1f\x7f", "ascii": r"\x00-\x7f",
}  # fmt: skip
_TOKEN: Final = re.compile(r"\\.|\[:\^?[a-z]+:\]|\[\^?\]?|\]|\$|.", re.DOTALL)


def go_pattern(pattern: str) -> str:
    """A pattern of Go's engine for Python's: `$` is the end of the text alone, `\\z` the same, `[[:alpha:]]` a range."""
    out: list[str] = []
    inside = False
    for token in _TOKEN.findall(pattern):
        if token == "\\z" or (token == "$" and not inside):
            out.append(r"\Z")
        elif inside and token.startswith("[:"):
            out.append(_CLASSES.get(token[2:-2], re.escape(token)))
        elif inside and token.startswith("["):
            out.append("\\" + token)
        else:
            inside = (inside or token.startswith("[")) and token != "]"
            out.append(token)
    return "".join(out)


def _of_python(pattern: str) -> Search:
    try:
        return re.compile(go_pattern(pattern), re.ASCII).search
    except re.error as error:
        raise BadPattern(_python_fault(pattern, error)) from None


def _python_fault(pattern: str, error: re.error) -> str:
    text, at = str(error), error.pos or 0
    for words, said in (
        ("missing ), unterminated", f"missing closing ): `{pattern}`"),
        ("unbalanced parenthesis", f"unexpected ): `{pattern}`"),
        ("unterminated character set", f"missing closing ]: `{pattern[at:]}`"),
        ("nothing to repeat", f"missing argument to repetition operator: `{pattern[at : at + 1]}`"),
        ("multiple repeat", f"invalid nested repetition operator: `{pattern[at - 1 : at + 1]}`"),
        ("bad escape (end", "trailing backslash at end of expression: ``"),
    ):  # fmt: skip
        if words in text:
            return said
    return text

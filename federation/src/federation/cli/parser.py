"""The parser of fedctl's words: nothing is guessed, and a mistype is answered with the nearest right word.

argparse would take `--cluster x` for `--clusters x` and bring up another fleet than the user thinks.
"""

import argparse
import difflib
import re
from collections.abc import Iterator
from typing import Any, NoReturn

_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)")
_UNKNOWN = re.compile(r"unrecognized arguments: (--?[^ =]+)")


class Parser(argparse.ArgumentParser):
    """One verb's. Its subparsers are of this class too."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """One sentence, a hint, where to read more; exit code 2."""
        near = hint(message, list(_options(self)))
        self.exit(2, f"{self.prog}: {message}{near}\n`{self.prog} --help` tells what there is.\n")


def hint(message: str, options: list[str]) -> str:
    """`; did you mean …?`, or nothing where no word is near."""
    if found := _CHOICE.search(message):
        given, known = found[1], re.findall(r"'(.*?)'", found[2])
    elif found := _UNKNOWN.search(message):
        given, known = found[1], options
    else:
        return ""
    near = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All of its options, those of its verbs included."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for child in set(action.choices.values()):
                yield from _options(child)

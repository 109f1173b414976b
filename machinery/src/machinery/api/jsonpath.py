r"""The part of JSONPath that printer columns use, compiled to a function.

`.a.b`, `['a']`, `.a\.b` (escaped dot), `[0]`, `[-1]`, `[*]` and filters `[?(@.type=="Ready")]` with == and !=. Slices,
unions, recursion and expressions are refused when the path is compiled, so that a wrong column is found at start.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

Step = Callable[[Any], Iterable[Any]]

_TOKEN = re.compile(
    r"""\.(?P<field>(?:\\.|[^.\[\\])+)                                     # .name
      | \[\s*(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\s*\]                 # ['name']
      | \[\s*(?P<index>-?\d+)\s*\]                                         # [0]
      | \[\s*(?P<all>\*)\s*\]                                              # [*]
      | \[\?\(\s*@(?P<path>[^=!<>]*?)\s*(?P<op>==|!=)\s*(?P<value>.+?)\s*\)\]   # [?(@.a=="b")]
    """,
    re.VERBOSE,
)


@lru_cache(maxsize=1024)
def compile_path(path: str) -> Callable[[Any], list[Any]]:
    """A function from a document to the values that the path finds. Raises ValueError for a path not understood."""
    steps = _steps(path.strip().removeprefix("{").removesuffix("}").removeprefix("$"))

    def find(document: Any) -> list[Any]:
        found = [document]
        for step in steps:
            found = [value for holder in found for value in step(holder)]
        return found

    return find


@lru_cache(maxsize=256)
def compile_template(template: str) -> Callable[[Any], str | None]:
    """`{.a}/{.b}` as kubectl writes it: paths in braces, text around them; several values are joined by commas.

    None where no path finds anything. Raises ValueError for a path not understood.
    """
    parts = re.split(r"\{([^{}]*)\}", template)
    finders = [compile_path(path) for path in parts[1::2]]

    def fill(document: Any) -> str | None:
        found = [",".join(map(str, find(document))) for find in finders]
        if not any(found):
            return None
        return "".join(
            f"{text}{value}" for text, value in zip(parts[::2], [*found, ""], strict=True)
        )

    return fill


def _steps(path: str) -> list[Step]:
    steps: list[Step] = []
    position = 0
    while position < len(path):
        match = _TOKEN.match(path, position)
        if match is None:
            raise ValueError(f"unsupported JSONPath {path!r} at {path[position:]!r}")
        steps.append(_step(match))
        position = match.end()
    return steps


def _step(match: "re.Match[str]") -> Step:
    if match["field"] is not None:
        name = re.sub(r"\\(.)", r"\1", match["field"])
        return _every if name == "*" else _field(name)
    if match["quoted"] is not None:
        return _field(match["quoted"])
    if match["index"] is not None:
        return _index(int(match["index"]))
    if match["all"] is not None:
        return _every
    return _filter(match["path"].strip(), match["op"] == "==", _literal(match["value"]))


def _field(name: str) -> Step:
    return lambda holder: (holder[name],) if isinstance(holder, dict) and name in holder else ()


def _index(index: int) -> Step:
    def step(holder: Any) -> Iterable[Any]:
        if isinstance(holder, list) and -len(holder) <= index < len(holder):
            return (holder[index],)
        return ()

    return step


def _every(holder: Any) -> Iterable[Any]:
    if isinstance(holder, dict):
        return holder.values()
    return holder if isinstance(holder, list) else ()


def _literal(text: str) -> Any:
    if text[:1] in "'\"" and text[-1:] == text[:1]:
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"unsupported value {text!r} in a JSONPath filter") from None


def _filter(path: str, equal: bool, value: Any) -> Step:
    find = compile_path(path)

    def step(holder: Any) -> Iterable[Any]:
        items = holder if isinstance(holder, list) else ()
        return [item for item in items if (value in find(item)) is equal]

    return step

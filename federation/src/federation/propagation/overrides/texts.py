"""JSON and YAML that live inside a field (a ConfigMap's file), changed without touching what was not meant.

JSON keeps its order of keys and the letters of its numbers, and comes back compact, as Go's encoder writes it (`<`, `>` and `&`
escaped). YAML goes through JSON as in Karmada: comments and order are lost, keys are sorted naturally, lists are not indented,
text that would read as another type stands in double quotes, and text of several lines is literal.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

import yaml

from federation.propagation.overrides import scalars
from federation.propagation.overrides.errors import OverrideError
from federation.propagation.overrides.steps import Step, apply

_LETTERS: Final = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_SPECIAL: Final = re.compile("[<>&\u2028\u2029]")
YAML_PARTS_MAX: Final = 200_000
"""Values in a YAML text, aliases written out."""
_RUNS: Final = re.compile(r"\d+|.", re.DOTALL)


class _Number(str):
    """A number with its letters as they were written."""

    __slots__ = ()


def json_changed(text: str, steps: Iterable[Step]) -> str:
    """The JSON text after the steps; an empty text stays empty. Raises OverrideError."""
    if not text:
        return text
    try:
        value = json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_refuse)
        return compact(apply(value, steps))
    except (ValueError, RecursionError):
        raise OverrideError("invalid state detected") from None


def _refuse(_word: str) -> Any:
    raise ValueError


def yaml_changed(text: str, steps: Iterable[Step]) -> str:
    """The YAML text after the steps. Raises OverrideError."""
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        return dump_yaml(apply(_Plain().of(value), steps))
    except yaml.YAMLError as error:
        raise OverrideError(f"yaml: {_words(error)}") from None
    except RecursionError:
        raise OverrideError("yaml: exceeded max depth") from None


def _words(error: yaml.YAMLError) -> str:
    """Go's library counts lines from one in its scanner and from nought in its parser, and names no first line."""
    problem = getattr(error, "problem", None) or str(error)
    marks = (getattr(error, "problem_mark", None), getattr(error, "context_mark", None))
    line = next((mark.line for mark in marks if mark is not None and mark.line), 0)
    if line and isinstance(error, yaml.scanner.ScannerError):
        line += 1
    return f"line {line}: {problem}" if line else str(problem)


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where it is there: its messages are Go's."""


class _Loader(_Base):  # type: ignore[misc]
    """Plain scalars mean what Go's library takes them for (`scalars`), all others are text."""

    yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # merge keys


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> Any:
    return node.value if node.style else scalars.resolved(node.value)


_Loader.add_constructor("tag:yaml.org,2002:str", _scalar)


class _Plain:
    """A value as its JSON form would be, aliases written out: as many parts as a small text of them cannot blow up to."""

    def __init__(self) -> None:
        self._left = YAML_PARTS_MAX

    def of(self, value: Any) -> Any:
        """A float without a fraction becomes an integer."""
        self._left -= 1
        if self._left < 0:
            raise OverrideError("yaml: document contains excessive aliasing")
        if isinstance(value, dict):
            return {_key(key): self.of(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set):
            return [self.of(inner) for inner in value]
        return value.decode("latin-1") if isinstance(value, bytes) else scalars.through_json(value)


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(scalars.through_json(key))


# ------------------------------------------------------------------------------------------------------------ writing
def compact(value: Any) -> str:
    """JSON as Go's encoder writes it: no blanks, the order of keys as it is, three letters escaped."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{compact(key)}:{compact(inner)}" for key, inner in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(compact, value)) + "]"
    if isinstance(value, str):
        return _SPECIAL.sub(lambda m: _LETTERS[m[0]], json.dumps(value, ensure_ascii=False))
    return json.dumps(value)


def ordered(value: Any) -> Any:
    """The value with the keys of all maps sorted, as the API server stores it."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    return [ordered(inner) for inner in value] if isinstance(value, list) else value


def dump_yaml(value: Any) -> str:
    """YAML as Go's library writes it."""
    text = yaml.dump(
        _sorted_naturally(value), Dumper=_Dumper, default_flow_style=False, sort_keys=False,
        allow_unicode=True, width=2**31,
    )  # fmt: skip
    return str(text).removesuffix("...\n")


def _sorted_naturally(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted_naturally(value[key]) for key in sorted(value, key=_natural)}
    return [_sorted_naturally(inner) for inner in value] if isinstance(value, list) else value


def _natural(key: str) -> list[tuple[int, int, str]]:
    """`a2` before `a10`, signs before digits before letters."""
    return [_rank(run) for run in _RUNS.findall(key)]


def _rank(run: str) -> tuple[int, int, str]:
    if run.isdecimal():
        return (1, int(run), run)
    return (2 if run.isalpha() else 0, 0, run)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Styles of scalars as in Go's library; no anchors. Nothing is resolved again: every scalar is written as it is."""

    yaml_implicit_resolvers: Any = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None
    if "\n" in text:
        style = "|"
    elif scalars.reads_otherwise(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _value(dumper: _Dumper, value: Any) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", scalars.written(value))


_Dumper.add_representer(str, _text)
for _kind in (int, float, bool, type(None)):
    _Dumper.add_representer(_kind, _value)

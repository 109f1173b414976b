"""JSON and YAML text into plain values: duplicate keys are found, and errors are told in the words of Go's decoders.

JSON is parsed by orjson; a compact body that comes out as long as it went in had no key twice (nearly every client writes
compact JSON). Otherwise the keys are counted on both sides, and only a body that fails the count is parsed again by the
slower reader that remembers them.
"""

import json
import re
from typing import Any, Final

import orjson
import yaml

_KEY: Final = re.compile(rb'"\s*:')
_PYTHON_WORDS: Final = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


class BadSyntax(ValueError):
    """The text is no JSON (or YAML); the message is Go's."""


class Duplicates(dict[str, Any]):
    """An object that remembers which of its keys stood more than once."""

    twice: tuple[str, ...] = ()


def parse_json(raw: bytes) -> tuple[Any, tuple[str, ...]]:
    """The value, and the paths of duplicate fields in document order. Raises BadSyntax."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadSyntax(_go_error(raw)) from None
    compact = orjson.dumps(value)
    if len(compact) == len(raw):
        return value, ()
    if b"\\u" not in raw and len(_KEY.findall(raw)) == compact.count(b'":'):
        return value, ()
    return value, tuple(_duplicates(json.loads(raw, object_pairs_hook=_remember), ""))


def _remember(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = Duplicates(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice: dict[str, None] = {}
        for key, _ in pairs:
            if key in seen:
                twice[key] = None
            seen.add(key)
        found.twice = tuple(twice)
    return found


def _duplicates(value: Any, path: str) -> list[str]:
    if isinstance(value, list):
        return [d for i, item in enumerate(value) for d in _duplicates(item, f"{path}[{i}]")]
    if not isinstance(value, Duplicates):
        return []
    found: list[str] = []
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        if key in value.twice:
            found.append(where)
        found += _duplicates(item, where)
    return found


def _go_error(raw: bytes) -> str:
    """Go's sentence for a text that is no JSON."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return f"invalid character '\\x{raw[error.start]:02x}' looking for beginning of value"
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return _translated(error, text)
    except RecursionError:
        return "exceeded max depth"
    return "invalid character in numeric literal"  # NaN and Infinity, which Python would take


def _translated(error: json.JSONDecodeError, text: str) -> str:
    at = error.pos
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    if at >= len(text) or error.msg.startswith("Unterminated string"):
        return "unexpected end of JSON input"
    if error.msg == "Expecting ',' delimiter":
        context = "after " + _container(text[: error.pos])
    else:
        context = _PYTHON_WORDS.get(error.msg, "looking for beginning of value")
    return f"invalid character {_quoted(text[at])} {context}"


def _quoted(letter: str) -> str:
    return {"'": "'\\''", '"': "'\"'"}.get(letter) or f"'{letter}'"


def _container(text: str) -> str:
    """Whether the end of a cut text stands in an object or in an array."""
    plain = re.sub(r'"(\\.|[^"\\])*"', "", text)
    stack: list[str] = []
    for letter in plain:
        if letter in "[{":
            stack.append(letter)
        elif letter in "]}" and stack:
            stack.pop()
    return "array element" if stack and stack[-1] == "[" else "object key:value pair"


# ------------------------------------------------------------------------------------------------------------- YAML
class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.1 as Go's YAML library reads it, with the lines of duplicate keys kept."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.twice: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    line = key_node.start_mark.line + 1
                    self.twice.append(f'line {line}: key "{key_node.value}" already set in map')
                seen.add(key_node.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def parse_yaml(raw: bytes) -> tuple[Any, tuple[str, ...]]:
    """The value as its JSON form would be, keys sorted, and the complaints on duplicate keys. Raises BadSyntax."""
    try:
        loader = _Loader(raw.decode())
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    except UnicodeDecodeError:
        raise BadSyntax(
            "error converting YAML to JSON: yaml: invalid leading UTF-8 octet"
        ) from None
    except yaml.YAMLError as error:
        raise BadSyntax(f"error converting YAML to JSON: yaml: {_yaml_words(error)}") from None
    except RecursionError:
        raise BadSyntax("error converting YAML to JSON: yaml: exceeded max depth") from None
    return _jsonable(value), tuple(loader.twice)


def _yaml_words(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(_key(key)): _jsonable(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple, set)):
        return [_jsonable(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if value is None or isinstance(value, (str, int, float)):
        return value
    return value.isoformat().replace("+00:00", "Z")


def _key(key: Any) -> Any:
    """A key of a YAML map as JSON names it."""
    if key is None:
        return "null"
    return str(key).lower() if isinstance(key, bool) else key

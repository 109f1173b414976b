"""JSON and YAML text into plain values: duplicate keys are found, and errors are told in the words of Go's decoders.

JSON is parsed by orjson; a compact body that comes out as long as it went in had no key twice (nearly every client writes
compact JSON). Otherwise the keys are counted on both sides, and only a body that fails the count is parsed again by the
slower reader that remembers them.

What a body may cost is bounded: how deep it nests, and of YAML its size and what its aliases unfold to. Whoever walks a
document may therefore recurse. YAML is read by libyaml where PyYAML was built with it, which is five times as fast.
"""

import json
import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import orjson
import yaml

from machinery.api.fieldpath import below, item

DEPTH_MAX: Final = 150
"""How deep objects and lists may nest. The deepest definitions in use have about eighty; Go's decoder stops at 10,000, which no
walk in Python survives."""
TOO_DEEP: Final = "exceeded max depth"
YAML_BYTES_MAX: Final = 512 * 1024
"""Of YAML proper, of which so much costs a second. JSON, which is YAML too, has the request's own limit."""
TWICE_MAX: Final = 1000
"""How many duplicate fields are told."""
YAML_NODES_MAX: Final = 500_000
"""Values after aliases are unfolded."""
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
    if too_deep(value, raw):
        raise BadSyntax(TOO_DEEP)
    compact = orjson.dumps(value)
    if len(compact) == len(raw):
        return value, ()
    if b"\\u" not in raw and len(_KEY.findall(raw)) == compact.count(b'":'):
        return value, ()
    remembered = json.loads(raw, object_pairs_hook=_remember, parse_int=float)
    return value, tuple(islice(_duplicates(remembered, ""), TWICE_MAX))


def too_deep(value: Any, raw: bytes = b"") -> bool:
    """Whether a value nests deeper than anybody may; `raw` is its text, which mostly has too few brackets for that."""
    if raw and raw.count(b"{") + raw.count(b"[") <= DEPTH_MAX:
        return False
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        inner: list[Any] = []
        for one in level:
            if one.__class__ is dict:
                inner.extend(one.values())
            elif one.__class__ is list:
                inner.extend(one)
        level = [one for one in inner if one.__class__ is dict or one.__class__ is list]
        if not level:
            return False
    return True


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


def _duplicates(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from _duplicates(one, item(path, index))
    elif isinstance(value, Duplicates):
        for key, one in value.items():
            where = below(path, key)
            if key in value.twice:
                yield where
            yield from _duplicates(one, where)


def _go_error(raw: bytes) -> str:
    """Go's sentence for a text that is no JSON."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return f"invalid character '\\x{raw[error.start]:02x}' looking for beginning of value"
    try:
        json.loads(text, parse_int=float)
    except json.JSONDecodeError as error:
        return _translated(error, text)
    except RecursionError:
        return TOO_DEEP
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
    plain = re.sub(r'"(?:[^"\\]++|\\.)*+"', "", text)
    stack: list[str] = []
    for letter in plain:
        if letter in "[{":
            stack.append(letter)
        elif letter in "]}" and stack:
            stack.pop()
    return "array element" if stack and stack[-1] == "[" else "object key:value pair"


# ------------------------------------------------------------------------------------------------------------- YAML
_YAML: Final = "error converting YAML to JSON: "
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc]
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
    if raw.lstrip()[:1] == b"{":
        found = _plain_json(raw)
        if found is not None:
            return _jsonable(found), ()
    if len(raw) > YAML_BYTES_MAX:
        raise BadSyntax(f"{_YAML}yaml: document is larger than {YAML_BYTES_MAX} bytes")
    try:
        text = raw.decode()
        _check_bounds(text)
        loader = _Loader(text)
        try:
            value = _jsonable(loader.get_single_data())
        finally:
            loader.dispose()
    except UnicodeDecodeError:
        raise BadSyntax(f"{_YAML}yaml: invalid leading UTF-8 octet") from None
    except yaml.YAMLError as error:
        raise BadSyntax(f"{_YAML}yaml: {_yaml_words(error)}") from None
    except RecursionError:
        raise BadSyntax(f"{_YAML}yaml: {TOO_DEEP}") from None
    except BadSyntax:
        raise
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        # PyYAML's constructors trust that a tag fits its text: `!!int x`, `2026-13-01`
        raise BadSyntax(f"{_YAML}yaml: unmarshal errors: {error}") from None
    if too_deep(value):
        raise BadSyntax(f"{_YAML}yaml: {TOO_DEEP}")
    return value, tuple(loader.twice)


def _plain_json(raw: bytes) -> Any:
    """The value, where the text is JSON without any key twice, as kubectl sends it; None for whatever YAML has to read."""
    try:
        value, twice = parse_json(raw)
    except BadSyntax:
        return None
    return None if twice else value


def _check_bounds(text: str) -> None:
    """Refuses what would nest too deep or unfold to too much, before anything is built. Raises BadSyntax, YAMLError."""
    sizes: dict[str, int] = {}
    held: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_BASE):
        if isinstance(event, yaml.CollectionStartEvent):
            held.append((event.anchor, total))
            if len(held) > DEPTH_MAX:
                raise BadSyntax(f"{_YAML}yaml: {TOO_DEEP}")
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = held.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in held):
                raise BadSyntax(f"{_YAML}yaml: anchor '{event.anchor}' value contains itself")
            total += sizes.get(event.anchor, 1)
        if total > YAML_NODES_MAX:
            raise BadSyntax(f"{_YAML}yaml: document contains excessive aliasing")


def _yaml_words(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem


def _jsonable(value: Any) -> Any:
    """What YAML knows and JSON does not in JSON's forms. Raises BadSyntax, ValueError."""
    if isinstance(value, dict):
        return {_text(str(_key(key))): _jsonable(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple, set)):
        return [_jsonable(item) for item in value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if value is None or isinstance(value, (int, float)):
        return _number(value)
    return value.isoformat().replace("+00:00", "Z")


def _text(value: str) -> str:
    """The text, if it can travel: half a surrogate pair cannot. Raises UnicodeEncodeError."""
    if not value.isascii():
        value.encode()
    return value


def _number(value: Any) -> Any:
    """A number that JSON has; whole ones beyond 64 bits are inexact, as in Go."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        shown = "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
        raise BadSyntax(f"{_YAML}json: unsupported value: {shown}")
    return value


def _key(key: Any) -> Any:
    """A key of a YAML map as JSON names it."""
    if key is None:
        return "null"
    return str(key).lower() if isinstance(key, bool) else key

"""Label selectors and field selectors: parsed from text or from objects, matched against labels.

The text form is the one of URLs (`a=b,c in (x,y),!d,e>5`); the object form is metav1.LabelSelector. Errors have the words of
k8s.io/apimachinery, because a client sees them in a 400.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from machinery.meta import names

_TOKEN = re.compile(r"\s*(==|!=|=|>|<|!|,|\(|\)|[^\s=!<>,()]+)\s*")
_SYMBOLS: Final = frozenset({"=", "==", "!=", ">", "<", "!", ",", "(", ")"})
_OPERATORS: Final = "['in','notin','=','==','!=','gt','lt']"


class SelectorError(ValueError):
    """The selector cannot be understood; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition. `operator` is in, notin, exists, absent, gt or lt."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator == "in":
            return value is not None and value in self.values
        if self.operator == "notin":
            return value is None or value not in self.values
        if self.operator == "exists":
            return value is not None
        if self.operator == "absent":
            return value is None
        return value is not None and self._compare(value)

    def _compare(self, value: str) -> bool:
        (bound,) = self.values
        try:
            left, right = int(value), int(bound)
        except ValueError:
            return False
        return left > right if self.operator == "gt" else left < right


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; an empty selector matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether a set of labels (or fields) is selected."""
        found = labels or {}
        return all(requirement.matches(found) for requirement in self.requirements)

    def exact(self, key: str) -> str | None:
        """The one value that `key` must have, where the selector says so: what an index can answer."""
        for requirement in self.requirements:
            sole = requirement.operator == "in" and len(requirement.values) == 1
            if requirement.key == key and sole:
                return next(iter(requirement.values))
        return None

    def __bool__(self) -> bool:
        return bool(self.requirements)

    def __str__(self) -> str:
        return ",".join(_text(requirement) for requirement in self.requirements)


EVERYTHING: Final = Selector()
NOTHING: Final = Selector((Requirement("", "in"),))


def _text(requirement: Requirement) -> str:
    key, values = requirement.key, sorted(requirement.values)
    if requirement.operator == "exists":
        return key
    if requirement.operator == "absent":
        return "!" + key
    if requirement.operator in ("gt", "lt"):
        return f"{key}{'>' if requirement.operator == 'gt' else '<'}{values[0]}"
    if len(values) == 1:
        return f"{key}{'=' if requirement.operator == 'in' else '!='}{values[0]}"
    return f"{key} {requirement.operator} ({','.join(values)})"


# ------------------------------------------------------------------------------------------------------------- text form
@lru_cache(maxsize=1024)
def parse(text: str) -> Selector:
    """The label selector of a URL. Raises SelectorError."""
    if not text.strip():
        return EVERYTHING
    return Selector(tuple(sorted(_Parser(text).requirements(), key=lambda r: r.key)))


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            token = self._peek()
            if token in ("", *(_SYMBOLS - {"!"})):
                raise SelectorError(f"found '{token}', expected: !, identifier, or 'end of string'")
            found.append(self._requirement())
            token = self._next()
            if not token:
                return found
            if token != ",":
                raise SelectorError(f"found '{token}', expected: ',' or 'end of string'")
            if self._peek() in ("", ",", ")"):
                raise SelectorError(f"found '{self._peek()}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        absent = self._peek() == "!"
        if absent:
            self._next()
        key = self._next()
        if not key or key in _SYMBOLS:
            raise SelectorError(f"found '{key}', expected: identifier")
        _check_key(key)
        if absent:
            return Requirement(key, "absent")
        if self._peek() in ("", ","):
            return Requirement(key, "exists")
        return self._operation(key)

    def _operation(self, key: str) -> Requirement:
        operator = self._next()
        if operator in ("in", "notin"):
            return Requirement(key, operator, _checked(key, self._set()))
        if operator in ("=", "==", "!="):
            values = _checked(key, frozenset({self._value()}))
            return Requirement(key, "notin" if operator == "!=" else "in", values)
        if operator in (">", "<"):
            return Requirement(key, "gt" if operator == ">" else "lt", _integer(self._value()))
        raise SelectorError(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")

    def _value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        token = self._next()
        if token in _SYMBOLS:
            raise SelectorError(f"found '{token}', expected: identifier")
        return str(token)

    def _set(self) -> frozenset[str]:
        if (token := self._next()) != "(":
            raise SelectorError(f"found '{token}' expected: '('")
        found: set[str] = set()
        while True:
            found.add("" if self._peek() in (",", ")") else self._next())
            token = self._next()
            if token == ")":
                return frozenset(found)
            if token != ",":
                raise SelectorError(f"found '{token}', expected: ',' or ')'")


def _check_key(key: str) -> None:
    if complaints := names.qualified_name(key):
        raise SelectorError(f'key: Invalid value: "{key}": {"; ".join(complaints)}')


def _checked(key: str, values: frozenset[str]) -> frozenset[str]:
    for index, value in enumerate(sorted(values)):
        if complaints := names.label_value(value):
            raise SelectorError(
                f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(complaints)}'
            )
    return values


def _integer(value: str) -> frozenset[str]:
    if not re.fullmatch(r"[+-]?\d+", value):
        raise SelectorError(
            f"values[0]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
        )
    return frozenset({value})


# ----------------------------------------------------------------------------------------------------------- object form
_OBJECT_OPERATORS: Final = {
    "In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent",
}  # fmt: skip


def from_object(selector: Mapping[str, Any] | None) -> Selector:
    """A metav1.LabelSelector: absent selects nothing, empty everything. Raises SelectorError."""
    if selector is None:
        return NOTHING
    pairs: Mapping[str, str] = selector.get("matchLabels") or {}
    found = [Requirement(key, "in", frozenset({value})) for key, value in pairs.items()]
    expressions: Sequence[Mapping[str, Any]] = selector.get("matchExpressions") or ()
    for expression in expressions:
        name = expression.get("operator", "")
        operator = _OBJECT_OPERATORS.get(name)
        if operator is None:
            raise SelectorError(f'"{name}" is not a valid label selector operator')
        values = frozenset(expression.get("values") or ())
        found.append(Requirement(expression.get("key", ""), operator, values))
    return Selector(tuple(sorted(found, key=lambda r: r.key)))


# --------------------------------------------------------------------------------------------------------------- fields
_FIELD_TERM = re.compile(r"(?P<key>(?:[^\\=!]|\\.)*?)(?P<operator>==|!=|=)(?P<value>.*)", re.DOTALL)


def parse_fields(text: str, rename: Callable[[str], str] = lambda key: key) -> Selector:
    """The field selector of a URL: only =, == and !=. `rename` may raise for a field that is not supported."""
    found: list[Requirement] = []
    for term in _split_terms(text):
        if not term:
            continue
        parts = _FIELD_TERM.fullmatch(term)
        if parts is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
        operator = "notin" if parts["operator"] == "!=" else "in"
        value = _unescape(parts["value"])
        found.append(Requirement(rename(parts["key"]), operator, frozenset({value})))
    return Selector(tuple(found))


def _split_terms(text: str) -> list[str]:
    """Split at commas that no backslash hides."""
    return re.findall(r"(?:[^\\,]|\\.)+", text, re.DOTALL)


def _unescape(value: str) -> str:
    if re.search(r"(?<!\\)(?:\\\\)*=", value):
        raise SelectorError(
            f"invalid field selector: unhandled and unescaped character '=' in {value}"
        )
    if re.search(r"\\[^\\,=]|\\$", value):
        raise SelectorError(f"invalid field selector: invalid escape sequence in {value}")
    return re.sub(r"\\([\\,=])", r"\1", value)

"""`x-kubernetes-validations`: rules in CEL, and whether an object obeys them.

The language is Google's own library (cel-expr-python, C++), imported when the first rule is met: a process that has no custom
kinds with rules never loads it, and where it is not installed rules are stored and not enforced, of which whoever writes the
definition is warned. A rule sees `self`, and `oldSelf` where it asks for it: then it is a transition rule, judged only where
there was a value before that corresponds.

Names of fields that are no identifiers are escaped as Kubernetes has it (`__namespace__`, `a__dash__b`). Language and functions
are `machinery.api.expressions`.

Types are checked as far as `self` is a scalar or a list of them; of objects the fields are looked up when a rule runs, and
`unknown_field` finds plain mistakes in their names before. Times and durations within objects are such where a rule names them by a
path from `self`; as the variable of a macro they are text.

What rules may cost is bounded: the length of each, how often they run for one object, the letters that a run may handle
(`expressions.costs`), and by the library itself a run's iterations and depth. Upstream's units of cost are not counted.
"""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from machinery.api.expressions import compiling, library
from machinery.api.expressions.costs import LETTERS_MAX, TEXTS, Size, letters, size_of
from machinery.api.expressions.source import escaped
from machinery.api.fieldpath import below, item
from machinery.api.validation.causes import Causes
from machinery.api.validation.schema_values import ABSENT, keys_of
from machinery.kit.clock import parse_time
from machinery.meta.resource import Document

Schema = Mapping[str, Any]
RULES: Final = "x-kubernetes-validations"
NOT_ENFORCED: Final = "x-kubernetes-validations are stored and not enforced: the package cel-expr-python is not installed here"
_KNOWN_MAX: Final = 512
RULE_LETTERS_MAX: Final = compiling.LETTERS_MAX
RUNS_MAX: Final = 20_000
"""How often rules run for one write: about a second."""
OUT_OF_BUDGET: Final = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)
_KNOWN: dict[int, tuple[Schema, bool]] = {}
_OLD: Final = re.compile(r"\boldSelf\b")
_PATH: Final = re.compile(r"(?<![\w.])(?:self)((?:\.[A-Za-z_]\w*)+)(?!\w)(\()?")
_STAMP: Final[Mapping[str, Schema]] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
    },
}


# -------------------------------------------------------------------------------------------------------- the language
def available() -> bool:
    """Whether rules are enforced."""
    return library.library() is not None


@lru_cache(maxsize=64)
def _scope(self_type: str) -> compiling.Scope:
    scalars = {
        "string": "string", "integer": "int", "number": "double", "boolean": "bool", "bytes": "bytes",
        "time": "timestamp", "duration": "duration",
    }  # fmt: skip
    if self_type.startswith("array:"):
        of = f"list<{scalars.get(self_type[6:], 'dyn')}>"
    else:
        of = scalars.get(self_type, "dyn")
    return compiling.Scope((("self", of), ("oldSelf", of), ("previous", f"list<{of}>")))


_OPTIONAL: Final = (
    "cel.bind(oldSelf, size(previous) > 0 ? optional.of(previous[0]) : optional.none(), {})"
)
"""How a rule gets an optional oldSelf out of the list of its old values, which has one or none."""


def _program(self_type: str, expression: str, *, optional: bool = False) -> compiling.Program:
    """The compiled expression. Raises CompileFault."""
    text = _OPTIONAL.format(expression) if optional else expression
    return compiling.compiled(_scope(self_type), text)


def compile_fault(schema: Schema, expression: str, *, optional: bool = False) -> str:
    """Why an expression does not compile where it stands; empty where it does. `optional`: with an optional oldSelf."""
    try:
        _program(_type_name(schema), expression, optional=optional)
    except compiling.CompileFault as error:
        return str(error)
    return ""


def result_type(schema: Schema, expression: str) -> str:
    """`bool`, `string` …, or `dyn` where that is only known when it runs."""
    return _program(_type_name(schema), expression).returns


def uses_old(rule: str) -> bool:
    """Whether it is a transition rule."""
    return _OLD.search(TEXTS.sub("''", rule)) is not None


# ---------------------------------------------------------------------------------------------------- looking at rules
def has_rules(schema: Schema) -> bool:
    """Whether there is a rule anywhere in a schema."""
    known = _KNOWN.get(id(schema))
    if known is None:
        if len(_KNOWN) >= _KNOWN_MAX:
            _KNOWN.clear()
        known = _KNOWN[id(schema)] = (schema, _any_rule(schema))
    return known[1]


def _any_rule(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    if schema.get(RULES):
        return True
    parts = [*(schema.get("properties") or {}).values()]
    parts += [schema.get("items"), schema.get("additionalProperties")]
    return any(_any_rule(part) for part in parts)


def unknown_field(schema: Schema, rule: str) -> tuple[str, int] | None:
    """(a field of `self` that the schema does not have, where the rule names it); None when there is none to be seen."""
    for found in _PATH.finditer(TEXTS.sub(lambda m: "'" * len(m[0]), rule)):
        names = found[1].split(".")[1:]
        if found[2]:
            names.pop()  # a method
        node, at = schema, found.start(1)
        for name in names:
            properties = node.get("properties")
            if not properties or node.get("additionalProperties") or _is_open(node):
                break
            known = {escaped(key): part for key, part in properties.items()}
            if node.get("x-kubernetes-embedded-resource") or node is schema:
                known = {**_STAMP, **known}
            if name not in known:
                return name, at + 1
            node, at = known[name], at + len(name) + 1
    return None


def path_type(schema: Schema, rule: str) -> str:
    """The type of what a rule names, where it is nothing but a path; empty where it is more."""
    found = _PATH.fullmatch(rule.strip())
    if found is None or found[2]:
        return ""
    node = schema
    for name in found[1].split(".")[1:]:
        known = {escaped(key): part for key, part in (node.get("properties") or {}).items()}
        node = known.get(name) or {}
    return str(node.get("type") or "")


def _is_open(node: Schema) -> bool:
    return bool(node.get("x-kubernetes-preserve-unknown-fields"))


# --------------------------------------------------------------------------------------------------- judging an object
def check(schema: Schema, document: Document, old: Document | None, causes: Causes) -> None:
    """The complaints of all rules about an object, and about its change from `old`."""
    if not available():
        return
    properties = {**(schema.get("properties") or {}), **_STAMP}
    whole = {**schema, "properties": properties}
    budget = _Budget(size_of(document, old))
    try:
        _check(whole, document, ABSENT if old is None else old, "", causes, budget)
    except _OutOfBudget as error:
        causes.invalid(str(error) or "<nil>", "object", OUT_OF_BUDGET)


class _OutOfBudget(Exception):
    """Rules ran too often; the message is the path where it was."""


class _Budget:
    """What is left for one object."""

    def __init__(self, size: Size) -> None:
        self._left, self._size = RUNS_MAX, size

    def spend(self, rule: Document, path: str) -> None:
        """One run more, of what may be handled at all. Raises _OutOfBudget."""
        self._left -= 1
        told = rule.get("messageExpression") or ""
        if self._left < 0 or letters(rule.get("rule", ""), self._size) > LETTERS_MAX:
            raise _OutOfBudget(path)
        if told and letters(told, self._size) > LETTERS_MAX:
            raise _OutOfBudget(path)


def _check(
    schema: Schema, value: Any, old: Any, path: str, causes: Causes, budget: _Budget
) -> None:
    for rule in schema.get(RULES) or ():
        budget.spend(rule, path)
        _judge(schema, rule, value, old, path, causes)
    for part, one, was, where in _parts(schema, value, old, path):
        if one is not None and has_rules(part):
            _check(part, one, was, where, causes, budget)


def _parts(
    schema: Schema, value: Any, old: Any, path: str
) -> Iterator[tuple[Schema, Any, Any, str]]:
    if value.__class__ is list:
        items = schema.get("items")
        if isinstance(items, Mapping):
            keyed = schema.get("x-kubernetes-list-type") == "map" and old.__class__ is list
            known = {repr(keys_of(schema, one)): one for one in old} if keyed else {}
            for index, one in enumerate(value):
                was = known.get(repr(keys_of(schema, one)), ABSENT) if keyed else ABSENT
                yield items, one, was, item(path, index)
    elif value.__class__ is dict:
        before = old if old.__class__ is dict else {}
        others = schema.get("additionalProperties")
        properties: Schema = schema.get("properties") or {}
        for key, one in value.items():
            part = properties.get(key) or (others if isinstance(others, Mapping) else None)
            if part is not None:
                yield part, one, before.get(key, ABSENT), below(path, key)


def _judge(schema: Schema, rule: Document, value: Any, old: Any, path: str, causes: Causes) -> None:
    text = rule.get("rule", "")
    data = {"self": _top(schema, value)}
    optional = bool(rule.get("optionalOldSelf"))
    if optional:
        data["previous"] = [] if old is ABSENT else [_top(schema, old)]
    elif uses_old(text):
        if old is ABSENT:
            return
        data["oldSelf"] = _top(schema, old)
    answer, fault = _run(schema, text, data, optional=optional)
    field = (path + rule.get("fieldPath", "")).removeprefix(".") or "<nil>"
    if fault.startswith(_EXHAUSTED):
        told = f"no further validation rules will be run due to call cost exceeds limit for rule: {text}"
        causes.invalid(path or "<nil>", "object", told)
    elif fault:
        said = rule.get("message") or text
        kind = {"list": "array", "dict": "object", "str": "string", "int": "integer"}
        name = kind.get(type(value).__name__, type(value).__name__)
        causes.invalid(path or "<nil>", name, f"{fault} evaluating rule: {said}")
    elif answer is not True:
        _complain(rule, field, value, _message(schema, rule, data), causes)


def _message(schema: Schema, rule: Document, data: Mapping[str, Any]) -> str:
    if expression := rule.get("messageExpression"):
        optional = bool(rule.get("optionalOldSelf"))
        told, fault = _run(schema, expression, data, optional=optional)
        if not fault and isinstance(told, str) and told.strip() and "\n" not in told:
            return told
    return str(rule.get("message") or f"failed rule: {rule.get('rule', '').strip()}")


def _complain(rule: Document, field: str, value: Any, text: str, causes: Causes) -> None:
    match rule.get("reason"):
        case "FieldValueForbidden":
            causes.forbidden(field, text)
        case "FieldValueRequired":
            causes.required(field, text)
        case "FieldValueDuplicate":
            causes.duplicate(field, value)
        case _ if isinstance(value, (dict, list)):
            causes.append(
                {"reason": "FieldValueInvalid", "message": f"Invalid value: {text}", "field": field}
            )
        case _:
            causes.invalid(field, value, text)


_EXHAUSTED: Final = "operation cancelled"


def _run(
    schema: Schema, expression: str, data: Mapping[str, Any], *, optional: bool
) -> tuple[Any, str]:
    """(the answer, what went wrong)."""
    try:
        program = _program(_type_name(schema), _typed(schema, expression), optional=optional)
        return program.value(compiling.activation(data)), ""
    except (compiling.CompileFault, compiling.EvaluationFault) as error:
        return None, str(error)


_TIMES: Final = {"time": "timestamp", "duration": "duration"}
_FIELD: Final = re.compile(r"(?<![\w.])(has\(\s*)?((?:self|oldSelf)((?:\.[A-Za-z_]\w*)+))(?![\w(])")


def _typed(schema: Schema, expression: str) -> str:
    """The expression with those fields of `self` that are times or durations read as such: within objects they are text."""
    if not schema.get("properties"):
        return expression

    def read(found: "re.Match[str]") -> str:
        node: Schema = schema
        for name in found[3].split(".")[1:]:
            known = {escaped(key): part for key, part in (node.get("properties") or {}).items()}
            node = known.get(name) or {}
        function = _TIMES.get(_type_name(node))
        return found[0] if found[1] or function is None else f"{function}({found[2]})"

    return _FIELD.sub(read, expression)


# -------------------------------------------------------------------------------------------------------------- values
def _type_name(schema: Schema) -> str:
    kind = str(schema.get("type") or "")
    if kind == "string":
        form = schema.get("format")
        return {"date-time": "time", "date": "time", "duration": "duration", "byte": "bytes"}.get(
            str(form), "string"
        )
    if kind == "array":
        return f"array:{_type_name(schema.get('items') or {})}"
    return kind


def _top(schema: Schema, value: Any) -> Any:
    """What a rule stands at; a time or duration is one, and not its text."""
    if value.__class__ is str:
        return _special(_type_name(schema), value)
    return _value(schema, value)


def _value(schema: Schema, value: Any) -> Any:
    """A value as CEL takes it: escaped names, doubles where the schema says number, times as text that can be read."""
    if value.__class__ is dict:
        properties: Schema = schema.get("properties") or {}
        others = schema.get("additionalProperties")
        inner = others if isinstance(others, Mapping) else {}
        return {
            (escaped(key) if key in properties else key): _value(properties.get(key, inner), one)
            for key, one in value.items()
        }
    if value.__class__ is list:
        items = schema.get("items") or {}
        return [_value(items, one) for one in value]
    if value.__class__ is str:
        dated = _type_name(schema) == "time" and "T" not in value
        return f"{value}T00:00:00Z" if dated else value
    if schema.get("type") == "number" and value.__class__ is int:
        return float(value)
    return int(value) if schema.get("type") == "integer" and value.__class__ is float else value


_PART: Final = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _special(kind: str, text: str) -> Any:
    try:
        if kind == "time":
            return parse_time(text if "T" in text else f"{text}T00:00:00Z")
        if kind == "bytes":
            return text.encode()
    except ValueError:
        return text
    if kind == "duration":
        return _duration(text)
    return text


def _duration(text: str) -> Any:
    """The duration; the text itself where it is none that can be held."""
    try:
        seconds = sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(text))
        return dt.timedelta(seconds=-seconds if text.startswith("-") else seconds)
    except (ValueError, OverflowError):
        return text

"""`x-kubernetes-validations`: rules in CEL, and whether an object obeys them.

The language is Google's own library (cel-expr-python, C++), imported when the first rule is met: a process that has no custom
kinds with rules never loads it, and where it is not installed rules are stored and not enforced, of which whoever writes the
definition is warned. A rule sees `self`, and `oldSelf` where it asks for it: then it is a transition rule, judged only where
there was a value before that corresponds.

Names of fields that are no identifiers are escaped as Kubernetes has it (`__namespace__`, `a__dash__b`). Language and functions
are `machinery.api.expressions`.

Types are those that the schema declares (`expressions.typed`), so a text of the format `date-time` is a time wherever it stands.

What rules may cost is bounded: the length of each, how often they run for one object, the letters that a run may handle
(`expressions.costs`), and by the library itself a run's iterations and depth. Upstream's units of cost are not counted.
"""

import base64
import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from machinery.api.expressions import compiling, library
from machinery.api.expressions.costs import LETTERS_MAX, Size, letters, size_of
from machinery.api.expressions.declared import Declared, with_stamp
from machinery.api.expressions.functions.shape import carried
from machinery.api.expressions.source import escaped
from machinery.api.expressions.typed import RULES, Typed, typed, uses_old
from machinery.api.fieldpath import below, item
from machinery.api.validation.causes import Causes
from machinery.api.validation.schema_values import ABSENT, keys_of
from machinery.kit.clock import parse_time
from machinery.meta.resource import Document

Schema = Mapping[str, Any]
NOT_ENFORCED: Final = "x-kubernetes-validations are stored and not enforced: the package cel-expr-python is not installed here"
_KNOWN_MAX: Final = 512
RULE_LETTERS_MAX: Final = compiling.LETTERS_MAX
RUNS_MAX: Final = 20_000
"""How often rules run for one write: about a second."""
OUT_OF_BUDGET: Final = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)
_KNOWN: dict[int, tuple[Schema, bool]] = {}
_TYPED: dict[int, tuple[Schema, Typed]] = {}
_EXHAUSTED: Final = "operation cancelled"


# -------------------------------------------------------------------------------------------------------- the language
def available() -> bool:
    """Whether rules are enforced."""
    return library.library() is not None


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


# --------------------------------------------------------------------------------------------------- judging an object
def check(schema: Schema, document: Document, old: Document | None, causes: Causes) -> None:
    """The complaints of all rules about an object, and about its change from `old`."""
    if not available() or not has_rules(schema):
        return
    judging = _Judging(_typed(schema), _Budget(size_of(document, old)), causes)
    try:
        judging.node(with_stamp(schema), "", document, ABSENT if old is None else old, "")
    except _OutOfBudget as error:
        causes.invalid(str(error) or "<nil>", "object", OUT_OF_BUDGET)


def _typed(schema: Schema) -> Typed:
    known = _TYPED.get(id(schema))
    if known is None:
        if len(_TYPED) >= _KNOWN_MAX:
            _TYPED.clear()
        known = _TYPED[id(schema)] = (schema, typed(schema))
    return known[1]


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


class _Judging:
    """One object before the rules of its schema."""

    def __init__(self, known: Typed, budget: _Budget, causes: Causes) -> None:
        self._known, self._budget, self._causes = known, budget, causes

    def node(self, schema: Schema, where: str, value: Any, old: Any, path: str) -> None:
        """A value and what is in it; `where` is the path in the schema, `path` that in the object."""
        declared = self._known.nodes.get(where)
        if declared is not None:
            now = _value(schema, value)
            before = () if old is ABSENT else (_value(schema, old),)
            for rule in schema.get(RULES) or ():
                self._budget.spend(rule, path)
                self._rule(declared, rule, (now, *before), value, path)
        for part, inner, one, was, at in _parts(schema, value, old, path):
            if one is not None and has_rules(part):
                self.node(part, where + inner, one, was, at)

    def _rule(
        self, declared: Declared, rule: Document, given: tuple[Any, ...], value: Any, path: str
    ) -> None:
        """`given`: the value, and the old one where there is one, as CEL takes them."""
        text, optional = rule.get("rule", ""), bool(rule.get("optionalOldSelf"))
        data = self._known.given(declared, *given, optional=optional)
        try:
            program = self._known.program(declared, text, optional=optional)
            if len(given) == 1 and not optional and uses_old(program.names):
                return
            answer, fault = program.value(compiling.activation(data)), ""
        except (compiling.CompileFault, compiling.EvaluationFault) as error:
            answer, fault = None, str(error)
        if fault:
            _failed(rule, value, path, fault, self._causes)
        elif answer is not True:
            field = (path + rule.get("fieldPath", "")).removeprefix(".") or "<nil>"
            _complain(rule, field, value, self._message(declared, rule, data), self._causes)

    def _message(self, declared: Declared, rule: Document, data: Mapping[str, Any]) -> str:
        if expression := rule.get("messageExpression"):
            optional = bool(rule.get("optionalOldSelf"))
            try:
                program = self._known.program(declared, expression, optional=optional)
                told = program.value(compiling.activation(data))
            except (compiling.CompileFault, compiling.EvaluationFault):
                told = None
            if isinstance(told, str) and told.strip() and "\n" not in told:
                return told
        return str(rule.get("message") or f"failed rule: {rule.get('rule', '').strip()}")


def _failed(rule: Document, value: Any, path: str, fault: str, causes: Causes) -> None:
    """A rule that did not come to an answer."""
    text = rule.get("rule", "")
    if fault.startswith(_EXHAUSTED):
        told = f"no further validation rules will be run due to call cost exceeds limit for rule: {text}"
        causes.invalid(path or "<nil>", "object", told)
        return
    said = rule.get("message") or text
    kind = {"list": "array", "dict": "object", "str": "string", "int": "integer"}
    name = kind.get(type(value).__name__, type(value).__name__)
    causes.invalid(path or "<nil>", name, f"{fault} evaluating rule: {said}")


def _parts(
    schema: Schema, value: Any, old: Any, path: str
) -> Iterator[tuple[Schema, str, Any, Any, str]]:
    """(schema, where in this one, value, the old one, path) of what is in a value."""
    if value.__class__ is list:
        items = schema.get("items")
        if isinstance(items, Mapping):
            keyed = schema.get("x-kubernetes-list-type") == "map" and old.__class__ is list
            known = {repr(keys_of(schema, one)): one for one in old} if keyed else {}
            for index, one in enumerate(value):
                was = known.get(repr(keys_of(schema, one)), ABSENT) if keyed else ABSENT
                yield items, ".items", one, was, item(path, index)
    elif value.__class__ is dict:
        before = old if old.__class__ is dict else {}
        others = schema.get("additionalProperties")
        properties: Schema = schema.get("properties") or {}
        for key, one in value.items():
            if (part := properties.get(key)) is not None:
                yield part, f".properties[{key}]", one, before.get(key, ABSENT), below(path, key)
            elif isinstance(others, Mapping):
                where = ".additionalProperties"
                yield others, where, one, before.get(key, ABSENT), below(path, key)


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


# -------------------------------------------------------------------------------------------------------------- values
def _value(schema: Schema, value: Any) -> Any:
    """A value as CEL takes it: escaped names, doubles where the schema says number, times and bytes where it says so."""
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
        read = _READ.get(schema.get("format") or "") if schema.get("type") == "string" else None
        return carried(read(value)) if read else value
    if schema.get("type") == "number" and value.__class__ is int:
        return float(value)
    return int(value) if schema.get("type") == "integer" and value.__class__ is float else value


_PART: Final = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _time(text: str) -> Any:
    """The time, of a date its begin; the text itself where it is none."""
    try:
        return parse_time(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError:
        return text


def _bytes(text: str) -> Any:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text


def _duration(text: str) -> Any:
    """The duration; the text itself where it is none that can be held."""
    try:
        seconds = sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(text))
        return dt.timedelta(seconds=-seconds if text.startswith("-") else seconds)
    except (ValueError, OverflowError):
        return text


_READ: Final[Mapping[str, Callable[[str], Any]]] = {
    "date-time": _time, "date": _time, "duration": _duration, "byte": _bytes,
}  # fmt: skip
"""Formats whose texts are values of their own."""

"""Whether the rules of a definition may stand: how they are written, whether they compile, what they cost at worst.

The costs are upstream's estimates (`expressions.estimates`): of one rule as often as its node can be in an object, and of all
rules of a schema together.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from machinery.api.expressions import estimates
from machinery.api.expressions.checked import Checked
from machinery.api.expressions.compiling import CompileFault
from machinery.api.expressions.declared import Declared
from machinery.api.expressions.typed import RULES, Typed, has_rules, parts, typed, uses_old
from machinery.api.validation.causes import Causes
from machinery.meta.resource import Document

Schema = Mapping[str, Any]
_REASONS: Final = (
    "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired",
)  # fmt: skip
_DEAREST: Final = 4
"""So many rules are named where all together are too dear."""
_HINT: Final = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
_UNTYPED: Final = (
    "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural "
    "schema to CEL declarations"
)


# ---------------------------------------------------------------------------------------------------------------- form
def form(rule: Document, path: str, causes: Causes) -> None:
    """How a rule is written, without looking at what it says."""
    text, message = str(rule.get("rule") or "").strip(), rule.get("message")
    if not text:
        causes.required(f"{path}.rule", "rule is not specified")
    elif message and not message.strip():
        causes.invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif message and "\n" in message.strip():
        causes.invalid(f"{path}.message", message, "must not contain line breaks")
    elif "\n" in text and not message:
        told = "message must be specified if rule contains line breaks"
        causes.required(f"{path}.message", told)
    expression = rule.get("messageExpression")
    if expression and not expression.strip():
        told = "messageExpression must be non-empty if specified"
        causes.required(f"{path}.messageExpression", told)
    if (reason := rule.get("reason")) is not None:
        causes.one_of(f"{path}.reason", reason, _REASONS)
    field = rule.get("fieldPath")
    if field and not field.strip():
        causes.invalid(f"{path}.fieldPath", field, "fieldPath must be non-empty if specified")
    if field and "\n" in field:
        causes.invalid(f"{path}.fieldPath", field, "fieldPath must not contain line breaks")


# ------------------------------------------------------------------------------------------------------------- meaning
class _At(NamedTuple):
    """A node with rules."""

    schema: Schema
    where: str
    """Its path in the schema."""
    times: int | None
    """How often it can be in an object; None where nothing bounds that."""
    loose: str | None
    """The path of the first list or map in which old and new cannot be told to belong together."""


def meaning(
    schema: Schema, path: str, faulty: list[str], causes: Causes, *, unchanged: bool
) -> None:
    """What rules say and cost. `faulty`: paths of complaints about the schema, around which no rule is judged. `unchanged`:
    they stood there before, and may go on to."""
    if not has_rules(schema):
        return
    known = typed(schema)
    spent = _Spent()
    for node in _nodes(schema, _At(schema, "", 1, None)):
        at = path + node.where
        if any(one.startswith(at) for one in faulty):
            continue
        declared = known.nodes.get(node.where)
        if declared is None:
            message = f"Internal error: {_UNTYPED}"
            causes.append({"reason": "InternalError", "message": message, "field": f"{at}.{RULES}"})
            continue
        for index, rule in enumerate(node.schema[RULES]):
            judged = _Judged(known, node, declared, f"{at}.{RULES}[{index}]", unchanged)
            judged.rule(rule, path, spent, causes)
    spent.tell(path, causes)


def _nodes(schema: Schema, at: _At) -> Iterator[_At]:
    """Those with rules, inner ones first."""
    times = None if at.times is None else _many(schema, at.times)
    for where, part, name in parts(schema):
        loose = at.loose
        if loose is None and not _correlates(schema, name):
            loose = at.where
        yield from _nodes(part, _At(part, at.where + where, times, loose))
    if schema.get(RULES):
        yield at


def _many(schema: Schema, times: int) -> int | None:
    """How often what is in a node can be."""
    kind = schema.get("type")
    if kind == "array":
        most = schema.get("maxItems")
    elif kind == "object" and schema.get("additionalProperties") is not None:
        most = schema.get("maxProperties")
    else:
        return times
    return None if most is None else estimates.product(times, max(0, most))


def _correlates(schema: Schema, name: str) -> bool:
    if name == "@items":
        return schema.get("x-kubernetes-list-type") == "map"
    return name == "@values" or schema.get("x-kubernetes-map-type") != "atomic"


class _Spent:
    """What all rules of a schema cost."""

    def __init__(self) -> None:
        self._total = 0
        self._dear: list[tuple[int, str]] = []

    def add(self, field: str, units: int) -> None:
        self._total = min(self._total + units, estimates.MOST)
        if units >= estimates.PER_SCHEMA // 100:
            self._dear.append((units, field))

    def tell(self, path: str, causes: Causes) -> None:
        """That it is too much."""
        if self._total <= estimates.PER_SCHEMA:
            return
        self._dear.sort(key=lambda one: -one[0])
        for _, field in self._dear[:_DEAREST]:
            told = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            causes.forbidden(field, told)
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        causes.forbidden(path, exceeds(what, self._total, estimates.PER_SCHEMA))


def exceeds(what: str, units: int, most: int) -> str:
    """That something costs too much, and how much too much."""
    factor = units / most
    told = "more than 100x" if factor > 100 else f"{factor:.6f}x" if factor < 1.5 else f"{factor:.1f}x"  # fmt: skip
    return f"{what} exceeds budget by factor of {told} {_HINT}"


class _Judged(NamedTuple):
    """Where a rule stands."""

    known: Typed
    node: _At
    declared: Declared
    path: str
    unchanged: bool

    def rule(self, rule: Document, root: str, spent: _Spent, causes: Causes) -> None:
        shown = {
            "Rule": rule.get("rule", ""),
            "Message": rule.get("message") or "",
            "MessageExpression": rule.get("messageExpression") or "",
            "Reason": rule.get("reason"),
            "FieldPath": rule.get("fieldPath") or "",
            "OptionalOldSelf": rule.get("optionalOldSelf"),
        }
        found, fault = self._compiled(rule, rule.get("rule", ""), "bool")
        old = False
        if found is not None:
            units = estimates.cost(found, self.declared)
            times = self.node.times
            often = estimates.repeated(self.declared) if times is None else times
            self._spend("rule", estimates.product(units, often), spent, causes)
            old = uses_old(found.names())
        if fault:
            invalid_go(f"{self.path}.rule", shown, fault, causes)
        elif expression := rule.get("messageExpression"):
            found, fault = self._compiled(rule, expression, "string")
            if found is not None:
                units = estimates.cost(found, self.declared)
                self._spend("messageExpression", units, spent, causes)
            if fault:
                invalid_go(f"{self.path}.messageExpression", shown, fault, causes)
        if old and self.node.loose is not None:
            where = root + self.node.loose
            told = (
                f"oldSelf cannot be used on the uncorrelatable portion of the schema within {where}"
            )
            causes.invalid(f"{self.path}.rule", rule.get("rule", ""), told)
        elif not old and (optional := rule.get("optionalOldSelf")) is not None:
            told = "may not be set if oldSelf is not used in rule"
            causes.invalid(f"{self.path}.optionalOldSelf", optional, told)

    def _compiled(self, rule: Document, text: str, kind: str) -> tuple[Checked | None, str]:
        optional = bool(rule.get("optionalOldSelf"))
        rules = kind == "bool"
        try:
            found = self.known.check(self.declared, text, optional=optional)
        except CompileFault as error:
            return None, f"{'' if rules else 'messageExpression '}compilation failed: {error}"
        returns = found.returns()
        if returns == kind or (returns == "dyn" and self.known.vague):
            return found, ""
        return (
            None,
            f"{'cel expression' if rules else 'messageExpression'} must evaluate to a {kind}",
        )

    def _spend(self, what: str, units: int, spent: _Spent, causes: Causes) -> None:
        field = f"{self.path}.{what}"
        if units > estimates.PER_RULE and not self.unchanged:
            causes.forbidden(field, exceeds(f"estimated {what} cost", units, estimates.PER_RULE))
        spent.add(field, units)


def invalid_go(field: str, value: Any, detail: str, causes: Causes) -> None:
    """A value in a message as Go's encoder writes it, which escapes what HTML would read."""
    plain = Causes()
    plain.invalid(field, value, detail)
    head, middle, tail = plain[0]["message"].partition(f": {detail}")
    for letter, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        head = head.replace(letter, code)
    causes.append({**plain[0], "message": head + middle + tail})

"""Policies and bindings as they are asked: criteria read, expressions compiled. Pure.

Compiling takes some milliseconds for each policy and is done when a write first meets it; what stays the same from one version of a
policy to the next, and its bindings, compile nothing anew.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from machinery.api.expressions import admission
from machinery.api.expressions.admission import Variables
from machinery.api.expressions.compiling import CompileFault, Program, Scope
from machinery.api.validation.policies import FIELD_OF, MADE_BY, without_authorizer
from machinery.meta.resource import Document
from machinery.meta.selectors import SelectorError
from machinery.server.admission.matching import EQUIVALENT, Asked, Criteria, Equivalents, Rule

Compiled = Program | CompileFault
MUTATING: Final = "MutatingAdmissionPolicy"


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding. Its fault is that of a selector that cannot be read."""

    name: str
    criteria: Criteria | None
    """None: whatever the policy is about."""
    fault: str
    ref: Document | None
    actions: tuple[str, ...]

    @classmethod
    def of(cls, document: Document) -> "Binding":
        """Read from a stored binding of either sort."""
        spec = document.get("spec") or {}
        criteria, fault = _criteria(spec.get("matchResources"))
        actions = tuple(spec.get("validationActions") or ())
        return cls(document["metadata"]["name"], criteria, fault, spec.get("paramRef"), actions)


def _criteria(resources: Document | None) -> tuple[Criteria | None, str]:
    if resources is None:
        return None, ""
    try:
        return Criteria.of_policy(resources), ""
    except SelectorError as error:
        return None, str(error)


class Policy:
    """A policy of either sort."""

    def __init__(self, document: Document) -> None:
        self.spec: Document = document.get("spec") or {}
        self.kind = str(document.get("kind") or "")
        self.name = str(document["metadata"]["name"])
        self.criteria, self.fault = _criteria(self.spec.get("matchConstraints") or {})
        self.ignores = self.spec.get("failurePolicy") == "Ignore"
        self.again = self.spec.get("reinvocationPolicy") == "IfNeeded"
        self.param_kind: Document | None = self.spec.get("paramKind")

    def may_match(self, asked: Asked, equivalents: Equivalents) -> bool:
        """By its rules alone, which look at neither labels nor names."""
        if self.criteria is None or not self.criteria.rules:
            return True
        if any(_may(rule, asked) for rule in self.criteria.rules):
            return True
        return self.criteria.policy == EQUIVALENT and any(
            _may(rule, asked, kind)
            for kind in equivalents.of(asked.kind)
            for rule in self.criteria.rules
        )

    # ------------------------------------------------------------------------------------------------------ programs
    @cached_property
    def _variables(self) -> tuple[Variables, Scope]:
        known = admission.scope(params=self.param_kind is not None, authorizer=True)
        return Variables.of(self.spec.get("variables") or (), known)

    @property
    def variables(self) -> Variables:
        """Its own variables."""
        return self._variables[0]

    @cached_property
    def conditions(self) -> list[tuple[str, Compiled]]:
        """Its match conditions: (name, program)."""
        known = admission.scope(params=self.param_kind is not None, authorizer=True)
        return [
            (one.get("name", ""), compiled(known, one["expression"].strip(), "bool"))
            for one in self.spec.get("matchConditions") or ()
        ]

    @cached_property
    def validations(self) -> list[tuple[Document, Compiled, Compiled | None]]:
        """(the validation, its expression, what makes its message)."""
        known = self._variables[1]
        told = without_authorizer(known)
        out: list[tuple[Document, Compiled, Compiled | None]] = []
        for one in self.spec.get("validations") or ():
            text = one.get("messageExpression")
            message = compiled(told, text, "string") if text else None
            out.append((one, compiled(known, one["expression"], "bool"), message))
        return out

    @cached_property
    def annotations(self) -> list[tuple[str, Compiled]]:
        """(key, what makes the value) of annotations for the audit log."""
        known = self._variables[1]
        return [
            (one["key"], compiled(known, one["valueExpression"].strip(), "string", "null_type"))
            for one in self.spec.get("auditAnnotations") or ()
        ]

    @cached_property
    def mutations(self) -> list[tuple[str, Compiled]]:
        """(`ApplyConfiguration` or `JSONPatch`, its expression)."""
        known = self._variables[1]._replace(structs=True)
        out = []
        for one in self.spec.get("mutations") or ():
            kind = one["patchType"]
            text = (one.get(FIELD_OF[kind]) or {}).get("expression", "")
            out.append((kind, compiled(known, text, MADE_BY[kind])))
        return out


def _may(rule: Rule, asked: Asked, kind: Any = None) -> bool:
    """Whether the rule may be about such a write; of what name it is about does not count."""
    bare = Rule(rule.operations, rule.groups, rule.versions, rule.resources, rule.scope)
    return bare.matches(asked, kind)


def compiled(known: Scope, text: str, *returns: str) -> Compiled:
    """The program, or why there is none."""
    try:
        return admission.compiled(known, text, *returns)
    except CompileFault as fault:
        return fault

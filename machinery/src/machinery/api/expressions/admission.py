"""Expressions on a write: what they may name, what they are given, and what they may cost.

Variables: `object`, `oldObject`, `request`, `namespaceObject`, `params` where a policy has a kind of them, `authorizer` and
`authorizer.requestResource` where they may be asked, `variables.…` of the policy. An `Evaluation` is one write with one set of
parameters: values are converted once, a policy's variables run when they are first needed, and all that runs shares a budget
(upstream's units of cost are not counted; what may be handled is estimated from above, as for rules of definitions).
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final

from machinery.api.expressions import compiling, records
from machinery.api.expressions.compiling import CompileFault, EvaluationFault, Program, Scope
from machinery.api.expressions.costs import (
    LETTERS_MAX,
    Size,
    estimate,
    handles_text,
    letters,
    size_of,
)
from machinery.api.expressions.functions import authorizing
from machinery.api.expressions.functions.authorizing import Answer, Question
from machinery.api.expressions.functions.shape import AUTHORIZER, RESOURCE_CHECK, carried
from machinery.api.expressions.functions.variables import PREFIX, looking_up
from machinery.api.expressions.library import library
from machinery.kit.clock import parse_time
from machinery.meta.resource import Document

NOT_INSTALLED: Final = "the package cel-expr-python is not installed here"
OUT_OF_BUDGET: Final = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)
BUDGET_LETTERS: Final = 2 * LETTERS_MAX
"""Of all expressions of one policy with one set of parameters: about a second."""
_UNDECLARABLE: Final = re.compile(r"null_type|(?<!optional_)\btype\b")
_LITTLE: Final = BUDGET_LETTERS // 64
_NAMESPACE_TIMES: Final = ("creationTimestamp", "deletionTimestamp")


@lru_cache(maxsize=8)
def scope(*, params: bool, authorizer: bool, structs: bool = False) -> Scope:
    """What expressions may name, a policy's own variables aside."""
    found = [
        ("object", "dyn"),
        ("oldObject", "dyn"),
        ("namespaceObject", records.NAMESPACE),
        ("request", records.REQUEST),
    ]
    if params:
        found.append(("params", "dyn"))
    if authorizer:
        found += [("authorizer", AUTHORIZER), ("authorizer.requestResource", RESOURCE_CHECK)]
    return Scope(tuple(found), structs=structs, records=records.admission())


def compiled(known: Scope, text: str, *returns: str) -> Program:
    """The program, whose type must be one of these (none: any). Raises CompileFault in upstream's words."""
    if library() is None:
        raise CompileFault(NOT_INSTALLED)
    try:
        program = compiling.compiled(known, text)
    except CompileFault as fault:
        raise CompileFault(f"compilation failed: {fault}") from None
    if returns and program.returns not in returns:
        wanted = returns[0] if len(returns) == 1 else f"one of [{' '.join(returns)}]"
        raise CompileFault(f"must evaluate to {wanted} but got {program.returns}")
    return program


class OutOfBudget(EvaluationFault):
    """What was asked so far is all that may be asked."""

    def __init__(self) -> None:
        super().__init__(OUT_OF_BUDGET)


@dataclass
class Variables:
    """A policy's own ones: their programs, or why there is none."""

    programs: dict[str, Program | CompileFault] = field(default_factory=dict)

    @classmethod
    def of(cls, listed: Iterable[Mapping[str, Any]], known: Scope) -> tuple["Variables", Scope]:
        """Compiled one after the other, since each may name those before it; and the scope with all of them."""
        found = cls()
        for one in listed:
            name, text = one.get("name", ""), one.get("expression", "")
            try:
                program: Program | CompileFault = compiled(known, text)
            except CompileFault as fault:
                program = fault
            found.programs[name] = program
            kind = cls.declared(program.returns) if isinstance(program, Program) else "dyn"
            known = known.having(PREFIX + name, kind)
        return found, known

    @staticmethod
    def declared(returns: str) -> str:
        """A type as upstream writes it, as it is declared; one that cannot be is anything."""
        if _UNDECLARABLE.search(returns):
            return "dyn"
        return returns.replace("(", "<").replace(")", ">").replace(", ", ",")


@dataclass
class Given:
    """What expressions are given of one write."""

    object: Document | None
    old: Document | None
    request: Document
    namespace: Document | None = None
    params: Document | None = None
    answer: Answer | None = None
    """Who answers what `authorizer` asks."""
    resource: Question | None = None
    """The request as `authorizer.requestResource` starts from it."""


class Evaluation:
    """One write with one set of parameters, for one policy."""

    def __init__(self, given: Given, variables: Variables | None = None) -> None:
        self._given = given
        self._variables = variables or Variables()
        self._values: dict[str, Any] = {}
        self._activation = compiling.activation(_values(given))
        self._left = BUDGET_LETTERS

    def value(self, program: Program) -> Any:
        """Raises EvaluationFault; OutOfBudget where nothing more may be asked."""
        if handles_text(program.text):
            self._left -= self._letters(program.text)
            if self._left < 0:
                raise OutOfBudget
        with ExitStack() as held:
            held.enter_context(looking_up(self._variable))
            if self._given.answer is not None:
                held.enter_context(authorizing.answering(self._given.answer))
            try:
                return program.value(self._activation)
            except compiling.Exhausted:
                raise OutOfBudget from None

    def _letters(self, text: str) -> int:
        """By the quick estimate where that is nothing to speak of, else exactly."""
        found = letters(text, self._quick)
        return found if found < _LITTLE else letters(text, self._exact)

    @cached_property
    def _quick(self) -> Size:
        return estimate(self._given.object, self._given.old, self._given.params)

    @cached_property
    def _exact(self) -> Size:
        return size_of(self._given.object, self._given.old, self._given.params)

    def _variable(self, name: str) -> Any:
        found = self._values.get(name, self)
        if found is self:
            found = self._evaluated(name)
            self._values[name] = found
        if isinstance(found, EvaluationFault):
            raise found
        return found

    def _evaluated(self, name: str) -> Any:
        program = self._variables.programs[name]
        if isinstance(program, CompileFault):
            return EvaluationFault(f'composited variable "{name}" fails to compile: {program}')
        try:
            return self.value(program)
        except OutOfBudget as fault:
            return fault
        except EvaluationFault as fault:
            return EvaluationFault(f'composited variable "{name}" fails to evaluate: {fault}')


def _values(given: Given) -> dict[str, Any]:
    values: dict[str, Any] = {
        "object": given.object,
        "oldObject": given.old,
        "request": given.request,
        "namespaceObject": None if given.namespace is None else _namespace(given.namespace),
        "params": given.params,
    }
    if given.answer is not None:
        values["authorizer"] = authorizing.authorizer()
        if given.resource is not None:
            values["authorizer.requestResource"] = authorizing.resource_check(given.resource)
    return values


def _namespace(document: Document) -> Document:
    """Without what upstream leaves out, and with times that are times."""
    metadata = {
        key: value
        for key, value in (document.get("metadata") or {}).items()
        if key not in ("managedFields", "ownerReferences", "selfLink")
    }
    for key in _NAMESPACE_TIMES:
        if isinstance(metadata.get(key), str):
            metadata[key] = carried(parse_time(metadata[key]))
    return {
        "metadata": metadata,
        "spec": document.get("spec") or {},
        "status": document.get("status") or {},
    }


def all_hold(conditions: Iterable[tuple[str, Program | CompileFault]], run: Evaluation) -> bool:
    """Whether every match condition (name, program) is true: one that is false decides. Raises EvaluationFault with all faults."""
    faults: dict[str, None] = {}
    for _name, program in conditions:
        if isinstance(program, CompileFault):
            faults[f"compilation error: {program}"] = None
            continue
        try:
            if run.value(program) is False:
                return False
        except OutOfBudget:
            raise
        except EvaluationFault as fault:
            faults[fault_of(program, fault)] = None
    if not faults:
        return True
    raise EvaluationFault(next(iter(faults)) if len(faults) == 1 else f"[{', '.join(faults)}]")


def fault_of(program: Program, fault: EvaluationFault) -> str:
    """What upstream says of an expression that failed."""
    return f"expression '{program.text}' resulted in error: {fault}"

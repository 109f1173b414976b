"""`matchConditions` of webhooks: expressions in CEL that must all be true for a request to be theirs.

One that is false decides, whatever others would have done; else one that fails is the webhook's failure.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from machinery.api.expressions import admission
from machinery.api.expressions.compiling import CompileFault, EvaluationFault, Program
from machinery.api.expressions.functions.authorizing import Answer, Question

VARIABLES: Final = ("object", "oldObject", "request")


def _program(expression: str) -> Program | CompileFault:
    try:
        return admission.compiled(
            admission.scope(params=False, authorizer=True), expression, "bool"
        )
    except CompileFault as fault:
        return fault


def condition_fault(expression: str) -> str:
    """Why the text is no condition; empty when it is one."""
    found = _program(expression)
    return str(found) if isinstance(found, CompileFault) else ""


class Failed(Exception):
    """A condition could not be evaluated, and none is false."""


def all_hold(
    conditions: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any],
    answer: Answer | None = None,
    resource: Question | None = None,
) -> bool:
    """Whether every condition is true of `object`, `oldObject` and `request`. Raises Failed.

    `answer` is whom `authorizer` asks, `resource` what `authorizer.requestResource` begins with.
    """
    written, old, request = (variables[name] for name in VARIABLES)
    given = admission.Given(written, old, request, answer=answer, resource=resource)
    programs = [(one["name"], _program(one["expression"].strip())) for one in conditions]
    try:
        return admission.all_hold(programs, admission.Evaluation(given))
    except EvaluationFault as fault:
        raise Failed(str(fault)) from None

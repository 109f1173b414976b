"""One run of a user's expression in CEL on plain documents, with bounds on what it handles and on what comes back.

The second language of interpreters, for who has no Lua: Google's library, as for rules of custom kinds (`machinery.api.validation.
rules`), loaded with the first expression. The variables are what Karmada's Lua functions get, by name; an expression makes nothing but
values, so where a Lua function gives a changed object back, the expression says the change, as a JSON merge patch:

    replicaResource           object              the number, or {"replicas": …, "replicaRequirements": {…}}
    replicaRevision           object, replicas    a merge patch on the object
    retention                 desired, observed   a merge patch on what is desired
    statusAggregation         object, items       the whole status of the object
    statusReflection          observed            the status that travels back; null: none
    healthInterpretation      observed            a boolean
    dependencyInterpretation  object              a list of {"apiVersion", "kind", "namespace", "name"}

`items` are `{"clusterName", "status", "applied"}`. For replicas and dependencies there are Karmada's `kube.accuratePodRequirements`,
`kube.getPodDependencies` and `kube.getResourceQuantity` besides.
"""

import math
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

from machinery.api.expressions import compiling
from machinery.api.expressions.functions.shape import Function, free
from machinery.api.expressions.library import library
from machinery.api.fleet.interpretation import (
    AGGREGATE,
    COMPONENT,
    DEPENDENCY,
    HEALTH,
    REFLECT,
    REPLICA,
    RETAIN,
    REVISE,
    Operation,
)
from machinery.api.patch import merge
from machinery.meta.resource import Document
from machinery.scripts.lua import DEPTH_MAX, VALUES_MAX, Library, ScriptError
from machinery.scripts.work import work

WORK_MAX: Final = 5_000_000
"""Values that a run may handle, estimated from above: about a third of a second."""
NOT_INSTALLED: Final = "the package cel-expr-python is not installed here"
_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    REPLICA.field: ("object",),
    COMPONENT.field: ("object",),
    REVISE.field: ("object", "replicas"),
    RETAIN.field: ("desired", "observed"),
    AGGREGATE.field: ("object", "items"),
    REFLECT.field: ("observed",),
    HEALTH.field: ("observed",),
    DEPENDENCY.field: ("object",),
}
_ANSWERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    REPLICA.field: ("an integer or a map", ("int", "map")),
    COMPONENT.field: ("a list", ("list",)),
    REVISE.field: ("a map", ("map",)),
    RETAIN.field: ("a map", ("map",)),
    AGGREGATE.field: ("a map", ("map",)),
    REFLECT.field: ("a map", ("map", "null")),
    HEALTH.field: ("a boolean", ("bool",)),
    DEPENDENCY.field: ("a list", ("list",)),
}
_HELPED: Final = (REPLICA.field, COMPONENT.field, DEPENDENCY.field)
"""Those that may ask for what `require("kube")` offers."""
_FAULTS: Final = (RuntimeError, ValueError, TypeError, OverflowError, ArithmeticError, LookupError)
"""What a run may raise: the library's own faults, and those of our functions."""
_library: ContextVar[Library] = ContextVar("library", default={})  # noqa: B039 - never changed in place


# -------------------------------------------------------------------------------------------------------- the language
@cache
def _scope(field: str) -> compiling.Scope:
    if library() is None:
        raise ScriptError(NOT_INSTALLED)
    known = {"replicas": "int", "items": "list<dyn>"}
    variables = tuple((name, known.get(name, _DOCUMENT)) for name in _VARIABLES[field])
    return compiling.Scope(variables, functions=_offered() if field in _HELPED else (), mixed=True)


@cache
def _offered() -> tuple[Function, ...]:
    """What `require("kube")` offers to scripts, as functions of that name."""

    def function(name: str, answer: str, *parameters: str) -> Function:
        return free(f"kube.{name}", f"kube_{name}", parameters, answer, _asks(name))

    return (
        function("accuratePodRequirements", _DOCUMENT, _DOCUMENT),
        function("getPodDependencies", "list<dyn>", _DOCUMENT, "string"),
        function("getResourceQuantity", "double", "string"),
    )


_DOCUMENT: Final = "map<string,dyn>"


def _asks(name: str) -> Callable[..., Any]:
    def ask(*given: Any) -> Any:
        try:
            return _library.get()[name](*given)
        except (KeyError, AttributeError) as error:
            raise ValueError(str(error)) from error

    return ask


def _program(field: str, expression: str) -> compiling.Program:
    """The compiled expression. Raises ScriptError."""
    if len(expression) > compiling.LETTERS_MAX:
        raise ScriptError(f"it is longer than {compiling.LETTERS_MAX} characters")
    try:
        program = compiling.compiled(_scope(field), expression)
    except compiling.CompileFault as error:
        raise ScriptError(str(error)) from None
    wanted, allowed = _ANSWERS[field]
    if program.returns != "dyn" and not program.returns.startswith(allowed):
        raise ScriptError(f"its result is {program.returns}, where {wanted} is needed")
    return program


def why_not(operation: Operation, expression: str) -> str:
    """Why the text is no expression that answers the question; empty when it is."""
    try:
        _program(operation.field, expression)
    except ScriptError as error:
        return str(error)
    return ""


# -------------------------------------------------------------------------------------------------------------- running
def call(
    operation: Operation, expression: str, *args: Any, library: Library | None = None
) -> list[Any]:
    """What a Lua function of the operation would give back for these arguments: all results, as documents.

    Raises ScriptError; what could take more than about half a second is refused before it runs.
    """
    found = _evaluated(operation.field, expression, args, library or {})
    about = args[0]
    match operation.field:
        case REVISE.field | RETAIN.field:
            if not isinstance(found, dict):
                raise ScriptError("it gives back no map, which would be a merge patch")
            return [merge.apply(about, found)]
        case AGGREGATE.field:
            if not isinstance(found, dict):
                raise ScriptError("it gives back no map, which would be the status")
            return [about | {"status": found}]
        case REPLICA.field if isinstance(found, dict):
            if unknown := sorted(found.keys() - {"replicas", "replicaRequirements"}):
                raise ScriptError(f"it gives back unknown fields: {', '.join(unknown)}")
            return [found.get("replicas"), found.get("replicaRequirements")]
    return [found]


def _evaluated(field: str, expression: str, args: tuple[Any, ...], library: Library) -> Any:
    program = _program(field, expression)
    data: Document = dict(zip(_VARIABLES[field], args, strict=True))
    if work(expression, data) > WORK_MAX:
        raise ScriptError("it may handle too much: it would go through large parts too often")
    token = _library.set(library)
    try:
        found = program.run(data)
        return _out(found, [VALUES_MAX], 0)
    except _FAULTS as error:
        raise ScriptError(_fault(str(error))) from None
    finally:
        _library.reset(token)


def _out(found: Any, left: list[int], depth: int) -> Any:
    """What the library gave, as a document, opened part by part so that no more is made than may come back. Raises ScriptError."""
    left[0] -= 1
    if left[0] < 0 or depth > DEPTH_MAX:
        raise ScriptError("what it gives back is too large")
    kind = str(found.type().name())
    if kind.startswith("optional") or kind in ("TYPE", "UNKNOWN"):
        raise ScriptError("it gives back what is no document")
    try:
        value = found.value()
    except TypeError:  # an optional has no value of Python's
        raise ScriptError("it gives back what is no document") from None
    if kind == "ERROR":
        raise ScriptError(_fault(str(value)))
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ScriptError("it gives back a map whose keys are no text")
        return {key: _out(one, left, depth + 1) for key, one in value.items()}
    if isinstance(value, list):
        return [_out(one, left, depth + 1) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ScriptError("it gives back what is no finite number")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ScriptError("it gives back what is no document")


def _fault(text: str) -> str:
    if "Iteration budget exceeded" in text:
        return "it takes more than 10000 iterations"
    if "Key not found in map" in text:
        return "no such key: " + text.partition(" : ")[2].strip('"')
    return text

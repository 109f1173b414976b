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
from functools import cache, lru_cache
from typing import Any, Final

from machinery.api import cel
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
from machinery.api.validation.rules import RULE_LETTERS_MAX
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
    REPLICA.field: ("an integer or a map", ("INT", "MAP")),
    COMPONENT.field: ("a list", ("LIST",)),
    REVISE.field: ("a map", ("MAP",)),
    RETAIN.field: ("a map", ("MAP",)),
    AGGREGATE.field: ("a map", ("MAP",)),
    REFLECT.field: ("a map", ("MAP", "NULL")),
    HEALTH.field: ("a boolean", ("BOOL",)),
    DEPENDENCY.field: ("a list", ("LIST",)),
}
_HELPED: Final = (REPLICA.field, COMPONENT.field, DEPENDENCY.field)
"""Those that may ask for what `require("kube")` offers."""
_FAULTS: Final = (RuntimeError, ValueError, TypeError, OverflowError, ArithmeticError, LookupError)
"""What a run may raise: the library's own faults, and those of our functions."""
_library: ContextVar[Library] = ContextVar("library", default={})  # noqa: B039 - never changed in place


# -------------------------------------------------------------------------------------------------------- the language
@cache
def _environment(field: str) -> Any:
    if cel.library() is None:
        raise ScriptError(NOT_INSTALLED)
    offered = _offered if field in _HELPED else cel.nothing_more
    return cel.environment(lambda types: _typed(types, field), offered)


def _typed(types: Any, field: str) -> Mapping[str, Any]:
    document = types.Map(types.STRING, types.DYN)
    known = {"replicas": types.INT, "items": types.List(types.DYN)}
    return {name: known.get(name, document) for name in _VARIABLES[field]}


def _offered(library: Any) -> list[Any]:
    """What `require("kube")` offers to scripts, as functions of that name."""
    of = library.Type

    def function(name: str, answer: Any, *parameters: Any) -> Any:
        overload = library.Overload(
            f"kube_{name}", answer, list(parameters), False, impl=_asks(name)
        )
        return library.FunctionDecl(f"kube.{name}", [overload])

    return [
        function("accuratePodRequirements", of.MAP, of.MAP),
        function("getPodDependencies", of.LIST, of.MAP, of.STRING),
        function("getResourceQuantity", of.DOUBLE, of.STRING),
    ]


def _asks(name: str) -> Callable[..., Any]:
    def ask(*given: Any) -> Any:
        try:
            return _library.get()[name](*given)
        except (KeyError, AttributeError) as error:
            raise ValueError(str(error)) from error

    return ask


@lru_cache(maxsize=256)
def _program(field: str, expression: str) -> Any:
    """The compiled expression. Raises ScriptError."""
    if len(expression) > RULE_LETTERS_MAX:
        raise ScriptError(f"it is longer than {RULE_LETTERS_MAX} characters")
    environment = _environment(field)
    try:
        program = environment.compile(expression)
    except RuntimeError as error:
        raise ScriptError(cel.compile_fault(error)) from None
    found = str(program.return_type().name())
    wanted, allowed = _ANSWERS[field]
    if found != "DYN" and not found.startswith(allowed):
        raise ScriptError(f"its result is {found}, where {wanted} is needed")
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
        found = program.eval(data=data)
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

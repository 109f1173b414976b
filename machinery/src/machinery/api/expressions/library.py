"""The library under all expressions (Google's cel-cpp), and its environments: one kind to check in, one to run in.

They differ, because the library's checker takes types that its values cannot have: of functions that answer an optional, of
`request` with its fields, of lists of anything. What is checked is written out (`checked`), changed where it must be, and read
by the one environment that everything runs in, where every value has the type that it has. Declarations that the library
makes itself and Kubernetes makes wider (`string`, `<` between kinds of numbers) are taken out and made anew.
"""

import ctypes
import importlib
import sys
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from itertools import groupby, permutations, product
from typing import Any, Final

import orjson

from machinery.api.expressions.functions import FUNCTIONS
from machinery.api.expressions.functions.shape import (
    CIDR,
    IP,
    PAIR,
    Function,
    NoOverload,
    Value,
    carried,
    free,
    pool,
    takes,
    text_in,
)

_CHECKED: Final = ("bindings", "optional", "math", "encoders")
_RUN: Final = (*_CHECKED, "strings")
_NUMBERS: Final = {"int": "int64", "uint": "uint64", "double": "double"}
_ORDERED: Final = {
    **_NUMBERS, "bool": "bool", "string": "string", "bytes": "bytes", "timestamp": "timestamp", "duration": "duration",
}  # fmt: skip
_COMPARISONS: Final = {"_<_": "less", "_<=_": "less_equals", "_>_": "greater", "_>=_": "greater_equals"}  # fmt: skip
RUN_AS: Final[Mapping[str, str]] = {
    "ip_to_string": "string__", "cidr_to_string": "string__",
    "list_a_index_of_int": "indexOf__", "list_a_last_index_of_int": "lastIndexOf__",
}  # fmt: skip
"""Overloads that run under another name, because the library has theirs."""
OPTIONALS: Final = frozenset({"format-validate", "format-named"})
"""Overloads that answer an empty value where expressions get an optional without one."""
_IMMORTAL: Final = 1 << 40


@cache
def library() -> Any:
    """The library, or None where it is not installed."""
    try:
        found = importlib.import_module("cel_expr_python.cel")
    except ImportError:
        return None
    _keep_none()
    return found


def _keep_none() -> None:
    """cel-expr-python 0.1.3 gives `None` away without counting it, once for each null: an interpreter without immortal
    objects ends when the last one seems to go. So there are more of them than anybody will ask for."""
    if sys.version_info < (3, 12):
        ctypes.c_ssize_t.from_address(id(None)).value += _IMMORTAL


@cache
def _extensions(names: tuple[str, ...]) -> list[Any]:
    out = []
    for name in names:
        module = importlib.import_module(f"cel_expr_python.ext.ext_{name}")
        out.append(getattr(module, f"Ext{name.capitalize()}")())
    return out


@lru_cache(maxsize=16)
def _declarations(variables: tuple[tuple[str, str], ...] = ()) -> Any:
    """All functions, and variables of types that can be said in no other way; read seldom, because that takes 20 ms."""
    config = {
        "variables": [{"name": name, **_kind(kind)} for name, kind in variables],
        "stdlib": {"exclude_functions": [{"name": name} for name in ("string", *_COMPARISONS)]},
        "functions": _declared((*_STANDARD, *FUNCTIONS)),
    }
    return library().NewEnvConfigFromYaml(orjson.dumps(config).decode())


def checking(
    variables: Mapping[str, str], functions: Iterable[Function] = (), descriptors: Any = None
) -> Any:
    """An environment that knows types, in 2 ms; the library must be there.

    `variables`: from names to types as `Function` writes them. `functions`: more of them, of plain types.
    """
    found = library()
    of = found.Type
    odd = {name: kind for name, kind in variables.items() if kind.startswith("optional_type<")}
    return found.NewEnv(
        config=_declarations(tuple(odd.items())),
        variables={name: of(kind) for name, kind in variables.items() if name not in odd},
        functions=[
            found.FunctionDecl(
                one.name,
                [found.Overload(one.overload, of(one.returns), [*map(of, one.parameters)], one.member)],
            )
            for one in functions
        ],
        extensions=_extensions(_CHECKED),
        descriptor_pool=descriptors or pool(),
    )  # fmt: skip


@cache
def running(functions: tuple[Function, ...] = ()) -> Any:
    """The environment that everything runs in: whatever is in a value's place decides which function is meant."""
    found = library()
    found = library()
    own = [one for one in FUNCTIONS if one.overload not in RUN_AS]
    ordered = sorted((*own, *_RENAMED, *functions), key=_place)
    overloads: dict[str, list[Any]] = {}
    for (name, member, arity), those in groupby(ordered, key=_place):
        group = tuple(those)
        impl = _dispatcher(group)
        for kinds in sorted({kinds for one in group for kinds in _kinds(one)}):
            title = f"{name}_{member}_{arity}_{'_'.join(kinds)}"
            parameters = [_run_type(found, kind) for kind in kinds]
            overload = found.Overload(title, found.Type.DYN, parameters, member, impl=impl)
            overloads.setdefault(name, []).append(overload)
    declared = [found.FunctionDecl(name, those) for name, those in overloads.items()]
    return found.NewEnv(extensions=_extensions(_RUN), functions=declared, descriptor_pool=pool())


_ANY: Final = (
    "bool", "bytes", "double", "duration", "int", "list", "map", "null", "string", "struct", "timestamp", "uint",
)  # fmt: skip
_KEYS: Final = ("bool", "int", "string", "uint")


def _kinds(function: Function) -> Iterable[tuple[str, ...]]:
    """The kinds of values that a function is called with: the library chooses by nothing else while it runs."""
    return product(*map(_kinds_of, function.parameters))


def _kinds_of(parameter: str) -> tuple[str, ...]:
    if parameter == "~K":
        return _KEYS
    if parameter == "dyn" or parameter.startswith("~"):
        return _ANY
    name = parameter.partition("<")[0]
    if name == PAIR:
        return ("list",)
    return (name,) if name in _ANY else ("struct",)


def _run_type(found: Any, kind: str) -> Any:
    return found.Type(IP) if kind == "struct" else getattr(found.Type, kind.upper())


def _place(function: Function) -> tuple[str, bool, int]:
    return function.name, function.member, len(function.parameters)


def _dispatcher(overloads: tuple[Function, ...]) -> Any:
    def run(*values: Value) -> Value:
        for one in overloads:
            if all(map(takes, one.parameters, values)):
                return carried(one.run(*values))
        raise NoOverload

    return run


_RENAMED: Final = (
    free("string__", "string__", ("dyn",), "string", text_in),
    *(one._replace(name=RUN_AS[one.overload]) for one in FUNCTIONS if one.overload in RUN_AS),
)


# ------------------------------------------------------------------------------------------------- declarations
def _declared(functions: Iterable[Function]) -> list[dict[str, Any]]:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for one in functions:
        kinds = [_kind(kind) for kind in one.parameters]
        overload: dict[str, Any] = {"id": one.overload, "return": _kind(one.returns)}
        if one.member:
            overload["target"], kinds = kinds[0], kinds[1:]
        if kinds:
            overload["args"] = kinds
        by_name.setdefault(one.name, []).append(overload)
    return [{"name": name, "overloads": overloads} for name, overloads in by_name.items()]


def _standard() -> Iterable[Function]:
    """What is taken out of the library's own declarations, made wider."""
    for kind, title in _ORDERED.items():
        yield free("string", f"{title}_to_string", (kind,), "string", text_in)
    yield free("string", "ip_to_string", (IP,), "string", text_in)
    yield free("string", "cidr_to_string", (CIDR,), "string", text_in)
    for name, title in _COMPARISONS.items():
        for kind, of in _ORDERED.items():
            yield free(name, f"{title}_{of}", (kind, kind), "bool", text_in)
        for left, right in permutations(_NUMBERS, 2):
            overload = f"{title}_{_NUMBERS[left]}_{_NUMBERS[right]}"
            yield free(name, overload, (left, right), "bool", text_in)
    for name, returns, *parameters in _TEXTS:
        overload = "_".join(["string", name, *parameters[1:]])
        yield Function(name, overload, tuple(parameters), returns, text_in)
    yield free("strings.quote", "strings_quote", ("string",), "string", text_in)


_TEXTS: Final = (
    ("charAt", "string", "string", "int"),
    *((name, "int", "string", "string", *more) for name in ("indexOf", "lastIndexOf") for more in ((), ("int",))),
    ("join", "string", "list<string>"),
    ("join", "string", "list<string>", "string"),
    ("lowerAscii", "string", "string"),
    ("upperAscii", "string", "string"),
    ("trim", "string", "string"),
    ("replace", "string", "string", "string", "string"),
    ("replace", "string", "string", "string", "string", "int"),
    ("split", "list<string>", "string", "string"),
    ("split", "list<string>", "string", "string", "int"),
    ("substring", "string", "string", "int"),
    ("substring", "string", "string", "int", "int"),
    ("format", "string", "string", "list<dyn>"),
)  # fmt: skip
"""CEL's extension of texts in the version that Kubernetes has: (name, answer, what it is called on, arguments…)."""
_STANDARD: Final = tuple(_standard())


@cache
def _kind(text: str) -> dict[str, Any]:
    """A type as the library's configuration has it."""
    if text.startswith("~"):
        return {"type_name": text[1:], "is_type_param": True}
    name, bracket, inner = text.partition("<")
    if not bracket:
        return {"type_name": name}
    return {"type_name": name, "params": [_kind(part) for part in _split(inner[:-1])]}


def _split(text: str) -> list[str]:
    """Parameters of a type, at its commas."""
    out, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "<") - (letter == ">")
        if letter == "," and depth == 0:
            out.append(text[start:at])
            start = at + 1
    return [*out, text[start:]]

"""CEL, as everything here has it: Google's library, loaded with the first expression, with Kubernetes' functions and extensions."""

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from machinery.api.validation.rule_functions import declarations

EXTENSIONS: Final = ("bindings", "optional", "strings", "math", "encoders")


@cache
def library() -> Any:
    """The library, or None where it is not installed."""
    try:
        return importlib.import_module("cel_expr_python.cel")
    except ImportError:
        return None


def nothing_more(_: Any) -> list[Any]:
    """No functions besides."""
    return []


def environment(
    variables: Callable[[Any], Mapping[str, Any]],
    functions: Callable[[Any], list[Any]] = nothing_more,
) -> Any:
    """What expressions are compiled in. `variables` gets the library's types, `functions` the library, which must be installed."""
    found = library()
    extensions = []
    for name in EXTENSIONS:
        module = importlib.import_module(f"cel_expr_python.ext.ext_{name}")
        extensions.append(getattr(module, f"Ext{name.capitalize()}")())
    return found.NewEnv(
        variables=variables(found.Type),
        extensions=extensions,
        functions=[*declarations(found), *functions(found)],
    )


def compile_fault(error: RuntimeError) -> str:
    """The library's complaint about an expression, in the words that Kubernetes' users know."""
    text = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
    return text.replace(" (in container '')", "")

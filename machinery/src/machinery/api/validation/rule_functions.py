"""Kubernetes' own functions of CEL: on lists, texts, quantities and addresses. A quantity is a double here."""

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from machinery.api.validation.patterns import Search, known
from machinery.meta.quantity import quantity_of

Function = Callable[..., Any]
_FOUND_MAX: Final = 10_000
"""How many places `findAll` finds at most."""


def declarations(cel: Any) -> list[Any]:
    """What is handed to the library's environment."""
    of = cel.Type
    items, text, amount = of.List(of.DYN), of.STRING, of.DOUBLE

    def function(name: str, answer: Any, parameters: Sequence[Any], impl: Function) -> Any:
        member = cel.Overload(f"k8s_{name}", answer, list(parameters), True, impl=impl)
        return cel.FunctionDecl(name, [member])

    def free(name: str, answer: Any, impl: Function) -> Any:
        overload = cel.Overload(f"k8s_{name}", answer, [text], False, impl=impl)
        return cel.FunctionDecl(name, [overload])

    return [
        function("isSorted", of.BOOL, [items], lambda found: list(found) == sorted(found)),
        function("sum", of.DYN, [items], lambda found: sum(found)),
        function("min", of.DYN, [items], lambda found: min(found)),
        function("max", of.DYN, [items], lambda found: max(found)),
        function("find", text, [text, text], _find),
        function("findAll", of.List(text), [text, text], _find_all),
        free("quantity", amount, lambda found: float(quantity_of(found).value)),
        free("isQuantity", of.BOOL, _is_quantity),
        free("isURL", of.BOOL, lambda found: bool(urlsplit(found).scheme)),
        free("isIP", of.BOOL, _is_address),
        free("isCIDR", of.BOOL, _is_network),
        function("isGreaterThan", of.BOOL, [amount, amount], lambda a, b: a > b),
        function("isLessThan", of.BOOL, [amount, amount], lambda a, b: a < b),
        function("compareTo", of.INT, [amount, amount], lambda a, b: (a > b) - (a < b)),
        function("asInteger", of.INT, [amount], lambda found: int(found)),
        function("asApproximateFloat", of.DOUBLE, [amount], lambda found: found),
    ]


def _find(text: str, pattern: str) -> str:
    found = _search(pattern)(text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str) -> list[str]:
    search, at = _search(pattern), 0
    out: list[str] = []
    while len(out) < _FOUND_MAX and (found := search(text[at:])):
        out.append(found[0])
        at += max(found.end(), found.start() + 1)
        if at > len(text):
            break
    return out


def _search(pattern: str) -> Search:
    search = known(pattern)
    if search is None:
        raise ValueError(f"no pattern: {pattern}")
    return search


def _is_quantity(text: str) -> bool:
    try:
        quantity_of(text)
    except ValueError:
        return False
    return True


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text

"""The admission of users' interpreters: each script is Lua or CEL, and each question about a kind is answered by one of them.

As in Karmada a script with a wrong function name is accepted; here it is warned about.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from federation.propagation.admission.plugin import denied
from machinery.api.fleet.interpretation import (
    CUSTOMIZATIONS,
    OPERATIONS,
    ResourceInterpreterCustomization,
    script_of,
)
from machinery.meta.resource import Document, Resource
from machinery.scripts import expressions, lua
from machinery.server.admission.interface import AdmissionRequest

WEBHOOK: Final = "resourceinterpretercustomization.karmada.io"
WRITES: Final = ("create", "update")


class Held(Protocol):
    """The part of the server's committed objects that is looked at."""

    def list(self, resource: Resource[Any], namespace: str = "") -> Iterator[Any]: ...


class InterpreterCustomizations:
    """Admission of ResourceInterpreterCustomizations. `held` is None before the server runs."""

    kinds = frozenset({(CUSTOMIZATIONS.group, CUSTOMIZATIONS.kind)})

    def __init__(self, held: Callable[[], Held | None]) -> None:
        self._held = held

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        if request.kind.kind != CUSTOMIZATIONS.kind or request.kind.group != CUSTOMIZATIONS.group:
            return
        if request.verb not in WRITES or request.subresource:
            return
        there = self._held()
        others = [] if there is None else list(there.list(CUSTOMIZATIONS))
        if why := refusal(request.document, others):
            raise denied(WEBHOOK, why)
        request.call.warnings.extend(remarks(request.document))


def refusal(document: Document, others: list[ResourceInterpreterCustomization]) -> str:
    """Why the customization is not accepted beside the others; empty when it is."""
    for operation in OPERATIONS:
        script = script_of(document, operation.field)
        if script and (why := lua.why_not(script)):
            return f"spec.customizations.{operation.field}.luaScript: {why}"
        expression = script_of(document, operation.field, "expression")
        if expression and (why := expressions.why_not(operation, expression)):
            return f"spec.customizations.{operation.field}.expression: {why}"
    own = msgspec.convert(document, ResourceInterpreterCustomization)
    for other in others:
        if other.metadata.name == own.metadata.name or other.spec.target != own.spec.target:
            continue
        for operation in OPERATIONS:
            held = other.spec.customizations.get(operation.field, {})
            if _answers(held) and _answers(own.spec.customizations.get(operation.field, {})):
                return (
                    f"conflicting with InterpreterOperation({operation.name}) of existing "
                    f"ResourceInterpreterCustomization({other.metadata.name})"
                )
    return ""


def _answers(said: Mapping[str, str]) -> bool:
    return bool(said.get("luaScript") or said.get("expression"))


def remarks(document: Document) -> Iterator[str]:
    """Warnings on scripts that will not do what is hoped for."""
    where = "spec.customizations"
    for operation in OPERATIONS:
        script = script_of(document, operation.field)
        if script and not re.search(rf"\b{operation.function}\b", script):
            yield f"{where}.{operation.field}.luaScript: it has no function {operation.function}: it will fail"

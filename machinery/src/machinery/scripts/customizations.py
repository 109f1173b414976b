"""Which script answers which question about a kind, and the answers in the shapes that the federation works with.

A script is a Lua function, or an expression in CEL (`expressions`). It goes before what is built in for its kind. Where two ResourceInterpreterCustomizations answer the same question, the
older one counts (admission refuses the younger; two servers may accept both at once). A script that fails is no answer: whoever
asked keeps what was, and says why.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from machinery.api.fleet.interpretation import (
    AGGREGATE,
    COMPONENT,
    DEPENDENCY,
    HEALTH,
    OPERATIONS,
    REFLECT,
    REPLICA,
    RETAIN,
    REVISE,
    Operation,
    ResourceInterpreterCustomization,
)
from machinery.meta.resource import Document
from machinery.scripts import expressions, lua

Kind = tuple[str, str]
"""apiVersion and kind."""
NAME_MAX: Final = 32
"""Letters of a component's name."""
_FIRST: Final = dt.datetime.min.replace(tzinfo=dt.UTC)


class InterpretationFailed(Exception):
    """A user's script gave no usable answer; the text names operation and customization."""

    def __init__(self, operation: Operation, customization: str, why: str) -> None:
        super().__init__(
            f"{operation.name} by ResourceInterpreterCustomization({customization}): {why}"
        )
        self.operation = operation


@dataclass(frozen=True, slots=True)
class Script:
    """One answer."""

    customization: str
    text: str
    cel: bool = False
    """Whether it is an expression in CEL, and not Lua."""


class Customizations:
    """What users say of kinds, as of one moment. Every question raises InterpretationFailed."""

    def __init__(self, held: Iterable[ResourceInterpreterCustomization] = ()) -> None:
        self._scripts: dict[tuple[Kind, str], Script] = {}
        for one in sorted(held, key=_age):
            target = (one.spec.target.api_version, one.spec.target.kind)
            for operation in OPERATIONS:
                said = one.spec.customizations.get(operation.field, {})
                script, expression = said.get("luaScript"), said.get("expression")
                if text := script or expression:
                    answer = Script(one.metadata.name, text, cel=not script)
                    self._scripts.setdefault((target, operation.field), answer)

    def __bool__(self) -> bool:
        return bool(self._scripts)

    def kinds(self, operation: Operation) -> set[Kind]:
        """Kinds about which users answer the question."""
        return {kind for kind, field in self._scripts if field == operation.field}

    def script(self, kind: Kind, operation: Operation) -> Script | None:
        """Who answers the question about the kind; None: nobody but what is built in."""
        return self._scripts.get((kind, operation.field))

    def answers(self, document: Document, operation: Operation) -> bool:
        """Whether a user answers the question about the object."""
        return bool(self._scripts) and self.script(_kind(document), operation) is not None

    # ------------------------------------------------------------------------------------------------- questions
    def replicas(self, document: Document, library: lua.Library) -> tuple[int, Document | None]:
        """How many it asks for, and ReplicaRequirements of one."""
        count, *more = self._ask(REPLICA, document, document, library=library)
        wants = more[0] if more else None
        if not _is_count(count):
            raise self._failed(REPLICA, document, f"the number of replicas is {_shown(count)}")
        if wants is not None and not isinstance(wants, Mapping):
            raise self._failed(REPLICA, document, "what a replica requires is no table")
        return int(count), _required(wants) if wants else None

    def components(self, document: Document, library: lua.Library) -> list[Document]:
        """Its pod templates: name, replicas, and ReplicaRequirements of one in `replicaRequirements`. Names differ."""
        found, *_ = self._ask(COMPONENT, document, document, library=library)
        if found is None or found == {}:
            return []
        if not isinstance(found, list):
            raise self._failed(COMPONENT, document, "the components are no list")
        components: list[Document] = []
        for one in found:
            if why := _no_component(one):
                raise self._failed(COMPONENT, document, why)
            wants = one.get("replicaRequirements")
            own = {"name": one["name"], "replicas": int(one["replicas"])}
            components.append(own | ({"replicaRequirements": _required(wants)} if wants else {}))
        if len({one["name"] for one in components}) < len(components):
            raise self._failed(COMPONENT, document, "two components have the same name")
        return components

    def revised(self, document: Document, count: int) -> Document:
        """The object with so many replicas."""
        return self._same_object(REVISE, document, document, count)

    def retained(self, desired: Document, observed: Document) -> Document:
        """What is wanted, with what the member's object has to keep."""
        return self._same_object(RETAIN, desired, desired, observed)

    def aggregated(self, document: Document, items: list[Document]) -> Document:
        """The template with the status that follows from those of its members."""
        return self._same_object(AGGREGATE, document, document, items)

    def reflected(self, observed: Document) -> Document | None:
        """What of the member's object travels back."""
        likeness = observed.get("status") or {}
        found, *_ = self._ask(REFLECT, observed, observed, likeness=likeness)
        if found is None:
            return None
        if not isinstance(found, dict):
            raise self._failed(REFLECT, observed, "the status is no table")
        return found

    def healthy(self, observed: Document) -> bool:
        """Whether the member's object does what it is for."""
        found, *_ = self._ask(HEALTH, observed, observed)
        if not isinstance(found, bool):
            raise self._failed(HEALTH, observed, f"the answer is {_shown(found)} and no boolean")
        return found

    def dependencies(self, document: Document, library: lua.Library) -> list[Document]:
        """DependentObjectReferences: apiVersion, kind, namespace, name or labelSelector."""
        found, *_ = self._ask(DEPENDENCY, document, document, library=library)
        if found is None or found == {}:
            return []
        if not isinstance(found, list) or not all(_is_reference(one) for one in found):
            raise self._failed(DEPENDENCY, document, "an entry is no reference to an object")
        return found

    # ---------------------------------------------------------------------------------------------------- asking
    def _ask(
        self,
        operation: Operation,
        about: Document,
        *args: Any,
        likeness: Any = None,
        library: lua.Library | None = None,
    ) -> list[Any]:
        script = self.script(_kind(about), operation)
        assert script is not None, "asked only where somebody answers"
        try:
            if script.cel:
                return expressions.call(operation, script.text, *args, library=library)
            function = operation.function
            found = lua.call(script.text, function, *args, likeness=likeness, library=library)
        except lua.ScriptError as error:
            raise InterpretationFailed(operation, script.customization, str(error)) from error
        return found or [None]

    def _same_object(self, operation: Operation, document: Document, *args: Any) -> Document:
        """An object that a script has changed; it may not become another one."""
        found, *_ = self._ask(operation, document, *args, likeness=document)
        if not isinstance(found, dict) or _identity(found) != _identity(document):
            raise self._failed(operation, document, "it does not give the object back")
        return found

    def _failed(self, operation: Operation, about: Document, why: str) -> InterpretationFailed:
        script = self.script(_kind(about), operation)
        return InterpretationFailed(operation, script.customization if script else "", why)


def _age(one: ResourceInterpreterCustomization) -> tuple[dt.datetime, str]:
    return one.metadata.creation_timestamp or _FIRST, one.metadata.name


def _kind(document: Document) -> Kind:
    return document.get("apiVersion", ""), document.get("kind", "")


def _identity(document: Mapping[str, Any]) -> tuple[Any, ...]:
    metadata = document.get("metadata")
    named = metadata if isinstance(metadata, Mapping) else {}
    kind = (document.get("apiVersion"), document.get("kind"))
    return (*kind, named.get("namespace") or "", named.get("name"))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _no_component(value: Any) -> str:
    """Why the value is no component; empty: it is one."""
    if not isinstance(value, Mapping):
        return "a component is no table"
    name, count, wants = value.get("name"), value.get("replicas"), value.get("replicaRequirements")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
        return f"the name of a component is {_shown(name)}"
    if not _is_count(count):
        return f"the number of replicas of {name} is {_shown(count)}"
    if wants and not isinstance(wants, Mapping):
        return f"what a replica of {name} requires is no table"
    return ""


def _required(wants: Mapping[str, Any]) -> Document:
    """ReplicaRequirements with quantities as the API takes them: scripts may say 0.5."""
    found, asks = dict(wants), wants.get("resourceRequest")
    if isinstance(asks, Mapping):
        found["resourceRequest"] = {
            name: f"{value:.9f}".rstrip("0") if isinstance(value, float) else value
            for name, value in asks.items()
        }
    return found


def _is_reference(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    named = value.get("name") or value.get("labelSelector")
    return bool(value.get("apiVersion") and value.get("kind") and named)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"


BUILT_IN: Final = Customizations()
"""Nobody says anything."""

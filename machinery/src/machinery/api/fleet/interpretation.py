"""`config.karmada.io`: ResourceInterpreterCustomization, a user's scripts that say what a kind means. Kind, view, operations."""

from typing import Final

from machinery.api.fleet.schema import AGE, TEXT, served, struct
from machinery.api.scheme import Column, ServedKind
from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import Document, Resource


class Operation(View):
    """One question about a kind."""

    field: str
    """Under `spec.customizations`."""
    name: str
    """As Karmada calls the operation."""
    function: str
    """What the script has to define."""


REPLICA: Final = Operation(field="replicaResource", name="InterpretReplica", function="GetReplicas")
COMPONENT: Final = Operation(
    field="componentResource", name="InterpretComponent", function="GetComponents"
)
REVISE: Final = Operation(field="replicaRevision", name="ReviseReplica", function="ReviseReplica")
RETAIN: Final = Operation(field="retention", name="Retain", function="Retain")
AGGREGATE: Final = Operation(
    field="statusAggregation", name="AggregateStatus", function="AggregateStatus"
)
REFLECT: Final = Operation(
    field="statusReflection", name="InterpretStatus", function="ReflectStatus"
)
HEALTH: Final = Operation(
    field="healthInterpretation", name="InterpretHealth", function="InterpretHealth"
)
DEPENDENCY: Final = Operation(
    field="dependencyInterpretation", name="InterpretDependency", function="GetDependencies"
)
OPERATIONS: Final = (REPLICA, COMPONENT, REVISE, RETAIN, AGGREGATE, REFLECT, HEALTH, DEPENDENCY)


class CustomizationTarget(View):
    api_version: str = ""
    kind: str = ""


class CustomizationSpec(View):
    target: CustomizationTarget = CustomizationTarget()
    customizations: dict[str, dict[str, str]] = {}
    """By field of an operation: `luaScript`, or `expression`, which is ours."""


class ResourceInterpreterCustomization(Object):
    spec: CustomizationSpec = CustomizationSpec()


CUSTOMIZATIONS: Resource[ResourceInterpreterCustomization] = Resource(
    "config.karmada.io", "v1alpha1", "resourceinterpretercustomizations",
    "ResourceInterpreterCustomization", False, ResourceInterpreterCustomization,
)  # fmt: skip

_ANSWER = struct(luaScript=TEXT, expression=TEXT)
"""One of both, which `machinery.api.validation.fleet` checks: an expression in CEL is no field of Karmada's."""
RESOURCE_INTERPRETER_CUSTOMIZATION = served(
    "config.karmada.io/v1alpha1", "ResourceInterpreterCustomization",
    "resourceinterpretercustomizations", "ric", namespaced=False,
    spec=struct(
        ("customizations", "target"),
        target=struct(("apiVersion", "kind"), apiVersion=TEXT, kind=TEXT),
        customizations=struct(**{operation.field: _ANSWER for operation in OPERATIONS}),
    ),
    columns=(
        Column("TARGET-API-VERSION", "string", ".spec.target.apiVersion"),
        Column("TARGET-KIND", "string", ".spec.target.kind"),
        AGE,
    ),
)  # fmt: skip

INTERPRETATION: tuple[ServedKind, ...] = (RESOURCE_INTERPRETER_CUSTOMIZATION,)


def script_of(customization: Document, field: str, language: str = "luaScript") -> str:
    """The script of one field of a document, or its `expression`; empty where it has none."""
    found = ((customization.get("spec") or {}).get("customizations") or {}).get(field) or {}
    return str(found.get(language) or "")

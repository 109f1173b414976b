"""A custom kind for tests: `definition()` as a user writes it, `widget()` an object of it."""

from typing import Any

from machinery.client.dynamic_kinds import CUSTOM_RESOURCE_DEFINITIONS
from machinery.client.interface import Client, dynamic
from machinery.meta.resource import Document

GROUP = "example.com"
NAME = f"widgets.{GROUP}"
WIDGETS = dynamic(GROUP, "v1", "widgets", "Widget", namespaced=True)
DEFINITIONS = CUSTOM_RESOURCE_DEFINITIONS
SCHEMA: Document = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "description": "what is wanted",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1},
                "mode": {"type": "string", "enum": ["A", "B"], "default": "A"},
                "replicas": {"type": "integer", "default": 1},
            },
        },
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
    },
}
SCALE = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}


def version(name: str = "v1", schema: Document | None = None, **more: Any) -> Document:
    """One version of a definition, served and the storage version unless said otherwise."""
    return {
        "name": name, "served": True, "storage": True,
        "schema": {"openAPIV3Schema": SCHEMA if schema is None else schema}, **more,
    }  # fmt: skip


def definition(
    plural: str = "widgets",
    kind: str = "Widget",
    *versions: Document,
    scope: str = "Namespaced",
    **names: Any,
) -> Document:
    """A CustomResourceDefinition in the group example.com."""
    subresources = {"status": {}, "scale": SCALE}
    columns = [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]
    usual = version(
        subresources=subresources,
        additionalPrinterColumns=columns,
        selectableFields=[{"jsonPath": ".spec.mode"}],
    )
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {"plural": plural, "kind": kind, **names},
            "versions": list(versions) or [usual],
        },
    }


def widget(name: str = "a", namespace: str = "default", **spec: Any) -> Document:
    """A Widget of size 3."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Widget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"size": 3, **spec},
    }


async def define(client: Client, document: Document | None = None) -> None:
    """Create a definition over HTTP, whose answer comes when the kind is served."""
    await client.create(DEFINITIONS, document or definition(shortNames=["wd"], categories=["all"]))

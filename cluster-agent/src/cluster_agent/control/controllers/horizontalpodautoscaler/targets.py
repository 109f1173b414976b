"""What an autoscaler scales: found by group and kind, whatever version it names, and read as a Scale."""

from collections.abc import Iterable
from dataclasses import dataclass

from machinery.api.autoscaling import HorizontalPodAutoscaler
from machinery.api.scheme import ServedKind
from machinery.client.dynamic_kinds import (
    CUSTOM_RESOURCE_DEFINITIONS,
    DEFINITIONS,
    served_resources,
)
from machinery.client.interface import Client, dynamic
from machinery.controller.manager import Manager
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey, Resource, split_api_version

NOT_SERVED = "the server could not find the requested resource"


class TargetError(Exception):
    """Why there is nothing to scale; the text is for users."""


@dataclass(frozen=True, slots=True)
class Target:
    """A workload by its Scale."""

    resource: Resource[Document]
    scale: Document

    @property
    def replicas(self) -> int:
        """How many it wants."""
        return int((self.scale.get("spec") or {}).get("replicas", 0))

    @property
    def selector(self) -> str:
        """Of its pods, in text form."""
        return str((self.scale.get("status") or {}).get("selector", ""))

    def resized(self, replicas: int) -> Document:
        """The Scale with another number, as a compare-and-swap."""
        return {**self.scale, "spec": {"replicas": replicas}}


class Targets:
    """Finds them: among `kinds`, which the server always has, and the custom kinds of now."""

    def __init__(self, manager: Manager, kinds: Iterable[ServedKind]) -> None:
        self._client: Client = manager.client
        self._kinds: dict[tuple[str, str], ServedKind] = {}
        for kind in kinds:
            if kind.namespaced and kind.stored_as is None:
                self._kinds.setdefault(kind.group_kind, kind)
        served = any(kind.kind == DEFINITIONS.kind for kind in kinds)
        self._definitions = manager.informer(DEFINITIONS) if served else None

    async def find(self, held: HorizontalPodAutoscaler) -> Target:
        """Raises TargetError."""
        wanted = held.spec.scale_target_ref
        if wanted.api_version.count("/") > 1:
            raise TargetError(f"unexpected GroupVersion string: {wanted.api_version}")
        group_kind = (split_api_version(wanted.api_version)[0], wanted.kind)
        key = ObjectKey(held.metadata.namespace, wanted.name)
        try:
            resource = await self._resource(*group_kind)
            return Target(resource, await self._client.get(resource, key, subresource="scale"))
        except StatusError as error:
            raise TargetError(error.message) from None

    async def _resource(self, group: str, kind: str) -> Resource[Document]:
        """Raises TargetError, NotFound."""
        known = self._kinds.get((group, kind))
        if known is not None:
            if known.subresource("scale") is None:
                raise NotFound(NOT_SERVED, details={})
            return dynamic(group, known.version, known.plural, kind, True)
        for definition in self._definitions.list() if self._definitions is not None else ():
            for resource in served_resources(definition)[:1]:
                if (resource.group, resource.kind) == (group, kind):
                    return await self._scaled(resource)
        raise TargetError(f'no matches for kind "{kind}" in group "{group}"')

    async def _scaled(self, resource: Resource[Document]) -> Resource[Document]:
        """Where the definition says how its objects are scaled. Raises NotFound."""
        key = ObjectKey("", resource.group_resource)
        definition = await self._client.get(CUSTOM_RESOURCE_DEFINITIONS, key)
        for version in definition["spec"]["versions"]:
            scale = (version.get("subresources") or {}).get("scale")
            if version["name"] == resource.version and scale is not None:
                return resource
        raise NotFound(NOT_SERVED, details={})

"""Custom kinds as they come and go: an informer on CustomResourceDefinitions, read as `Resource` values.

Whoever must handle objects of kinds that nobody knew when it was written (garbage collection, namespaces, propagation)
asks here which there are and hears of changes. A kind is one `Resource` in its preferred version, whatever other versions
are served: all of them show the same objects. It is there from Established on and goes when its definition goes, that is
after its last object; a definition that was made anew under the same name is reported as gone and come.

Definitions are large for their schemas. Who needs no more than their names watches `DEFINITIONS`, a view without these.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from machinery.api.scheme import version_priority
from machinery.client.informer import Informer
from machinery.client.interface import dynamic
from machinery.meta.objectmeta import Condition, Object, View
from machinery.meta.resource import Document, Resource

CUSTOM_RESOURCE_DEFINITIONS = dynamic(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
    namespaced=False,
)  # fmt: skip
ESTABLISHED = "Established"

Handler = Callable[[Resource[Document] | None, Resource[Document] | None], None]
"""(old, new): (None, new) is served from now on, (old, new) has another preferred version, (old, None) is gone."""


class Names(View):
    plural: str = ""
    kind: str = ""


class Version(View):
    name: str = ""
    served: bool = False


class DefinitionSpec(View):
    group: str = ""
    scope: str = ""
    versions: tuple[Version, ...] = ()


class DefinitionStatus(View):
    conditions: tuple[Condition, ...] | None = None
    accepted_names: Names = Names()


class Definition(Object):
    """What of a definition is not its schemas."""

    spec: DefinitionSpec = DefinitionSpec()
    status: DefinitionStatus = DefinitionStatus()


DEFINITIONS: Resource[Definition] = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
    False, Definition,
)  # fmt: skip


def is_established(definition: Document | Definition) -> bool:
    """Whether the names of a definition are accepted and its kind is served."""
    conditions = _view(definition).status.conditions or ()
    return any(c.type == ESTABLISHED and c.status == "True" for c in conditions)


def served_resources(definition: Document | Definition) -> list[Resource[Document]]:
    """One value for each served version of an established definition, the preferred one first; else nothing."""
    view = _view(definition)
    if not is_established(view):
        return []
    spec, names = view.spec, view.status.accepted_names
    versions = [version.name for version in spec.versions if version.served]
    return [
        dynamic(spec.group, version, names.plural, names.kind, spec.scope == "Namespaced")
        for version in sorted(versions, key=version_priority)
    ]


def _view(definition: Document | Definition) -> Definition:
    if isinstance(definition, Mapping):
        return msgspec.convert(definition, Definition)
    return definition


class DynamicKinds:
    """What the definitions in an informer serve, and the news of it. The informer is of either resource above."""

    def __init__(self, definitions: Informer[Any]) -> None:
        self._kinds: dict[str, Resource[Document]] = {}
        self._handlers: list[Handler] = []
        definitions.on_change(self._take)

    @property
    def resources(self) -> list[Resource[Document]]:
        """Every custom kind that is served now, in its preferred version."""
        return list(self._kinds.values())

    def on_change(self, handler: Handler) -> None:
        """Call `handler` for every change from now on, and at once for what is served already. It must not block."""
        self._handlers.append(handler)
        for resource in self.resources:
            handler(None, resource)

    def _take(self, old: Document | Definition | None, new: Document | Definition | None) -> None:
        definition = new if new is not None else old
        assert definition is not None, "an event is about something"
        name = _view(definition).metadata.name
        served = served_resources(new) if new is not None else []
        before, now = self._kinds.pop(name, None), served[0] if served else None
        if now is not None:
            self._kinds[name] = now
        if before != now:
            for handler in self._handlers:
                handler(before, now)

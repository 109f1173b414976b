"""Custom kinds as they come and go: an informer on CustomResourceDefinitions, read as `Resource` values.

Whoever must handle objects of kinds that nobody knew when it was written (garbage collection, namespaces, propagation)
asks here which there are and hears of changes. A kind is one `Resource` in its preferred version, whatever other versions
are served: all of them show the same objects. It is there from Established on and goes when its definition goes, that is
after its last object; a definition that was made anew under the same name is reported as gone and come.
"""

from collections.abc import Callable

from machinery.api.scheme import version_priority
from machinery.client.informer import Informer
from machinery.client.interface import dynamic
from machinery.meta.resource import Document, Resource

CUSTOM_RESOURCE_DEFINITIONS = dynamic(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
    namespaced=False,
)  # fmt: skip
ESTABLISHED = "Established"

Handler = Callable[[Resource[Document] | None, Resource[Document] | None], None]
"""(old, new): (None, new) is served from now on, (old, new) has another preferred version, (old, None) is gone."""


def is_established(definition: Document) -> bool:
    """Whether the names of a definition are accepted and its kind is served."""
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == ESTABLISHED and c.get("status") == "True" for c in conditions)


def served_resources(definition: Document) -> list[Resource[Document]]:
    """One value for each served version of an established definition, the preferred one first; else nothing."""
    if not is_established(definition):
        return []
    spec, names = definition["spec"], definition["status"]["acceptedNames"]
    versions = [v["name"] for v in spec["versions"] if v.get("served")]
    return [
        dynamic(
            spec["group"], version, names["plural"], names["kind"], spec["scope"] == "Namespaced"
        )
        for version in sorted(versions, key=version_priority)
    ]


class DynamicKinds:
    """What the definitions in an informer serve, and the news of it."""

    def __init__(self, definitions: Informer[Document]) -> None:
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

    def _take(self, old: Document | None, new: Document | None) -> None:
        definition = new or old
        assert definition is not None, "an event is about something"
        name = definition["metadata"]["name"]
        served = served_resources(new) if new is not None else []
        before, now = self._kinds.pop(name, None), served[0] if served else None
        if now is not None:
            self._kinds[name] = now
        if before != now:
            for handler in self._handlers:
                handler(before, now)

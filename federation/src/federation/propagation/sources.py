"""Templates by the bindings that place them, whatever their kind."""

from collections.abc import Callable, Iterable

from federation.propagation.demand import Demand
from federation.propagation.templates import TEMPLATES
from machinery.api.core import ObjectReference
from machinery.api.fleet.work import ResourceBinding
from machinery.client.informer import Informer
from machinery.meta.resource import Document, ObjectKey, Resource


class Sources:
    """The copies of all template kinds; with `demand` also of those that are in use beyond the usual."""

    def __init__(
        self,
        informer: Callable[[Resource[Document]], Informer[Document]],
        resources: Iterable[Resource[Document]] = TEMPLATES,
        *,
        demand: Demand | None = None,
    ) -> None:
        self._informers = {(r.api_version, r.kind): informer(r) for r in resources}
        self._informer = informer
        if demand is not None:
            demand.follow(self._come, self._gone)

    def get(self, source: ObjectReference) -> Document | None:
        """The object of that kind and name; None when it is gone, or its kind is no template."""
        informer = self._informers.get((source.api_version, source.kind))
        return informer.get(ObjectKey(source.namespace, source.name)) if informer else None

    def placed_by(self, binding: ResourceBinding) -> Document | None:
        """The very object that the binding places, not one that was made under its name since."""
        found = self.get(binding.spec.resource)
        same = found is not None and found["metadata"]["uid"] == binding.spec.resource.uid
        return found if same else None

    def _come(self, resource: Resource[Document]) -> None:
        self._informers[resource.api_version, resource.kind] = self._informer(resource)

    def _gone(self, resource: Resource[Document]) -> None:
        self._informers.pop((resource.api_version, resource.kind), None)

"""Kinds beyond the usual templates: those of a cluster and those that users define, while somebody asks for them.

There may be thousands of ClusterRoles and any number of custom kinds, so each is copied and watched only from the moment on when a
policy selects it or a binding holds one. A kind that was asked for stays until its definition goes or the process ends.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from federation.propagation.templates import CLUSTER_WIDE, TEMPLATES, is_own_group
from machinery.api.fleet.policy import CLUSTER_PROPAGATION_POLICIES, PROPAGATION_POLICIES
from machinery.api.fleet.work import CLUSTER_RESOURCE_BINDINGS, RESOURCE_BINDINGS
from machinery.client.dynamic_kinds import DEFINITIONS, DynamicKinds
from machinery.client.informer import Informer
from machinery.meta.resource import Document, Resource
from machinery.scripts.customizations import Kind

Handler = Callable[[Resource[Document]], None]

_USUAL: Final[dict[Kind, Resource[Document]]] = {(r.api_version, r.kind): r for r in TEMPLATES}
_KNOWN: Final[dict[Kind, Resource[Document]]] = {(r.api_version, r.kind): r for r in CLUSTER_WIDE}


class Demand:
    """Who asks for which kinds; the usual templates are always in use."""

    def __init__(
        self,
        definitions: Informer[Any],
        policies: Iterable[Informer[Any]],
        bindings: Iterable[Informer[Any]],
    ) -> None:
        self._wanted: set[Kind] = set()
        self._used: dict[Kind, Resource[Document]] = {}
        self._custom: dict[Kind, Resource[Document]] = {}
        self._come: list[Handler] = []
        self._gone: list[Handler] = []
        DynamicKinds(definitions).on_change(self._defined)
        for informer in policies:
            informer.on_change(self._of_policy)
        for informer in bindings:
            informer.on_change(self._of_binding)

    def resource_of(self, api_version: str, kind: str) -> Resource[Document] | None:
        """The kind as it is served, where it is in use."""
        return _USUAL.get((api_version, kind)) or self._used.get((api_version, kind))

    def follow(self, come: Handler, gone: Handler = lambda _: None) -> None:
        """Call `come` for each kind beyond the usual that is in use, now and from now on, and `gone` when it is not served
        any more."""
        self._come.append(come)
        self._gone.append(gone)
        for resource in list(self._used.values()):
            come(resource)

    # -------------------------------------------------------------------------------------------------- being told
    def _of_policy(self, _: Any, policy: Any) -> None:
        if policy is not None:
            for selector in policy.spec.resource_selectors:
                self._want((selector.api_version, selector.kind))

    def _of_binding(self, _: Any, binding: Any) -> None:
        if binding is not None:
            source = binding.spec.resource
            self._want((source.api_version, source.kind))

    def _defined(self, old: Resource[Document] | None, new: Resource[Document] | None) -> None:
        for resource in (old,) if old is not None else ():
            name = (resource.api_version, resource.kind)
            self._custom.pop(name, None)
            if self._used.pop(name, None) is not None:
                for handler in self._gone:
                    handler(resource)
        if new is not None:
            self._custom[new.api_version, new.kind] = new
            self._use((new.api_version, new.kind))

    def _want(self, kind: Kind) -> None:
        if kind not in _USUAL and kind not in self._wanted:
            self._wanted.add(kind)
            self._use(kind)

    def _use(self, kind: Kind) -> None:
        resource = _KNOWN.get(kind) or self._custom.get(kind)
        if resource is None or kind not in self._wanted or kind in self._used:
            return
        if is_own_group(resource.group):
            return  # they speak to the federation itself
        self._used[kind] = resource
        for handler in self._come:
            handler(resource)


_shared: "WeakKeyDictionary[Informer[Any], ref[Demand]]" = WeakKeyDictionary()
"""By the copy of the definitions. The copies hold it, by what they call, and with them it goes."""


def demand_of(informer: Callable[[Resource[Any]], Informer[Any]]) -> Demand:
    """The demand of this process, from its shared copies: the same one for all who ask, since each would hear of every change
    of every binding."""
    definitions = informer(DEFINITIONS)
    held = _shared.get(definitions)
    found = held() if held is not None else None
    if found is None:
        found = Demand(
            definitions,
            (informer(PROPAGATION_POLICIES), informer(CLUSTER_PROPAGATION_POLICIES)),
            (informer(RESOURCE_BINDINGS), informer(CLUSTER_RESOURCE_BINDINGS)),
        )
        _shared[definitions] = ref(found)
    return found

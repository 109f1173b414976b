"""The acting half of `claims`: what an owner has after it has adopted and let go what it should, and whom a pod concerns."""

from collections.abc import Iterable
from typing import Any, TypeVar

from cluster_agent.control.controllers import claims
from cluster_agent.control.controllers.selectors import matches
from machinery.api.core import Pod
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.controller.executor import Executor
from machinery.controller.manager import owner_keys
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import Object, controller_of
from machinery.meta.resource import ObjectKey, Resource

T = TypeVar("T", bound=Object)


class Ownership:
    """Of the owners of one kind. An owner has `spec.selector`."""

    def __init__(self, client: Client, executor: Executor, owners: Resource[Any]) -> None:
        self._client, self._executor, self._owners = client, executor, owners

    async def of(self, owner: Any, children: Resource[T], candidates: Iterable[T]) -> list[T]:
        """Those of the candidates that are the owner's now. One that is adopted is as it was read."""
        found = claims.claim(owner, owner.spec.selector, candidates)
        one = typed(self._owners, owner)
        for child in found.released:
            await self._executor.apply([claims.release(one, children, child)])
        owned = list(found.owned)
        if found.adoptable and await still_lives(self._client, self._owners, owner):
            await self._executor.apply(claims.adopt(one, children, c) for c in found.adoptable)
            owned += found.adoptable
        return owned


async def still_lives(client: Client, resource: Resource[Any], owner: Object) -> bool:
    """Whether the living owner is the one that was read: who works from an old copy must not adopt for one that is gone."""
    try:
        live = await client.get(resource, owner.key)
    except NotFound:
        return False
    return bool(live.metadata.uid == owner.metadata.uid and not live.deleting)


def typed(resource: Resource[Any], owner: Object) -> Object:
    """The owner with its type filled in: lists leave it out."""
    return Object(api_version=resource.api_version, kind=resource.kind, metadata=owner.metadata)


def concerned(owners: Informer[Any], pod: Pod) -> Iterable[ObjectKey]:
    """A pod concerns its owner, an orphan everyone who would take it."""
    if controller_of(pod.metadata) is not None:
        return owner_keys(pod, owners.resource)
    return [
        one.key
        for one in owners.list(pod.metadata.namespace)
        if matches(one.spec.selector, pod.metadata.labels)
    ]

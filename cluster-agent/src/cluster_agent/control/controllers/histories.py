"""The acting half of `history`: which revisions are the owner's, and the one of the present template, made where missing."""

from typing import Any, assert_never

from cluster_agent.control.controllers import claims, history
from cluster_agent.control.controllers.history import Keep, Make, Owner, Renumber
from cluster_agent.control.controllers.pods import CONTROLLER_INDEX, ORPHANS
from cluster_agent.control.controllers.sets import (
    REVISIONS,
    ControllerRevision,
    typed,
)
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.controller.action import Create
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.meta.errors import AlreadyExists, NotFound
from machinery.meta.objectmeta import Object, controller_of
from machinery.meta.resource import ObjectKey, Resource


class Histories:
    """The revisions of every owner of one kind."""

    def __init__(self, manager: Manager, executor: Executor, resource: Resource[Any]) -> None:
        self._client: Client = manager.client
        self._executor, self._resource = executor, resource
        self._revisions: Informer[ControllerRevision] = manager.informer(REVISIONS)
        self._revisions.add_index(CONTROLLER_INDEX, _index)

    async def of(self, owner: Owner) -> list[ControllerRevision]:
        """Those that the owner controls, after it has adopted and let go what it should."""
        orphans = self._revisions.by_index(CONTROLLER_INDEX, ORPHANS + owner.metadata.namespace)
        mine = self._revisions.by_index(CONTROLLER_INDEX, owner.metadata.uid)
        found = claims.claim(owner, owner.spec.selector, [*mine, *orphans])
        one = typed(owner)
        for revision in found.released:
            _ = await self._executor.apply([claims.release(one, REVISIONS, revision)])
        owned = list(found.owned)
        if found.adoptable and await still_lives(self._client, self._resource, owner):
            _ = await self._executor.apply(
                claims.adopt(one, REVISIONS, revision) for revision in found.adoptable
            )
            owned += found.adoptable
        return owned

    async def present(
        self, owner: Owner, revisions: list[ControllerRevision]
    ) -> tuple[ControllerRevision, int]:
        """The revision of the present template, and how many names were found taken by other templates."""
        collisions = owner.status.collision_count or 0
        while True:
            chosen = history.step(owner, revisions, collisions)
            match chosen:
                case Keep():
                    return chosen.revision, collisions
                case Renumber():
                    _ = await self._executor.apply([history.renumber(chosen)])
                    return chosen.revision, collisions
                case Make():
                    made = await self._make(owner, chosen)
                    if made is not None:
                        return made, collisions
                    collisions += 1
                case _:
                    assert_never(chosen)

    async def _make(self, owner: Owner, chosen: Make) -> ControllerRevision | None:
        """The new revision, or the one that an old copy did not show; None if the name is another template's."""
        made: list[ControllerRevision] = []
        try:
            _ = await self._executor.apply(
                [Create(REVISIONS, chosen.document)], on_done=lambda _, answer: made.append(answer)
            )
        except AlreadyExists:
            key = ObjectKey(owner.metadata.namespace, chosen.document["metadata"]["name"])
            taken = await self._client.get(REVISIONS, key)
            reference = controller_of(taken.metadata)
            ours = reference is not None and reference.uid == owner.metadata.uid
            return taken if ours and history.is_same(taken, owner) else None
        return made[0]


async def still_lives(client: Client, resource: Resource[Any], owner: Object) -> bool:
    """Whether the living owner is the one that was read: who works from an old copy must not adopt for one that is gone."""
    try:
        live = await client.get(resource, owner.key)
    except NotFound:
        return False
    return bool(live.metadata.uid == owner.metadata.uid and not live.deleting)


def _index(revision: ControllerRevision) -> tuple[str]:
    reference = controller_of(revision.metadata)
    return (reference.uid if reference else ORPHANS + revision.metadata.namespace,)

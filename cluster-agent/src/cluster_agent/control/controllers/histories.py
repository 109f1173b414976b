"""The acting half of `history`: which revisions are the owner's, and the one of the present template, made where missing."""

from typing import Any, assert_never

from cluster_agent.control.controllers import history
from cluster_agent.control.controllers.history import Keep, Make, Owner, Renumber
from cluster_agent.control.controllers.ownership import Ownership
from cluster_agent.control.controllers.pods import CONTROLLER_INDEX, ORPHANS
from cluster_agent.control.controllers.sets import REVISIONS, ControllerRevision
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.controller.action import Create
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.meta.errors import AlreadyExists
from machinery.meta.objectmeta import controller_of
from machinery.meta.resource import ObjectKey, Resource


class Histories:
    """The revisions of every owner of one kind."""

    def __init__(self, manager: Manager, executor: Executor, resource: Resource[Any]) -> None:
        self._client: Client = manager.client
        self._executor = executor
        self._ownership = Ownership(manager.client, executor, resource)
        self._revisions: Informer[ControllerRevision] = manager.informer(REVISIONS)
        self._revisions.add_index(CONTROLLER_INDEX, _index)

    async def of(self, owner: Owner) -> list[ControllerRevision]:
        """Those that the owner controls, after it has adopted and let go what it should."""
        orphans = self._revisions.by_index(CONTROLLER_INDEX, ORPHANS + owner.metadata.namespace)
        mine = self._revisions.by_index(CONTROLLER_INDEX, owner.metadata.uid)
        return await self._ownership.of(owner, REVISIONS, [*mine, *orphans])

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


def _index(revision: ControllerRevision) -> tuple[str]:
    reference = controller_of(revision.metadata)
    return (reference.uid if reference else ORPHANS + revision.metadata.namespace,)

"""StatefulSet controller, the acting half.

Until the informer shows what the last pass made or deleted, no pass does more: with names that stay the same a pass from
an old copy could not make a pod twice, but it could delete the new one for the old one's revision. What the server
refuses is told once a try, and tried again.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

from cluster_agent.control.controllers import history
from cluster_agent.control.controllers.api_errors import is_namespace_terminating
from cluster_agent.control.controllers.histories import Histories
from cluster_agent.control.controllers.ownership import Ownership, concerned
from cluster_agent.control.controllers.pods import CONTROLLER_INDEX, ORPHANS, controller_index
from cluster_agent.control.controllers.sets import (
    CLAIMS,
    REVISIONS,
    STATEFULSETS,
    ControllerRevision,
    PersistentVolumeClaim,
    StatefulSet,
)
from cluster_agent.control.controllers.statefulset import status
from cluster_agent.control.controllers.statefulset.identity import (
    claim_names,
    ordinal_of,
    revision_of,
)
from cluster_agent.control.controllers.statefulset.plan import Revisions, plan, told
from machinery.api.core import PODS, Pod
from machinery.api.scheme import ServedKind
from machinery.client.informer import Informer
from machinery.controller.action import Action, Create, Delete, Result
from machinery.controller.expectations import Expectations
from machinery.controller.manager import Manager
from machinery.controllers.events import SpeakingExecutor, executor_for
from machinery.meta.errors import AlreadyExists, Conflict, Forbidden, StatusError
from machinery.meta.resource import ObjectKey


class StatefulSetReconciler:
    """Read, plan, act."""

    def __init__(
        self,
        manager: Manager,
        executor: SpeakingExecutor,
        claim_informer: Informer[PersistentVolumeClaim] | None,
    ) -> None:
        """Without `claim_informer` the server serves no claims: one that is asked for is refused, with an Event."""
        self._clock, self._executor = manager.clock, executor
        self._sets = manager.informer(STATEFULSETS)
        self._pods = manager.informer(PODS)
        self._pods.add_index(CONTROLLER_INDEX, controller_index)
        self._claims = claim_informer
        self._histories = Histories(manager, executor, STATEFULSETS)
        self._ownership = Ownership(manager.client, executor, STATEFULSETS)
        self._expectations = Expectations(self._pods, manager.clock)

    async def reconcile(self, key: ObjectKey) -> Result:
        set_ = self._sets.get(key)
        if set_ is None:
            self._expectations.forget(key)
            return Result()
        if not self._expectations.satisfied(key):
            return Result()
        pods = await self._claimed(set_)
        if set_.deleting:
            return await self._report_end(set_, pods)
        known = await self._histories.of(set_)
        try:
            update, collisions = await self._histories.present(set_, known)
        except Forbidden as error:
            if is_namespace_terminating(error):
                return Result()
            raise
        current = _named(known, set_.status.current_revision) or update
        failure = await self._manage(set_, pods, current, update)
        names = (current.metadata.name, update.metadata.name)
        now = self._clock.now()
        fresh = status.counted(set_, pods, names, collisions, now)
        result = await self._executor.apply(status.plan_status(set_, fresh, pods, now))
        if isinstance(
            failure, AlreadyExists
        ):  # a pod that is not the set's has the name: an everyday wait
            raise Conflict(failure.message) from failure
        if failure is not None:
            raise failure
        idle = history.idle(known, {*names, fresh.current_revision, *map(revision_of, pods)})
        surplus = len(idle) - set_.spec.revision_history_limit
        _ = await self._executor.apply(history.trim(idle, surplus))
        return result

    async def _report_end(self, set_: StatefulSet, pods: Sequence[Pod]) -> Result:
        """A set that is on its way out makes and deletes nothing; its pods go by the garbage collector."""
        names = (set_.status.current_revision, set_.status.update_revision)
        collisions = set_.status.collision_count or 0
        now = self._clock.now()
        fresh = status.counted(set_, pods, names, collisions, now)
        return await self._executor.apply(status.plan_status(set_, fresh, (), now))

    async def _manage(
        self,
        set_: StatefulSet,
        pods: Sequence[Pod],
        current: ControllerRevision,
        update: ControllerRevision,
    ) -> StatusError | None:
        """Make, mend and delete; the first error, unless the namespace is on its way out."""
        revisions = Revisions(
            current.metadata.name,
            history.template_of(current),
            update.metadata.name,
            history.template_of(update),
        )
        actions = plan(set_, pods, self._claims_of(set_, pods), revisions, self._clock.now())
        done: list[Action] = []
        expect = self._expectations.note(set_.key)

        def on_done(action: Action, answer: Any) -> None:
            expect_of(action, answer)
            done.append(action)
            made = not isinstance(action, Create) or answer is not None
            if made and (event := told(set_, action)) is not None:
                self._executor.emit(event)

        def expect_of(action: Action, answer: Any) -> None:
            if isinstance(action, Create | Delete) and action.resource is PODS:
                expect(action, answer)

        try:
            _ = await self._executor.apply(actions, on_done=on_done)
        except StatusError as error:
            if isinstance(error, Forbidden) and is_namespace_terminating(error):
                return None
            failed = next((a for a in actions if not _is_in(a, done)), None)
            if failed is not None and not isinstance(error, AlreadyExists):
                event = told(set_, failed, error.message)
                if event is not None:
                    self._executor.emit(event)
            return error
        return None

    def _claims_of(
        self, set_: StatefulSet, pods: Sequence[Pod]
    ) -> dict[str, PersistentVolumeClaim]:
        """The claims of the pods that are there or wanted, by name."""
        if self._claims is None or not set_.spec.volume_claim_templates:
            return {}
        start = set_.spec.ordinals.start
        ordinals = set(range(start, start + set_.spec.replicas))
        ordinals |= {
            ordinal
            for pod in pods
            if (ordinal := ordinal_of(set_.metadata.name, pod.metadata.name)) is not None
        }
        found = {}
        for name in (name for ordinal in ordinals for name in claim_names(set_, ordinal)):
            claim = self._claims.get(ObjectKey(set_.metadata.namespace, name))
            if claim is not None:
                found[name] = claim
        return found

    async def _claimed(self, set_: StatefulSet) -> list[Pod]:
        """The pods that are the set's by owner, selector and name, after it has adopted and let go what it should."""
        orphans = self._pods.by_index(CONTROLLER_INDEX, ORPHANS + set_.metadata.namespace)
        mine = self._pods.by_index(CONTROLLER_INDEX, set_.metadata.uid)
        named = [
            pod
            for pod in (*mine, *orphans)
            if ordinal_of(set_.metadata.name, pod.metadata.name) is not None
        ]
        return await self._ownership.of(set_, PODS, named)


def _named(revisions: Collection[ControllerRevision], name: str) -> ControllerRevision | None:
    return next((one for one in revisions if one.metadata.name == name), None)


def _is_in(action: Action, actions: Iterable[Action]) -> bool:
    return any(one is action for one in actions)


def setup(manager: Manager, kinds: Iterable[ServedKind]) -> None:
    """Watch StatefulSets, their pods and revisions, and their claims where `kinds` has them."""
    served = any((kind.group, kind.kind) == (CLAIMS.group, CLAIMS.kind) for kind in kinds)
    claim_informer = manager.informer(CLAIMS) if served else None
    executor = executor_for(manager, "statefulset-controller")
    reconciler = StatefulSetReconciler(manager, executor, claim_informer)
    sets = manager.informer(STATEFULSETS)
    builder = manager.controller("statefulset", reconciler)

    def of_claim(claim: PersistentVolumeClaim) -> Iterable[ObjectKey]:
        """Those that a claim of this name belongs to: one being collected keeps a pod from being made."""
        name, _, ordinal = claim.metadata.name.rpartition("-")
        return [
            one.key
            for one in sets.list(claim.metadata.namespace)
            if ordinal.isdecimal()
            and any(
                name == f"{template['metadata']['name']}-{one.metadata.name}"
                for template in one.spec.volume_claim_templates
            )
        ]

    _ = builder.watches(STATEFULSETS).watches(PODS, partial(concerned, sets))
    _ = builder.owns(REVISIONS, STATEFULSETS)
    if claim_informer is not None:
        _ = builder.watches(CLAIMS, of_claim)

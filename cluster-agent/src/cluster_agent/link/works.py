"""Works: what the federation wants here is here, what it no longer wants is gone, and it hears what came of it.

`link.member` applies, repairs and deletes; here is what a Work asks for, and what is said of it. A deleted Work keeps its
finalizer until its objects are gone, or are the member's own where it says preserve. What a Work that stays no longer carries
is deleted for the kinds that its annotation PRUNES names, after the rest was applied. Of a Work whose dispatching is suspended
nothing is applied, repaired or pruned; what its objects report still travels. It is deleted as any other.

A status is written under the version of the Work that it was made from: a report that comes late changes nothing. What was
accepted a moment ago, and is not in the copy of the Work yet, counts as written.

A namespace or kind that this cluster does not have is waited for without a word in the log: an import goes to every member,
also to those without the namespace, and to foreign clusters without the kind; the Work's status says it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster_agent.link.interpreters import Now, nobody, report
from cluster_agent.link.member import Drift, DriftState, Member, Outcome, identifier
from machinery.api.fleet.reflect import UNKNOWN
from machinery.api.fleet.resilience import FENCED
from machinery.api.fleet.work import (
    DRIFTED,
    EXECUTION_FINALIZER,
    WORK_DOCUMENTS,
    WORK_NAME,
    WORK_NAMESPACE,
    WORKS,
    Work,
)
from machinery.client.informer import Informer
from machinery.controller.action import Action, Patch, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.controller.predicates import wish_changed
from machinery.kit.clock import rfc3339
from machinery.meta.errors import Conflict, NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey, document_key
from machinery.scripts.customizations import BUILT_IN, Customizations, Kind

log = logging.getLogger(__name__)

GONE_CHECK_S = 1.0
"""How soon to look again whether a deleted object is gone."""
NAMESPACE_CHECK_S = 5.0
"""How soon to look again whether a namespace that was missing is there."""
RECONNECT_S = 2.0
"""How soon to try again when the federation is not reached."""

DISPATCHING = ("True", "Dispatching", "Work is being dispatched to member clusters.")
SUSPENDED = ("False", "SuspendDispatching", "Work dispatching is in a suspended state.")
DRIFT_MAX = 4096
"""Characters of the report in a condition."""
BRING_TRIES = 5
INTERPRETED = "Interpreted"
"""Condition: whether the interpreters that users gave answer for what is here."""

Said = tuple[str, str, str]
"""Status, reason and message of a condition."""


def suspended(work: Document) -> bool:
    """Whether nothing of the Work is to be brought here for now."""
    return bool(work["spec"].get("suspendDispatching"))


def status_plan(
    work: Document, outcomes: list[Outcome], now: str, scripts: Customizations = BUILT_IN
) -> Document | None:
    """The Work's status as a merge patch, or None when it says so already. `scripts`: what users say of kinds."""
    held: Mapping[str, object] = work.get("status") or {}
    waits = suspended(work)
    failures: list[str] = []
    shown = [o for o in outcomes if o.live is not None or not waits]
    manifests = [_reported(o, scripts, failures) for o in shown]
    conditions = _held(held.get("conditions"))
    conditions = _with(conditions, "Dispatching", SUSPENDED if waits else DISPATCHING, now)
    if not waits:
        conditions = _with(conditions, "Applied", _applied(outcomes), now)
        conditions = _drifted(conditions, outcomes, now)
    conditions = _interpreted(conditions, failures, now)
    fresh = {"conditions": conditions, "manifestStatuses": manifests}
    same = all((held.get(name) or []) == value for name, value in fresh.items())
    return None if same else fresh


def _reported(outcome: Outcome, scripts: Customizations, failures: list[str]) -> Document:
    """The manifest's entry; why a user's script did not answer is added to `failures`."""
    entry: Document = {"identifier": outcome.identifier, "health": UNKNOWN}
    if outcome.live is not None:
        entry["health"], status, why = report(scripts, outcome.live)
        failures += why
        if status is not None:
            entry["status"] = status
    return entry


def _interpreted(conditions: list[Document], failures: Sequence[str], now: str) -> list[Document]:
    """False while a user's script fails; absent otherwise."""
    if not failures:
        return [c for c in conditions if c["type"] != INTERPRETED]
    message = "; ".join(dict.fromkeys(failures))[:DRIFT_MAX]
    return _with(conditions, INTERPRETED, ("False", "InterpreterFailed", message), now)


def _applied(outcomes: Sequence[Outcome]) -> Said:
    failed = [o.error for o in outcomes if o.error]
    if not failed:
        return "True", "AppliedSuccessful", "Manifest has been successfully applied"
    count = f"{len(outcomes) - len(failed)}/{len(outcomes)}"
    return (
        "False",
        "AppliedFailed",
        f"Failed to apply all manifests ({count}): {'; '.join(failed)}",
    )


def _drifted(conditions: list[Document], outcomes: Sequence[Outcome], now: str) -> list[Document]:
    """What others changed here: True while it stands, False with the last repair; absent while nobody ever did."""
    drifts = [o.drift for o in outcomes if o.drift is not None]
    stands = [d for d in drifts if d.state is not DriftState.REPAIRED]
    old = next((c for c in conditions if c["type"] == DRIFTED), None)
    if stands:
        message = "; ".join(d.message for d in stands)[:DRIFT_MAX]
        return _with(conditions, DRIFTED, ("True", stands[0].state.value, message), now)
    if drifts:
        message = "repaired: " + "; ".join(d.message for d in drifts)
        said = ("False", DriftState.REPAIRED.value, message[:DRIFT_MAX])
        others = [c for c in conditions if c["type"] != DRIFTED]  # each repair has its time
        return _with(others, DRIFTED, said, now)
    if old is not None and old["status"] == "True":
        return _with(conditions, DRIFTED, ("False", "AsStated", "as its manifest says again"), now)
    return conditions


def _held(conditions: object) -> list[Document]:
    return list(conditions) if isinstance(conditions, list) else []


def _with(before: list[Document], kind: str, value: Said, now: str) -> list[Document]:
    old = next((c for c in before if c.get("type") == kind), None)
    status, reason, message = value
    since = old["lastTransitionTime"] if old is not None and old["status"] == status else now
    fresh = {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }
    if old is None:
        return [*before, fresh]
    return [fresh if c is old else c for c in before]


def needs_grants(work: Document) -> str:
    """Why the Work must not run on kubelets that enforce no grants; empty if it may."""
    if (work["metadata"].get("labels") or {}).get(FENCED) != "true":
        return ""
    return (
        "the cluster's kubelets do not enforce grants: mode consistency and stopAfterDisconnect are not possible here; "
        "keep the workload away from this cluster by its policy"
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """A report that was accepted: of which version of the Work it was made, which one it made, and the status since."""

    before: str
    after: str
    status: Document


class WorkReconciler:
    """Works of this member, at the federation."""

    def __init__(
        self,
        manager: Manager,
        member: Member,
        works: Informer[Document],
        refusal: Callable[[Document], str] | None = None,
        scripts: Now = nobody,
    ) -> None:
        """`refusal` says why a Work must not be brought here, empty if it may; `scripts`: what users say of kinds."""
        self._scripts = scripts
        self._refusal = refusal or (lambda _: "")
        self._clock = manager.clock
        self._executor, self._federation = manager.executor, manager.client
        self._works, self._member = works, member
        self._untold: dict[ObjectKey, dict[int, Drift]] = {}
        """Repairs whose report was not accepted: by Work and manifest."""
        self._told: dict[ObjectKey, _Told] = {}
        """Reports that were accepted, and that the copy of the Work may not show yet."""

    def news(self, old: Document | None, new: Document | None) -> bool:
        """Whether a change of the copy is more than our own report coming back."""
        if old is None or new is None or wish_changed(old, new):
            return True
        key, version = document_key(new), new["metadata"]["resourceVersion"]
        told = self._told.get(key)
        if told is None or told.after != version:
            return True
        del self._told[key]
        return False

    async def reconcile(self, key: ObjectKey) -> Result:
        try:
            return await self._reconcile(key)
        except (ConnectionError, TimeoutError) as error:
            # The queue's own pauses grow for as long as a cut lasts; after it, statuses shall be fresh at once.
            log.info("federation not reached", extra={"work": str(key), "error": str(error)})
            return Result(requeue_after=RECONNECT_S)

    async def _reconcile(self, key: ObjectKey) -> Result:
        work = self._works.get(key)
        if work is None:
            self._told.pop(key, None)
            return Result()
        manifests = (work["spec"].get("workload") or {}).get("manifests") or []
        if work["metadata"].get("deletionTimestamp"):
            return await self._remove(key, work, manifests)
        return await self._bring(key, work)

    async def bring(self, key: ObjectKey, work: Document) -> None:
        """One Work, whatever the queue does meanwhile: for the inventory. Raises StatusError, ConnectionError."""
        for _ in range(BRING_TRIES):
            try:
                await self._bring(key, work)
            except Conflict:
                try:
                    work = await self._federation.get(WORK_DOCUMENTS, key)
                except NotFound:
                    return
            else:
                return
        await self._bring(key, work)

    async def _bring(self, key: ObjectKey, work: Document) -> Result:
        manifests = (work["spec"].get("workload") or {}).get("manifests") or []
        waits, why = suspended(work), self._refusal(work)
        if waits:
            outcomes = [await self._member.observe(work, i, m) for i, m in enumerate(manifests)]
        elif why:
            outcomes = [Outcome(identifier(i, m, ""), why) for i, m in enumerate(manifests)]
        else:
            outcomes = [await self._member.apply(work, i, m) for i, m in enumerate(manifests)]
        await self._tell(key, work, outcomes)
        if waits or why:
            return Result()
        return await self._then(key, work, outcomes)

    async def _tell(self, key: ObjectKey, work: Document, outcomes: list[Outcome]) -> None:
        """Write the status. A repair is told once, so what was not accepted is told with the next."""
        for ordinal, drift in self._untold.pop(key, {}).items():
            if ordinal < len(outcomes) and outcomes[ordinal].drift is None:
                outcomes[ordinal] = replace(outcomes[ordinal], drift=drift)
        before = work["metadata"]["resourceVersion"]
        version = before
        told = self._told.pop(key, None)
        if told is not None and told.before == before:
            work, version = work | {"status": told.status}, told.after
            self._told[key] = told
        status = status_plan(work, outcomes, rfc3339(self._clock.now()), self._scripts())
        if status is None:
            return

        def accepted(_: Action, answer: Work) -> None:
            whole = (work.get("status") or {}) | status
            self._told[key] = _Told(before, answer.metadata.resource_version, whole)

        try:
            wanted = SetStatus(WORKS, key, status, resource_version=version)
            await self._executor.apply([wanted], on_done=accepted)
        except (StatusError, ConnectionError, TimeoutError):
            untold = {i: o.drift for i, o in enumerate(outcomes) if o.drift is not None}
            if untold:
                self._untold[key] = untold
            raise

    async def _then(self, key: ObjectKey, work: Document, outcomes: Sequence[Outcome]) -> Result:
        """What is left to do after the status was written."""
        failed = [o for o in outcomes if o.error]
        if not failed:
            await self._member.prune(work)
            again = [o.again_s for o in outcomes if o.again_s is not None]
            return Result(requeue_after=min(again) if again else None)
        if all(o.homeless for o in failed):
            return Result(requeue_after=NAMESPACE_CHECK_S)
        log.info("work not applied", extra={"work": str(key), "error": failed[0].error})
        return Result(requeue_after=GONE_CHECK_S * 2)

    async def _remove(self, key: ObjectKey, work: Document, manifests: list[Document]) -> Result:
        finalizers = work["metadata"].get("finalizers") or []
        if EXECUTION_FINALIZER not in finalizers:
            return Result()
        if work["spec"].get("preserveResourcesOnDeletion"):
            for manifest in manifests:
                await self._member.release(key, manifest)
        else:
            gone = [await self._member.remove(key, manifest) for manifest in reversed(manifests)]
            if not all(gone):
                return Result(requeue_after=GONE_CHECK_S)
        left = [f for f in finalizers if f != EXECUTION_FINALIZER]
        patch = {"metadata": {"finalizers": left or None}}
        return await self._executor.apply([Patch(WORKS, key, patch, uid=work["metadata"]["uid"])])


def carries(work: Document, kind: Kind) -> bool:
    """Whether a manifest of the Work is of the kind."""
    manifests = (work["spec"].get("workload") or {}).get("manifests") or ()
    return any((m["apiVersion"], m["kind"]) == kind for m in manifests)


def work_keys(live: Document) -> list[ObjectKey]:
    """The Work that made the member's object."""
    annotations = live["metadata"].get("annotations") or {}
    name, namespace = annotations.get(WORK_NAME), annotations.get(WORK_NAMESPACE)
    return [ObjectKey(namespace, name)] if name and namespace else []

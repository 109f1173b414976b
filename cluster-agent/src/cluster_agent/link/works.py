"""Works: what the federation wants here is here, what it no longer wants is gone, and it hears what came of it.

Manifests are applied by server-side apply as one field manager, with force: what the federation states wins, what it
leaves open (a member's own annotations, status) stays. An object that exists here and does not belong to the federation
is a conflict unless the Work says Overwrite. A deleted Work keeps its finalizer until its objects are gone. What a Work that
stays no longer carries is deleted for the kinds that its annotation PRUNES names, after the rest was applied.

A namespace or kind that this cluster does not have is waited for without a word in the log: an import goes to every member,
also to those without the namespace, and to foreign clusters without the kind; the Work's status says it.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from machinery.api.fleet.reflect import UNKNOWN, health, reflected
from machinery.api.fleet.resilience import FENCED
from machinery.api.fleet.work import (
    CONFLICT_RESOLUTION,
    EXECUTION_FINALIZER,
    MANAGED_LABEL,
    PRUNES,
    WORK_NAME,
    WORK_NAMESPACE,
    WORKS,
)
from machinery.client.informer import Informer
from machinery.client.interface import Client, DeleteOptions, PatchType
from machinery.controller.action import Patch, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.errors import Conflict, NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

log = logging.getLogger(__name__)

GONE_CHECK_S = 1.0
"""How soon to look again whether a deleted object is gone."""
NAMESPACE_CHECK_S = 5.0
"""How soon to look again whether a namespace that was missing is there."""
COPY_WAIT_S = 5.0
"""For the copy of a kind's managed objects; a member that does not let us list them is asked for each one instead."""
RECONNECT_S = 2.0
"""How soon to try again when the federation is not reached."""

Resolve = Callable[[str, str], Resource[Document] | None]
"""(apiVersion, kind) -> how the member serves it, or None."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one manifest."""

    identifier: Document
    error: str = ""
    live: Document | None = None
    homeless: bool = False
    """The object's namespace is not there, or its kind is not served: waited for, and no fault."""


def belongs(live: Document, work: ObjectKey) -> bool:
    """Whether the member's object was made by this Work."""
    annotations = live["metadata"].get("annotations") or {}
    return (annotations.get(WORK_NAMESPACE), annotations.get(WORK_NAME)) == (
        work.namespace,
        work.name,
    )


def conflict(live: Document | None, work: Document) -> str:
    """Why the manifest may not be applied over what is there; empty if it may."""
    if live is None or (live["metadata"].get("labels") or {}).get(MANAGED_LABEL) == "true":
        return ""
    annotations = work["metadata"].get("annotations") or {}
    if annotations.get(CONFLICT_RESOLUTION) == "overwrite":
        return ""
    return (
        f"{live['kind']} {document_key(live)} exists in the cluster and is not managed by the federation; "
        "set conflictResolution: Overwrite in the policy to take it over"
    )


def prunes(work: Document) -> list[tuple[str, str]]:
    """(apiVersion, kind) of what is deleted when the Work carries it no more."""
    told = (work["metadata"].get("annotations") or {}).get(PRUNES, "")
    kinds = [one.rpartition("/") for one in told.split(",") if one]
    return [(api_version, kind) for api_version, _, kind in kinds]


def no_namespace(error: StatusError) -> bool:
    """Whether the object could not be made because its namespace is not there."""
    return isinstance(error, NotFound) and (error.details or {}).get("kind") == "namespaces"


def digest(manifest: Document) -> str:
    """A hash of what is wanted."""
    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def version_of(live: Document) -> str:
    """What moves when somebody changes what the object asks for."""
    metadata = live["metadata"]
    return str(metadata.get("generation") or metadata.get("resourceVersion", ""))


def identifier(ordinal: int, manifest: Document, plural: str) -> Document:
    """How a manifest is named in the Work's status."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    key = document_key(manifest)
    named = {
        "ordinal": ordinal,
        "group": group,
        "version": version,
        "kind": manifest["kind"],
        "resource": plural,
        "name": key.name,
    }
    return named | ({"namespace": key.namespace} if key.namespace else {})


def status_plan(work: Document, outcomes: list[Outcome], now: str) -> Document | None:
    """The Work's status as a merge patch, or None when it says so already."""
    held: Mapping[str, object] = work.get("status") or {}
    manifests = []
    for outcome in outcomes:
        entry: Document = {"identifier": outcome.identifier, "health": UNKNOWN}
        if outcome.live is not None:
            entry["health"] = health(outcome.live)
            status = reflected(outcome.live)
            if status is not None:
                entry["status"] = status
        manifests.append(entry)
    failed = [o.error for o in outcomes if o.error]
    applied = (
        (
            "False",
            "AppliedFailed",
            f"Failed to apply all manifests ({len(outcomes) - len(failed)}/{len(outcomes)}): {'; '.join(failed)}",
        )
        if failed
        else ("True", "AppliedSuccessful", "Manifest has been successfully applied")
    )
    conditions = _conditions(held.get("conditions"), "Applied", applied, now)
    fresh = {"conditions": conditions, "manifestStatuses": manifests}
    same = all((held.get(name) or []) == value for name, value in fresh.items())
    return None if same else fresh


def _conditions(held: object, kind: str, value: tuple[str, str, str], now: str) -> list[Document]:
    before: list[Document] = held if isinstance(held, list) else []
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
    return [*(c for c in before if c.get("type") != kind), fresh]


def needs_grants(work: Document) -> str:
    """Why the Work must not run on kubelets that enforce no grants; empty if it may."""
    if (work["metadata"].get("labels") or {}).get(FENCED) != "true":
        return ""
    return (
        "the cluster's kubelets do not enforce grants: mode consistency and stopAfterDisconnect are not possible here; "
        "keep the workload away from this cluster by its policy"
    )


class Member:
    """The member's objects that belong to the federation: applied, watched, deleted."""

    def __init__(
        self,
        client: Client,
        resolve: Resolve,
        watch: Callable[[Resource[Document]], Informer[Document]],
    ) -> None:
        self._client, self._watch = client, watch
        self.resolve = resolve
        self._applied: dict[tuple[Resource[Document], ObjectKey], tuple[str, str]] = {}
        self._uncopied: set[Resource[Document]] = set()

    async def _wait_for(self, copy: Informer[Document]) -> None:
        """Raises TimeoutError; from then on `live` asks without waiting."""
        try:
            async with asyncio.timeout(COPY_WAIT_S):
                await copy.wait_synced()
            self._uncopied.discard(copy.resource)
        except TimeoutError:
            self._uncopied.add(copy.resource)
            raise

    async def live(self, resource: Resource[Document], key: ObjectKey) -> Document | None:
        """The object as it is now: from the copy of managed objects, else asked for."""
        copy = self._watch(resource)
        if not copy.synced and resource not in self._uncopied:
            with contextlib.suppress(TimeoutError):
                await self._wait_for(copy)
        found = copy.get(key) if copy.synced else None
        if found is not None:
            return found
        try:
            return await self._client.get(resource, key)
        except NotFound:
            return None

    async def apply(self, work: Document, ordinal: int, manifest: Document) -> Outcome:
        """Bring the object to what the manifest says. Errors of the API become the outcome's error."""
        resource = self.resolve(manifest["apiVersion"], manifest["kind"])
        named = identifier(ordinal, manifest, resource.plural if resource is not None else "")
        if resource is None:
            kind = f"{manifest['apiVersion']} {manifest['kind']}"
            return Outcome(named, f"the cluster does not serve {kind}", homeless=True)
        key = document_key(manifest)
        try:
            live = await self.live(resource, key)
        except StatusError as error:
            return Outcome(named, str(error))
        why = conflict(live, work)
        if why:
            return Outcome(named, why)
        wanted = digest(manifest)
        if live is not None and self._applied.get((resource, key)) == (wanted, version_of(live)):
            return Outcome(named, live=live)
        try:
            live = await self._client.patch(resource, key, manifest, PatchType.APPLY, force=True)
        except StatusError as error:
            return Outcome(named, str(error), live, homeless=no_namespace(error))
        self._applied[resource, key] = (wanted, version_of(live))
        return Outcome(named, live=live)

    async def prune(self, work: Document) -> None:
        """Delete what this Work made and carries no more, of the kinds that it names. Raises StatusError, TimeoutError."""
        manifests = (work["spec"].get("workload") or {}).get("manifests") or []
        for resource, key, uid in await self._stale(work, manifests):
            options = DeleteOptions(propagation_policy="Background", uid=uid)
            try:
                await self._client.delete(resource, key, options)
            except (NotFound, Conflict):
                continue  # gone, or another of that name: its own event looks again
            self._applied.pop((resource, key), None)

    async def _stale(
        self, work: Document, manifests: list[Document]
    ) -> list[tuple[Resource[Document], ObjectKey, str]]:
        found = []
        for kind in prunes(work):
            resource = self.resolve(*kind)
            if resource is None:
                continue
            copy = self._watch(resource)
            await self._wait_for(copy)
            kept = {document_key(m) for m in manifests if (m["apiVersion"], m["kind"]) == kind}
            namespace = document_key(manifests[0]).namespace if manifests else ""
            found += [
                (resource, key, live["metadata"]["uid"])
                for live in copy.list(namespace)
                if (key := document_key(live)) not in kept and belongs(live, document_key(work))
            ]
        return found

    async def remove(self, work: ObjectKey, manifest: Document) -> bool:
        """Delete the object if it is this Work's; True when it is gone."""
        resource = self.resolve(manifest["apiVersion"], manifest["kind"])
        if resource is None:
            return True
        key = document_key(manifest)
        try:
            live = await self._client.get(resource, key)
        except NotFound:
            self._applied.pop((resource, key), None)
            return True
        if not belongs(live, work):
            return True
        if not live["metadata"].get("deletionTimestamp"):
            options = DeleteOptions(propagation_policy="Background", uid=live["metadata"]["uid"])
            await self._client.delete(resource, key, options)
        return False


class WorkReconciler:
    """Works of this member, at the federation."""

    def __init__(
        self,
        manager: Manager,
        member: Member,
        works: Informer[Document],
        refusal: Callable[[Document], str] | None = None,
    ) -> None:
        """`refusal` says why a Work must not be brought here, empty if it may."""
        self._refusal = refusal or (lambda _: "")
        self._clock = manager.clock
        self._executor = manager.executor
        self._works, self._member = works, member

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
            return Result()
        manifests = (work["spec"].get("workload") or {}).get("manifests") or []
        if work["metadata"].get("deletionTimestamp"):
            return await self._remove(key, work, manifests)
        return await self._bring(key, work)

    async def bring(self, key: ObjectKey, work: Document) -> None:
        """One Work, whatever the queue does meanwhile: for the inventory. Raises StatusError, ConnectionError."""
        _ = await self._bring(key, work)

    async def _bring(self, key: ObjectKey, work: Document) -> Result:
        manifests = (work["spec"].get("workload") or {}).get("manifests") or []
        if work["spec"].get("suspendDispatching"):
            return Result()
        why = self._refusal(work)
        if why:
            outcomes = [Outcome(identifier(i, m, ""), why) for i, m in enumerate(manifests)]
        else:
            outcomes = [await self._member.apply(work, i, m) for i, m in enumerate(manifests)]
        status = status_plan(work, outcomes, rfc3339(self._clock.now()))
        if status is not None:
            await self._executor.apply([SetStatus(WORKS, key, status)])
        failed = [o for o in outcomes if o.error]
        if why:
            return Result()
        if not failed:
            await self._member.prune(work)
            return Result()
        if all(o.homeless for o in failed):
            return Result(requeue_after=NAMESPACE_CHECK_S)
        log.info("work not applied", extra={"work": str(key), "error": failed[0].error})
        return Result(requeue_after=GONE_CHECK_S * 2)

    async def _remove(self, key: ObjectKey, work: Document, manifests: list[Document]) -> Result:
        finalizers = work["metadata"].get("finalizers") or []
        if EXECUTION_FINALIZER not in finalizers:
            return Result()
        if not work["spec"].get("preserveResourcesOnDeletion"):
            gone = [await self._member.remove(key, manifest) for manifest in reversed(manifests)]
            if not all(gone):
                return Result(requeue_after=GONE_CHECK_S)
        left = [f for f in finalizers if f != EXECUTION_FINALIZER]
        patch = {"metadata": {"finalizers": left or None}}
        return await self._executor.apply([Patch(WORKS, key, patch, uid=work["metadata"]["uid"])])


def work_keys(live: Document) -> list[ObjectKey]:
    """The Work that made the member's object."""
    annotations = live["metadata"].get("annotations") or {}
    name, namespace = annotations.get(WORK_NAME), annotations.get(WORK_NAMESPACE)
    return [ObjectKey(namespace, name)] if name and namespace else []

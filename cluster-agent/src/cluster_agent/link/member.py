"""The link's hands in the member: objects of the federation are applied, watched, let go, deleted.

Manifests are applied by server-side apply as one field manager, with force: what the federation states wins, what it
leaves open (a member's own annotations, status) stays, and so does what an object has to keep (`link.interpreters.retained`),
and the number of replicas of what an autoscaler of the federation scales here.

An object that exists here and does not belong to the federation is a conflict: left alone (Abort, the default), taken over
(Overwrite), or taken over where nothing would change (IfNoDiff), which the member's own server says by a rehearsal.

Somebody else's change of what a manifest states is drift: told by path, and repaired, or only told where the manifest's
annotation says Report. Who undoes the repairs is not fought: after five in a minute they pause, ever longer. The hash of the
manifest on the object tells a change by others from a new wish, also after the agent was away.
"""

import asyncio
import contextlib
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster_agent.link import agreement
from cluster_agent.link.agreement import Difference, Repairs
from cluster_agent.link.interpreters import Now, nobody, retained
from machinery.api.fleet.cluster import EXECUTION_PREFIX
from machinery.api.fleet.reflection import AUTOSCALER, is_target, with_replicas_of
from machinery.api.fleet.work import (
    ALREADY_EXISTS,
    CONFLICT_RESOLUTION,
    IF_NO_DIFF,
    MANAGED_LABEL,
    MANIFEST_DIGEST,
    OVERWRITE,
    PRUNES,
    WORK_NAME,
    WORK_NAMESPACE,
)
from machinery.client.informer import Informer
from machinery.client.interface import Client, DeleteOptions, PatchType
from machinery.kit.clock import Clock
from machinery.meta.errors import Conflict, NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey, Resource, document_key
from machinery.scripts.customizations import InterpretationFailed

COPY_WAIT_S = 5.0
"""For the copy of a kind's managed objects; a member that does not let us list them is asked for each one instead."""
FIELD_MANAGER = "ubernetes-federation"
"""Under which name the link writes."""
TOO_OFTEN = "undone more often than is repaired; it is tried again after a pause"

Resolve = Callable[[str, str], Resource[Document] | None]
"""(apiVersion, kind) -> how the member serves it, or None."""
Place = tuple[Resource[Document], ObjectKey]


class DriftState(enum.Enum):
    """What became of somebody else's change; the values are reasons of the condition."""

    REPORTED = "Reported"
    REPAIRED = "Repaired"
    PAUSED = "RepairsPaused"


@dataclass(frozen=True, slots=True)
class Drift:
    """Somebody else's change of one object."""

    state: DriftState
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one manifest."""

    identifier: Document
    error: str = ""
    live: Document | None = None
    homeless: bool = False
    """The object's namespace is not there, or its kind is not served: waited for, and no fault."""
    drift: Drift | None = None
    again_s: float | None = None
    """When to look again although nothing may have happened."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What is known of an object since it was looked at last."""

    digest: str
    print: str
    version: str
    settled: tuple[Difference, ...] = ()
    """What stays different however often it is applied: the member's API writes it so."""
    drift: Drift | None = None


# ----------------------------------------------------------------------------------------------------------- judging
def belongs(live: Document, work: ObjectKey) -> bool:
    """Whether the member's object was made by this Work."""
    annotations = live["metadata"].get("annotations") or {}
    return (annotations.get(WORK_NAMESPACE), annotations.get(WORK_NAME)) == (
        work.namespace,
        work.name,
    )


def ours(live: Document, work: Document) -> bool:
    """Whether the federation may write the object without asking."""
    managed = (live["metadata"].get("labels") or {}).get(MANAGED_LABEL) == "true"
    return managed or belongs(live, document_key(work))


def resolution(work: Document) -> str:
    """What the Work says of objects that are there already."""
    return str((work["metadata"].get("annotations") or {}).get(CONFLICT_RESOLUTION, "")).lower()


def conflict(live: Document | None, work: Document) -> str:
    """Why the manifest may not be applied over what is there, in Karmada's words; empty if it may."""
    if live is None or ours(live, work) or resolution(work) == OVERWRITE:
        return ""
    return (
        f"{_exists(live, work)} and the {CONFLICT_RESOLUTION} strategy value is empty, "
        "Karmada will not manage this resource"
    )


def _exists(live: Document, work: Document) -> str:
    cluster = work["metadata"]["namespace"].removeprefix(EXECUTION_PREFIX)
    return f"resource(kind={live['kind']}, {document_key(live)}) {ALREADY_EXISTS} {cluster}"


def prunes(work: Document) -> list[tuple[str, str]]:
    """(apiVersion, kind) of what is deleted when the Work carries it no more."""
    told = (work["metadata"].get("annotations") or {}).get(PRUNES, "")
    kinds = [one.rpartition("/") for one in told.split(",") if one]
    return [(api_version, kind) for api_version, _, kind in kinds]


def no_namespace(error: StatusError) -> bool:
    """Whether the object could not be made because its namespace is not there."""
    return isinstance(error, NotFound) and (error.details or {}).get("kind") == "namespaces"


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


def marked(manifest: Document, wanted: str) -> Document:
    """The manifest with its hash on it."""
    metadata = manifest["metadata"]
    annotations = (metadata.get("annotations") or {}) | {MANIFEST_DIGEST: wanted}
    return manifest | {"metadata": metadata | {"annotations": annotations}}


def let_go(live: Document) -> Document:
    """Merge patch that takes the federation's words off an object, and leaves everything else as it is."""
    metadata = live["metadata"]
    return {
        "metadata": {
            part: {key: None for key in metadata.get(part) or {} if agreement.is_mark(key)}
            for part in ("labels", "annotations")
        }
    }


def applied_before(live: Document, held: _Held | None, wanted: str) -> bool:
    """Whether this very manifest was applied here already, so that a difference is somebody else's doing."""
    if held is not None and held.digest == wanted:
        return True
    return (live["metadata"].get("annotations") or {}).get(MANIFEST_DIGEST) == wanted


def older(live: Document, version: str) -> bool:
    """Whether a copy is from before a version that was seen already."""
    mine = str(live["metadata"].get("resourceVersion", ""))
    return mine.isdigit() and version.isdigit() and int(mine) < int(version)


# ------------------------------------------------------------------------------------------------------------- doing
class Member:
    """The member's objects that belong to the federation."""

    def __init__(
        self,
        client: Client,
        resolve: Resolve,
        watch: Callable[[Resource[Document]], Informer[Document]],
        clock: Clock,
        scripts: Now = nobody,
    ) -> None:
        self._scripts = scripts
        self._client, self._watch, self._clock = client, watch, clock
        self.resolve = resolve
        self._held: dict[Place, _Held] = {}
        self._repairs: dict[Place, Repairs] = {}
        self._uncopied: set[Resource[Document]] = set()

    # ----------------------------------------------------------------------------------------------------- looking
    async def _wait_for(self, copy: Informer[Document]) -> None:
        """Raises TimeoutError; from then on `live` asks without waiting."""
        try:
            async with asyncio.timeout(COPY_WAIT_S):
                await copy.wait_synced()
            self._uncopied.discard(copy.resource)
        except TimeoutError:
            self._uncopied.add(copy.resource)
            raise

    async def _copied(self, resource: Resource[Document]) -> Informer[Document]:
        """The copy of managed objects, which is waited for once; not synced: the member does not let us list them."""
        copy = self._watch(resource)
        if not copy.synced and resource not in self._uncopied:
            with contextlib.suppress(TimeoutError):
                await self._wait_for(copy)
        return copy

    async def live(self, resource: Resource[Document], key: ObjectKey) -> Document | None:
        """The object as it is now: from the copy of managed objects, else asked for."""
        copy = await self._copied(resource)
        found = copy.get(key) if copy.synced else None
        held = self._held.get((resource, key))
        if found is not None and (held is None or not older(found, held.version)):
            return found
        try:
            return await self._client.get(resource, key)
        except NotFound:
            return None

    async def observe(self, work: Document, ordinal: int, manifest: Document) -> Outcome:
        """The object as it is, where it is this Work's; nothing is written."""
        resource = self.resolve(manifest["apiVersion"], manifest["kind"])
        named = identifier(ordinal, manifest, resource.plural if resource is not None else "")
        if resource is None:
            return Outcome(named)
        try:
            live = await self.live(resource, document_key(manifest))
        except StatusError:
            return Outcome(named)
        return Outcome(named, live=live if live is not None and ours(live, work) else None)

    # ---------------------------------------------------------------------------------------------------- applying
    async def apply(self, work: Document, ordinal: int, manifest: Document) -> Outcome:
        """Bring the object to what the manifest says. Errors of the API become the outcome's error."""
        resource = self.resolve(manifest["apiVersion"], manifest["kind"])
        named = identifier(ordinal, manifest, resource.plural if resource is not None else "")
        if resource is None:
            kind = f"{manifest['apiVersion']} {manifest['kind']}"
            return Outcome(named, f"the cluster does not serve {kind}", homeless=True)
        place = (resource, document_key(manifest))
        live: Document | None = None
        try:
            live = await self.live(*place)
            if live is not None:
                manifest = await self._kept(manifest, live)
            wanted = agreement.digest(manifest)
            if live is None:
                return await self._make(named, place, manifest, wanted)
            if not ours(live, work):
                why = await self._refused(place, live, work, manifest)
                if why:
                    return Outcome(named, why)
            elif applied_before(live, self._held.get(place), wanted):
                return await self._agree(named, place, live, manifest, wanted)
            return Outcome(named, live=await self._write(place, manifest))
        except InterpretationFailed as error:
            return Outcome(named, str(error), live)
        except StatusError as error:
            return Outcome(named, str(error), live, homeless=no_namespace(error))

    async def _kept(self, manifest: Document, live: Document) -> Document:
        """The manifest with what is decided here. Raises InterpretationFailed."""
        kept = retained(self._scripts(), manifest, live)
        if (kept.get("spec") or {}).get("replicas") is None:
            return kept
        resource = self.resolve(*AUTOSCALER)
        if resource is None:
            return kept
        copy = await self._copied(resource)
        near = copy.list(document_key(manifest).namespace)
        return with_replicas_of(kept, live) if any(is_target(kept, one) for one in near) else kept

    async def _refused(
        self, place: Place, live: Document, work: Document, manifest: Document
    ) -> str:
        """Why somebody else's object is not taken over; empty when it is. Raises StatusError."""
        if resolution(work) != IF_NO_DIFF:
            return conflict(live, work)
        would = await self._client.patch(
            *place, manifest, PatchType.APPLY, force=True, dry_run=True
        )
        found = agreement.differences(would, live, marks=False)
        if not found:
            return ""
        return f"{_exists(live, work)} and IfNoDiff does not take it over: {agreement.told(manifest, found)}"

    async def _make(
        self, named: Document, place: Place, manifest: Document, wanted: str
    ) -> Outcome:
        """The object is not there: for the first time, or because somebody deleted it. Raises StatusError."""
        held = self._held.get(place)
        again = held is not None and held.digest == wanted
        pause = self._pause(place)
        said = f"{manifest['kind']} {place[1]}: was deleted"
        if again and pause:
            drift = Drift(DriftState.PAUSED, f"{said}; {TOO_OFTEN}")
            return Outcome(named, drift=drift, again_s=pause)
        live = await self._write(place, manifest)
        if not again:
            return Outcome(named, live=live)
        self._repaired(place)
        return Outcome(named, live=live, drift=Drift(DriftState.REPAIRED, said))

    async def _write(self, place: Place, manifest: Document) -> Document:
        """Raises StatusError."""
        wanted = agreement.digest(manifest)
        body = marked(manifest, wanted)
        live = await self._client.patch(*place, body, PatchType.APPLY, force=True)
        self._remember(place, live, wanted, tuple(agreement.differences(manifest, live)))
        return live

    def _remember(
        self,
        place: Place,
        live: Document,
        wanted: str,
        settled: tuple[Difference, ...],
        drift: Drift | None = None,
    ) -> None:
        version = str(live["metadata"].get("resourceVersion", ""))
        self._held[place] = _Held(wanted, agreement.fingerprint(live), version, settled, drift)

    # ------------------------------------------------------------------------------------------------------- drift
    async def _agree(
        self, named: Document, place: Place, live: Document, manifest: Document, wanted: str
    ) -> Outcome:
        """The manifest was applied before: is the object still as it says? Raises StatusError."""
        held = self._held.get(place)
        if held is not None and held.digest == wanted and held.print == agreement.fingerprint(live):
            waits = held.drift is not None and held.drift.state is DriftState.PAUSED
            pause = self._pause(place)
            if not waits or pause:
                return Outcome(named, live=live, drift=held.drift, again_s=pause or None)
        settled = held.settled if held is not None and held.digest == wanted else ()
        found = agreement.besides(agreement.differences(manifest, live), settled)
        if found and held is None:
            settled = await self._rehearsed(place, manifest)
            found = agreement.besides(found, settled)
        if not found:
            self._remember(place, live, wanted, settled)
            return Outcome(named, live=live)
        if agreement.reports_only(manifest):
            drift = Drift(DriftState.REPORTED, _report(manifest, live, found))
            self._remember(place, live, wanted, settled, drift)
            return Outcome(named, live=live, drift=drift)
        return await self._repair(named, place, live, manifest, found)

    async def _rehearsed(self, place: Place, manifest: Document) -> tuple[Difference, ...]:
        """What would stay different after an apply: an agent that has just started does not know it."""
        body = marked(manifest, agreement.digest(manifest))
        would = await self._client.patch(*place, body, PatchType.APPLY, force=True, dry_run=True)
        return tuple(agreement.differences(manifest, would))

    def _pause(self, place: Place) -> float:
        return self._repairs.get(place, Repairs()).pause(self._clock.monotonic())

    async def _repair(
        self,
        named: Document,
        place: Place,
        live: Document,
        manifest: Document,
        found: Sequence[Difference],
    ) -> Outcome:
        report = _report(manifest, live, found)
        pause = self._pause(place)
        if pause:
            before = self._held.get(place)
            drift = Drift(DriftState.PAUSED, f"{report}; {TOO_OFTEN}")
            settled = before.settled if before is not None else ()
            self._remember(place, live, agreement.digest(manifest), settled, drift)
            return Outcome(named, live=live, drift=drift, again_s=pause)
        fresh = await self._write(place, manifest)
        left = agreement.besides(found, self._held[place].settled)
        if not left:
            return Outcome(named, live=fresh)  # the API wrote it so by itself: nothing was repaired
        self._repaired(place)
        return Outcome(
            named, live=fresh, drift=Drift(DriftState.REPAIRED, _report(manifest, live, left))
        )

    def _repaired(self, place: Place) -> None:
        self._repairs[place] = self._repairs.get(place, Repairs()).after(self._clock.monotonic())

    # ----------------------------------------------------------------------------------------------------- leaving
    def _forget(self, place: Place) -> None:
        self._held.pop(place, None)
        self._repairs.pop(place, None)

    async def prune(self, work: Document) -> None:
        """Delete what this Work made and carries no more, of the kinds that it names. Raises StatusError, TimeoutError."""
        manifests = (work["spec"].get("workload") or {}).get("manifests") or []
        for resource, key, uid in await self._stale(work, manifests):
            options = DeleteOptions(propagation_policy="Background", uid=uid)
            try:
                await self._client.delete(resource, key, options)
            except (NotFound, Conflict):
                continue  # gone, or another of that name: its own event looks again
            self._forget((resource, key))

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
            self._forget((resource, key))
            return True
        if not belongs(live, work):
            return True
        if not live["metadata"].get("deletionTimestamp"):
            options = DeleteOptions(propagation_policy="Background", uid=live["metadata"]["uid"])
            await self._client.delete(resource, key, options)
        return False

    async def release(self, work: ObjectKey, manifest: Document) -> None:
        """Let the object be the member's own, if it is this Work's. Raises StatusError."""
        resource = self.resolve(manifest["apiVersion"], manifest["kind"])
        if resource is None:
            return
        key = document_key(manifest)
        self._forget((resource, key))
        try:
            live = await self._client.get(resource, key)
            if belongs(live, work):
                patch = let_go(live)
                patch["metadata"]["uid"] = live["metadata"]["uid"]
                await self._client.patch(resource, key, patch)
        except NotFound:
            return


def _report(manifest: Document, live: Document, found: Sequence[Difference]) -> str:
    """The differences, and who wrote last."""
    who = agreement.writer(live, FIELD_MANAGER)
    return agreement.told(manifest, found) + (f' (written by "{who}")' if who else "")

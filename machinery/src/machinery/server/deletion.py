"""Deleting: preconditions, grace, finalizers; an object is marked first and removed when nobody holds it any more.

pod            graceful: deletionTimestamp = now + grace; the kubelet removes it with grace 0; grace never grows
finalizers     marked with grace 0; the write that removes the last one removes the object
namespace      its own finalizers stand in spec.finalizers; marked means phase Terminating
propagation    Foreground and Orphan are finalizers of the garbage collector; Background is the absence of both. Who asks
               for none gets Background; of a Job, whose first version was so, Orphan and a warning
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from machinery.api.customresources.naming import CLEANUP_FINALIZER, terminating
from machinery.api.scheme import ServedKind
from machinery.kit.clock import parse_time, rfc3339
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.call import Call, Deletion
from machinery.server.stored import Stored
from machinery.store.interface import KeyNotFound, RevisionMismatch, Row

if TYPE_CHECKING:
    from machinery.server.registry import Registry

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
POLICIES = ("Foreground", "Background", "Orphan")
DELETE_TRIES = 8
GRACE_SECONDS_MAX = (1 << 31) - 1
"""Longer is for ever all the same, and its end would be a date that no calendar here has."""
RETURNS_OBJECT = frozenset(
    {
        "Pod", "ServiceAccount", "Service", "Namespace", "PodTemplate", "ResourceQuota",
        "PersistentVolume", "PersistentVolumeClaim", "CSIDriver", "CSINode", "StorageClass",
        "VolumeAttachment", "VolumeAttributesClass",
    }
)  # fmt: skip
"""Kinds whose DELETE answers the object instead of a Status when it is gone at once."""
ORPHANING = frozenset({("batch", "Job"), ("", "ReplicationController")})
"""Kinds whose children stay when nobody says what is to become of them."""
ORPHANS_STAY = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or "
    "set propagationPolicy=Orphan to suppress this warning"
)


def deletion_of(document: Document) -> Deletion:
    """Checked options from a DeleteOptions document. Raises Invalid, BadRequest."""
    policy = document.get("propagationPolicy") or ""
    causes = []
    if policy and policy not in POLICIES:
        causes.append(
            {
                "reason": "FieldValueNotSupported",
                "message": f'Unsupported value: "{policy}": supported values: "Foreground", "Background", '
                '"Orphan", "nil"',
                "field": "propagationPolicy",
            }
        )
    if policy and document.get("orphanDependents") is not None:
        causes.append(
            {
                "reason": "FieldValueInvalid",
                "message": f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set',
                "field": "propagationPolicy",
            }
        )
    dry_run = document.get("dryRun") or []
    causes += dry_run_causes(dry_run)
    if causes:
        raise errors.invalid("DeleteOptions", "meta.k8s.io", "", causes)
    if document.get("orphanDependents") is not None:
        policy = "Orphan" if document["orphanDependents"] else "Background"
    conditions = document.get("preconditions") or {}
    grace = document.get("gracePeriodSeconds")
    return Deletion(
        grace,
        policy,
        conditions.get("uid") or "",
        conditions.get("resourceVersion") or "",
        bool(dry_run),
    )


def dry_run_causes(values: list[str]) -> list[dict[str, str]]:
    """What is wrong with a dryRun parameter: only `All` is understood."""
    if all(value == "All" for value in values):
        return []
    shown = "[" + ",".join(f'"{value}"' for value in values) + "]"
    return [
        {
            "reason": "FieldValueNotSupported",
            "message": f'Unsupported value: {shown}: supported values: "All"',
            "field": "dryRun",
        }
    ]


class Deleter:
    """The registry's deleting half."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def delete(  # noqa: PLR0913 - a delete has this many circumstances
        self,
        kind: ServedKind,
        namespace: str,
        name: str,
        options: Deletion,
        call: Call,
        *,
        outside: bool = True,
    ) -> tuple[Stored, bool]:
        """(the object, whether it is gone). Raises NotFound, Conflict.

        `outside` is False where webhooks are not asked: what is evicted, and what goes with its definition.
        """
        options = replace(options, dry_run=options.dry_run or call.dry_run)
        for _ in range(DELETE_TRIES):
            row = await self._registry.row(kind, namespace, name)
            live = await self._registry.live(kind, row)
            self._check(kind, live, options)
            self.judge(kind, namespace, name, live, call)
            if outside:
                await self._registry.maker.outside_delete(
                    kind, namespace, name, live, options, call
                )
            unasked = kind.kind == "Job" and _orphans_unasked(kind, options)
            if unasked and ORPHANS_STAY not in call.warnings:
                call.warnings.append(ORPHANS_STAY)
            try:
                return await self._apply(kind, row, live, options)
            except RevisionMismatch:
                continue
            except KeyNotFound:
                raise errors.not_found(kind.plural, kind.group, name) from None
        raise errors.conflict(kind.plural, kind.group, name)

    def judge(
        self, kind: ServedKind, namespace: str, name: str, live: Document, call: Call
    ) -> None:
        """Whether plugins and policies let it go. Raises StatusError."""
        request = AdmissionRequest("delete", kind, namespace, name, "", live, live, call)
        self._registry.admission.validate(request)

    def _check(self, kind: ServedKind, live: Document, options: Deletion) -> None:
        metadata = live["metadata"]
        if options.uid and options.uid != metadata.get("uid"):
            raise errors.conflict(
                kind.kind, kind.group, metadata["name"],
                f"the UID in the precondition ({options.uid}) does not match the UID in record "
                f"({metadata.get('uid')}). The object might have been deleted and then recreated",
            )  # fmt: skip
        if options.resource_version and options.resource_version != metadata["resourceVersion"]:
            raise errors.conflict(
                kind.kind, kind.group, metadata["name"],
                f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
                f"ResourceVersion in record ({metadata['resourceVersion']}). The object might have been modified",
            )  # fmt: skip

    async def _apply(
        self, kind: ServedKind, row: Row, live: Document, options: Deletion
    ) -> tuple[Stored, bool]:
        now = self._registry.clock.now()
        marked, gone = plan(kind, live, options, now)
        return await self._write(kind, row, live, marked, gone=gone, dry_run=options.dry_run)

    async def _write(
        self,
        kind: ServedKind,
        row: Row,
        live: Document,
        marked: Document,
        *,
        gone: bool,
        dry_run: bool,
    ) -> tuple[Stored, bool]:
        registry = self._registry
        durability = registry.durability(kind, live["metadata"].get("namespace", ""))
        if marked == live and not gone:
            return Stored(kind, row.value, row.revision, live), False
        value = await registry.encoded(kind, marked)
        if dry_run:
            return Stored(kind, value, row.revision, marked), gone
        if gone:
            await registry.stored(
                registry.held(
                    kind, None, live,
                    lambda: registry.store.delete(row.key, row.revision, value, durability),
                )
            )  # fmt: skip
            return Stored(kind, value, row.revision, marked), True
        written = await registry.stored(
            registry.store.update(row.key, value, row.revision, durability)
        )
        return Stored(kind, value, written.revision, marked), False

    @staticmethod
    def finished(kind: ServedKind, document: Document) -> bool:
        """Whether an updated object has nothing left to wait for, having been marked before."""
        metadata = document["metadata"]
        if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
            return False
        if kind.kind == "Namespace" and not kind.group:
            return not (document.get("spec") or {}).get("finalizers")
        return not metadata.get("deletionGracePeriodSeconds")


def plan(
    kind: ServedKind, live: Document, options: Deletion, now: dt.datetime
) -> tuple[Document, bool]:
    """(the object after the request, whether it goes at once). Pure."""
    finalizers = _finalizers(kind, live, options)
    metadata = {**live["metadata"], "finalizers": finalizers}
    if not finalizers:
        del metadata["finalizers"]
    document = {**live, "metadata": metadata}
    if kind.kind == "Namespace" and not kind.group:
        return _plan_namespace(document, now)
    if kind.group_kind == ("apiextensions.k8s.io", "CustomResourceDefinition"):
        return _plan_definition(document, now)
    grace = _grace(kind, live, options)
    if grace:
        return _marked(document, grace, now), False
    if finalizers:
        return _marked(document, 0, now), False
    if kind.kind == "Pod" and not kind.group:
        return _marked(document, 0, now), True
    return document, True


def _orphans_unasked(kind: ServedKind, options: Deletion) -> bool:
    return kind.group_kind in ORPHANING and not options.propagation_policy


def _finalizers(kind: ServedKind, live: Document, options: Deletion) -> list[str]:
    held = list(live["metadata"].get("finalizers") or ())
    policy = options.propagation_policy
    if _orphans_unasked(kind, options) and not {FOREGROUND, ORPHAN} & set(held):
        policy = "Orphan"
    if not policy:
        return held
    kept = [f for f in held if f not in (FOREGROUND, ORPHAN)]
    if policy == "Foreground":
        kept.append(FOREGROUND)
    elif policy == "Orphan":
        kept.append(ORPHAN)
    return held if sorted(kept) == sorted(held) else kept


def _grace(kind: ServedKind, live: Document, options: Deletion) -> int:
    """Seconds that the object still has; only pods have any."""
    if kind.kind != "Pod" or kind.group:
        return 0
    spec, status = live.get("spec") or {}, live.get("status") or {}
    grace = options.grace_period_seconds
    if grace is None:
        default = spec.get("terminationGracePeriodSeconds")
        grace = 30 if default is None else int(default)
    if grace < 0:
        grace = 1
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    return min(grace, GRACE_SECONDS_MAX)


def _marked(document: Document, grace: int, now: dt.datetime) -> Document:
    metadata = document["metadata"]
    held = metadata.get("deletionTimestamp")
    if held is not None:
        current = metadata.get("deletionGracePeriodSeconds") or 0
        if grace >= current:
            return document
        # the new end counts from the first request, not from now
        began = parse_time(held) - dt.timedelta(seconds=current)
        until = began + dt.timedelta(seconds=grace)
        shorter = {"deletionTimestamp": rfc3339(until), "deletionGracePeriodSeconds": grace}
        return {**document, "metadata": {**metadata, **shorter}}
    until = now + dt.timedelta(seconds=grace)
    changed: dict[str, Any] = {
        "deletionTimestamp": rfc3339(until),
        "deletionGracePeriodSeconds": grace,
    }
    if metadata.get("generation"):
        changed["generation"] = metadata["generation"] + 1
    return {**document, "metadata": {**metadata, **changed}}


def _plan_namespace(document: Document, now: dt.datetime) -> tuple[Document, bool]:
    metadata = document["metadata"]
    held = metadata.get("finalizers") or (document.get("spec") or {}).get("finalizers")
    if metadata.get("deletionTimestamp"):
        return document, not held
    document = {
        **document,
        "metadata": {**metadata, "deletionTimestamp": rfc3339(now)},
        "status": {**(document.get("status") or {}), "phase": "Terminating"},
    }
    return document, not held


def _plan_definition(document: Document, now: dt.datetime) -> tuple[Document, bool]:
    """Its objects go first: a finalizer waits for them (`definitions.py`)."""
    metadata = document["metadata"]
    if metadata.get("deletionTimestamp"):
        return document, not metadata.get("finalizers")
    finalizers = [*(metadata.get("finalizers") or ()), CLEANUP_FINALIZER]
    kept = {"deletionTimestamp": rfc3339(now), "finalizers": list(dict.fromkeys(finalizers))}
    words = (
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    )
    status = terminating(document.get("status") or {}, words, rfc3339(now))
    return {**document, "metadata": {**metadata, **kept}, "status": status}, False

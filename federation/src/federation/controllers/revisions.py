"""Revisions: the rollout history of a federated Deployment, so that `kubectl rollout history` and `undo` work on it.

kubectl reads ReplicaSets that the Deployment controls. Members have their own; at the federation each template that the
Deployment ever had (up to revisionHistoryLimit) is kept as a ReplicaSet with the revision as annotation. They are records:
nothing is placed for them, their replicas say how many of the newest template are wanted.

Helm 3 waits until the newest one has enough ready replicas, so their status says how many members run, as far as the sum in the
Deployment tells it (`record_status`).
"""

from collections.abc import Collection, Sequence

from federation.controllers import dispatcher
from federation.propagation.aggregation import REPLICATED
from federation.propagation.rollouts.record import record_of
from federation.propagation.rollouts.snapshots import (
    BY_OWNER,
    HASH_LABEL,
    HISTORY,
    REVISION,
    owner_uid,
    template_hash,
)
from federation.propagation.templates import DEPLOYMENTS
from machinery.api.apps import REPLICASETS
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.api.patch.merge import apply as merge
from machinery.controller.action import Action, Create, Delete, Patch, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.meta.resource import Document, ObjectKey, document_key

CHANGE_CAUSE = "kubernetes.io/change-cause"


def revision_of(document: Document) -> int:
    """The revision that a record or a Deployment carries; 0 without one."""
    text = (document["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def plan(
    deployment: Document, records: Sequence[Document], used: Collection[str] = ()
) -> list[Action]:
    """The record of the present template is the newest; old ones beyond the limit go, but for those `used` (hashes)."""
    digest = template_hash(deployment["spec"]["template"])
    current = next((r for r in records if r["metadata"]["labels"].get(HASH_LABEL) == digest), None)
    newest = max((revision_of(r) for r in records), default=0)
    actions: list[Action] = []
    if current is None:
        revision = newest + 1
        actions.append(Create(REPLICASETS, _record(deployment, digest, revision), exists_ok=True))
    else:
        revision = revision_of(current)
        if revision < newest:
            revision = newest + 1
        actions += _refresh(deployment, current, revision)
    if revision_of(deployment) != revision:
        annotations = {REVISION: str(revision)}
        patch = {"metadata": {"annotations": annotations}}
        actions.append(
            Patch(DEPLOYMENTS, document_key(deployment), patch, uid=deployment["metadata"]["uid"])
        )
    actions += _prune(deployment, [r for r in records if r is not current], used)
    touched = {
        a.key for a in actions if isinstance(a, Patch | Delete) and a.resource == REPLICASETS
    }
    for record in records:
        if document_key(record) not in touched:  # what was changed is looked at again
            actions += _observe(deployment, record, newest=record is current)
    return actions


def record_status(deployment: Document, *, newest: bool) -> Document | None:
    """How many pods of a record's template members run, as a merge patch; None while that is not known.

    Members report how many of their replicas are of their newest template, and only of all together how many are ready: those
    of older templates are taken off, so that no more is said to be ready than is. Nothing is known before every member has
    reported on the Deployment's present generation, nor which of several old templates the replicas have that are not updated.
    """
    held = deployment.get("status") or {}
    if held.get("observedGeneration") != deployment["metadata"].get("generation", 0):
        return None
    updated = held.get("updatedReplicas") or 0
    outdated = max(0, (held.get("replicas") or 0) - updated)
    if not newest:
        return None if outdated else dict.fromkeys(REPLICATED) | {"replicas": 0}
    well = {name: max(0, (held.get(name) or 0) - outdated) or None for name in REPLICATED[2:]}
    return {"replicas": updated, "fullyLabeledReplicas": updated or None} | well


def _observe(deployment: Document, record: Document, *, newest: bool) -> list[Action]:
    status = record_status(deployment, newest=newest)
    if status is None:
        return []
    metadata, held = record["metadata"], record.get("status") or {}
    status["observedGeneration"] = metadata.get("generation", 0)
    if merge(held, status) == held:
        return []
    version = metadata["resourceVersion"]
    return [SetStatus(REPLICASETS, document_key(record), status, resource_version=version)]


def _refresh(deployment: Document, record: Document, revision: int) -> list[Action]:
    patch: Document = {}
    if revision_of(record) != revision:
        patch["metadata"] = {"annotations": {REVISION: str(revision)}}
    wanted = deployment["spec"].get("replicas", 1)
    if record["spec"].get("replicas") != wanted:
        patch["spec"] = {"replicas": wanted}
    return [Patch(REPLICASETS, document_key(record), patch)] if patch else []


def _prune(deployment: Document, old: Sequence[Document], used: Collection[str]) -> list[Action]:
    actions: list[Action] = [
        Patch(REPLICASETS, document_key(r), {"spec": {"replicas": 0}})
        for r in old
        if r["spec"].get("replicas")
    ]
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    by_age = sorted(old, key=revision_of)
    doomed = [
        r
        for r in by_age[: max(0, len(by_age) - limit)]
        if r["metadata"]["labels"].get(HASH_LABEL) not in used
    ]
    return actions + [
        Delete(REPLICASETS, document_key(r), uid=r["metadata"]["uid"]) for r in doomed
    ]


def _record(deployment: Document, digest: str, revision: int) -> Document:
    metadata, spec = deployment["metadata"], deployment["spec"]
    template = spec["template"]
    labels = (template["metadata"].get("labels") or {}) | {HASH_LABEL: digest}
    selector = spec["selector"]
    match_labels = (selector.get("matchLabels") or {}) | {HASH_LABEL: digest}
    annotations = {REVISION: str(revision)}
    cause = (metadata.get("annotations") or {}).get(CHANGE_CAUSE)
    if cause:
        annotations[CHANGE_CAUSE] = cause
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "replicas": spec.get("replicas", 1),
            "selector": selector | {"matchLabels": match_labels},
            "template": template | {"metadata": template["metadata"] | {"labels": labels}},
        },
    }


class RevisionReconciler:
    """Deployments."""

    def __init__(self, manager: Manager) -> None:
        self._executor = manager.executor
        self._deployments = manager.informer(DEPLOYMENTS)
        self._records = manager.informer(HISTORY)
        self._records.add_index(BY_OWNER, owner_uid)
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._bindings.add_index("template", dispatcher.template_key)

    async def reconcile(self, key: ObjectKey) -> Result:
        deployment = self._deployments.get(key)
        if deployment is None or deployment["metadata"].get("deletionTimestamp"):
            return Result()
        records = self._records.by_index(BY_OWNER, deployment["metadata"]["uid"])
        source = (DEPLOYMENTS.kind, key.namespace, key.name)
        used: frozenset[str] = frozenset()
        for binding in self._bindings.by_index("template", source):
            held = record_of(binding)
            used |= held.hashes if held is not None else used
        return await self._executor.apply(plan(deployment, records, used))


def setup(manager: Manager) -> None:
    """Deployments and the records that they own."""
    controller = manager.controller("revisions", RevisionReconciler(manager))
    controller.watches(DEPLOYMENTS)
    controller.owns(HISTORY, DEPLOYMENTS)

"""Revisions: the rollout history of a federated Deployment, so that `kubectl rollout history` and `undo` work on it.

kubectl reads ReplicaSets that the Deployment controls. Members have their own; at the federation each template that the
Deployment ever had (up to revisionHistoryLimit) is kept as a ReplicaSet with the revision as annotation. They are records:
nothing is placed for them, their replicas say how many of the newest template are wanted.
"""

from collections.abc import Collection, Sequence

from federation.controllers import dispatcher
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
from machinery.controller.action import Action, Create, Delete, Patch, Result
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
    return actions + _prune(deployment, [r for r in records if r is not current], used)


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

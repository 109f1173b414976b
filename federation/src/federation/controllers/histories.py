"""Histories: the rollout history of federated StatefulSets and DaemonSets, so that `kubectl rollout history` and `undo` work on them.

kubectl reads ControllerRevisions that the workload controls; each holds a pod template as the patch that brings it back. Members
have their own. At the federation they are records of the templates that the user has ever written (up to revisionHistoryLimit),
and what staged updates go back to, as ReplicaSets are for Deployments (`federation.controllers.revisions`).
"""

from collections.abc import Collection, Sequence

from federation.controllers import dispatcher
from federation.propagation.rollouts.histories import Histories
from federation.propagation.rollouts.record import record_of
from federation.propagation.rollouts.snapshots import HASH_LABEL, REVISIONS, hash_of
from federation.propagation.templates import DAEMONSETS, STATEFULSETS
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.controller.action import Action, Create, Delete, Patch, Result
from machinery.controller.manager import Manager
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

CHANGE_CAUSE = "kubernetes.io/change-cause"
LIMIT = 10
"""revisionHistoryLimit of who states none."""


def plan(
    workload: Document, records: Sequence[Document], used: Collection[str] = ()
) -> list[Action]:
    """The record of the present template is the newest; old ones beyond the limit go, but for those `used` (hashes)."""
    digest = hash_of(workload)
    own = [r for r in records if _digest(r)]
    current = next((r for r in own if _digest(r) == digest), None)
    newest = max((int(r.get("revision", 0)) for r in own), default=0)
    actions: list[Action] = []
    if current is None:
        record = _record(workload, digest, newest + 1)
        actions.append(Create(REVISIONS, record, exists_ok=True))
    elif int(current.get("revision", 0)) < newest:
        actions.append(Patch(REVISIONS, document_key(current), {"revision": newest + 1}))
    old = sorted((r for r in own if r is not current), key=lambda r: int(r.get("revision", 0)))
    limit = workload["spec"].get("revisionHistoryLimit", LIMIT)
    doomed = [r for r in old[: max(0, len(old) - limit)] if _digest(r) not in used]
    return actions + [Delete(REVISIONS, document_key(r), uid=r["metadata"]["uid"]) for r in doomed]


def _digest(record: Document) -> str:
    """Of the template; empty for what others made in the workload's name."""
    return str((record["metadata"].get("labels") or {}).get(HASH_LABEL, ""))


def _record(workload: Document, digest: str, revision: int) -> Document:
    metadata, template = workload["metadata"], workload["spec"]["template"]
    labels = ((template.get("metadata") or {}).get("labels") or {}) | {HASH_LABEL: digest}
    cause = (metadata.get("annotations") or {}).get(CHANGE_CAUSE)
    owner = {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": REVISIONS.api_version,
        "kind": REVISIONS.kind,
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [owner],
        }
        | ({"annotations": {CHANGE_CAUSE: cause}} if cause else {}),
        "data": {"spec": {"template": template | {"$patch": "replace"}}},
        "revision": revision,
    }


class HistoryReconciler:
    """Workloads of one kind."""

    def __init__(self, manager: Manager, resource: Resource[Document]) -> None:
        self._executor, self._resource = manager.executor, resource
        self._workloads = manager.informer(resource)
        self._records = Histories(manager.informer)
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._bindings.add_index("template", dispatcher.template_key)

    async def reconcile(self, key: ObjectKey) -> Result:
        workload = self._workloads.get(key)
        if workload is None or workload["metadata"].get("deletionTimestamp"):
            return Result()
        source = (self._resource.kind, key.namespace, key.name)
        used: frozenset[str] = frozenset()
        for binding in self._bindings.by_index("template", source):
            held = record_of(binding)
            used |= held.hashes if held is not None else used
        return await self._executor.apply(plan(workload, self._records.of(workload), used))


def setup(manager: Manager) -> None:
    """The workloads of each kind and the records that they own."""
    for resource in (STATEFULSETS, DAEMONSETS):
        reconciler = HistoryReconciler(manager, resource)
        controller = manager.controller(f"histories-{resource.plural}", reconciler)
        controller.watches(resource)
        controller.owns(REVISIONS, resource)

"""Storage that is used does not go: claims while a pod has them, volumes while a claim has them, classes while somebody names them.

Each carries a finalizer from its beginning (admission gives it; one that is older gets it here). Whether a deleted one may go is
asked of the API itself, not of a copy: a pod that was bound a moment ago counts.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from machinery.api.core import PODS
from machinery.api.scheme import ServedKind
from machinery.client.interface import Client, PatchType, dynamic
from machinery.controller.action import Action, Patch, Result
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.controllers.events import executor_for
from machinery.meta.resource import Document, ObjectKey, Resource, document_key
from machinery.server.admission.protection import FINALIZERS

CLAIMS = dynamic("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True)
VOLUMES = dynamic("", "v1", "persistentvolumes", "PersistentVolume", False)
CLASSES = dynamic("storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", False)
POD_DOCUMENTS = dynamic("", "v1", "pods", "Pod", True)


def plan(resource: Resource[Document], document: Document, *, used: bool) -> list[Action]:
    """Hold what is there; let go what is deleted and not used. `used` matters only of what is deleted."""
    finalizer = FINALIZERS[resource.group, resource.kind]
    held = list(document["metadata"].get("finalizers") or ())
    going = is_going(document)
    if going == (finalizer not in held) or (going and used):
        return []
    wanted = [one for one in held if one != finalizer] if going else [*held, finalizer]
    patch = {"metadata": {"finalizers": wanted, "uid": document["metadata"]["uid"]}}
    return [Patch(resource, document_key(document), patch, PatchType.MERGE)]


def is_going(document: Document) -> bool:
    """Whether it has been deleted."""
    return bool(document["metadata"].get("deletionTimestamp"))


def has_claim(pods: Iterable[Document], claim: str) -> bool:
    """Whether a pod that has a node names the claim, or has made it for a volume of its own."""
    return any(
        (volume.get("persistentVolumeClaim") or {}).get("claimName") == claim
        or ("ephemeral" in volume and f"{pod['metadata']['name']}-{volume['name']}" == claim)
        for pod in pods
        if (pod.get("spec") or {}).get("nodeName")
        for volume in pod["spec"].get("volumes") or ()
    )


def is_bound(volume: Document) -> bool:
    """Whether a claim has the volume."""
    return (volume.get("status") or {}).get("phase") == "Bound"


def names_class(users: Iterable[Document], name: str) -> bool:
    """Whether a claim or volume has, or is to have, these attributes."""
    for user in users:
        spec, status = user.get("spec") or {}, user.get("status") or {}
        wanted = status.get("modifyVolumeStatus") or {}
        named = (
            spec.get("volumeAttributesClassName"),
            status.get("currentVolumeAttributesClassName"),
            wanted.get("targetVolumeAttributesClassName"),
        )
        if name in named:
            return True
    return False


class ProtectionReconciler:
    """Read, ask, plan, act; one for each kind."""

    def __init__(
        self,
        manager: Manager,
        executor: Executor,
        resource: Resource[Document],
        users: Sequence[Resource[Document]] = (),
    ) -> None:
        """`users`: the kinds that may name an object of this one, where they are served."""
        self._client: Client = manager.client
        self._executor, self._resource, self._users = executor, resource, users
        self._held = manager.informer(resource)

    def going(self, item: Any) -> list[ObjectKey]:
        """Those that wait for a user to go: of the item's namespace, or of no namespace."""
        metadata = item["metadata"] if isinstance(item, dict) else None
        namespace = metadata.get("namespace", "") if metadata else item.metadata.namespace
        within = namespace if self._resource.namespaced else ""
        return [document_key(one) for one in self._held.list(within) if is_going(one)]

    async def reconcile(self, key: ObjectKey) -> Result:
        document = self._held.get(key)
        if document is None:
            return Result()
        used = is_going(document) and await self._used(document)
        return await self._executor.apply(plan(self._resource, document, used=used))

    async def _used(self, document: Document) -> bool:
        metadata = document["metadata"]
        if self._resource is VOLUMES:
            return is_bound(document)
        if self._resource is CLAIMS:
            pods = (await self._client.list(POD_DOCUMENTS, metadata["namespace"])).items
            return has_claim(pods, metadata["name"])
        lists = [(await self._client.list(user)).items for user in self._users]
        return any(names_class(items, metadata["name"]) for items in lists)


def setup(manager: Manager, kinds: Iterable[ServedKind]) -> None:
    """Watch what is served of the three kinds, and what uses them."""
    served = {kind.group_kind for kind in kinds}
    there = [r for r in (CLAIMS, VOLUMES, CLASSES) if (r.group, r.kind) in served]
    if CLAIMS in there:
        executor = executor_for(manager, "pvc-protection-controller")
        claims = ProtectionReconciler(manager, executor, CLAIMS)
        builder = manager.controller("pvc-protection", claims).watches(CLAIMS)
        builder.watches(PODS, claims.going, when=lambda _old, new: new is None)
    if VOLUMES in there:
        executor = executor_for(manager, "pv-protection-controller")
        volumes = ProtectionReconciler(manager, executor, VOLUMES)
        manager.controller("pv-protection", volumes).watches(VOLUMES)
    if CLASSES in there:
        executor = executor_for(manager, "vac-protection-controller")
        users = [one for one in (CLAIMS, VOLUMES) if one in there]
        classes = ProtectionReconciler(manager, executor, CLASSES, users)
        builder = manager.controller("vac-protection", classes, workers=1).watches(CLASSES)
        for user in users:
            builder.watches(user, classes.going)

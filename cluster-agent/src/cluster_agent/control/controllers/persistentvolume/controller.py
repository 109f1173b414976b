"""persistentvolume-binder, the acting half: one queue of claims and one of volumes.

Whether a volume's claim is gone is asked of the API itself, for data may be deleted upon the answer. An Event that has
just been said of a claim is not said again: a claim that nothing suits is looked at whenever a volume comes.
"""

from collections.abc import Iterable

from cluster_agent.control.controllers.persistentvolume.plan import (
    Sight,
    chosen_node,
    plan,
    plan_volume,
)
from cluster_agent.control.controllers.persistentvolume.provision import place_of
from cluster_agent.control.controllers.volumeprotection import CLAIMS, VOLUMES
from machinery.api.core import NODES, PODS, Node, Pod
from machinery.api.scheme import ServedKind
from machinery.client.interface import dynamic
from machinery.controller.action import Action, Emit, Result
from machinery.controller.manager import Manager
from machinery.controllers.events import SpeakingExecutor, executor_for
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey, document_key
from machinery.scheduling.claims import class_of, is_bound_claim

STORAGE_CLASSES = dynamic("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
NODE_DOCUMENTS = dynamic("", "v1", "nodes", "Node", False)
AGAIN_S = 15.0
"""An Event is repeated after so long at the earliest: how often upstream looks at everything."""
PODS_OF_CLAIMS = "volume-binder-claims"


def claims_of(pod: Pod) -> list[str]:
    """Index keys, namespace/name, of the claims that a pod has."""
    return [
        f"{pod.metadata.namespace}/{volume.persistent_volume_claim.claim_name}"
        for volume in pod.spec.volumes
        if volume.persistent_volume_claim is not None
    ]


class ClaimReconciler:
    """Read, plan, act."""

    def __init__(self, manager: Manager, executor: SpeakingExecutor) -> None:
        self._client, self._clock, self._executor = manager.client, manager.clock, executor
        self._claims = manager.informer(CLAIMS)
        self._volumes = manager.informer(VOLUMES)
        self._classes = manager.informer(STORAGE_CLASSES)
        self._pods = manager.informer(PODS)
        self._pods.add_index(PODS_OF_CLAIMS, claims_of)
        self._said: dict[ObjectKey, tuple[tuple[str, str], float]] = {}

    def of_volume(self, volume: Document) -> Iterable[ObjectKey]:
        """The claim that a volume is meant for, or those that may want one that is nobody's."""
        if reference := volume["spec"].get("claimRef"):
            return [ObjectKey(reference.get("namespace", ""), reference.get("name", ""))]
        wanted = class_of(volume)
        name = volume["metadata"]["name"]
        return [
            document_key(claim)
            for claim in self._claims.list()
            if claim["spec"].get("volumeName") == name
            or (class_of(claim) == wanted and not is_bound_claim(claim))
        ]

    def lost(self, old: Document | None, new: Document | None) -> Iterable[ObjectKey]:
        """The claims of a volume that is gone."""
        if old is None or new is not None:
            return []
        name = old["metadata"]["name"]
        return [
            document_key(claim)
            for claim in self._claims.list()
            if claim["spec"].get("volumeName") == name
        ]

    def of_class(self, found: Document) -> Iterable[ObjectKey]:
        """Claims of the class that have no volume yet."""
        name = found["metadata"]["name"]
        return [
            document_key(claim)
            for claim in self._claims.list()
            if class_of(claim) == name and not is_bound_claim(claim)
        ]

    async def reconcile(self, key: ObjectKey) -> Result:
        claim = self._claims.get(key)
        if claim is None:
            self._said.pop(key, None)
            return Result()
        actions = plan(claim, await self._sight(claim), self._clock.now())
        return await self._executor.apply([one for one in actions if self._is_news(key, one)])

    async def _sight(self, claim: Document) -> Sight:
        volumes = {one["metadata"]["name"]: one for one in self._volumes.list()}
        if is_bound_claim(claim):
            return Sight(volumes)
        place = None
        if name := chosen_node(claim):
            place = place_of(name, await self._node(name))
        waiting = [
            pod.metadata.name
            for pod in self._pods.by_index(PODS_OF_CLAIMS, str(document_key(claim)))
            if not pod.spec.node_name and pod.status.phase not in ("Succeeded", "Failed")
        ]
        class_ = self._classes.get(ObjectKey("", class_of(claim)))
        return Sight(volumes, class_, place, tuple(sorted(waiting)))

    async def _node(self, name: str) -> Document | None:
        try:
            return await self._client.get(NODE_DOCUMENTS, ObjectKey("", name))
        except NotFound:
            return None

    def _is_news(self, key: ObjectKey, action: Action) -> bool:
        if not isinstance(action, Emit):
            return True
        now, words = self._clock.monotonic(), (action.uid, action.message)
        said = self._said.get(key)
        if said is not None and said[0] == words and now - said[1] < AGAIN_S:
            return False
        self._said[key] = (words, now)
        return True


class VolumeReconciler:
    """Read, ask, plan, act."""

    def __init__(self, manager: Manager, executor: SpeakingExecutor) -> None:
        self._client, self._clock, self._executor = manager.client, manager.clock, executor
        self._volumes = manager.informer(VOLUMES)
        self._claims = manager.informer(CLAIMS)
        self._nodes = manager.informer(NODES)

    def of_claim(self, claim: Document) -> Iterable[ObjectKey]:
        """The volumes that the claim has or was meant for: few, so all are looked through."""
        metadata, name = claim["metadata"], claim["spec"].get("volumeName")
        return [
            document_key(volume)
            for volume in self._volumes.list()
            if volume["metadata"]["name"] == name
            or (volume["spec"].get("claimRef") or {}).get("uid") == metadata["uid"]
        ]

    def of_node(self, node: Node) -> Iterable[ObjectKey]:
        """Volumes that were made on the node and are to go."""
        return [
            document_key(volume)
            for volume in self._volumes.list()
            if volume["metadata"].get("deletionTimestamp")
            and chosen_node(volume) == node.metadata.name
        ]

    async def reconcile(self, key: ObjectKey) -> Result:
        volume = self._volumes.get(key)
        if volume is None:
            return Result()
        has_node = True
        if volume["metadata"].get("deletionTimestamp") and (name := chosen_node(volume)):
            has_node = self._nodes.get(ObjectKey("", name)) is not None
        claim = await self._claim(volume)
        now = self._clock.now()
        return await self._executor.apply(plan_volume(volume, claim, now, has_node=has_node))

    async def _claim(self, volume: Document) -> Document | None:
        """The claim that the volume is bound to by uid."""
        reference = volume["spec"].get("claimRef") or {}
        uid = reference.get("uid")
        if not uid:
            return None
        key = ObjectKey(reference.get("namespace", ""), reference.get("name", ""))
        claim = self._claims.get(key)
        if claim is None or claim["metadata"]["uid"] != uid:
            try:
                claim = await self._client.get(CLAIMS, key)
            except NotFound:
                return None
        return claim if claim["metadata"]["uid"] == uid else None


def setup(manager: Manager, kinds: Iterable[ServedKind]) -> None:
    """Watch claims, volumes and classes, where they are served."""
    served = {kind.group_kind for kind in kinds}
    if not {("", CLAIMS.kind), ("", VOLUMES.kind)} <= served:
        return
    executor = executor_for(manager, "persistentvolume-controller")
    claims = ClaimReconciler(manager, executor)
    builder = manager.controller("persistentvolume-binder-claims", claims, workers=1)
    builder.watches(CLAIMS).watches(VOLUMES, claims.of_volume)
    builder.watches(STORAGE_CLASSES, claims.of_class)

    def on_volume(old: Document | None, new: Document | None) -> None:
        for key in claims.lost(old, new):
            builder.enqueue(key)

    manager.informer(VOLUMES).on_change(on_volume)
    volumes = VolumeReconciler(manager, executor)
    of_volumes = manager.controller("persistentvolume-binder-volumes", volumes, workers=1)
    of_volumes.watches(VOLUMES).watches(CLAIMS, volumes.of_claim)
    of_volumes.watches(NODES, volumes.of_node, when=lambda _old, new: new is None)

"""Deployment controller, the acting half: reads the Deployment, its ReplicaSets and, for Recreate, their Pods.

One worker looks at a Deployment at a time. Writes to ReplicaSets and to the status carry the version that was read,
so a pass that worked from an old copy loses and is taken again.
"""

import logging
from collections import Counter
from collections.abc import Iterable

from cluster_agent.control.controllers import claims
from cluster_agent.control.controllers.api_errors import is_namespace_terminating
from cluster_agent.control.controllers.deployment import revisions
from cluster_agent.control.controllers.deployment.limits import is_rolling
from cluster_agent.control.controllers.deployment.plan import (
    plan,
    plan_collision,
    plan_create_failed,
)
from cluster_agent.control.controllers.ownership import still_lives
from cluster_agent.control.controllers.pods import (
    CONTROLLER_INDEX,
    ENDED,
    controller_index,
)
from cluster_agent.control.controllers.selectors import matches
from cluster_agent.control.controllers.workloads import (
    DEPLOYMENTS,
    REPLICASETS,
    Deployment,
    ReplicaSet,
)
from machinery.api.core import PODS, Pod
from machinery.client.informer import Informer
from machinery.controller.action import Action, Create, Result
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager, owner_keys
from machinery.controllers.events import executor_for
from machinery.meta.errors import AlreadyExists, Forbidden, NotFound, StatusError
from machinery.meta.objectmeta import controller_of
from machinery.meta.resource import ObjectKey

log = logging.getLogger(__name__)


class DeploymentReconciler:
    """Read, plan, act."""

    def __init__(self, manager: Manager, executor: Executor) -> None:
        self._client, self._clock, self._executor = manager.client, manager.clock, executor
        self._deployments = manager.informer(DEPLOYMENTS)
        self._replica_sets = manager.informer(REPLICASETS)
        self._pods = manager.informer(PODS)
        self._pods.add_index(CONTROLLER_INDEX, controller_index)

    async def reconcile(self, key: ObjectKey) -> Result:
        deployment = self._deployments.get(key)
        if deployment is None:
            return Result()
        found = claims.claim(
            deployment, deployment.spec.selector, self._replica_sets.list(key.namespace)
        )
        if found.adoptable or found.released:
            return await self._claim(deployment, found)
        living = {} if is_rolling(deployment) else self._living_pods(found.owned)
        actions = plan(deployment, found.owned, living, self._clock.now())
        try:
            return await self._executor.apply(actions)
        except StatusError as error:
            creation = next((a for a in actions if isinstance(a, Create)), None)
            if creation is None:
                raise
            return await self._on_create_error(deployment, creation, error)

    async def _claim(self, deployment: Deployment, found: claims.Claims[ReplicaSet]) -> Result:
        """Write who belongs to whom; the events of these writes bring the next pass."""
        owner = revisions.deployment_ref(deployment)
        actions: list[Action] = [claims.release(owner, REPLICASETS, rs) for rs in found.released]
        if found.adoptable and await still_lives(self._client, DEPLOYMENTS, deployment):
            actions += [claims.adopt(owner, REPLICASETS, rs) for rs in found.adoptable]
        return await self._executor.apply(actions)

    async def _on_create_error(
        self, deployment: Deployment, creation: Create, error: StatusError
    ) -> Result:
        """A taken name may be ours already (an old copy) or another template's (a collision)."""
        name = creation.document["metadata"]["name"]
        if isinstance(error, AlreadyExists):
            taken = await self._client.get(
                REPLICASETS, ObjectKey(deployment.metadata.namespace, name)
            )
            owner = controller_of(taken.metadata)
            ours = owner is not None and owner.uid == deployment.metadata.uid
            if ours and revisions.find_new(deployment, [taken]) is not None:
                raise error
            log.info("replica set name is taken", extra={"replica_set": name})
            return await self._executor.apply(plan_collision(deployment))
        if isinstance(error, Forbidden) and is_namespace_terminating(error):
            return Result()
        if error.status_code == 409 or await self._exists(deployment, name):
            raise error
        now = self._clock.now()
        await self._executor.apply(plan_create_failed(deployment, name, error.message, now))
        raise error

    async def _exists(self, deployment: Deployment, name: str) -> bool:
        """Whether the ReplicaSet was made and a later action of the plan failed."""
        try:
            await self._client.get(REPLICASETS, ObjectKey(deployment.metadata.namespace, name))
        except NotFound:
            return False
        return True

    def _living_pods(self, owned: Iterable[ReplicaSet]) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for rs in owned:
            uid = rs.metadata.uid
            pods = self._pods.by_index(CONTROLLER_INDEX, uid)
            counts[uid] = sum(1 for pod in pods if pod.status.phase not in ENDED)
        return counts


class Routes:
    """Which Deployments an event concerns."""

    def __init__(
        self, deployments: Informer[Deployment], replica_sets: Informer[ReplicaSet]
    ) -> None:
        self._deployments, self._replica_sets = deployments, replica_sets

    def of_replica_set(self, rs: ReplicaSet) -> list[ObjectKey]:
        """Its owner; of an orphan every Deployment that would take it."""
        if controller_of(rs.metadata) is not None:
            return owner_keys(rs, DEPLOYMENTS)
        return [
            d.key
            for d in self._deployments.list(rs.metadata.namespace)
            if matches(d.spec.selector, rs.metadata.labels)
        ]

    def of_pod(self, pod: Pod) -> list[ObjectKey]:
        """A Recreate Deployment waits for the end of each old pod; for the others pods are not looked at."""
        if not pod.deleting and pod.status.phase not in ENDED:
            return []
        keys = []
        for owner in owner_keys(pod, REPLICASETS):
            rs = self._replica_sets.get(owner)
            for key in owner_keys(rs, DEPLOYMENTS) if rs is not None else ():
                deployment = self._deployments.get(key)
                if deployment is not None and not is_rolling(deployment):
                    keys.append(key)
        return keys


def setup(manager: Manager) -> None:
    """Watch Deployments, their ReplicaSets, and the pods whose end a Recreate waits for."""
    reconciler = DeploymentReconciler(manager, executor_for(manager, "deployment-controller"))
    routes = Routes(manager.informer(DEPLOYMENTS), manager.informer(REPLICASETS))
    builder = manager.controller("deployment", reconciler)
    builder.watches(DEPLOYMENTS).watches(REPLICASETS, routes.of_replica_set)
    builder.watches(PODS, routes.of_pod)

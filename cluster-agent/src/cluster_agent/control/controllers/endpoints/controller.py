"""Endpoints controller, the acting half: as the EndpointSlice controller, with one object a Service."""

from cluster_agent.control.controllers.endpoints.plan import MANAGED_BY, MANAGER, plan
from cluster_agent.control.controllers.endpointslice import backends
from cluster_agent.control.controllers.endpointslice.controller import (
    candidates,
    pods_of,
    services_of,
    watch_pods,
)
from cluster_agent.control.controllers.endpointslice.triggers import TriggerTimes
from machinery.api.service_kinds import ENDPOINTS, SERVICES
from machinery.controller.action import Result
from machinery.controller.manager import Manager
from machinery.meta.resource import ObjectKey


class EndpointsReconciler:
    """Read, plan, act; the key is the Service's, which the Endpoints share."""

    def __init__(self, manager: Manager) -> None:
        self._executor = manager.executor
        self._services, self._pods = services_of(manager), pods_of(manager)
        self._endpoints = manager.informer(ENDPOINTS)
        self._triggers = TriggerTimes()

    async def reconcile(self, key: ObjectKey) -> Result:
        service, present = self._services.get(key), self._endpoints.get(key)
        if service is None:
            self._triggers.forget(key)
            if present is not None and present.metadata.labels.get(MANAGED_BY) != MANAGER:
                return Result()  # made by hand, for no Service
            return await self._executor.apply(plan(key, None, (), present))
        pods = candidates(self._pods, service)
        moment = self._triggers.of(service, (p for p in pods if backends.selects(service, p)))
        return await self._executor.apply(plan(key, service, pods, present, moment))


def setup(manager: Manager) -> None:
    """Watch Services, Endpoints and pods."""
    builder = manager.controller("endpoints", EndpointsReconciler(manager))
    builder.watches(SERVICES).watches(ENDPOINTS)
    watch_pods(manager, builder.queue.add_after, services_of(manager))

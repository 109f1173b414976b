"""Rollouts, the acting half: workloads that are staged, with everything that their runs ask; a controller for each kind."""

from collections.abc import Sequence

from federation.controllers import dispatcher
from federation.controllers.rollouts.plan import World, plan
from federation.propagation.rollouts.histories import Histories
from federation.propagation.rollouts.record import RECORD
from federation.propagation.rollouts.snapshots import HISTORY, REVISIONS, strategy_of
from federation.propagation.templates import DAEMONSETS, DEPLOYMENTS, STATEFULSETS
from machinery.api.fleet.cluster import CLUSTERS, READY, Cluster
from machinery.api.fleet.rollouts import (
    APPROVAL_REQUESTS,
    DISRUPTION_BUDGETS,
    STAGED_UPDATE_RUNS,
    STAGED_UPDATE_STRATEGIES,
    ApprovalRequest,
    StagedUpdateRun,
)
from machinery.api.fleet.work import (
    BINDING_LABEL,
    RESOURCE_BINDINGS,
    WORK_DOCUMENTS,
    ResourceBinding,
)
from machinery.controller.action import Result
from machinery.controller.manager import Manager
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document, ObjectKey, Resource

BY_WORKLOAD, BY_RUN, BY_STAGED = "rollouts-workload", "rollouts-run", "rollouts-staged"


class RolloutReconciler:
    """Workloads of one kind."""

    def __init__(self, manager: Manager, resource: Resource[Document] = DEPLOYMENTS) -> None:
        self._clock, self._resource = manager.clock, resource
        self._executor = manager.executor
        self._workloads = manager.informer(resource)
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._bindings.add_index("template", dispatcher.template_key)
        self._runs = manager.informer(STAGED_UPDATE_RUNS)
        self._runs.add_index(BY_WORKLOAD, _workload_of)
        self._history = Histories(manager.informer)
        self._works = manager.informer(WORK_DOCUMENTS, label_selector=BINDING_LABEL)
        self._works.add_index(dispatcher.BY_BINDING, dispatcher.binding_keys)
        self._strategies = manager.informer(STAGED_UPDATE_STRATEGIES)
        self._budgets = manager.informer(DISRUPTION_BUDGETS)
        self._requests = manager.informer(APPROVAL_REQUESTS)
        self._requests.add_index(
            BY_RUN, lambda r: [(r.metadata.namespace, r.spec.target_update_run)]
        )
        self._clusters = manager.informer(CLUSTERS)

    async def reconcile(self, key: ObjectKey) -> Result:
        template = self._workloads.get(key)
        source = (self._resource.kind, key.namespace, key.name)
        binding = next(iter(self._bindings.by_index("template", source)), None)
        runs = self._runs.by_index(BY_WORKLOAD, source)
        marked = binding is not None and RECORD in binding.metadata.annotations
        if not strategy_of(template) and not runs and not marked:
            return Result()
        return await self._executor.apply(plan(self._world(template, binding, runs)))

    def _world(
        self,
        template: Document | None,
        binding: ResourceBinding | None,
        runs: Sequence[StagedUpdateRun],
    ) -> World:
        works = (
            self._works.by_index(dispatcher.BY_BINDING, binding.key) if binding is not None else []
        )
        asked = [
            request
            for run in runs
            for request in self._requests.by_index(BY_RUN, (run.key.namespace, run.key.name))
        ]
        return World(
            self._clock.now(),
            template,
            binding,
            runs,
            self._history.of(template),
            works,
            self._strategies.list(),
            self._budgets.list(),
            asked,
            self._placed(binding),
        )

    def _placed(self, binding: ResourceBinding | None) -> dict[str, Cluster]:
        """The clusters of the placement that have not left."""
        targets = binding.spec.clusters if binding is not None else ()
        found = (self._clusters.get(ObjectKey("", target.name)) for target in targets)
        return {c.metadata.name: c for c in found if c is not None and not c.deleting}


def _workload_of(run: StagedUpdateRun) -> list[tuple[str, str, str]]:
    """Index of runs by what they update."""
    return [(run.spec.workload.kind, run.metadata.namespace, run.spec.workload.name)]


def _staged(binding: ResourceBinding) -> list[str]:
    """Index of bindings whose workload is staged."""
    return ["yes"] if RECORD in binding.metadata.annotations else []


def setup(manager: Manager) -> None:
    """Workloads, bindings, runs and their approvals; of all that is staged: strategies, budgets, clusters that change."""
    for resource, history in (
        (DEPLOYMENTS, HISTORY),
        (STATEFULSETS, REVISIONS),
        (DAEMONSETS, REVISIONS),
    ):
        _stage(manager, resource, history)


def _stage(manager: Manager, resource: Resource[Document], history: Resource[Document]) -> None:
    name = "rollouts" if resource == DEPLOYMENTS else f"rollouts-{resource.plural}"
    controller = manager.controller(name, RolloutReconciler(manager, resource))
    bindings = manager.informer(RESOURCE_BINDINGS)
    bindings.add_index(BY_STAGED, _staged)
    runs = manager.informer(STAGED_UPDATE_RUNS)
    known: dict[str, object] = {}

    def _of_run(run: StagedUpdateRun) -> list[ObjectKey]:
        of_kind = run.spec.workload.kind == resource.kind
        return [ObjectKey(run.metadata.namespace, run.spec.workload.name)] if of_kind else []

    def _of_binding(binding: ResourceBinding) -> list[ObjectKey]:
        source = binding.spec.resource
        return [ObjectKey(source.namespace, source.name)] if source.kind == resource.kind else []

    def everything(_: object) -> list[ObjectKey]:
        return [
            key for binding in bindings.by_index(BY_STAGED, "yes") for key in _of_binding(binding)
        ]

    def of_cluster(cluster: Cluster) -> list[ObjectKey]:
        name, spec = cluster.metadata.name, cluster.spec
        ready = is_true(cluster.status.conditions, READY)
        told = (
            ready,
            cluster.deleting,
            cluster.metadata.labels,
            spec.provider,
            spec.region,
            spec.zones,
        )
        if known.get(name) == told:
            return []
        known[name] = told
        return everything(cluster)

    def of_request(request: ApprovalRequest) -> list[ObjectKey]:
        run = runs.get(ObjectKey(request.metadata.namespace, request.spec.target_update_run))
        return _of_run(run) if run is not None else []

    controller.watches(resource)
    controller.watches(RESOURCE_BINDINGS, _of_binding)
    controller.watches(STAGED_UPDATE_RUNS, _of_run)
    controller.watches(APPROVAL_REQUESTS, of_request)
    controller.watches(STAGED_UPDATE_STRATEGIES, everything)
    controller.watches(DISRUPTION_BUDGETS, everything)
    controller.watches(CLUSTERS, of_cluster)
    controller.owns(history, resource)

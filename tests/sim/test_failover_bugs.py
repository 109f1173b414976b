"""Failover's rules in the simulator: bugs that are planted on purpose are found."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from federation.controllers import dispatcher, evictor, failover
from federation.controllers.domains import domain_name
from federation.controllers.health import Heartbeats
from federation.domains.settings import Settings
from federation.propagation import moves
from federation.simulator.__main__ import play
from federation.simulator.server import Setup, controllers
from federation.simulator.world import Options
from machinery.api.fleet.cluster import CLUSTERS, READY
from machinery.api.fleet.resilience import FailureDomain, FailureDomainStatus
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Result
from machinery.controller.manager import Manager, Reconciler
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import ObjectKey
from machinery.server.app import ApiServer

SEEDS = range(1, 31)


def instead(name: str, make: Callable[[Manager], Reconciler]) -> Setup:
    """The usual controllers, one of them replaced by a broken one."""

    def setup(manager: Manager, api: ApiServer) -> None:
        controllers(manager, api)
        (found,) = [c for c in manager._controllers if c.name == name]
        found._reconciler = make(manager)

    return setup


class Idle:
    """Forgets what it is for."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def reconcile(self, _: ObjectKey) -> Result:
        return Result()


class Credulous(failover.FailoverReconciler):
    """Believes a cluster as soon as it is heard of, before its inventory."""

    def _facts(self, binding: ResourceBinding) -> moves.Facts:
        facts = super()._facts(binding)
        heard = frozenset(
            c.metadata.name for c in self._clusters.list() if is_true(c.status.conditions, READY)
        )
        return replace(facts, seen=failover.reported(binding.status.aggregated_status, heard))


class Hurried(failover.FailoverReconciler):
    """Takes every replica that was decided for one that is ready."""

    def _facts(self, binding: ResourceBinding) -> moves.Facts:
        facts = super()._facts(binding)
        counts = moves.running(binding)
        return replace(facts, seen={n: moves.Seen(counts.get(n, 0)) for n in facts.seen})


class Panicked(evictor.EvictorReconciler):
    """Leaves every cluster that is not Ready, also when the server itself is the one that is cut off."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager, Settings, Heartbeats(manager.clock.monotonic))
        self._domains = Everybody(manager)  # type: ignore[assignment]


class Everybody:
    """Verdicts by readiness alone."""

    def __init__(self, manager: Manager) -> None:
        self._clusters = manager.informer(CLUSTERS)

    def get(self, key: ObjectKey) -> FailureDomain | None:
        for cluster in self._clusters.list():
            if domain_name("Cluster", cluster.metadata.name) == key.name:
                ready = is_true(cluster.status.conditions, READY)
                return FailureDomain(
                    status=FailureDomainStatus(verdict="Healthy" if ready else "Dead")
                )
        return None


class Tidy(dispatcher.DispatcherReconciler):
    """Deletes the Work of a cluster as soon as its replicas are to run elsewhere."""

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None or not binding.spec.graceful_eviction_tasks:
            return await super().reconcile(key)
        template = self._template(binding)
        if template is None:
            return Result()
        spec = _without_tasks(binding)
        known = frozenset(c.metadata.name for c in self._clusters.list() if not c.deleting)
        held = self._works.by_index(dispatcher.BY_BINDING, key)
        wanted = dispatcher.wanted_works(spec, template, known, held)
        return await self._executor.apply(dispatcher.plan(wanted, held))


def _without_tasks(binding: ResourceBinding) -> ResourceBinding:
    spec = msgspec.structs.replace(binding.spec, graceful_eviction_tasks=())
    return msgspec.structs.replace(binding, spec=spec)


@pytest.mark.sim
@pytest.mark.parametrize(
    ("setup", "rules"),
    [
        (instead("failover", Idle), {"moves"}),
        (instead("failover", Credulous), {"believed"}),
        (instead("failover", Hurried), {"surge"}),
        (instead("evictor", Panicked), {"verdict"}),
        (instead("dispatcher", Tidy), {"kept"}),
    ],
    ids=[
        "forgotten cancel: no move ever ends",
        "a returning cluster is believed before its inventory",
        "old copies go before the new ones are ready",
        "a server that is cut off evacuates its fleet",
        "eager delete: the Work of a dead cluster goes at once",
    ],
)
def test_a_planted_bug_is_found(setup: Setup, rules: set[str]) -> None:
    for seed in SEEDS:
        if broken := play(seed, Options(setup=setup)).broken:
            assert broken.partition(":")[0] in rules
            return
    pytest.fail("not found")


@pytest.mark.sim
@pytest.mark.parametrize(
    "seed",
    [29, 103, 215],
    ids=[
        "no room after a loss: the old placement comes back unchanged",
        "a Duplicated workload goes back with nothing to let go",
        "a workload that was scaled to nothing meanwhile has nowhere to go back to",
    ],
)
def test_histories_that_once_broke_a_rule(seed: int) -> None:
    outcome = play(seed)
    assert outcome.broken == "", "\n".join(outcome.story[-40:])

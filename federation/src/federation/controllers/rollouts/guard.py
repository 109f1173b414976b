"""The guard of disruption budgets: what drains and failback ask before they disturb a workload on purpose."""

from federation.propagation.rollouts import budgets
from federation.propagation.rollouts.record import record_of
from federation.propagation.rollouts.sights import sights
from machinery.api.fleet.cluster import CLUSTERS, READY
from machinery.api.fleet.rollouts import DISRUPTION_BUDGETS
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.manager import Manager
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document, ObjectKey

LOOK_S = 5.0
"""What a budget held back is looked at again after so long, if nothing is heard before."""


class Guard:
    """Budgets, and which clusters are heard of."""

    def __init__(self, manager: Manager) -> None:
        self._budgets = manager.informer(DISRUPTION_BUDGETS)
        self._clusters = manager.informer(CLUSTERS)

    def refusal(
        self,
        binding: ResourceBinding,
        template: Document | None,
        cluster: str,
        disturbed: frozenset[str] = frozenset(),
    ) -> str:
        """Why the workload may not be disturbed there now; empty: it may. `disturbed`: where it is about to be, besides
        clusters that a staged update has not judged yet."""
        held = budgets.of(template, self._budgets.list())
        if not held:
            return ""
        heard = {t.name for t in binding.spec.clusters if self._heard(t.name)}
        record = record_of(binding)
        updating = record.updating if record is not None else ()
        away = budgets.Away(sights(binding, heard), disturbed.union(updating))
        return budgets.refusal(held, away, cluster)

    def _heard(self, name: str) -> bool:
        cluster = self._clusters.get(ObjectKey("", name))
        return cluster is not None and is_true(cluster.status.conditions, READY)

"""Networks: every member knows how to reach every cluster: their ClusterNetworks, as the clusters' links wrote them.

Only `spec` travels, with one word of the operator's added: whether the pods' own addresses may be used
(`directRoutes` of FederationConfig). A cluster that has left is in no member's list any more.
"""

from collections.abc import Iterable

from federation.controllers import dispatcher
from federation.propagation.works import work
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.multicluster import CLUSTER_NETWORKS
from machinery.api.fleet.resilience import CONFIG_NAME, FEDERATION_CONFIGS, FederationConfig
from machinery.api.fleet.work import BINDING_LABEL, WORK_DOCUMENTS
from machinery.client.interface import dynamic
from machinery.controller.action import Action, Result
from machinery.controller.manager import Manager
from machinery.controller.predicates import wish_changed
from machinery.meta.resource import Document, ObjectKey

NETWORKS = dynamic(
    CLUSTER_NETWORKS.group, CLUSTER_NETWORKS.version, CLUSTER_NETWORKS.plural, CLUSTER_NETWORKS.kind, False
)  # fmt: skip
BY_NETWORK = "network"


def wanted_works(
    network: Document | None, members: Iterable[str], direct_routes: str
) -> dict[str, Document]:
    """A Work for each member, the cluster itself too; none when the cluster is no member."""
    members = tuple(members)
    if network is None or network["metadata"]["name"] not in members:
        return {}
    body = network | {"spec": (network.get("spec") or {}) | {"directRoutes": direct_routes}}
    return {member: work(body, member, conflict_resolution="Overwrite") for member in members}


def plan(
    network: Document | None,
    members: Iterable[str],
    direct_routes: str,
    held: Iterable[Document],
) -> list[Action]:
    """As the dispatcher's, for a ClusterNetwork."""
    return dispatcher.plan(wanted_works(network, members, direct_routes), held)


def network_keys(document: Document) -> list[ObjectKey]:
    """The ClusterNetwork that a Work without a binding carries."""
    manifests = (document["spec"].get("workload") or {}).get("manifests") or ()
    return [ObjectKey("", m["metadata"]["name"]) for m in manifests if m["kind"] == NETWORKS.kind]


class NetworkReconciler:
    """ClusterNetworks of the federation."""

    def __init__(self, manager: Manager) -> None:
        self._executor = manager.executor
        self._networks = manager.informer(NETWORKS)
        self._clusters = manager.informer(CLUSTERS)
        self._configs = manager.informer(FEDERATION_CONFIGS)
        self._works = manager.informer(WORK_DOCUMENTS, label_selector=f"!{BINDING_LABEL}")
        self._works.add_index(BY_NETWORK, network_keys)

    async def reconcile(self, key: ObjectKey) -> Result:
        members = sorted(c.metadata.name for c in self._clusters.list() if not c.deleting)
        config = self._configs.get(ObjectKey("", CONFIG_NAME)) or FederationConfig()
        held = self._works.by_index(BY_NETWORK, key)
        actions = plan(self._networks.get(key), members, config.spec.direct_routes, held)
        return await self._executor.apply(actions)


def setup(manager: Manager) -> None:
    """ClusterNetworks and their Works; all of them when a member joins or leaves, or the operator's word changes.

    What members report of a Work is no reason to look: there are as many Works as pairs of members.
    """
    networks = manager.informer(NETWORKS)
    seen: dict[str, bool] = {}

    def everything() -> list[ObjectKey]:
        return [ObjectKey("", n["metadata"]["name"]) for n in networks.list()]

    def of_cluster(cluster: Cluster) -> list[ObjectKey]:
        if seen.get(cluster.metadata.name) == cluster.deleting:
            return []
        seen[cluster.metadata.name] = cluster.deleting
        return everything()

    def of_config(_: FederationConfig) -> list[ObjectKey]:
        return everything()

    controller = manager.controller("networks", NetworkReconciler(manager))
    controller.watches(NETWORKS)
    controller.watches(CLUSTERS, of_cluster)
    controller.watches(FEDERATION_CONFIGS, of_config)
    alone = f"!{BINDING_LABEL}"
    controller.watches(WORK_DOCUMENTS, network_keys, label_selector=alone, when=wish_changed)

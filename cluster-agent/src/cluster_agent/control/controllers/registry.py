"""All controllers of a member cluster, by name: what `control` starts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster_agent.control.controllers import (
    clustersetslices,
    disruption,
    endpointslicemirroring,
    kubernetesservice,
    podgc,
    resourcequota,
    rootca,
    serviceaccount,
    servicecidr,
    serviceexport,
    tainteviction,
    ttlafterfinished,
    volumeprotection,
)
from cluster_agent.control.controllers.batch import CRONJOBS, JOBS
from cluster_agent.control.controllers.cronjob import controller as cronjob
from cluster_agent.control.controllers.daemonset import controller as daemonset
from cluster_agent.control.controllers.deployment import controller as deployment
from cluster_agent.control.controllers.endpoints import controller as endpoints
from cluster_agent.control.controllers.endpointslice import controller as endpointslice
from cluster_agent.control.controllers.horizontalpodautoscaler import controller as autoscaler
from cluster_agent.control.controllers.job import controller as job
from cluster_agent.control.controllers.nodelifecycle import controller as nodelifecycle
from cluster_agent.control.controllers.persistentvolume import controller as persistentvolume
from cluster_agent.control.controllers.replicaset import controller as replicaset
from cluster_agent.control.controllers.serviceimport import controller as serviceimport
from cluster_agent.control.controllers.statefulset import controller as statefulset
from cluster_agent.control.controllers.workloads import DEPLOYMENTS, REPLICASETS
from machinery.api.core import NODES, PODS
from machinery.api.scheme import ServedKind
from machinery.controller.manager import Manager
from machinery.controllers import csr, namespace, policystatus, rolesums, tokencleaner
from machinery.controllers.garbagecollector import controller as garbage
from machinery.server.services.ranges import AddressRange


@dataclass(frozen=True, slots=True)
class Settings:
    """What the controllers need besides the API."""

    kinds: Sequence[ServedKind]
    """Every kind that the server stores: collected, and emptied with its namespace."""
    ca_pem: str
    """Published in every namespace."""
    signer: csr.Signer
    """Signs the certificates of nodes."""
    api: kubernetesservice.ApiAddress
    """Where pods find the API server."""
    cluster: str = ""
    """The member's name in the fleet."""
    clusterset: Sequence[AddressRange] = ()
    """Addresses of the fleet's Services here; without any, imports get none."""
    node_lifecycle: nodelifecycle.LifecycleConfig = nodelifecycle.LifecycleConfig()
    pod_gc: podgc.PodGCConfig = podgc.PodGCConfig()
    namespace_grace_s: float = namespace.GRACE_S


def setups(settings: Settings) -> Mapping[str, Callable[[Manager], None]]:
    """Name -> what wires the controller up."""
    shared = (PODS, NODES, DEPLOYMENTS, REPLICASETS, JOBS, CRONJOBS)
    return {
        "deployment": deployment.setup,
        "replicaset": replicaset.setup,
        "replication-controller": replicaset.setup_replication_controllers,
        "statefulset": lambda m: statefulset.setup(m, settings.kinds),
        "daemonset": daemonset.setup,
        "job": job.setup,
        "cronjob": cronjob.setup,
        "ttl-after-finished": ttlafterfinished.setup,
        "horizontalpodautoscaler": lambda m: autoscaler.setup(m, settings.kinds),
        "garbage-collector": lambda m: garbage.setup(m, settings.kinds, shared),
        "namespace": lambda m: namespace.setup(
            m, settings.kinds, grace_s=settings.namespace_grace_s
        ),
        "persistentvolume-binder": lambda m: persistentvolume.setup(m, settings.kinds),
        "volume-protection": lambda m: volumeprotection.setup(m, settings.kinds),
        "disruption": lambda m: disruption.setup(m, settings.kinds),
        "resource-quota": lambda m: resourcequota.setup(m, settings.kinds, shared),
        "serviceaccount": serviceaccount.setup,
        "root-ca": lambda m: rootca.setup(m, settings.ca_pem),
        "node-lifecycle": lambda m: nodelifecycle.setup(m, settings.node_lifecycle),
        "taint-eviction": tainteviction.setup,
        "pod-gc": lambda m: podgc.setup(m, settings.pod_gc),
        "certificates": lambda m: csr.setup(m, settings.signer),
        "token-cleaner": tokencleaner.setup,
        "cluster-role-aggregation": rolesums.setup,
        "policy-status": lambda m: policystatus.setup(m, settings.kinds),
        "endpointslice": endpointslice.setup,
        "endpointslice-mirroring": endpointslicemirroring.setup,
        "endpoints": endpoints.setup,
        "kubernetes-service": lambda m: kubernetesservice.setup(m, settings.api),
        "service-cidr": lambda m: servicecidr.setup(m, settings.kinds),
        "serviceexport": lambda m: serviceexport.setup(m, settings.cluster),
        "serviceimport": lambda m: serviceimport.setup(m, settings.clusterset),
        "clustersetslices": lambda m: clustersetslices.setup(m, settings.cluster),
    }


def setup_all(manager: Manager, settings: Settings) -> None:
    """Wire up every controller."""
    for setup in setups(settings).values():
        setup(manager)

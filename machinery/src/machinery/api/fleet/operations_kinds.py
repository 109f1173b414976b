"""What operators of a fleet ask for besides policies, as it is served: paths, columns and schemas, as Karmada has them."""

from machinery.api.fleet.schema import (
    AFFINITY,
    AGE,
    LARGE,
    NUMBER,
    NUMERAL,
    TEXT,
    TIME,
    array,
    mapping,
    served,
    struct,
)
from machinery.api.scheme import Column, ServedKind

_WORKLOAD = struct(
    ("apiVersion", "kind", "name"), apiVersion=TEXT, kind=TEXT, name=TEXT, namespace=TEXT
)
WORKLOAD_REBALANCER = served(
    "apps.karmada.io/v1alpha1", "WorkloadRebalancer", "workloadrebalancers", "", namespaced=False,
    spec=struct(
        ("workloads",), workloads=array(_WORKLOAD, minItems=1), ttlSecondsAfterFinished=NUMBER
    ),
    status=struct(
        observedWorkloads=array(
            struct(("workload",), workload=_WORKLOAD, result=TEXT, reason=TEXT)
        ),
        observedGeneration=LARGE,
        finishTime=TIME,
    ),
    columns=(AGE,),
)  # fmt: skip
_MATCHES = array(
    struct(
        ("conditionType", "operator", "statusValues"),
        conditionType=TEXT, operator=TEXT, statusValues=array(TEXT),
    )
)  # fmt: skip
CLUSTER_TAINT_POLICY = served(
    "policy.karmada.io/v1alpha1", "ClusterTaintPolicy", "clustertaintpolicies", "",
    namespaced=False,
    spec=struct(
        ("taints",),
        targetClusters=AFFINITY,
        addOnConditions=_MATCHES,
        removeOnConditions=_MATCHES,
        taints=array(
            struct(("effect", "key"), key=TEXT, effect=TEXT, value=TEXT), minItems=1
        ),
    ),
    columns=(AGE,),
)  # fmt: skip
_AMOUNTS = mapping(NUMERAL)
FEDERATED_RESOURCE_QUOTA = served(
    "policy.karmada.io/v1alpha1", "FederatedResourceQuota", "federatedresourcequotas", "",
    namespaced=True,
    spec=struct(
        ("overall",),
        overall=_AMOUNTS,
        staticAssignments=array(
            struct(("clusterName", "hard"), clusterName=TEXT, hard=_AMOUNTS)
        ),
    ),
    status=struct(
        overall=_AMOUNTS,
        overallUsed=_AMOUNTS,
        aggregatedStatus=array(
            struct(("clusterName",), clusterName=TEXT, hard=_AMOUNTS, used=_AMOUNTS)
        ),
    ),
    columns=(
        Column("Overall", "string", ".status.overall"),
        Column("Overall_Used", "string", ".status.overallUsed"),
        AGE,
    ),
)  # fmt: skip

OPERATIONS: tuple[ServedKind, ...] = (
    WORKLOAD_REBALANCER,
    CLUSTER_TAINT_POLICY,
    FEDERATED_RESOURCE_QUOTA,
)

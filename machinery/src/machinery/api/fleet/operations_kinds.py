"""What operators of a fleet ask for besides policies, as it is served: paths, columns and schemas, as Karmada has them."""

from machinery.api.fleet.schema import AGE, LARGE, NUMBER, TEXT, TIME, array, served, struct
from machinery.api.scheme import ServedKind

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

OPERATIONS: tuple[ServedKind, ...] = (WORKLOAD_REBALANCER,)

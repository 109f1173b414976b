"""The federation's kinds as they are served: paths, columns and schemas.

The schemas say what Karmada's CustomResourceDefinitions say of the fields that we act on; parts that are handed through
(statuses of members, manifests) keep their unknown fields. Fields of Karmada that nothing acts on yet stand in no schema,
so that strict clients hear `unknown field` instead of a promise.
"""

from typing import Any

from machinery.api.scheme import Column, ServedKind, Subresource

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "format": "int32"}
LARGE: Schema = {"type": "integer", "format": "int64"}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
ANY: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
QUANTITY: Schema = {"x-kubernetes-int-or-string": True}


def _object(required: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": fields}
    return schema | ({"required": list(required)} if required else {})


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items} | more


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _enum(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


REQUIREMENT = _object(("key", "operator"), key=TEXT, operator=TEXT, values=_list(TEXT))
LABEL_SELECTOR = _object(matchLabels=_map(TEXT), matchExpressions=_list(REQUIREMENT))
TOLERATION = _object(key=TEXT, operator=TEXT, value=TEXT, effect=TEXT, tolerationSeconds=LARGE)
TAINT = _object(("effect", "key"), key=TEXT, value=TEXT, effect=TEXT, timeAdded=TIME)
CONDITION = _object(
    ("type", "status"),
    type=TEXT, status=_enum("True", "False", "Unknown"), reason=TEXT, message=TEXT,
    lastTransitionTime=TIME, observedGeneration=LARGE,
)  # fmt: skip
CONDITIONS = _list(CONDITION)

_AFFINITY_FIELDS = {
    "labelSelector": LABEL_SELECTOR,
    "fieldSelector": _object(matchExpressions=_list(REQUIREMENT)),
    "clusterNames": _list(TEXT),
    "exclude": _list(TEXT),
}
AFFINITY = _object(**_AFFINITY_FIELDS)
AFFINITY_TERM = _object(("affinityName",), affinityName=TEXT, **_AFFINITY_FIELDS)
SPREAD = _object(
    spreadByField=_enum("cluster", "region", "zone", "provider"), spreadByLabel=TEXT,
    minGroups=NUMBER, maxGroups=NUMBER,
)  # fmt: skip
STATIC_WEIGHT = _object(
    ("targetCluster", "weight"), targetCluster=AFFINITY, weight=LARGE | {"minimum": 1}
)
REPLICA_SCHEDULING = _object(
    replicaSchedulingType=_enum("Duplicated", "Divided"),
    replicaDivisionPreference=_enum("Aggregated", "Weighted"),
    weightPreference=_object(
        staticWeightList=_list(STATIC_WEIGHT), dynamicWeight=_enum("AvailableReplicas")
    ),
)
PLACEMENT = _object(
    clusterAffinity=AFFINITY,
    clusterAffinities=_list(AFFINITY_TERM),
    clusterTolerations=_list(TOLERATION),
    spreadConstraints=_list(SPREAD),
    replicaScheduling=REPLICA_SCHEDULING,
)
SUSPENSION = _object(
    dispatching=FLAG, dispatchingOnClusters=_object(clusterNames=_list(TEXT)), scheduling=FLAG
)
RESOURCE_SELECTOR = _object(
    ("apiVersion", "kind"),
    apiVersion=TEXT, kind=TEXT, namespace=TEXT, name=TEXT, labelSelector=LABEL_SELECTOR,
)  # fmt: skip
POLICY_SPEC = _object(
    ("resourceSelectors",),
    resourceSelectors=_list(RESOURCE_SELECTOR, minItems=1),
    propagateDeps=FLAG,
    placement=PLACEMENT,
    priority=NUMBER,
    preemption=_enum("Always", "Never"),
    schedulerName=TEXT,
    conflictResolution=_enum("Abort", "Overwrite"),
    suspension=SUSPENSION,
    preserveResourcesOnDeletion=FLAG,
)
OBJECT_REF = _object(
    ("apiVersion", "kind", "name"),
    apiVersion=TEXT, kind=TEXT, namespace=TEXT, name=TEXT, uid=TEXT, resourceVersion=TEXT,
)  # fmt: skip
TARGET = _object(("name",), name=TEXT, replicas=NUMBER)
BINDING_SPEC = _object(
    ("resource",),
    resource=OBJECT_REF,
    propagateDeps=FLAG,
    replicaRequirements=_object(
        nodeClaim=_object(
            hardNodeAffinity=ANY, nodeSelector=_map(TEXT), tolerations=_list(TOLERATION)
        ),
        resourceRequest=_map(QUANTITY),
        namespace=TEXT,
        priorityClassName=TEXT,
    ),
    replicas=NUMBER,
    clusters=_list(TARGET),
    placement=PLACEMENT,
    gracefulEvictionTasks=_list(
        _object(
            ("fromCluster", "reason", "producer"),
            fromCluster=TEXT, purgeMode=TEXT, replicas=NUMBER, reason=TEXT, message=TEXT,
            producer=TEXT, gracePeriodSeconds=NUMBER, creationTimestamp=TIME,
        )
    ),
    requiredBy=_list(
        _object(("name",), namespace=TEXT, name=TEXT, clusters=_list(TARGET))
    ),
    schedulerName=TEXT,
    conflictResolution=_enum("Abort", "Overwrite"),
    rescheduleTriggeredAt=TIME,
    suspension=SUSPENSION,
    preserveResourcesOnDeletion=FLAG,
)  # fmt: skip
BINDING_STATUS = _object(
    schedulerObservedGeneration=LARGE,
    schedulerObservingAffinityName=TEXT,
    lastScheduledTime=TIME,
    conditions=CONDITIONS,
    aggregatedStatus=_list(
        _object(
            ("clusterName",),
            clusterName=TEXT, status=ANY, applied=FLAG, appliedMessage=TEXT,
            health=_enum("Healthy", "Unhealthy", "Unknown"),
        )
    ),
)  # fmt: skip
CLUSTER_SPEC = _object(
    ("syncMode",),
    id=TEXT,
    syncMode=_enum("Push", "Pull"),
    apiEndpoint=TEXT,
    provider=TEXT,
    region=TEXT,
    zone=TEXT,
    zones=_list(TEXT),
    taints=_list(TAINT),
)
CLUSTER_STATUS = _object(
    kubernetesVersion=TEXT,
    apiEnablements=_list(
        _object(
            ("groupVersion",),
            groupVersion=TEXT,
            resources=_list(_object(("kind",), kind=TEXT, name=TEXT)),
        )
    ),
    conditions=CONDITIONS,
    nodeSummary=_object(totalNum=NUMBER, readyNum=NUMBER),
    resourceSummary=_object(
        allocatable=_map(QUANTITY),
        allocating=_map(QUANTITY),
        allocated=_map(QUANTITY),
        allocatableModelings=_list(_object(("grade", "count"), grade=NUMBER, count=NUMBER)),
    ),
)
WORK_SPEC = _object(
    workload=_object(manifests=_list(ANY | {"x-kubernetes-embedded-resource": True})),
    suspendDispatching=FLAG,
    preserveResourcesOnDeletion=FLAG,
)
WORK_STATUS = _object(
    conditions=CONDITIONS,
    manifestStatuses=_list(
        _object(
            ("identifier",),
            identifier=_object(
                ("kind", "name", "ordinal", "version"),
                ordinal=NUMBER, group=TEXT, version=TEXT, kind=TEXT, resource=TEXT,
                namespace=TEXT, name=TEXT,
            ),
            status=ANY,
            health=_enum("Healthy", "Unhealthy", "Unknown"),
        )
    ),
)  # fmt: skip


def _kind(
    group_version: str,
    kind: str,
    plural: str,
    short: str,
    *,
    namespaced: bool,
    spec: Schema | None = None,
    status: Schema | None = None,
    columns: tuple[Column, ...] = (),
) -> ServedKind:
    group, version = group_version.split("/")
    meta: Schema = {
        "apiVersion": TEXT,
        "kind": TEXT,
        "metadata": {"type": "object"},
    }
    fields = meta | ({"spec": spec} if spec is not None else {})
    fields |= {"status": status} if status is not None else {}
    return ServedKind(
        group,
        version,
        kind,
        plural,
        kind.lower(),
        namespaced,
        f"io.ubernetes.{group}.{version}.{kind}",
        short_names=(short,) if short else (),
        categories=("ubernetes" if group == "ubernetes.io" else "karmada-io",),
        subresources=(Subresource("status", kind),) if status is not None else (),
        schema=_object(("spec",) if spec is not None else (), **fields)
        | {"x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": kind}]},
        custom=True,
        columns=columns,
        has_status=status is not None,
    )


AGE = Column("Age", "date", ".metadata.creationTimestamp")
_READY = '.status.conditions[?(@.type=="Ready")]'
_SCHEDULED = '.status.conditions[?(@.type=="Scheduled")]'
_APPLIED = '.status.conditions[?(@.type=="Applied")]'

CLUSTER = _kind(
    "cluster.karmada.io/v1alpha1", "Cluster", "clusters", "", namespaced=False,
    spec=CLUSTER_SPEC, status=CLUSTER_STATUS,
    columns=(
        Column("Version", "string", ".status.kubernetesVersion"),
        Column("Mode", "string", ".spec.syncMode", priority=1),
        Column("Ready", "string", _READY + ".status"),
        Column("Zone", "string", "{.spec.zones[*]}"),
        Column("Region", "string", ".spec.region", priority=1),
        Column("Provider", "string", ".spec.provider"),
        Column("Nodes", "string", "{.status.nodeSummary.readyNum}/{.status.nodeSummary.totalNum}"),
        AGE,
        Column("Reason", "string", _READY + ".reason", priority=1),
        Column("Message", "string", _READY + ".message", priority=1),
    ),
)  # fmt: skip
_POLICY_COLUMNS = (
    Column("Conflict-Resolution", "string", ".spec.conflictResolution"),
    Column("Priority", "string", ".spec.priority"),
    AGE,
)
PROPAGATION_POLICY = _kind(
    "policy.karmada.io/v1alpha1", "PropagationPolicy", "propagationpolicies", "pp",
    namespaced=True, spec=POLICY_SPEC, columns=_POLICY_COLUMNS,
)  # fmt: skip
CLUSTER_PROPAGATION_POLICY = _kind(
    "policy.karmada.io/v1alpha1", "ClusterPropagationPolicy", "clusterpropagationpolicies", "cpp",
    namespaced=False, spec=POLICY_SPEC, columns=_POLICY_COLUMNS,
)  # fmt: skip
_BINDING_COLUMNS = (
    Column("Scheduled", "string", _SCHEDULED + ".status"),
    Column("FullyApplied", "string", '.status.conditions[?(@.type=="FullyApplied")].status'),
    AGE,
)
RESOURCE_BINDING = _kind(
    "work.karmada.io/v1alpha2", "ResourceBinding", "resourcebindings", "rb", namespaced=True,
    spec=BINDING_SPEC, status=BINDING_STATUS, columns=_BINDING_COLUMNS,
)  # fmt: skip
CLUSTER_RESOURCE_BINDING = _kind(
    "work.karmada.io/v1alpha2", "ClusterResourceBinding", "clusterresourcebindings", "crb",
    namespaced=False, spec=BINDING_SPEC, status=BINDING_STATUS, columns=_BINDING_COLUMNS,
)  # fmt: skip
WORK = _kind(
    "work.karmada.io/v1alpha1", "Work", "works", "wk", namespaced=True,
    spec=WORK_SPEC, status=WORK_STATUS,
    columns=(
        Column("Workload-Kind", "string", ".spec.workload.manifests[*].kind", priority=1),
        Column("Workload-Name", "string", ".spec.workload.manifests[*].metadata.name", priority=1),
        Column("Applied", "string", _APPLIED + ".status"),
        AGE,
    ),
)  # fmt: skip

_SECONDS: Schema = {"type": "number", "minimum": 0}
FAILBACK = _object(
    mode=_enum("Automatic", "Never"),
    stabilizationSeconds=_SECONDS,
    ratePerMinute=NUMBER | {"minimum": 1},
)
RESILIENCE_POLICY = _kind(
    "ubernetes.io/v1alpha1", "ResiliencePolicy", "resiliencepolicies", "rp", namespaced=True,
    spec=_object(
        ("resourceSelectors",),
        resourceSelectors=_list(RESOURCE_SELECTOR, minItems=1),
        failover=_enum("Enabled", "Disabled"),
        mode=_enum("availability", "consistency"),
        grantSeconds=NUMBER | {"minimum": 20},
        rejoin=_enum("keepOriginal", "keepReplacement", "bestScore", "longestRunning"),
        failback=FAILBACK,
    ),
    columns=(
        Column("Failover", "string", ".spec.failover"),
        Column("Mode", "string", ".spec.mode"),
        Column("Rejoin", "string", ".spec.rejoin"),
        AGE,
    ),
)  # fmt: skip
FEDERATION_CONFIG = _kind(
    "ubernetes.io/v1alpha1", "FederationConfig", "federationconfigs", "fc", namespaced=False,
    spec=_object(
        failover=_enum("Enabled", "DryRun", "Frozen"),
        clock=_object(
            suspectSeconds=_SECONDS, unreachableSeconds=_SECONDS, zoneSeconds=_SECONDS
        ),
        failback=FAILBACK,
    ),
    columns=(Column("Failover", "string", ".spec.failover"), AGE),
)  # fmt: skip
FAILURE_DOMAIN = _kind(
    "ubernetes.io/v1alpha1", "FailureDomain", "failuredomains", "fd", namespaced=False,
    status=_object(
        level=_enum("Cluster", "Zone", "Fleet"), verdict=TEXT, message=TEXT, since=TIME,
        evidence=_list(_object(("cluster",), cluster=TEXT, verdict=TEXT, message=TEXT)),
    ),
    columns=(
        Column("Level", "string", ".status.level"),
        Column("Verdict", "string", ".status.verdict"),
        Column("Since", "date", ".status.since"),
        Column("Why", "string", ".status.message"),
    ),
)  # fmt: skip

FLEET: tuple[ServedKind, ...] = (
    CLUSTER,
    PROPAGATION_POLICY,
    CLUSTER_PROPAGATION_POLICY,
    RESOURCE_BINDING,
    CLUSTER_RESOURCE_BINDING,
    WORK,
    RESILIENCE_POLICY,
    FEDERATION_CONFIG,
    FAILURE_DOMAIN,
)

"""The federation's kinds as they are served: paths, columns and schemas.

The schemas say what Karmada's CustomResourceDefinitions say of the fields that we act on; parts that are handed through
(statuses of members, manifests) keep their unknown fields. Fields of Karmada that nothing acts on yet stand in no schema,
so that strict clients hear `unknown field` instead of a promise; a few that Karmada's samples use are kept and warned about
(`federation.propagation.admission`). The order of fields is Go's, since messages show values in it.
"""

from machinery.api.fleet.autoscaling_kinds import AUTOSCALING
from machinery.api.fleet.decision_kinds import JOURNAL
from machinery.api.fleet.interpretation import INTERPRETATION
from machinery.api.fleet.multicluster_kinds import MULTICLUSTER
from machinery.api.fleet.operations_kinds import OPERATIONS
from machinery.api.fleet.rollout_kinds import ROLLOUTS
from machinery.api.fleet.schema import (
    AFFINITY,
    AFFINITY_FIELDS,
    AGE,
    ANY,
    CONDITIONS,
    FLAG,
    LARGE,
    NUMBER,
    QUANTITY,
    RESOURCE_SELECTOR,
    TAINT,
    TEXT,
    TIME,
    TOLERATION,
    Schema,
    array,
    choice,
    mapping,
    served,
    struct,
)
from machinery.api.scheme import Column, ServedKind

_TERM_NAME = TEXT | {"minLength": 1, "maxLength": 32}
AFFINITY_TERM = struct(
    ("affinityName",),
    affinityName=_TERM_NAME,
    **AFFINITY_FIELDS,
    overflowAffinities=array(struct(("affinityName",), affinityName=_TERM_NAME, **AFFINITY_FIELDS)),
)
SPREAD = struct(
    spreadByField=choice("cluster", "region", "zone", "provider"), spreadByLabel=TEXT,
    maxGroups=NUMBER, minGroups=NUMBER,
)  # fmt: skip
_GROUPED = struct(("groupByLabelKey",), groupByLabelKey=TEXT)
STATIC_WEIGHT = struct(
    ("targetCluster", "weight"), targetCluster=AFFINITY, weight=LARGE | {"minimum": 1}
)
REPLICA_SCHEDULING = struct(
    replicaSchedulingType=choice("Duplicated", "Divided") | {"default": "Divided"},
    replicaDivisionPreference=choice("Aggregated", "Weighted"),
    weightPreference=struct(
        staticWeightList=array(STATIC_WEIGHT), dynamicWeight=choice("AvailableReplicas")
    ),
)
PLACEMENT = struct(
    clusterAffinity=AFFINITY,
    clusterAffinities=array(AFFINITY_TERM),
    clusterTolerations=array(TOLERATION),
    spreadConstraints=array(SPREAD),
    replicaScheduling=REPLICA_SCHEDULING,
    workloadAffinity=struct(affinity=_GROUPED, antiAffinity=_GROUPED),
)
_STATE = struct(
    ("rules",),
    rules=array(
        struct(("aliasLabelName", "jsonPath"), aliasLabelName=TEXT, jsonPath=TEXT)
    ),
)  # fmt: skip
FAILOVER = struct(
    application=struct(
        ("decisionConditions",),
        decisionConditions=struct(tolerationSeconds=NUMBER),
        purgeMode=choice("Directly", "Gracefully", "Never"),
        gracePeriodSeconds=NUMBER,
        statePreservation=_STATE,
    ),
    cluster=struct(purgeMode=choice("Directly", "Gracefully"), statePreservation=_STATE),
)
_SUSPENDED = {"dispatching": FLAG, "dispatchingOnClusters": struct(clusterNames=array(TEXT))}
SUSPENSION = struct(**_SUSPENDED, scheduling=FLAG)
"""Of a binding; a policy cannot suspend scheduling."""
CONFLICT_RESOLUTION = choice("Abort", "Overwrite") | {"default": "Abort"}
POLICY_SPEC = struct(
    ("resourceSelectors",),
    resourceSelectors=array(RESOURCE_SELECTOR, minItems=1),
    association=FLAG,
    propagateDeps=FLAG,
    placement=PLACEMENT,
    priority=NUMBER | {"default": 0},
    preemption=choice("Always", "Never") | {"default": "Never"},
    dependentOverrides=array(TEXT),
    schedulerName=TEXT | {"default": "default-scheduler"},
    failover=FAILOVER,
    conflictResolution=CONFLICT_RESOLUTION,
    activationPreference=choice("Lazy"),
    suspension=struct(**_SUSPENDED),
    preserveResourcesOnDeletion=FLAG,
    schedulePriority=struct(
        ("priorityClassName", "priorityClassSource"),
        priorityClassSource=choice("KubePriorityClass"),
        priorityClassName=TEXT,
    ),
)
_VALUE: Schema = {"x-kubernetes-preserve-unknown-fields": True}
_OPERATORS = choice("add", "remove", "replace")
_WORDS = struct(
    ("containerName", "operator"),
    containerName=TEXT, operator=choice("add", "remove"), value=array(TEXT),
)  # fmt: skip
_MARKS = struct(("operator",), operator=_OPERATORS, value=mapping(TEXT))
_INSIDE = struct(("operator", "subPath"), subPath=TEXT, operator=_OPERATORS, value=_VALUE)
FIELD_OVERRIDER = struct(("fieldPath",), fieldPath=TEXT, json=array(_INSIDE), yaml=array(_INSIDE))
OVERRIDERS = struct(
    plaintext=array(
        struct(("operator", "path"), path=TEXT, operator=_OPERATORS, value=_VALUE)
    ),
    imageOverrider=array(
        struct(
            ("component", "operator"),
            predicate=struct(("path",), path=TEXT),
            component=choice("Registry", "Repository", "Tag"),
            operator=_OPERATORS,
            value=TEXT,
        )
    ),
    commandOverrider=array(_WORDS),
    argsOverrider=array(_WORDS),
    labelsOverrider=array(_MARKS),
    annotationsOverrider=array(_MARKS),
    fieldOverrider=array(FIELD_OVERRIDER),
)  # fmt: skip
OVERRIDE_SPEC = struct(
    resourceSelectors=array(RESOURCE_SELECTOR),
    overrideRules=array(
        struct(("overriders",), targetCluster=AFFINITY, overriders=OVERRIDERS)
    ),
    targetCluster=AFFINITY,
    overriders=OVERRIDERS,
)  # fmt: skip
OBJECT_REF = struct(
    ("apiVersion", "kind", "name"),
    apiVersion=TEXT, kind=TEXT, namespace=TEXT, name=TEXT, uid=TEXT, resourceVersion=TEXT,
)  # fmt: skip
_COMPONENT_NAME = TEXT | {"maxLength": 32}
TARGET = struct(
    ("name",),
    name=TEXT,
    replicas=NUMBER,
    components=array(
        struct(("name", "replicas"), name=_COMPONENT_NAME, replicas=NUMBER | {"minimum": 0})
    ),
)
_NODE_CLAIM = struct(
    hardNodeAffinity=ANY, nodeSelector=mapping(TEXT), tolerations=array(TOLERATION)
)
BINDING_SPEC = struct(
    ("resource",),
    resource=OBJECT_REF,
    propagateDeps=FLAG,
    replicaRequirements=struct(
        nodeClaim=_NODE_CLAIM,
        resourceRequest=mapping(QUANTITY),
        namespace=TEXT,
        priorityClassName=TEXT,
    ),
    replicas=NUMBER,
    components=array(
        struct(
            ("name", "replicas"),
            name=_COMPONENT_NAME,
            replicas=NUMBER | {"minimum": 0},
            replicaRequirements=struct(
                nodeClaim=_NODE_CLAIM,
                resourceRequest=mapping(QUANTITY),
                priorityClassName=TEXT,
            ),
        )
    ),
    clusters=array(TARGET),
    placement=PLACEMENT,
    gracefulEvictionTasks=array(
        struct(
            ("fromCluster", "reason", "producer"),
            fromCluster=TEXT, purgeMode=TEXT, replicas=NUMBER,
            reason=TEXT | {"minLength": 1, "maxLength": 32}, message=TEXT,
            producer=TEXT, gracePeriodSeconds=NUMBER, suppressDeletion=FLAG,
            preservedLabelState=mapping(TEXT), clustersBeforeFailover=array(TEXT),
            creationTimestamp=TIME,
        )
    ),
    requiredBy=array(
        struct(("name",), namespace=TEXT, name=TEXT, clusters=array(TARGET))
    ),
    schedulerName=TEXT,
    failover=FAILOVER,
    conflictResolution=CONFLICT_RESOLUTION,
    rescheduleTriggeredAt=TIME,
    suspension=SUSPENSION,
    preserveResourcesOnDeletion=FLAG,
    schedulePriority=struct(priority=NUMBER),
)  # fmt: skip
BINDING_STATUS = struct(
    schedulerObservedGeneration=LARGE,
    schedulerObservingAffinityName=TEXT,
    lastScheduledTime=TIME,
    conditions=CONDITIONS,
    aggregatedStatus=array(
        struct(
            ("clusterName",),
            clusterName=TEXT, status=ANY, applied=FLAG, appliedMessage=TEXT,
            health=choice("Healthy", "Unhealthy", "Unknown"),
        )
    ),
)  # fmt: skip
CLUSTER_SPEC = struct(
    ("syncMode",),
    id=TEXT,
    syncMode=choice("Push", "Pull"),
    apiEndpoint=TEXT,
    provider=TEXT,
    region=TEXT,
    zone=TEXT,
    zones=array(TEXT),
    taints=array(TAINT),
    resourceModels=array(
        struct(
            ("grade", "ranges"),
            grade=NUMBER,
            ranges=array(struct(("name", "min", "max"), name=TEXT, min=QUANTITY, max=QUANTITY)),
        )
    ),
)
CLUSTER_STATUS = struct(
    kubernetesVersion=TEXT,
    apiEnablements=array(
        struct(
            ("groupVersion",),
            groupVersion=TEXT,
            resources=array(struct(("kind",), kind=TEXT, name=TEXT)),
        )
    ),
    conditions=CONDITIONS,
    nodeSummary=struct(totalNum=NUMBER, readyNum=NUMBER),
    resourceSummary=struct(
        allocatable=mapping(QUANTITY),
        allocating=mapping(QUANTITY),
        allocated=mapping(QUANTITY),
        allocatableModelings=array(struct(("grade", "count"), grade=NUMBER, count=NUMBER)),
    ),
    nodePlatforms=array(
        struct(("platform",), platform=TEXT, readyNum=NUMBER, free=mapping(QUANTITY))
    ),
)
WORK_SPEC = struct(
    workload=struct(manifests=array(ANY | {"x-kubernetes-embedded-resource": True})),
    suspendDispatching=FLAG,
    preserveResourcesOnDeletion=FLAG,
)
WORK_STATUS = struct(
    conditions=CONDITIONS,
    manifestStatuses=array(
        struct(
            ("identifier",),
            identifier=struct(
                ("kind", "name", "ordinal", "version"),
                ordinal=NUMBER, group=TEXT, version=TEXT, kind=TEXT, resource=TEXT,
                namespace=TEXT, name=TEXT,
            ),
            status=ANY,
            health=choice("Healthy", "Unhealthy", "Unknown"),
        )
    ),
)  # fmt: skip


_READY = '.status.conditions[?(@.type=="Ready")]'
_SCHEDULED = '.status.conditions[?(@.type=="Scheduled")]'
_APPLIED = '.status.conditions[?(@.type=="Applied")]'

CLUSTER = served(
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
PROPAGATION_POLICY = served(
    "policy.karmada.io/v1alpha1", "PropagationPolicy", "propagationpolicies", "pp",
    namespaced=True, spec=POLICY_SPEC, columns=_POLICY_COLUMNS,
)  # fmt: skip
CLUSTER_PROPAGATION_POLICY = served(
    "policy.karmada.io/v1alpha1", "ClusterPropagationPolicy", "clusterpropagationpolicies", "cpp",
    namespaced=False, spec=POLICY_SPEC, columns=_POLICY_COLUMNS,
)  # fmt: skip
OVERRIDE_POLICY = served(
    "policy.karmada.io/v1alpha1", "OverridePolicy", "overridepolicies", "op",
    namespaced=True, spec=OVERRIDE_SPEC, columns=(AGE,),
)  # fmt: skip
CLUSTER_OVERRIDE_POLICY = served(
    "policy.karmada.io/v1alpha1", "ClusterOverridePolicy", "clusteroverridepolicies", "cop",
    namespaced=False, spec=OVERRIDE_SPEC, columns=(AGE,),
)  # fmt: skip
_BINDING_COLUMNS = (
    Column("Scheduled", "string", _SCHEDULED + ".status"),
    Column("FullyApplied", "string", '.status.conditions[?(@.type=="FullyApplied")].status'),
    AGE,
)
RESOURCE_BINDING = served(
    "work.karmada.io/v1alpha2", "ResourceBinding", "resourcebindings", "rb", namespaced=True,
    spec=BINDING_SPEC, status=BINDING_STATUS, columns=_BINDING_COLUMNS,
)  # fmt: skip
CLUSTER_RESOURCE_BINDING = served(
    "work.karmada.io/v1alpha2", "ClusterResourceBinding", "clusterresourcebindings", "crb",
    namespaced=False, spec=BINDING_SPEC, status=BINDING_STATUS, columns=_BINDING_COLUMNS,
)  # fmt: skip
WORK = served(
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
_CLOCK: Schema = TEXT | {"pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}
FAILBACK = struct(
    mode=choice("Automatic", "Never"),
    stabilizationSeconds=_SECONDS,
    ratePerMinute=NUMBER | {"minimum": 1},
    windows=array(
        struct(
            ("start", "end"),
            start=_CLOCK,
            end=_CLOCK,
            days=array(choice("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"), maxItems=7),
        ),
        maxItems=16,
    ),
    timeZone=TEXT,
)
SPREAD_RULE = struct(
    ("key",),
    key=TEXT | {"minLength": 1},
    maxSkew=NUMBER | {"minimum": 1, "default": 1},
    minDomains=NUMBER | {"minimum": 1},
    whenUnsatisfiable=choice("DoNotSchedule", "ScheduleAnyway") | {"default": "DoNotSchedule"},
)
SCORE_RULE = struct(
    ("by",),
    by=choice("cost", "carbon", "capacity", "locality"),
    weight=NUMBER | {"minimum": 1, "maximum": 10, "default": 1},
)
_COMMAND = array(TEXT, minItems=1, maxItems=64)
_VOLUME_HOOK = struct(("command",), command=_COMMAND, container=TEXT)
VOLUMES = struct(
    ("snapshot", "restore"),
    snapshot=_VOLUME_HOOK,
    restore=struct(("command",), command=_COMMAND, container=TEXT, image=TEXT),
    discard=_VOLUME_HOOK,
    intervalSeconds=NUMBER | {"minimum": 10},
    timeoutSeconds=NUMBER | {"minimum": 1, "maximum": 300, "default": 30},
    retain=NUMBER | {"minimum": 1, "maximum": 20, "default": 3},
    onFailure=choice("Continue", "Abort") | {"default": "Continue"},
    requireRecoveryPoint=FLAG,
    maxAgeSeconds=NUMBER | {"minimum": 1},
)
RESILIENCE_POLICY = served(
    "ubernetes.io/v1alpha1", "ResiliencePolicy", "resiliencepolicies", "rp", namespaced=True,
    spec=struct(
        ("resourceSelectors",),
        resourceSelectors=array(RESOURCE_SELECTOR, minItems=1),
        failover=choice("Enabled", "Disabled"),
        mode=choice("availability", "consistency"),
        grantSeconds=NUMBER | {"minimum": 20},
        stopAfterDisconnect=NUMBER | {"minimum": 20},
        startupTolerationSeconds=NUMBER | {"minimum": 0},
        checkpoint=struct(
            ("command",),
            command=_COMMAND,
            container=TEXT,
            intervalSeconds=NUMBER | {"minimum": 10},
            timeoutSeconds=NUMBER | {"minimum": 1, "maximum": 300, "default": 30},
            onFailure=choice("Continue", "Abort") | {"default": "Continue"},
            volumes=choice("None", "Snapshot"),
        ),
        volumes=VOLUMES,
        rejoin=choice("keepOriginal", "keepReplacement", "bestScore", "longestRunning"),
        failback=FAILBACK,
        spread=array(SPREAD_RULE, maxItems=8)
        | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"]},
        headroom=choice("N-1 zone", "N-1 region", "N-1 provider", "N-1 cluster"),
        scores=array(SCORE_RULE, maxItems=4)
        | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["by"]},
    ),
    columns=(
        Column("Failover", "string", ".spec.failover"),
        Column("Mode", "string", ".spec.mode"),
        Column("Rejoin", "string", ".spec.rejoin"),
        AGE,
    ),
)  # fmt: skip
FEDERATION_CONFIG = served(
    "ubernetes.io/v1alpha1", "FederationConfig", "federationconfigs", "fc", namespaced=False,
    spec=struct(
        failover=choice("Enabled", "DryRun", "Frozen"),
        clock=struct(
            suspectSeconds=_SECONDS, unreachableSeconds=_SECONDS, zoneSeconds=_SECONDS,
            linkCutSeconds=_SECONDS,
        ),
        failback=FAILBACK,
        deletionGuard=struct(maxClusters=NUMBER | {"minimum": 0}),
        directRoutes=choice("Enabled", "Disabled"),
        emptyWorkloads=choice("Skipped", "Propagated"),
    ),
    columns=(Column("Failover", "string", ".spec.failover"), AGE),
)  # fmt: skip
FAILURE_DOMAIN = served(
    "ubernetes.io/v1alpha1", "FailureDomain", "failuredomains", "fd", namespaced=False,
    status=struct(
        level=choice("Cluster", "Zone", "Fleet"), verdict=TEXT, message=TEXT, since=TIME,
        evidence=array(struct(("cluster",), cluster=TEXT, verdict=TEXT, message=TEXT)),
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
    OVERRIDE_POLICY,
    CLUSTER_OVERRIDE_POLICY,
    RESOURCE_BINDING,
    CLUSTER_RESOURCE_BINDING,
    WORK,
    RESILIENCE_POLICY,
    FEDERATION_CONFIG,
    FAILURE_DOMAIN,
    *OPERATIONS,
    *INTERPRETATION,
    *AUTOSCALING,
    *ROLLOUTS,
    *JOURNAL,
    *MULTICLUSTER,
)

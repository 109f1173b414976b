"""`ubernetes.io/v1alpha1`: how workloads outlive failures (ours; Karmada's shapes have no field for it).

ResiliencePolicy says it of a workload, FederationConfig of the whole federation, and FailureDomain is what the federation
holds to be true of a cluster, a zone and of itself, with the evidence. Only fields that something acts on exist.
"""

import datetime as dt

from machinery.api.fleet.policy import ResourceSelector
from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import Resource

CONFIG_NAME = "default"
"""FederationConfig is a singleton of this name."""

EPOCH = "ubernetes.io/epoch"
"""On a Work whose pods run on grants, and on those pods: which placement they belong to."""
GRANT_SECONDS = "ubernetes.io/grant-seconds"
"""On pods: how long they may run without a new grant."""
GRANT_WORK = "ubernetes.io/work"
"""On pods: the Work that they came with."""
GRANT = "ubernetes.io/grant"
"""On pods, by the member's link: the word of their node's Lease that the grant counts from."""
WITHHELD = "ubernetes.io/grants-withheld"
"""On a Work: `true` while its replicas may be running elsewhere."""
FENCED = "ubernetes.io/fenced"
"""Label of a Work whose pods run on grants (mode consistency, or `stopAfterDisconnect`)."""


class MaintenanceWindow(View):
    """From `start` to `end`, `HH:MM` of local time, on these days (`Mon`…`Sun`; none: on all)."""

    start: str
    end: str
    days: tuple[str, ...] = ()


class Failback(View):
    """`mode` is Automatic or Never; what is left out comes from the FederationConfig."""

    mode: str = "Automatic"
    stabilization_seconds: float | None = None
    rate_per_minute: int | None = None
    """Of a policy: of its workloads, beside the federation's rate for all."""
    windows: tuple[MaintenanceWindow, ...] = ()
    """Workloads begin to go back only while one is open; none: at any time."""
    time_zone: str = ""
    """Of the windows, by its IANA name; UTC where nothing is said."""


class Checkpoint(View):
    """A command that a ready pod of the workload runs in each cluster, every `interval_seconds` and before a planned move."""

    command: tuple[str, ...]
    container: str = ""
    """Empty: the pod's first one."""
    interval_seconds: int | None = None
    """None: only before moves."""
    timeout_seconds: float = 30.0
    on_failure: str = "Continue"
    """`Abort`: a planned move waits until the command succeeds."""
    volumes: str = "None"


class VolumeHook(View):
    """A command that a ready pod of the workload runs. What it prints last is what came of it."""

    command: tuple[str, ...]
    container: str = ""
    """Empty: the pod's first one."""


class RestoreHook(View):
    """A command that runs before the containers of a new copy, as an init container with the mounts and variables of one of them."""

    command: tuple[str, ...]
    container: str = ""
    """Whose mounts, variables and image it has; empty: the pod's first one."""
    image: str = ""
    """Another image than that container's."""


class Volumes(View):
    """How what the workload's volumes hold moves with it: snapshots in time, and the newest one restored where it goes."""

    snapshot: VolumeHook
    """The last line that it prints is the snapshot's identifier."""
    restore: RestoreHook
    discard: VolumeHook | None = None
    """Removes a snapshot that is not kept any more; `$(UBERNETES_SNAPSHOT)` in its words is the identifier. None: nobody does."""
    interval_seconds: int | None = None
    """None: only before planned moves."""
    timeout_seconds: float = 30.0
    retain: int = 3
    """How many snapshots of a cluster are kept."""
    on_failure: str = "Continue"
    """`Abort`: a planned move waits until a snapshot succeeds."""
    require_recovery_point: bool = False
    """Without any snapshot the workload leaves no cluster, not even a dead one."""
    max_age_seconds: int | None = None
    """As above, without one that is at most so old when the cluster is left."""


class SpreadRule(View):
    """Domains of `key` (provider, region, zone, cluster, or a label of clusters) differ by at most `max_skew` replicas."""

    key: str
    max_skew: int = 1
    min_domains: int = 0
    when_unsatisfiable: str = "DoNotSchedule"


class ScoreRule(View):
    """What a workload prefers in clusters (cost, carbon, capacity, locality), and how much beside its other scores."""

    by: str
    weight: int = 1


class ResilienceSpec(View):
    resource_selectors: tuple[ResourceSelector, ...] = ()
    failover: str = "Enabled"
    mode: str = ""
    """availability or consistency; empty: what the workload's kind has by default."""
    grant_seconds: int | None = None
    stop_after_disconnect: int | None = None
    """Mode availability: seconds without the federation after which the workload's pods are stopped in a cluster."""
    startup_toleration_seconds: int | None = None
    """Application failover: how long a version may take to be healthy for the first time in a cluster."""
    rejoin: str = "keepReplacement"
    failback: Failback = Failback()
    spread: tuple[SpreadRule, ...] = ()
    checkpoint: Checkpoint | None = None
    volumes: Volumes | None = None
    headroom: str = ""
    """`N-1 zone` (or region, provider, cluster): what one of them holds would find room in the others."""
    scores: tuple[ScoreRule, ...] = ()
    """By what clusters are preferred to others; none: by what they hold and by their room alone."""


class ResiliencePolicy(Object):
    spec: ResilienceSpec = ResilienceSpec()


class ClockOverrides(View):
    suspect_seconds: float | None = None
    unreachable_seconds: float | None = None
    zone_seconds: float | None = None
    link_cut_seconds: float | None = None
    """Silence after which a cluster that its peers still reach is given up; 0 or absent: never."""


class DeletionGuard(View):
    max_clusters: int | None = None
    """In how many clusters one write may take something away without a confirmation; 0: in any number."""


class FederationConfigSpec(View):
    failover: str = "Enabled"
    clock: ClockOverrides = ClockOverrides()
    failback: Failback = Failback()
    deletion_guard: DeletionGuard = DeletionGuard()
    direct_routes: str = "Enabled"
    """`Disabled`: clusters reach each other through gateways only."""
    empty_workloads: str = "Skipped"
    """`Propagated`: clusters that are selected and get no replica get the workload with none (Karmada's
    `--enable-empty-workload-propagation`); decisions that stand stay until they are made anew."""


class FederationConfig(Object):
    spec: FederationConfigSpec = FederationConfigSpec()


class MemberEvidence(View):
    """What was known of one cluster when the verdict was given."""

    cluster: str
    verdict: str = ""
    message: str = ""


class FailureDomainStatus(View):
    level: str = ""
    verdict: str = ""
    message: str = ""
    since: dt.datetime | None = None
    evidence: tuple[MemberEvidence, ...] = ()


class FailureDomain(Object):
    status: FailureDomainStatus = FailureDomainStatus()


GROUP_VERSION = ("ubernetes.io", "v1alpha1")
RESILIENCE_POLICIES: Resource[ResiliencePolicy] = Resource(
    *GROUP_VERSION, "resiliencepolicies", "ResiliencePolicy", True, ResiliencePolicy
)
FEDERATION_CONFIGS: Resource[FederationConfig] = Resource(
    *GROUP_VERSION, "federationconfigs", "FederationConfig", False, FederationConfig
)
FAILURE_DOMAINS: Resource[FailureDomain] = Resource(
    *GROUP_VERSION, "failuredomains", "FailureDomain", False, FailureDomain
)

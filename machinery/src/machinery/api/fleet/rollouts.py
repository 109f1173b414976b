"""`ubernetes.io/v1alpha1`: how a change of a workload goes from cluster to cluster, and how many may be away at once.

Names are KubeFleet's (StagedUpdateStrategy, StagedUpdateRun, ApprovalRequest, PlacementDisruptionBudget) and OCM's
(progressDeadline, minSuccessTime). All are namespaced; a strategy or budget in `ubernetes-system` speaks for every namespace.
A run keeps everything that it knows in its status, so that whoever takes it over goes on where it stands.
"""

import datetime as dt

from machinery.api.core import LabelSelector
from machinery.api.fleet.policy import ResourceSelector
from machinery.meta.objectmeta import Condition, Object, View
from machinery.meta.resource import Resource

STRATEGY = "ubernetes.io/staged-update-strategy"
"""Annotation of a workload: changes of its pod template go by this StagedUpdateStrategy."""
TRIGGER = "ubernetes.io/staged-update-trigger"
"""Annotation of a workload: `Manual` where a change waits for a run that somebody makes."""
TEMPLATE_HASH = "ubernetes.io/template-hash"
"""Annotation of a staged workload in a member: which pod template it was given; its agent reports it back."""

AUTOMATIC, MANUAL = "Automatic", "Manual"
INITIALIZE, RUN, STOP, ROLLBACK = "Initialize", "Run", "Stop", "Rollback"
"""`spec.state` of a run: only lay out the stages; go on; begin nothing new; take every cluster back."""
TIMED_WAIT, APPROVAL = "TimedWait", "Approval"
APPROVED = "Approved"
"""Condition of an ApprovalRequest, written by whoever approves: True, or False with a reason."""


class StageTask(View):
    """What a stage waits for before or after its clusters; `wait_time` is a Go duration."""

    type: str
    wait_time: str = ""


class Stage(View):
    """Clusters that are updated together. With `group_by` it becomes one stage for each of those in the fleet."""

    name: str
    label_selector: LabelSelector | None = None
    group_by: str = ""
    """provider, region, zone or cluster; takes what no stage without it selects."""
    sorting_label_key: str = ""
    max_concurrency: int | str = 1
    before_stage_tasks: tuple[StageTask, ...] = ()
    after_stage_tasks: tuple[StageTask, ...] = ()


class HealthGate(View):
    """When a cluster has taken the change well. Go durations; `None` as deadline: it may take for ever."""

    progress_deadline: str = "10m"
    min_success_time: str = "0s"
    """How long it must stay well."""


class StagedUpdateStrategySpec(View):
    stages: tuple[Stage, ...] = ()
    health_gate: HealthGate = HealthGate()
    failure_action: str = "Stop"
    """`Stop`, or `Rollback`: every cluster of the run goes back to what it had."""
    skip_unreachable: bool = False
    """Whether a cluster that is not heard of is left out instead of waited for."""


class StagedUpdateStrategy(Object):
    spec: StagedUpdateStrategySpec = StagedUpdateStrategySpec()


class WorkloadReference(View):
    """A workload in the run's namespace."""

    name: str
    kind: str = "Deployment"
    api_version: str = "apps/v1"


class StagedUpdateRunSpec(View):
    workload: WorkloadReference = WorkloadReference("")
    staged_rollout_strategy_name: str = ""
    resource_snapshot_index: str = ""
    """Revision to go to, as `kubectl rollout history` numbers them; empty: the template as it is."""
    state: str = INITIALIZE
    skip_unreachable: bool | None = None
    """Over the strategy's."""


class ClusterUpdate(View):
    """One cluster of a run."""

    cluster_name: str
    state: str = "Pending"
    """Pending, Updating, Soaking, Succeeded, Failed, Skipped or RolledBack."""
    from_template: str = ""
    """Hash of the template that it had before."""
    start_time: dt.datetime | None = None
    """When it was told; anew when it was suspended for a while."""
    healthy_time: dt.datetime | None = None
    healthy_replicas: int = 0
    finish_time: dt.datetime | None = None
    suspended: bool = False
    """Not heard of, or its workload is paused: no time runs."""
    message: str = ""


class TaskStatus(View):
    """A task of a stage."""

    type: str
    approval_request_name: str = ""
    wait_time: str = ""
    start_time: dt.datetime | None = None
    finish_time: dt.datetime | None = None


class StageStatus(View):
    stage_name: str
    state: str = "Pending"
    """Pending, Waiting (before), Updating, Verifying (after) or Succeeded."""
    max_concurrency: int = 1
    start_time: dt.datetime | None = None
    finish_time: dt.datetime | None = None
    before_stage_tasks: tuple[TaskStatus, ...] = ()
    clusters: tuple[ClusterUpdate, ...] = ()
    after_stage_tasks: tuple[TaskStatus, ...] = ()


class StagedUpdateRunStatus(View):
    state: str = ""
    """Initialized, Progressing, Waiting, Stopped; or how it ended: Succeeded, Failed, RolledBack, Superseded."""
    message: str = ""
    target_template: str = ""
    resource_snapshot_index_used: str = ""
    staged_update_strategy_snapshot: StagedUpdateStrategySpec | None = None
    """The strategy as it was when the stages were laid out."""
    start_time: dt.datetime | None = None
    finish_time: dt.datetime | None = None
    current_stage: str = ""
    updated_clusters: int = 0
    total_clusters: int = 0
    stages: tuple[StageStatus, ...] = ()
    conditions: tuple[Condition, ...] = ()


class StagedUpdateRun(Object):
    spec: StagedUpdateRunSpec = StagedUpdateRunSpec()
    status: StagedUpdateRunStatus = StagedUpdateRunStatus()


class ApprovalRequestSpec(View):
    target_update_run: str = ""
    target_stage: str = ""


class ApprovalRequestStatus(View):
    conditions: tuple[Condition, ...] = ()


class ApprovalRequest(Object):
    """A run that waits for somebody's word; the condition `Approved` is the word."""

    spec: ApprovalRequestSpec = ApprovalRequestSpec()
    status: ApprovalRequestStatus = ApprovalRequestStatus()


class PlacementDisruptionBudgetSpec(View):
    resource_selectors: tuple[ResourceSelector, ...] = ()
    of: str = "Clusters"
    """What is counted: `Clusters`, or `Replicas`."""
    min_available: int | str | None = None
    max_unavailable: int | str | None = None


class PlacementDisruptionBudget(Object):
    """How many of a workload's clusters (or replicas) may be away at once by what we do on purpose."""

    spec: PlacementDisruptionBudgetSpec = PlacementDisruptionBudgetSpec()


_V = ("ubernetes.io", "v1alpha1")
STAGED_UPDATE_STRATEGIES: Resource[StagedUpdateStrategy] = Resource(
    *_V, "stagedupdatestrategies", "StagedUpdateStrategy", True, StagedUpdateStrategy
)
STAGED_UPDATE_RUNS: Resource[StagedUpdateRun] = Resource(
    *_V, "stagedupdateruns", "StagedUpdateRun", True, StagedUpdateRun
)
APPROVAL_REQUESTS: Resource[ApprovalRequest] = Resource(
    *_V, "approvalrequests", "ApprovalRequest", True, ApprovalRequest
)
DISRUPTION_BUDGETS: Resource[PlacementDisruptionBudget] = Resource(
    *_V, "placementdisruptionbudgets", "PlacementDisruptionBudget", True, PlacementDisruptionBudget
)

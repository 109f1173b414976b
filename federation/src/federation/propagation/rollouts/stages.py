"""A strategy and the clusters of a workload become stages. Pure.

As KubeFleet has it, each cluster must be in exactly one stage: one in none or in two is an error of the strategy. Ours is
`groupBy`: such a stage takes the clusters that no other stage selects, and becomes one stage for each zone (region,
provider, cluster) among them, named STAGE-ZONE, in order of the names or of the clusters' sorting label.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from federation.placement.model import Candidate
from federation.propagation.rollouts import shares
from machinery.api.fleet.rollouts import (
    ClusterUpdate,
    Stage,
    StagedUpdateStrategySpec,
    StageStatus,
    StageTask,
    TaskStatus,
)
from machinery.scheduling.selection import compile_selector

NOWHERE = "none"
"""Stage of the clusters that do not say which zone they are in."""
Order = tuple[int, int, str, str]


class Unstageable(Exception):  # noqa: N818 - the answer to a strategy that does not fit the fleet
    """Why the clusters cannot be brought into stages: a condition's reason and its message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def layout(strategy: StagedUpdateStrategySpec, fleet: Sequence[Candidate]) -> list[StageStatus]:
    """The stages of these clusters. Raises Unstageable."""
    chosen = {c.name: [s for s in strategy.stages if selects(s, c)] for c in fleet}
    firm = {name: [s for s in found if not s.group_by] for name, found in chosen.items()}
    taken = {name: firm[name] or found for name, found in chosen.items()}
    twice = sorted(name for name, found in taken.items() if len(found) > 1)
    if twice:
        names = ", ".join(s.name for s in taken[twice[0]])
        raise Unstageable("ClusterInManyStages", f"cluster {twice[0]} is in the stages {names}")
    lost = sorted(name for name, found in taken.items() if not found)
    if lost:
        raise Unstageable("ClusterInNoStage", f"no stage selects the cluster {', '.join(lost)}")
    result: list[StageStatus] = []
    for stage in strategy.stages:
        own = [c for c in fleet if taken[c.name][0] is stage]
        groups = grouped(stage, own) if stage.group_by else [(stage.name, own)]
        result += [laid_out(stage, name, clusters) for name, clusters in groups]
    return result


def selects(stage: Stage, cluster: Candidate) -> bool:
    """Whether the stage is for the cluster; one without a selector is for all."""
    if stage.label_selector is None:
        return True
    return compile_selector(stage.label_selector)(cluster.labels)


def grouped(stage: Stage, clusters: Iterable[Candidate]) -> list[tuple[str, list[Candidate]]]:
    """The stages that one with `groupBy` becomes, by name."""
    order = ordering(stage)
    groups: dict[str, list[Candidate]] = {}
    for cluster in sorted(clusters, key=order):
        groups.setdefault(group(stage, cluster), []).append(cluster)
    names = sorted(groups, key=lambda name: (name == NOWHERE, *order(groups[name][0])[:3], name))
    return [(f"{stage.name}-{name}", groups[name]) for name in names]


def group(stage: Stage, cluster: Candidate) -> str:
    """The zone (region, provider, cluster) that counts."""
    if stage.group_by == "cluster":
        return cluster.name
    return str(getattr(cluster, stage.group_by)) or NOWHERE


def ordering(stage: Stage) -> Callable[[Candidate], Order]:
    """Numbers of the sorting label first, in their order; then words, then those without it; equals by name."""

    def key(cluster: Candidate) -> Order:
        text = cluster.labels.get(stage.sorting_label_key) if stage.sorting_label_key else None
        if text is None:
            return (2, 0, "", cluster.name)
        try:
            return (0, int(text), "", cluster.name)
        except ValueError:
            return (1, 0, text, cluster.name)

    return key


def laid_out(stage: Stage, name: str, clusters: Sequence[Candidate]) -> StageStatus:
    """One stage, before anything happens in it."""
    ordered = sorted(clusters, key=ordering(stage))
    return StageStatus(
        name,
        max_concurrency=max(1, shares.rounded_down(stage.max_concurrency, len(ordered))),
        before_stage_tasks=tuple(_task(t) for t in stage.before_stage_tasks),
        clusters=tuple(ClusterUpdate(c.name) for c in ordered),
        after_stage_tasks=tuple(_task(t) for t in stage.after_stage_tasks),
    )


def _task(task: StageTask) -> TaskStatus:
    return TaskStatus(task.type, wait_time=task.wait_time)


def joining(
    strategy: StagedUpdateStrategySpec, stages: Sequence[StageStatus], cluster: Candidate
) -> int:
    """The stage of a cluster that comes into the placement while the run goes on; the last one, where none is for it."""
    names: Mapping[str, int] = {stage.stage_name: i for i, stage in enumerate(stages)}
    found = [s for s in strategy.stages if selects(s, cluster)]
    for stage in sorted(found, key=lambda s: bool(s.group_by)):
        name = f"{stage.name}-{group(stage, cluster)}" if stage.group_by else stage.name
        if name in names:
            return names[name]
    return len(stages) - 1

"""What a Job's owner has said of failures and successes: podFailurePolicy and successPolicy. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from cluster_agent.control.controllers.batch import (
    FailureRule,
    Job,
    OnExitCodes,
    SuccessPolicy,
)
from cluster_agent.control.controllers.job.indexes import Indexes, parse
from machinery.api.core import ContainerStatus, Pod


@dataclass(frozen=True, slots=True)
class Match:
    """The first rule that a failed pod meets. Without one, and without a policy, the failure counts."""

    action: str = ""
    """FailJob, FailIndex, Ignore, Count; empty: no rule."""
    message: str = ""
    """Why the Job fails."""

    @property
    def counts(self) -> bool:
        """Whether it goes against the back-off limits."""
        return self.action != "Ignore"


def match(job: Job, pod: Pod) -> Match:
    """What the policy says of a failed pod."""
    policy = job.spec.pod_failure_policy
    for number, rule in enumerate(policy.rules if policy is not None else ()):
        why = _why(rule, pod)
        if why:
            return Match(rule.action, f"{why} matching {rule.action} rule at index {number}")
    return Match()


def _why(rule: FailureRule, pod: Pod) -> str:
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    if rule.on_exit_codes is not None:
        statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
        found = _exited(rule.on_exit_codes, statuses)
        if found is None:
            return ""
        container, code = found
        return f"Container {container} for pod {name} failed with exit code {code}"
    wanted = {(one.type, one.status) for one in rule.on_pod_conditions}
    for condition in pod.status.conditions:
        if (condition.type, condition.status) in wanted:
            return f"Pod {name} has condition {condition.type}"
    return ""


def _exited(asked: OnExitCodes, statuses: Iterable[ContainerStatus]) -> tuple[str, int] | None:
    """The first container that ended as the rule says: (name, exit code). An exit code of 0 never meets a rule."""
    for status in statuses:
        ended = status.state.terminated
        named = asked.container_name is None or asked.container_name == status.name
        if ended is None or ended.exit_code == 0 or not named:
            continue
        listed = ended.exit_code in asked.values
        if listed if asked.operator == "In" else asked.operator == "NotIn" and not listed:
            return status.name, ended.exit_code
    return None


def met_rule(policy: SuccessPolicy | None, completed: Indexes, completions: int) -> int | None:
    """The first rule that the completed indexes meet."""
    if policy is None or not completed.spans:
        return None
    for number, rule in enumerate(policy.rules):
        count = rule.succeeded_count
        if rule.succeeded_indexes is None:
            if count is not None and len(completed) >= count:
                return number
            continue
        wanted = parse(rule.succeeded_indexes, completions)
        there = wanted & completed
        if wanted.spans and (there == len(wanted) or (count is not None and there >= count)):
            return number
    return None

"""Who has claimed a template: kept on its binding, and given up only for a reason (Karmada's rules).

A policy that has claimed a template keeps it while it exists and selects it: a better policy that comes later takes
nothing away, so that nobody moves running workloads by writing a policy. With `preemption: Always` it does: a namespaced
policy takes from any cluster policy, and from its like only with a higher priority; a cluster policy never from a
namespaced one. The policies that the federation came with are what a template has before anybody asked: they yield to all.

Karmada keeps the claim on the template; here it is on the binding alone, since the template is its user's.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from federation.propagation.matching import (
    NOT_AT_ALL,
    Policy,
    claimant,
    policy_precision,
)
from machinery.api.fleet.policy import ClusterPropagationPolicy, PropagationPolicy
from machinery.api.fleet.work import ResourceBinding
from machinery.meta.resource import Document

POLICY_NAME: Final = "propagationpolicy.karmada.io/name"
POLICY_NAMESPACE: Final = "propagationpolicy.karmada.io/namespace"
CLUSTER_POLICY_NAME: Final = "clusterpropagationpolicy.karmada.io/name"
POLICY_ID: Final = "propagationpolicy.karmada.io/permanent-id"
CLUSTER_POLICY_ID: Final = "clusterpropagationpolicy.karmada.io/permanent-id"
ANNOTATIONS: Final = (POLICY_NAME, POLICY_NAMESPACE, CLUSTER_POLICY_NAME)
LABELS: Final = (POLICY_ID, CLUSTER_POLICY_ID)
YIELDING: Final = frozenset({"default-spread", "default-whole"})
"""The cluster policies that give way to every other."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The policy that has the template now, and the key of the one that it took it from by preemption."""

    policy: Policy
    preempted: str = ""


def annotations(policy: Policy) -> dict[str, str | None]:
    """The annotations that name the claiming policy; null takes the other kind's away."""
    namespaced = bool(policy.metadata.namespace)
    return {
        POLICY_NAME: policy.metadata.name if namespaced else None,
        POLICY_NAMESPACE: policy.metadata.namespace if namespaced else None,
        CLUSTER_POLICY_NAME: None if namespaced else policy.metadata.name,
    }


def labels(policy: Policy) -> dict[str, str | None]:
    """The label with the policy's permanent id; null takes the other kind's away."""
    mine, other = POLICY_ID, CLUSTER_POLICY_ID
    if not policy.metadata.namespace:
        mine, other = other, mine
    return {mine: policy.metadata.labels.get(mine) or policy.metadata.uid or None, other: None}


def held_by(
    marks: Mapping[str, str],
    policies: Iterable[PropagationPolicy],
    cluster_policies: Iterable[ClusterPropagationPolicy],
) -> Policy | None:
    """The policy that the annotations of a binding name, if it exists and is not going."""
    own, of_all = marks.get(POLICY_NAME), marks.get(CLUSTER_POLICY_NAME)
    found: Iterable[Policy] = ()
    if own:
        found = (p for p in policies if p.metadata.name == own)
    elif of_all:
        found = (p for p in cluster_policies if p.metadata.name == of_all)
    return next((p for p in found if not p.deleting), None)


def decide(
    template: Document,
    marks: Mapping[str, str],
    policies: Iterable[PropagationPolicy],
    cluster_policies: Iterable[ClusterPropagationPolicy],
    overrides: Collection[tuple[str, str]] = (),
) -> Claim | None:
    """Whose the template is. `marks` are its binding's annotations, `policies` those of its namespace.

    `overrides` (namespace, name) exist: a policy that depends on others is not there before them, but keeps what it has.
    """
    own, of_all = list(policies), list(cluster_policies)
    held = held_by(marks, own, of_all)
    own = [p for p in own if _ready(p, overrides)]
    of_all = [p for p in of_all if _ready(p, overrides)]
    if held is None or not policy_precision(held, template) or _yields(held):
        best = claimant(template, own, of_all)
        return None if best is None else Claim(best)
    taker = claimant(
        template,
        [p for p in own if _takes(p, held)],
        [p for p in of_all if _takes(p, held)],
    )
    if taker is None or _selects_less(taker, template):
        return Claim(held)
    return Claim(taker, _key(held))


def _ready(policy: Policy, overrides: Collection[tuple[str, str]]) -> bool:
    wanted = policy.spec.dependent_overrides
    return all((policy.metadata.namespace, name) in overrides for name in wanted)


def _yields(policy: Policy) -> bool:
    return not policy.metadata.namespace and policy.metadata.name in YIELDING


def _selects_less(policy: Policy, template: Document) -> bool:
    return policy_precision(policy, template) == NOT_AT_ALL


def _takes(policy: Policy, held: Policy) -> bool:
    """Whether the policy may take a template from the one that holds it."""
    if policy.spec.preemption != "Always" or policy.deleting:
        return False
    if policy.metadata.namespace and not held.metadata.namespace:
        return True
    if bool(policy.metadata.namespace) != bool(held.metadata.namespace):
        return False
    return policy.spec.priority > held.spec.priority


def _key(policy: Policy) -> str:
    return str(policy.key) if policy.metadata.namespace else policy.metadata.name


def preemption_message(claim: Claim) -> str:
    """Karmada's sentence on a template that was taken."""
    taker = "Propagation" if claim.policy.metadata.namespace else "Cluster propagation"
    loser = "propagation" if "/" in claim.preempted else "cluster propagation"
    return f"{taker} policy({_key(claim.policy)}) preempted {loser} policy({claim.preempted}) successfully"


def marked(binding: ResourceBinding, made: Document, held: Document | None) -> Document:
    """The Work `made` of the binding; where a policy has let go, as `released`."""
    claimed = any(name in binding.metadata.annotations for name in ANNOTATIONS)
    return made if claimed else released(made, held)


def released(made: Document, held: Document | None) -> Document:
    """The Work `made` without a claim, or as it is `held` where nothing but the marks of a policy that has let go would change:
    no Work is written anew, and no member hears of it, for a policy that goes."""
    if held is None:
        return made
    (own,), were = made["spec"]["workload"]["manifests"], held["spec"]["workload"]["manifests"]
    before = were[0]["metadata"] if len(were) == 1 else {}
    marked = own["metadata"]
    for part, names in (("annotations", ANNOTATIONS), ("labels", LABELS)):
        marks = {k: v for k, v in (before.get(part) or {}).items() if k in names}
        if marks:
            marked = marked | {part: (marked.get(part) or {}) | marks}
    if marked is own["metadata"]:
        return made
    manifests = [own | {"metadata": marked}]
    spec = made["spec"] | {"workload": made["spec"]["workload"] | {"manifests": manifests}}
    return made | {"spec": spec} if spec == held["spec"] else made

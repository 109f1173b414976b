"""Which members may run the workload at all, and the sentence for each that may not (Karmada's wording)."""

from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter

from federation.placement import platforms
from federation.placement.model import Candidate, NoFit, Request
from machinery.api.core import Taint, Toleration
from machinery.api.fleet.policy import ClusterAffinity, FieldRequirement, Placement
from machinery.api.fleet.resilience import SpreadRule
from machinery.scheduling.selection import compile_selector, passes
from machinery.scheduling.tolerations import tolerates

NO_AFFINITY = "cluster(s) did not match the placement cluster affinity constraint"
NO_API = "cluster(s) did not have the API resource"
EVICTING = "cluster(s) is in the process of eviction"
NO_FIELD = 'cluster(s) did not have "{field}" property'
NO_LABEL = 'cluster(s) did not have label "{label}"'
FIELDS = ("provider", "region", "zone", "cluster")
GROUPED = ("provider", "region", "zone")
"""Fields that a member may lack; each is an attribute of Candidate."""
HARD = "DoNotSchedule"


def filter_candidates(
    request: Request,
    affinity: ClusterAffinity | None,
    candidates: Sequence[Candidate],
    tiers: Sequence[ClusterAffinity] = (),
) -> tuple[list[Candidate], dict[str, str]]:
    """The members that pass, and why each other one does not. Raises NoFit when none passes. With `tiers`, any will do."""
    passed: list[Candidate] = []
    left_out: dict[str, str] = {}
    simple = not tiers and affinity is None and not request.spread
    simple = simple and not platforms.constrained(request)
    clear = _clear(request) if simple else None
    for candidate in candidates:
        if clear is not None and clear(candidate):
            passed.append(candidate)
            continue
        own = affinity
        if tiers:
            own = next((tier for tier in tiers if matches(tier, candidate)), affinity)
        why = rejection(request, own, candidate)
        if why:
            left_out[candidate.name] = why
        else:
            passed.append(candidate)
    if not passed:
        raise NoFit(no_fit_message(left_out), left_out)
    return passed, left_out


def _clear(request: Request) -> Callable[[Candidate], bool]:
    """Whether nothing at all speaks against a member, for requests without affinity: most members, in one look."""
    wanted, evicting = (request.api_version, request.kind), request.evicting
    constraints = request.placement.spread_constraints
    labels = [c.spread_by_label for c in constraints if c.spread_by_label]
    fields = [attrgetter(c.spread_by_field) for c in constraints if c.spread_by_field in GROUPED]

    def clear(candidate: Candidate) -> bool:
        kinds = candidate.kinds
        if candidate.taints or candidate.barred or (kinds is not None and wanted not in kinds):
            return False
        if candidate.name in evicting:
            return False
        for field in fields:
            if not field(candidate):
                return False
        return not labels or all(label in candidate.labels for label in labels)

    return clear


def no_fit_message(left_out: dict[str, str]) -> str:
    """`0/3 clusters are available: 1 …, 2 ….`"""
    if not left_out:
        return "0/0 clusters are available: no cluster has joined."
    counted = Counter(left_out.values())
    parts = sorted(f"{count} {why}" for why, count in counted.items())
    return f"0/{len(left_out)} clusters are available: {', '.join(parts)}."


def rejection(request: Request, affinity: ClusterAffinity | None, candidate: Candidate) -> str:
    """Why the member may not, or the empty string. A member that holds the workload keeps it through new taints."""
    name, kinds, placement = candidate.name, candidate.kinds, request.placement
    holds = name in request.previous
    if kinds is not None and not holds and (request.api_version, request.kind) not in kinds:
        return NO_API
    taint = None
    if candidate.taints and not holds:
        taint = untolerated(placement.cluster_tolerations, candidate.taints)
    if taint is not None:
        shown = f"{taint.key}={taint.value}" if taint.value else taint.key
        return f"cluster(s) had untolerated taint {{{shown}:{taint.effect}}}"
    if affinity is not None and not matches(affinity, candidate):
        return NO_AFFINITY
    if name in request.evicting:
        return EVICTING
    if candidate.barred:
        return candidate.barred
    if candidate.platforms and not holds and (why := platforms.missing(request, candidate)):
        return why
    if not placement.spread_constraints and not request.spread:
        return ""
    return missing_field(placement, candidate) or missing_domain(request.spread, candidate)


def untolerated(tolerations: tuple[Toleration, ...], taints: Sequence[Taint]) -> Taint | None:
    """The first taint that keeps workloads away."""
    return next(
        (
            taint
            for taint in taints
            if taint.effect in ("NoSchedule", "NoExecute") and not tolerates(tolerations, taint)
        ),
        None,
    )


def matches(affinity: ClusterAffinity | None, candidate: Candidate) -> bool:
    """All given parts must hold; an affinity without parts matches every member."""
    if affinity is None:
        return True
    if candidate.name in affinity.exclude:
        return False
    if affinity.label_selector is not None and not compile_selector(affinity.label_selector)(
        candidate.labels
    ):
        return False
    if affinity.field_selector is not None and not all(
        _field_passes(requirement, candidate)
        for requirement in affinity.field_selector.match_expressions
    ):
        return False
    return not affinity.cluster_names or candidate.name in affinity.cluster_names


def _field_passes(requirement: FieldRequirement, candidate: Candidate) -> bool:
    if requirement.key == "zone":
        return _zones_pass(requirement, candidate.zones)
    fields = {"provider": candidate.provider, "region": candidate.region}
    present = {key: value for key, value in fields.items() if value}
    return passes((requirement.key, requirement.operator, requirement.values), present)


def _zones_pass(requirement: FieldRequirement, zones: tuple[str, ...]) -> bool:
    """A member of several zones: In asks that one is listed, NotIn that none is."""
    match requirement.operator:
        case "In":
            return any(zone in requirement.values for zone in zones)
        case "NotIn":
            return all(zone not in requirement.values for zone in zones)
        case "Exists":
            return bool(zones)
        case "DoesNotExist":
            return not zones
        case _:
            return False


def field_of(candidate: Candidate, field: str) -> str:
    """The member's value of a spread field."""
    match field:
        case "region":
            return candidate.region
        case "zone":
            return candidate.zone
        case "provider":
            return candidate.provider
        case _:
            return candidate.name


def missing_field(placement: Placement, candidate: Candidate) -> str:
    """A member without the property to spread by cannot be counted into a group."""
    for constraint in placement.spread_constraints:
        field = constraint.spread_by_field
        if field in GROUPED and not field_of(candidate, field):
            return NO_FIELD.format(field=field)
        if constraint.spread_by_label and constraint.spread_by_label not in candidate.labels:
            return NO_LABEL.format(label=constraint.spread_by_label)
    return ""


def domain_of(key: str, candidate: Candidate) -> str:
    """The domain of a spread rule that the member counts into; empty when it has none."""
    return field_of(candidate, key) if key in FIELDS else candidate.labels.get(key, "")


def missing_domain(rules: Sequence[SpreadRule], candidate: Candidate) -> str:
    """A hard rule leaves out a member without the property; a soft one does not count it."""
    for rule in rules:
        if rule.when_unsatisfiable == HARD and not domain_of(rule.key, candidate):
            known = rule.key in FIELDS
            return NO_FIELD.format(field=rule.key) if known else NO_LABEL.format(label=rule.key)
    return ""

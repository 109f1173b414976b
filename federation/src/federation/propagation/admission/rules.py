"""What Karmada's validating webhooks refuse, in their words. Pure.

One rule of theirs is not ours: a spread over zones needs no constraint over clusters beside it, since a zone is a failure domain
here and can be spread over by itself.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from federation.propagation.admission.shape import shown
from federation.propagation.claims import CLUSTER_POLICY_ID, POLICY_ID
from federation.propagation.overrides.errors import PointerError
from federation.propagation.overrides.steps import tokens
from machinery.api.fleet.kinds import (
    AFFINITY_TERM,
    FIELD_OVERRIDER,
    OVERRIDERS,
    PLACEMENT,
    SPREAD,
)
from machinery.api.fleet.schema import AFFINITY
from machinery.api.validation.causes import Causes, go_quote
from machinery.meta import names
from machinery.meta.resource import Document

Schema = Mapping[str, Any]

_SELECTOR_FIELDS: Final = ("provider", "region", "zone")
_ALONE: Final = frozenset(("zone",))
"""Fields that may be spread over without a constraint over clusters."""
_OVERFLOW: Final = "overflowAffinities can only be used together with"
_OVERFLOW_NAME: Final = (
    "overflow affinity name must be unique and must not duplicate the primary group's affinityName"
)
_LONELY: Final = (
    "the cluster spread constraint must be enabled in one of the constraints in case of "
    "SpreadByField is enabled"
)
_ANNOTATIONS_MAX: Final = 256 * 1024


def denial(causes: Causes) -> str:
    """All complaints as one sentence, as Go puts errors together; empty when there are none."""
    texts = list(dict.fromkeys(f"{cause['field']}: {cause['message']}" for cause in causes))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else ""


def parts(value: Any) -> Iterator[tuple[int, Document]]:
    """The objects of a list, numbered; anything else has none."""
    if isinstance(value, list):
        yield from ((i, one) for i, one in enumerate(value) if isinstance(one, dict))


def part(value: Any, key: str) -> Document:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


# -------------------------------------------------------------------------------------------------- propagation policies
def policy_changed(new: Document, old: Document) -> str:
    """What of a policy may not change."""
    before = (old.get("spec") or {}).get("schedulerName")
    if (new.get("spec") or {}).get("schedulerName") != before:
        return "the schedulerName should not be updated"
    label = POLICY_ID if new["kind"] == "PropagationPolicy" else CLUSTER_POLICY_ID
    held = (old["metadata"].get("labels") or {}).get(label)
    if held is not None and (new["metadata"].get("labels") or {}).get(label) != held:
        return f"label {label} is immutable, it can only be set by the system during creation"
    return ""


def propagation_policy(document: Document) -> str:
    """Why a PropagationPolicy, or its sister for the cluster, is refused; empty: it is not."""
    causes = Causes()
    spec = document.get("spec") or {}
    _placement(part(spec, "placement"), causes)
    failover = part(spec, "failover")
    if failover.get("application") is not None and not spec.get("propagateDeps"):
        causes.invalid(
            "spec.propagateDeps", False, "application failover is set, propagateDeps must be true"
        )
    _failover(failover, causes)
    if spec.get("preemption") == "Always":
        for index, selector in parts(spec.get("resourceSelectors")):
            if not selector.get("name"):
                causes.invalid(
                    f"spec.resourceSelectors[{index}].name",
                    "",
                    "name cannot be empty if preemption is Always, the empty name may cause "
                    "unexpected resources preemption",
                )
    suspension = part(spec, "suspension")
    if suspension.get("dispatching") and part(suspension, "dispatchingOnClusters").get(
        "clusterNames"
    ):
        causes.invalid(
            "spec.suspension",
            suspension,
            "suspension dispatching cannot co-exist with dispatchingOnClusters.clusterNames",
        )
    if document["kind"] == "PropagationPolicy":
        _own_namespace(document, causes)
    return denial(causes)


def _own_namespace(document: Document, causes: Causes) -> None:
    namespace = document["metadata"].get("namespace", "")
    for index, selector in parts((document.get("spec") or {}).get("resourceSelectors")):
        wanted = selector.get("namespace") or namespace
        if wanted != namespace:
            causes.invalid(
                f"spec.resourceSelectors[{index}].namespace",
                wanted,
                "namespace of resource selector must be the same as the namespace of the policy",
            )


def _placement(placement: Document, causes: Causes) -> None:
    where = "spec.placement"
    affinities = placement.get("clusterAffinities")
    if placement.get("clusterAffinity") is not None and affinities is not None:
        causes.invalid(
            where,
            shown(PLACEMENT, placement),
            "clusterAffinities cannot co-exist with clusterAffinity",
        )
    _affinity(placement.get("clusterAffinity"), f"{where}.clusterAffinity", causes)
    _affinities(placement, f"{where}.clusterAffinities", causes)
    for index, toleration in parts(placement.get("clusterTolerations")):
        if toleration.get("operator") in ("Gt", "Lt"):
            causes.unsupported(
                f"{where}.clusterTolerations[{index}].operator",
                toleration["operator"],
                ("", "Exists", "Equal"),
            )
    _spread(placement.get("spreadConstraints"), f"{where}.spreadConstraints", causes)
    _workload_affinity(part(placement, "workloadAffinity"), f"{where}.workloadAffinity", causes)


def _affinity(affinity: Any, where: str, causes: Causes) -> None:
    selector = part(affinity, "fieldSelector")
    if not (why := _field_selector(selector)):
        return
    schema = AFFINITY["properties"]["fieldSelector"]
    causes.invalid(f"{where}.fieldSelector", shown(schema, selector), why)


def _field_selector(selector: Document) -> str:
    for _, one in parts(selector.get("matchExpressions")):
        key, operator = str(one.get("key", "")), str(one.get("operator", ""))
        if key not in _SELECTOR_FIELDS:
            return f"unsupported key {go_quote(key)}, must be provider, region, or zone"
        if operator not in ("In", "NotIn"):
            return f"unsupported operator {go_quote(operator)}, must be In or NotIn"
    return ""


def _affinities(placement: Document, where: str, causes: Causes) -> None:
    terms = placement.get("clusterAffinities")
    seen: set[str] = set()
    for index, term in parts(terms):
        name = str(term.get("affinityName", ""))
        causes.invalid_each(f"{where}[{index}]", name, names.qualified_name(name))
        if name in seen:
            schema = {"items": AFFINITY_TERM}
            causes.invalid(
                where,
                shown(schema, terms),
                "each affinity term in a policy must have a unique name",
            )
        seen.add(name)
        _affinity(term, f"{where}[{index}]", causes)
        if term.get("overflowAffinities"):
            _overflow(term, placement, f"{where}[{index}].overflowAffinities", causes)


def _overflow(term: Document, placement: Document, where: str, causes: Causes) -> None:
    given = term["overflowAffinities"]
    value = shown(AFFINITY_TERM["properties"]["overflowAffinities"], given)
    if not any(term.get(key) for key in AFFINITY["properties"]):
        causes.invalid(where, value, f"{_OVERFLOW} the inline ClusterAffinity")
    scheduling = part(placement, "replicaScheduling")
    dynamic = part(scheduling, "weightPreference").get("dynamicWeight")
    by_room = scheduling.get("replicaDivisionPreference") == "Aggregated" or dynamic
    if scheduling.get("replicaSchedulingType") != "Divided" or not by_room:
        causes.invalid(where, value, f"{_OVERFLOW} dynamic weight or aggregated scheduling")
    taken = {term.get("affinityName")}
    for index, one in parts(given):
        name = one.get("affinityName", "")
        if name in taken:
            causes.invalid(f"{where}[{index}].affinityName", name, _OVERFLOW_NAME)
        taken.add(name)
        _affinity(one, f"{where}[{index}]", causes)


def _spread(constraints: Any, where: str, causes: Causes) -> None:
    seen: dict[str, bool] = {}
    for index, one in parts(constraints):
        for why in _constraint(one):
            causes.invalid(f"{where}[{index}]", shown(SPREAD, one), why)
        field = one.get("spreadByField")
        if not field:
            continue
        if seen.get(field) is False:
            whole = shown({"items": SPREAD}, constraints)
            causes.invalid(where, whole, f"multiple {field} spread constraints are not allowed")
        seen[field] = field in seen
    if seen and "cluster" not in seen and not set(seen) <= _ALONE:
        causes.invalid(where, shown({"items": SPREAD}, constraints), _LONELY)


def _constraint(one: Document) -> Iterator[str]:
    least, most = one.get("minGroups") or 0, one.get("maxGroups") or 0
    if one.get("spreadByField") and one.get("spreadByLabel"):
        yield "spreadByLabel should not co-exist with spreadByField"
    if least < 0:
        yield "minGroups lower than 0 is not allowed"
    if most < 0:
        yield "maxGroups lower than 0 is not allowed"
    if 0 < most < least:
        yield "maxGroups lower than minGroups is not allowed"


def _workload_affinity(affinity: Document, where: str, causes: Causes) -> None:
    keys = {}
    for kind in ("affinity", "antiAffinity"):
        if affinity.get(kind) is None:
            continue
        keys[kind] = str(part(affinity, kind).get("groupByLabelKey", ""))
        causes.invalid_each(
            f"{where}.{kind}.groupByLabelKey", keys[kind], names.qualified_name(keys[kind])
        )
    if len(keys) > 1 and keys["affinity"] == keys["antiAffinity"]:
        schema = PLACEMENT["properties"]["workloadAffinity"]
        causes.invalid(
            where,
            shown(schema, affinity),
            "affinity and antiAffinity must not use the same groupByLabelKey",
        )


def _failover(failover: Document, causes: Causes) -> None:
    where = "spec.failover.application"
    application = part(failover, "application")
    waits = part(application, "decisionConditions").get("tolerationSeconds") or 0
    if waits < 0:
        causes.invalid(
            f"{where}.decisionConditions.tolerationSeconds",
            waits,
            "must be greater than or equal to 0",
        )
    grace = application.get("gracePeriodSeconds")
    if grace is not None and application.get("purgeMode") != "Gracefully":
        causes.invalid(
            f"{where}.gracePeriodSeconds", grace, "only takes effect when purgeMode is gracefully"
        )
    if grace is not None and grace <= 0:
        causes.invalid(f"{where}.gracePeriodSeconds", grace, "must be greater than 0")
    _state(application, where, causes)
    _state(part(failover, "cluster"), "spec.failover.cluster", causes)


def _state(behaviour: Document, where: str, causes: Causes) -> None:
    for index, rule in parts(part(behaviour, "statePreservation").get("rules")):
        name = str(rule.get("aliasLabelName", ""))
        causes.invalid_each(
            f"{where}.statePreservation.rules[{index}].aliasLabelName",
            name,
            names.qualified_name(name),
        )


# ----------------------------------------------------------------------------------------------------- override policies
def override_policy(document: Document) -> str:
    """Why an OverridePolicy, or its sister for the cluster, is refused; empty: it is not."""
    causes = Causes()
    spec = document.get("spec") or {}
    target, rules = spec.get("targetCluster"), spec.get("overrideRules")
    _affinity(target, "spec.targetCluster", causes)
    if target is not None and rules is not None:
        causes.invalid(
            "spec.targetCluster",
            shown(AFFINITY, target),
            "overrideRules and targetCluster can't co-exist",
        )
    overriders = part(spec, "overriders")
    if rules is not None and any(
        value for key, value in overriders.items() if key != "fieldOverrider"
    ):
        causes.invalid(
            "spec.overriders",
            shown(OVERRIDERS, overriders),
            "overrideRules and overriders can't co-exist",
        )
    for index, rule in parts(rules):
        _rule(rule, f"spec.overrideRules[{index}]", causes)
    if document["kind"] == "OverridePolicy":
        _own_namespace(document, causes)
    return denial(causes)


def _rule(rule: Document, where: str, causes: Causes) -> None:
    overriders = part(rule, "overriders")
    inside = f"{where}.overriders"
    for index, one in parts(overriders.get("annotationsOverrider")):
        _annotations(part(one, "value"), f"{inside}.annotationsOverrider[{index}].value", causes)
    for index, one in parts(overriders.get("labelsOverrider")):
        for key, value in part(one, "value").items():
            field = f"{inside}.labelsOverrider[{index}].value"
            causes.invalid_each(field, key, names.qualified_name(key))
            causes.invalid_each(field, value, names.label_value(value))
    for index, one in parts(overriders.get("imageOverrider")):
        if one.get("predicate") is not None:
            path = str(part(one, "predicate").get("path", ""))
            _pointer(path, f"{inside}.imageOverrider[{index}].predicate.path", causes)
    for index, one in parts(overriders.get("fieldOverrider")):
        _field(one, f"{inside}.fieldOverrider[{index}]", causes)
    _affinity(rule.get("targetCluster"), f"{where}.targetCluster", causes)


def _annotations(value: Document, where: str, causes: Causes) -> None:
    for key in value:
        causes.invalid_each(where, key, names.qualified_name(key.lower()))
    if sum(len(k.encode()) + len(str(v).encode()) for k, v in value.items()) > _ANNOTATIONS_MAX:
        causes.too_long(where, _ANNOTATIONS_MAX)


def _pointer(path: str, where: str, causes: Causes) -> None:
    try:
        tokens(path)
    except PointerError as error:
        why = str(error).removesuffix(": JSON pointer error")
        causes.invalid(where, path, f"{why}\nJSON pointer error")


def _field(one: Document, where: str, causes: Causes) -> None:
    if one.get("yaml") and one.get("json"):
        causes.invalid(
            where,
            shown(FIELD_OVERRIDER, one),
            "FieldOverrider has both YAML and JSON set. Only one is allowed",
        )
    elif not one.get("yaml") and not one.get("json"):
        causes.required(where, "FieldOverrider must have either JSON or YAML set")
    _pointer(str(one.get("fieldPath", "")), f"{where}.fieldPath", causes)
    for language in ("json", "yaml"):
        _patches(parts(one.get(language)), f"{where}.{language}", causes)


def _patches(patches: Iterable[tuple[int, Document]], where: str, causes: Causes) -> None:
    for index, one in patches:
        _pointer(str(one.get("subPath", "")), f"{where}[{index}].subPath", causes)
        value = one.get("value")
        if one.get("operator") in ("add", "replace") and value is None:
            causes.invalid(
                f"{where}[{index}].value", None, "value is required for add or replace operation"
            )
        elif one.get("operator") == "remove" and value is not None:
            causes.invalid(
                f"{where}[{index}].value",
                _plain(value),
                "value is not allowed for remove operation",
            )


def _plain(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))

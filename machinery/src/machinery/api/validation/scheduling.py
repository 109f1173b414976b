"""Where a pod may run: node selectors, affinity, tolerations, spread constraints, gates."""

from typing import Any, Final

from machinery.api.validation import metadata
from machinery.api.validation.causes import Causes
from machinery.api.validation.selectors import label_selector, set_operator
from machinery.meta import names
from machinery.meta.resource import Document

EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_UNSATISFIABLE: Final = ("DoNotSchedule", "ScheduleAnyway")
_INCLUSION: Final = ("Honor", "Ignore")


# ---------------------------------------------------------------------------------------------------------- affinity
def affinity(found: Document | None, field: str, causes: Causes) -> None:
    if not found:
        return
    if (node := found.get("nodeAffinity")) is not None:
        _node_affinity(node, f"{field}.nodeAffinity", causes)
    for key in ("podAffinity", "podAntiAffinity"):
        if (pod := found.get(key)) is not None:
            _pod_affinity(pod, f"{field}.{key}", causes)


def _node_affinity(found: Document, field: str, causes: Causes) -> None:
    if (required := found.get(_REQUIRED)) is not None:
        node_selector(required, f"{field}.{_REQUIRED}", causes)
    for index, term in enumerate(found.get(_PREFERRED) or ()):
        where = f"{field}.{_PREFERRED}[{index}]"
        _weight(term, where, causes)
        _node_term(term.get("preference") or {}, f"{where}.preference", causes)


def _weight(term: Document, field: str, causes: Causes) -> None:
    weight = term.get("weight", 0)
    if not 1 <= weight <= 100:
        causes.invalid(f"{field}.weight", weight, "must be in the range 1-100")


def node_selector(selector: Document, field: str, causes: Causes) -> None:
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        causes.required(f"{field}.nodeSelectorTerms", "must have at least one node selector term")
    for index, term in enumerate(terms):
        _node_term(term, f"{field}.nodeSelectorTerms[{index}]", causes)


def _node_term(term: Document, field: str, causes: Causes) -> None:
    for index, requirement in enumerate(term.get("matchExpressions") or ()):
        _node_requirement(requirement, f"{field}.matchExpressions[{index}]", causes)
    for index, requirement in enumerate(term.get("matchFields") or ()):
        _node_field(requirement, f"{field}.matchFields[{index}]", causes)


def _node_requirement(requirement: Document, field: str, causes: Causes) -> None:
    operator, values = requirement.get("operator", ""), requirement.get("values") or []
    if not set_operator(operator, values, field, causes):
        _comparison(operator, values, field, causes)
    key = requirement.get("key", "")
    causes.invalid_each(f"{field}.key", key, names.qualified_name(key))
    for index, value in enumerate(values):
        causes.invalid_each(f"{field}.values[{index}]", value, names.label_value(value))


def _comparison(operator: str, values: list[str], field: str, causes: Causes) -> None:
    if operator not in ("Gt", "Lt"):
        causes.invalid(f"{field}.operator", operator, "not a valid selector operator")
    elif len(values) != 1:
        causes.required(
            f"{field}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'"
        )


def _node_field(requirement: Document, field: str, causes: Causes) -> None:
    operator, values = requirement.get("operator", ""), requirement.get("values") or []
    if operator in ("In", "NotIn"):
        if len(values) != 1:
            causes.required(
                f"{field}.values",
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )
    else:
        causes.invalid(f"{field}.operator", operator, "not a valid selector operator")
    key = requirement.get("key", "")
    if key != "metadata.name":
        causes.invalid(f"{field}.key", key, "not a valid field selector key")
        return
    for index, value in enumerate(values):
        causes.invalid_each(f"{field}.values[{index}]", value, names.dns_subdomain(value))


def _pod_affinity(found: Document, field: str, causes: Causes) -> None:
    for index, term in enumerate(found.get(_REQUIRED) or ()):
        _pod_term(term, f"{field}.{_REQUIRED}[{index}]", causes)
    for index, weighted in enumerate(found.get(_PREFERRED) or ()):
        where = f"{field}.{_PREFERRED}[{index}]"
        _weight(weighted, where, causes)
        _pod_term(weighted.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm", causes)


def _pod_term(term: Document, field: str, causes: Causes) -> None:
    label_selector(term.get("labelSelector"), f"{field}.labelSelector", causes)
    label_selector(term.get("namespaceSelector"), f"{field}.namespaceSelector", causes)
    for name in term.get("namespaces") or ():
        causes.invalid_each(f"{field}.namespace", name, names.dns_label(name))
    for key in ("matchLabelKeys", "mismatchLabelKeys"):
        for index, label in enumerate(term.get(key) or ()):
            where = f"{field}.{key}[{index}]"
            causes.invalid_each(where, label, names.qualified_name(label))
            if term.get("labelSelector") is None:
                causes.forbidden(where, "must not be specified when labelSelector is not set")
    topology = term.get("topologyKey", "")
    if not topology:
        causes.required(f"{field}.topologyKey", "can not be empty")
    causes.invalid_each(f"{field}.topologyKey", topology, names.qualified_name(topology))


# ------------------------------------------------------------------------------------------------------- tolerations
def tolerations(found: list[Document], field: str, causes: Causes) -> None:
    for index, toleration in enumerate(found):
        _toleration(toleration, f"{field}[{index}]", causes)


def _toleration(toleration: Document, field: str, causes: Causes) -> None:
    key, operator = toleration.get("key", ""), toleration.get("operator", "")
    value, effect = toleration.get("value", ""), toleration.get("effect", "")
    if key:
        causes.invalid_each(f"{field}.key", key, names.qualified_name(key))
    elif operator != "Exists":
        causes.invalid(
            f"{field}.operator",
            operator,
            'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        )
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        causes.invalid(
            f"{field}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"
        )
    if operator in ("Equal", ""):
        causes.invalid_each(f"{field}.operator", value, names.label_value(value)[:1])
    elif operator == "Exists":
        if value:
            causes.invalid(
                f"{field}.operator", value, "value must be empty when `operator` is 'Exists'"
            )
    else:
        causes.unsupported(f"{field}.operator", operator, ("Equal", "Exists"))
    if effect:
        causes.one_of(f"{field}.effect", effect, EFFECTS)


# -------------------------------------------------------------------------------------------------------- topology
def spread_constraints(found: list[Document], field: str, causes: Causes) -> None:
    seen: set[tuple[Any, Any]] = set()
    for index, constraint in enumerate(found):
        where = f"{field}[{index}]"
        _spread(constraint, where, causes)
        pair = (constraint.get("topologyKey", ""), constraint.get("whenUnsatisfiable", ""))
        if pair in seen:
            causes.duplicate(
                f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{pair[0]}, {pair[1]}}}"
            )
        seen.add(pair)


def _spread(constraint: Document, field: str, causes: Causes) -> None:
    skew, when = constraint.get("maxSkew", 0), constraint.get("whenUnsatisfiable", "")
    if skew <= 0:
        causes.invalid(f"{field}.maxSkew", skew, "must be greater than zero")
    topology = constraint.get("topologyKey", "")
    if topology:
        causes.invalid_each(f"{field}.topologyKey", topology, names.qualified_name(topology))
    else:
        causes.required(f"{field}.topologyKey", "can not be empty")
    causes.one_of(f"{field}.whenUnsatisfiable", when, _UNSATISFIABLE)
    domains = constraint.get("minDomains")
    if domains is not None:
        if domains <= 0:
            causes.invalid(f"{field}.minDomains", domains, "must be greater than zero")
        if when != "DoNotSchedule":
            causes.invalid(
                f"{field}.minDomains",
                domains,
                f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}",
            )
    for key in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        if constraint.get(key) is not None:
            causes.one_of(f"{field}.{key}", constraint[key], _INCLUSION)
    for index, label in enumerate(constraint.get("matchLabelKeys") or ()):
        where = f"{field}.matchLabelKeys[{index}]"
        causes.invalid_each(where, label, names.qualified_name(label))
        if constraint.get("labelSelector") is None:
            causes.forbidden(where, "must not be specified when labelSelector is not set")
    label_selector(constraint.get("labelSelector"), f"{field}.labelSelector", causes)


def gates(found: list[Document], field: str, causes: Causes) -> None:
    """Scheduling gates: names, each once."""
    seen: set[str] = set()
    for index, gate in enumerate(found):
        name, where = gate.get("name", ""), f"{field}[{index}]"
        causes.invalid_each(where, name, names.qualified_name(name))
        if name in seen:
            causes.duplicate(where, name)
        seen.add(name)


def taints(found: list[Document], field: str, causes: Causes) -> None:
    """Taints of a node."""
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(found):
        where = f"{field}[{index}]"
        key, value, effect = taint.get("key", ""), taint.get("value", ""), taint.get("effect", "")
        causes.invalid_each(f"{where}.key", key, names.qualified_name(key))
        causes.invalid_each(f"{where}.value", value, names.label_value(value)[:1])
        if effect:
            causes.one_of(f"{where}.effect", effect, EFFECTS)
        else:
            causes.required(f"{where}.effect")
        if (key, effect) in seen:
            causes.duplicate(where, taint)
        seen.add((key, effect))


def node_selector_labels(found: dict[str, str], field: str, causes: Causes) -> None:
    metadata.labels(found, field, causes)

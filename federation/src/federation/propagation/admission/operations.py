"""What Karmada's validating webhooks refuse of the kinds that operators of a fleet use, in their words. Pure."""

from collections.abc import Iterator

from federation.propagation.admission.rules import denial, part, parts
from federation.propagation.quota import measured
from machinery.api.fleet.cluster import UNREACHABLE_TAINT
from machinery.api.validation.causes import Causes
from machinery.api.validation.resources import resource_name, resource_quantity
from machinery.meta import names
from machinery.meta.quantity import canonical_of, quantity_of
from machinery.meta.resource import Document

_NO_EXECUTE = (
    "Configuring taint with NoExecute effect is not allowed, this capability must be explicitly "
    "enabled by administrators through command-line flags"
)


def cluster_taint_policy(document: Document, *, no_execute: bool) -> str:
    """Why a ClusterTaintPolicy is refused; empty: it is not. `no_execute`: taints that drive workloads away are allowed."""
    causes = Causes()
    taints = list(parts((document.get("spec") or {}).get("taints")))
    marks = [(one.get("key"), one.get("effect")) for _, one in taints]
    for place, (index, one) in enumerate(taints):
        where = f"spec.taints[{index}]"
        if one.get("effect") == "NoExecute" and not no_execute:
            causes.forbidden(where, _NO_EXECUTE)
        if marks[place] in marks[place + 1 :]:
            key, effect = marks[place]
            causes.duplicate(
                where,
                f"Duplicate taint with the same key({key}) and effect({effect}) is not allowed",
            )
    return denial(causes)


def idle_taints(document: Document) -> Iterator[str]:
    """Warnings on what a ClusterTaintPolicy says in vain."""
    spec = document.get("spec") or {}
    for index, one in parts(spec.get("taints")):
        if one.get("key") == UNREACHABLE_TAINT:
            yield f"spec.taints[{index}].key: {UNREACHABLE_TAINT} follows heartbeats alone, and is left as it is"
    for field in ("addOnConditions", "removeOnConditions"):
        for index, one in parts(spec.get(field)):
            if one.get("operator") not in ("In", "NotIn"):
                yield f"spec.{field}[{index}].operator: only In and NotIn match anything"


# ----------------------------------------------------------------------------------------------------------------- quotas
_NAME_MAX = 63
_CLUSTER_NAME_MAX = 48
_WHOLE = frozenset(
    {
        "pods", "services", "resourcequotas", "replicationcontrollers", "secrets", "configmaps",
        "persistentvolumeclaims", "services.nodeports", "services.loadbalancers",
    }
)  # fmt: skip
_QUOTA = _WHOLE | frozenset(
    {
        "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory",
        "requests.storage", "requests.ephemeral-storage", "limits.cpu", "limits.memory",
        "limits.ephemeral-storage",
    }
)  # fmt: skip
"""What a ResourceQuota can limit by a name without a domain."""
_HUGE = ("hugepages-", "requests.hugepages-")


def federated_resource_quota(document: Document) -> str:
    """Why a FederatedResourceQuota is refused; empty: it is not."""
    causes = Causes()
    name = str(document["metadata"].get("name", ""))
    if len(name) > _NAME_MAX:
        causes.invalid("metadata.name", name, f"must be no more than {_NAME_MAX} characters")
    spec = document.get("spec") or {}
    overall = part(spec, "overall")
    _amounts(overall, "spec.overall", causes)
    assignments = list(parts(spec.get("staticAssignments")))
    for index, one in assignments:
        where = f"spec.staticAssignments[{index}]"
        cluster = str(one.get("clusterName", ""))
        if wrong := _cluster_name(cluster):
            causes.invalid(f"{where}.clusterName", cluster, ",".join(wrong))
        _amounts(part(one, "hard"), f"{where}.hard", causes)
    for resource, limit in sorted(overall.items()):
        hard = (part(one, "hard").get(resource, 0) for _, one in assignments)
        if quantity_of(limit).value < sum(quantity_of(raw).value for raw in hard):
            causes.invalid(
                f"spec.overall[{resource}]",
                canonical_of(limit),
                "overall is less than assignments",
            )
    for index, one in assignments:
        for resource in sorted(part(one, "hard").keys() - overall.keys()):
            causes.invalid(
                f"spec.staticAssignments[{index}].hard[{resource}]",
                resource,
                "assignment resourceName is not exist in overall",
            )
    return denial(causes)


def _cluster_name(name: str) -> list[str]:
    """What is wrong with a cluster's name."""
    if not name:
        return ["must be not empty"]
    wrong = list(names.dns_label(name))
    if len(name) > _CLUSTER_NAME_MAX:
        wrong.insert(0, f"must be no more than {_CLUSTER_NAME_MAX} characters")
    return wrong


def _amounts(amounts: Document, where: str, causes: Causes) -> None:
    for name, raw in sorted(amounts.items()):
        field = f"{where}[{name}]"
        if wrong := names.qualified_name(name):
            causes.invalid_each(field, name, wrong)
        else:
            resource_name(name, field, causes)
        if "/" not in name and name not in _QUOTA and not name.startswith(_HUGE):
            causes.invalid(field, name, "must be a standard resource for quota")
        resource_quantity(name, raw, field, causes)
        if name in _WHOLE and not quantity_of(raw).integral:
            causes.invalid(field, canonical_of(raw), "must be an integer")


def idle_quota(document: Document) -> Iterator[str]:
    """Warnings on what of a FederatedResourceQuota is not known at the federation."""
    for name in sorted(part(document.get("spec"), "overall")):
        if not measured(name):
            yield (
                f"spec.overall[{name}]: what is used of it is only known in members, so that it is not enforced "
                "over all of them; staticAssignments are, where a member serves ResourceQuotas"
            )

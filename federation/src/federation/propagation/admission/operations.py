"""What Karmada's validating webhooks refuse of the kinds that operators of a fleet use, in their words. Pure."""

from collections.abc import Iterator

from federation.propagation.admission.rules import denial, parts
from machinery.api.fleet.cluster import UNREACHABLE_TAINT
from machinery.api.validation.causes import Causes
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

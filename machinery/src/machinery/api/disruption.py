"""PodDisruptionBudgets: which pods they protect, what an eviction takes of one, and what there is to take. Pure.

An eviction takes one of `status.disruptionsAllowed` and writes the pod's name into `status.disruptedPods`; the controller
counts anew and drops names whose pods are gone. Source: the eviction API of Kubernetes 1.36, KEP-3017.
"""

from collections.abc import Mapping
from typing import Any, Final

from machinery.meta import errors, selectors
from machinery.meta.resource import Document

CONDITION: Final = "DisruptionAllowed"
SUFFICIENT, INSUFFICIENT, SYNC_FAILED = "SufficientPods", "InsufficientPods", "SyncFailed"
DISRUPTED_MAX: Final = 2000
RETRY_S: Final = 10
TWO_BUDGETS: Final = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
_VIOLATES: Final = "Cannot evict pod as it would violate the pod's disruption budget."
_UNPROTECTED: Final = ("Succeeded", "Failed", "Pending")


def protects(budget: Document, pod: Document) -> bool:
    """Whether the budget is about the pod; both are of one namespace. Without a selector it is about none."""
    selector = (budget.get("spec") or {}).get("selector")
    labels = (pod.get("metadata") or {}).get("labels") or {}
    return selector is not None and bool(labels) and selects(selector, labels)


def selects(selector: Document, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector takes the labels; an empty one takes all."""
    return selectors.from_object(selector).matches(labels)


def is_unprotected(pod: Document) -> bool:
    """Whether the pod's going disrupts nothing: it has not begun, has ended, or goes already."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in _UNPROTECTED or bool((pod.get("metadata") or {}).get("deletionTimestamp"))


def is_ready(pod: Document) -> bool:
    found = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in found)


def is_free(budget: Document, pod: Document) -> bool:
    """Whether a pod that is not ready goes without taking anything of the budget."""
    if is_ready(pod):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy", 0)
    return bool(0 < desired <= status.get("currentHealthy", 0))


def taken(budget: Document, pod: str, now: str) -> Document:
    """The budget after the eviction of a pod. Raises TooManyRequests, Forbidden."""
    metadata, status = budget["metadata"], budget.get("status") or {}
    name = metadata["name"]
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        why = f"The disruption budget {name} is still being processed by the server."
        raise _too_many(why, retry_s=RETRY_S)
    allowed = status.get("disruptionsAllowed", 0)
    if allowed < 0:
        raise _forbidden(name, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or ()) > DISRUPTED_MAX:
        raise _forbidden(
            name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        )
    if not allowed:
        raise _too_many(_why_none(name, status))
    fresh = {
        **status,
        "disruptionsAllowed": allowed - 1,
        "disruptedPods": {**(status.get("disruptedPods") or {}), pod: now},
    }
    if allowed == 1:
        generation = status.get("observedGeneration", 0)
        fresh["conditions"] = with_condition(status, allowed - 1, generation, now)
    return {**budget, "status": fresh}


def _why_none(name: str, status: Document) -> str:
    failed = next(
        (c for c in status.get("conditions") or () if c.get("reason") == SYNC_FAILED), None
    )
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if failed is not None:
        return (
            f"The disruption budget {name} does not allow evicting pods currently because it failed sync: "
            f"{failed.get('message', '')}"
        )
    if healthy <= desired:
        return (
            f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        )
    return f"The disruption budget {name} does not allow evicting pods currently"


def _too_many(why: str, *, retry_s: int = 0) -> errors.TooManyRequests:
    details: Document = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if retry_s:
        details["retryAfterSeconds"] = retry_s
    return errors.TooManyRequests(_VIOLATES, details=details)


def _forbidden(name: str, why: str) -> errors.Forbidden:
    return errors.Forbidden(
        f'poddisruptionbudget "{name}" is forbidden: {why}',
        details={"name": name, "kind": "poddisruptionbudget"},
    )


def with_condition(
    status: Document, allowed: int, generation: int, now: str, failure: str = ""
) -> list[Document]:
    """The conditions with the one that says whether evictions are allowed; `failure`: why nobody knows."""
    fresh = {
        "type": CONDITION,
        "status": "True" if allowed > 0 and not failure else "False",
        "observedGeneration": generation,
        "lastTransitionTime": now,
        "reason": SYNC_FAILED if failure else (SUFFICIENT if allowed > 0 else INSUFFICIENT),
        "message": failure,
    }
    out: list[Document] = []
    found = False
    for one in status.get("conditions") or ():
        if one.get("type") != CONDITION:
            out.append(one)
            continue
        found = True
        same = one.get("status") == fresh["status"]
        out.append(fresh | ({"lastTransitionTime": one["lastTransitionTime"]} if same else {}))
    return out if found else [*out, fresh]


def share(value: Any, of: int) -> int:
    """A number, or a percentage of `of` rounded up."""
    if isinstance(value, str):
        return -(-int(value.rstrip("%")) * of // 100)
    return int(value)


def wanted(spec: Document, pods: int, scale: int) -> tuple[int, int]:
    """(pods expected, healthy pods desired) of a budget for `pods` pods whose controllers want `scale` of them."""
    least, away = spec.get("minAvailable"), spec.get("maxUnavailable")
    if away is not None:
        return scale, max(0, scale - share(away, scale))
    if isinstance(least, str):
        return scale, share(least, scale)
    if least is not None:
        return pods, int(least)
    return 0, 0


def needs_scale(spec: Document) -> bool:
    """Whether the budget depends on how many pods the controllers want."""
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)

"""What of its own cluster's objects an agent may say, and what is the federation's to say. RBAC narrows objects, this narrows fields.

Work      from the agent only the end of its finalizer, once the Work is being deleted; its status is another door
Cluster   not its taints and labels (a drained cluster would drain no more), not who owns or holds it,
          not the federation's own verdicts among its conditions
Lease     not the word that asks for an inventory: without it the federation would believe what it remembers
"""

from collections.abc import Mapping
from typing import Any, Final

from federation.clusters.candidates import BELIEVED
from federation.clusters.links import member_of
from federation.clusters.refusals import IDENTITY_CONFLICT, LINK_REFUSED
from machinery.api.fleet.cluster import CLUSTER_LEASES, INVENTORY_WANTED, READY
from machinery.api.fleet.work import EXECUTION_FINALIZER
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, refuse

VERDICTS: Final = (READY, BELIEVED, IDENTITY_CONFLICT, LINK_REFUSED)
"""Conditions of a Cluster that the federation comes to."""
HELD: Final = ("labels", "finalizers", "ownerReferences")
VOLATILE: Final = ("managedFields", "resourceVersion", "generation", "finalizers")


class OwnWords:
    """Admission of agents' updates."""

    kinds = frozenset(
        {
            ("work.karmada.io", "Work"),
            ("cluster.karmada.io", "Cluster"),
            ("coordination.k8s.io", "Lease"),
        }
    )

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        old = request.old
        if request.verb != "update" or old is None or not member_of(request.call.user):
            return
        why = ""
        if request.kind.kind == "Work" and not request.subresource:
            why = of_work(request.document, old)
        elif request.kind.kind == "Cluster":
            why = of_cluster(request.document, old)
        elif request.kind.kind == "Lease" and request.namespace == CLUSTER_LEASES:
            why = of_lease(request.document, old)
        if why:
            raise refuse(request, f"an agent may not change {why}")


def of_work(new: Document, old: Document) -> str:
    """What an agent may not change of its Work; empty when it may do so."""
    if _fixed(new) != _fixed(old):
        return "what a Work says: that is the federation's"
    before, after = (list(d["metadata"].get("finalizers") or ()) for d in (old, new))
    if after == before:
        return ""
    if not old["metadata"].get("deletionTimestamp"):
        return "the finalizers of a Work that stays"
    if after != [one for one in before if one != EXECUTION_FINALIZER]:
        return "finalizers but its own"
    return ""


def _fixed(work: Document) -> tuple[Mapping[str, Any], Any]:
    metadata = {k: v for k, v in work["metadata"].items() if k not in VOLATILE}
    return metadata, work.get("spec")


def of_cluster(new: Document, old: Document) -> str:
    """What an agent may not change of its Cluster; empty when it may do so."""
    for part in HELD:
        if (new["metadata"].get(part) or None) != (old["metadata"].get(part) or None):
            return f"the {part} of its Cluster"
    if _taints(new) != _taints(old):
        return "the taints of its Cluster"
    if _verdicts(new) != _verdicts(old):
        return f"the conditions {', '.join(VERDICTS)} of its Cluster"
    return ""


def _taints(cluster: Document) -> Any:
    return (cluster.get("spec") or {}).get("taints") or []


def _verdicts(cluster: Document) -> list[Document]:
    conditions = (cluster.get("status") or {}).get("conditions") or ()
    found = [c for c in conditions if c.get("type") in VERDICTS]
    return sorted(found, key=lambda c: str(c.get("type")))


def of_lease(new: Document, old: Document) -> str:
    """What an agent may not change of its heartbeat; empty when it may do so."""
    before, after = (
        (d["metadata"].get("annotations") or {}).get(INVENTORY_WANTED) for d in (old, new)
    )
    return "" if before == after else "the word that asks for an inventory"

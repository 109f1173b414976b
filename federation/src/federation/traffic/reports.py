"""The status of a ServiceExport at the federation: what the members say of their copies, in one sentence each.

`Valid` and `Ready` come from the members, `Conflict` from the merge. One member that refuses makes the whole False, with
its reason; members that have said nothing yet make it Unknown, unless another has spoken.
"""

from collections.abc import Mapping

from machinery.api.fleet.multicluster import ServiceExportStatus
from machinery.meta.objectmeta import Condition, condition, condition_document
from machinery.meta.resource import Document

VALID, READY, CONFLICT = "Valid", "Ready", "Conflict"
PENDING = "Pending"


def conditions(
    reports: Mapping[str, ServiceExportStatus],
    conflict: Document | None,
    held: ServiceExportStatus,
    generation: int,
    now: str,
) -> list[Document]:
    """All conditions in wire shape. `reports` by member, of all that shall have the export; `conflict` as the merge says it,
    None while nobody exports."""
    wanted = [summed(kind, reports) for kind in (VALID, READY)]
    if conflict is not None:
        wanted.append({"type": CONFLICT, **conflict})
    return [
        stamped(one, condition(held.conditions, one["type"]), generation, now) for one in wanted
    ]


def summed(kind: str, reports: Mapping[str, ServiceExportStatus]) -> Document:
    """One condition over all members, without its time."""
    said = {name: condition(report.conditions, kind) for name, report in sorted(reports.items())}
    for status in ("False", "True"):
        heard = {n: c for n, c in said.items() if c is not None and c.status == status}
        if heard:
            first = next(iter(heard.values()))
            return _document(kind, first, f"{_count(heard, said)}: {_why(status, heard)}")
    waiting = f"no member has reported yet (0/{len(said)})" if said else NOWHERE
    return {"type": kind, "status": "Unknown", "reason": PENDING, "message": waiting}


NOWHERE = "no cluster runs anything of the namespace, so the export is nowhere yet"


def _document(kind: str, first: Condition, message: str) -> Document:
    return {"type": kind, "status": first.status, "reason": first.reason, "message": message}


def _count(heard: Mapping[str, Condition], said: Mapping[str, object]) -> str:
    return f"{len(heard)}/{len(said)} clusters"


def _why(status: str, heard: Mapping[str, Condition]) -> str:
    if status == "True":
        return ", ".join(heard)
    return "; ".join(f"{name}: {c.reason}: {c.message}" for name, c in heard.items())


def stamped(wanted: Document, held: Condition | None, generation: int, now: str) -> Document:
    """The condition with the time of its last change of status and the generation that it judges."""
    document = {**wanted, "observedGeneration": generation, "lastTransitionTime": now}
    if held is None or held.status != wanted["status"]:
        return document
    if held.last_transition_time is not None:
        document["lastTransitionTime"] = condition_document(held)["lastTransitionTime"]
    return document

"""Field managers seen through the scale subresource: whoever owns a workload's replicas owns the Scale's.

Applying a Scale works on the Scale's own entries, which are made from the workload's and carried back afterwards: managers
that lost the field lose it in the workload, the new one gets an entry under the subresource.
"""

from machinery.api.managed_fields import entries
from machinery.api.managed_fields.applying import apply
from machinery.api.managed_fields.entries import Entry
from machinery.api.managed_fields.sets import LEAF, FieldSet, difference, is_member
from machinery.api.managed_fields.tracking import with_entries
from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document

_REPLICAS: FieldSet = {"f:spec": {"f:replicas": LEAF}}
_SCALE = "scale"


def apply_scale(
    scale_kind: ServedKind,
    workload: Document,
    scale: Document,
    applied: Document,
    manager: str,
    force: bool,
    time: str,
) -> tuple[Document, Document]:
    """The Scale as applied, and the workload with its managers after that. Raises as `apply` does.

    The workload's replicas are left as they were: setting them from the Scale is the caller's business.
    """
    version = workload["apiVersion"]
    held = entries.read(workload["metadata"].get("managedFields")) or []
    seen = with_entries(
        scale,
        [
            entry._replace(api_version=scale_kind.api_version, fields=_REPLICAS)
            for entry in held
            if entry.api_version == version and _owns(entry)
        ],
    )
    result = apply(scale_kind, seen, applied, manager, force, time, _SCALE)
    after = entries.read(result["metadata"].get("managedFields")) or []
    owners = {_who(entry): entry for entry in after if _owns(entry)}
    rows: list[Entry] = []
    for entry in held:
        if entry.api_version == version and _owns(entry) and owners.pop(_who(entry), None) is None:
            rows.append(entry._replace(fields=difference(entry.fields, _REPLICAS)))
        else:
            rows.append(entry)
    rows += [e._replace(api_version=version, fields=_REPLICAS) for e in owners.values()]
    return result, with_entries(workload, rows)


def _owns(entry: Entry) -> bool:
    node = entry.fields.get("f:spec", LEAF).get("f:replicas")
    return node is not None and is_member(node)


def _who(entry: Entry) -> tuple[str, str, str]:
    return (entry.manager, entry.operation, entry.subresource)

"""The quality-of-service class of a pod: who is evicted first when a node runs out of memory."""

from collections.abc import Iterable
from typing import Any

from machinery.meta import quantity
from machinery.meta.resource import Document

_COUNTED = ("cpu", "memory")


def qos_class(spec: Document) -> str:
    """Guaranteed: every container's cpu and memory limits equal its requests; BestEffort: none has any; else Burstable."""
    owners: Iterable[Document] = (
        *(spec.get("containers") or ()),
        *(spec.get("initContainers") or ()),
    )
    if (whole := spec.get("resources")) and (whole.get("requests") or whole.get("limits")):
        owners = ({"resources": whole},)
    some = guaranteed = False
    for index, owner in enumerate(owners):
        resources = owner.get("resources") or {}
        limits = _counted(resources.get("limits"))
        if some and not limits:
            guaranteed = False
            continue
        requests = _counted(resources.get("requests"))
        some = some or bool(requests or limits)
        full = len(limits) == len(_COUNTED) and all(
            requests.get(name, value) == value for name, value in limits.items()
        )
        guaranteed = full and (guaranteed or index == 0)
    if not some:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _counted(amounts: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if amounts:
        for name in _COUNTED:
            if name in amounts and (value := quantity.quantity_of(amounts[name]).value):
                found[name] = value
    return found

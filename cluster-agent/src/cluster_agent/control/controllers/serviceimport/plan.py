"""ServiceImport: what to write. Pure.

An import's addresses are claimed by the write that gives them: `spec.ips` of all imports together are what is taken, there
is no other record that a crash could leave behind. Should two imports hold one address all the same (restored from a
copy, written by hand), the older keeps it and the younger gets another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster_agent.control.controllers.imports import exporting
from cluster_agent.control.controllers.serviceimport import addresses
from machinery.api.fleet.multicluster import SERVICE_IMPORTS, ServiceImport
from machinery.controller.action import Action, Emit, Patch, RequeueAfter, SetStatus
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition, condition_document
from machinery.meta.resource import Document
from machinery.server.services.ranges import AddressRange

READY = "Ready"
PENDING, NO_FAMILY = "Pending", "IPFamilyNotSupported"
NO_RANGE, EXHAUSTED = "NoAddressRange", "AddressesExhausted"
AGAIN_S = 10.0
"""When an exhausted range is looked at again."""


@dataclass(frozen=True, slots=True)
class Given:
    """The addresses that an import shall have, and why it has none or not all."""

    ips: tuple[str, ...]
    reason: str = ""
    message: str = ""


def holders(imports: Iterable[ServiceImport]) -> dict[str, ServiceImport]:
    """Address -> the import whose it is: the oldest that holds it."""
    found: dict[str, ServiceImport] = {}
    for one in sorted(imports, key=_age):
        for text in one.spec.ips:
            found.setdefault(text, one)
    return found


def _age(one: ServiceImport) -> tuple[bool, float, str]:
    made = one.metadata.creation_timestamp
    return (made is None, made.timestamp() if made else 0.0, one.metadata.uid)


def owned(one: ServiceImport, taken: Mapping[str, ServiceImport]) -> tuple[str, ...]:
    """Those of the import's addresses that are its own."""
    return tuple(
        text
        for text in one.spec.ips
        if (holder := taken.get(text)) is None or holder.metadata.uid == one.metadata.uid
    )


def wanted(
    one: ServiceImport, ranges: Sequence[AddressRange], taken: Mapping[str, ServiceImport]
) -> Given:
    """What it has stays, what is missing is chosen."""
    if one.spec.headless:
        return Given(())
    if not ranges:
        text = "this cluster has no range of clusterset addresses (clustersetCidr)"
        return Given(one.spec.ips, NO_RANGE, text)
    serving = addresses.served(one.spec.ip_families, ranges)
    if not serving:
        families = ", ".join(one.spec.ip_families)
        return Given((), NO_FAMILY, f"this cluster has no clusterset addresses of {families}")
    mine = owned(one, taken)
    found: list[str] = []
    for held in serving:
        text = addresses.held_in(mine, held) or addresses.pick(one.key, held, taken)
        if not text:
            why = f"no address of {held.network} is free"
            return Given((*found,), EXHAUSTED, why)
        found.append(text)
    return Given(tuple(found))


def plan(
    one: ServiceImport | None,
    ranges: Sequence[AddressRange],
    taken: Mapping[str, ServiceImport],
    now: str,
) -> list[Action]:
    """Addresses, then status. `taken` are the addresses of all imports, as the API has them now."""
    if one is None or one.deleting:
        return []
    given = wanted(one, ranges, taken)
    if given.ips != one.spec.ips:
        # The status follows with the next pass: it must not tell of addresses that were refused.
        patch = {"spec": {"ips": list(given.ips) or None}}
        version = one.metadata.resource_version
        actions: list[Action] = [Patch(SERVICE_IMPORTS, one.key, patch, resource_version=version)]
        lost = [text for text in one.spec.ips if text not in given.ips]
        if lost and given.ips:
            told = f"{', '.join(lost)} cannot be kept; the addresses are now {', '.join(given.ips)}"
            actions.append(_event(one, "AddressChanged", told))
        return actions
    return _status(one, given, now)


def _status(one: ServiceImport, given: Given, now: str) -> list[Action]:
    fresh = _ready(one, given, now)
    held = condition(one.status.conditions, READY)
    others = [condition_document(c) for c in one.status.conditions if c.type != READY]
    conditions = [*others, fresh]
    clusters = [{"cluster": name} for name in exporting(one)]
    actions: list[Action] = []
    told = [{"cluster": c.cluster} for c in one.status.clusters]
    if told != clusters or [condition_document(c) for c in one.status.conditions] != conditions:
        status = {"clusters": clusters, "conditions": conditions}
        version = one.metadata.resource_version
        actions.append(SetStatus(SERVICE_IMPORTS, one.key, status, version))
    if given.reason == EXHAUSTED:
        if held is None or held.reason != EXHAUSTED:
            actions.append(_event(one, EXHAUSTED, given.message))
        actions.append(RequeueAfter(AGAIN_S))
    return actions


def _ready(one: ServiceImport, given: Given, now: str) -> Document:
    status, reason, message = "True", "Ready", "the import can be used"
    if given.reason:
        status, reason, message = "False", given.reason, given.message
    elif not exporting(one):
        status, reason, message = "False", PENDING, "no cluster exports the Service yet"
    held = condition(one.status.conditions, READY)
    since = now
    if held is not None and held.status == status and held.last_transition_time is not None:
        since = rfc3339(held.last_transition_time)
    document: Document = {
        "type": READY,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }
    generation = one.metadata.generation
    return document | ({"observedGeneration": generation} if generation else {})


def _event(one: ServiceImport, reason: str, message: str) -> Emit:
    return Emit(SERVICE_IMPORTS, one.key, one.metadata.uid, "Warning", reason, message)

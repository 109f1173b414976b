"""ServiceExport: its conditions say whether the Service can be exported, whether it is, and whom it disagrees with.

Valid is judged here, by the Service of the same name. Ready and Conflict are what the ServiceImport of that name says: the
federation sends it, with the names of the exporting clusters and the conflict that all of them share. Reasons and words
are KEP-1645's. Alone, without a federation, a valid export stays Pending.
"""

from dataclasses import dataclass

import msgspec

from cluster_agent.control.controllers.imports import exporting, watch_name
from machinery.api.fleet.multicluster import (
    CONFLICTS,
    SERVICE_EXPORTS,
    SERVICE_IMPORTS,
    ServiceExport,
    ServiceImport,
)
from machinery.api.service_kinds import SERVICES, Service
from machinery.controller.action import Action, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import Condition, View, condition, condition_document
from machinery.meta.resource import Document, ObjectKey

VALID, READY, CONFLICT = "Valid", "Ready", "Conflict"
OURS = (VALID, READY, CONFLICT)


class _Conflict(View):
    """What the federation says of all exports of a name."""

    status: str = "False"
    reason: str = "NoConflicts"
    message: str = ""


NO_CONFLICTS = _Conflict(message="the Service is exported without a conflict")
_CONFLICT = msgspec.json.Decoder(_Conflict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition without its times."""

    type: str
    status: str
    reason: str
    message: str


def plan(
    export: ServiceExport | None,
    service: Service | None,
    imported: ServiceImport | None,
    cluster: str,
    now: str,
) -> list[Action]:
    """Write the conditions if they say something else. `cluster` is this member's name."""
    if export is None or export.deleting:
        return []
    held = export.status.conditions
    generation = export.metadata.generation
    fresh = [
        _stamped(one, condition(held, one.type), generation, now)
        for one in verdicts(service, imported, cluster)
    ]
    others = [condition_document(c) for c in held if c.type not in OURS]
    wanted = [*others, *fresh]
    if [condition_document(c) for c in held] == wanted:
        return []
    version = export.metadata.resource_version
    return [SetStatus(SERVICE_EXPORTS, export.key, {"conditions": wanted}, version)]


def verdicts(
    service: Service | None, imported: ServiceImport | None, cluster: str
) -> tuple[Verdict, Verdict, Verdict]:
    """Valid, Ready and Conflict of an export."""
    valid = _valid(service)
    if valid.status != "True":
        pending = Verdict(READY, "False", "Pending", "the export is not valid")
        return valid, pending, _conflict(NO_CONFLICTS)
    if imported is None or imported.deleting or cluster not in exporting(imported):
        text = "the federation has not taken up the export yet"
        return valid, Verdict(READY, "False", "Pending", text), _conflict(NO_CONFLICTS)
    ready = Verdict(READY, "True", "Exported", "the Service is exported to the other clusters")
    return valid, ready, _conflict(_told(imported))


def _valid(service: Service | None) -> Verdict:
    if service is None or service.deleting:
        return Verdict(VALID, "False", "NoService", "there is no Service of this name")
    if service.spec.type == "ExternalName":
        text = "a Service of type ExternalName cannot be exported"
        return Verdict(VALID, "False", "InvalidServiceType", text)
    return Verdict(VALID, "True", "Valid", "the Service can be exported")


def _told(imported: ServiceImport) -> _Conflict:
    """The federation's word; one that cannot be read is none."""
    try:
        found = _CONFLICT.decode(imported.metadata.annotations.get(CONFLICTS, ""))
    except msgspec.MsgspecError:
        return NO_CONFLICTS
    return found if found.status in ("True", "False") and found.reason else NO_CONFLICTS


def _conflict(found: _Conflict) -> Verdict:
    return Verdict(CONFLICT, found.status, found.reason, found.message)


def _stamped(wanted: Verdict, held: Condition | None, generation: int, now: str) -> Document:
    since = now
    if held is not None and held.status == wanted.status and held.last_transition_time is not None:
        since = rfc3339(held.last_transition_time)
    document: Document = {
        "type": wanted.type,
        "status": wanted.status,
        "reason": wanted.reason,
        "message": wanted.message,
        "lastTransitionTime": since,
    }
    return document | ({"observedGeneration": generation} if generation else {})


class ServiceExportReconciler:
    """Read, plan, act."""

    def __init__(self, manager: Manager, cluster: str) -> None:
        self._executor, self._clock, self._cluster = manager.executor, manager.clock, cluster
        self._exports = manager.informer(SERVICE_EXPORTS)
        self._services = manager.informer(SERVICES)
        self._imports = manager.informer(SERVICE_IMPORTS)

    async def reconcile(self, key: ObjectKey) -> Result:
        actions = plan(
            self._exports.get(key),
            self._services.get(key),
            self._imports.get(key),
            self._cluster,
            rfc3339(self._clock.now()),
        )
        return await self._executor.apply(actions)


def setup(manager: Manager, cluster: str) -> None:
    """Watch exports, and of the Services and imports those that are exported."""
    builder = manager.controller("serviceexport", ServiceExportReconciler(manager, cluster))
    builder.watches(SERVICE_EXPORTS)
    exports = manager.informer(SERVICE_EXPORTS)
    watch_name(builder, manager.informer(SERVICES), exports)
    watch_name(builder, manager.informer(SERVICE_IMPORTS), exports)

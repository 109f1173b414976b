"""Exports, reported: every valid ServiceExport of the member stands at the federation as an ExportedService.

`<service>.<namespace>` in the member's own namespace there says what the Service is and which endpoints answer for it.
Changes are gathered for a moment, so that a rollout's burst is one write, and one Service is written at most five times
a second. What the federation holds is watched as well and compared with the member each time: what was changed there, or
changed here while the federation was away, is put right by the next pass, and so is what is no longer exported.

Only endpoints that are ready or still serving are reported: a pod that is not ready yet is nobody's business elsewhere,
and costs no write. Of more than ENDPOINTS_MAX a fixed choice is reported, which changes as little as they do, and an
Event says so.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from machinery.api.discovery_kinds import ENDPOINTSLICES, Endpoint, EndpointPort, EndpointSlice
from machinery.api.fleet.multicluster import (
    CLUSTERSET_IP,
    EXPORTED_SERVICES,
    HEADLESS,
    SERVICE_EXPORTS,
    ServiceExport,
)
from machinery.api.service_kinds import SERVICES, Service
from machinery.client.informer import Informer
from machinery.client.interface import Client, PatchType, dynamic
from machinery.controller.action import Action, Create, Delete, Emit, Patch, Result
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.errors import Forbidden
from machinery.meta.objectmeta import is_true, to_document
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

ENDPOINTS_MAX = 1_000
"""Endpoints of one Service that are reported."""
WORKERS = 8
"""Writes in flight: the federation may be far away, and after a cut all exports are due at once."""
GATHER_S = 0.05
WRITE_EVERY_S = 0.2
RECONNECT_S = 2.0
FORBIDDEN_S = 30.0
"""Until the next try where we have no right: the cluster has left, or its rights are not made yet."""
ADDRESS_TYPES = ("IPv4", "IPv6")
SERVICE_INDEX = "exported-service"
VALID = "Valid"
DOCUMENTS = dynamic(
    EXPORTED_SERVICES.group,
    EXPORTED_SERVICES.version,
    EXPORTED_SERVICES.plural,
    EXPORTED_SERVICES.kind,
    True,
)


_Group: TypeAlias = tuple[str, tuple[EndpointPort, ...]]
"""Family and ports."""


@dataclass(frozen=True, slots=True)
class Report:
    """The spec of an ExportedService, and how many endpoints there was no room for."""

    spec: Document
    left_out: int = 0


# ------------------------------------------------------------------------------------------------------------- deciding
def report(
    export: ServiceExport | None, service: Service | None, slices: Iterable[EndpointSlice]
) -> Report | None:
    """What is told of a Service; None when it is not exported. Pure."""
    if export is None or export.deleting or not is_true(export.status.conditions, VALID):
        return None
    if service is None or service.deleting or service.spec.type == "ExternalName":
        return None
    spec, made = service.spec, export.metadata.creation_timestamp
    pieces, left_out = _slices(slices)
    document: Document = {
        "service": {"namespace": service.metadata.namespace, "name": service.metadata.name},
        "type": HEADLESS if spec.headless else CLUSTERSET_IP,
        "ports": [_port(p.port, p.name, p.protocol, p.app_protocol) for p in spec.ports],
        "ipFamilies": list(spec.ip_families),
        "sessionAffinity": spec.session_affinity,
        "slices": pieces,
    }
    if made is not None:
        document["exportedAt"] = rfc3339(made)
    if spec.session_affinity == "ClientIP" and spec.session_affinity_config is not None:
        document["sessionAffinityConfig"] = to_document(spec.session_affinity_config)
    told = {
        "internalTrafficPolicy": spec.internal_traffic_policy,
        "trafficDistribution": spec.traffic_distribution,
        "exportedLabels": dict(export.spec.exported_labels),
        "exportedAnnotations": dict(export.spec.exported_annotations),
    }
    return Report(document | {name: value for name, value in told.items() if value}, left_out)


def _slices(slices: Iterable[EndpointSlice]) -> tuple[list[Document], int]:
    """Endpoints that share ports and family together, in a fixed order; how many there was no room for."""
    found: dict[_Group, dict[tuple[str, ...], Endpoint]] = {}
    for piece in slices:
        if piece.address_type not in ADDRESS_TYPES or piece.deleting:
            continue
        ports = tuple(sorted(piece.ports, key=_port_order))
        members = found.setdefault((piece.address_type, ports), {})
        for endpoint in piece.endpoints:
            held = members.get(endpoint.addresses)
            if endpoint.ready or (endpoint.serving and (held is None or not held.ready)):
                members[endpoint.addresses] = endpoint
    every = [(group, one) for group, those in found.items() for one in those.values()]
    chosen = every
    if len(every) > ENDPOINTS_MAX:
        chosen = sorted(every, key=lambda held: _rank(held[1]))[:ENDPOINTS_MAX]
    kept: dict[_Group, list[Endpoint]] = {}
    for group, endpoint in chosen:
        kept.setdefault(group, []).append(endpoint)
    order = sorted(kept, key=lambda group: (group[0], [_port_order(port) for port in group[1]]))
    documents: list[Document] = [
        {
            "addressType": family,
            "ports": [_port(p.port, p.name, p.protocol, p.app_protocol) for p in ports],
            "endpoints": [
                _endpoint(one) for one in sorted(kept[family, ports], key=lambda e: e.addresses)
            ],
        }
        for family, ports in order
    ]
    return documents, len(every) - len(chosen)


def _rank(endpoint: Endpoint) -> tuple[bool, bytes]:
    """Ready ones first; among equals by a hash, so that one more or less moves none of the others."""
    text = ",".join(endpoint.addresses).encode()
    return (not endpoint.ready, hashlib.sha256(text).digest())


def _port_order(port: EndpointPort) -> tuple[str, str, int, str]:
    return (port.name, port.protocol, port.port or 0, port.app_protocol or "")


def _port(number: int | None, name: str, protocol: str, app_protocol: str | None) -> Document:
    given = {"port": number, "name": name, "appProtocol": app_protocol}
    return {"protocol": protocol} | {key: value for key, value in given.items() if value}


def _endpoint(endpoint: Endpoint) -> Document:
    conditions = {
        "ready": endpoint.conditions.ready,
        "serving": endpoint.conditions.serving,
        "terminating": endpoint.conditions.terminating,
    }
    named = {
        "hostname": endpoint.hostname,
        "nodeName": endpoint.node_name,
        "zone": endpoint.zone,
    }
    return {
        "addresses": list(endpoint.addresses),
        "conditions": {name: value for name, value in conditions.items() if value is not None},
    } | {name: value for name, value in named.items() if value}


def reported_name(key: ObjectKey) -> str:
    """The name of a Service's ExportedService; neither part has a dot."""
    return f"{key.name}.{key.namespace}"


def service_of(reported: Document) -> ObjectKey:
    """The Service that an ExportedService is named after."""
    name, _, namespace = reported["metadata"]["name"].partition(".")
    return ObjectKey(namespace, name)


def plan(
    key: ObjectKey, namespace: str, wanted: Report | None, held: Document | None
) -> list[Action]:
    """Bring what the federation holds in `namespace` of Service `key` to `wanted`."""
    if held is not None and held["metadata"].get("deletionTimestamp"):
        return []
    if wanted is None:
        if held is None:
            return []
        name = ObjectKey(namespace, held["metadata"]["name"])
        return [Delete(DOCUMENTS, name, uid=held["metadata"]["uid"])]
    name = ObjectKey(namespace, reported_name(key))
    if held is None:
        document = {
            "apiVersion": DOCUMENTS.api_version,
            "kind": DOCUMENTS.kind,
            "metadata": {"name": name.name, "namespace": namespace},
            "spec": wanted.spec,
        }
        return [Create(DOCUMENTS, document, exists_ok=True)]
    if held.get("spec") == wanted.spec:
        return []
    # A merge patch would keep labels that are no longer exported.
    patch = [{"op": "replace", "path": "/spec", "value": wanted.spec}]
    return [Patch(DOCUMENTS, name, patch, PatchType.JSON, uid=held["metadata"]["uid"])]


# ---------------------------------------------------------------------------------------------------------------- doing
class ExportsReconciler:
    """Read, plan, act; the key is the Service's. Events go to the member, everything else to the federation."""

    def __init__(
        self, manager: Manager, federation: Client, reported: Informer[Document], namespace: str
    ) -> None:
        """`manager` is over the member's API; `reported` is the copy of the federation's `namespace`."""
        self._clock, self._namespace, self._reported = manager.clock, namespace, reported
        self._executor = Executor(federation, manager.recorder)
        self._exports, self._services = (
            manager.informer(SERVICE_EXPORTS),
            manager.informer(SERVICES),
        )
        self._slices = manager.informer(ENDPOINTSLICES)
        self._slices.add_index(SERVICE_INDEX, slice_keys)
        self._next: dict[ObjectKey, float] = {}
        self._told: set[ObjectKey] = set()

    def exported(self, key: ObjectKey) -> bool:
        """Whether there is a ServiceExport of that name."""
        return self._exports.get(key) is not None

    async def reconcile(self, key: ObjectKey) -> Result:
        if not self._reported.synced:
            return Result(requeue_after=RECONNECT_S)
        now = self._clock.monotonic()
        export = self._exports.get(key)
        wanted = report(
            export, self._services.get(key), self._slices.by_index(SERVICE_INDEX, key)
        )  # fmt: skip
        held = self._reported.get(ObjectKey(self._namespace, reported_name(key)))
        actions = plan(key, self._namespace, wanted, held)
        if wanted is None or export is None:
            self._next.pop(key, None)
            self._told.discard(key)
            return await self._apply(key, actions)
        if actions:
            wait = self._next.get(key, now) - now
            if wait > 0:
                return Result(requeue_after=wait)
            self._next[key] = now + WRITE_EVERY_S
        return await self._apply(key, [*actions, *self._words(export, wanted.left_out)])

    async def _apply(self, key: ObjectKey, actions: Sequence[Action]) -> Result:
        try:
            return await self._executor.apply(actions)
        except Forbidden as error:
            log.warning("export refused", extra={"service": str(key), "error": str(error)})
            return Result(requeue_after=FORBIDDEN_S)
        except (ConnectionError, TimeoutError) as error:
            # The queue's own pauses grow for as long as a cut lasts; after it, endpoints shall be fresh at once.
            log.info("export not reported", extra={"service": str(key), "error": str(error)})
            return Result(requeue_after=RECONNECT_S)

    def _words(self, export: ServiceExport, left_out: int) -> list[Action]:
        """Say it once that endpoints were left out, until there is room for all again."""
        if not left_out:
            self._told.discard(export.key)
            return []
        if export.key in self._told:
            return []
        self._told.add(export.key)
        text = f"only {ENDPOINTS_MAX} endpoints are exported, {left_out} are left out"
        uid = export.metadata.uid
        return [Emit(SERVICE_EXPORTS, export.key, uid, "Warning", "EndpointsLeftOut", text)]


def slice_keys(one: EndpointSlice) -> list[ObjectKey]:
    """The Service of a slice; none for slices of imports."""
    name = one.service_name
    return [ObjectKey(one.metadata.namespace, name)] if name else []


def setup(
    manager: Manager, federation: Client, reported: Informer[Document], namespace: str
) -> None:
    """Watch exports, Services and slices of the member, and what the federation holds (its owner runs `reported`)."""
    reconciler = ExportsReconciler(manager, federation, reported, namespace)
    builder = manager.controller("link-exports", reconciler, workers=WORKERS)

    def look(key: ObjectKey) -> None:
        builder.queue.add_after(key, GATHER_S)

    def on_export(old: ServiceExport | None, new: ServiceExport | None) -> None:
        for one in (old, new):
            if one is not None:
                look(one.key)

    def on_service(old: Service | None, new: Service | None) -> None:
        either = new or old
        if either is not None and reconciler.exported(either.key):
            look(either.key)

    def on_slice(old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        keys = {key for one in (old, new) if one is not None for key in slice_keys(one)}
        for key in keys:
            if reconciler.exported(key):
                look(key)

    manager.informer(SERVICE_EXPORTS).on_change(on_export)
    manager.informer(SERVICES).on_change(on_service)
    manager.informer(ENDPOINTSLICES).on_change(on_slice)
    builder.watches_informer(reported, lambda held: [service_of(held)])

"""Where the exports of one name disagree, and what their ServiceExports are told about it.

All of them get the same condition `Conflict`, the oldest too: its owner may not know that others export the name. A message
says which field, whose value is used, and how many disagree. A family that an export lacks is a conflict, since its address
would reach only some of the endpoints; a family more than the import has is none.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from machinery.api.fleet.multicluster import ExportedServiceSpec, ImportPort
from machinery.meta.resource import Document

NO_CONFLICTS = "NoConflicts"
PORT, TYPE, FAMILY = "PortConflict", "TypeConflict", "IPFamilyConflict"
AFFINITY, AFFINITY_CONFIG = "SessionAffinityConflict", "SessionAffinityConfigConflict"
ANNOTATIONS, LABELS = "AnnotationsConflict", "LabelsConflict"
INTERNAL_POLICY, DISTRIBUTION = "InternalTrafficPolicyConflict", "TrafficDistributionConflict"
CLIENT_IP = "ClientIP"
NAMED_MAX = 10
"""Clusters or ports that one message lists."""

_Port = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True)
class Export:
    """What one cluster exports under the name."""

    cluster: str
    spec: ExportedServiceSpec


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One reason of the condition, and its sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Field:
    reason: str
    name: str
    value: Callable[[ExportedServiceSpec], Any]
    shown: Callable[[ExportedServiceSpec], str]


def _quoted(name: str, default: str) -> Callable[[ExportedServiceSpec], str]:
    return lambda spec: f'"{getattr(spec, name) or default}"'


_FIELDS = (
    _Field(
        AFFINITY, "sessionAffinity",
        lambda s: s.session_affinity or "None", _quoted("session_affinity", "None"),
    ),
    _Field(
        INTERNAL_POLICY, "internalTrafficPolicy",
        lambda s: s.internal_traffic_policy or "Cluster",
        _quoted("internal_traffic_policy", "Cluster"),
    ),
    _Field(
        DISTRIBUTION, "trafficDistribution",
        lambda s: s.traffic_distribution, _quoted("traffic_distribution", ""),
    ),
    _Field(
        ANNOTATIONS, "exportedAnnotations",
        lambda s: s.exported_annotations, lambda s: _keys(s.exported_annotations),
    ),
    _Field(LABELS, "exportedLabels", lambda s: s.exported_labels, lambda s: _keys(s.exported_labels)),
)  # fmt: skip


def disagreements(
    ordered: tuple[Export, ...],
    kind: str,
    ports: tuple[ImportPort, ...],
    families: tuple[str, ...],
) -> tuple[Disagreement, ...]:
    """Every one of them, in a fixed order. `ordered` by precedence; the others are what the import became."""
    found = [_ports(ordered, ports), _type(ordered, kind)]
    found += [_of(field, ordered) for field in _FIELDS]
    found += [_affinity_config(ordered), _families(ordered, families)]
    return tuple(one for one in found if one is not None)


def condition(found: Iterable[Disagreement]) -> Document:
    """The condition `Conflict` as `{"status", "reason", "message"}`."""
    found = tuple(found)
    if not found:
        return {"status": "False", "reason": NO_CONFLICTS, "message": "all exports agree"}
    return {
        "status": "True",
        "reason": ",".join(one.reason for one in found),
        "message": ". ".join(one.message for one in found),
    }


def _of(field: _Field, ordered: tuple[Export, ...]) -> Disagreement | None:
    winner = ordered[0]
    others = [e for e in ordered if field.value(e.spec) != field.value(winner.spec)]
    if not others:
        return None
    used = f"{field.shown(winner.spec)} of {winner.cluster}, the oldest export, is used"
    return Disagreement(field.reason, f"{field.name}: {used}; {_count(others, ordered)}")


def _type(ordered: tuple[Export, ...], kind: str) -> Disagreement | None:
    others = [e for e in ordered if e.spec.type != kind]
    if not others:
        return None
    winner = ordered[0]
    used = f'"{kind}" of {winner.cluster}, the oldest export, is used'
    if winner.spec.type != kind:
        used = (
            f'"{kind}" stays, since consumers use it, though {winner.cluster}, now the oldest export, '
            f'says "{winner.spec.type}": to change it, withdraw all exports'
        )
    return Disagreement(TYPE, f"type: {used}; {_count(others, ordered)}")


def _affinity_config(ordered: tuple[Export, ...]) -> Disagreement | None:
    """Only between those that have the affinity: where it differs, that is the conflict."""
    winner = ordered[0]
    if winner.spec.session_affinity != CLIENT_IP:
        return None
    others = [
        e
        for e in ordered
        if e.spec.session_affinity == CLIENT_IP and timeout(e.spec) != timeout(winner.spec)
    ]
    if not others:
        return None
    used = f"{timeout(winner.spec)} s of {winner.cluster}, the oldest export, are used"
    return Disagreement(
        AFFINITY_CONFIG,
        f"sessionAffinityConfig.clientIP.timeoutSeconds: {used}; {_count(others, ordered)}",
    )


def timeout(spec: ExportedServiceSpec) -> int | None:
    """Seconds that ClientIP affinity lasts; None where nothing is said."""
    config = spec.session_affinity_config
    return config.client_ip.timeout_seconds if config is not None else None


def _families(ordered: tuple[Export, ...], families: tuple[str, ...]) -> Disagreement | None:
    others = [
        e for e in ordered if e.spec.ip_families and not set(families) <= set(e.spec.ip_families)
    ]
    if not others:
        return None
    used = f"{', '.join(families)} of {ordered[0].cluster}, the oldest export, are used"
    reach = "a family that a cluster lacks does not reach it"
    return Disagreement(FAMILY, f"ipFamilies: {used}, and {reach}; {_count(others, ordered)}")


def _ports(ordered: tuple[Export, ...], ports: tuple[ImportPort, ...]) -> Disagreement | None:
    winner = ordered[0]
    wanted = {_port(p) for p in winner.spec.ports}
    others = [e for e in ordered if {_port(p) for p in e.spec.ports} != wanted]
    if not others:
        return None
    said = f"ports: those of all clusters are joined, {winner.cluster}, the oldest export, first"
    lost = list(_dropped(ordered, ports))
    if lost:
        said += f"; left out: {_some(lost)}"
    return Disagreement(PORT, f"{said}; {_count(others, ordered)}")


def _dropped(ordered: tuple[Export, ...], ports: tuple[ImportPort, ...]) -> Iterable[str]:
    """Each port that is not what the import has under its name, or whose number the import has under another name."""
    kept = {routed(p) for p in ports}
    names = {p.name: p for p in ports}
    numbers = {(p.protocol, p.port): p for p in ports}
    for export in ordered:
        for port in export.spec.ports:
            if routed(port) not in kept:
                taken = names.get(port.name) or numbers[port.protocol, port.port]
                yield f"{_named(port)} of {export.cluster} (taken: {_named(taken)})"


def routed(port: ImportPort) -> tuple[str, str, int]:
    """What must be equal for traffic of the one to reach the other: name, protocol, number."""
    return (port.name, port.protocol, port.port)


def _port(port: ImportPort) -> _Port:
    return (*routed(port), port.app_protocol or "")


def _named(port: ImportPort) -> str:
    return f'"{port.name}" {port.protocol} {port.port}'.removeprefix('"" ')


def _keys(found: Mapping[str, str]) -> str:
    return f"the set {{{_some(sorted(found))}}}"


def _count(others: list[Export], ordered: tuple[Export, ...]) -> str:
    names = _some([e.cluster for e in others])
    return f"{len(others)}/{len(ordered)} clusters disagree ({names})"


def _some(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    listed = ", ".join(names[:NAMED_MAX])
    return f"{listed} and {more} more" if more > 0 else listed

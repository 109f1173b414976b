"""All exports of one namespace and name become one import (KEP-1645): the oldest export decides, ports are joined.

Age is the creation time of the ServiceExport, in whole seconds; of two of one second the cluster that comes first by name
is the older. Ports are joined by name and then by protocol and number, in the order of age, and the younger port that clashes
is left out. Everything else is the oldest's as a whole.

One thing is kept against the oldest: when the cluster leaves that made the import headless, or not headless, the import
stays what it is, for consumers hold its addresses or its records. `type_from` remembers who decided; nobody, after that.
It stays so until the exports agree with it again, or the last of them goes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from federation.traffic.conflicts import Disagreement, Export, disagreements
from machinery.api.fleet.multicluster import HEADLESS, ImportPort, reserved
from machinery.api.service_kinds import SessionAffinityConfig
from machinery.meta.names import label_value, qualified_name

NOBODY = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What consumers have now: the import's type, and the cluster that decided it (`NOBODY` once that one left)."""

    type: str
    type_from: str


@dataclass(frozen=True, slots=True)
class Merged:
    """One import; `exports` in order of precedence."""

    exports: tuple[Export, ...]
    type: str
    type_from: str
    ports: tuple[ImportPort, ...]
    ip_families: tuple[str, ...]
    session_affinity: str
    session_affinity_config: SessionAffinityConfig | None
    internal_traffic_policy: str
    traffic_distribution: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    disagreements: tuple[Disagreement, ...]

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(export.cluster for export in self.exports)

    @property
    def headless(self) -> bool:
        return self.type == HEADLESS


def by_precedence(exports: Iterable[Export]) -> tuple[Export, ...]:
    """The oldest first; those without a time last."""

    def age(export: Export) -> tuple[bool, float, str]:
        at = export.spec.exported_at
        return (at is None, at.replace(microsecond=0).timestamp() if at else 0.0, export.cluster)

    return tuple(sorted(exports, key=age))


def merge(exports: Iterable[Export], held: Held | None = None) -> Merged | None:
    """The import of all exports of a name; None when there are none. `held` is what was sent to members before."""
    ordered = by_precedence(exports)
    if not ordered:
        return None
    winner = ordered[0].spec
    kind, decided = import_type(ordered, held)
    ports = joined(ordered)
    families = next((e.spec.ip_families for e in ordered if e.spec.ip_families), ())
    return Merged(
        exports=ordered,
        type=kind,
        type_from=decided,
        ports=ports,
        ip_families=families,
        session_affinity=winner.session_affinity,
        session_affinity_config=winner.session_affinity_config,
        internal_traffic_policy=winner.internal_traffic_policy,
        traffic_distribution=winner.traffic_distribution,
        labels={k: v for k, v in usable(winner.exported_labels).items() if not label_value(v)},
        annotations=usable(winner.exported_annotations),
        disagreements=disagreements(ordered, kind, ports, families),
    )


def import_type(ordered: tuple[Export, ...], held: Held | None) -> tuple[str, str]:
    """ClusterSetIP or Headless, and who decided it."""
    winner = ordered[0]
    exporting = {export.cluster for export in ordered}
    if held is None or held.type == winner.spec.type or held.type_from in exporting:
        return winner.spec.type, winner.cluster
    return held.type, NOBODY


def joined(ordered: tuple[Export, ...]) -> tuple[ImportPort, ...]:
    """The ports of all; neither a name nor a (protocol, number) stands twice."""
    names: set[str] = set()
    numbers: set[tuple[str, int]] = set()
    ports: list[ImportPort] = []
    for export in ordered:
        for port in export.spec.ports:
            number = (port.protocol, port.port)
            if port.name not in names and number not in numbers:
                names.add(port.name)
                numbers.add(number)
                ports.append(port)
    return tuple(ports)


def usable(found: Mapping[str, str]) -> dict[str, str]:
    """Labels or annotations that may stand on the import. A ServiceExport with others is refused at its own API server;
    members of older versions may not know that yet."""
    return {key: value for key, value in found.items() if not unusable(key)}


def unusable(key: str) -> bool:
    """Whether the key is no key, or is one of ours."""
    return reserved(key) or bool(qualified_name(key.lower()))

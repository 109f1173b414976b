"""All controllers of the federation and its admission: what the server starts, and the simulator too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from federation.clusters.admission import ExportsNamed, MembersObjects, OneIdentity, OwnClusterOnly
from federation.clusters.commands import Run, no_links
from federation.clusters.confinement import OwnWords
from federation.clusters.estimates import Estimator, NoEstimator
from federation.clusters.metrics import Metrics, NoMetrics
from federation.controllers import (
    applications,
    capacity,
    checkpoints,
    cronhpas,
    defaults,
    dependencies,
    descheduler,
    detector,
    dispatcher,
    divergence,
    domains,
    evictor,
    failback,
    failover,
    federatedhpas,
    followers,
    health,
    histories,
    identities,
    imports,
    journal,
    membership,
    namespaces,
    networks,
    placer,
    policies,
    quotas,
    rebalancer,
    references,
    revisions,
    statuses,
    taints,
    volumes,
)
from federation.controllers.reservations import Reservations
from federation.controllers.rollouts import controller as rollouts
from federation.domains.clock import FailureClock
from federation.domains.settings import Settings as Operator
from federation.domains.settings import effective
from federation.propagation.admission.foresight import QuotaForesight
from federation.propagation.admission.interpreters import InterpreterCustomizations
from federation.propagation.admission.plugin import KarmadaKinds
from federation.propagation.admission.protection import ProtectedContents
from federation.propagation.admission.radius import BlastRadius
from federation.propagation.admission.resilience import ResilienceKinds
from federation.propagation.admission.rollouts import StagedKinds
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.resilience import CONFIG_NAME, FEDERATION_CONFIGS
from machinery.api.scheme import ServedKind
from machinery.controller.manager import Manager
from machinery.controllers import namespace, policystatus, tokencleaner
from machinery.controllers.garbagecollector import controller as garbagecollector
from machinery.kit.ids import Ids
from machinery.meta.resource import ObjectKey
from machinery.server.admission.interface import Plugin
from machinery.server.committed import Committed
from machinery.server.pki import CertificateAuthority


@dataclass(frozen=True, slots=True)
class Settings:
    """What the controllers need besides the API."""

    kinds: Sequence[ServedKind]
    """Every kind that the server stores: collected, and emptied with its namespace."""
    authority: CertificateAuthority
    """Signs the certificates of members."""
    clock: FailureClock = FailureClock()
    stabilization_s: float = 300.0
    """How long a fleet must be well before failback, where FederationConfig says nothing."""
    left: Callable[[str], None] = field(default=lambda _: None)
    """Hears of each cluster that has left."""
    commands: Run = no_links
    """Runs commands in members' pods."""
    estimator: Estimator = NoEstimator()
    """Asks members what would really fit."""
    metrics: Metrics = NoMetrics()
    """Where what members' pods use comes from."""


def admission(
    ids: Ids,
    *,
    no_execute: bool = False,
    committed: Callable[[], Committed | None] = lambda: None,
    noted: Callable[[str, str, str], None] = lambda *_: None,
) -> tuple[Plugin, ...]:
    """What the server asks of every write, beside what any API server asks.

    `no_execute`: ClusterTaintPolicies may drive workloads away. `committed`: what the server holds, None before it runs.
    `noted` hears of agents that come under the name of another cluster.
    """
    return (
        OwnClusterOnly(),
        OneIdentity(partial(_known_id, committed), noted),
        OwnWords(),
        MembersObjects(),
        ExportsNamed(),
        KarmadaKinds(ids, no_execute=no_execute),
        InterpreterCustomizations(committed),
        QuotaForesight(committed),
        StagedKinds(),
        ResilienceKinds(),
        ProtectedContents(committed),
        BlastRadius(committed),
    )


def _known_id(committed: Callable[[], Committed | None], cluster: str) -> str:
    """The id of the cluster that has the name; empty where nobody has."""
    there = committed()
    found = None if there is None else there.get(CLUSTERS, ObjectKey("", cluster))
    return "" if found is None else found.spec.id


def setup_all(manager: Manager, settings: Settings) -> None:
    """Wire up every controller."""
    defaults.setup(manager)
    membership.setup(manager, settings.left)
    identities.setup(manager, settings.authority)
    operator = operator_settings(manager, settings)
    beats = health.heartbeats(manager)
    health.setup(manager, lambda: operator().clock, beats)
    domains.setup(manager, lambda: operator().clock, beats)
    reserved = Reservations(manager, settings.estimator, beats)
    evictor.setup(manager, operator, beats, reserved)
    failback.setup(manager, operator, reserved)
    placer.setup(manager, operator, reserved)
    descheduler.setup(manager, operator, reserved)
    for room in (
        capacity,
        detector,
        policies,
        quotas,
        rebalancer,
        failover,
        applications,
        dispatcher,
        dependencies,
        references,
        namespaces,
        followers,
        imports,
        networks,
        statuses,
        divergence,
        revisions,
        histories,
        rollouts,
        taints,
    ):
        room.setup(manager)
    cronhpas.setup(manager, settings.kinds)
    federatedhpas.setup(manager, settings.kinds, settings.metrics)
    journal.setup(manager)
    checkpoints.setup(manager, settings.commands)
    volumes.setup(manager, settings.commands, beats.silent_s)
    garbagecollector.setup(manager, settings.kinds)
    namespace.setup(manager, settings.kinds)
    tokencleaner.setup(manager)
    policystatus.setup(manager, settings.kinds)


def operator_settings(manager: Manager, settings: Settings) -> Callable[[], Operator]:
    """The server's settings with what FederationConfig `default` says over them, at any moment."""
    configs = manager.informer(FEDERATION_CONFIGS)
    base = Operator(settings.clock, stabilization_s=settings.stabilization_s)
    return lambda: effective(base, configs.get(ObjectKey("", CONFIG_NAME)))

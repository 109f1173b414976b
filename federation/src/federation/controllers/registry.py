"""All controllers of the federation, by name: what the server starts, and the simulator too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from federation.controllers import (
    defaults,
    dependencies,
    detector,
    dispatcher,
    followers,
    health,
    identities,
    membership,
    namespaces,
    placer,
    revisions,
    statuses,
)
from federation.domains.clock import FailureClock
from machinery.api.scheme import ServedKind
from machinery.controller.manager import Manager
from machinery.controllers import namespace, tokencleaner
from machinery.controllers.garbagecollector import controller as garbagecollector
from machinery.server.pki import CertificateAuthority


@dataclass(frozen=True, slots=True)
class Settings:
    """What the controllers need besides the API."""

    kinds: Sequence[ServedKind]
    """Every kind that the server stores: collected, and emptied with its namespace."""
    authority: CertificateAuthority
    """Signs the certificates of members."""
    clock: FailureClock = FailureClock()
    left: Callable[[str], None] = field(default=lambda _: None)
    """Hears of each cluster that has left."""


def setup_all(manager: Manager, settings: Settings) -> None:
    """Wire up every controller."""
    defaults.setup(manager)
    membership.setup(manager, settings.left)
    identities.setup(manager, settings.authority)
    health.setup(manager, settings.clock)
    for room in (
        detector,
        placer,
        dispatcher,
        dependencies,
        namespaces,
        followers,
        statuses,
        revisions,
    ):
        room.setup(manager)
    garbagecollector.setup(manager, settings.kinds)
    namespace.setup(manager, settings.kinds)
    tokencleaner.setup(manager)

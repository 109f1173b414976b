"""The admission of ResiliencePolicies and of the FederationConfig: what their schemas cannot say."""

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from federation.propagation import windows
from federation.propagation.admission.rollouts import GROUP, refusal
from machinery.api.fleet.resilience import Failback
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest

NO_VOLUMES = (
    "a checkpoint's command takes no snapshot: say in spec.volumes how one is made and restored"
)
NEVER_MADE = "without spec.volumes.intervalSeconds a cluster that dies has no snapshot, so nothing would ever leave it"
TOO_YOUNG = "a snapshot is made every {} s, so between two the newest would be too old, and nothing would leave a cluster that dies"


class ResilienceKinds:
    """Both have a `spec.failback`."""

    kinds: ClassVar[frozenset[tuple[str, str]]] = frozenset(
        (GROUP, kind) for kind in ("ResiliencePolicy", "FederationConfig")
    )

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        """Raises Invalid with every fault."""
        if (request.kind.group, request.kind.kind) not in self.kinds:
            return
        if request.verb not in ("create", "update") or request.subresource:
            return
        spec = request.document.get("spec") or {}
        said = msgspec.convert(spec.get("failback") or {}, Failback)
        found = list(windows.faults(said, "spec.failback"))
        if (spec.get("checkpoint") or {}).get("volumes") == "Snapshot":
            found.append(("spec.checkpoint.volumes", "Snapshot", NO_VOLUMES))
        found += _faults(spec.get("volumes"))
        if found:
            raise refusal(request.kind.kind, request.document, found)


def _faults(volumes: Document | None) -> Iterator[tuple[str, object, str]]:
    """What of a recovery point can never be kept: (field, value, why)."""
    if volumes is None:
        return
    every, oldest = volumes.get("intervalSeconds"), volumes.get("maxAgeSeconds")
    if every is None and oldest is not None:
        yield "spec.volumes.maxAgeSeconds", oldest, NEVER_MADE
    elif every is None and volumes.get("requireRecoveryPoint"):
        yield "spec.volumes.requireRecoveryPoint", True, NEVER_MADE
    elif every is not None and oldest is not None and oldest < every:
        yield "spec.volumes.maxAgeSeconds", oldest, TOO_YOUNG.format(every)

"""The admission of ResiliencePolicies and of the FederationConfig: what their schemas cannot say."""

from typing import ClassVar

import msgspec

from federation.propagation import windows
from federation.propagation.admission.rollouts import GROUP, refusal
from machinery.api.fleet.resilience import Failback
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest

NO_VOLUMES = "members have no PersistentVolumes yet, so there is nothing to snapshot: let the command save the state elsewhere"


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
        if found:
            raise refusal(request.kind.kind, request.document, found)

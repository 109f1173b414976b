"""A word of warning to who asks for more than a quota has: the workload is stored, and its decision will be refused for now.

The placer judges, exactly and for what is divided (`federation.controllers.quotas`); this only looks at the quota's status, so that
`kubectl` says at once what an Event and a condition say a moment later. A Duplicated workload is counted once.
"""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final, Protocol

from federation.propagation import interpreter, quota
from federation.propagation.templates import propagatable
from machinery.api.fleet.operations import FEDERATED_RESOURCE_QUOTAS, FederatedResourceQuota
from machinery.meta.quantity import quantity_of
from machinery.meta.resource import Document, Resource
from machinery.server.admission.interface import AdmissionRequest

WRITES: Final = ("create", "update")


class Held(Protocol):
    """The part of the server's committed objects that is looked at."""

    def list(self, resource: Resource[Any], namespace: str = "") -> Iterator[Any]: ...


class QuotaForesight:
    """Admission of workloads. `held` is None before the server runs."""

    kinds = frozenset(
        {
            ("apps", "Deployment"),
            ("apps", "StatefulSet"),
            ("batch", "Job"),
            ("", "ReplicationController"),
        }
    )

    def __init__(self, held: Callable[[], Held | None]) -> None:
        self._held = held

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        there = self._held()
        if request.verb not in WRITES or request.subresource or there is None:
            return
        quotas = list(there.list(FEDERATED_RESOURCE_QUOTAS, request.namespace))
        if quotas and propagatable(request.document):
            request.call.warnings.extend(foreseen(quotas, request.document, request.old))


def foreseen(
    quotas: list[FederatedResourceQuota], new: Document, old: Document | None
) -> Iterator[str]:
    """What the quotas will say of a workload that grows."""
    after, before = asked(new), asked(old) if old is not None else {}
    for held in quotas:
        used = _used(held)
        others = {
            name: max(value - before.get(name, 0), Fraction(0)) for name, value in used.items()
        }
        if why := quota.refusal(held, others, before, after):
            yield f"{why} The workload keeps what it has until there is room"


def asked(workload: Document) -> dict[str, Fraction]:
    """What all replicas of a template ask for."""
    count = interpreter.replicas(workload) if interpreter.is_workload(workload) else 0
    if not count:
        return {}
    required = interpreter.requirements(workload) or {}
    one = {n: quantity_of(raw).value for n, raw in (required.get("resourceRequest") or {}).items()}
    return {name: value * count for name, value in (one | {quota.PODS: Fraction(1)}).items()}


def _used(held: FederatedResourceQuota) -> Mapping[str, Fraction]:
    return {
        quota.measured(name): quantity_of(raw).value
        for name, raw in held.status.overall_used.items()
    }

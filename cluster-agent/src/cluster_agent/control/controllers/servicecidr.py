"""ServiceCIDRs: a range is Ready once it is seen, and does not go while a Service has an address of it.

The allocator takes addresses only of what is Ready and not being deleted. The range that the control plane was started with is
the ServiceCIDR `kubernetes`; who deletes it waits for ever, for the API's own Service has an address of it.
"""

import datetime as dt
import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from machinery.api.scheme import ServedKind
from machinery.client.interface import PatchType, dynamic
from machinery.controller.action import Action, Patch, RequeueAfter, Result, SetStatus
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.controllers.events import executor_for
from machinery.kit.clock import parse_time, rfc3339
from machinery.meta.resource import Document, ObjectKey, document_key

SERVICE_CIDRS = dynamic("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", False)
IP_ADDRESSES = dynamic("networking.k8s.io", "v1", "ipaddresses", "IPAddress", False)
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
DEFAULT = "kubernetes"
GRACE_S = 10.0
"""Between the deletion and the end: servers that have not heard of it may still give an address of it away."""
IN_USE = (
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new "
    "ServiceCIDR"
)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def plan(
    cidr: Document, others: Iterable[Document], addresses: Iterable[str], now: dt.datetime
) -> list[Action]:
    """Ready and held; or, when it is to go, why it does not yet, or its end."""
    key = document_key(cidr)
    held = list(cidr["metadata"].get("finalizers") or ())
    deleted = cidr["metadata"].get("deletionTimestamp")
    if not deleted:
        actions: list[Action] = []
        if FINALIZER not in held:
            patch = {"metadata": {"finalizers": [*held, FINALIZER]}}
            actions.append(Patch(SERVICE_CIDRS, key, patch, PatchType.MERGE))
        return [*actions, *_condition(cidr, "True", "", "Kubernetes Service CIDR is ready", now)]
    if FINALIZER not in held:
        return []
    if in_use(cidr, others, addresses):
        return _condition(cidr, "False", "Terminating", IN_USE, now)
    left = GRACE_S - (now - parse_time(deleted)).total_seconds()
    if left > 0:
        return [RequeueAfter(left)]
    rest = [one for one in held if one != FINALIZER]
    return [Patch(SERVICE_CIDRS, key, {"metadata": {"finalizers": rest}}, PatchType.MERGE)]


def in_use(cidr: Document, others: Iterable[Document], addresses: Iterable[str]) -> bool:
    """Whether an address lies in this range and in none that stays."""
    own = networks(cidr)
    kept = [
        network
        for other in others
        if not other["metadata"].get("deletionTimestamp")
        for network in networks(other)
    ]
    for text in addresses:
        address = ipaddress.ip_address(text)
        if _within(address, own) and not _within(address, kept):
            return True
    return False


def networks(cidr: Document) -> list[Network]:
    """Its ranges."""
    return [
        ipaddress.ip_network(text, strict=False)
        for text in (cidr.get("spec") or {}).get("cidrs") or ()
    ]


def _within(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, ranges: Sequence[Network]
) -> bool:
    return any(address.version == one.version and address in one for one in ranges)


def _condition(
    cidr: Document, status: str, reason: str, message: str, now: dt.datetime
) -> list[Action]:
    """Written only where it says something new."""
    conditions = (cidr.get("status") or {}).get("conditions") or []
    wanted = {"type": "Ready", "status": status, "reason": reason, "message": message}
    present: Mapping[str, object] = next((c for c in conditions if c.get("type") == "Ready"), {})
    if all(present.get(key) == value for key, value in wanted.items()):
        return []
    turned = present.get("status") != status
    since = rfc3339(now) if turned else present.get("lastTransitionTime")
    fresh = {**wanted, "lastTransitionTime": since}
    rest = [c for c in conditions if c.get("type") != "Ready"]
    return [SetStatus(SERVICE_CIDRS, document_key(cidr), {"conditions": [*rest, fresh]})]


class ServiceCIDRReconciler:
    """Read, plan, act."""

    def __init__(self, manager: Manager, executor: Executor) -> None:
        self._clock, self._executor = manager.clock, executor
        self._cidrs = manager.informer(SERVICE_CIDRS)
        self._addresses = manager.informer(IP_ADDRESSES)

    def going(self, _address: Document) -> list[ObjectKey]:
        """Those whose end an address may hold up."""
        return [
            document_key(cidr)
            for cidr in self._cidrs.list()
            if cidr["metadata"].get("deletionTimestamp")
        ]

    def all(self, _cidr: Document) -> list[ObjectKey]:
        """One that comes may let another go."""
        return [document_key(cidr) for cidr in self._cidrs.list()]

    async def reconcile(self, key: ObjectKey) -> Result:
        cidr = self._cidrs.get(key)
        if cidr is None:
            return Result()
        others = [other for other in self._cidrs.list() if document_key(other) != key]
        addresses = [one["metadata"]["name"] for one in self._addresses.list()]
        return await self._executor.apply(plan(cidr, others, addresses, self._clock.now()))


def default_cidr(cidrs: str) -> Document:
    """The ServiceCIDR of the ranges that a control plane is started with: `10.96.0.0/16`, or two by a comma."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": DEFAULT},
        "spec": {"cidrs": [text.strip() for text in cidrs.split(",") if text.strip()]},
    }


def setup(manager: Manager, kinds: Iterable[ServedKind]) -> None:
    """Watch ServiceCIDRs and addresses, where they are served."""
    if not any(kind.group_kind == ("networking.k8s.io", "ServiceCIDR") for kind in kinds):
        return
    executor = executor_for(manager, "service-cidr-controller")
    reconciler = ServiceCIDRReconciler(manager, executor)
    builder = manager.controller("service-cidr", reconciler, workers=1)
    builder.watches(SERVICE_CIDRS, reconciler.all)
    builder.watches(IP_ADDRESSES, reconciler.going)

"""IPAddresses and ServiceCIDRs: claims of addresses that users see, and ranges that users add.

A claim is written as the object that upstream's allocator makes, so that `kubectl get ipaddresses` says who has which address,
and one that somebody makes by hand keeps an address out of use. A ServiceCIDR counts once it is Ready and until it is being
deleted (`cluster_agent.control.controllers.servicecidr` says so); no range that is part of another one is asked twice.
"""

from collections.abc import Iterable, Sequence

from machinery.api.scheme import ServedKind
from machinery.kit.clock import Clock, rfc3339
from machinery.kit.ids import Ids
from machinery.meta.resource import Document, ObjectKey
from machinery.server import codec
from machinery.server.cache import KindCache
from machinery.server.services.claims import plain
from machinery.server.services.ranges import AddressRange

FAMILY = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"


class AddressObjects:
    """The two kinds of one server."""

    def __init__(self, addresses: ServedKind, cidrs: KindCache, clock: Clock, ids: Ids) -> None:
        self._addresses, self._cidrs, self._clock, self._ids = addresses, cidrs, clock, ids
        self.root = codec.storage_key(addresses, "", "")
        self.everything = [AddressRange.parse(text, self.root) for text in ("0.0.0.0/0", "::/0")]
        """Whose claims are objects: an address has one also while its range is being taken away."""
        self._known: tuple[tuple[tuple[str, int], ...], tuple[AddressRange, ...]] = ((), ())

    def claim(self, key: str, owner: ObjectKey) -> bytes:
        """The claim of a value: an IPAddress, where it is an address."""
        if not key.startswith(self.root):
            return plain(key, owner)
        name = key.removeprefix(self.root)
        family = "IPv6" if ":" in name else "IPv4"
        document = {
            "metadata": {
                "name": name,
                "uid": self._ids.uid(),
                "creationTimestamp": rfc3339(self._clock.now()),
                "labels": {FAMILY: family, MANAGED_BY: ALLOCATOR},
            },
            "spec": {
                "parentRef": {
                    "resource": "services", "namespace": owner.namespace, "name": owner.name,
                },
            },
        }  # fmt: skip
        return codec.encode(self._addresses, document)

    def ranges(self, own: Sequence[AddressRange]) -> tuple[AddressRange, ...]:
        """What the ServiceCIDRs add to the configured ranges."""
        entries = [self._cidrs.entries[key] for key in self._cidrs.ordered()]
        mark = tuple((entry.name, entry.revision) for entry in entries)
        if mark != self._known[0]:
            documents = (entry.document() for entry in entries)
            self._known = (mark, added(documents, own, self.root))
        return self._known[1]


def added(
    documents: Iterable[Document], own: Sequence[AddressRange], root: str
) -> tuple[AddressRange, ...]:
    """The ranges of those that are ready, but for what is in one that is known already; in families that the cluster has."""
    found: list[AddressRange] = []
    families = {held.family for held in own}
    for document in documents:
        if not is_ready(document):
            continue
        for text in (document.get("spec") or {}).get("cidrs") or ():
            try:
                held = AddressRange.parse(text, root)
            except ValueError:
                continue  # too small to choose from
            known = any(covers(other, held) for other in (*own, *found))
            if held.family in families and not known:
                found.append(held)
    return tuple(found)


def is_ready(cidr: Document) -> bool:
    """Whether addresses may be taken of it."""
    if cidr["metadata"].get("deletionTimestamp"):
        return False
    conditions = (cidr.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def covers(outer: AddressRange, inner: AddressRange) -> bool:
    """Whether every address of one is in the other."""
    if outer.family != inner.family:
        return False
    return outer.holds(inner.network[0]) and outer.holds(inner.network[-1])

"""Views of group coordination.k8s.io: Lease."""

import datetime as dt

from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import Resource


class LeaseSpec(View):
    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: dt.datetime | None = None
    renew_time: dt.datetime | None = None
    lease_transitions: int = 0


class Lease(Object):
    spec: LeaseSpec = LeaseSpec()


LEASES: Resource[Lease] = Resource("coordination.k8s.io", "v1", "leases", "Lease", True, Lease)

"""Deletion protection of a namespace's contents.

An object that is labelled so cannot be deleted (`admission.plugin`, as Karmada has it). A namespace that holds such an object cannot
either: deleting it would take its contents away in every member, long before anybody asked for them here.
"""

from collections.abc import Callable
from typing import Final, Protocol

from federation.propagation.admission.plugin import PROTECTED, denied
from machinery.api.fleet.cluster import MANAGED_LABEL as MIRROR_LABEL
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.committed import Labelled
from machinery.server.user import LOOPBACK

PROTECTION: Final = "resourcedeletionprotection.karmada.io"
NAMED_MAX: Final = 10
"""Protected objects that a message names."""


class Contents(Protocol):
    """The part of the server's committed objects that is looked at."""

    def labelled(self, namespace: str, label: str, value: str) -> list[Labelled]: ...


def protected_in(namespace: str, there: Contents) -> list[str]:
    """What is protected in the namespace, as `kinds.group/name`; members' objects that are only shown here are not."""
    return sorted(
        f"{one.kind.group_resource}/{one.name}"
        for one in there.labelled(namespace, PROTECTED, "Always")
        if MIRROR_LABEL not in one.labels
    )


class ProtectedContents:
    """Admission of the deletion of namespaces. `contents` is None before the server runs."""

    kinds = frozenset({("", "Namespace")})

    def __init__(self, contents: Callable[[], Contents | None]) -> None:
        self._contents = contents

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        there = self._contents()
        if request.verb != "delete" or there is None or request.call.user.name == LOOPBACK.name:
            return
        inside = protected_in(request.name, there)
        if not inside:
            return
        more = f" and {len(inside) - NAMED_MAX} more" if len(inside) > NAMED_MAX else ""
        raise denied(
            PROTECTION,
            f"This namespace holds protected resources ({', '.join(inside[:NAMED_MAX])}{more}), "
            f"please make sure to remove the label: {PROTECTED}",
        )

"""A kubelet may write one thing into a PersistentVolume: that the folder of a deleted one that it made is no more.

For servers whose nodes make volumes (`machinery.api.local_volumes`).
"""

from typing import ClassVar

from machinery.api.local_volumes import node_of, waits_for_node, without_finalizer
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, Kinds, refuse

_CHANGING = ("managedFields", "resourceVersion", "finalizers")


class NodeVolumes:
    """Refuses nodes everything else."""

    kinds: ClassVar[Kinds] = frozenset({("", "PersistentVolume")})

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        node = request.call.user.node
        if not node:
            return
        old = request.old
        if request.verb == "update" and not request.subresource and old is not None:
            mine = node_of(old) == node and waits_for_node(old)
            if mine and _is_let_go(old, request.document):
                return
        raise refuse(
            request,
            f'node "{node}" can only take its finalizer from deleted local volumes of its own',
        )


def _is_let_go(old: Document, new: Document) -> bool:
    """Whether the finalizer is all that has changed."""
    before, after = _rest(old), _rest(new)
    kept = list(new["metadata"].get("finalizers") or ())
    return before == after and kept == without_finalizer(old)


def _rest(document: Document) -> Document:
    metadata = {k: v for k, v in document["metadata"].items() if k not in _CHANGING}
    return {**document, "metadata": metadata}

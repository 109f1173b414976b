"""Grants of mode consistency, handed on: what the federation lets run here is told to the pods, in three steps.

    prepare   before a heartbeat: which word stands on each node's Lease, which Works may run (asked of the federation)
    a heartbeat is accepted
    confirm   after it: the word goes onto the pods of those Works

So every grant is older than a heartbeat that the federation received, and the federation knows how long to wait after
the last one. While it wants an inventory, and for Works that it has withheld, nothing is granted.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from machinery.api.coordination import LEASES, Lease
from machinery.api.core import PODS, Pod
from machinery.api.fleet.cluster import INVENTORY_WANTED, execution_namespace
from machinery.api.fleet.resilience import (
    EPOCH,
    FENCED,
    GRANT,
    GRANT_SECONDS,
    GRANT_WORK,
    WITHHELD,
)
from machinery.api.fleet.work import WORK_DOCUMENTS
from machinery.client.informer import Informer
from machinery.client.interface import Client, ListOptions
from machinery.kit.clock import rfc3339_micro
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

NODE_LEASES = "kube-node-lease"
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was true before the heartbeat."""

    words: Mapping[str, str]
    """Node -> what its Lease says."""
    epochs: Mapping[str, str]
    """Work -> the epoch that may run."""


def fenced(pod: Pod) -> bool:
    """Whether the pod needs grants."""
    return GRANT_SECONDS in pod.metadata.annotations and pod.status.phase not in ENDED


def allowed(works: list[Document]) -> dict[str, str]:
    """Epochs of the Works that may run."""
    found: dict[str, str] = {}
    for work in works:
        metadata = work["metadata"]
        annotations = metadata.get("annotations") or {}
        if annotations.get(WITHHELD) != "true" and not metadata.get("deletionTimestamp"):
            found[metadata["name"]] = annotations.get(EPOCH, "")
    return found


def due(pods: list[Pod], prepared: Prepared) -> list[tuple[Pod, str]]:
    """Pods and their new words. Pure."""
    granted: list[tuple[Pod, str]] = []
    for pod in pods:
        annotations = pod.metadata.annotations
        word = prepared.words.get(pod.spec.node_name, "")
        epoch = prepared.epochs.get(annotations.get(GRANT_WORK, ""))
        if not word or not fenced(pod) or epoch is None or epoch != annotations.get(EPOCH):
            continue
        if annotations.get(GRANT) != word:
            granted.append((pod, word))
    return granted


class Grants:
    """`prepare` and `confirm` stand around every heartbeat."""

    def __init__(self, federation: Client, member: Client, cluster: str) -> None:
        self._federation, self._member, self._cluster = federation, member, cluster
        self._pods: Informer[Pod] | None = None

    def watch(self, pods: Informer[Pod]) -> None:
        """From now on: the member's pods."""
        self._pods = pods

    async def prepare(self) -> Prepared | None:
        """None when no pod needs a grant. Raises StatusError, ConnectionError."""
        if self._pods is None or not any(fenced(p) for p in self._pods.list()):
            return None
        leases = await self._member.list(LEASES, NODE_LEASES)
        words = {
            lease.metadata.name: rfc3339_micro(lease.spec.renew_time)
            for lease in leases.items
            if lease.spec.renew_time is not None
        }
        options = ListOptions(label_selector=f"{FENCED}=true")
        works = await self._federation.list(
            WORK_DOCUMENTS, execution_namespace(self._cluster), options
        )
        return Prepared(words, allowed(list(works.items)))

    async def confirm(self, prepared: Prepared, lease: Lease, answered: str) -> None:
        """The heartbeat was accepted; `answered` is the last inventory."""
        assert self._pods is not None
        word = lease.metadata.annotations.get(INVENTORY_WANTED, "")
        if word and word != answered:
            return
        for pod, grant in due(self._pods.list(), prepared):
            mark = {"metadata": {"uid": pod.metadata.uid, "annotations": {GRANT: grant}}}
            try:
                key = ObjectKey(pod.metadata.namespace, pod.metadata.name)
                await self._member.patch(PODS, key, mark)
            except NotFound:
                continue
            except (StatusError, ConnectionError) as error:
                log.info("grant not written", extra={"pod": str(pod.key), "error": str(error)})

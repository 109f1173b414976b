"""Which ReplicaSet is the new one, and what is written on it.

A ReplicaSet is the new one when its template is the Deployment's, the hash label left aside. Its annotations carry the
revision (and those it had before a rollback), the size wanted and the size allowed, and copies of the Deployment's own.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster_agent.control.controllers.deployment.limits import max_surge
from cluster_agent.control.controllers.workloads import (
    Deployment,
    ReplicaSet,
    selector_document,
    template_labels,
    with_template_labels,
)
from machinery.meta.objectmeta import owner_reference
from machinery.meta.resource import Document

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
HISTORY_CHARS_MAX = 2000

_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
    }
)
_HASH_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_NAME_CHARS_MAX = 253


def creation_order(rs: ReplicaSet) -> tuple[float, str]:
    """Oldest first, then by name."""
    created = rs.metadata.creation_timestamp
    return (created.timestamp() if created else 0.0, rs.metadata.name)


def revision_of(rs: ReplicaSet) -> int:
    """The revision it carries; 0 without one."""
    return _integer(rs.metadata.annotations.get(REVISION, "")) or 0


def find_new(deployment: Deployment, replica_sets: Iterable[ReplicaSet]) -> ReplicaSet | None:
    """The oldest ReplicaSet with the Deployment's template."""
    wanted = _comparable(deployment.spec.template)
    for rs in sorted(replica_sets, key=creation_order):
        if _comparable(rs.spec.template) == wanted:
            return rs
    return None


def template_hash(template: Mapping[str, Any], collision_count: int | None) -> str:
    """A short name for the template; the collision count gives another one when the name is taken."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    if collision_count is not None:
        text += f"\n{collision_count}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    letters = []
    for _ in range(10):
        number, index = divmod(number, len(_HASH_ALPHABET))
        letters.append(_HASH_ALPHABET[index])
    return "".join(letters)


def new_replica_set(deployment: Deployment, old: Sequence[ReplicaSet], replicas: int) -> Document:
    """The ReplicaSet of the Deployment's present template, in wire shape."""
    template = deployment.spec.template
    digest = template_hash(template, deployment.status.collision_count)
    labels = {**template_labels(template), HASH_LABEL: digest}
    head = deployment.metadata.name[: _NAME_CHARS_MAX - len(digest) - 1]
    annotations = _copied(deployment) | {REVISION: str(_next_revision(old))}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{head}-{digest}",
            "namespace": deployment.metadata.namespace,
            "labels": labels,
            "annotations": annotations | size_annotations(deployment),
            "ownerReferences": [owner_reference(deployment_ref(deployment))],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": selector_document(deployment.spec.selector, {HASH_LABEL: digest}),
            "template": with_template_labels(template, labels),
        },
    }


def deployment_ref(deployment: Deployment) -> Deployment:
    """The Deployment with its type filled in: lists leave it out."""
    return Deployment(api_version="apps/v1", kind="Deployment", metadata=deployment.metadata)


def size_annotations(deployment: Deployment) -> dict[str, str]:
    """What a ReplicaSet must know of the Deployment's size, for proportional scaling."""
    replicas = deployment.spec.replicas
    return {
        DESIRED_REPLICAS: str(replicas),
        MAX_REPLICAS: str(replicas + max_surge(deployment)),
    }


def desired_annotation(rs: ReplicaSet) -> int | None:
    """The Deployment's size when this ReplicaSet was last sized."""
    return _integer(rs.metadata.annotations.get(DESIRED_REPLICAS, ""))


def max_annotation(rs: ReplicaSet) -> int | None:
    """The most pods that were allowed when this ReplicaSet was last sized."""
    return _integer(rs.metadata.annotations.get(MAX_REPLICAS, ""))


def annotation_changes(
    deployment: Deployment, rs: ReplicaSet, old: Sequence[ReplicaSet]
) -> dict[str, str]:
    """What the existing new ReplicaSet still lacks: the Deployment's annotations and the highest revision."""
    have = rs.metadata.annotations
    changes = {k: v for k, v in _copied(deployment).items() if have.get(k) != v}
    before = have.get(REVISION, "")
    number = _integer(before)
    if number is None and before:
        return changes
    revision = _next_revision(old)
    if (number or 0) < revision:
        changes[REVISION] = str(revision)
        if REVISION in have:
            changes |= _history(have.get(REVISION_HISTORY, ""), before)
    return changes


def _history(history: str, revision: str) -> dict[str, str]:
    """The revisions it had before, the oldest forgotten where they grow too long."""
    if not history:
        return {REVISION_HISTORY: revision}
    kept = history.split(",")
    length = len(history) + len(revision) + 1
    while length > HISTORY_CHARS_MAX and kept:
        length -= len(kept.pop(0)) + 1
    if length > HISTORY_CHARS_MAX:
        return {}
    return {REVISION_HISTORY: ",".join([*kept, revision])}


def _next_revision(old: Sequence[ReplicaSet]) -> int:
    return max((revision_of(rs) for rs in old), default=0) + 1


def _copied(deployment: Deployment) -> dict[str, str]:
    return {k: v for k, v in deployment.metadata.annotations.items() if k not in _NOT_COPIED}


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _comparable(template: Mapping[str, Any]) -> Document:
    """The template without the hash label, and without what is empty in its metadata."""
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if v}
    labels = {k: v for k, v in (metadata.pop("labels", None) or {}).items() if k != HASH_LABEL}
    metadata.pop("creationTimestamp", None)
    return {"metadata": metadata, "labels": labels, "spec": template.get("spec")}

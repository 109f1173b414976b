"""Pod templates by hash, out of what records a workload's revisions: ReplicaSets, or ControllerRevisions. Pure."""

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from machinery.api.fleet.rollouts import STRATEGY, TEMPLATE_HASH
from machinery.kit.ids import SUFFIX_ALPHABET
from machinery.meta.resource import Document, Resource

HISTORY: Resource[Document] = Resource("apps", "v1", "replicasets", "ReplicaSet", True, dict)
REVISIONS: Resource[Document] = Resource(
    "apps", "v1", "controllerrevisions", "ControllerRevision", True, dict
)
STAGED = frozenset(("apps/v1", kind) for kind in ("Deployment", "StatefulSet", "DaemonSet"))
"""The kinds whose changes can be staged."""
BY_OWNER = "owner"
"""Index of records by the uid of their workload."""
HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


def template_hash(template: Document) -> str:
    """A short name of a pod template, of the letters of generated names."""
    digest = hashlib.sha256(orjson.dumps(template, option=orjson.OPT_SORT_KEYS)).digest()
    return "".join(SUFFIX_ALPHABET[byte % len(SUFFIX_ALPHABET)] for byte in digest[:10])


def hash_of(workload: Document) -> str:
    """The hash of the workload's pod template."""
    return template_hash(workload["spec"]["template"])


def strategy_of(workload: Document | None) -> str:
    """The strategy by which the workload is updated; empty: everywhere at once."""
    if workload is None or (workload["apiVersion"], workload["kind"]) not in STAGED:
        return ""
    return str((workload["metadata"].get("annotations") or {}).get(STRATEGY, ""))


def owner_uid(record: Document) -> list[str]:
    """For the index."""
    owners = record["metadata"].get("ownerReferences") or ()
    return [o["uid"] for o in owners if o.get("controller")]


def recorded(records: Iterable[Document]) -> dict[str, Document]:
    """Pod templates by hash, as the user wrote them: without the record's own label."""
    found: dict[str, Document] = {}
    for record in records:
        digest = (record["metadata"].get("labels") or {}).get(HASH_LABEL)
        if digest and (template := template_in(record)):
            found[digest] = template
    return found


def template_in(record: Document) -> Document:
    """The pod template that a record keeps; empty where somebody else made it, of anything."""
    if "data" in record:
        found: Any = record["data"]
        for name in ("spec", "template"):
            found = found.get(name) if isinstance(found, dict) else None
        own = isinstance(found, dict) and isinstance(found.get("spec"), dict)
        return {k: v for k, v in found.items() if k != "$patch"} if own else {}
    template: Document = record["spec"]["template"]
    labels = {k: v for k, v in template["metadata"]["labels"].items() if k != HASH_LABEL}
    return template | {"metadata": template["metadata"] | {"labels": labels}}


def by_revision(records: Iterable[Document]) -> dict[str, str]:
    """Hashes by the revision that `kubectl rollout history` shows."""
    found = {_number(record): record for record in records}
    return {
        number: record["metadata"]["labels"][HASH_LABEL]
        for number, record in found.items()
        if number and HASH_LABEL in (record["metadata"].get("labels") or {})
    }


def _number(record: Document) -> str:
    if "data" in record:
        return str(record.get("revision") or "")
    return str((record["metadata"].get("annotations") or {}).get(REVISION, ""))


def carrying(workload: Document, digest: str, template: Document) -> Document:
    """The workload with another pod template, marked with its hash; the input stays as it is."""
    metadata = workload["metadata"]
    annotations = (metadata.get("annotations") or {}) | {TEMPLATE_HASH: digest}
    return workload | {
        "metadata": metadata | {"annotations": annotations},
        "spec": workload["spec"] | {"template": template},
    }

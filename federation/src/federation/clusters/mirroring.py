"""A member's object as it is shown at the federation. Pure.

`web-abc` of cluster alpha is shown as `web-abc.alpha`, labelled `ubernetes.io/cluster: alpha`. Owner references become an
annotation, since the owner is an object of another cluster and collection must not look for it here; what refers to a
mirrored object by name (a pod's node, an Event's object) refers to the mirror.
"""

import hashlib
from collections.abc import Iterable

import orjson

from machinery.api.fleet.cluster import MANAGED_LABEL
from machinery.client.interface import dynamic
from machinery.meta.resource import Document, ObjectKey, Resource

PODS = dynamic("", "v1", "pods", "Pod", True)
NODES = dynamic("", "v1", "nodes", "Node", False)
EVENTS = dynamic("", "v1", "events", "Event", True)
REPLICASETS = dynamic("apps", "v1", "replicasets", "ReplicaSet", True)
MIRRORED: tuple[Resource[Document], ...] = (NODES, PODS, REPLICASETS, EVENTS)
MIRRORED_KINDS = frozenset(resource.kind for resource in MIRRORED)

NAME_MAX = 253
OWNERS = "ubernetes.io/owner-references"
SOURCE_NAME = "ubernetes.io/source-name"
SOURCE_VERSION = "ubernetes.io/source-resource-version"


def mirror_name(name: str, cluster: str) -> str:
    """`<name>.<cluster>`; a name that would be too long ends in a hash instead of its tail."""
    full = f"{name}.{cluster}"
    if len(full) <= NAME_MAX:
        return full
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    kept = NAME_MAX - len(cluster) - len(digest) - 2
    return f"{name[:kept]}-{digest}.{cluster}"


def mirror_key(key: ObjectKey, cluster: str) -> ObjectKey:
    """Where the mirror of an object stands."""
    return ObjectKey(key.namespace, mirror_name(key.name, cluster))


def mirrored(document: Document, cluster: str) -> Document:
    """The mirror; the input is left as it is."""
    source = document["metadata"]
    metadata = {
        k: v
        for k, v in source.items()
        if k not in ("ownerReferences", "managedFields", "resourceVersion", "finalizers")
    }
    metadata["name"] = mirror_name(source["name"], cluster)
    metadata["labels"] = (source.get("labels") or {}) | {MANAGED_LABEL: cluster}
    annotations = (source.get("annotations") or {}) | {
        SOURCE_NAME: source["name"],
        SOURCE_VERSION: source.get("resourceVersion", ""),
    }
    if source.get("ownerReferences"):
        annotations[OWNERS] = orjson.dumps(source["ownerReferences"]).decode()
    metadata["annotations"] = annotations
    result = document | {"metadata": metadata}
    if document["kind"] == "Pod":
        spec = document["spec"]
        if spec.get("nodeName"):
            result["spec"] = spec | {"nodeName": mirror_name(spec["nodeName"], cluster)}
    elif document["kind"] == "Event":
        result["involvedObject"] = _involved(document["involvedObject"], cluster)
    return result


def _involved(reference: Document, cluster: str) -> Document:
    if reference.get("kind") not in MIRRORED_KINDS or not reference.get("name"):
        return reference
    return reference | {"name": mirror_name(reference["name"], cluster)}


def source_of(mirror: Document) -> tuple[str, str] | None:
    """(cluster, name there) of a mirror; None for an object of the federation's own."""
    metadata = mirror["metadata"]
    cluster = (metadata.get("labels") or {}).get(MANAGED_LABEL)
    name = (metadata.get("annotations") or {}).get(SOURCE_NAME)
    return (cluster, name) if cluster and name else None


def away_warning(members: Iterable[str], connected: Iterable[str]) -> tuple[str, ...]:
    """What a list of mirrors must say when a member is away: its objects are as they were last seen."""
    away = sorted(set(members) - set(connected))
    if not away:
        return ()
    names = ", ".join(away)
    return (f"not connected: {names}; objects of these clusters are shown as they were last seen",)

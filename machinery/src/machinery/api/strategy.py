"""What a write may touch: which endpoint owns which part of an object, and what the server keeps to itself.

The main endpoint ignores status, the status endpoint ignores spec, ephemeralcontainers and resize take their few fields; the
identity of an object (uid, creationTimestamp, deletionTimestamp) is never a client's. `metadata.generation` counts changes of
what is wanted, so that a controller can say which wish it has seen. Pure; dicts in, dicts out by path-copy.
"""

from typing import Any, Final

from machinery.api import data_defaults, policy_kinds, services, template_strategy
from machinery.api.qos import qos_class
from machinery.api.scheme import ServedKind
from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.meta.resource import Document

_GENERATED: Final = frozenset(
    {
        ("", "Pod"),
        ("apps", "Deployment"),
        ("apps", "ReplicaSet"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("discovery.k8s.io", "EndpointSlice"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("", "PodTemplate"),
        ("networking.k8s.io", "IngressClass"),
        MUTATING.group_kind,
        VALIDATING.group_kind,
        *policy_kinds.GROUP_KINDS,
        *template_strategy.GENERATED,
    }
)
_CREATED_BY_UPDATE: Final = frozenset(
    {
        ("", "Event"), ("events.k8s.io", "Event"), ("coordination.k8s.io", "Lease"),
        ("rbac.authorization.k8s.io", "Role"), ("rbac.authorization.k8s.io", "ClusterRole"),
        ("rbac.authorization.k8s.io", "RoleBinding"),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("scheduling.k8s.io", "PriorityClass"), ("", "Service"), ("", "Endpoints"),
    }
)  # fmt: skip
_CONDITIONAL_ONLY: Final = frozenset(
    {
        ("coordination.k8s.io", "Lease"),
        ("node.k8s.io", "RuntimeClass"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        MUTATING.group_kind,
        VALIDATING.group_kind,
        *policy_kinds.GROUP_KINDS,
    }
)
_STATUS_MAY_RELABEL: Final = frozenset(
    {("", "Pod"), ("", "Node"), ("", "Namespace"), ("apps", "ReplicaSet")}
)
_SERVER_SET: Final = frozenset(
    {
        "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
        "deletionGracePeriodSeconds", "selfLink",
    }
)  # fmt: skip
_STAMP: Final = ("apiVersion", "kind", "metadata", "status")
_APPROVALS: Final = ("Approved", "Denied")


def creates_on_update(kind: ServedKind) -> bool:
    """Whether PUT of an absent object creates it (Leases, Events, Services, Endpoints, RBAC and PriorityClasses do)."""
    return kind.group_kind in _CREATED_BY_UPDATE


def allows_unconditional_update(kind: ServedKind) -> bool:
    """Whether PUT may leave out metadata.resourceVersion."""
    return not kind.custom and kind.group_kind not in _CONDITIONAL_ONLY


def _without(document: Document, part: str, keys: tuple[str, ...]) -> Document:
    inner = document.get(part)
    if not inner or not any(key in inner for key in keys):
        return document
    return {**document, part: {k: v for k, v in inner.items() if k not in keys}}


def _drop_disabled(kind: ServedKind, document: Document) -> Document:
    """Fields of features that are off in the served version are accepted and dropped."""
    if kind.group_kind == ("coordination.k8s.io", "Lease"):
        return _without(document, "spec", ("strategy", "preferredHolder"))
    return document


def prepare_create(kind: ServedKind, document: Document) -> Document:
    """A new object as it enters: without what the server sets, without a status of the client's, generation 1."""
    metadata = {k: v for k, v in (document.get("metadata") or {}).items() if k not in _SERVER_SET}
    if kind.custom or kind.group_kind in _GENERATED:
        metadata["generation"] = 1
    out = _drop_disabled(kind, {**document, "metadata": metadata})
    begin = _ON_CREATE.get(kind.group_kind)
    if begin is not None:
        return begin(out)
    if kind.has_status and kind.custom:
        out.pop("status", None)
    return out


def stamped(kind: ServedKind, document: Document) -> Document:
    """A new object that has its uid, with what follows from it."""
    if kind.group_kind == ("batch", "Job"):
        return template_strategy.with_job_selector(document)
    return document


def prepare_update(kind: ServedKind, new: Document, old: Document, subresource: str) -> Document:
    """The object that a write through this endpoint leads to, before defaults of admission and validation."""
    metadata = _kept_metadata(kind, new, old)
    out = _drop_disabled(kind, {**new, "metadata": metadata})
    if subresource == "status":
        out = _status_only(kind, out, old)
    elif subresource in ("ephemeralcontainers", "resize"):
        out = _pod_part(out, old, subresource)
    elif subresource == "approval":
        out = {**old, "metadata": metadata, "status": _approved(out, old)}
    elif subresource == "finalize":
        out = {**old, "metadata": metadata, "spec": new.get("spec") or {}}
    else:
        out = _main(kind, out, old)
    return _generation(kind, out, old)


# --------------------------------------------------------------------------------------------------------------- create
def _create_pod(document: Document) -> Document:
    quality = qos_class(document.get("spec") or {})
    return {**document, "status": {"phase": "Pending", "qosClass": quality}}


def _create_unseen(document: Document) -> Document:
    """Its controller has not looked at it yet."""
    return {**document, "status": {}}


def _create_replica_set(document: Document) -> Document:
    return {**document, "status": {"replicas": 0}}


def _create_namespace(document: Document) -> Document:
    """The finalizer `kubernetes` is what lets the namespace controller empty it before it goes."""
    spec = dict(document.get("spec") or {})
    finalizers = list(spec.get("finalizers") or ())
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")
    return {**document, "spec": {**spec, "finalizers": finalizers}, "status": {"phase": "Active"}}


def _create_definition(document: Document) -> Document:
    """Nobody's names are accepted yet; the storage version counts as stored from the beginning."""
    status: Document = {
        "conditions": None,
        "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": [],
    }
    return _with_stored_version({**document, "status": status})


def _with_stored_version(document: Document) -> Document:
    """`status.storedVersions` with the storage version."""
    status = document.get("status") or {}
    held = list(status.get("storedVersions") or ())
    versions = (document.get("spec") or {}).get("versions") or ()
    storage = next((one.get("name", "") for one in versions if one.get("storage")), "")
    if storage and storage not in held:
        held.append(storage)
    return {**document, "status": {**status, "storedVersions": held}}


_ON_CREATE: Final = {
    ("", "Pod"): _create_pod,
    ("", "Namespace"): _create_namespace,
    ("apps", "Deployment"): _create_unseen,
    ("apps", "ReplicaSet"): _create_replica_set,
    ("certificates.k8s.io", "CertificateSigningRequest"): _create_unseen,
    ("", "Service"): services.prepare_create,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _create_definition,
    ("", "PersistentVolume"): data_defaults.create_volume,
    ("", "ResourceQuota"): _create_unseen,
    ("storage.k8s.io", "VolumeAttachment"): data_defaults.create_volume_attachment,
    policy_kinds.VALIDATING_POLICY.group_kind: _create_unseen,
    **template_strategy.ON_CREATE,
}


# --------------------------------------------------------------------------------------------------------------- update
def _kept_metadata(kind: ServedKind, new: Document, old: Document) -> Document:
    """Identity stays as it was; another uid, or a deletionTimestamp out of nothing, is left for validation to refuse."""
    metadata, before = dict(new.get("metadata") or {}), old.get("metadata") or {}
    metadata.pop("selfLink", None)
    for key in ("creationTimestamp", "deletionTimestamp"):
        if key in before:
            metadata[key] = before[key]
    for key in ("uid", "deletionGracePeriodSeconds"):
        if key in before:
            metadata.setdefault(key, before[key])
    for key in ("name", "namespace"):
        if key in before:
            metadata[key] = before[key]
    if "generation" in before:
        metadata["generation"] = before["generation"]
    else:
        metadata.pop("generation", None)
    return metadata


def _with_status_of(new: Document, old: Document) -> Document:
    out = {key: value for key, value in new.items() if key != "status"}
    if "status" in old:
        out["status"] = old["status"]
    return out


def _main(kind: ServedKind, new: Document, old: Document) -> Document:
    if kind.group_kind == ("", "Namespace"):
        spec = {**(new.get("spec") or {}), **_only(old.get("spec"), "finalizers")}
        if "finalizers" not in (old.get("spec") or {}):
            spec.pop("finalizers", None)
        return {**_with_status_of(new, old), "spec": spec}
    if kind.group_kind == ("", "Node"):
        spec = {k: v for k, v in (new.get("spec") or {}).items() if k != "configSource"}
        return {**_with_status_of(new, old), "spec": spec | _only(old.get("spec"), "configSource")}
    if kind.group_kind == ("certificates.k8s.io", "CertificateSigningRequest"):
        return {**_with_status_of(new, old), "spec": old.get("spec")}
    if kind.group_kind == ("apiextensions.k8s.io", "CustomResourceDefinition"):
        return _with_stored_version(_with_status_of(new, old))
    if kind.group_kind == ("apps", "DaemonSet"):
        return template_strategy.update_daemon_set(_with_status_of(new, old), old)
    return _with_status_of(new, old) if kind.has_status else new


def _only(spec: Document | None, key: str) -> Document:
    return {key: spec[key]} if spec and key in spec else {}


def _status_only(kind: ServedKind, new: Document, old: Document) -> Document:
    """Everything but status is the old object's; the oldest kinds let labels and annotations through."""
    metadata = new["metadata"]
    before = old.get("metadata") or {}
    if kind.group_kind in _STATUS_MAY_RELABEL:
        metadata = {k: v for k, v in metadata.items() if k != "ownerReferences"} | _only(
            before, "ownerReferences"
        )
    elif kind.custom:
        metadata = {
            **before,
            **_only(metadata, "resourceVersion"),
            **_only(metadata, "managedFields"),
        }
    elif kind.group_kind == ("apps", "Deployment"):
        metadata = {k: v for k, v in metadata.items() if k != "labels"} | _only(before, "labels")
    out = {**old, "metadata": metadata}
    status = new.get("status")
    if kind.group_kind == ("certificates.k8s.io", "CertificateSigningRequest"):
        status = _issued(status or {}, old.get("status") or {})
    if kind.group_kind == ("", "Pod") and status is not None and "qosClass" not in status:
        status = {**status, **_only(old.get("status"), "qosClass")}
    if status is None:
        out.pop("status", None)
    else:
        out["status"] = status
    return out


def _conditions(status: Document, *, approval: bool) -> list[Document]:
    found = status.get("conditions") or ()
    return [c for c in found if (c.get("type") in _APPROVALS) is approval]


def _issued(new: Document, old: Document) -> Document:
    """The signer writes certificates and failures; who approved stays the approver's."""
    conditions = _conditions(old, approval=True) + _conditions(new, approval=False)
    rest = {k: v for k, v in new.items() if k != "conditions"}
    return {**rest, "conditions": conditions} if conditions else rest


def _approved(new: Document, old: Document) -> Document:
    """The approver writes Approved and Denied; certificate and the signer's conditions stay."""
    status, before = new.get("status") or {}, old.get("status") or {}
    conditions = status.get("conditions")
    rest = {k: v for k, v in before.items() if k != "conditions"}
    return {**rest, "conditions": conditions} if conditions else rest


def _pod_part(new: Document, old: Document, subresource: str) -> Document:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if subresource == "ephemeralcontainers":
        wanted = {k: v for k, v in before.items() if k != "ephemeralContainers"}
        merged = wanted | _only(spec, "ephemeralContainers")
        return {**old, "metadata": new["metadata"], "spec": merged}
    merged = dict(before)
    for key in ("containers", "initContainers"):
        if key in before:
            merged[key] = _resized(spec.get(key) or [], before[key])
    return {**old, "metadata": new["metadata"], "spec": merged}


def _resized(new: list[Document], old: list[Document]) -> list[Document]:
    """The old containers with the resources of the new ones; another number of them is validation's business."""
    if len(new) != len(old):
        return new
    by_name = {container.get("name"): container for container in new}
    out: list[Document] = []
    for container in old:
        other = by_name.get(container.get("name"), container)
        part = {k: other[k] for k in ("resources", "resizePolicy") if k in other}
        rest = {k: v for k, v in container.items() if k not in ("resources", "resizePolicy")}
        out.append({**rest, **part})
    return out


def _generation(kind: ServedKind, new: Document, old: Document) -> Document:
    if kind.group_kind == ("storage.k8s.io", "CSIDriver"):
        if not data_defaults.driver_changed(new, old):
            return new
    elif not (kind.custom or kind.group_kind in _GENERATED):
        return new
    if kind.group_kind == ("scheduling.k8s.io", "PriorityClass") or not _wish_changed(
        kind, new, old
    ):
        return new
    metadata = new["metadata"]
    count = (old.get("metadata") or {}).get("generation", 0) + 1
    return {**new, "metadata": {**metadata, "generation": count}}


def _wish_changed(kind: ServedKind, new: Document, old: Document) -> bool:
    if kind.group_kind == ("discovery.k8s.io", "EndpointSlice"):
        return services.slice_changed(new, old)
    if kind.group_kind == ("apps", "Deployment"):
        annotations = [(d.get("metadata") or {}).get("annotations") or {} for d in (new, old)]
        if annotations[0] != annotations[1]:
            return True
    if not kind.custom:
        # a PodTemplate has no spec around its template, a configuration none around its webhooks
        return any(new.get(part) != old.get(part) for part in ("spec", "template", "webhooks"))
    ignored = _STAMP if kind.has_status else _STAMP[:3]
    parts = [{k: v for k, v in d.items() if k not in ignored} for d in (new, old)]
    return parts[0] != parts[1]


# ---------------------------------------------------------------------------------------------------------------- scale
def to_scale(document: Document, selector: str) -> Document:
    """The Scale of a workload. `selector` is its label selector in text form."""
    metadata = document["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    replicas = (document.get("spec") or {}).get("replicas", 0)
    status: Document = {"replicas": (document.get("status") or {}).get("replicas", 0)}
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def from_scale(document: Document, scale: Document) -> Document:
    """The workload with the replicas that a Scale asks for, as a write to the main endpoint would state it."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    metadata = document["metadata"]
    if version := (scale.get("metadata") or {}).get("resourceVersion"):
        metadata = {**metadata, "resourceVersion": version}
    spec = {**(document.get("spec") or {}), "replicas": replicas}
    return {**document, "metadata": metadata, "spec": spec}


def bind(pod: Document, binding: Document, now: str) -> Document:
    """A pod bound to its node: nodeName, PodScheduled, and the binding's labels and annotations."""
    metadata: dict[str, Any] = dict(pod["metadata"])
    for key in ("labels", "annotations"):
        if extra := (binding.get("metadata") or {}).get(key):
            metadata[key] = {**(metadata.get(key) or {}), **extra}
    spec = {**pod["spec"], "nodeName": (binding.get("target") or {}).get("name", "")}
    status = pod.get("status") or {}
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": now,
    }
    others = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
    return {
        **pod,
        "metadata": metadata,
        "spec": spec,
        "status": {**status, "conditions": [*others, scheduled]},
    }

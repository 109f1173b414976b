"""Works: what one member shall run, made from a template and the decision about it."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache

from federation.placement.divide import fnv1a_32
from federation.propagation import interpreter
from machinery.api.fleet.cluster import execution_namespace
from machinery.api.fleet.resilience import EPOCH, FENCED, GRANT_SECONDS, GRANT_WORK, WITHHELD
from machinery.api.fleet.work import (
    ABORT,
    BINDING_LABEL,
    BINDING_NAME,
    BINDING_NAMESPACE,
    CLUSTER_BINDING_LABEL,
    CLUSTER_BINDING_NAME,
    CONFLICT_RESOLUTION,
    EXECUTION_FINALIZER,
    IF_NO_DIFF,
    MANAGED_LABEL,
    OVERWRITE,
    TEMPLATE_GENERATION,
    TEMPLATE_UID,
    WORK_ID,
    WORK_NAME,
    WORK_NAMESPACE,
)
from machinery.meta.resource import Document

SERVER_FIELDS = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "selfLink",
)
LOCAL_ANNOTATIONS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
)
"""Facts about the federation's own copy of the object; a member writes its own."""
SAFE_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
WORK_IDS = uuid.UUID("6b1f4a3e-5d0c-5f8e-9a47-2c9d1e7b6f30")
"""Namespace of the permanent ids of Works."""
NAMES_KEPT = 4096
"""Names of Works that are not worked out again: a pass asks for that of one template once for each member."""


def binding_name(kind: str, name: str) -> str:
    """`web-deployment`; names of roles may have colons, those of bindings may not (Karmada's rule)."""
    return f"{name.replace(':', '.')}-{kind.lower()}"


@lru_cache(NAMES_KEPT)
def work_name(kind: str, namespace: str, name: str) -> str:
    """A readable name that is unique over kinds and namespaces: Karmada's, a hash in letters that spell no word."""
    name = name.replace(":", ".")
    whole = "-".join((namespace, name, kind) if namespace else (name, kind)).lower()
    digits = str(fnv1a_32(whole))
    return f"{name[:240]}-{''.join(SAFE_LETTERS[ord(d) % len(SAFE_LETTERS)] for d in digits)}"


def work_id(binding: str, namespace: str, name: str) -> str:
    """The permanent id of a Work, a UUID: the same whenever the Work is made again for the same binding."""
    text = f"{binding}/{namespace}/{name}".encode()
    digest = hashlib.sha1(WORK_IDS.bytes + text, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    # uuid.uuid5, without the object that it makes and takes apart again: each look at a Work asks for its id.
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def manifest(
    template: Document, annotations: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> Document:
    """The template without what belongs to the federation's server, marked as managed."""
    metadata = {k: v for k, v in template["metadata"].items() if k not in SERVER_FIELDS}
    kept = {
        k: v for k, v in (metadata.get("annotations") or {}).items() if k not in LOCAL_ANNOTATIONS
    }
    metadata["annotations"] = kept | dict(annotations)
    marks = {MANAGED_LABEL: "true"} | dict(labels or {})
    metadata["labels"] = (metadata.get("labels") or {}) | marks
    body = {k: v for k, v in template.items() if k not in ("status", "metadata")}
    if template["kind"] == "ServiceAccount":
        body.pop("secrets", None)
    return {
        "apiVersion": body.pop("apiVersion"),
        "kind": body.pop("kind"),
        "metadata": metadata,
    } | body


def fenced(document: Document, epoch: str, grant_s: int, *, withheld: bool) -> Document:
    """The Work with mode consistency written into it: its pods run on grants of this epoch. The input stays as it is."""
    metadata = document["metadata"]
    marks = {EPOCH: epoch} | ({WITHHELD: "true"} if withheld else {})
    inner = {EPOCH: epoch, GRANT_SECONDS: str(grant_s), GRANT_WORK: metadata["name"]}
    manifests = [_with_pod_annotations(m, inner) for m in document["spec"]["workload"]["manifests"]]
    return document | {
        "metadata": metadata
        | {
            "annotations": metadata["annotations"] | marks,
            "labels": metadata["labels"] | {FENCED: "true"},
        },
        "spec": document["spec"] | {"workload": {"manifests": manifests}},
    }


def _with_pod_annotations(workload: Document, annotations: Mapping[str, str]) -> Document:
    template = interpreter.template_of(workload)
    metadata = template.get("metadata") or {}
    told = (metadata.get("annotations") or {}) | dict(annotations)
    marked = template | {"metadata": metadata | {"annotations": told}}
    return interpreter.with_template(workload, marked)


def resolution(template: Document, of_policy: str) -> str:
    """What to do where the object is in a member already: the template's own word, else its policy's."""
    own = str((template["metadata"].get("annotations") or {}).get(CONFLICT_RESOLUTION, "")).lower()
    return own if own in (ABORT, OVERWRITE, IF_NO_DIFF) else of_policy.lower()


def work(  # noqa: PLR0913
    template: Document,
    cluster: str,
    *,
    body: Document | None = None,
    binding: Document | None = None,
    notes: Mapping[str, str] | None = None,
    conflict_resolution: str = "Abort",
    suspended: bool = False,
    preserve: bool = False,
    others: Sequence[Document] = (),
) -> Document:
    """The Work that carries the template to one member. `binding` is the owner's metadata; None: synced by itself.

    `body` is what travels, when it is not the template as it is: overridden for this member. `notes` are further
    annotations of the Work. `others` travel in the same Work, which is named after the template alone.
    """
    source = template["metadata"]
    name = work_name(template["kind"], source.get("namespace", ""), source["name"])
    namespace = execution_namespace(cluster)
    annotations = {CONFLICT_RESOLUTION: resolution(template, conflict_resolution)}
    owner = "" if binding is None else binding["uid"]
    labels = {WORK_ID: work_id(owner, namespace, name)}
    if binding is not None:
        if binding.get("namespace"):
            annotations[BINDING_NAME] = binding["name"]
            annotations[BINDING_NAMESPACE] = binding["namespace"]
            labels[BINDING_LABEL] = owner
        else:
            annotations[CLUSTER_BINDING_NAME] = binding["name"]
            labels[CLUSTER_BINDING_LABEL] = owner
    inner = annotations | {
        TEMPLATE_UID: source.get("uid", ""),
        TEMPLATE_GENERATION: str(source.get("generation", 0)),
        WORK_NAME: name,
        WORK_NAMESPACE: namespace,
    }
    carried = (template if body is None else body, *others)
    return {
        "apiVersion": "work.karmada.io/v1alpha1",
        "kind": "Work",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": annotations | dict(notes or {}),
            "finalizers": [EXECUTION_FINALIZER],
        },
        "spec": {
            "workload": {"manifests": [manifest(one, inner, labels) for one in carried]},
            "suspendDispatching": suspended,
            "preserveResourcesOnDeletion": preserve,
        },
    }

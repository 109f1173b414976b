"""Who a pod of a StatefulSet is: its name, number, labels and the names of its claims. Pure.

A pod keeps all of it when it is replaced. Its hostname is its name and its subdomain the set's Service, by which DNS
answers `pod.service.namespace`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from cluster_agent.control.controllers.sets import (
    CLAIMS,
    REVISION_HASH_LABEL,
    StatefulSet,
    set_document,
    typed,
)
from cluster_agent.control.controllers.workloads import template_labels
from machinery.api.core import PODS, Pod
from machinery.meta.objectmeta import owner_reference
from machinery.meta.resource import Document

POD_NAME_LABEL: Final = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL: Final = "apps.kubernetes.io/pod-index"
_NAME = re.compile(r"(.*)-([0-9]+)")


def ordinal_of(set_name: str, pod_name: str) -> int | None:
    """The number of a pod of that set; None: the name is not one of its pods'."""
    found = _NAME.fullmatch(pod_name)
    if found is None or found.group(1) != set_name:
        return None
    return int(found.group(2))


def pod_name(set_: StatefulSet, ordinal: int) -> str:
    return f"{set_.metadata.name}-{ordinal}"


def claim_name(set_: StatefulSet, claim: Mapping[str, Any], ordinal: int) -> str:
    """The claim that one template gives to the pod of that number."""
    return f"{claim['metadata']['name']}-{set_.metadata.name}-{ordinal}"


def claim_names(set_: StatefulSet, ordinal: int) -> list[str]:
    """All claims of the pod of that number."""
    return [claim_name(set_, claim, ordinal) for claim in set_.spec.volume_claim_templates]


def identity_labels(name: str, ordinal: int) -> dict[str, str]:
    """The labels by which one pod is found."""
    return {POD_NAME_LABEL: name, POD_INDEX_LABEL: str(ordinal)}


def lacks_identity(pod: Pod, ordinal: int) -> bool:
    """Whether an adopted pod does not carry its labels yet."""
    return not identity_labels(pod.metadata.name, ordinal).items() <= pod.metadata.labels.items()


def revision_of(pod: Pod) -> str:
    """The name of the revision that the pod was made from."""
    return pod.metadata.labels.get(REVISION_HASH_LABEL, "")


def pod_document(
    set_: StatefulSet, ordinal: int, template: Mapping[str, Any], revision: str
) -> Document:
    """The pod of that number, of that revision's template."""
    name = pod_name(set_, ordinal)
    given = template.get("metadata") or {}
    metadata: Document = {
        "name": name,
        "namespace": set_.metadata.namespace,
        "labels": {
            **template_labels(template),
            **identity_labels(name, ordinal),
            REVISION_HASH_LABEL: revision,
        },
        "ownerReferences": [owner_reference(typed(set_))],
    }
    metadata |= {k: given[k] for k in ("annotations", "finalizers") if given.get(k)}
    spec: Document = {**(template.get("spec") or {}), "hostname": name}
    if set_.spec.service_name:
        spec["subdomain"] = set_.spec.service_name
    if set_.spec.volume_claim_templates:
        spec["volumes"] = _volumes(set_, ordinal, spec.get("volumes") or ())
    return set_document(PODS, metadata, spec=spec)


def _volumes(set_: StatefulSet, ordinal: int, given: Any) -> list[Document]:
    """The pod's own claims take the place of the template's volumes of the same names."""
    mine: list[Document] = [
        {
            "name": claim["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": claim_name(set_, claim, ordinal)},
        }
        for claim in set_.spec.volume_claim_templates
    ]
    names = {one["name"] for one in mine}
    return [*mine, *(one for one in given if one["name"] not in names)]


def claim_document(
    set_: StatefulSet, claim: Mapping[str, Any], ordinal: int, owners: list[Document]
) -> Document:
    """The claim that one template gives to the pod of that number."""
    given = claim["metadata"]
    metadata: Document = {
        "name": claim_name(set_, claim, ordinal),
        "namespace": set_.metadata.namespace,
        "labels": {**(given.get("labels") or {}), **set_.spec.selector.match_labels},
    }
    if given.get("annotations"):
        metadata["annotations"] = given["annotations"]
    if owners:
        metadata["ownerReferences"] = owners
    return set_document(CLAIMS, metadata, spec=claim["spec"])

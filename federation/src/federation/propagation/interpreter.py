"""What the federation must know of a kind: its replicas, what one replica asks, and what it depends on.

Karmada calls this the resource interpreter. A kind without an entry is copied as it is. What comes back from a
member is `machinery.api.fleet.reflect`.
"""

from collections.abc import Callable

import msgspec

from machinery.api.core import Pod, PodTemplateSpec
from machinery.meta.resource import Document, ObjectKey
from machinery.scheduling.resources import CPU, pod_requests

Need = Callable[[str, str | None], None]

WORKLOADS = frozenset({("apps/v1", "Deployment")})


def is_workload(document: Document) -> bool:
    """Whether the object has replicas to divide."""
    return (document["apiVersion"], document["kind"]) in WORKLOADS


def replicas(document: Document) -> int:
    """How many the user asks for."""
    return int(document["spec"].get("replicas", 1)) if is_workload(document) else 0


def revised(document: Document, count: int) -> Document:
    """The object with `count` replicas; the input is left as it is."""
    if not is_workload(document):
        return document
    return document | {"spec": document["spec"] | {"replicas": count}}


def requirements(document: Document) -> Document | None:
    """ReplicaRequirements of one replica in wire shape, or None for kinds without replicas."""
    if not is_workload(document):
        return None
    template = msgspec.convert(document["spec"]["template"], PodTemplateSpec)
    spec = document["spec"]["template"]["spec"]
    required: Document = {}
    asks = pod_requests(Pod(spec=template.spec))
    if asks:
        required["resourceRequest"] = {name: _quantity(name, value) for name, value in asks.items()}
    claim: Document = {}
    if spec.get("nodeSelector"):
        claim["nodeSelector"] = spec["nodeSelector"]
    if spec.get("tolerations"):
        claim["tolerations"] = spec["tolerations"]
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    hard = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if hard:
        claim["hardNodeAffinity"] = hard
    if claim:
        required["nodeClaim"] = claim
    if not required:
        return None
    return required | {"namespace": document["metadata"].get("namespace", "")}


def _quantity(resource: str, amount: int) -> str:
    if resource != CPU:
        return str(amount)
    return f"{amount}m" if amount % 1000 else str(amount // 1000)


def dependencies(document: Document) -> dict[str, set[ObjectKey]]:
    """Objects that the workload's pods refer to, by kind."""
    found: dict[str, set[ObjectKey]] = {
        "ConfigMap": set(),
        "Secret": set(),
        "ServiceAccount": set(),
    }
    if not is_workload(document):
        return found
    namespace = document["metadata"].get("namespace", "")

    def need(kind: str, name: str | None) -> None:
        if name:
            found[kind].add(ObjectKey(namespace, name))

    spec = document["spec"]["template"]["spec"]
    account = spec.get("serviceAccountName")
    need("ServiceAccount", account if account != "default" else None)
    for reference in spec.get("imagePullSecrets") or ():
        need("Secret", reference.get("name"))
    for volume in spec.get("volumes") or ():
        _of_volume(volume, need)
    containers = (
        *(spec.get("initContainers") or ()),
        *(spec.get("containers") or ()),
    )
    for container in containers:
        _of_container(container, need)
    return found


def _of_volume(volume: Document, need: Need) -> None:
    need("ConfigMap", (volume.get("configMap") or {}).get("name"))
    need("Secret", (volume.get("secret") or {}).get("secretName"))
    for source in (volume.get("projected") or {}).get("sources") or ():
        need("ConfigMap", (source.get("configMap") or {}).get("name"))
        need("Secret", (source.get("secret") or {}).get("name"))


def _of_container(container: Document, need: Need) -> None:
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        need("ConfigMap", (source.get("configMapKeyRef") or {}).get("name"))
        need("Secret", (source.get("secretKeyRef") or {}).get("name"))
    for source in container.get("envFrom") or ():
        need("ConfigMap", (source.get("configMapRef") or {}).get("name"))
        need("Secret", (source.get("secretRef") or {}).get("name"))

"""What the federation must know of a kind: its replicas, what one replica asks, what it depends on, what of it travels.

Karmada calls this the resource interpreter. One row a kind in `KINDS`, keyed by (apiVersion, kind); a kind without a row is
copied as it is. How a status is summed up is `aggregate` and `aggregation`; what a member reports, what counts as well there and
what of its live object stays is on the floor, in `machinery.api.fleet.reflection`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from federation.placement.divide import webster
from machinery.api.core import Pod, PodTemplateSpec
from machinery.api.template_strategy import JOB_NAMES, JOB_UIDS
from machinery.meta.resource import Document, ObjectKey
from machinery.scheduling.resources import CPU, pod_requests

Need = Callable[[str, str | None], None]
Kind = tuple[str, str]
DEPENDABLE: Final = ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim")
"""Kinds that something may depend on."""
POD_TEMPLATE: Final = ("spec", "template")
CRON_TEMPLATE: Final = ("spec", "jobTemplate", "spec", "template")
GIVEN_BY_THE_CLUSTER: Final = (
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "healthCheckNodePort",
    "loadBalancerClass",
)


def _as_it_is(document: Document) -> Document:
    return document


def _nothing(document: Document, need: Need) -> None:
    """It depends on nothing."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What is known of one kind."""

    replicas: str = ""
    """The field of `spec` that counts its replicas; empty: it has none to divide."""
    template: tuple[str, ...] = ()
    """The path of its pod template; empty: it has none."""
    divided: str = ""
    """A further count of `spec` that is divided as the replicas are (a Job's completions)."""
    says_namespace: bool = False
    """Whether what a replica asks names its namespace, as Karmada does it for Deployments alone."""
    needs: Callable[[Document, Need], None] = _nothing
    """Tells of each object that it refers to."""
    portable: Callable[[Document], Document] = _as_it_is
    """The object without what only its own API server can know."""


# -------------------------------------------------------------------------------------------------------- dependencies
def _of_pods(document: Document, need: Need) -> None:
    _of_pod_spec(template_of(document).get("spec") or {}, need)


def _of_stateful_set(document: Document, need: Need) -> None:
    """Claims that it makes itself are not what it depends on."""
    own = {c["metadata"]["name"] for c in document["spec"].get("volumeClaimTemplates") or ()}

    def unless_own(kind: str, name: str | None) -> None:
        if kind != "PersistentVolumeClaim" or name not in own:
            need(kind, name)

    _of_pods(document, unless_own)


def _of_ingress(document: Document, need: Need) -> None:
    for entry in document["spec"].get("tls") or ():
        need("Secret", entry.get("secretName"))


def _of_pod_spec(spec: Document, need: Need) -> None:
    account = spec.get("serviceAccountName")
    need("ServiceAccount", account if account != "default" else None)
    for reference in spec.get("imagePullSecrets") or ():
        need("Secret", reference.get("name"))
    for volume in spec.get("volumes") or ():
        _of_volume(volume, need)
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        _of_container(container, need)


def _of_volume(volume: Document, need: Need) -> None:
    need("ConfigMap", (volume.get("configMap") or {}).get("name"))
    need("Secret", (volume.get("secret") or {}).get("secretName"))
    need("Secret", (volume.get("azureFile") or {}).get("secretName"))
    need("PersistentVolumeClaim", (volume.get("persistentVolumeClaim") or {}).get("claimName"))
    for key, source in volume.items():
        if key != "name" and isinstance(source, Mapping):
            for reference in ("secretRef", "nodePublishSecretRef"):
                need("Secret", (source.get(reference) or {}).get("name"))
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


# --------------------------------------------------------------------------------------------------------- what travels
def _portable_service(document: Document) -> Document:
    """Without what a cluster gave it; a headless one stays headless."""
    spec = document["spec"]
    headless = spec.get("clusterIP") == "None"
    kept = {k: v for k, v in spec.items() if k not in GIVEN_BY_THE_CLUSTER}
    if headless:
        kept["clusterIP"] = "None"
    if "ports" in spec:
        kept["ports"] = [
            {k: v for k, v in port.items() if k != "nodePort"} for port in spec["ports"] or ()
        ]
    return document | {"spec": kept}


def _portable_job(document: Document) -> Document:
    """Each cluster's server gives the Job a selector of its own.

    Nor does the time after which a finished Job is deleted travel: where the Job was gone, the link would start it again.
    """
    spec = {k: v for k, v in document["spec"].items() if k != "ttlSecondsAfterFinished"}
    if spec.get("manualSelector"):
        return document | {"spec": spec}
    selector, template = spec.get("selector"), spec.get("template") or {}
    if selector is not None:
        spec["selector"] = _without(selector, "matchLabels", JOB_UIDS)
    metadata = template.get("metadata")
    if metadata is not None:
        bare = _without(metadata, "labels", (*JOB_UIDS, *JOB_NAMES))
        spec["template"] = template | {"metadata": bare}
    return document | {"spec": spec}


def _portable_role(document: Document) -> Document:
    """What an aggregated role allows is made of the roles of its own cluster."""
    return {k: v for k, v in document.items() if k != "rules" or "aggregationRule" not in document}


def _portable_namespace(document: Document) -> Document:
    """Each cluster finalizes its own."""
    return {k: v for k, v in document.items() if k != "spec"}


def _without(part: Document, key: str, names: tuple[str, ...]) -> Document:
    found = part.get(key)
    if found is None:
        return part
    return part | {key: {name: value for name, value in found.items() if name not in names}}


KINDS: Final[Mapping[Kind, Interpreter]] = {
    ("apps/v1", "Deployment"): Interpreter(
        "replicas", POD_TEMPLATE, says_namespace=True, needs=_of_pods
    ),
    ("apps/v1", "StatefulSet"): Interpreter("replicas", POD_TEMPLATE, needs=_of_stateful_set),
    ("apps/v1", "DaemonSet"): Interpreter(template=POD_TEMPLATE, needs=_of_pods),
    ("batch/v1", "Job"): Interpreter(
        "parallelism", POD_TEMPLATE, "completions", needs=_of_pods, portable=_portable_job
    ),
    ("v1", "ReplicationController"): Interpreter("replicas", POD_TEMPLATE, needs=_of_pods),
    ("batch/v1", "CronJob"): Interpreter(template=CRON_TEMPLATE, needs=_of_pods),
    ("networking.k8s.io/v1", "Ingress"): Interpreter(needs=_of_ingress),
    ("v1", "Service"): Interpreter(portable=_portable_service),
    ("v1", "Namespace"): Interpreter(portable=_portable_namespace),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): Interpreter(portable=_portable_role),
}
UNKNOWN_KIND: Final = Interpreter()


def of(document: Document) -> Interpreter:
    """What is known of the object's kind."""
    return KINDS.get((document["apiVersion"], document["kind"]), UNKNOWN_KIND)


# ------------------------------------------------------------------------------------------------------------ questions
def is_workload(document: Document) -> bool:
    """Whether the object has replicas to divide."""
    return bool(of(document).replicas)


def counts(api_version: str, kind: str) -> bool:
    """Whether objects of the kind have replicas to divide."""
    return bool(KINDS.get((api_version, kind), UNKNOWN_KIND).replicas)


def has_pods(document: Document) -> bool:
    """Whether the object makes pods of a template."""
    return bool(of(document).template)


def template_of(document: Document) -> Document:
    """The pod template of an object that has one."""
    found = document
    for key in of(document).template:
        found = found[key]
    return found


def with_template(document: Document, template: Document) -> Document:
    """The object with another pod template; the input is left as it is."""
    return _put(document, of(document).template, template)


def _put(part: Document, path: tuple[str, ...], value: Document) -> Document:
    if not path:
        return value
    return part | {path[0]: _put(part[path[0]], path[1:], value)}


def replicas(document: Document) -> int:
    """How many the user asks for."""
    field = of(document).replicas
    return int(document["spec"].get(field, 1)) if field else 0


def revised(document: Document, count: int, share: int | None = None) -> Document:
    """The object with `count` replicas, and `share` of what is divided beside them; the input is left as it is."""
    known = of(document)
    if not known.replicas:
        return document
    spec = document["spec"] | {known.replicas: count}
    if share is not None:
        spec[known.divided] = share
    return document | {"spec": spec}


def shares(document: Document, counts: Mapping[str, int], uid: str) -> Mapping[str, int]:
    """By cluster: what each is to do of a count that is divided as the replicas are; empty where there is none.

    `counts` are the replicas of each cluster, `uid` the template's, which settles ties as it does for replicas.
    """
    total = document["spec"].get(of(document).divided) if of(document).divided else None
    return {} if total is None else webster(int(total), counts, uid)


def portable(document: Document) -> Document:
    """The object without what only its own API server can know."""
    return of(document).portable(document)


def requirements(document: Document) -> Document | None:
    """ReplicaRequirements of one replica in wire shape, or None for kinds without replicas."""
    if not is_workload(document):
        return None
    required = pod_requirements(template_of(document))
    if not required:
        return None
    if not of(document).says_namespace:
        return required
    return required | {"namespace": document["metadata"].get("namespace", "")}


def pod_requirements(template: Document) -> Document:
    """What a pod of the template asks for, in the shape of ReplicaRequirements; empty when it asks for nothing."""
    spec = template["spec"]
    required: Document = {}
    asks = pod_requests(Pod(spec=msgspec.convert(template, PodTemplateSpec).spec))
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
    return required


def _quantity(resource: str, amount: int) -> str:
    if resource != CPU:
        return str(amount)
    return f"{amount}m" if amount % 1000 else str(amount // 1000)


def dependencies(document: Document) -> dict[str, set[ObjectKey]]:
    """Objects that the object refers to, by kind."""
    namespace = document["metadata"].get("namespace", "")
    return _needed(namespace, lambda need: of(document).needs(document, need))


def pod_dependencies(template: Document, namespace: str) -> dict[str, set[ObjectKey]]:
    """Objects that pods of the template refer to, by kind."""
    return _needed(namespace, lambda need: _of_pod_spec(template.get("spec") or {}, need))


def _needed(namespace: str, tell: Callable[[Need], None]) -> dict[str, set[ObjectKey]]:
    found: dict[str, set[ObjectKey]] = {kind: set() for kind in DEPENDABLE}

    def need(kind: str, name: str | None) -> None:
        if name:
            found[kind].add(ObjectKey(namespace, name))

    tell(need)
    return found

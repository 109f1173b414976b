"""What the server fills in when a client leaves it out; as a 1.36 server does, for the built kinds.

Path-copy throughout: the input is shared with others and never changed; what needs no default is handed on as it is. Own
kinds take the `default` values of their schema. Values that admission decides (priority, tolerations, service account) are
not set here. A default that depends on the request (uid, creation time, requestor) is the server's.
"""

import base64
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from machinery.api import (
    data_defaults,
    policy_kinds,
    schemas,
    services,
    template_defaults,
    webhook_kinds,
)
from machinery.api.customresources.pruning import fill_object
from machinery.api.pod_defaults import pod_spec
from machinery.api.scheme import ServedKind
from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.meta.resource import Document

RBAC_GROUP: Final = "rbac.authorization.k8s.io"
TOKEN_SECONDS: Final = 3600
NAME_LABEL: Final = "kubernetes.io/metadata.name"


def apply_defaults(kind: ServedKind, document: Document) -> Document:
    """The document with every default of its kind in place."""
    if kind.dynamic is not None:
        return fill_object(schemas.schema_of(kind), document)
    if kind.custom:
        filled: Document = from_schema(schemas.schema_of(kind), document)
        return filled
    apply = _OF_FACES.get(kind.api_version) or _BY_KIND.get(kind.group_kind)
    return apply(document) if apply is not None else document


# ---------------------------------------------------------------------------------------------------------- own kinds
_GIVES: Final[dict[int, tuple[Mapping[str, Any], bool, Mapping[str, Any]]]] = {}
"""By the schema's identity, with the schema, so that no other one takes its number: whether a default is in it, and its own
properties that have one."""


def _gives(schema: Mapping[str, Any]) -> tuple[bool, Mapping[str, Any]]:
    """Whether anything below the schema has a default; most parts have none, and are not walked. And its own ones."""
    known = _GIVES.get(id(schema))
    if known is None:
        _GIVES[id(schema)] = (schema, False, {})  # one that contains itself gives nothing by that
        parts = [*(schema.get("properties") or {}).values()]
        parts += [schema[k] for k in ("items", "additionalProperties") if k in schema]
        given = any(
            "default" in part or _gives(schemas.resolve(part))[0]
            for part in parts
            if isinstance(part, Mapping)
        )
        own = {k: p for k, p in (schema.get("properties") or {}).items() if "default" in p}
        known = _GIVES[id(schema)] = (schema, given, own)
    return known[1], known[2]


def from_schema(schema: Mapping[str, Any], value: Any) -> Any:
    """`value` with the defaults of a structural schema; a null where a default exists counts as absent.

    The very value where it lacks none, so that whoever compares it with what it was sees that it is the same.
    """
    schema = schemas.resolve(schema)
    given, own = _gives(schema)
    if not given:
        return value
    if type(value) is list and "items" in schema:
        items = schema["items"]
        filled = [from_schema(items, one) for one in value]
        return value if all(map(operator.is_, filled, value)) else filled
    if type(value) is not dict:
        return value
    properties: Mapping[str, Any] = schema.get("properties") or {}
    others = schema.get("additionalProperties")
    out: Document = {}
    for key, one in value.items():
        part = properties.get(key) or (others if isinstance(others, Mapping) else None)
        if one is None and part is not None and "default" in part:
            continue
        out[key] = from_schema(part, one) if part is not None else one
    for key, part in own.items():
        if key not in out:
            out[key] = from_schema(part, part["default"])
    same = len(out) == len(value) and all(map(operator.is_, out.values(), value.values()))
    return value if same else out


# --------------------------------------------------------------------------------------------------------- built kinds
def _pod(document: Document) -> Document:
    spec = pod_spec(document.get("spec") or {}, of_pod=True)
    filled = {"status": {}, **document, "spec": spec}
    conditions = (filled["status"] or {}).get("conditions")
    if conditions and not all("lastProbeTime" in one for one in conditions):
        timed = [
            one if "lastProbeTime" in one else {**one, "lastProbeTime": None} for one in conditions
        ]
        filled["status"] = {**filled["status"], "conditions": timed}
    return filled


def _deployment(document: Document) -> Document:
    spec = template_defaults.pod_template(document.get("spec") or {})
    for key, value in (
        ("replicas", 1),
        ("revisionHistoryLimit", 10),
        ("progressDeadlineSeconds", 600),
    ):
        if spec.get(key) is None:
            spec[key] = value
    strategy = dict(spec.get("strategy") or {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        strategy["rollingUpdate"] = {"maxUnavailable": "25%", "maxSurge": "25%", **rolling}
    spec["strategy"] = strategy
    return {"status": {}, **document, "spec": spec}


def _replica_set(document: Document) -> Document:
    spec = template_defaults.pod_template(document.get("spec") or {})
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    return {"status": {"replicas": 0}, **document, "spec": spec}


def _definition(document: Document) -> Document:
    """Names that follow from the kind; the one conversion that there is. The status is as Go writes an empty one."""
    spec = dict(document.get("spec") or {})
    names = dict(spec.get("names") or {})
    if kind := names.get("kind"):
        names["singular"] = names.get("singular") or str(kind).lower()
        names["listKind"] = names.get("listKind") or f"{kind}List"
    spec["names"] = names
    conversion = spec.get("conversion")
    if conversion is None:
        spec["conversion"] = {"strategy": "None"}
    elif config := (conversion.get("webhook") or {}).get("clientConfig"):
        webhook = {**conversion["webhook"], "clientConfig": webhook_kinds.client_defaults(config)}
        spec["conversion"] = {**conversion, "webhook": webhook}
    return {**document, "spec": spec}


def _namespace(document: Document) -> Document:
    metadata = document.get("metadata") or {}
    name = metadata.get("name")
    labels = metadata.get("labels") or {}
    if name and labels.get(NAME_LABEL) != name:
        metadata = {**metadata, "labels": {**labels, NAME_LABEL: name}}
    status = document.get("status") or {}
    spec = document.get("spec") or {}
    return {
        **document,
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Active", **status},
    }


def _secret(document: Document) -> Document:
    """The type, and `stringData` folded into `data`: it is write-only and never stored."""
    out = {**document, "type": document.get("type") or "Opaque"}
    plain = out.pop("stringData", None)
    if plain:
        packed = {key: base64.b64encode(text.encode()).decode() for key, text in plain.items()}
        out["data"] = {**(document.get("data") or {}), **packed}
    return out


def _subjects(document: Document) -> Document:
    reference = dict(document.get("roleRef") or {})
    if not reference.get("apiGroup"):
        reference["apiGroup"] = RBAC_GROUP
    out = {**document, "roleRef": reference}
    if subjects := document.get("subjects"):
        out["subjects"] = [_subject(one) for one in subjects]
    return out


def _subject(subject: Document) -> Document:
    if subject.get("kind") in ("User", "Group") and not subject.get("apiGroup"):
        return {**subject, "apiGroup": RBAC_GROUP}
    return subject


def _aggregated_role(document: Document) -> Document:
    return document if "rules" in document else {**document, "rules": None}


def _priority_class(document: Document) -> Document:
    if document.get("preemptionPolicy"):
        return document
    return {**document, "preemptionPolicy": "PreemptLowerPriority"}


def _node(document: Document) -> Document:
    """Structs by value that Go writes even when empty; `allocatable` follows `capacity`."""
    status = {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, **(document.get("status") or {})}
    if "nodeInfo" not in status:
        status["nodeInfo"] = dict.fromkeys(_NODE_INFO, "")
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = status["capacity"]
    return {**document, "spec": document.get("spec") or {}, "status": status}


_NODE_INFO: Final = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion",
    "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture",
)  # fmt: skip


def _with_spec_and_status(document: Document) -> Document:
    return {"spec": {}, "status": {}, **document}


def _with_spec(document: Document) -> Document:
    return document if "spec" in document else {**document, "spec": {}}


def _token_request(document: Document) -> Document:
    spec = {"audiences": None, "boundObjectRef": None, **(document.get("spec") or {})}
    if not spec.get("expirationSeconds"):
        spec["expirationSeconds"] = TOKEN_SECONDS
    return {"status": {"token": "", "expirationTimestamp": None}, **document, "spec": spec}


_OF_FACES: Final = {"autoscaling/v1": template_defaults.old_autoscaler}
"""By apiVersion: faces of a stored kind that have other fields."""
_BY_KIND: Final[dict[tuple[str, str], Callable[[Document], Document]]] = {
    ("", "Pod"): _pod,
    ("", "Namespace"): _namespace,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("", "Node"): _node,
    ("", "Secret"): _secret,
    ("", "Service"): services.service_defaults,
    ("", "Endpoints"): services.endpoints_defaults,
    ("discovery.k8s.io", "EndpointSlice"): services.slice_defaults,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("coordination.k8s.io", "Lease"): _with_spec,
    ("certificates.k8s.io", "CertificateSigningRequest"): _with_spec_and_status,
    (RBAC_GROUP, "RoleBinding"): _subjects,
    (RBAC_GROUP, "ClusterRoleBinding"): _subjects,
    (RBAC_GROUP, "Role"): _aggregated_role,
    (RBAC_GROUP, "ClusterRole"): _aggregated_role,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
    ("authentication.k8s.io", "TokenRequest"): _token_request,
    ("autoscaling", "Scale"): _with_spec,
    MUTATING.group_kind: webhook_kinds.mutating_defaults,
    VALIDATING.group_kind: webhook_kinds.validating_defaults,
    **policy_kinds.DEFAULTS,
    ("", "LimitRange"): template_defaults.limit_range,
    ("", "ResourceQuota"): _with_spec_and_status,
    ("networking.k8s.io", "IPAddress"): _with_spec,
    ("networking.k8s.io", "ServiceCIDR"): _with_spec_and_status,
    ("", "ReplicationController"): template_defaults.replication_controller,
    ("", "PersistentVolume"): data_defaults.volume,
    ("", "PodTemplate"): data_defaults.pod_template,
    ("networking.k8s.io", "IngressClass"): data_defaults.ingress_class,
    ("storage.k8s.io", "CSIDriver"): data_defaults.csi_driver,
    ("storage.k8s.io", "StorageClass"): data_defaults.storage_class,
    ("storage.k8s.io", "VolumeAttachment"): data_defaults.volume_attachment,
    ("", "PersistentVolumeClaim"): template_defaults.volume_claim,
    ("apps", "DaemonSet"): template_defaults.daemon_set,
    ("apps", "StatefulSet"): template_defaults.stateful_set,
    ("autoscaling", "HorizontalPodAutoscaler"): template_defaults.autoscaler,
    ("batch", "CronJob"): template_defaults.cron_job,
    ("batch", "Job"): template_defaults.job,
    ("networking.k8s.io", "Ingress"): template_defaults.ingress,
    ("networking.k8s.io", "NetworkPolicy"): template_defaults.network_policy,
    ("policy", "PodDisruptionBudget"): template_defaults.disruption_budget,
}

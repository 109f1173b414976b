"""What Karmada's mutating webhooks fill in, beyond the defaults of the schemas. Pure: fresh ids are handed in."""

from typing import Any, Final

from federation.propagation.admission.shape import roundtrip
from federation.propagation.claims import CLUSTER_POLICY_ID, POLICY_ID
from federation.propagation.works import SERVER_FIELDS
from machinery.api.fleet.kinds import BINDING_SPEC, OVERRIDE_SPEC, POLICY_SPEC
from machinery.api.fleet.work import BINDING_LABEL, CLUSTER_BINDING_LABEL, WORK_ID
from machinery.meta.resource import Document

POLICY_FINALIZER: Final = "karmada.io/propagation-policy-controller"
CLUSTER_POLICY_FINALIZER: Final = "karmada.io/cluster-propagation-policy-controller"
REVISION: Final = "deployment.kubernetes.io/revision"
_SERVICE_IMPORT: Final = "multicluster.x-k8s.io"
_SCHEDULER: Final = "default-scheduler"


def propagation_policy(document: Document, fresh_id: str) -> Document:
    """A PropagationPolicy or its sister for the cluster. `fresh_id` is set on new ones, empty otherwise."""
    namespaced = document["kind"] == "PropagationPolicy"
    if fresh_id:
        label = POLICY_ID if namespaced else CLUSTER_POLICY_ID
        finalizer = POLICY_FINALIZER if namespaced else CLUSTER_POLICY_FINALIZER
        document = _with_finalizer(_labelled(document, label, fresh_id), finalizer)
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return document
    spec = {"placement": {}, "schedulerName": _SCHEDULER} | roundtrip(POLICY_SPEC, spec)
    if namespaced:
        spec["resourceSelectors"] = _selectors(document, spec["resourceSelectors"])
    if _selects_imports(spec["resourceSelectors"]):
        spec["propagateDeps"] = True
    if isinstance(spec["placement"], dict):
        spec["placement"] = _placement(spec["placement"])
    if isinstance(spec.get("failover"), dict):
        spec["failover"] = _failover(spec["failover"])
    return document | {"spec": spec}


def override_policy(document: Document) -> Document:
    """A namespaced one; its sister for the cluster is stored as it comes."""
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return document
    spec = {"overriders": {}} | roundtrip(OVERRIDE_SPEC, spec)
    if "resourceSelectors" in spec:
        spec["resourceSelectors"] = _selectors(document, spec["resourceSelectors"])
    return document | {"spec": spec}


def binding(document: Document, fresh_id: str) -> Document:
    """A ResourceBinding or its sister for the cluster."""
    namespaced = document["kind"] == "ResourceBinding"
    label = BINDING_LABEL if namespaced else CLUSTER_BINDING_LABEL
    if not (document["metadata"].get("labels") or {}).get(label):
        document = _labelled(document, label, fresh_id)
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return document
    return document | {"spec": roundtrip(BINDING_SPEC, spec)}


def work(document: Document, fresh_id: str) -> Document:
    """A Work: manifests without what a server writes, marked with the Work's permanent id."""
    labels = document["metadata"].get("labels") or {}
    mark = labels.get(WORK_ID) or fresh_id
    if WORK_ID not in labels:
        document = _labelled(document, WORK_ID, mark)
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return document
    workload = spec.get("workload") or {}
    manifests = workload.get("manifests") if isinstance(workload, dict) else None
    if not manifests or not isinstance(manifests, list):
        return document | {"spec": spec | {"workload": {}}}
    fit = [manifest(one, mark) if isinstance(one, dict) else one for one in manifests]
    return document | {"spec": spec | {"workload": workload | {"manifests": fit}}}


def manifest(document: Document, mark: str) -> Document:
    """One object of a Work; a Service loses the addresses of the cluster that it was read from."""
    held = document.get("metadata") or {}
    metadata = {k: v for k, v in held.items() if k not in SERVER_FIELDS}
    metadata["labels"] = (metadata.get("labels") or {}) | {WORK_ID: mark}
    if document.get("kind") == "Deployment" and REVISION in (held.get("annotations") or {}):
        metadata["annotations"] = {k: v for k, v in held["annotations"].items() if k != REVISION}
    fit = {k: v for k, v in document.items() if k != "status"} | {"metadata": metadata}
    spec = fit.get("spec")
    if fit.get("kind") == "Service" and isinstance(spec, dict) and spec.get("clusterIP") != "None":
        fit["spec"] = {k: v for k, v in spec.items() if k not in ("clusterIP", "clusterIPs")}
    return fit


# ----------------------------------------------------------------------------------------------------------------- parts
def _labelled(document: Document, label: str, value: str) -> Document:
    metadata = document["metadata"]
    labels = (metadata.get("labels") or {}) | {label: value}
    return document | {"metadata": metadata | {"labels": labels}}


def _with_finalizer(document: Document, finalizer: str) -> Document:
    metadata = document["metadata"]
    held = list(metadata.get("finalizers") or ())
    if finalizer in held:
        return document
    return document | {"metadata": metadata | {"finalizers": [*held, finalizer]}}


def _selectors(document: Document, selectors: Any) -> Any:
    """A selector of a namespaced policy without a namespace means the policy's."""
    if not isinstance(selectors, list):
        return selectors
    namespace = document["metadata"].get("namespace", "")
    return [
        one | {"namespace": namespace}
        if isinstance(one, dict) and not one.get("namespace")
        else one
        for one in selectors
    ]


def _selects_imports(selectors: Any) -> bool:
    return isinstance(selectors, list) and any(
        isinstance(one, dict)
        and one.get("kind") == "ServiceImport"
        and str(one.get("apiVersion")).partition("/")[0] == _SERVICE_IMPORT
        for one in selectors
    )


def _placement(placement: Document) -> Document:
    changed: Document = {}
    constraints = placement.get("spreadConstraints")
    if isinstance(constraints, list):
        changed["spreadConstraints"] = [
            _constraint(one) if isinstance(one, dict) else one for one in constraints
        ]
    scheduling = placement.get("replicaScheduling")
    if isinstance(scheduling, dict):
        scheduling = {"replicaSchedulingType": "Divided"} | scheduling
        if scheduling["replicaSchedulingType"] == "Divided":
            scheduling = {"replicaDivisionPreference": "Weighted"} | scheduling
        changed["replicaScheduling"] = scheduling
    return placement | changed


def _constraint(constraint: Document) -> Document:
    """Without field and label it is one over clusters; at least one group."""
    filled = dict(constraint)
    if not filled.get("spreadByField") and not filled.get("spreadByLabel"):
        filled["spreadByField"] = "cluster"
    return {"minGroups": 1} | filled


def _failover(failover: Document) -> Document:
    changed: Document = {}
    application = failover.get("application")
    if isinstance(application, dict):
        conditions = application.get("decisionConditions")
        if isinstance(conditions, dict):
            conditions = {"tolerationSeconds": 300} | conditions
        application = {"purgeMode": "Gracefully"} | application | {"decisionConditions": conditions}
        if application["purgeMode"] == "Gracefully":
            application = {"gracePeriodSeconds": 600} | application
        changed["application"] = application
    cluster = failover.get("cluster")
    if isinstance(cluster, dict):
        changed["cluster"] = {"purgeMode": "Gracefully"} | cluster
    return failover | changed

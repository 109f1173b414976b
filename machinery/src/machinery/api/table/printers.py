"""The row printers of the built kinds other than Pod, by group and kind."""

import datetime as dt
from typing import Any

from machinery.api.scheme import ServedKind
from machinery.api.table import (
    events,
    metrics,
    nodes,
    pods,
    registration,
    services,
    storage,
    templates,
)  # fmt: skip
from machinery.api.table.cells import (
    AGE,
    CREATED_AT,
    NAME,
    NONE,
    Cells,
    Printer,
    TableColumn,
    age_of,
    human_duration,
    joined,
    name_of,
    selector_text,
)
from machinery.meta.resource import Document

_CORE = "=io.k8s.api.core.v1."
_APPS = "=io.k8s.api.apps.v1."
_CSR = "=io.k8s.api.certificates.v1.CertificateSigningRequest"
_SIGNER = (
    "Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. "
    "If empty, it will be defaulted:\n 1. If it's a kubelet client certificate, it is assigned\n"
    '    "kubernetes.io/kube-apiserver-client-kubelet".\n'
    " 2. If it's a kubelet serving certificate, it is assigned\n"
    '    "kubernetes.io/kubelet-serving".\n'
    ' 3. Otherwise, it is assigned "kubernetes.io/legacy-unknown".\n'
    "Distribution of trust for signers happens out of band. You can select on this field using "
    "`spec.signerName`."
)
"""As upstream's table says it, in the words of the v1beta1 API."""
_RBAC_GROUP = "rbac.authorization.k8s.io"


def _spec(document: Document) -> Document:
    return document.get("spec") or {}


def _status(document: Document) -> Document:
    return document.get("status") or {}


def _plain(document: Document, _now: dt.datetime) -> list[Any]:
    return [name_of(document), (document.get("metadata") or {}).get("creationTimestamp")]


def _namespace(document: Document, now: dt.datetime) -> list[Any]:
    return [name_of(document), _status(document).get("phase", ""), age_of(document, now)]


def _config_map(document: Document, now: dt.datetime) -> list[Any]:
    size = len(document.get("data") or ()) + len(document.get("binaryData") or ())
    return [name_of(document), size, age_of(document, now)]


def _secret(document: Document, now: dt.datetime) -> list[Any]:
    size = len(document.get("data") or ())
    return [name_of(document), document.get("type", ""), size, age_of(document, now)]


def _aged(document: Document, now: dt.datetime) -> list[Any]:
    return [name_of(document), age_of(document, now)]


def _template(document: Document) -> list[Any]:
    """Containers, images and selector of a workload."""
    spec = _spec(document)
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers")
    return [
        joined(containers, "name"),
        joined(containers, "image"),
        selector_text(spec.get("selector")),
    ]


def _deployment(document: Document, now: dt.datetime) -> list[Any]:
    status = _status(document)
    desired = _spec(document).get("replicas") or 0
    return [
        name_of(document),
        f"{status.get('readyReplicas', 0)}/{desired}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age_of(document, now),
        *_template(document),
    ]


def _replica_set(document: Document, now: dt.datetime) -> list[Any]:
    status = _status(document)
    return [
        name_of(document),
        _spec(document).get("replicas") or 0,
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age_of(document, now),
        *_template(document),
    ]


def _replication_controller(document: Document, now: dt.datetime) -> list[Any]:
    spec = _spec(document)
    spec = {**spec, "selector": {"matchLabels": spec.get("selector") or {}}}
    return _replica_set({**document, "spec": spec}, now)


def _scale(document: Document, now: dt.datetime) -> list[Any]:
    return [
        name_of(document),
        _spec(document).get("replicas", 0),
        _status(document).get("replicas", 0),
        age_of(document, now),
    ]


def _binding(document: Document, now: dt.datetime) -> list[Any]:
    role = document.get("roleRef") or {}
    subjects = document.get("subjects") or ()
    accounts = [
        f"{s.get('namespace', '')}/{s.get('name', '')}"
        for s in subjects
        if s.get("kind") == "ServiceAccount"
    ]
    return [
        name_of(document),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        age_of(document, now),
        ", ".join(s.get("name", "") for s in subjects if s.get("kind") == "User"),
        ", ".join(s.get("name", "") for s in subjects if s.get("kind") == "Group"),
        ", ".join(accounts),
    ]


def _signing_request(document: Document, now: dt.datetime) -> list[Any]:
    spec = _spec(document)
    seconds = spec.get("expirationSeconds")
    return [
        name_of(document),
        age_of(document, now),
        spec.get("signerName", ""),
        spec.get("username", ""),
        NONE if seconds is None else human_duration(seconds),
        _signing_state(_status(document)),
    ]


def _signing_state(status: Document) -> str:
    kinds = {condition.get("type") for condition in status.get("conditions") or ()}
    state = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    if "Failed" in kinds:
        state += ",Failed"
    return state + (",Issued" if status.get("certificate") else "")


def _lease(document: Document, now: dt.datetime) -> list[Any]:
    return [
        name_of(document),
        _spec(document).get("holderIdentity") or "",
        age_of(document, now),
    ]


def _runtime_class(document: Document, now: dt.datetime) -> list[Any]:
    return [name_of(document), document.get("handler", ""), age_of(document, now)]


def _priority_class(document: Document, now: dt.datetime) -> list[Any]:
    return [
        name_of(document),
        document.get("value", 0),
        bool(document.get("globalDefault", False)),
        age_of(document, now),
        document.get("preemptionPolicy") or "",
    ]


def _workload_columns(kind: str, package: str = _APPS) -> tuple[TableColumn, ...]:
    return (
        TableColumn("Containers", "Names of each container in the template.", priority=1),
        TableColumn("Images", "Images referenced by each container in the template.", priority=1),
        TableColumn("Selector", f"{package}{kind}Spec/selector", priority=1),
    )


def _binding_printer(kind: str) -> Printer:
    noun = kind[0].lower() + kind[1:]
    return _printer(
        _binding,
        NAME,
        TableColumn("Role", f"=io.k8s.api.rbac.v1.{kind}/roleRef"),
        AGE,
        *(
            TableColumn(name, f"{name} in the {noun}", priority=1)
            for name in ("Users", "Groups", "ServiceAccounts")
        ),
    )


def _printer(cells: Cells, *columns: TableColumn) -> Printer:
    return Printer(columns, cells)


_PLAIN = _printer(_plain, NAME, CREATED_AT)
_PRIORITY = "=io.k8s.api.scheduling.v1.PriorityClass/"
_PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "Pod"): pods.PRINTER,
    ("", "Node"): nodes.PRINTER,
    ("", "Service"): services.SERVICE,
    ("", "Endpoints"): services.ENDPOINTS,
    ("discovery.k8s.io", "EndpointSlice"): services.ENDPOINT_SLICE,
    ("", "Event"): events.PRINTER,
    ("events.k8s.io", "Event"): events.PRINTER,
    ("", "Namespace"): _printer(
        _namespace, NAME, TableColumn("Status", "The status of the namespace"), AGE
    ),
    ("", "ConfigMap"): _printer(
        _config_map, NAME, TableColumn("Data", f"{_CORE}ConfigMap/data"), AGE
    ),
    ("", "Secret"): _printer(
        _secret,
        NAME,
        TableColumn("Type", f"{_CORE}Secret/type"),
        TableColumn("Data", f"{_CORE}Secret/data"),
        AGE,
    ),
    ("", "ServiceAccount"): _printer(_aged, NAME, AGE),
    ("apps", "Deployment"): _printer(
        _deployment,
        NAME,
        TableColumn("Ready", "Number of the pod with ready state"),
        TableColumn("Up-to-date", f"{_APPS}DeploymentStatus/updatedReplicas"),
        TableColumn("Available", f"{_APPS}DeploymentStatus/availableReplicas"),
        AGE,
        *_workload_columns("Deployment"),
    ),
    ("apps", "ReplicaSet"): _printer(
        _replica_set,
        NAME,
        TableColumn("Desired", f"{_APPS}ReplicaSetSpec/replicas", type="integer"),
        TableColumn("Current", f"{_APPS}ReplicaSetStatus/replicas", type="integer"),
        TableColumn("Ready", f"{_APPS}ReplicaSetStatus/readyReplicas", type="integer"),
        AGE,
        *_workload_columns("ReplicaSet"),
    ),
    ("", "ReplicationController"): _printer(
        _replication_controller,
        NAME,
        TableColumn("Desired", f"{_CORE}ReplicationControllerSpec/replicas", type="integer"),
        TableColumn("Current", f"{_CORE}ReplicationControllerStatus/replicas", type="integer"),
        TableColumn("Ready", f"{_CORE}ReplicationControllerStatus/readyReplicas", type="integer"),
        AGE,
        *_workload_columns("ReplicationController", _CORE),
    ),
    ("autoscaling", "Scale"): _printer(
        _scale,
        TableColumn("Name", NAME.about),
        TableColumn("Desired", "=io.k8s.api.autoscaling.v1.ScaleSpec/replicas", type="integer"),
        TableColumn("Available", "=io.k8s.api.autoscaling.v1.ScaleStatus/replicas", type="integer"),
        AGE,
    ),
    (_RBAC_GROUP, "RoleBinding"): _binding_printer("RoleBinding"),
    (_RBAC_GROUP, "ClusterRoleBinding"): _binding_printer("ClusterRoleBinding"),
    ("certificates.k8s.io", "CertificateSigningRequest"): _printer(
        _signing_request,
        NAME,
        AGE,
        TableColumn("SignerName", _SIGNER),
        TableColumn("Requestor", "Base64-encoded PKCS#10 CSR data"),
        TableColumn("RequestedDuration", f"{_CSR}Spec/expirationSeconds"),
        TableColumn("Condition", "Conditions applied to the request, such as approval or denial."),
    ),
    ("coordination.k8s.io", "Lease"): _printer(
        _lease,
        NAME,
        TableColumn("Holder", "=io.k8s.api.coordination.v1.LeaseSpec/holderIdentity"),
        AGE,
    ),
    ("node.k8s.io", "RuntimeClass"): _printer(
        _runtime_class,
        NAME,
        TableColumn("Handler", ""),
        AGE,
    ),
    ("scheduling.k8s.io", "PriorityClass"): _printer(
        _priority_class,
        NAME,
        TableColumn("Value", _PRIORITY + "value", type="integer"),
        TableColumn("Global-Default", _PRIORITY + "globalDefault", type="boolean"),
        AGE,
        TableColumn("PreemptionPolicy", _PRIORITY + "preemptionPolicy"),
    ),
    **metrics.PRINTERS,
    **registration.PRINTERS,
    **templates.PRINTERS,
    **storage.PRINTERS,
}


def builtin(kind: ServedKind) -> Printer:
    """The printer of a built kind; Name and Created At where there is no better one."""
    return _PRINTERS.get(kind.group_kind, _PLAIN)

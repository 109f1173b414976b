"""Kinds of Kubernetes that the federation serves as templates, and which of them a member of ours serves too: those that it runs.

At the federation an object of these kinds is a wish that travels as Works into clusters that serve the kind; nothing acts on
it at home, and its status is what the members report. A member of ours serves those that a controller there runs,
NetworkPolicy, which every node enforces, and Ingress, which whatever its user deploys as an ingress controller reads
(`RUN_BY_MEMBERS`); others only foreign clusters have, so that nobody in ours waits for something that never happens
(`kinds.py`). Pods and ReplicaSets are not among them: at the federation
Pods are mirrors of members' pods and ReplicaSets the revisions of Deployments, and admission refuses others.
"""

from machinery.api.scheme import ServedKind, Subresource

_BATCH = "io.k8s.api.batch.v1."
_NETWORKING = "networking.k8s.io"


def _status(kind: str) -> Subresource:
    return Subresource("status", kind)


def _scale() -> Subresource:
    return Subresource("scale", "Scale", "autoscaling", "v1")


REPLICATION_CONTROLLER = ServedKind(
    "", "v1", "ReplicationController", "replicationcontrollers", "replicationcontroller", True,
    "io.k8s.api.core.v1.ReplicationController", ("rc",), ("all",),
    subresources=(_scale(), _status("ReplicationController")), has_status=True,
)  # fmt: skip

TEMPLATE_KINDS: tuple[ServedKind, ...] = (
    ServedKind(
        "", "v1", "PersistentVolume", "persistentvolumes", "persistentvolume", False,
        "io.k8s.api.core.v1.PersistentVolume", ("pv",),
        subresources=(_status("PersistentVolume"),), has_status=True,
    ),
    ServedKind(
        "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim", True,
        "io.k8s.api.core.v1.PersistentVolumeClaim", ("pvc",),
        subresources=(_status("PersistentVolumeClaim"),), has_status=True,
    ),
    ServedKind(
        "apps", "v1", "DaemonSet", "daemonsets", "daemonset", True,
        "io.k8s.api.apps.v1.DaemonSet", ("ds",), ("all",),
        subresources=(_status("DaemonSet"),), has_status=True,
    ),
    ServedKind(
        "apps", "v1", "StatefulSet", "statefulsets", "statefulset", True,
        "io.k8s.api.apps.v1.StatefulSet", ("sts",), ("all",),
        subresources=(_scale(), _status("StatefulSet")), has_status=True,
    ),
    ServedKind(
        "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers",
        "horizontalpodautoscaler", True, "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
        ("hpa",), ("all",), subresources=(_status("HorizontalPodAutoscaler"),), has_status=True,
    ),
    ServedKind(
        "autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers",
        "horizontalpodautoscaler", True, "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
        ("hpa",), ("all",), subresources=(_status("HorizontalPodAutoscaler"),), has_status=True,
        stored_as=("autoscaling", "v2"),
    ),
    ServedKind(
        "batch", "v1", "CronJob", "cronjobs", "cronjob", True, _BATCH + "CronJob", ("cj",),
        ("all",), subresources=(_status("CronJob"),), has_status=True,
    ),
    ServedKind(
        "batch", "v1", "Job", "jobs", "job", True, _BATCH + "Job", (), ("all",),
        subresources=(_status("Job"),), has_status=True,
    ),
    ServedKind(
        _NETWORKING, "v1", "Ingress", "ingresses", "ingress", True,
        "io.k8s.api.networking.v1.Ingress", ("ing",),
        subresources=(_status("Ingress"),), has_status=True,
    ),
    ServedKind(
        _NETWORKING, "v1", "NetworkPolicy", "networkpolicies", "networkpolicy", True,
        "io.k8s.api.networking.v1.NetworkPolicy", ("netpol",),
    ),
    REPLICATION_CONTROLLER,
)  # fmt: skip

IP_ADDRESS = ServedKind(
    _NETWORKING, "v1", "IPAddress", "ipaddresses", "ipaddress", False,
    "io.k8s.api.networking.v1.IPAddress", ("ip",),
)  # fmt: skip
SERVICE_CIDR = ServedKind(
    _NETWORKING, "v1", "ServiceCIDR", "servicecidrs", "servicecidr", False,
    "io.k8s.api.networking.v1.ServiceCIDR",
    subresources=(_status("ServiceCIDR"),), has_status=True,
)  # fmt: skip
"""Who has which cluster address, and out of which ranges: each member gives its own."""

_RUN = frozenset(
    {
        "CronJob",
        "DaemonSet",
        "HorizontalPodAutoscaler",
        "Ingress",
        "Job",
        "NetworkPolicy",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "ReplicationController",
        "StatefulSet",
    }
)
RUN_BY_MEMBERS: tuple[ServedKind, ...] = (
    IP_ADDRESS,
    SERVICE_CIDR,
    *(kind for kind in TEMPLATE_KINDS if kind.kind in _RUN),
)
"""Those for which a member of ours has a controller, NetworkPolicy, which its nodes enforce, and Ingress."""

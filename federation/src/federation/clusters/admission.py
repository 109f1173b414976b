"""What RBAC cannot say: an agent speaks only for its own cluster, and members' objects are not made here.

Pods and Nodes at the federation are mirrors; whoever creates one gets told where it belongs, instead of an object that
nothing ever runs.
"""

from federation.clusters.links import member_of
from machinery.api.fleet.cluster import CLUSTER_LEASES
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, refuse
from machinery.server.user import MASTERS

NAMED_AFTER_CLUSTER = ("Cluster", "ClusterNetwork")
NOT_MADE_HERE = {
    "Pod": "the federation runs no pods itself: create a Deployment, it is spread over the clusters; "
    "or create the pod in a member's own context",
    "Node": "nodes belong to a member cluster: start `cluster-agent node` there",
}


class OwnClusterOnly:
    """Agents make and change nothing in another cluster's name."""

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        cluster = member_of(request.call.user)
        if not cluster:
            return
        name = request.name or (request.document.get("metadata") or {}).get("name", "")
        named = request.kind.kind in NAMED_AFTER_CLUSTER or request.namespace == CLUSTER_LEASES
        if named and name != cluster:
            raise refuse(request, f'the agent of cluster "{cluster}" may only write its own')


class ExportsNamed:
    """An ExportedService is called what it is about: one cluster exports a name once, and whoever looks for it finds it."""

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        if request.kind.kind != "ExportedService" or request.verb == "delete":
            return
        service = (request.document.get("spec") or {}).get("service") or {}
        wanted = f"{service.get('name', '')}.{service.get('namespace', '')}"
        if request.document["metadata"]["name"] != wanted:
            raise refuse(request, f'the export of this Service must be named "{wanted}"')


class MembersObjects:
    """Kinds that only members have."""

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        why = NOT_MADE_HERE.get(request.kind.kind)
        if why is not None and request.verb == "create" and not request.subresource:
            raise refuse(request, why)
        if request.kind.kind != "ReplicaSet" or request.verb != "create":
            return
        owners = (request.document.get("metadata") or {}).get("ownerReferences") or ()
        if MASTERS not in request.call.user.groups or not any(o.get("controller") for o in owners):
            raise refuse(
                request,
                "at the federation ReplicaSets only record the revisions of Deployments: create a Deployment",
            )

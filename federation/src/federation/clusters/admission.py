"""What RBAC cannot say: an agent speaks only for its own cluster, and members' objects are not made here.

Pods and Nodes at the federation are mirrors; whoever creates one gets told where it belongs, instead of an object that
nothing ever runs, and so does whoever would change an image.
"""

from collections.abc import Callable
from dataclasses import dataclass

from federation.clusters.links import member_of
from federation.clusters.mirroring import MIRRORED_KINDS, source_of
from machinery.api.fleet.cluster import AGENT_INSTANCE, CLUSTER_ID, CLUSTER_LEASES
from machinery.meta.errors import Conflict
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, refuse
from machinery.server.user import LOOPBACK, MASTERS

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


class OneIdentity:
    """One name, one cluster: an agent that speaks for another cluster than the one of its name moves nothing.

    A cluster is known by its id (the uid of its kube-system), which its agent says first and for good, and with every heartbeat.
    `known` tells it of a Cluster; `noted` hears of each agent that came with another one: name, the id that is known, the one
    that came. A machine and its copy say the same id: their heartbeats by turns give them away, which is told (both ids the same)
    and not refused, as nobody knows which is the right one.
    """

    kinds = frozenset({("cluster.karmada.io", "Cluster"), ("coordination.k8s.io", "Lease")})

    def __init__(
        self,
        known: Callable[[str], str] = lambda _: "",
        noted: Callable[[str, str, str], None] = lambda *_: None,
    ) -> None:
        self._known, self._noted = known, noted
        self._turns: dict[str, Turns] = {}

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        name = member_of(request.call.user)
        if not name or request.verb not in ("create", "update"):
            return
        if request.kind.kind == "Lease":
            annotations = (request.document.get("metadata") or {}).get("annotations") or {}
            came = annotations.get(CLUSTER_ID, "")
            known = self._known(name) if came else ""
            if request.namespace == CLUSTER_LEASES and not request.call.dry_run:
                self._take_turns(name, annotations.get(AGENT_INSTANCE, ""), known)
        else:
            came = (request.document.get("spec") or {}).get("id") or ""
            known = ((request.old or {}).get("spec") or {}).get("id") or ""
        if not known or came == known:
            return
        self._noted(name, known, came)
        raise Conflict(
            f'clusters.cluster.karmada.io "{name}" is the cluster with id {known}, and this agent speaks for the '
            f"cluster with id {came or '(none)'}: two clusters cannot have one name. Give this one another name; if it "
            f"replaces the other, say so first: kubectl patch cluster {name} --type=merge "
            '-p \'{"spec":{"id":""}}\''
        )

    def _take_turns(self, name: str, instance: str, known: str) -> None:
        turns = self._turns[name] = self._turns.get(name, Turns()).after(instance)
        if turns.returns >= RETURNS_MAX:
            self._noted(name, known, known)
            self._turns[name] = Turns(turns.now, turns.before)


RETURNS_MAX = 10
"""How often an agent may be heard again after another: the last heartbeats of one that was started anew may come late."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Which start of an agent was heard last, which before it, and how often the two have changed places."""

    now: str = ""
    before: str = ""
    returns: int = 0

    def after(self, instance: str) -> "Turns":
        """A heartbeat of this one came."""
        if not instance or instance == self.now:
            return self
        if instance == self.before:
            return Turns(instance, self.now, self.returns + 1)
        return Turns(instance, self.now)


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
    """Kinds that only members have, and mirrors: a write that changed the image alone would be a lie until the next change there.

    What could be passed on to the member has been (`federation.clusters.forward`). The server itself clears namespaces.
    """

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        source = (
            source_of(request.old) if request.kind.kind in MIRRORED_KINDS and request.old else None
        )
        if (
            source is not None
            and request.verb != "create"
            and request.call.user.name != LOOPBACK.name
        ):
            cluster, name = source
            raise refuse(
                request,
                f'it is "{name}" of cluster "{cluster}", which is only shown here: change it in that cluster\'s own context',
            )
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

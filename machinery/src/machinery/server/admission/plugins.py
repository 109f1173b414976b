"""The plugins that need little: namespaces, tolerations, priority, CSR identity, node restriction.

NamespaceLifecycle      nothing new in a namespace that is absent or ending; the first ones cannot be deleted
DefaultTolerationSeconds a pod stays 300 s on a node that is not ready or unreachable, unless it says otherwise
Priority                a pod's priorityClassName becomes its number
PodNode                 TaintNodesByCondition: a fresh node is tainted not-ready until it reports
CertificateIdentity     a CSR carries the identity of who asked, whatever the body says
NodeRestriction         a kubelet writes its own Node and the pods bound to it, nothing else
"""

from collections.abc import Callable
from typing import Any, ClassVar

from machinery.kit.clock import Clock, rfc3339
from machinery.meta.errors import Forbidden, NotFound
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, Kinds, refuse
from machinery.server.authz import MIRROR, references
from machinery.server.cache import KindCache

Peek = Callable[[str, str, str], Document | None]
"""(group/plural, namespace, name) -> the committed object; the core group is written `core`."""

PODS: Kinds = frozenset({("", "Pod")})
IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
TOLERATION_SECONDS = 300
NODE_RESTRICTION = "node-restriction.kubernetes.io"
_OWN_LABELS = frozenset(
    {
        "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
    }
)  # fmt: skip
_OWN_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
"""What a kubelet may say of its node among Kubernetes' labels; those of anybody else are free."""
PATIENCE: tuple[Document, ...] = tuple(
    {
        "key": key, "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": TOLERATION_SECONDS,
    }
    for key in (NOT_READY, UNREACHABLE)
)  # fmt: skip
SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
SERVED_SUBRESOURCE_WRITES = frozenset({"status", ""})


class NamespaceLifecycle:
    """Guards the life of namespaces."""

    def __init__(self, peek: Peek) -> None:
        self._peek = peek

    def admit(self, request: AdmissionRequest) -> Document:
        if request.verb == "create" and request.kind.namespaced:
            self._check(request)
        return request.document

    def _check(self, request: AdmissionRequest) -> None:
        name = request.namespace
        namespace = self._peek("core/namespaces", "", name)
        if namespace is None:
            raise NotFound(
                f'namespaces "{name}" not found', details={"name": name, "kind": "namespaces"}
            )
        if namespace["metadata"].get("deletionTimestamp") is None:
            return
        error = refuse(
            request,
            f"unable to create new content in namespace {name} because it is being terminated",
        )
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {name} is being terminated",
            "field": "metadata.namespace",
        }
        raise Forbidden(error.message, details={**(error.details or {}), "causes": [cause]})

    def validate(self, request: AdmissionRequest) -> None:
        namespace = request.verb == "delete" and request.kind.plural == "namespaces"
        if namespace and request.name in IMMORTAL:
            raise refuse(request, "this namespace may not be deleted")


def _is_pod(request: AdmissionRequest) -> bool:
    return request.kind.kind == "Pod" and not request.kind.group and not request.subresource


class DefaultTolerationSeconds:
    """Gives pods their patience with failing nodes."""

    kinds: ClassVar[Kinds] = PODS

    def admit(self, request: AdmissionRequest) -> Document:
        if not _is_pod(request) or request.verb not in ("create", "update"):
            return request.document
        spec = request.document.get("spec") or {}
        held = spec.get("tolerations") or []
        added = (
            [patience for patience in PATIENCE if not _tolerated(held, patience["key"])]
            if held
            else PATIENCE
        )
        if not added:
            return request.document
        return {**request.document, "spec": {**spec, "tolerations": [*held, *added]}}

    def validate(self, request: AdmissionRequest) -> None:
        return None


def _tolerated(held: list[Document], key: str) -> bool:
    return any(
        one.get("key", "") in ("", key) and one.get("effect", "") in ("", "NoExecute")
        for one in held
    )


class Priority:
    """Resolves priorityClassName."""

    kinds: ClassVar[Kinds] = PODS

    def __init__(self, classes: KindCache | None) -> None:
        self._classes = classes
        self._held: Document | None = None
        self._held_at = -1

    def admit(self, request: AdmissionRequest) -> Document:
        if not _is_pod(request) or request.verb != "create":
            return request.document
        spec = request.document.get("spec") or {}
        name = spec.get("priorityClassName", "")
        if not name:
            value, preemption = 0, "PreemptLowerPriority"
            default = self._default()
            if default is not None:
                name, value = default["metadata"]["name"], int(default.get("value", 0))
                preemption = default.get("preemptionPolicy") or preemption
        else:
            value, preemption = self._resolve(request, name)
        given = spec.get("priority")
        if given is not None and given != value:
            raise refuse(
                request,
                f"the integer value of priority ({given}) must not be provided in pod spec; priority admission "
                f"controller computed {value} from the given PriorityClass name",
            )
        wished = spec.get("preemptionPolicy")
        if wished is not None and wished != preemption:
            raise refuse(
                request,
                f"the string value of PreemptionPolicy ({wished}) must not be provided in pod spec; priority admission "
                f"controller computed {preemption} from the given PriorityClass name",
            )
        filled: dict[str, Any] = {"priority": value}
        if name:
            filled["priorityClassName"] = name
        filled["preemptionPolicy"] = preemption
        return {**request.document, "spec": {**spec, **filled}}

    def _resolve(self, request: AdmissionRequest, name: str) -> tuple[int, str]:
        entry = self._classes.entries.get(f"/{name}") if self._classes is not None else None
        if entry is not None:
            document = entry.document()
            return int(document.get("value", 0)), document.get(
                "preemptionPolicy"
            ) or "PreemptLowerPriority"
        if name in SYSTEM_CLASSES:
            return SYSTEM_CLASSES[name], "PreemptLowerPriority"
        raise refuse(request, f"no PriorityClass with name {name} was found")

    def _default(self) -> Document | None:
        """The global default class; looked for again only when a class has changed."""
        if self._classes is None:
            return None
        if self._held_at == self._classes.changed:
            return self._held
        defaults = [
            document
            for entry in self._classes.entries.values()
            if (document := entry.document()).get("globalDefault")
        ]
        self._held = max(defaults, key=lambda d: int(d.get("value", 0)), default=None)
        self._held_at = self._classes.changed
        return self._held

    def validate(self, request: AdmissionRequest) -> None:
        return None


class RuntimeClass:
    """A pod's RuntimeClass must exist; its overhead is the pod's."""

    kinds: ClassVar[Kinds] = PODS

    def __init__(self, classes: KindCache | None) -> None:
        self._classes = classes

    def admit(self, request: AdmissionRequest) -> Document:
        if not _is_pod(request) or request.verb != "create":
            return request.document
        spec = request.document.get("spec") or {}
        name = spec.get("runtimeClassName", "")
        found: Document = {}
        if name:
            entry = self._classes.entries.get(f"/{name}") if self._classes is not None else None
            if entry is None:
                raise refuse(request, f'pod rejected: RuntimeClass "{name}" not found')
            found = entry.document()
        overhead = (found.get("overhead") or {}).get("podFixed")
        given = spec.get("overhead")
        if given and not overhead:
            raise refuse(
                request,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )
        if given and given != overhead:
            raise refuse(
                request,
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            )
        if not overhead:
            return request.document
        return {**request.document, "spec": {**spec, "overhead": overhead}}

    def validate(self, request: AdmissionRequest) -> None:
        return None


class TaintNewNodes:
    """A fresh node gets no pods until the node lifecycle controller has seen it ready."""

    kinds: ClassVar[Kinds] = frozenset({("", "Node")})

    def admit(self, request: AdmissionRequest) -> Document:
        if request.verb != "create" or request.kind.kind != "Node" or request.subresource:
            return request.document
        spec = request.document.get("spec") or {}
        taints = spec.get("taints") or []
        wanted = {"key": NOT_READY, "effect": "NoSchedule"}
        if any(t.get("key") == NOT_READY and t.get("effect") == "NoSchedule" for t in taints):
            return request.document
        return {**request.document, "spec": {**spec, "taints": [*taints, wanted]}}

    def validate(self, request: AdmissionRequest) -> None:
        return None


class CertificateIdentity:
    """A CSR carries who asked, and when its conditions came."""

    kinds: ClassVar[Kinds] = frozenset({("certificates.k8s.io", "CertificateSigningRequest")})

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def admit(self, request: AdmissionRequest) -> Document:
        if request.kind.kind != "CertificateSigningRequest":
            return request.document
        document = request.document
        if request.subresource:
            return self._timed(document)
        spec = dict(document.get("spec") or {})
        if request.verb == "create":
            user = request.call.user
            spec = {key: value for key, value in spec.items() if key not in ("uid", "extra")}
            spec |= {"username": user.name, "groups": list(user.groups)}
            spec |= {"uid": user.uid} if user.uid else {}
            if user.extra:
                spec["extra"] = {key: list(values) for key, values in user.extra.items()}
            return {**document, "spec": spec}
        return document

    def _timed(self, document: Document) -> Document:
        """Conditions without their times get the present one."""
        status = document.get("status") or {}
        conditions = status.get("conditions") or ()
        now = rfc3339(self._clock.now())
        filled = [
            {
                **condition,
                "lastUpdateTime": condition.get("lastUpdateTime") or now,
                "lastTransitionTime": condition.get("lastTransitionTime") or now,
            }
            for condition in conditions
        ]
        if filled == list(conditions):
            return document
        return {**document, "status": {**status, "conditions": filled}}

    def validate(self, request: AdmissionRequest) -> None:
        if request.kind.kind != "CertificateSigningRequest" or request.verb != "create":
            return
        spec = request.document.get("spec") or {}
        if spec.get("signerName") == "kubernetes.io/kube-apiserver-client":
            from machinery.server.pki import requested_groups  # noqa: PLC0415 - cryptography, rarely needed

            if "system:masters" in requested_groups(spec.get("request") or ""):
                raise refuse(
                    request,
                    "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
                )


class NodeRestriction:
    """A kubelet's hands are tied to its own node."""

    kinds: ClassVar[Kinds] = frozenset(
        {("", "Node"), ("", "Pod"), ("coordination.k8s.io", "Lease")}
    )

    def __init__(self, peek: Peek) -> None:
        self._peek = peek

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        node = request.call.user.node
        if not node:
            return
        kind = (request.kind.group, request.kind.plural)
        if kind == ("", "nodes"):
            self._node(request, node)
        elif kind == ("", "pods"):
            self._pod(request, node)
        elif kind == ("coordination.k8s.io", "leases"):
            self._lease(request, node)

    def _lease(self, request: AdmissionRequest, node: str) -> None:
        heartbeat = request.namespace == "kube-node-lease"
        if heartbeat and request.name != node:
            raise refuse(request, f"node {node} can only use lease {node}")

    def _node(self, request: AdmissionRequest, node: str) -> None:
        if request.verb in ("create", "update", "delete") and request.name != node:
            raise refuse(request, f'node "{node}" is not allowed to modify node "{request.name}"')
        if request.verb == "delete":
            raise refuse(request, f'node "{node}" is not allowed to delete itself')
        self._labels(request, node)
        if request.verb == "update" and request.old is not None and not request.subresource:
            old = (request.old.get("spec") or {}).get("taints") or []
            new = (request.document.get("spec") or {}).get("taints") or []
            if old != new:
                raise refuse(
                    request, f"node {node!r} is not allowed to modify taints".replace("'", '"')
                )

    def _labels(self, request: AdmissionRequest, node: str) -> None:
        """What others steer pods by is not the node's to say."""
        old = request.old or {}
        held = (old.get("metadata") or {}).get("labels") or {}
        wanted = (request.document.get("metadata") or {}).get("labels") or {}
        changed = [k for k in {**held, **wanted} if held.get(k) != wanted.get(k)]
        refused = sorted(filter(_restricted, changed))
        if refused:
            verb = "set the following labels" if request.verb == "create" else "modify labels"
            raise refuse(request, f'node "{node}" is not allowed to {verb}: {", ".join(refused)}')

    def _pod(self, request: AdmissionRequest, node: str) -> None:
        document = request.document if request.old is None else request.old
        bound = (document.get("spec") or {}).get("nodeName", "")
        if request.verb == "create" and not request.subresource:
            annotations = (document.get("metadata") or {}).get("annotations") or {}
            if MIRROR not in annotations:
                raise refuse(
                    request,
                    f'pod does not have "kubernetes.io/config.mirror" annotation, node "{node}" can only create '
                    "mirror pods",
                )
            if what := _referred(document):
                # or it could read any Secret by naming it in a pod of its own
                raise refuse(request, f'node "{node}" can not create pods that reference {what}')
        if bound != node:
            verb = "delete" if request.verb == "delete" else "modify"
            raise refuse(
                request, f'node "{node}" can only {verb} pods with spec.nodeName set to itself'
            )


def _within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith("." + parent)


def _restricted(label: str) -> bool:
    """Whether a node may not change this label of its own."""
    domain, slash, _ = label.rpartition("/")
    if not slash:
        return False
    if _within(domain, NODE_RESTRICTION):
        return True
    if label in _OWN_LABELS or any(_within(domain, own) for own in _OWN_LABEL_DOMAINS):
        return False
    return _within(domain, "kubernetes.io") or _within(domain, "k8s.io")


_REFERENCES = {
    "serviceaccounts": "a service account",
    "secrets": "secrets",
    "configmaps": "configmaps",
    "persistentvolumeclaims": "persistentvolumeclaims",
}


def _referred(pod: Document) -> str:
    """What of others a pod refers to, in the words of a refusal; empty for a pod that stands alone."""
    for plural, _, name in references(pod):
        if name:
            return _REFERENCES[plural]
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        sources = (volume.get("projected") or {}).get("sources") or ()
        if any(source.get("serviceAccountToken") for source in sources):
            return "a service account"
    return ""

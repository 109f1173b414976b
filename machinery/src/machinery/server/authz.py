"""May this user do this: system:masters, the node rules, then RBAC. The first that says yes decides.

A kubelet may read what its pods refer to and write what is its own: that cannot be said in RBAC, which knows no
"pods of this node", so `NodeRules` asks the watch cache's node index.
"""

from collections.abc import Iterable, Iterator

from machinery.api.scheme import ServedKind
from machinery.meta.errors import Forbidden
from machinery.meta.resource import Document
from machinery.server.cache import CacheEvent, Entry, KindCache, WatchCache
from machinery.server.rbac import GROUP, Attributes, Grants, Index, Policy
from machinery.server.user import MASTERS, UserInfo

_READ = frozenset({"get", "list", "watch"})
_OWN_NODE = frozenset({"create", "get", "list", "watch", "update", "patch", "delete"})
_NODE_READS = frozenset(
    {
        ("", "services"), ("", "nodes"), ("", "pods"), ("", "namespaces"),
        ("node.k8s.io", "runtimeclasses"), ("discovery.k8s.io", "endpointslices"),
        ("multicluster.x-k8s.io", "serviceexports"), ("multicluster.x-k8s.io", "serviceimports"),
        ("ubernetes.io", "clusternetworks"), ("", "persistentvolumes"), ("networking.k8s.io", "networkpolicies"),
    }
)  # fmt: skip
"""Namespaces, slices and the kinds of services over clusters are for proxy, DNS and gateway, policies for whoever enforces them:
they all run as the node."""
_NODE_CREATES = frozenset(
    {
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
    }
)
MIRROR = "kubernetes.io/config.mirror"
"""Annotation of pods that a node has of itself; they run as nobody."""
_REFERRED = frozenset({"secrets", "configmaps", "persistentvolumeclaims"})


class Authorizer:
    """Asked on every request; a repeated question costs a look-up."""

    def __init__(self, cache: WatchCache, kinds: Iterable[ServedKind]) -> None:
        self._cache = cache
        self._rbac_caches = {kind.plural: cache.of(kind) for kind in kinds if kind.group == GROUP}
        for kind_cache in self._rbac_caches.values():
            kind_cache.listeners.append(self._forget)
        cache.on_reset.append(lambda: self._forget(None))
        self._index: Index | None = None
        pods = next((k for k in kinds if k.plural == "pods" and not k.group), None)
        self._nodes = NodeRules(cache.of(pods)) if pods is not None else None

    def _forget(self, _event: CacheEvent | None) -> None:
        self._index = None

    @property
    def index(self) -> Index:
        """The RBAC rules as they are now."""
        if self._index is None:
            self._index = Index(
                Policy(
                    self._documents("roles"),
                    self._documents("clusterroles"),
                    self._documents("rolebindings"),
                    self._documents("clusterrolebindings"),
                )
            )
        return self._index

    def _documents(self, plural: str) -> list[Document]:
        cache = self._rbac_caches.get(plural)
        return [] if cache is None else [entry.document() for entry in cache.entries.values()]

    def allows(self, user: UserInfo, asked: Attributes) -> bool:
        """The decision."""
        if MASTERS in user.groups:
            return True
        if self._nodes is not None and user.node and self._nodes.allows(user.node, asked):
            return True
        return self.index.allows(user, asked)

    def reason(self, user: UserInfo, asked: Attributes) -> str:
        """Which binding it was that allowed, for a review."""
        return "" if MASTERS in user.groups else self.index.reason(user, asked)

    def check(self, user: UserInfo, asked: Attributes) -> None:
        """Raises Forbidden in upstream's wording."""
        if not self.allows(user, asked):
            raise forbidden(user, asked)

    def grants(self, user: UserInfo) -> Grants:
        """The rules that a rules review lists."""
        return self.index.grants(user)


def forbidden(user: UserInfo, asked: Attributes) -> Forbidden:
    """`pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "n"`."""
    if not asked.resource:
        return Forbidden(
            f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"', details={}
        )
    where = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    named = f'{where} "{asked.name}"' if asked.name else where
    scope = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    if asked.resource == "namespaces" and asked.verb in ("list", "watch", "create"):
        scope = "at the cluster scope"
    details = {"name": asked.name} if asked.name else {}
    details |= ({"group": asked.group} if asked.group else {}) | {"kind": asked.resource}
    return Forbidden(
        f'{named} is forbidden: User "{user.name}" cannot {asked.verb} resource '
        f'"{asked.full_resource}" in API group "{asked.group}" {scope}',
        details=details,
    )


class NodeRules:
    """What a kubelet may do beyond RBAC."""

    def __init__(self, pods: KindCache) -> None:
        self._pods = pods
        self._references: dict[Entry, frozenset[tuple[str, str, str]]] = {}

    def allows(self, node: str, asked: Attributes) -> bool:
        resource, verb = (asked.group, asked.resource), asked.verb
        if not asked.group and asked.resource in _REFERRED:
            return verb in _READ and bool(asked.name) and self._refers(node, asked)
        if resource == ("", "serviceaccounts"):
            if asked.subresource == "token":
                return verb == "create" and self._refers(node, asked)
            return verb == "get" and self._refers(node, asked)
        if verb in _READ and resource in _NODE_READS and not asked.subresource:
            return True
        if resource in _NODE_CREATES:
            return verb == "create"
        return _own(node, asked)

    def _refers(self, node: str, asked: Attributes) -> bool:
        wanted = (asked.resource, asked.namespace, asked.name)
        entries = self._pods.on_node(node)
        if len(self._references) > 4 * len(self._pods.entries) + 1000:
            self._references.clear()
        for entry in entries:
            found = self._references.get(entry)
            if found is None:
                found = frozenset(references(entry.document()))
                self._references[entry] = found
            if wanted in found:
                return True
        return False


def _own(node: str, asked: Attributes) -> bool:
    """The objects that a kubelet writes; that they are its own node's is checked by admission."""
    group, resource, verb = asked.group, asked.resource, asked.verb
    if (group, resource) == ("", "nodes"):
        return verb in _OWN_NODE and (not asked.name or asked.name == node)
    if (group, resource) == ("", "pods"):
        if asked.subresource == "status":
            return verb in ("update", "patch")
        if asked.subresource == "eviction":
            return verb == "create"
        return not asked.subresource and verb in ("create", "delete")
    if (group, resource) == ("", "persistentvolumes"):
        return verb == "patch" and not asked.subresource
    if (group, resource) == ("coordination.k8s.io", "leases"):
        return asked.namespace == "kube-node-lease" and (not asked.name or asked.name == node)
    if (group, resource) == ("certificates.k8s.io", "certificatesigningrequests"):
        return verb in ("create", "get", "list", "watch") and not asked.subresource
    if resource == "events" and group in ("", "events.k8s.io"):
        return verb in ("create", "update", "patch")
    return False


def references(pod: Document) -> Iterator[tuple[str, str, str]]:
    """(plural, namespace, name) of every Secret, ConfigMap, claim and ServiceAccount that a pod refers to. Pure."""
    namespace = pod["metadata"].get("namespace", "")
    spec = pod.get("spec") or {}
    mirrored = MIRROR in (pod["metadata"].get("annotations") or {})
    account = spec.get("serviceAccountName") or ("" if mirrored else "default")
    if account:
        yield ("serviceaccounts", namespace, account)
    for secret in spec.get("imagePullSecrets") or ():
        yield ("secrets", namespace, secret.get("name", ""))
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            yield from _sources(source, namespace)
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield from _container_references(container, namespace)


def _sources(source: Document, namespace: str) -> Iterator[tuple[str, str, str]]:
    if config_map := source.get("configMap"):
        yield ("configmaps", namespace, config_map.get("name", ""))
    if secret := source.get("secret"):
        yield ("secrets", namespace, secret.get("secretName") or secret.get("name", ""))
    if claim := source.get("persistentVolumeClaim"):
        yield ("persistentvolumeclaims", namespace, claim.get("claimName", ""))


def _container_references(container: Document, namespace: str) -> Iterator[tuple[str, str, str]]:
    for each in container.get("envFrom") or ():
        if ref := each.get("configMapRef"):
            yield ("configmaps", namespace, ref.get("name", ""))
        if ref := each.get("secretRef"):
            yield ("secrets", namespace, ref.get("name", ""))
    for each in container.get("env") or ():
        value_from = each.get("valueFrom") or {}
        if ref := value_from.get("configMapKeyRef"):
            yield ("configmaps", namespace, ref.get("name", ""))
        if ref := value_from.get("secretKeyRef"):
            yield ("secrets", namespace, ref.get("name", ""))

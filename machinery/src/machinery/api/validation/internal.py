"""How the reference server prints an object when it says what changed: its internal Go structs, indented, every field present.

Only the specs of pods and volume claims need it (an update that may not be shows a unified diff). The order and the Go names are derived from
the v1 structs; where the internal struct of a pod differs, it is written down here.
"""

import difflib
import json
from typing import Any, Final

from machinery.api.plans import Node, node_of
from machinery.meta.resource import Document

_SPEC: Final = "io.k8s.api.core.v1.PodSpec"
_CONTEXT: Final = "io.k8s.api.core.v1.PodSecurityContext"
_EPHEMERAL: Final = "io.k8s.api.core.v1.EphemeralContainer"
_SPEC_ORDER: Final = (
    "volumes", "initContainers", "containers", "ephemeralContainers", "restartPolicy",
    "terminationGracePeriodSeconds", "activeDeadlineSeconds", "dnsPolicy", "nodeSelector",
    "serviceAccountName", "automountServiceAccountToken", "nodeName", "securityContext",
    "imagePullSecrets", "hostname", "subdomain", "setHostnameAsFQDN", "affinity", "schedulerName",
    "tolerations", "hostAliases", "priorityClassName", "priority", "preemptionPolicy", "dnsConfig",
    "readinessGates", "runtimeClassName", "overhead", "enableServiceLinks",
    "topologySpreadConstraints", "os", "schedulingGates", "resourceClaims", "resources",
    "hostnameOverride",
)  # fmt: skip
_HOST: Final = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")
_CONTEXT_ORDER: Final = (
    "seLinuxOptions", "windowsOptions", "runAsUser", "runAsGroup", "runAsNonRoot",
    "supplementalGroups", "supplementalGroupsPolicy", "fsGroup", "fsGroupChangePolicy", "sysctls",
    "seccompProfile", "appArmorProfile", "seLinuxChangePolicy",
)  # fmt: skip
_GO_NAMES: Final = {
    "tty": "TTY", "dnsPolicy": "DNSPolicy", "dnsConfig": "DNSConfig", "httpGet": "HTTPGet",
    "httpHeaders": "HTTPHeaders", "tcpSocket": "TCPSocket", "grpc": "GRPC", "fsGroup": "FSGroup",
    "fsGroupChangePolicy": "FSGroupChangePolicy", "fsType": "FSType", "seLinuxOptions": "SELinuxOptions",
    "seLinuxChangePolicy": "SELinuxChangePolicy", "os": "OS", "ip": "IP", "uid": "UID",
    "apiVersion": "APIVersion", "nfs": "NFS", "rbd": "RBD", "csi": "CSI", "iscsi": "ISCSI",
    "cephfs": "CephFS", "fc": "FC", "gcePersistentDisk": "GCEPersistentDisk",
    "awsElasticBlockStore": "AWSElasticBlockStore", "gmsaCredentialSpecName": "GMSACredentialSpecName",
}  # fmt: skip


def spec_diff(new: Document, old: Document) -> str:
    """The unified diff from the old spec to the new one, three lines of context."""
    return _diff(_spec(old), _spec(new))


def struct_diff(name: str, new: Document, old: Document) -> str:
    """The same for a struct that is internally as its v1 definition, which `name` names."""
    node = node_of(name)
    return _diff(_struct(node, old), _struct(node, new))


def container_diff(new: Document, old: Document) -> str:
    """The same for one ephemeral container."""
    node = node_of(_EPHEMERAL)
    return _diff(_struct(node, old), _struct(node, new))


def _diff(old: Document, new: Document) -> str:
    before, after = _text(old).splitlines(), _text(new).splitlines()
    lines = list(difflib.unified_diff(before, after, lineterm=""))[2:]
    return "".join(line + "\n" for line in lines)


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


def go_name(name: str) -> str:
    return _GO_NAMES.get(name) or name[0].upper() + name[1:]


def _spec(spec: Document) -> Document:
    node = node_of(_SPEC)
    out: Document = {}
    for key in _SPEC_ORDER:
        if key == "securityContext":
            out["SecurityContext"] = _security(spec)
        elif key in node.fields:
            out[go_name(key)] = _field(node, key, spec)
    return out


def _security(spec: Document) -> Document:
    """Internally the host's namespaces are part of the security context."""
    outer, inner = node_of(_SPEC), node_of(_CONTEXT)
    context = spec.get("securityContext") or {}
    out = {go_name(key): _field(outer, key, spec) for key in _HOST}
    if not spec.get("shareProcessNamespace"):
        out["ShareProcessNamespace"] = spec.get("shareProcessNamespace")
    return out | {go_name(key): _field(inner, key, context) for key in _CONTEXT_ORDER}


def _field(node: Node, key: str, owner: Document) -> Any:
    part = node.fields[key]
    value = owner.get(key)
    if value is None:
        if part.node.sort == "struct":
            return _struct(part.node, {}) if part.always else None
        return part.zero if part.always or part.absent_when_zero else None
    return _value(part.node, value)


def _struct(node: Node, value: Document) -> Document:
    return {go_name(key): _field(node, key, value) for key in node.fields}


def _value(node: Node, value: Any) -> Any:
    if node.sort == "struct" and type(value) is dict:
        return _struct(node, value)
    if node.sort == "list" and node.child is not None:
        return [_value(node.child, one) for one in value]
    if node.sort == "map":
        return dict(sorted(value.items()))
    return value

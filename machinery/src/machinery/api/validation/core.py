"""The smaller kinds of the core group: ConfigMap, Secret, ServiceAccount, Namespace, Node, Event, Binding."""

import base64
import ipaddress
from typing import Any, Final

from machinery.api import syntax
from machinery.api.validation import resources, scheduling
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE
from machinery.meta import names
from machinery.meta.resource import Document

DATA_BYTES_MAX: Final = 1024 * 1024
_REDACTED: Final = "<secret contents redacted>"
_WHEN_SET: Final = "field is immutable when `immutable` is set"
_NEEDED: Final = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_BASIC: Final = ("username", "password")
_DOCKER: Final = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}
_ACCOUNT: Final = "kubernetes.io/service-account.name"


# ------------------------------------------------------------------------------------------------ ConfigMap and Secret
def config_map(document: Document, causes: Causes) -> None:
    data, binary = document.get("data") or {}, document.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        causes.invalid_each(f"data[{key}]", key, names.config_key(key))
        if key in binary:
            causes.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        size += len(value.encode())
    for key, value in binary.items():
        causes.invalid_each(f"binaryData[{key}]", key, names.config_key(key))
        size += _decoded_size(value)
    if size > DATA_BYTES_MAX:
        causes.too_long("[]", DATA_BYTES_MAX)


def _decoded_size(packed: str) -> int:
    return len(packed) // 4 * 3 - packed[-2:].count("=")


def config_map_update(new: Document, old: Document, causes: Causes) -> None:
    if old.get("immutable"):
        _frozen(new, old, ("data", "binaryData"), causes)
    config_map(new, causes)


def _frozen(new: Document, old: Document, parts: tuple[str, ...], causes: Causes) -> None:
    if not new.get("immutable"):
        causes.forbidden("immutable", _WHEN_SET)
    for part in parts:
        if (new.get(part) or {}) != (old.get(part) or {}):
            causes.forbidden(part, _WHEN_SET)


def secret(document: Document, causes: Causes) -> None:
    data = document.get("data") or {}
    size = 0
    for key, value in data.items():
        causes.invalid_each(f"data[{key}]", key, names.config_key(key))
        size += _decoded_size(value)
    if size > DATA_BYTES_MAX:
        causes.too_long("data", DATA_BYTES_MAX)
    _typed(document.get("type", ""), document, data, causes)


def _typed(kind: str, document: Document, data: Document, causes: Causes) -> None:
    if kind == "kubernetes.io/service-account-token":
        annotations = (document.get("metadata") or {}).get("annotations") or {}
        if not annotations.get(_ACCOUNT):
            causes.required(f"metadata.annotations[{_ACCOUNT}]")
    elif kind in _DOCKER:
        _docker(_DOCKER[kind], data, causes)
    elif kind == "kubernetes.io/basic-auth" and not any(key in data for key in _BASIC):
        for key in _BASIC:
            causes.required(f"data[{key}]")
    for key in _NEEDED.get(kind, ()):
        if key not in data:
            causes.required(f"data[{key}]")


def _docker(key: str, data: Document, causes: Causes) -> None:
    if key not in data:
        causes.required(f"data[{key}]")
        return
    try:
        found, _ = syntax.parse_json(base64.b64decode(data[key]))
    except syntax.BadSyntax as error:
        causes.invalid(f"data[{key}]", _REDACTED, str(error))
        return
    if not isinstance(found, dict):
        causes.invalid(
            f"data[{key}]",
            _REDACTED,
            "json: cannot unmarshal into Go value of type map[string]interface {}",
        )


def secret_update(new: Document, old: Document, causes: Causes) -> None:
    if (kind := new.get("type")) != old.get("type"):
        causes.invalid("type", kind, IMMUTABLE)
    if old.get("immutable"):
        _frozen(new, old, ("data",), causes)
    secret(new, causes)


# ----------------------------------------------------------------------------------------------------------- Namespace
def namespace(document: Document, causes: Causes) -> None:
    """Nothing beyond its name."""


def namespace_status(new: Document, old: Document, causes: Causes) -> None:
    phase = (new.get("status") or {}).get("phase")
    if (new.get("metadata") or {}).get("deletionTimestamp"):
        if phase != "Terminating":
            causes.invalid(
                "status.Phase",
                phase,
                "may only be 'Terminating' if `deletionTimestamp` is not empty",
            )
    elif phase != "Active":
        causes.invalid(
            "status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty"
        )
    del old


def namespace_finalize(new: Document, old: Document, causes: Causes) -> None:
    for index, name in enumerate((new.get("spec") or {}).get("finalizers") or ()):
        field = f"spec.finalizers[{index}]"
        causes.invalid_each(field, name, names.qualified_name(name))
        if "/" not in name and name not in ("kubernetes", "orphan", "foregroundDeletion"):
            causes.invalid(
                field, name, "name is neither a standard finalizer name nor is it fully qualified"
            )
    del old


# ---------------------------------------------------------------------------------------------------------------- Node
def node(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    if taints := spec.get("taints"):
        scheduling.taints(taints, "metadata.taints", causes)
    _node_status(document, causes)
    _pod_cidrs(spec, causes)


def _node_status(document: Document, causes: Causes) -> None:
    status = document.get("status") or {}
    for part in ("capacity", "allocatable"):
        if found := status.get(part):
            resources.amounts(found, f"status.{part}", causes)
    for index, address in enumerate(status.get("addresses") or ()):
        if not address.get("type") and not address.get("address"):
            causes.required(f"status.addresses[{index}].address")


def _pod_cidrs(spec: Document, causes: Causes) -> None:
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    for index, text in enumerate(cidrs):
        if _network(text) is None:
            causes.invalid(
                f"spec.podCIDRs[{index}]",
                text,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            )
    if len(cidrs) > 2:
        causes.invalid(
            "spec.podCIDRs", cidrs, "must specify no more than one CIDR for each IP family"
        )


def _network(text: str) -> Any:
    if "/" not in text:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def node_update(new: Document, old: Document, causes: Causes) -> None:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    _node_status(new, causes)
    if before.get("podCIDR") and after.get("podCIDR") != before["podCIDR"]:
        causes.forbidden(
            "spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'
        )
    elif not before.get("podCIDR"):
        _pod_cidrs(after, causes)
    if before.get("providerID") and after.get("providerID") != before["providerID"]:
        causes.forbidden(
            "spec.providerID", 'node updates may not change providerID except from "" to valid'
        )
    if taints := after.get("taints"):
        scheduling.taints(taints, "metadata.taints", causes)


# --------------------------------------------------------------------------------------------------------------- Event
def event(document: Document, causes: Causes) -> None:
    """The older form: its object's namespace is its own; cluster-scoped objects report into `default`."""
    involved = document.get("involvedObject") or {}
    namespace_of = (document.get("metadata") or {}).get("namespace", "")
    if involved.get("namespace"):
        if involved["namespace"] != namespace_of:
            causes.invalid(
                "involvedObject.namespace", involved["namespace"], "does not match event.namespace"
            )
    elif namespace_of not in ("", "default", "kube-system"):
        causes.invalid("involvedObject.namespace", "", "does not match event.namespace")


def new_event(document: Document, causes: Causes) -> None:
    """events.k8s.io/v1: who reports, what was done and why are all needed."""
    if not document.get("eventTime"):
        causes.required("eventTime")
    controller, kind = document.get("reportingController", ""), document.get("type", "")
    if not controller:
        causes.required("reportingController")
    else:
        causes.invalid_each("reportingController", controller, names.qualified_name(controller))
    for key, limit in (("reportingInstance", 128), ("action", 128), ("reason", 128)):
        value = document.get(key, "")
        if not value:
            causes.required(key)
        elif len(value) > limit:
            causes.invalid(key, value, f"can have at most {limit} characters")
    if len(note := document.get("note", "")) > 1024:
        causes.invalid("note", note, "can have at most 1024 characters")
    if kind not in ("Normal", "Warning"):
        causes.invalid("type", kind, f"has invalid value: {kind}")


# ------------------------------------------------------------------------------------------------------------- Binding
def binding(document: Document, causes: Causes) -> None:
    target = document.get("target") or {}
    if target.get("kind") not in (None, "", "Node"):
        causes.unsupported("target.kind", target["kind"], ("Node", "<empty>"))
    if not target.get("name"):
        causes.required("target.name")

"""References from a pod to its own fields: the downward API in environment variables and volumes."""

import re
from collections.abc import Sequence
from typing import Final

from machinery.api.validation.causes import Causes
from machinery.meta import names, quantity
from machinery.meta.resource import Document

ENV_FIELDS: Final = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
    "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_CONVERTIBLE: Final = frozenset(
    {
        "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace",
        "metadata.uid", "spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName",
        "spec.schedulerName", "status.phase", "status.hostIP", "status.hostIPs", "status.podIP",
        "status.podIPs", "status.nominatedNodeName", "spec.hostNetwork",
    }
)  # fmt: skip
_SUBSCRIPT: Final = re.compile(r"(metadata\.(?:annotations|labels))\['(.*)'\]")
_RESOURCES: Final = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu",
    "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
_DIVISORS: Final = {
    "cpu": ("1m", "1"),
    "memory": ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"),
}


def field_ref(reference: Document, field: str, causes: Causes, valid: Sequence[str]) -> None:
    """`fieldRef`: one of `valid`, or one label or annotation by its key."""
    path, version = reference.get("fieldPath", ""), reference.get("apiVersion", "")
    if not version:
        causes.required(f"{field}.apiVersion")
        return
    if not path:
        causes.required(f"{field}.fieldPath")
        return
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        _subscripted(subscript[1], subscript[2], field, causes)
    elif version != "v1" or path not in _CONVERTIBLE:
        causes.invalid(
            f"{field}.fieldPath",
            path,
            f"error converting fieldPath: field label not supported: {path}",
        )
    else:
        causes.one_of(f"{field}.fieldPath", path, valid)


def _subscripted(base: str, key: str, field: str, causes: Causes) -> None:
    checked = key.lower() if base.endswith("annotations") else key
    causes.invalid_each(f"{field}.fieldPath", key, names.qualified_name(checked))


def resource_field_ref(reference: Document, field: str, causes: Causes, *, in_volume: bool) -> None:
    """`resourceFieldRef`: a request or limit of a container."""
    resource = reference.get("resource", "")
    if in_volume and not reference.get("containerName"):
        causes.required(f"{field}.containerName")
    elif not resource:
        causes.required(f"{field}.resource")
    elif resource not in _RESOURCES and ".hugepages-" not in resource:
        causes.unsupported(f"{field}.resource", resource, _RESOURCES)
    _divisor(resource.partition(".")[2], reference.get("divisor"), field, causes)


def _divisor(resource: str, raw: str | int | float | None, field: str, causes: Causes) -> None:
    if raw is None or quantity.quantity_of(raw).value == 0:
        return
    text = str(quantity.quantity_of(raw))
    valid = _DIVISORS["cpu"] if resource == "cpu" else _DIVISORS["memory"]
    if text not in valid:
        kinds = "1m and 1" if resource == "cpu" else ", ".join(valid)
        causes.invalid(
            f"{field}.divisor",
            resource,
            f"only divisor's values {kinds} are supported with the {resource} resource",
        )

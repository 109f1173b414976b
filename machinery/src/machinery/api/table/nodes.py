"""The row of a node."""

import datetime as dt
from typing import Any

from machinery.api.table.cells import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    Printer,
    TableColumn,
    age_of,
    name_of,
)
from machinery.meta.resource import Document

_INFO = "=io.k8s.api.core.v1.NodeSystemInfo/"
_ADDRESSES = "=io.k8s.api.core.v1.NodeStatus/addresses"
_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"


def cells(node: Document, now: dt.datetime) -> list[Any]:
    status = node.get("status") or {}
    info = status.get("nodeInfo") or {}
    return [
        name_of(node),
        _state(node, status),
        _roles((node.get("metadata") or {}).get("labels") or {}),
        age_of(node, now),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _state(node: Document, status: Document) -> str:
    ready = next(
        (c for c in status.get("conditions") or () if c.get("type") == "Ready"), None
    )  # fmt: skip
    if ready is None:
        words = ["Unknown"]
    else:
        words = ["Ready" if ready.get("status") == "True" else "NotReady"]
    if (node.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(labels: dict[str, str]) -> str:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    roles |= {labels.get(_ROLE_LABEL, "")}
    return ",".join(sorted(roles - {""})) or NONE


def _address(status: Document, kind: str) -> str:
    found = (a.get("address") for a in status.get("addresses") or () if a.get("type") == kind)
    return next(found, None) or NONE


PRINTER = Printer(
    (
        NAME,
        TableColumn("Status", "The status of the node"),
        TableColumn("Roles", "The roles of the node"),
        AGE,
        TableColumn("Version", _INFO + "kubeletVersion"),
        TableColumn("Internal-IP", _ADDRESSES, priority=1),
        TableColumn("External-IP", _ADDRESSES, priority=1),
        TableColumn("OS-Image", _INFO + "osImage", priority=1),
        TableColumn("Kernel-Version", _INFO + "kernelVersion", priority=1),
        TableColumn("Container-Runtime", _INFO + "containerRuntimeVersion", priority=1),
    ),
    cells,
)

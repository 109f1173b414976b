"""metrics.k8s.io: what nodes and pods use now. Answered by whoever measures, kept in no store.

Shapes, verbs and columns are metrics-server's, whose objects `kubectl top` and autoscalers read.
"""

from typing import Any

from machinery.api.scheme import ServedKind

GROUP = "metrics.k8s.io"
VERSION = "v1beta1"
READABLE: tuple[str, ...] = ("get", "list")

_SCHEMAS = f"io.k8s.metrics.pkg.apis.metrics.{VERSION}."
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_TEXT = {"type": "string"}


def _reference(name: str) -> dict[str, Any]:
    return {"allOf": [{"$ref": f"#/components/schemas/{name}"}], "default": {}}


_USAGE = {
    "type": "object",
    "description": "What is used: cpu in cores, the mean over the window; memory in bytes, the working set.",
    "additionalProperties": {"allOf": [{"$ref": f"#/components/schemas/{_QUANTITY}"}]},
}
_CONTAINERS = {
    "type": "array",
    "description": "Every running container of the pod.",
    "items": {
        "type": "object",
        "required": ["name", "usage"],
        "properties": {"name": _TEXT, "usage": _USAGE},
    },
}


def _kind(name: str, plural: str, namespaced: bool, field: str, shape: Any) -> ServedKind:
    gvk = {"group": GROUP, "version": VERSION, "kind": name}
    window = {"type": "string", "description": "How long was measured, up to the timestamp; a Go duration."}  # fmt: skip
    schema = {
        "type": "object",
        "description": f"The resources that a {plural[:-1]} used in a window of time.",
        "required": ["timestamp", "window", field],
        "properties": {
            "apiVersion": _TEXT,
            "kind": _TEXT,
            "metadata": _reference(_META + "ObjectMeta"),
            "timestamp": _reference(_META + "Time"),
            "window": window,
            field: shape,
        },
        "x-kubernetes-group-version-kind": [gvk],
    }
    return ServedKind(
        GROUP, VERSION, name, plural, "", namespaced, _SCHEMAS + name,
        verbs=READABLE, schema=schema, computed=True,
    )  # fmt: skip


NODE_METRICS = _kind("NodeMetrics", "nodes", False, "usage", _USAGE)
POD_METRICS = _kind("PodMetrics", "pods", True, "containers", _CONTAINERS)
METRICS: tuple[ServedKind, ...] = (NODE_METRICS, POD_METRICS)

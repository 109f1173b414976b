"""The downward API: what a pod may know about itself, as text. Pure; formats are upstream's."""

import math
import re
from collections.abc import Mapping
from fractions import Fraction

from cluster_agent.node.kubelet.resources import all_containers
from machinery.api.core import Container, Pod
from machinery.api.pod_volumes import ObjectFieldSelector, ResourceFieldSelector
from machinery.meta.quantity import quantity_of

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")
_NEEDS_ESCAPE = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


class BadField(ValueError):
    """A field path that does not exist."""


def _quoted(text: str) -> str:
    return '"' + "".join(_NEEDS_ESCAPE.get(letter, letter) for letter in text) + '"'


def format_map(values: Mapping[str, str]) -> str:
    """`key="value"` lines, sorted: labels and annotations as a file."""
    return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(values.items()))


def field(
    pod: Pod,
    selector: ObjectFieldSelector,
    *,
    host_ip: str,
    node_name: str,
    pod_ips: tuple[str, ...],
) -> str:
    """The value of a fieldRef. Raises BadField."""
    path, meta = selector.field_path, pod.metadata
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        values = meta.labels if subscript[1] == "labels" else meta.annotations
        return values.get(subscript[2], "")
    ips = pod_ips or ((pod.status.pod_ip,) if pod.status.pod_ip else ())
    simple = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": pod.spec.node_name or node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
        "status.podIP": ips[0] if ips else "",
        "status.podIPs": ",".join(ips),
    }
    if path in simple:
        return simple[path]
    if path == "metadata.labels":
        return format_map(meta.labels)
    if path == "metadata.annotations":
        return format_map(meta.annotations)
    raise BadField(f"unsupported fieldPath: {path}")


def resource(
    pod: Pod,
    container: Container | None,
    selector: ResourceFieldSelector,
    allocatable: Mapping[str, str],
) -> str:
    """The value of a resourceFieldRef: a whole number of divisors. A missing limit is what the node can give."""
    owner = container
    if selector.container_name:
        owner = next(
            (c for c in all_containers(pod.spec) if c.name == selector.container_name), None
        )
    if owner is None:
        raise BadField(f"container {selector.container_name or '?'} not found")
    part, _, name = selector.resource.partition(".")
    if part == "limits":
        amount = owner.resources.limits.get(name, allocatable.get(name, "0"))
    elif part == "requests":
        amount = owner.resources.requests.get(name, owner.resources.limits.get(name, "0"))
    else:
        raise BadField(f"unsupported container resource : {selector.resource}")
    divisor = quantity_of(selector.divisor or "1").value or Fraction(1)
    return str(math.ceil(quantity_of(amount).value / divisor))

"""What the server accepts and still advises against: the `Warning` headers of workloads.

A selection of upstream's advice, for what users trip over: names with dots, variables and ports defined twice, fractions of
a byte, projections of nothing, labels of nodes that were renamed long ago.
"""

from collections.abc import Iterator
from typing import Final

from machinery.api.scheme import ServedKind
from machinery.api.validation import rules
from machinery.meta import names, quantity
from machinery.meta.resource import Document

_RENAMED_LABELS: Final = {
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}
_TEMPLATED: Final = frozenset(
    {("apps", "Deployment"), ("apps", "ReplicaSet"), ("", "ReplicationController")}
)
_ADVISED: Final = _TEMPLATED | {("apps", "StatefulSet"), ("apps", "DaemonSet"), ("batch", "Job")}
"""Kinds with a pod template; names of `_TEMPLATED` are advised on too."""
_BYTES: Final = ("memory", "ephemeral-storage")


def warnings_of(kind: ServedKind, document: Document, *, creating: bool) -> tuple[str, ...]:
    """Advice on an object that is about to be stored; on names only when it is new."""
    if kind.group_kind == ("", "Pod"):
        advice = spec_advice(document)
        return (*advice, *name_advice(document)) if creating else advice
    if kind.group_kind in _ADVISED:
        spec = ((document.get("spec") or {}).get("template") or {}).get("spec") or {}
        named = creating and kind.group_kind in _TEMPLATED
        found = list(_name(document, "this is used in Pod names and hostnames")) if named else []
        return (*found, *_spec(spec, "spec.template.spec"))
    if kind.group_kind == ("apiextensions.k8s.io", "CustomResourceDefinition"):
        return _definition(document)
    return ()


def _definition(document: Document) -> tuple[str, ...]:
    """Where rules cannot be enforced nobody may believe that they are."""
    schemas = [
        (version.get("schema") or {}).get("openAPIV3Schema") or {}
        for version in (document.get("spec") or {}).get("versions") or ()
    ]
    ruled = any(rules.has_rules(schema) for schema in schemas)
    return (rules.NOT_ENFORCED,) if ruled and not rules.available() else ()


def spec_advice(pod: Document) -> tuple[str, ...]:
    """What is said of a pod whatever its name."""
    return tuple(_spec(pod.get("spec") or {}, "spec"))


def name_advice(pod: Document) -> tuple[str, ...]:
    """What is said of a pod's name."""
    return tuple(_name(pod, "this is used in the Pod's hostname"))


def _name(document: Document, use: str) -> Iterator[str]:
    name = (document.get("metadata") or {}).get("name", "")
    if name and not names.is_dns_label(name) and (complaints := names.dns_label(name)):
        text = " ".join(complaints)
        yield (
            f"metadata.name: {use}, which can result in surprising behavior; a DNS label is "
            f"recommended: [{text}]"
        )


def _spec(spec: Document, field: str) -> Iterator[str]:
    for label in spec.get("nodeSelector") or ():
        if label in _RENAMED_LABELS:
            yield (
                f"{field}.nodeSelector[{label}]: deprecated since v1.14; use "
                f'"{_RENAMED_LABELS[label]}" instead'
            )
    for volume in spec.get("volumes") or ():
        projected = volume.get("projected")
        if projected is not None and not any(projected.get("sources") or ()):
            yield f'volume "{volume.get("name", "")}" (Projected) has no sources provided'
    for key in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(key) or ()):
            yield from _container(container, f"{field}.{key}[{index}]")


def _container(container: Document, field: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, variable in enumerate(container.get("env") or ()):
        name = variable.get("name", "")
        if name in seen:
            yield (
                f'{field}.env[{index}]: hides previous definition of "{name}", which may be dropped '
                "when using apply"
            )
        seen.add(name)
    yield from _ports(container, field)
    resources = container.get("resources") or {}
    for part in ("limits", "requests"):
        amounts = resources.get(part) or {}
        for name in _BYTES:
            if name in amounts and not quantity.quantity_of(amounts[name]).integral:
                yield (
                    f"{field}.resources.{part}[{name}]: fractional byte value "
                    f'"{quantity.canonical_of(amounts[name])}" is invalid, must be an integer'
                )


def _ports(container: Document, field: str) -> Iterator[str]:
    first: dict[tuple[int, str], int] = {}
    for index, port in enumerate(container.get("ports") or ()):
        key = (port.get("containerPort", 0), port.get("protocol", ""))
        if key in first:
            yield (
                f"{field}.ports[{index}]: duplicate port definition with {field}.ports[{first[key]}]"
            )
        first.setdefault(key, index)

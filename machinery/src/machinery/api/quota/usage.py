"""What an object uses of the resources that quotas count: pods, Services, claims, and every kind by number.

Names: `pods`, `services` … count objects of the oldest kinds, `count/<plural>.<group>` those of any kind. A pod that has
ended uses nothing but its place in `count/pods`. Source: the quota evaluators of Kubernetes 1.36.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any, Final

from machinery.api.quota.amounts import ONE, Amounts, add, count, highest, plus, read
from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document

COUNT: Final = "count/"
CLASS_SUFFIX: Final = ".storageclass.storage.k8s.io/"
_BY_PLURAL: Final = frozenset(
    {"configmaps", "secrets", "replicationcontrollers", "resourcequotas", "services", "persistentvolumeclaims"}
)  # fmt: skip
"""Kinds of the core group that are counted by their plain name too."""
_COMPUTE: Final = ("cpu", "memory", "ephemeral-storage")
_CONSTRAINED: Final = frozenset(
    {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}
)
"""What each container of a pod must say where a quota counts it."""
_HUGE: Final = "hugepages-"
_ENDED: Final = ("Succeeded", "Failed")
_POD: Final = ("", "Pod")
_SERVICE: Final = ("", "Service")
_CLAIM: Final = ("", "PersistentVolumeClaim")


def counted_name(kind: ServedKind) -> str:
    """`count/deployments.apps`."""
    return COUNT + kind.group_resource


def is_counted(kind: ServedKind, name: str) -> bool:
    """Whether objects of the kind use the resource of that name at all."""
    if name == counted_name(kind):
        return True
    if kind.group:
        return False
    match kind.kind:
        case "Pod":
            return name == "pods" or _is_compute(name)
        case "Service":
            return name == "services" or name.startswith("services.")
        case "PersistentVolumeClaim":
            return name in ("persistentvolumeclaims", "requests.storage") or CLASS_SUFFIX in name
        case _:
            return kind.plural in _BY_PLURAL and name == kind.plural


def _is_compute(name: str) -> bool:
    bare = name.removeprefix("requests.").removeprefix("limits.")
    if bare in _COMPUTE or bare.startswith(_HUGE):
        return True
    return name.startswith("requests.") and "/" in bare and CLASS_SUFFIX not in name


def matching(kind: ServedKind, names: Collection[str]) -> list[str]:
    """Those of the names that objects of the kind use."""
    return [name for name in names if is_counted(kind, name)]


def changes_usage(kind: ServedKind, subresource: str) -> bool:
    """Whether an update through this endpoint can change what an object uses."""
    if kind.group_kind == _POD:
        return subresource == "resize"
    return kind.group_kind in (_SERVICE, _CLAIM) and not subresource


def of(kind: ServedKind, document: Document, now: dt.datetime) -> Amounts:
    """What the object uses."""
    number: Amounts = {counted_name(kind): ONE}
    if kind.group_kind == _POD:
        return add(number, _pod(document, now))
    if kind.group_kind == _SERVICE:
        return number | _service(document.get("spec") or {})
    if kind.group_kind == _CLAIM:
        return number | _claim(document)
    if not kind.group and kind.plural in _BY_PLURAL:
        number[kind.plural] = ONE
    return number


# ------------------------------------------------------------------------------------------------------------------ pods
def is_over(pod: Document, now: dt.datetime) -> bool:
    """Whether the pod has ended, or should have by now."""
    if (pod.get("status") or {}).get("phase") in _ENDED:
        return True
    metadata = pod.get("metadata") or {}
    going, grace = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    if not going or grace is None:
        return False
    return now > dt.datetime.fromisoformat(going) + dt.timedelta(seconds=grace)


def _pod(pod: Document, now: dt.datetime) -> Amounts:
    if is_over(pod, now):
        return {}
    spec = pod.get("spec") or {}
    return {"pods": ONE} | _compute(requests_of(spec), limits_of(spec))


def _compute(requests: Mapping[str, Any], limits: Mapping[str, Any]) -> Amounts:
    """Requests and limits under the names of quotas."""
    out: Amounts = {}
    for name in _COMPUTE:
        if name in requests:
            out[name] = out[f"requests.{name}"] = requests[name]
        if name in limits:
            out[f"limits.{name}"] = limits[name]
    for name, value in requests.items():
        if name.startswith(_HUGE):
            out[name] = out[f"requests.{name}"] = value
        elif "/" in name:
            out[f"requests.{name}"] = value
    return out


def requests_of(spec: Document) -> Amounts:
    """What a pod asks for."""
    return _total(spec, "requests")


def limits_of(spec: Document) -> Amounts:
    """What a pod may take at most."""
    return _total(spec, "limits")


def _total(spec: Document, part: str) -> Amounts:
    """max(containers + sidecars, peak of init containers) + overhead (KEP-753); the pod's own where it states them."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        total = add(total, _own(container, part))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _own(container, part)
        if container.get("restartPolicy") == "Always":
            sidecars = add(sidecars, own)
            peak = highest(peak, sidecars)
        else:
            peak = highest(peak, add(own, sidecars))
    total = highest(add(total, sidecars), peak)
    total |= _own(spec, part)
    overhead = read(spec.get("overhead"))
    if part == "limits":  # overhead is a limit only where there is one
        overhead = {name: value for name, value in overhead.items() if name in total}
    return add(total, overhead)


def _own(container: Document, part: str) -> Amounts:
    return read((container.get("resources") or {}).get(part))


def unsaid(pod: Document, names: Collection[str]) -> str:
    """What containers leave unsaid of the resources that a quota counts: `must specify cpu for: a,b`, or empty."""
    wanted = _CONSTRAINED.intersection(names)
    if not wanted:
        return ""
    missing: dict[str, set[str]] = {}
    spec = pod.get("spec") or {}
    if spec.get("resources"):  # stated for the whole pod
        wanted = wanted - _compute(_own(spec, "requests"), _own(spec, "limits")).keys()
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        said = _compute(_own(container, "requests"), _own(container, "limits"))
        for name in wanted - said.keys():
            missing.setdefault(name, set()).add(container.get("name", ""))
    told = [f"{name} for: {','.join(sorted(found))}" for name, found in sorted(missing.items())]
    return f"must specify {'; '.join(told)}" if told else ""


# ----------------------------------------------------------------------------------------------------- Services, claims
def _service(spec: Document) -> Amounts:
    ports = spec.get("ports") or []
    balancers = 0
    match spec.get("type"):
        case "NodePort":
            node_ports = len(ports)
        case "LoadBalancer":
            balancers = 1
            if spec.get("allocateLoadBalancerNodePorts") is False:
                node_ports = sum(1 for port in ports if port.get("nodePort"))
            else:
                node_ports = len(ports)
        case _:
            node_ports = 0
    return {
        "services": ONE,
        "services.nodeports": count(node_ports),
        "services.loadbalancers": count(balancers),
    }


def _claim(claim: Document) -> Amounts:
    spec = claim.get("spec") or {}
    marks = (claim.get("metadata") or {}).get("annotations") or {}
    name = marks.get("volume.beta.kubernetes.io/storage-class") or spec.get("storageClassName")
    out: Amounts = {"persistentvolumeclaims": ONE}
    if name:
        out[f"{name}{CLASS_SUFFIX}persistentvolumeclaims"] = ONE
    asked = read((spec.get("resources") or {}).get("requests")).get("storage")
    if asked is not None:
        granted = read((claim.get("status") or {}).get("allocatedResources")).get("storage")
        asked = asked if granted is None or granted.value < asked.value else granted
        out["requests.storage"] = asked
        if name:
            out[f"{name}{CLASS_SUFFIX}requests.storage"] = asked
    return out


def total(parts: Collection[Amounts]) -> Amounts:
    """The sum of many usages."""
    out: Amounts = {}
    for part in parts:
        for name, value in part.items():
            out[name] = plus(out[name], value) if name in out else value
    return out

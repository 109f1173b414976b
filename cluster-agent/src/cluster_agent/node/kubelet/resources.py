"""What a pod's requests and limits mean on Linux: QoS class, cgroup values, OOM score. Pure.

Figures are upstream's (kubelet cm/helpers_linux.go, qos/policy.go): shares = milliCPU*1024/1000 but at least 2, quota =
milliCPU*100 in a period of 100 ms but at least 1 ms.
"""

from collections.abc import Iterable

from cluster_agent.node.cri.interface import Resources
from machinery.api.core import Container, Pod, PodSpec
from machinery.meta.quantity import quantity_of

CPU_PERIOD_US = 100_000
QUOTA_MIN_US = 1_000
SHARES_MIN = 2
SHARES_MAX = 262_144

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"


def milli(value: str | int | float) -> int:
    """CPU in thousandths, rounded up."""
    return quantity_of(value).milli


def whole(value: str | int | float) -> int:
    """Bytes or counts, rounded up."""
    return quantity_of(value).whole


def all_containers(spec: PodSpec) -> tuple[Container, ...]:
    """Init containers, then the others: all that count. Ephemeral ones do not."""
    return spec.init_containers + spec.containers


def every_container(spec: PodSpec) -> tuple[Container, ...]:
    """All that a name can mean, ephemeral ones too."""
    return (*spec.init_containers, *spec.containers, *spec.ephemeral_containers)


def is_sidecar(container: Container) -> bool:
    """An init container that keeps running beside the others."""
    return container.restart_policy == "Always"


def qos_class(spec: PodSpec) -> str:
    """Guaranteed, Burstable or BestEffort."""
    containers = all_containers(spec)
    guaranteed, any_set = True, False
    for container in containers:
        requests, limits = container.resources.requests, container.resources.limits
        for name in ("cpu", "memory"):
            limit = milli(limits.get(name, 0))
            request = milli(requests[name]) if name in requests else limit
            any_set = any_set or limit > 0 or request > 0
            guaranteed = guaranteed and limit > 0 and request == limit
    if not any_set:
        return BEST_EFFORT
    return GUARANTEED if guaranteed else BURSTABLE


def cpu_shares(milli_cpu: int) -> int:
    """cpu.shares of cgroup v1."""
    return min(max(SHARES_MIN, milli_cpu * 1024 // 1000), SHARES_MAX)


def cpu_weight(shares: int) -> int:
    """cpu.weight of cgroup v2."""
    return 1 + (shares - 2) * 9999 // 262142


def cpu_quota(milli_cpu: int) -> int:
    """cpu.cfs_quota_us; 0 is "no limit"."""
    return max(milli_cpu * CPU_PERIOD_US // 1000, QUOTA_MIN_US) if milli_cpu > 0 else 0


def oom_score_adj(
    spec: PodSpec, container: Container, memory_capacity: int, *, floor: int = -997
) -> int:
    """How early the kernel kills it. `floor` is the lowest value that this process may set (no CAP_SYS_RESOURCE)."""
    qos = qos_class(spec)
    if qos == GUARANTEED or spec.priority >= 2_000_000_000:
        score = -997
    elif qos == BEST_EFFORT:
        score = 1000
    else:
        request = whole(container.resources.requests.get("memory", 0))
        score = min(max(1000 - 1000 * request // max(memory_capacity, 1), 3), 999)
    return max(score, floor)


def _effective(container: Container, name: str) -> str | int | float:
    """A request; where only a limit is given, upstream's defaulting makes the request the limit."""
    requests, limits = container.resources.requests, container.resources.limits
    return requests.get(name, limits.get(name, 0))


def container_resources(
    spec: PodSpec, container: Container, memory_capacity: int, floor: int = -997
) -> Resources:
    """The limits of one container."""
    limits = container.resources.limits
    return Resources(
        cpu_shares=cpu_shares(milli(_effective(container, "cpu"))),
        cpu_quota=cpu_quota(milli(limits.get("cpu", 0))),
        cpu_period=CPU_PERIOD_US,
        memory_limit=whole(limits.get("memory", 0)),
        oom_score_adj=oom_score_adj(spec, container, memory_capacity, floor=floor),
    )


def _peak(spec: PodSpec, values: Iterable[tuple[Container, int]]) -> int:
    """max(sum of the long-running, peak while initialising)."""
    main = sidecars = peak = 0
    inits = set(map(id, spec.init_containers))
    for container, value in values:
        if id(container) not in inits:
            main += value
        elif is_sidecar(container):
            sidecars += value
            peak = max(peak, sidecars)
        else:
            peak = max(peak, sidecars + value)
    return max(main + sidecars, peak)


def pod_resources(spec: PodSpec) -> Resources:
    """The limits of the pod's own cgroup: shares always, quota and memory only if every container has that limit."""
    containers = all_containers(spec)
    shares = _peak(spec, [(c, milli(_effective(c, "cpu"))) for c in containers])
    cpu = [(c, milli(c.resources.limits.get("cpu", 0))) for c in containers]
    memory = [(c, whole(c.resources.limits.get("memory", 0))) for c in containers]
    return Resources(
        cpu_shares=cpu_shares(shares),
        cpu_quota=cpu_quota(_peak(spec, cpu)) if all(v for _, v in cpu) else 0,
        cpu_period=CPU_PERIOD_US,
        memory_limit=_peak(spec, memory) if all(v for _, v in memory) else 0,
    )


def burstable_cpu(pods: Iterable[Pod]) -> int:
    """Sum of the Burstable pods' CPU requests in thousandths: what the shares of their cgroup are made of."""
    return sum(
        _peak(p.spec, [(c, milli(_effective(c, "cpu"))) for c in all_containers(p.spec)])
        for p in pods
        if qos_class(p.spec) == BURSTABLE
    )

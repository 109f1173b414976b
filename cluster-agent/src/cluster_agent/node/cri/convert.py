"""CRI's messages to our values and back. Pure."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from cri_api.v1 import api_pb2 as pb

from cluster_agent.node.cri.interface import (
    LABEL_CONTAINER,
    LABEL_POD_UID,
    ContainerConfig,
    ContainerPhase,
    Image,
    RuntimeContainer,
    RuntimeFault,
    Sandbox,
    SandboxConfig,
)

PHASES = {
    pb.CONTAINER_CREATED: ContainerPhase.CREATED,
    pb.CONTAINER_RUNNING: ContainerPhase.RUNNING,
    pb.CONTAINER_EXITED: ContainerPhase.EXITED,
    pb.CONTAINER_UNKNOWN: ContainerPhase.UNKNOWN,
}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def moment(nanoseconds: int) -> dt.datetime | None:
    """CRI's times; zero is "never"."""
    if nanoseconds <= 0:
        return None
    return _EPOCH + dt.timedelta(microseconds=nanoseconds // 1000)


def by_uid(items: Iterable[Any]) -> dict[str, list[Any]]:
    """Items of a listing by their pod's uid."""
    result: dict[str, list[Any]] = {}
    for item in items:
        result.setdefault(item.labels.get(LABEL_POD_UID, ""), []).append(item)
    return result


def sandbox(status: Any) -> Sandbox:
    """PodSandboxStatus."""
    ips = [status.network.ip, *(extra.ip for extra in status.network.additional_ips)]
    return Sandbox(
        id=status.id,
        uid=status.metadata.uid,
        name=status.metadata.name,
        namespace=status.metadata.namespace,
        attempt=status.metadata.attempt,
        ready=status.state == pb.SANDBOX_READY,
        created_at=moment(status.created_at) or _EPOCH,
        ips=tuple(ip for ip in ips if ip),
        annotations=dict(status.annotations),
    )


def network_namespace(info: Mapping[str, str]) -> str:
    """The path of a sandbox's network namespace, from its verbose status; empty for the host's. Raises RuntimeFault."""
    try:
        told = orjson.loads(info["info"])
        namespaces = told["runtimeSpec"]["linux"]["namespaces"]
        for each in namespaces:
            if each["type"] == "network":
                return str(each.get("path") or f"/proc/{int(told['pid'])}/ns/net")
    except (KeyError, TypeError, ValueError) as error:
        raise RuntimeFault(
            f"the runtime does not say which network the sandbox has: {error!r}"
        ) from None
    return ""


def container(status: Any, sandbox_id: str) -> RuntimeContainer:
    """ContainerStatus."""
    return RuntimeContainer(
        id=status.id,
        sandbox_id=sandbox_id,
        name=status.labels.get(LABEL_CONTAINER, status.metadata.name),
        attempt=status.metadata.attempt,
        phase=PHASES.get(status.state, ContainerPhase.UNKNOWN),
        created_at=moment(status.created_at) or _EPOCH,
        image=status.image.image,
        image_id=status.image_ref,
        started_at=moment(status.started_at),
        finished_at=moment(status.finished_at),
        exit_code=status.exit_code,
        reason=status.reason,
        message=status.message,
        log_path=status.log_path,
        annotations=dict(status.annotations),
    )


def image(item: Any) -> Image:
    user = str(item.uid.value) if item.HasField("uid") else item.username
    return Image(
        id=item.id,
        names=(*item.repo_tags, *item.repo_digests),
        size_bytes=item.size,
        user="" if user == "0" else user,
    )


def sandbox_config(config: SandboxConfig) -> Any:
    """PodSandboxConfig."""
    result = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=config.name, namespace=config.namespace, uid=config.uid, attempt=config.attempt
        ),
        hostname=config.hostname,
        log_directory=config.log_directory,
        labels=config.labels,
        annotations=config.annotations,
        port_mappings=[
            pb.PortMapping(
                protocol=pb.Protocol.Value(port.protocol),
                container_port=port.container_port,
                host_port=port.host_port,
                host_ip=port.host_ip,
            )
            for port in config.ports
        ],
        linux=pb.LinuxPodSandboxConfig(
            cgroup_parent=config.cgroup_parent,
            sysctls=config.sysctls,
            security_context=_sandbox_security(config),
        ),
    )
    if config.dns is not None:
        result.dns_config.CopyFrom(
            pb.DNSConfig(
                servers=config.dns.servers,
                searches=config.dns.searches,
                options=config.dns.options,
            )
        )
    return result


def _namespaces(config: SandboxConfig) -> Any:
    pid = pb.NODE if config.host_pid else pb.POD if config.share_pid else pb.CONTAINER
    return pb.NamespaceOption(
        network=pb.NODE if config.host_network else pb.POD,
        pid=pid,
        ipc=pb.NODE if config.host_ipc else pb.POD,
    )


def _joined(options: Any, target_id: str) -> Any:
    if target_id and options.pid == pb.CONTAINER:
        options.pid, options.target_id = pb.TARGET, target_id
    return options


def _seccomp(profile: str) -> Any:
    if profile == "RuntimeDefault":
        return pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault)
    return pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)


def _sandbox_security(config: SandboxConfig) -> Any:
    context = pb.LinuxSandboxSecurityContext(
        namespace_options=_namespaces(config),
        privileged=config.privileged,
        supplemental_groups=config.supplemental_groups,
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault),
    )
    if config.run_as_user is not None:
        context.run_as_user.value = config.run_as_user
        if config.run_as_group is not None:
            context.run_as_group.value = config.run_as_group
    return context


def container_config(config: ContainerConfig, sandbox_cfg: SandboxConfig) -> Any:
    """ContainerConfig."""
    limits = config.resources
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=config.name, attempt=config.attempt),
        image=pb.ImageSpec(image=config.image),
        command=config.command,
        args=config.args,
        working_dir=config.working_dir,
        envs=[pb.KeyValue(key=key, value=value) for key, value in config.env.items()],
        mounts=[
            pb.Mount(host_path=m.host_path, container_path=m.container_path, readonly=m.read_only)
            for m in config.mounts
        ],
        labels=config.labels,
        annotations=config.annotations,
        log_path=config.log_path,
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        linux=pb.LinuxContainerConfig(
            resources=pb.LinuxContainerResources(
                cpu_period=limits.cpu_period,
                cpu_quota=limits.cpu_quota,
                cpu_shares=limits.cpu_shares,
                memory_limit_in_bytes=limits.memory_limit,
                oom_score_adj=limits.oom_score_adj,
            ),
            security_context=_container_security(config, sandbox_cfg),
        ),
    )


def _container_security(config: ContainerConfig, sandbox_cfg: SandboxConfig) -> Any:
    context = pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(
            add_capabilities=config.add_capabilities, drop_capabilities=config.drop_capabilities
        ),
        privileged=config.privileged,
        namespace_options=_joined(_namespaces(sandbox_cfg), config.target_id),
        readonly_rootfs=config.read_only_root,
        supplemental_groups=config.supplemental_groups,
        no_new_privs=config.no_new_privileges,
    )
    if not config.privileged:
        context.masked_paths.extend(MASKED_PATHS)
        context.readonly_paths.extend(READ_ONLY_PATHS)
        context.seccomp.CopyFrom(_seccomp(config.seccomp))
    if config.run_as_user is not None:
        context.run_as_user.value = config.run_as_user
        if config.run_as_group is not None:
            context.run_as_group.value = config.run_as_group
    return context

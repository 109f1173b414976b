"""A real node: the kubelet over containerd, with the whole row of hooks."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cluster_agent.node import logs, network
from cluster_agent.node.annotations import Annotations
from cluster_agent.node.cgroups import Cgroups, oom_score_floor
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.cri.containerd import ContainerdRuntime
from cluster_agent.node.cri.interface import Image, ImageAuth, RuntimeFault
from cluster_agent.node.kubelet.checkpoint import Checkpoints
from cluster_agent.node.kubelet.events import Recorder
from cluster_agent.node.kubelet.grants import Grants
from cluster_agent.node.kubelet.hooks import Hook
from cluster_agent.node.kubelet.hooks.cgroup import Cgroup
from cluster_agent.node.kubelet.hooks.directories import Directories
from cluster_agent.node.kubelet.hooks.environment import Environment
from cluster_agent.node.kubelet.hooks.isolation import Isolation
from cluster_agent.node.kubelet.hooks.messages import TerminationMessages
from cluster_agent.node.kubelet.hooks.network import Network
from cluster_agent.node.kubelet.hooks.security import Security
from cluster_agent.node.kubelet.hooks.volumes import Volumes
from cluster_agent.node.kubelet.kubelet import Kubelet
from cluster_agent.node.kubelet.probes import Checker, Handlers, ProbeManager
from cluster_agent.node.kubelet.resources import burstable_cpu, qos_class
from cluster_agent.node.kubelet.services import Services
from cluster_agent.node.objects import NotSynced, Objects, Ref, references
from cluster_agent.node.parts import NodeParts, Shared
from cluster_agent.node.policies import NodePolicies
from cluster_agent.node.registration import allocatable, capacity
from cluster_agent.node.services import NodeServices
from cluster_agent.node.stats import Sampler
from cluster_agent.node.stats_cgroups import CgroupMeter, boot_time
from cluster_agent.node.volumes.claims import Claims
from cluster_agent.node.volumes.manager import VolumeManager
from cluster_agent.node.volumes.tokens import Tokens
from machinery.api.core import Pod
from machinery.api.local_volumes import LOCAL_FOLDER
from machinery.kit.clock import Clock
from machinery.meta.quantity import quantity_of

log = logging.getLogger(__name__)

LOG_CHECK_S = 10.0
TOKEN_CHECK_S = 60.0
LEFTOVER_CHECK_S = 60.0


class Images(dict[str, Image]):
    """What is known of images that were looked at; the hooks ask for an image's user."""


class _Runtime(ContainerdRuntime):
    """Remembers what it saw of images."""

    def __init__(self, socket: str, state_dir: str, shared: Shared, seen: Images) -> None:
        super().__init__(socket, state_dir, shared.ids)
        self._seen = seen

    async def image(self, name: str) -> Image | None:
        found = await super().image(name)
        if found is not None:
            self._seen[name] = found
        return found


async def build_host(config: NodeConfig, shared: Shared) -> NodeParts:
    """Everything of one node over containerd."""
    name, clock = config.node_name, shared.clock
    pods_dir = f"{config.state_dir}/pods"
    logs_dir = config.pod_log_dir or f"{config.state_dir}/logs"
    if config.pod_cidr and config.cni_conf_dir != "none":
        _write_network(config)
    seen = Images()
    runtime = _Runtime(config.containerd_socket, config.state_dir, shared, seen)
    recorder = Recorder(shared.client, clock, shared.ids, name)
    objects = Objects(
        shared.client, clock, shared.tasks, f"{config.state_dir}/objects", lambda ref: used(ref)
    )
    capacities = capacity(config, shared.machine)
    room = allocatable(capacities, config.reserved)
    volumes = _volumes(config, shared, objects, pods_dir, room)
    memory = quantity_of(capacities["memory"]).whole
    groups = Cgroups(config.cgroup_mount, config.cgroup_root)
    policies = NodePolicies(config, shared.client, clock, recorder)
    hooks: list[Hook] = [
        Directories(pods_dir, logs_dir),
        Cgroup(groups, memory, oom_score_floor(), clock),
        Environment(config, objects, room),
        Volumes(volumes, objects),
        Network(config, pods_dir),
        Isolation(policies.feed, clock),
        TerminationMessages(pods_dir),
        Security(seen.get),
    ]
    checker = Checker(runtime)
    prober = ProbeManager(checker, recorder, clock, lambda uid: kubelet.wake(uid))
    grants = Grants(clock, shared.machine.boot_id, Path(config.state_dir) / "grants.json")
    services = Services(
        node_name=name,
        host_ip=config.node_ip,
        runtime=runtime,
        hooks=hooks,
        statuses=shared.statuses,
        events=recorder,
        prober=prober,
        handlers=Handlers(checker, clock),
        clock=clock,
        tasks=shared.tasks,
        image_auth=PullSecrets(objects).of,
        grants=grants,
    )
    kubelet = Kubelet(services, Checkpoints(f"{config.state_dir}/checkpoints"))

    def used(ref: Ref) -> None:
        for worker in kubelet.workers.values():
            if ref in references(worker.pod):
                worker.retry()

    def use() -> None:
        objects.use(r for w in kubelet.workers.values() for r in references(w.pod))
        groups.share(burstable_cpu(w.pod for w in kubelet.workers.values()))

    kubelet.on_pods.append(use)
    keeper = Keeper(config, clock, kubelet, runtime, groups)
    background = [recorder.run, policies.run, *keeper.passes()]
    closers = [prober.close, objects.close, policies.close]
    annotations = Annotations()
    annotations.put(LOCAL_FOLDER, config.local_volumes_dir)
    if config.service_cidr or config.dns_address:
        served = NodeServices(config, shared.client, clock, recorder, annotations)
        background.append(served.run)
        closers.append(served.close)
    sampler = _sampler(config, kubelet, groups, clock, memory)
    return NodeParts(runtime, kubelet, background, closers, grants, annotations, sampler)


def _volumes(
    config: NodeConfig,
    shared: Shared,
    objects: Objects,
    pods_dir: str,
    room: Mapping[str, str],
) -> VolumeManager:
    """Everything that pods mount; `room`: what the node has for them."""
    return VolumeManager(
        pods_dir, objects, Tokens(shared.client, shared.clock), shared.clock,
        claims=Claims(shared.client, config.node_name, config.local_volumes_dir),
        node_name=config.node_name, host_ip=config.node_ip, allocatable=room,
    )  # fmt: skip


def _sampler(
    config: NodeConfig, kubelet: Kubelet, groups: Cgroups, clock: Clock, memory: int
) -> Sampler:
    """What this machine and its pods use; `memory`: bytes of the machine."""
    meter = CgroupMeter(
        config.cgroup_mount,
        lambda pod: groups.parent(qos_class(pod.spec), pod.metadata.uid),
        v2=groups.v2,
    )
    workers = kubelet.workers.values
    return Sampler(
        config.node_name, meter, workers, clock, started_at=boot_time(), memory_total=memory
    )


def _write_network(config: NodeConfig) -> None:
    conf_dir = config.cni_conf_dir or f"{config.state_dir}/cni/net.d"
    document = network.cni_config(
        bridge=config.cni_bridge or network.BRIDGE,
        pod_cidr=config.pod_cidr,
        data_dir=f"{config.state_dir}/cni/ipam",
        mtu=config.cni_mtu,
    )
    if network.write_cni(conf_dir, document):
        log.info("pod network configured", extra={"folder": conf_dir, "range": config.pod_cidr})


class PullSecrets:
    """Credentials out of a pod's imagePullSecrets (kubernetes.io/dockerconfigjson)."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def of(self, pod: Pod, image: str) -> Sequence[ImageAuth]:
        found = []
        for secret in pod.spec.image_pull_secrets:
            try:
                known = self._objects.secret(pod.metadata.namespace, secret.name)
            except NotSynced:
                continue
            if known is not None and ".dockerconfigjson" in known.data:
                found += credentials(known.data[".dockerconfigjson"], image)
        return found


def credentials(encoded: str, image: str) -> list[ImageAuth]:
    """Those of the registry that the image names. Pure."""
    try:
        auths = msgspec.json.decode(base64.b64decode(encoded))["auths"]
    except (ValueError, KeyError, TypeError, msgspec.DecodeError):
        return []
    first = image.split("/", 1)[0]
    registry = first if "/" in image and ("." in first or ":" in first) else "docker.io"
    names = {registry} | ({"index.docker.io"} if registry == "docker.io" else set())
    found = []
    for host, auth in auths.items():
        if host.removeprefix("https://").removeprefix("http://").split("/", 1)[0] not in names:
            continue
        user, password = auth.get("username", ""), auth.get("password", "")
        if auth.get("auth"):
            try:
                user, _, password = base64.b64decode(auth["auth"]).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                continue
        found.append(ImageAuth(user, password))
    return found


class Keeper:
    """What has to be looked after now and then: logs, tokens, leftovers. Each pass can be run once."""

    def __init__(
        self,
        config: NodeConfig,
        clock: Clock,
        kubelet: Kubelet,
        runtime: ContainerdRuntime,
        groups: Cgroups,
    ) -> None:
        self._config, self._clock, self._kubelet = config, clock, kubelet
        self._runtime, self._groups = runtime, groups

    def passes(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """All of them, each to be run as long as the node is."""
        return (self.rotate_logs, self.refresh_tokens, self.sweep)

    async def rotate_logs(self) -> None:
        while True:
            await self._clock.sleep(LOG_CHECK_S)
            try:
                await self.rotate_once()
            except OSError as error:
                log.warning("logs not rotated", extra={"error": str(error)})

    async def rotate_once(self) -> None:
        """Rotate the logs of running containers that have grown too large."""
        for worker in list(self._kubelet.workers.values()):
            for record in worker.observed.containers:
                path = Path(record.log_path)
                if not record.running or not record.log_path:
                    continue
                if not logs.needs_rotation(path, self._config.log_max_bytes):
                    continue
                logs.rotate(path, self._clock.now(), self._config.log_max_files)
                try:
                    await self._runtime.reopen_log(record.id)
                except RuntimeFault as error:
                    log.warning("log not reopened", extra={"path": str(path), "error": str(error)})

    async def refresh_tokens(self) -> None:
        while True:
            await self._clock.sleep(TOKEN_CHECK_S)
            for worker in list(self._kubelet.workers.values()):
                if any(v.projected is not None for v in worker.pod.spec.volumes):
                    worker.refresh()

    async def sweep(self) -> None:
        while True:
            await self._clock.sleep(LEFTOVER_CHECK_S)
            if self._kubelet.knows_all:
                await asyncio.to_thread(self.sweep_once)

    def sweep_once(self) -> None:
        """Remove control groups of pods that are neither wanted nor there."""
        for uid in self._groups.leftovers() - self._kubelet.workers.keys():
            self._groups.remove_everywhere(uid)

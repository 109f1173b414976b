"""The node process: everything is built here, started in order, stopped in reverse.

    identity -> runtime -> checkpoints -> endpoint -> informers -> registration, status, leases

Stopping the process leaves the pods alone: containers belong to the runtime, and the next process finds them by their
labels. One process is one node over containerd, or any number of hollow nodes; hollow nodes share the client, the one
watch of all their pods, the status writer and the endpoint.
"""

import asyncio
import gc
import ipaddress
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any

from cluster_agent.node.access import NodeAccess, ServingCertificates
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.cri.interface import Image, RuntimeFault
from cluster_agent.node.hollow import build_hollow
from cluster_agent.node.kubelet.kubelet import Kubelet
from cluster_agent.node.kubelet.statuswriter import StatusWriter
from cluster_agent.node.parts import NodeParts, Shared
from cluster_agent.node.registration import Machine, NodeFacts, Registration, ready_message
from cluster_agent.node.server import KubeletServer
from cluster_agent.node.volumes.local import LocalVolumes
from machinery.api.core import NODES, PODS, Node, Pod
from machinery.client.informer import Informer
from machinery.client.rest import RestClient
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock, SystemClock
from machinery.kit.ids import Ids, SystemIds
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document

__all__ = ["NodeConfig", "NodeProcess", "run"]
log = logging.getLogger(__name__)

RUNTIME_CHECK_S = 5.0
RUNTIME_DOWN_S = 30.0
"""A runtime that is away for shorter is being restarted: no reason to take the node out of service."""
IMAGES_REPORTED_MAX = 50
REGISTER_RETRY = Backoff(base_s=0.5, cap_s=10.0)


class NodeProcess:
    """One node, or many hollow ones."""

    def __init__(
        self, config: NodeConfig, *, clock: Clock | None = None, ids: Ids | None = None
    ) -> None:
        config.check()
        self.config = config
        self._clock, self._ids = clock or SystemClock(), ids or SystemIds()
        self._tasks = TaskOwner(on_death=self._died)
        self._client: RestClient | None = None
        self.parts: dict[str, NodeParts] = {}
        self._ready_at: dict[str, float] = {}
        self._facts: dict[str, NodeFacts] = {}
        self._registration: Registration | None = None
        self.server: KubeletServer | None = None
        self._stopped = asyncio.Event()
        self._registered = asyncio.Event()
        self.ready = False
        self._synced = self._served = False

    def _died(self, name: str, error: BaseException) -> None:
        log.error("background task died", extra={"task": name}, exc_info=error)
        if not name.startswith(("pod ", "stop ", "refresh ", "timer ", "hollow")):
            self._stopped.set()

    # --------------------------------------------------------------------------------------------------- starting
    async def start(self) -> None:
        """Bring everything up; returns when the node runs its pods, with or without the API."""
        config = self.config
        os.makedirs(config.state_dir, mode=0o700, exist_ok=True)
        access = NodeAccess(config, self._clock)
        client = self._client = await access.connect()
        shared = Shared(
            client=client,
            clock=self._clock,
            ids=self._ids,
            tasks=self._tasks,
            statuses=StatusWriter(client, self._clock, self._gone, writers=16),
            machine=Machine.read(config.state_dir),
        )
        await self._build(shared)
        serving = ServingCertificates(config, self._clock, access.ca, list(self.parts))
        server = self.server = KubeletServer(
            config, self.parts, serving.context, lambda: self.ready, self._clock, serving.named
        )
        await server.start()
        for name, parts in self.parts.items():
            await self._look_at(name, parts)
        self._spawn(shared.statuses.run(), "statuses")
        for name, parts in self.parts.items():
            parts.kubelet.restore()
            self._spawn(parts.kubelet.run(), f"kubelet {name}")
            for work in parts.background:
                self._spawn(work(), f"background {name}")
        self._spawn(serving.keep(client, self._registered.wait, self._serving_ready), "serving")
        self._spawn(access.keep_fresh(client), "client certificate")
        self._spawn(self._watch_runtimes(), "runtimes")
        self._start_informers(shared)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        _ = self._tasks.spawn(work, name)

    async def _build(self, shared: Shared) -> None:
        names = self.config.node_names()
        if not self.config.hollow:
            from cluster_agent.node.host import (
                build_host,
            )  # gRPC costs 21 MiB: not for hollow nodes

            self.parts[names[0]] = await build_host(self.config, shared)
            return
        network = ipaddress.ip_network(self.config.pod_cidr or "10.128.0.0/9")
        ranges = network.subnets(new_prefix=24) if len(names) > 1 else iter([network])
        for name in names:
            self.parts[name] = build_hollow(self.config, shared, name, str(next(ranges)))

    def _start_informers(self, shared: Shared) -> None:
        single = len(self.parts) == 1
        name = next(iter(self.parts))
        nodes: Informer[Node] = Informer(
            shared.client,
            NODES,
            self._clock,
            field_selector=f"metadata.name={name}" if single else "",
        )
        pods: Informer[Pod] = Informer(
            shared.client,
            PODS,
            self._clock,
            field_selector=f"spec.nodeName={name}" if single else "spec.nodeName!=",
        )
        pods.on_change(self._on_pod)
        self._registration = Registration(
            shared.client,
            self._clock,
            self.config,
            shared.machine,
            nodes,
            self._facts.__getitem__,
            self._renewed,
            lambda name: self.parts[name].annotations,
        )
        for parts in self.parts.values():
            parts.annotations.on_change(self._registration.wake)
        local = LocalVolumes(
            shared.client,
            self._clock,
            list(self.parts),
            self.config.local_volumes_dir,
            hollow=self.config.hollow,
        )
        self._spawn(local.run(), "local volumes")
        self._spawn(nodes.run(), "nodes")
        self._spawn(self._register(nodes, self._registration), "registration")
        self._spawn(pods.run(), "pods")
        self._spawn(self._sync_once(pods), "pods synced")

    async def _register(self, nodes: Informer[Node], registration: Registration) -> None:
        failures = 0
        await nodes.wait_synced()
        while True:
            try:
                await registration.register_all()
            except* (StatusError, ConnectionError, TimeoutError) as group:
                failures += 1
                error = group.exceptions[0]
                log.warning("node not registered", extra={"error": str(error)})
                await self._clock.sleep(REGISTER_RETRY.delay(failures))
            else:
                break
        self._registered.set()
        async with asyncio.TaskGroup() as group_:
            _ = group_.create_task(registration.run_status())
            _ = group_.create_task(registration.run_leases())

    async def _sync_once(self, pods: Informer[Pod]) -> None:
        await pods.wait_synced()
        for parts in self.parts.values():
            await parts.kubelet.synced()
        self._synced = True
        self._now_ready()

    def _serving_ready(self) -> None:
        self._served = True
        self._now_ready()

    def _now_ready(self) -> None:
        self.ready = self._synced and self._served

    # ------------------------------------------------------------------------------------------------------ pods
    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        assert pod is not None
        kubelet = self._kubelet_of(pod)
        if kubelet is None:
            return
        if new is not None:
            kubelet.apply(new)
        else:
            kubelet.gone(pod)

    def _renewed(self, name: str, word: str, at: float) -> None:
        """A node's Lease stands renewed: grants may count from it."""
        parts = self.parts.get(name)
        if parts is not None and parts.grants is not None:
            parts.grants.wrote(word, at)

    def _kubelet_of(self, pod: Pod) -> Kubelet | None:
        parts = self.parts.get(pod.spec.node_name)
        return parts.kubelet if parts is not None else None

    def _gone(self, uid: str) -> None:
        for parts in self.parts.values():
            if uid in parts.kubelet.workers:
                parts.kubelet.drop(uid)
                return

    # --------------------------------------------------------------------------------------------------- runtimes
    async def _watch_runtimes(self) -> None:
        while True:
            await self._clock.sleep(RUNTIME_CHECK_S)
            for name, parts in self.parts.items():
                if not self.config.hollow:
                    await self._look_at(name, parts)

    async def _look_at(self, name: str, parts: NodeParts) -> None:
        """Is the runtime there, is its network, which images has it?"""
        message, version, images = "", "", []
        now = self._clock.monotonic()
        before = self._facts.get(name)
        try:
            message = ready_message(await parts.runtime.status())
            version = f"{parts.runtime.name}://{await parts.runtime.version()}"
            images = image_documents(list(await parts.runtime.images()))
            self._ready_at[name] = now
        except RuntimeFault:
            version = before.runtime_version if before is not None else f"{parts.runtime.name}://"
            images = list(before.images) if before is not None else []
            if now - self._ready_at.get(name, float("-inf")) >= RUNTIME_DOWN_S:
                message = "container runtime is down"
        assert self.server is not None
        facts = NodeFacts(
            name=name,
            ip=self.config.node_ip,
            port=self.server.port,
            runtime_version=version,
            ready=not message,
            not_ready_message=message,
            images=images,
        )
        self._facts[name] = facts
        if before is not None and before != facts and self._registration is not None:
            self._registration.wake()

    # --------------------------------------------------------------------------------------------------- stopping
    async def wait(self) -> None:
        """Until `request_stop`, or until a part that the node cannot do without has died."""
        await self._stopped.wait()

    def request_stop(self) -> None:
        self._stopped.set()

    async def stop(self) -> None:
        """Leave; the pods stay."""
        self.ready = False
        if self.server is not None:
            await self.server.stop()
        await self._tasks.close()
        for parts in self.parts.values():
            await parts.close()
        if self._client is not None:
            await self._client.close()


def image_documents(images: list[Image]) -> list[Document]:
    """status.images: the largest fifty."""
    largest = sorted(images, key=lambda i: (-i.size_bytes, i.names))[:IMAGES_REPORTED_MAX]
    return [{"names": list(i.names), "sizeBytes": i.size_bytes} for i in largest if i.names]


async def run(config: NodeConfig) -> None:
    """The whole life of a node process: until SIGTERM or SIGINT."""
    gc.set_threshold(100_000, 50, 1_000)  # decoding thousands of pods must not look like garbage
    process = NodeProcess(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.request_stop)
    try:
        await process.start()
        await process.wait()
    finally:
        await process.stop()

"""Probes of running containers, one task each, and the lifecycle handlers that speak the same three languages.

A probe's state is its run of equal answers; crossing a threshold changes the container's health and wakes its pod.
The startup probe gates the others. A failed liveness or startup probe condemns the container once; the planner then
stops it. After a restart of the node process a container that was ready stays ready until a probe says otherwise.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace

import aiohttp

from cluster_agent.node.cri.interface import Runtime, RuntimeContainer, RuntimeFault
from cluster_agent.node.kubelet.events import EventSink, pod_subject
from cluster_agent.node.kubelet.services import HandlerFault
from cluster_agent.node.kubelet.world import Health
from machinery.api.core import Container, HTTPGetAction, LifecycleHandler, Pod, Probe
from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner

log = logging.getLogger(__name__)

OUTPUT_MAX = 1024
HTTP_BODY_MAX = 10 * 1024
HANDLER_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One probe's outcome; the text is upstream's."""

    good: bool
    text: str = ""


@dataclass(frozen=True, slots=True)
class Streak:
    """Equal answers in a row, and what they have come to."""

    good: bool = False
    count: int = 0
    passed: bool = False
    """The verdict so far: it changes when a streak reaches its threshold."""

    def after(self, answer: bool, probe: Probe) -> "Streak":
        """Pure."""
        count = self.count + 1 if answer == self.good else 1
        needed = probe.success_threshold if answer else probe.failure_threshold
        passed = answer if count >= needed else self.passed
        return Streak(answer, count, passed)

    @property
    def failed(self) -> bool:
        """The failure threshold has been reached."""
        return not self.good and self.count > 0 and not self.passed


def port_number(container: Container, port: int | str) -> int:
    """A port by number or by name. Raises ValueError."""
    if isinstance(port, int):
        return port
    if port.isdigit():
        return int(port)
    for known in container.ports:
        if known.name == port:
            return known.container_port
    raise ValueError(f"couldn't find port: {port}")


class Checker:
    """Asks one question: exec, HTTP or TCP."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._session: aiohttp.ClientSession | None = None
        self._trusting = ssl.create_default_context()
        self._trusting.check_hostname = False
        self._trusting.verify_mode = ssl.CERT_NONE

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(self, probe: Probe, container: Container, container_id: str, ip: str) -> Answer:
        """Never raises but RuntimeUnavailable."""
        timeout = float(probe.timeout_seconds)
        try:
            if probe.exec is not None:
                return await self.command(container_id, probe.exec.command, timeout)
            if probe.http_get is not None:
                return await self.http(probe.http_get, container, ip, timeout)
            if probe.tcp_socket is not None:
                port = port_number(container, probe.tcp_socket.port)
                return await self.tcp(probe.tcp_socket.host or ip, port, timeout)
        except ValueError as error:
            return Answer(False, str(error))
        return Answer(False, "this kind of probe is not supported by this kubelet")

    async def command(self, container_id: str, command: tuple[str, ...], timeout: float) -> Answer:
        try:
            result = await self._runtime.exec_sync(container_id, command, timeout)
        except TimeoutError as error:
            return Answer(False, f"command timed out: {error}")
        except RuntimeFault as error:
            return Answer(False, str(error))
        text = result.output[:OUTPUT_MAX].decode("utf-8", "replace")
        return Answer(result.exit_code == 0, text)

    async def http(
        self, action: HTTPGetAction, container: Container, ip: str, timeout: float
    ) -> Answer:
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector)
        port = port_number(container, action.port)
        host = action.host or ip
        host = f"[{host}]" if ":" in host else host
        scheme = action.scheme.lower() or "http"
        path = action.path if action.path.startswith("/") else f"/{action.path}"
        url = f"{scheme}://{host}:{port}{path}"
        headers = {"User-Agent": "kube-probe/1.36", "Accept": "*/*"}
        headers |= {h.name: h.value for h in action.http_headers}
        try:
            async with self._session.get(
                url,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout),
                ssl=self._trusting,
            ) as response:
                await response.content.read(HTTP_BODY_MAX)
        except TimeoutError:
            text = f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
            return Answer(False, text)
        except (aiohttp.ClientError, OSError) as error:
            return Answer(False, f'Get "{url}": {error}')
        if 200 <= response.status < 400:
            return Answer(True)
        return Answer(False, f"HTTP probe failed with statuscode: {response.status}")

    async def tcp(self, host: str, port: int, timeout: float) -> Answer:
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return Answer(False, f"dial tcp {host}:{port}: i/o timeout")
        except OSError as error:
            return Answer(False, f"dial tcp {host}:{port}: {error.strerror or error}")
        writer.close()
        return Answer(True)


@dataclass(slots=True)
class _Tracked:
    pod: Pod
    container: Container
    record: RuntimeContainer
    ip: str
    health: Health
    tasks: TaskOwner


class ProbeManager:
    """The Prober of a real node."""

    def __init__(
        self, checker: Checker, events: EventSink, clock: Clock, wake: Callable[[str], None]
    ) -> None:
        self._checker, self._events, self._clock, self._wake = checker, events, clock, wake
        self._tracked: dict[str, _Tracked] = {}
        self._closing = TaskOwner()

    def track(self, pod: Pod, container: Container, record: RuntimeContainer, ip: str) -> None:
        known = self._tracked.get(record.id)
        if known is not None:
            known.pod, known.ip = pod, ip
            return
        probes = {
            "startup": container.startup_probe,
            "liveness": container.liveness_probe,
            "readiness": container.readiness_probe,
        }
        if not any(probes.values()):
            return
        before = _was(pod, record.id)
        health = Health(
            started=container.startup_probe is None or before.started,
            ready=container.readiness_probe is None or before.ready,
        )
        tracked = _Tracked(pod, container, record, ip, health, TaskOwner())
        self._tracked[record.id] = tracked
        for kind, probe in probes.items():
            if probe is not None and not (kind == "startup" and health.started):
                _ = tracked.tasks.spawn(self._probe(tracked, kind, probe), f"probe {kind}")

    def health(self, container_id: str) -> Health | None:
        tracked = self._tracked.get(container_id)
        return tracked.health if tracked is not None else None

    def untrack(self, container_id: str) -> None:
        tracked = self._tracked.pop(container_id, None)
        if tracked is not None and not self._closing.closed:
            _ = self._closing.spawn(tracked.tasks.close(), "untrack")

    async def close(self) -> None:
        """Stop all probes."""
        for tracked in list(self._tracked.values()):
            await tracked.tasks.close()
        self._tracked.clear()
        await self._closing.close()
        await self._checker.close()

    # ---------------------------------------------------------------------------------------------------- one probe
    async def _probe(self, tracked: _Tracked, kind: str, probe: Probe) -> None:
        streak = Streak(passed=kind == "liveness" or (kind == "readiness" and tracked.health.ready))
        started = tracked.record.started_at or tracked.record.created_at
        age = (self._clock.now() - started).total_seconds()
        await self._clock.sleep(max(probe.initial_delay_seconds - age, 0.0))
        while True:
            if kind == "startup" or tracked.health.started:
                streak = await self._ask(tracked, kind, probe, streak)
                if kind == "startup" and streak.passed:
                    return
            await self._clock.sleep(self._pause(tracked, kind, probe))

    def _pause(self, tracked: _Tracked, kind: str, probe: Probe) -> float:
        """A pod becomes ready as soon as it has started, not a whole period later."""
        if kind != "startup" and not tracked.health.started:
            return min(1.0, float(probe.period_seconds))
        return float(probe.period_seconds)

    async def _ask(self, tracked: _Tracked, kind: str, probe: Probe, streak: Streak) -> Streak:
        answer = await self._checker.check(probe, tracked.container, tracked.record.id, tracked.ip)
        if not answer.good:
            subject = pod_subject(tracked.pod, tracked.container.name)
            text = f"{kind.capitalize()} probe failed: {answer.text}"
            self._events.emit(subject, "Warning", "Unhealthy", text)
        streak = streak.after(answer.good, probe)
        self._learn(tracked, kind, streak)
        return streak

    def _learn(self, tracked: _Tracked, kind: str, streak: Streak) -> None:
        before = tracked.health
        if kind == "readiness":
            tracked.health = replace(before, ready=streak.passed)
        elif streak.failed:
            tracked.health = replace(before, failed=kind)
        elif kind == "startup" and streak.passed:
            tracked.health = replace(before, started=True)
        if tracked.health != before:
            self._wake(tracked.pod.metadata.uid)


def _was(pod: Pod, container_id: str) -> Health:
    """What the pod's last status said of this very container."""
    statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    for known in statuses:
        if known.container_id.endswith("://" + container_id):
            return Health(started=known.started, ready=known.ready)
    return Health(started=False, ready=False)


class Handlers:
    """postStart and preStop of a real node."""

    def __init__(self, checker: Checker, clock: Clock) -> None:
        self._checker, self._clock = checker, clock

    async def pre_stop(self, pod: Pod, container: Container, record_id: str, ip: str) -> None:
        if container.lifecycle.pre_stop is not None:
            await self._run("PreStopHook", container.lifecycle.pre_stop, container, record_id, ip)

    async def post_start(self, pod: Pod, container: Container, record_id: str, ip: str) -> None:
        if container.lifecycle.post_start is not None:
            await self._run(
                "PostStartHook", container.lifecycle.post_start, container, record_id, ip
            )

    async def _run(
        self, name: str, handler: LifecycleHandler, container: Container, record_id: str, ip: str
    ) -> None:
        if handler.sleep is not None:
            await self._clock.sleep(handler.sleep.seconds)
            return
        if handler.exec is not None:
            command = handler.exec.command
            answer = await self._checker.command(record_id, command, HANDLER_TIMEOUT_S)
        elif handler.http_get is not None:
            answer = await self._checker.http(handler.http_get, container, ip, HANDLER_TIMEOUT_S)
        else:
            raise HandlerFault(f"{name} failed: this kind of handler is not supported")
        if not answer.good:
            raise HandlerFault(f"{name} failed: {answer.text}")

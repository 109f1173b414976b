"""The lab's supervisor: one background process that starts the others and restarts what dies.

On real hosts this is systemd's work; a lab has no systemd. The table of processes is kept in a file, and every process
writes straight into its log file, so the supervisor itself may be killed at any moment: nothing else notices, and the next
one adopts what runs (see process.py).

Limits: of an adopted process the exit code is unknown. Logs are rotated by copy and truncate, which loses what is written
between the two.
"""

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from federation.lab import channel
from federation.lab.process import (
    Spec,
    State,
    Status,
    after_death,
    describe_exit,
    environment,
    is_frozen,
    leaders,
)
from machinery.kit.clock import Clock, SystemClock
from machinery.kit.log import setup
from machinery.kit.tasks import TaskOwner

log = logging.getLogger(__name__)

TABLE = "processes.json"
LOG_LIMIT = 10 * 1024 * 1024
LOG_KEPT = 2
_PROBE_S = 0.1
_ROTATE_S = 5.0
_ORDER_S = 10.0
"""So long a process that is switched on is waited for before the next is started."""


@dataclass(slots=True)
class Process:
    """One supervised process and what is known of it."""

    spec: Spec
    state: State = "starting"
    ready: bool = False
    pid: int = 0
    restarts: int = 0
    failures: int = 0
    started: float = 0.0
    last_exit: str = ""
    stopping: bool = False
    off: bool = False
    """Its host has no power: it is not started until `power` says otherwise."""
    nudge: asyncio.Event = field(default_factory=asyncio.Event)
    """Ends the pause before the next start."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Keeps the processes of the lab in `directory` running until it is told to shut down."""

    def __init__(self, directory: str, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._processes: dict[str, Process] = {}
        self._off: set[str] = set()
        """Hosts without power."""
        self._tasks = TaskOwner(self._task_died)
        self._shutdown = asyncio.Event()

    async def run(self, server: socket.socket) -> None:
        """Serve until `shutdown` is asked or SIGTERM comes; then stop everything in reverse order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._shutdown.set)
        for spec in self._load():
            self._add(spec, leaders(self._directory).get(spec.name, 0))
        _ = self._tasks.spawn(self._rotate(), "rotate logs")
        listener = await asyncio.start_unix_server(self._serve, sock=server)
        log.info("supervisor serves", extra={"processes": len(self._processes)})
        await self._shutdown.wait()
        await self._stop_all()
        listener.close()
        await self._tasks.close()

    # ------------------------------------------------------------------------------------------------ requests
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            answer = await self.answer(json.loads(line)) if line else {}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError) as error:
            log.warning("request failed", extra={"error": str(error)})
        finally:
            writer.close()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one request asks."""
        match request:
            case {"do": "status"}:
                return {
                    "pid": os.getpid(),
                    "processes": [msgspec.to_builtins(s) for s in self.status()],
                }
            case {"do": "start", "processes": list(documents)}:
                self.start(msgspec.convert(documents, list[Spec]))
                return {"ok": True}
            case {"do": "stop", "names": list(names)}:
                for name in reversed(names):
                    await self._remove(str(name))
                return {"ok": True}
            case {"do": "power", "hosts": list(hosts), "on": bool(on)}:
                self.power({str(host) for host in hosts}, on=on)
                return {"ok": True}
            case {"do": "freeze" | "thaw" as verb, "name": str(name)} if name in self._processes:
                number = signal.SIGSTOP if verb == "freeze" else signal.SIGCONT
                return {"pid": self._signal(self._processes[name], number)}
            case {"do": "shutdown"}:
                self._shutdown.set()
                return {"ok": True}
            case _:
                return {"error": f"not understood: {request.get('do')!r}"}

    def start(self, specs: list[Spec]) -> None:
        """Add processes. One that runs with an unchanged spec is left alone; one that waits is tried at once."""
        for spec in specs:
            old = self._processes.get(spec.name)
            if old is None:
                self._add(spec, leaders(self._directory).get(spec.name, 0))
                continue
            if old.spec != spec:
                old.spec = spec  # read at the next start
                self._kill(old, signal.SIGTERM)
            if old.state == "waiting":
                old.failures = 0
                old.nudge.set()
        self._save()

    def power(self, hosts: set[str], *, on: bool) -> None:
        """A host without power keeps its processes in the table; what ends there is not started again."""
        if not on:
            self._off |= hosts
            for process in self._processes.values():
                if process.spec.host in hosts:
                    process.off = True
                    process.nudge.set()
        elif back := self._off & hosts:
            self._off -= hosts
            _ = self._tasks.spawn(self._power_on(back), f"power on {len(back)} hosts")

    async def _power_on(self, hosts: set[str]) -> None:
        """Start them in the order of the table, each when the one before is ready (or has had its time)."""
        for process in [p for p in self._processes.values() if p.spec.host in hosts]:
            if process.spec.host in self._off:
                continue  # the power is gone again
            process.off = False
            process.failures = 0
            process.nudge.set()
            deadline = self._clock.monotonic() + _ORDER_S
            while not (process.ready or process.off) and self._clock.monotonic() < deadline:
                await self._clock.sleep(_PROBE_S)

    def status(self) -> list[Status]:
        """Every process, in the order it was added."""
        now = self._clock.monotonic()
        return [
            Status(
                name=p.spec.name,
                host=p.spec.host,
                state=p.state,
                ready=p.ready,
                pid=p.pid,
                restarts=p.restarts,
                failures=p.failures,
                up_s=round(now - p.started, 1) if p.pid else 0.0,
                last_exit=p.last_exit,
                frozen=is_frozen(p.pid),
            )
            for p in self._processes.values()
        ]

    # ------------------------------------------------------------------------------------------------ one process
    def _add(self, spec: Spec, running_pid: int) -> None:
        process = Process(spec, off=spec.host in self._off)
        self._processes[spec.name] = process
        _ = self._tasks.spawn(self._keep(process, running_pid), spec.name)

    async def _keep(self, process: Process, running_pid: int) -> None:
        """Start, wait for the end, decide, again."""
        while True:
            if not running_pid:
                await self._wait_power(process)
            if self._is_stopping(process):
                break
            exit_code = await self._run_once(process, running_pid)
            running_pid = 0
            if self._is_stopping(process):
                break
            if process.off:
                continue
            ran_s = self._clock.monotonic() - process.started
            verdict = after_death(process.spec, exit_code, ran_s, process.failures)
            if verdict.done:
                process.state, process.ready = "done", True
                process.ended.set()
                return
            process.failures = verdict.failures
            process.restarts += 1
            process.state = "waiting"
            log.warning(
                "process died, restarting",
                extra={
                    "program": process.spec.name,
                    "exit": process.last_exit,
                    "delay": verdict.delay_s,
                },
            )
            await self._pause(process, verdict.delay_s)
            if self._is_stopping(process):
                break
        process.state = "stopped"
        process.ended.set()

    async def _run_once(self, process: Process, running_pid: int) -> int | None:
        """One life: from the start (or the taking over of `running_pid`) to the end. Returns the exit code."""
        child: subprocess.Popen[bytes] | None = None
        process.state = "starting"
        process.started = self._clock.monotonic()
        if running_pid:
            process.pid = running_pid
            log.info("adopted", extra={"program": process.spec.name, "pid": running_pid})
        else:
            try:
                child = self._launch(process.spec)
            except OSError as error:
                process.last_exit = str(error)
                return 127
            process.pid = child.pid
        probing = self._tasks.spawn(self._probe(process), f"probe {process.spec.name}")
        try:
            await _wait_pid(process.pid)
        finally:
            probing.cancel()
        exit_code = child.wait() if child else None
        process.pid, process.ready, process.last_exit = 0, False, describe_exit(exit_code)
        return exit_code

    def _launch(self, spec: Spec) -> "subprocess.Popen[bytes]":
        path = Path(self._directory, "log", f"{spec.name}.log")
        with path.open("ab") as output:
            return subprocess.Popen(
                spec.argv,
                env=environment(self._directory, spec),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )

    async def _probe(self, process: Process) -> None:
        """Try the readiness probe until it passes once."""
        if process.spec.once:
            process.state = "running"
            return
        while not await probe(process.spec.ready, process.pid):
            await self._clock.sleep(_PROBE_S)
        process.state, process.ready = "running", True

    async def _wait_power(self, process: Process) -> None:
        while process.off and not process.stopping:
            process.state = "off"
            process.nudge.clear()
            await process.nudge.wait()

    def _is_stopping(self, process: Process) -> bool:
        """Asked anew after each await: another task sets it."""
        return process.stopping

    async def _pause(self, process: Process, delay_s: float) -> None:
        process.nudge.clear()
        try:
            await asyncio.wait_for(process.nudge.wait(), delay_s)
        except TimeoutError:
            return

    # ------------------------------------------------------------------------------------------------ stopping
    async def _stop_all(self) -> None:
        for name in reversed(list(self._processes)):
            await self._remove(name, save=False)

    async def _remove(self, name: str, *, save: bool = True) -> None:
        process = self._processes.get(name)
        if process is None:
            return
        process.stopping = True
        process.nudge.set()
        self._kill(process, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.ended.wait(), process.spec.stop_s)
        except TimeoutError:
            self._kill(process, signal.SIGKILL)
            await process.ended.wait()
        del self._processes[name]
        log.info("stopped", extra={"program": name})
        if save:
            self._save()

    def _kill(self, process: Process, number: signal.Signals) -> None:
        if not process.pid:
            return
        try:
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                os.kill(process.pid, number)
                os.kill(process.pid, signal.SIGCONT)  # a frozen process must hear it
        except ProcessLookupError:
            return

    def _signal(self, process: Process, number: signal.Signals) -> int:
        """Send it, and nothing else; the pid, 0 where none runs."""
        if process.pid:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                return 0
        return process.pid

    # ------------------------------------------------------------------------------------------------ files
    def _load(self) -> list[Spec]:
        path = Path(self._directory, TABLE)
        return msgspec.json.decode(path.read_bytes(), type=list[Spec]) if path.exists() else []

    def _save(self) -> None:
        specs = [process.spec for process in self._processes.values()]
        fresh = Path(self._directory, f"{TABLE}.new")
        fresh.write_bytes(msgspec.json.encode(specs))
        fresh.chmod(0o600)
        fresh.replace(Path(self._directory, TABLE))

    async def _rotate(self) -> None:
        while True:
            rotate_logs(Path(self._directory, "log"), LOG_LIMIT)
            await self._clock.sleep(_ROTATE_S)

    def _task_died(self, name: str, error: BaseException) -> None:
        log.error("supervisor task died", extra={"task": name}, exc_info=error)


async def _wait_pid(pid: int) -> None:
    """Return when process `pid` has ended, child or not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def probe(ready: str, pid: int) -> bool:
    """Whether a process answers where it should. A unix path is looked up in the process's own file system."""
    kind, _, rest = ready.partition(":")
    try:
        if kind == "tcp":
            address, _, port = rest.rpartition(":")
            _, writer = await asyncio.open_connection(address, int(port))
        elif kind == "unix":
            _, writer = await asyncio.open_unix_connection(f"/proc/{pid}/root{rest}")
        else:
            return True
        writer.close()
        await writer.wait_closed()
    except OSError:
        return False
    return True


def rotate_logs(directory: Path, limit: int) -> None:
    """Move every log over `limit` bytes to `.1`, the one before to `.2`. Writers append, so truncation is safe."""
    for path in directory.glob("*.log"):
        if path.stat().st_size <= limit:
            continue
        for number in range(LOG_KEPT, 1, -1):
            older = path.with_suffix(f".log.{number - 1}")
            if older.exists():
                older.replace(path.with_suffix(f".log.{number}"))
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)


def main(directory: str) -> None:
    """The supervisor's process. Its output is its log."""
    setup("lab-supervisor")
    server = channel.listen(directory)
    asyncio.run(Supervisor(directory, SystemClock()).run(server))


if __name__ == "__main__":
    main(sys.argv[1])

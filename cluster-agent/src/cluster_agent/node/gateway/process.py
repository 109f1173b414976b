"""The HAProxy process: started, found again, replaced. It is nobody's child and outlives the node process.

HAProxy detaches itself (`-D`). A new configuration is a new process: it takes the listening sockets from the old one over
its admin socket, tells it to finish, and the old one serves its open connections until they end or the drain time is over.
No master process: the node process is the supervisor, and a process more is memory that a small machine misses.

Which process runs is asked of the admin socket. Signals go to a process only if it started when our record says so,
because a number may have been given to somebody else. Each configuration lies in a folder of its own and is checked there
before anything is touched; paths in it are relative, for the name of a Unix socket must be short.

The process is in the cgroup and namespaces of its node, and ends with them. Under a supervisor that kills what its
unit has left (systemd: KillMode=control-group), tell it not to (KillMode=process), or connections end with the node process.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cluster_agent.node.gateway.model import Certificate, GatewayConfig
from cluster_agent.node.gateway.render import (
    CA_FILE,
    CONFIG,
    KEY_FILE,
    SOCKET,
    STATES,
    Files,
)
from cluster_agent.node.gateway.runtime import batches, parse_info

CHECK_TIMEOUT_S = 30.0
ASK_TIMEOUT_S = 3.0
END_TIMEOUT_S = 3.0
ANSWER_MAX = 16 * 1024 * 1024
LISTENERS, RECORD, PID, LIVE = "listeners.json", "process.json", "haproxy.pid", "live"
_KEY_MARK = "-----BEGIN"


class GatewayError(Exception):
    """HAProxy could not be made to run what is wanted; says why."""


class ConfigRefused(GatewayError):
    """HAProxy does not accept the configuration; what ran goes on."""


class Engine(Protocol):
    """HAProxy, as the gateway sees it."""

    async def adopt(self) -> str | None:
        """Find the process of an earlier life; the shape of its configuration, None where none answers."""
        ...

    async def replace(self, files: Files) -> None:
        """Run these instead of what runs. Raises ConfigRefused, GatewayError; then what ran goes on."""
        ...

    async def ask(self, commands: Sequence[str]) -> str:
        """The answers, one after another. Raises OSError where no process answers."""
        ...

    def alive(self) -> bool:
        """Whether the process exists."""
        ...

    def draining(self) -> int:
        """How many former processes still serve connections."""
        ...

    async def end(self) -> None:
        """End the process and all that drain; their connections are cut."""
        ...

    def certificate(self) -> Certificate | None:
        """That of the configuration that was started last."""
        ...

    def load(self, name: str) -> object:
        """A document that was saved; None where there is none that can be read."""
        ...

    def save(self, name: str, document: object) -> None:
        """Keep it over restarts."""
        ...


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for another: its number, and when it started in ticks since a named boot."""

    pid: int
    started: int
    boot: str

    def alive(self) -> bool:
        return find(self.pid) == self

    def signal(self, number: int) -> None:
        """Send it, unless the process is gone; a process that took the number over never gets it."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.alive():
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


def find(pid: int) -> Process | None:
    """The process that has this number now; a dead one that nobody has buried is none."""
    try:
        # The name may hold anything, also spaces and parentheses: what counts comes after the last one.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]), boot)


def has_aes(cpuinfo: str) -> bool:
    """Whether /proc/cpuinfo names instructions for AES; also where it names nothing. Pure."""
    flags = [
        line.partition(":")[2].split()
        for line in cpuinfo.splitlines()
        if line.lower().startswith(("flags", "features"))
    ]
    return not flags or "aes" in flags[0]


class HaproxyEngine:
    """One node's HAProxy, in the folder of its gateway."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config, self._folder = config, config.directory
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        (self._folder / "empty").mkdir(mode=0o755, exist_ok=True)
        self._process: Process | None = None
        self._old: list[Process] = []

    # ------------------------------------------------------------------------------------------------------ talking
    async def ask(self, commands: Sequence[str]) -> str:
        """As Engine has it."""
        answers = []
        for line in batches(commands):
            async with asyncio.timeout(ASK_TIMEOUT_S):
                answers.append(await self._ask(line))
        return "\n".join(answers)

    async def _ask(self, line: str) -> str:
        # By way of a descriptor, because the folder's name may be longer than a socket's may be.
        handle = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        try:
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{handle}/{SOCKET}")
        finally:
            os.close(handle)
        try:
            writer.write(line.encode() + b"\n")
            await writer.drain()
            answer = bytearray()
            while part := await reader.read(65_536):
                answer += part
                if len(answer) > ANSWER_MAX:
                    raise OSError(f"an answer of more than {ANSWER_MAX} bytes")
            return answer.decode(errors="replace")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def alive(self) -> bool:
        """As Engine has it."""
        return self._process is not None and self._process.alive()

    def draining(self) -> int:
        """As Engine has it."""
        self._old = [process for process in self._old if process.alive()]
        return len(self._old)

    # ----------------------------------------------------------------------------------------------------- adopting
    async def adopt(self) -> str | None:
        """As Engine has it. One that is there and does not answer is ended."""
        recorded, self._old = self._recorded()
        try:
            info = parse_info(await self.ask(["show info"]))
            self._process = find(int(info["Pid"]))
        except (OSError, TimeoutError, KeyError, ValueError):
            self._process = None
            if recorded is not None:
                await _end([recorded])
            return None
        if recorded is not None and recorded != self._process:
            self._old.append(recorded)
        self._record()
        return info.get("description", "")

    def _recorded(self) -> tuple[Process | None, list[Process]]:
        document = self.load(RECORD)
        rows = document if isinstance(document, list) else []
        try:
            processes = [Process(int(p), int(s), str(b)) for p, s, b in rows]
        except (TypeError, ValueError):
            return None, []
        living = [process for process in processes if process.alive()]
        first = living[0] if living and living[0] == processes[0] else None
        return first, [process for process in living if process is not first]

    def _record(self) -> None:
        """The one that serves comes first."""
        listed = [p for p in (self._process, *self._old) if p is not None]
        self.save(RECORD, [[p.pid, p.started, p.boot] for p in listed])

    # ---------------------------------------------------------------------------------------------------- replacing
    async def replace(self, files: Files) -> None:
        """As Engine has it."""
        folder = self._new_folder(files)
        try:
            await self._check(folder)
            await self._keep_states()
            await self._start(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        link = self._folder / f"{LIVE}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
        link.replace(self._folder / LIVE)
        for other in self._folder.glob("config-*"):
            if other.name != folder.name:
                shutil.rmtree(other, ignore_errors=True)

    def _new_folder(self, files: Files) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="config-", dir=self._folder))
        for name, text in files.texts().items():
            _write(folder / name, text)
        return folder

    async def _check(self, folder: Path) -> None:
        code, said = await self._run(folder, "-c", "-f", CONFIG)
        if code:
            raise ConfigRefused(said)

    async def _keep_states(self) -> None:
        """A new process takes servers for living until it has checked them, unless it is told."""
        path = self._folder / STATES
        try:
            text = await self.ask(["show servers state"])
        except (OSError, TimeoutError):
            path.unlink(missing_ok=True)
        else:
            _write(path, text)

    async def _start(self, folder: Path) -> None:
        before = self._process if self.alive() else None
        take_over = ("-x", f"../{SOCKET}", "-sf", str(before.pid)) if before else ()
        code, said = await self._run(folder, "-D", "-p", f"../{PID}", "-f", CONFIG, *take_over)
        if code:
            raise GatewayError(said)
        process = find(int((self._folder / PID).read_text()))
        if process is None:
            raise GatewayError("haproxy ended as soon as it had started")
        self._process = process
        if before is not None:
            self._old.append(before)
        for oldest in self._old[: max(0, self.draining() - self._config.draining_max)]:
            oldest.signal(signal.SIGTERM)
        self._record()

    async def _run(self, folder: Path, *words: str) -> tuple[int, str]:
        """Its exit code, and the errors it printed. Output goes to a file: a process that detaches may keep a pipe open."""
        with tempfile.TemporaryFile() as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    self._config.binary, *words, cwd=folder, stdin=asyncio.subprocess.DEVNULL,
                    stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip
            except FileNotFoundError:
                raise GatewayError(
                    f"{self._config.binary} is not installed (apt-get install haproxy)"
                ) from None
            try:
                async with asyncio.timeout(CHECK_TIMEOUT_S):
                    code = await process.wait()
            except (TimeoutError, asyncio.CancelledError) as error:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                if isinstance(error, TimeoutError):
                    raise GatewayError(f"haproxy took more than {CHECK_TIMEOUT_S:.0f} s") from None
                raise
            output.seek(0)
            return code, alerts(output.read(65_536).decode(errors="replace"))

    async def end(self) -> None:
        """As Engine has it."""
        await _end([p for p in (self._process, *self._old) if p is not None])
        self._process, self._old = None, []
        self._record()

    # -------------------------------------------------------------------------------------------------------- files
    def certificate(self) -> Certificate | None:
        """As Engine has it."""
        try:
            pem = (self._folder / LIVE / KEY_FILE).read_text()
            ca = (self._folder / LIVE / CA_FILE).read_text()
        except OSError:
            return None
        blocks = [_KEY_MARK + block for block in pem.split(_KEY_MARK)[1:]]
        keys = "".join(block for block in blocks if "PRIVATE KEY" in block)
        return Certificate("".join(b for b in blocks if "PRIVATE KEY" not in b), keys, ca)

    def load(self, name: str) -> object:
        """As Engine has it."""
        try:
            return json.loads((self._folder / name).read_text())
        except (OSError, ValueError):
            return None

    def save(self, name: str, document: object) -> None:
        """As Engine has it."""
        _write(self._folder / name, json.dumps(document))


async def _end(processes: Sequence[Process]) -> None:
    """Terminate them, and kill what has not ended in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            process.signal(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                for process in processes:
                    await _ended(process)
                return


async def _ended(process: Process) -> None:
    """Return when it has ended; it need not be a child of ours."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, over.set)
    try:
        if process.alive():
            _ = await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and readable by the owner alone."""
    draft = path.with_name(path.name + ".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def alerts(said: str) -> str:
    """Of what HAProxy printed, the lines that say what is wrong, without numbers of processes. Pure."""
    alerts = [line.partition(") : ")[2] for line in said.splitlines() if line.startswith("[ALERT]")]
    useful = [line for line in alerts if line and "Fatal errors found" not in line]
    return "; ".join(useful or [line for line in said.splitlines() if line])[:1_000]

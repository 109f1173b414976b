"""The processes of a lab as values: what to start, what became of it, and how a running one is recognised.

Each carries two marks in its environment, the lab's directory and its own name. They outlive every kill -9 of `up` and of
the supervisor, so that a later supervisor takes a running process over instead of starting a second one, and `down`
finds all of them. What containerd starts has no marks (an image's environment is its own); its cgroup tells it.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec

from machinery.kit.backoff import Backoff

LAB_MARK = "UBERNETES_LAB"
NAME_MARK = "UBERNETES_PROCESS"

RESTART = Backoff(base_s=0.2, cap_s=5.0)
"""Short: a control plane is expected back within ten seconds, whatever happened to it."""

STEADY_S = 10.0
"""A process that lived this long was well; its next death starts the back-off anew."""

_NOT_INHERITED = frozenset({"FEDERATION_DATABASE_URL"})
"""It says where the database is for the machine; on a host of the lab the configuration file says it better."""

State = Literal["starting", "running", "waiting", "stopped", "done", "off"]
"""`off`: its host has no power (`fedctl lab kill`)."""


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One process: `argv` already says how to enter its host. `ready` is "", tcp:ADDRESS:PORT or unix:PATH.

    `once` is for a step that runs to its end (an image import): it is repeated until it succeeds, then done.
    """

    name: str
    argv: tuple[str, ...]
    host: str = ""
    env: dict[str, str] = {}
    ready: str = ""
    once: bool = False
    stop_s: float = 5.0


class Status(msgspec.Struct, frozen=True):
    """What the supervisor says of one process."""

    name: str
    host: str
    state: State
    ready: bool
    pid: int
    restarts: int
    failures: int
    """Deaths in a row, each within STEADY_S."""
    up_s: float
    last_exit: str
    frozen: bool = False
    """Stopped by SIGSTOP."""


class Verdict(msgspec.Struct, frozen=True):
    """What follows a death: nothing more (`done`), or a new start after `delay_s`."""

    done: bool
    delay_s: float
    failures: int


def after_death(spec: Spec, exit_code: int | None, ran_s: float, failures: int) -> Verdict:
    """The rule of restarts. `exit_code` is None where the process was not our child."""
    if spec.once and exit_code == 0:
        return Verdict(True, 0.0, 0)
    failures = 1 if ran_s >= STEADY_S else failures + 1
    return Verdict(False, RESTART.delay(failures), failures)


def describe_exit(exit_code: int | None) -> str:
    """`exit 1`, `signal 9`, or `ended` where nobody can know."""
    if exit_code is None:
        return "ended"
    return f"signal {-exit_code}" if exit_code < 0 else f"exit {exit_code}"


def environment(directory: str, spec: Spec) -> dict[str, str]:
    """What a process of the lab sees: our environment, its own additions, the marks."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return inherited | spec.env | {LAB_MARK: directory, NAME_MARK: spec.name}


def marked(directory: str) -> dict[int, str]:
    """The running processes that carry the marks of the lab in `directory`: pid and name.

    Children of a marked process carry the same marks (a shell, a postmaster's workers); the caller decides.
    """
    found = {}
    wanted = f"{LAB_MARK}={directory}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        values = _environ(int(entry))
        if wanted in values:
            name = next((v for v in values if v.startswith(NAME_MARK.encode() + b"=")), b"=")
            found[int(entry)] = name.partition(b"=")[2].decode(errors="replace")
    return found


def leaders(directory: str) -> dict[str, int]:
    """Of each marked name the process that was started first: it leads its session."""
    found: dict[str, int] = {}
    for pid, name in marked(directory).items():
        if _is_session_leader(pid):
            found[name] = pid
    return found


def is_frozen(pid: int) -> bool:
    """Whether process `pid` is stopped by a signal (the kernel's word: whoever sent it)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []  # gone, another user's, or a kernel thread


def _is_session_leader(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False

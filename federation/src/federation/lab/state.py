"""What the lab's directory remembers between two commands, and the lock that keeps two commands apart."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from federation.lab.plan import LabPlan, LabSpec, make_plan

FILE = "lab.json"
HOSTS = "hosts.json"
LOCK = "lock"


class StateError(Exception):
    """The command cannot run now; the text says why and what to do."""


class LabState(msgspec.Struct, frozen=True):
    """What was asked, and the slot it got."""

    spec: LabSpec
    slot: int

    def plan(self) -> LabPlan:
        """The plan it leads to."""
        return make_plan(self.spec, self.slot)


def load(directory: str) -> LabState | None:
    """The lab's state, or None where there is no lab."""
    path = Path(directory, FILE)
    return msgspec.json.decode(path.read_bytes(), type=LabState) if path.exists() else None


def save(state: LabState) -> None:
    """Write it in one step."""
    write_file(Path(state.spec.directory, FILE), msgspec.json.encode(state))


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Atomically, so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    fresh.chmod(mode)
    fresh.replace(path)


def boot_id() -> str:
    """Changes with every boot of the machine; namespaces and links do not live longer."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def hosts_made(directory: str) -> bool:
    """Whether the hosts were all made, in this boot."""
    path = Path(directory, HOSTS)
    return path.exists() and path.read_text() == boot_id()


def mark_hosts_made(directory: str) -> None:
    """To be called when the last host stands."""
    write_file(Path(directory, HOSTS), boot_id().encode())


@contextmanager
def lock(directory: str) -> Iterator[None]:
    """One command at a time. The lock dies with its holder, however that ends."""
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/{LOCK}", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            raise StateError(
                f"another fedctl lab command (process {holder}) is at work on this lab: "
                "wait for it, or stop it and run `fedctl lab down`"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield

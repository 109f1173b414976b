"""A private PostgreSQL for tests: a fresh cluster on a free loopback port, gone at the end.

Debian's programs under /usr/lib/postgresql are used; as root the server runs as user `postgres`, since it refuses to
run as root. It is stopped by its pid. Where the programs are absent the tests that need it skip and say so.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

START_S = 120


class Postgres:
    """A running server; `settings` are further ones of its command line."""

    def __init__(
        self, folder: Path, programs: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self._folder = folder
        self._programs = programs
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.port = 0

    def create(self) -> None:
        """Make the cluster's files."""
        self._run(
            "initdb", "-D", str(self._data), "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8"
        )

    def copy(self, primary: "Postgres") -> None:
        """Make them a copy of another server's, whose standby this one is to be."""
        place = f"host=127.0.0.1 port={primary.port} user=postgres"
        self._run("pg_basebackup", "-d", place, "-D", str(self._data), "-R", "-c", "fast")

    def start(self) -> None:
        """Run the server; again on the same port after `stop` and `kill`."""
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "max_connections": "50",
            "shared_buffers": "32MB",
            **self._settings,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        left = self._told()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *_as_postgres(),
                    str(self._programs / "postgres"),
                    "-D",
                    str(self._data),
                    *arguments,
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while (told := self._told()) == left or told[-1].strip() not in ("ready", "standby"):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError((self._folder / "log").read_text(errors="replace"))
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT is PostgreSQL's fast shutdown, SIGQUIT its crash."""
        if self._process is None:
            return
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, how)
        self._process.wait(START_S)
        self._process = None

    def kill(self) -> None:
        """What a power cut is to it: kill -9 of every one of its processes."""
        if self._process is None:
            return
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._process.wait(START_S)
        self._process = None

    @property
    def running(self) -> bool:
        """Whether it was started and not ended since."""
        return self._process is not None

    def fresh_url(self) -> str:
        """The URL of a database that nobody used yet."""
        self._databases += 1
        name = f"test{self._databases}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def sql(self, database: str, statement: str) -> None:
        """Run one statement."""
        self._run(
            "psql",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "postgres",
            "-d",
            database,
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
        )

    def _told(self) -> list[str]:
        """The server's pid file, whose last line is its state; asking takes no process, of which a busy machine has enough."""
        try:
            return (self._data / "postmaster.pid").read_text().splitlines() or [""]
        except FileNotFoundError:
            return [""]

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            [*_as_postgres(), str(self._programs / program), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")
        return done.returncode


def _as_postgres() -> list[str]:
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def folder_of(settings: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """A server without files in a folder of its own, stopped and gone at the end."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="test-postgres-"))
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("there is no user postgres to run PostgreSQL as")
        os.chown(folder, user.pw_uid, user.pw_gid)
    server = Postgres(folder, programs, settings)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the whole run."""
    with folder_of() as server:
        server.create()
        server.start()
        yield server


@contextlib.contextmanager
def replicated() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary and its synchronous standby: what a client is told is committed is on both."""
    with folder_of() as primary, folder_of({"cluster_name": "standby"}) as standby:
        primary.create()
        primary.start()
        standby.copy(primary)
        standby.start()
        primary.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        primary.sql("postgres", "SELECT pg_reload_conf()")
        yield primary, standby

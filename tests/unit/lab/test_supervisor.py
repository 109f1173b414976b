"""The supervisor with real processes: it starts, probes, restarts, adopts, rotates and stops."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from federation.lab import channel
from federation.lab.process import Spec, after_death, describe_exit, leaders
from federation.lab.supervisor import probe, rotate_logs

STANDIN = str(Path(__file__).with_name("standin.py"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.02)
    return value


class Lab:
    def __init__(self, directory: Path) -> None:
        self.directory = str(directory)
        (directory / "log").mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.boot()

    def boot(self) -> None:
        with open(f"{self.directory}/log/supervisor.log", "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "federation.lab.supervisor", self.directory],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self.answers)

    def answers(self) -> bool:
        try:
            return "pid" in channel.ask(self.directory, "status")
        except channel.NoSupervisor:
            return False

    def start(self, *specs: Spec) -> None:
        channel.ask(self.directory, "start", processes=[msgspec.to_builtins(s) for s in specs])

    def status(self, name: str) -> dict[str, Any]:
        found = channel.ask(self.directory, "status")["processes"]
        return next((p for p in found if p["name"] == name), {"state": "absent", "ready": False})

    def ready(self, name: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.status(name)
            return found if found["ready"] else None

        return until(look)

    def end(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.end()
    assert leaders(lab.directory) == {}


def standin(name: str = "web") -> Spec:
    port = free_port()
    return Spec(name, (sys.executable, STANDIN, str(port)), ready=f"tcp:127.0.0.1:{port}")


def test_it_starts_and_reports_ready(lab: Lab) -> None:
    lab.start(standin())
    status = lab.ready("web")
    assert status["state"] == "running"
    assert Path(f"/proc/{status['pid']}").exists()
    assert "listening on" in Path(lab.directory, "log", "web.log").read_text()


def test_a_killed_process_comes_back_under_another_pid(lab: Lab) -> None:
    lab.start(standin())
    first = lab.ready("web")
    os.kill(first["pid"], signal.SIGKILL)
    again = until(lambda: (s := lab.ready("web"))["pid"] != first["pid"] and s)
    assert again["restarts"] == 1
    assert again["last_exit"] == "signal 9"


def test_a_second_supervisor_adopts_what_runs(lab: Lab) -> None:
    lab.start(standin())
    first = lab.ready("web")
    assert lab.process is not None
    lab.process.kill()
    lab.process.wait()
    assert Path(f"/proc/{first['pid']}").exists(), "the process does not notice"
    lab.boot()
    assert lab.ready("web")["pid"] == first["pid"]
    os.kill(first["pid"], signal.SIGKILL)
    again = until(lambda: (s := lab.ready("web"))["pid"] != first["pid"] and s)
    assert again["last_exit"] == "ended"


def test_starting_twice_changes_nothing_and_a_changed_spec_restarts(lab: Lab) -> None:
    spec = standin()
    lab.start(spec)
    first = lab.ready("web")
    lab.start(spec)
    assert lab.ready("web")["pid"] == first["pid"]
    lab.start(msgspec.structs.replace(spec, env={"A": "b"}))
    until(lambda: lab.ready("web")["pid"] != first["pid"])


def test_a_step_is_repeated_until_it_succeeds(lab: Lab, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    lab.start(
        Spec("step", ("/bin/sh", "-c", f"test -e {mark} || {{ touch {mark}; exit 3; }}"), once=True)
    )
    status = lab.ready("step")
    assert (status["state"], status["restarts"]) == ("done", 1)


def test_a_frozen_process_is_stopped_too(lab: Lab) -> None:
    lab.start(standin())
    pid = lab.ready("web")["pid"]
    os.kill(pid, signal.SIGSTOP)
    channel.ask(lab.directory, "stop", names=["web"])
    assert not Path(f"/proc/{pid}").exists()
    assert lab.status("web")["state"] == "absent"


def test_a_frozen_process_is_shown_and_thawed(lab: Lab) -> None:
    lab.start(standin())
    pid = lab.ready("web")["pid"]
    for _ in range(2):
        assert channel.ask(lab.directory, "freeze", name="web") == {"pid": pid}
    until(lambda: lab.status("web")["frozen"])
    for _ in range(2):
        assert channel.ask(lab.directory, "thaw", name="web") == {"pid": pid}
    until(lambda: not lab.status("web")["frozen"])
    assert "error" in channel.ask(lab.directory, "freeze", name="wep")


def test_without_power_nothing_is_restarted_until_it_is_back_and_then_in_order(
    lab: Lab, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    first, second = (
        msgspec.structs.replace(
            s,
            host="h",
            argv=("/bin/sh", "-c", f'echo {s.name} >> {order}; exec "$@"', "-", *s.argv),
        )
        for s in (standin("first"), standin("second"))
    )
    lab.start(first, second, standin("elsewhere"))
    pids = [lab.ready(name)["pid"] for name in ("first", "second")]
    elsewhere = lab.ready("elsewhere")["pid"]
    for _ in range(2):
        channel.ask(lab.directory, "power", hosts=["h"], on=False)
    assert lab.status("first")["pid"] == pids[0], "the supervisor itself kills nothing"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: {lab.status(n)["state"] for n in ("first", "second")} == {"off"})
    late = msgspec.structs.replace(standin("late"), host="h")
    lab.start(late, first)
    assert lab.status("late")["state"] == "off"
    assert lab.status("first")["state"] == "off"
    order.write_text("")
    for _ in range(2):
        channel.ask(lab.directory, "power", hosts=["h"], on=True)
    assert [lab.ready(n)["restarts"] for n in ("first", "second", "late")] == [0, 0, 0]
    assert order.read_text().split() == ["first", "second"]
    assert lab.ready("elsewhere")["pid"] == elsewhere


def test_one_without_power_is_stopped_too(lab: Lab) -> None:
    channel.ask(lab.directory, "power", hosts=["h"], on=False)
    lab.start(msgspec.structs.replace(standin(), host="h"))
    until(lambda: lab.status("web")["state"] == "off")
    channel.ask(lab.directory, "stop", names=["web"])
    assert lab.status("web")["state"] == "absent"


def test_one_that_ignores_sigterm_is_killed(lab: Lab) -> None:
    lab.start(
        Spec("deaf", ("/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"), stop_s=0.2)
    )
    pid = lab.ready("deaf")["pid"]
    channel.ask(lab.directory, "stop", names=["deaf"])
    assert not Path(f"/proc/{pid}").exists()


def test_a_program_that_is_missing_is_tried_again_and_told(lab: Lab) -> None:
    lab.start(Spec("nothing", ("/does/not/exist",)))
    status = until(lambda: (s := lab.status("nothing"))["restarts"] and s)
    assert "No such file" in status["last_exit"]


def test_starting_again_ends_a_long_pause(lab: Lab, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    spec = Spec("late", ("/bin/sh", "-c", f"test -e {mark} && exec sleep 60"))
    lab.start(spec)
    until(lambda: lab.status("late").get("failures", 0) >= 3)
    mark.touch()
    lab.start(spec)
    lab.ready("late")


def test_an_unknown_request_is_answered(lab: Lab) -> None:
    assert channel.ask(lab.directory, "dance")["error"] == "not understood: 'dance'"


def test_no_supervisor(tmp_path: Path) -> None:
    with pytest.raises(channel.NoSupervisor):
        channel.ask(str(tmp_path), "status")


DEATHS = [
    # once, exit code, seconds it ran, failures before -> done, failures after
    (False, 0, 1.0, 0, False, 1),
    (False, 1, 1.0, 1, False, 2),
    (False, 1, 11.0, 5, False, 1),
    (False, None, 1.0, 0, False, 1),
    (True, 0, 1.0, 3, True, 0),
    (True, 1, 1.0, 0, False, 1),
    (True, None, 1.0, 0, False, 1),
]


@pytest.mark.parametrize(("once", "code", "ran", "before", "done", "after"), DEATHS)
def test_after_death(
    once: bool, code: int | None, ran: float, before: int, done: bool, after: int
) -> None:
    verdict = after_death(Spec("x", ("x",), once=once), code, ran, before)
    assert (verdict.done, verdict.failures) == (done, after)
    assert done or 0 < verdict.delay_s <= 5.0


@pytest.mark.parametrize(("code", "text"), [(None, "ended"), (0, "exit 0"), (-9, "signal 9")])
def test_describe_exit(code: int | None, text: str) -> None:
    assert describe_exit(code) == text


def test_logs_rotate_and_the_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("ab", buffering=0) as writer:
        for round_ in range(3):
            writer.write(f"{round_}".encode() * 20)
            rotate_logs(tmp_path, 10)
        writer.write(b"tail")
    assert path.read_bytes() == b"tail"
    assert (tmp_path / "a.log.1").read_bytes() == b"2" * 20
    assert (tmp_path / "a.log.2").read_bytes() == b"1" * 20
    assert not (tmp_path / "a.log.3").exists()


def test_probe_of_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert not asyncio.run(probe(f"unix:{path}", os.getpid()))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert asyncio.run(probe(f"unix:{path}", os.getpid()))

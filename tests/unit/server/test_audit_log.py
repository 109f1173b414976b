"""The audit log's events and files: shape, what is kept back, rotation, several writers, what finds no room."""

import asyncio
import datetime as dt
import json
import logging
import os
from pathlib import Path

import pytest

from machinery.kit.clock import FakeClock
from machinery.meta import errors
from machinery.server.audit import event, writer
from machinery.server.audit.event import Trail
from machinery.server.audit.files import audit_file, files
from machinery.server.audit.policy import Decision, Level
from machinery.server.audit.settings import AuditSettings
from machinery.server.audit.writer import AuditLog, RotatingFile
from machinery.server.request import parse_target
from machinery.server.user import UserInfo

AT = dt.datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=dt.UTC)


def trail(target: str = "/api/v1/namespaces/demo/pods", level: Level = Level.METADATA) -> Trail:
    made = Trail("id-1", parse_target("POST", target), AT, lambda _trail, _code: None)
    made.decision = Decision(level)
    made.user = UserInfo("alice", ("devs",), "u-1", {"scopes": ("a", "b")})
    made.uri, made.agent, made.sources = target, "kubectl/v1.36", ("10.0.0.1",)
    return made


def told(made: Trail, stage: str = "ResponseComplete") -> dict[str, object]:
    line = event.line(made, stage, AT, event.status_of(201))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    found: dict[str, object] = json.loads(line)
    return found


def test_the_event_has_upstreams_fields_in_their_order() -> None:
    made = trail()
    made.found({"name": "web-1", "uid": "u-9"})
    made.verdict, made.reason = "allow", "RBAC: allowed"
    made.impersonated = UserInfo("bob")
    found = told(made)
    assert list(found) == [
        "kind", "apiVersion", "level", "auditID", "stage", "requestURI", "verb", "user",
        "impersonatedUser", "sourceIPs", "userAgent", "objectRef", "responseStatus",
        "requestReceivedTimestamp", "stageTimestamp", "annotations",
    ]  # fmt: skip
    assert found["apiVersion"] == "audit.k8s.io/v1"
    assert found["user"] == {
        "username": "alice", "uid": "u-1", "groups": ["devs"], "extra": {"scopes": ["a", "b"]},
    }  # fmt: skip
    assert found["objectRef"] == {
        "resource": "pods", "namespace": "demo", "name": "web-1", "uid": "u-9", "apiVersion": "v1",
    }  # fmt: skip
    assert found["responseStatus"] == {"metadata": {}, "code": 201}
    assert found["annotations"] == {
        "authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "RBAC: allowed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("micro", "wanted"),
    [(60, "2026-01-02T03:04:05.000060Z"), (0, "2026-01-02T03:04:05.000000Z")],
)
@pytest.mark.parametrize("odd", ["/api", "/api/\udcff"])
def test_times_have_six_digits(micro: int, wanted: str, odd: str) -> None:
    made = trail()
    made.uri, made.received = odd, AT.replace(microsecond=micro)
    line = event.line(made, "ResponseComplete", AT.replace(microsecond=micro), None)
    found = json.loads(line)
    assert (found["requestReceivedTimestamp"], found["stageTimestamp"]) == (wanted, wanted)


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        (Level.METADATA, set()),
        (Level.REQUEST, {"requestObject"}),
        (Level.REQUEST_RESPONSE, {"requestObject", "responseObject"}),
    ],
)
def test_bodies_are_there_by_level(level: Level, keys: set[str]) -> None:
    made = trail(level=level)
    made.request, made.response = {"a": 1}, {"b": 2}
    assert {"requestObject", "responseObject"} & set(told(made)) == keys


def test_an_event_that_is_too_long_loses_its_bodies_and_says_so() -> None:
    made = trail(level=Level.REQUEST_RESPONSE)
    made.request = {"a": "x" * event.EVENT_BYTES_MAX}
    found = told(made)
    assert "requestObject" not in found
    assert found["annotations"] == {"audit.k8s.io/truncated": "true"}


def test_text_that_is_no_text_and_numbers_without_end_are_still_a_line() -> None:
    made = trail(level=Level.REQUEST)
    made.uri, made.request = "/api/\udcff", {"a": 1 << 80}
    assert told(made)["requestObject"] == {"a": 1 << 80}


@pytest.mark.parametrize(
    ("path", "error", "kept"),
    [
        ("pods", errors.Invalid("Invalid value: hunter2"), True),
        ("secrets", errors.Invalid("Invalid value: hunter2"), False),
        ("secrets", errors.BadRequest("cannot read hunter2"), False),
        ("secrets/s", errors.NotFound("no s"), True),
        ("serviceaccounts/default/token", errors.Invalid("Invalid value: hunter2"), False),
    ],
)
def test_a_refused_secret_is_not_quoted(path: str, error: errors.StatusError, kept: bool) -> None:
    info = parse_target("POST", f"/api/v1/namespaces/demo/{path}")
    status = event.failure(error, info)
    assert (status["status"], status["code"]) == ("Failure", error.status_code)
    assert ("message" in status) is kept


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, ("10.0.0.9",)),
        ({"X-Forwarded-For": "1.2.3.4, 5.6.7.8"}, ("1.2.3.4", "5.6.7.8", "10.0.0.9")),
        ({"X-Forwarded-For": "nonsense, 10.0.0.9"}, ("10.0.0.9",)),
        ({"X-Real-Ip": "::1"}, ("::1", "10.0.0.9")),
        ({"X-Forwarded-For": "1.2.3.4", "X-Real-Ip": "1.2.3.4"}, ("1.2.3.4", "10.0.0.9")),
    ],
)
def test_source_addresses(headers: dict[str, str], wanted: tuple[str, ...]) -> None:
    assert event.sources(headers, "10.0.0.9") == wanted


def test_long_user_agents_are_cut() -> None:
    assert event.user_agent({"User-Agent": "x" * 2000}) == "x" * 1024 + "...TRUNCATED"


def test_managed_fields_are_left_out_of_objects_lists_and_rows() -> None:
    one = {"metadata": {"name": "a", "managedFields": [1]}, "spec": {}}
    bare = {"metadata": {"name": "a"}, "spec": {}}
    assert event.without_managers(one) == bare
    assert event.without_managers({"items": [one]}) == {"items": [bare]}
    assert event.without_managers({"rows": [{"cells": [], "object": one}]}) == {
        "rows": [{"cells": [], "object": bare}]
    }
    assert one["metadata"] == {"name": "a", "managedFields": [1]}


# ------------------------------------------------------------------------------------------------------------ files
def opened(path: Path, bytes_max: int = 100, backups_max: int = 3) -> RotatingFile:
    file = RotatingFile(str(path), bytes_max, backups_max)
    file.open()
    return file


def test_the_file_is_its_owners_and_the_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "audit" / "audit.log"
    opened(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_files_are_put_aside_by_size_whole_lines_the_oldest_dropped(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    file = opened(path)
    lines = [b"%02d%s\n" % (number, b"." * 37) for number in range(12)]  # two of 40 bytes a file
    for line in lines[:5]:
        file.write([line])
    file.write(lines[5:])
    file.close()
    names = [Path(found).name for found in files(str(path))]
    assert names == ["audit.log.3", "audit.log.2", "audit.log.1", "audit.log"]
    kept = b"".join(Path(found).read_bytes() for found in files(str(path)))
    assert kept == b"".join(lines[4:])
    assert all(Path(found).stat().st_size <= 100 for found in files(str(path)))


def test_a_line_longer_than_a_file_has_one_for_itself(tmp_path: Path) -> None:
    file = opened(tmp_path / "audit.log")
    file.write([b"a\n", b"b" * 200 + b"\n", b"c\n"])
    file.close()
    assert [os.path.getsize(f) for f in files(str(tmp_path / "audit.log"))] == [2, 201, 2]


def test_two_writers_share_a_file_and_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    one, other = opened(path, backups_max=50), opened(path, backups_max=50)
    for number in range(20):
        one.write([b"one %02d %s\n" % (number, b"." * 30)])
        other.write([b"two %02d %s\n" % (number, b"." * 30)])
    one.close()
    other.close()
    lines = b"".join(Path(found).read_bytes() for found in files(str(path))).splitlines()
    assert [line[:6] for line in lines] == [
        b"%s %02d" % (who, number) for number in range(20) for who in (b"one", b"two")
    ]


def test_a_file_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    file = opened(path)
    file.write([b"a\n"])
    path.unlink()
    file.write([b"b\n"])
    file.close()
    assert path.read_bytes() == b"b\n"


# ------------------------------------------------------------------------------------------------------------ the log
class Broken(RotatingFile):
    """A disk that is full until it is not."""

    full = True

    def write(self, lines: object) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().write(lines)  # type: ignore[arg-type]


async def test_lines_are_written_in_batches_and_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    kept = AuditLog(RotatingFile(str(path), 10_000, 3), FakeClock())
    kept.start()
    for number in range(5):
        kept.add(b"%d\n" % number)
    for _ in range(500):
        if not kept.written:
            await asyncio.sleep(0.01)
    assert kept.written == 5
    kept.add(b"5\n")
    await kept.stop()
    assert path.read_bytes() == b"0\n1\n2\n3\n4\n5\n"
    assert (kept.written, kept.dropped) == (6, 0)


async def test_what_finds_no_room_is_counted_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "WAITING_BYTES_MAX", 100)
    kept = AuditLog(RotatingFile(str(tmp_path / "audit.log"), 10_000, 3), FakeClock())
    kept.start()
    for _ in range(15):
        kept.add(b"123456789\n")
    with caplog.at_level(logging.ERROR):
        await kept.stop()
    assert (kept.written, kept.dropped) == (10, 5)
    [record] = [r for r in caplog.records if r.message == "audit events were dropped"]
    assert (record.events, record.reason) == (5, "more came than could be written")  # type: ignore[attr-defined]


async def test_a_full_disk_drops_lines_and_the_log_goes_on_afterwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit.log"
    file = Broken(str(path), 10_000, 3)
    kept = AuditLog(file, FakeClock())
    kept.start()
    kept.add(b"lost\n")
    with caplog.at_level(logging.ERROR):
        await kept.flush()
    assert "No space left on device" in caplog.records[-1].reason  # type: ignore[attr-defined]
    file.full = False
    kept.add(b"kept\n")
    await kept.stop()
    assert (kept.written, kept.dropped) == (1, 1)
    assert path.read_bytes() == b"kept\n"


def test_where_it_is() -> None:
    assert audit_file("/var/lib/x") == "/var/lib/x/audit/audit.log"
    assert audit_file("/var/lib/x", "/log/a") == "/log/a"


@pytest.mark.parametrize("wrong", [{"maxSizeMegabytes": 0}, {"maxBackups": 0}])
def test_settings_have_bounds(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 to"):
        AuditSettings(**wrong)  # type: ignore[arg-type]

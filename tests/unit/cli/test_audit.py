"""`fedctl audit`: which events it shows, and what of them; files that rotate, break or are not there."""

import argparse
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from federation import cli
from federation.cli import audit, audit_events
from federation.cli.audit_events import Damage, Log, Recorded, Tail, Wanted
from federation.cli.errors import CliError
from federation.lab import state
from federation.lab.plan import LabSpec
from federation.lab.state import LabState

NOW = dt.datetime(2026, 11, 29, 14, 0, tzinfo=dt.UTC)


def event(
    verb: str = "create",
    what: str = "deployments/web",
    user: str = "alice",
    code: int = 201,
    at: str = "10:00:00",
    stage: str = "ResponseComplete",
    **more: Any,
) -> dict[str, Any]:
    resource, name, *sub = [*what.split("/"), ""][:3]
    reference = {"resource": resource, "namespace": "demo", "name": name}
    if sub and sub[0]:
        reference["subresource"] = sub[0]
    status = {"code": code} | ({"reason": "Forbidden", "message": "no"} if code == 403 else {})
    return {
        "kind": "Event", "stage": stage, "auditID": f"{at}{user}", "verb": verb, "requestURI": "/x",
        "user": {"username": user}, "objectRef": reference, "responseStatus": status,
        "requestReceivedTimestamp": f"2026-11-29T{at}.000001Z",
        "stageTimestamp": f"2026-11-29T{at}.000002Z", **more,
    }  # fmt: skip


def written(path: Path, *events: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in events))
    return path


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    audit.add(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "event_", "wanted"),
    [
        ([], event(), True),
        (["deploy/web"], event(), True),
        (["deployments.apps/web"], event(), True),
        (["Deployment/web"], event(), True),
        (["deploy/web", "-n", "demo"], event(), True),
        (["deploy/web", "-n", "other"], event(), False),
        (["deploy/other"], event(), False),
        (["sts/web"], event(), False),
        (["deploy/web"], event("patch", "deployments/web/scale"), True),
        (["deploy/web"], event("deletecollection", "deployments/"), True),
        (["deploy/web", "-n", "other"], event("deletecollection", "deployments/"), False),
        (["guestbooks/book"], event(what="guestbooks/book"), True),
        (["--resource", "pods/exec"], event(what="pods/a/exec"), True),
        (["--resource", "pods/exec"], event(what="pods/a"), False),
        (["--name", "web"], event(), True),
        (["--user", "alice"], event(), True),
        (["--user", "bob"], event(), False),
        (["--user", "system:*"], event(user="system:node:a"), True),
        (["--user", "bob"], event(impersonatedUser={"username": "bob"}), True),
        (["--verb", "create,delete"], event(), True),
        (["--verb", "patch"], event(), False),
        (["--failed"], event(), False),
        (["--failed"], event(code=403), True),
        (["--since", "2026-11-29T10:00:00Z"], event(), True),
        (["--since", "2026-11-29T10:00:01+00:00"], event(), False),
        (["--since", "2026-11-29T11:30:00+02:00"], event(), True),
        (["--until", "2026-11-29T10:00:01"], event(), True),
        (["--until", "2026-11-29"], event(), False),
    ],
)
def test_filters(words: list[str], event_: dict[str, Any], wanted: bool) -> None:
    assert audit.asked(parsed(*words)).matches(event_) is wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90m", "2026-11-29T12:30:00.000000Z"),
        ("1d2h", "2026-11-28T12:00:00.000000Z"),
        ("2026-11-29T10:00:00.5Z", "2026-11-29T10:00:00.500000Z"),
    ],
)
def test_moments(text: str, wanted: str) -> None:
    assert audit_events.moment(text, NOW) == wanted


@pytest.mark.parametrize("text", ["", "yesterday", "5x", "2026-13-01"])
def test_what_is_no_moment_is_said(text: str) -> None:
    with pytest.raises(CliError, match="is no time"):
        audit_events.moment(text, NOW)


@pytest.mark.parametrize("words", [["web"], ["/web"], ["deploy/"], ["deploy/web", "--name", "x"]])
def test_objects_that_are_none(words: list[str]) -> None:
    with pytest.raises(CliError):
        audit.asked(parsed(*words))


@pytest.mark.parametrize(
    ("event_", "wanted"),
    [
        (event(), ("alice", "create", "deployments/web -n demo", "201")),
        (event(code=403), ("alice", "create", "deployments/web -n demo", "403 Forbidden: no")),
        (
            event("patch", "deployments/web/scale", impersonatedUser={"username": "bob"}, code=200),
            ("alice as bob", "patch", "deployments/web/scale -n demo", "200"),
        ),
        (
            event(user="system:apiserver", userAgent="controllers", sourceIPs=[]),
            ("system:apiserver (controllers)", "create", "deployments/web -n demo", "201"),
        ),
        (event(user=""), ("(unknown)", "create", "deployments/web -n demo", "201")),
        (
            event("create", "pods/a/exec", code=101, stage="ResponseStarted"),
            ("alice", "create", "pods/a/exec -n demo", "101, under way"),
        ),
        (
            event(objectRef=None, verb="get", code=200, requestURI="/metrics?a=b"),
            ("alice", "get", "/metrics", "200"),
        ),
        (
            event(user="a\x1b[2Jb"),
            ("a\\u001b[2Jb", "create", "deployments/web -n demo", "201"),
        ),
    ],
)
def test_rows(event_: dict[str, Any], wanted: tuple[str, ...]) -> None:
    assert audit_events.row(event_) == ("2026-11-29T10:00:00Z", *wanted)


def test_one_row_a_request_and_a_chosen_id_hides_nothing() -> None:
    early = event(stage="RequestReceived", responseStatus={})
    started = event(stage="ResponseStarted")
    done = event()
    other = event(at="10:00:05", auditID=done["auditID"])
    open_ = event("create", "pods/a/exec", at="10:00:06", stage="ResponseStarted", code=101)
    found = [Recorded("f", one) for one in (early, started, done, other, open_)]
    assert [one.event for one in audit_events.requests(found)] == [done, other, open_]


def test_all_files_are_read_oldest_first_and_servers_are_merged(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    written(one, event(at="10:00:05"))
    written(tmp_path / "one.log.1", event(at="10:00:03"))
    written(tmp_path / "one.log.10", event(at="10:00:01"))
    written(two, event(at="10:00:04"))
    logs = [Log("one", str(one)), Log("two", str(two))]
    found = list(audit_events.read(logs, Wanted(), Damage()))
    assert [(r.server, r.event["stageTimestamp"][17:19]) for r in found] == [
        ("one", "01"), ("one", "03"), ("two", "04"), ("one", "05"),
    ]  # fmt: skip


def test_broken_lines_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "a.log", event())
    path.write_bytes(b'{"kind": "Ev\n[]\n\n' + path.read_bytes())
    assert cli.main(["audit", "--file", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[1:3] == ["alice", "create"]
    assert err == f"2 lines are no events and were left out: {path}\n"


def test_json_is_the_lines_as_they_are(tmp_path: Path, capfdbinary: Any) -> None:
    path = written(tmp_path / "a.log", event(), event(user="bob"))
    assert cli.main(["audit", "--file", str(path), "--user", "bob", "-o", "json"]) == 0
    assert capfdbinary.readouterr().out == path.read_bytes().splitlines(keepends=True)[1]


def test_a_table_shows_the_newest_and_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "a.log", *(event(at=f"10:00:0{n}") for n in range(5)))
    assert cli.main(["audit", "--file", str(path), "--limit", "2"]) == 0
    out, err = capsys.readouterr()
    assert [line[17:19] for line in out.splitlines()[1:]] == ["03", "04"]
    assert err == "3 older events are not shown; --limit 0 shows all\n"
    assert cli.main(["audit", "--file", str(path), "--limit", "0"]) == 0
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (6, "")
    assert cli.main(["audit", "--file", str(path), "--limit", "-1"]) == 1
    assert "--limit" in capsys.readouterr().err


def test_nothing_found_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "audit" / "audit.log", event())
    assert cli.main(["audit", "--data-dir", str(tmp_path), "--user", "nobody"]) == 0
    assert capsys.readouterr().out == "Nothing of that kind is recorded.\n"
    assert path.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--file", "/nowhere/a.log"], "/nowhere/a.log: no audit log of /nowhere/a.log there"),
        (["--file", "/nowhere/a.log", "-c", "alpha"], "not both"),
        (["--dir", "/nowhere/lab"], "no lab in /nowhere/lab"),
    ],
)
def test_errors_say_what_to_do(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["audit", *words]) == 1
    assert told in capsys.readouterr().err


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    spec = LabSpec(directory=str(tmp_path), clusters=("alpha", "beta"), nodes=1)
    tmp_path.joinpath(state.FILE).write_bytes(msgspec.json.encode(LabState(spec, 0)))
    for number, name in enumerate(("federation", "alpha-control", "beta-control")):
        written(tmp_path / "data" / name / "audit" / "audit.log", event(at=f"10:00:0{number}"))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "servers"),
    [
        ([], [""]),
        (["-c", "beta"], ["federation", "beta"]),
        (["-c", "all"], ["federation", "alpha", "beta"]),
    ],
)
def test_of_a_lab(
    lab: Path, words: list[str], servers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["audit", "--dir", str(lab), *words]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(servers)
    assert [r.split()[0] for r in rows] == servers or servers == [""]


def test_an_unknown_cluster_is_said(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "--dir", str(lab), "-c", "delta"]) == 1
    assert "there is no cluster 'delta'; there is alpha, beta" in capsys.readouterr().err


def test_the_built_in_policy_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from machinery.server.audit import default, policy

    assert cli.main(["audit", "--print-policy"]) == 0
    assert policy.read(capsys.readouterr().out, "printed").rules == default.policy().rules


def test_following_goes_over_a_rotation_and_waits_for_whole_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "a.log", event(at="10:00:00"))
    tail = Tail(Log("f", str(path)))
    line = json.dumps(event(at="10:00:01")).encode() + b"\n"
    steps: Iterator[Any] = iter(
        [
            lambda: append(path, line[:20]),
            lambda: append(path, line[20:]),
            lambda: (
                append(path, line.replace(b"10:00:01", b"10:00:02")),
                path.rename(tmp_path / "a.log.1"),
                path.write_bytes(line.replace(b"10:00:01", b"10:00:03")),
            ),
        ]
    )

    def sleep(_seconds: float) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    found = []
    with pytest.raises(KeyboardInterrupt):
        for one in audit_events.follow([tail], Wanted(), Damage(), sleep):
            found.append(one.event["stageTimestamp"][11:19])
    tail.close()
    assert found == ["10:00:01", "10:00:02", "10:00:03"]

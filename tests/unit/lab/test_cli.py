"""fedctl as typed: help, mistypes, refusals, and what a dump leaves out."""

import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from federation.cli import debug, lab, lab_load, main
from federation.cli.errors import CliError
from federation.cli.lab_tables import next_commands
from federation.clusters import bootstrap
from federation.lab import state
from federation.lab.plan import LabSpec, make_plan
from machinery.kit.clock import FakeClock
from machinery.kit.ids import SeededIds

TYPED = [
    ([], 2, "usage: fedctl"),
    (["--help"], 0, "usage: fedctl"),
    (["--version"], 0, "fedctl 0."),
    (["lb"], 2, "did you mean 'lab'?"),
    (["xyzzy"], 2, "there is lab, join, "),
]


@pytest.mark.parametrize(("words", "code", "said"), TYPED)
def test_typed(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


REFUSED = [
    (["lab", "--dir", "{dir}", "up", "--clusters", "Alpha"], "'Alpha' is not a cluster name"),
    (["lab", "--dir", "{dir}", "up", "--nodes", "500"], "--nodes: 0 to 240"),
    (["lab", "--dir", "{dir}", "status"], "`fedctl lab up` starts one"),
    (["lab", "--dir", "{dir}", "exec", "alpha-node-1", "true"], "no lab with hosts here"),
    (["lab", "--dir", "{dir}", "kill", "zone-a"], "no lab here"),
    (["lab", "--dir", "{dir}", "freeze", "alpha-control"], "no lab here"),
    (["lab", "--dir", "{dir}", "load", "10.0.0.1", "--from", "a", "--out", "x"], "no lab with"),
    (["lab", "report", "{dir}/none"], "No such file"),
    (["debug", "dump", "--dir", "{dir}"], "nothing to dump"),
    (["join", "alpha", "--kubeconfig", "{dir}/none"], "no kubeconfig at"),
    (["join", "alpha", "--minutes", "0"], "--minutes: 1 to 1440"),
    (["join", "Alpha"], "'Alpha' is no name for a cluster: a lowercase RFC 1123 label"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(dir=tmp_path / ".lab") for word in words]) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err


MISTYPED = [
    (["lab", "pu"], "(choose from 'up', 'down', 'status', 'exec', 'kill'"),
    (["lab", "dwn"], "did you mean 'down'?"),
    (["lab", "up", "--cluster", "x"], "--cluster x; did you mean '--clusters'?"),
    (["lab", "up", "--runtime", "contanerd"], "did you mean 'containerd'?"),
    (["lab", "up", "--nodes", "many"], "invalid int value: 'many'\n`fedctl lab up --help`"),
    (["join"], "required: cluster\n`fedctl join --help`"),
]


@pytest.mark.parametrize(("words", "said"), MISTYPED)
def test_mistyped(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is guessed: an option's beginning is not the option."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_what_belongs_to_another_user(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: object) -> int:
        raise PermissionError(13, "Permission denied", "/lab/kubectl-cache")

    monkeypatch.setattr(lab, "run", run)
    assert main(["lab", "down"]) == 1
    assert "/lab/kubectl-cache: it belongs to another user" in capsys.readouterr().err


def test_the_lab_belongs_to_its_checkout(tmp_path: Path) -> None:
    (tmp_path / "federation").mkdir()
    (tmp_path / "federation/pyproject.toml").touch()
    (tmp_path / "deep/er").mkdir(parents=True)
    assert lab.lab_directory("", str(tmp_path / "deep/er")) == str(tmp_path / ".lab")
    assert lab.lab_directory(str(tmp_path / "x"), "/") == str(tmp_path / "x")
    with pytest.raises(CliError, match="is in no checkout"):
        lab.lab_directory("", "/")


def test_a_dump_has_no_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / ".lab"
    spec = LabSpec(str(directory), database_url="postgresql://u:hidden@x/y")
    state.save(state.LabState(spec, 0))
    (directory / "config").mkdir()
    (directory / "log").mkdir()
    config = {"listen": ["a"], "federation": {"url": "u", "token": "abc.hidden"}, "databaseUrl": ""}
    (directory / "config/c.yaml").write_text(yaml.safe_dump(config))
    (directory / "log/a.log").write_text("hello")
    output = tmp_path / "dump.tar.gz"
    assert main(["debug", "dump", "--dir", str(directory), "--output", str(output)]) == 0
    with tarfile.open(output) as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]
    assert b"hidden" not in b"".join(found.values())
    assert found["ubernetes-debug/log/a.log"] == b"hello"
    kept = yaml.safe_load(found["ubernetes-debug/config/c.yaml"])
    assert kept == {
        "listen": ["a"],
        "federation": {"url": "u", "token": "(removed)"},
        "databaseUrl": "",
    }
    assert "3 files" not in capsys.readouterr().err


def test_redact_looks_into_lists() -> None:
    assert debug.redact([{"token": "x", "a": [{"token": ""}]}]) == [
        {"token": "(removed)", "a": [{"token": ""}]}
    ]


def test_next_commands_name_the_kubeconfig_and_every_context() -> None:
    text = next_commands(make_plan(LabSpec("/x/.lab"), 0), "set NO_PROXY")
    assert "kubectl --kubeconfig /x/.lab/kubeconfig --context federation get clusters" in text
    assert "federation, alpha, beta, gamma" in text
    assert "# set NO_PROXY" in text
    assert "--from zone-b,zone-c --seconds 90 --out zone.jsonl &" in text
    assert "kill zone-a; sleep 30;" in text
    for other in (LabSpec("/x", runtime="hollow"), LabSpec("/x", ("a", "b"))):
        assert "zone" not in next_commands(make_plan(other, 0), "")


def test_a_bootstrap_token_has_kubeadms_shape() -> None:
    token = bootstrap.new_token(SeededIds(1))
    document = bootstrap.secret_document(token, bootstrap.NODES_GROUP, FakeClock().now(), "why")
    assert [len(part) for part in str(token).split(".")] == [6, 16]
    assert document["metadata"]["name"] == f"bootstrap-token-{token.identity}"
    assert document["stringData"]["expiration"] == "2026-01-01T00:00:00Z"
    assert document["stringData"]["auth-extra-groups"] == "system:bootstrappers:nodes"


class Interrupted:
    """A generator that is waited for when the user has had enough."""

    def wait(self, timeout: float) -> int:
        raise KeyboardInterrupt


class Done:
    """A generator whose time is over."""

    def wait(self, timeout: float) -> int:
        return 0


@pytest.mark.parametrize(("child", "early"), [(Interrupted(), True), (Done(), False)])
def test_a_load_may_be_ended_before_its_time(child: Any, early: bool) -> None:
    assert lab_load._wait({"zone-a": child}, 60) is early

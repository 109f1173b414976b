"""`fedctl plan`, `why`, `get decisions` and `replay` against a real server: what they print, and how they end."""

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from tests.support.apiserver import RunningServer
from tests.support.placing import deployed, deployment, federation, policy

from federation.cli import main

Verb = Callable[..., int]


class Background:
    """A federation in a thread of its own: verbs bring their own loop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ready, self._done = threading.Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self.kubeconfig = ""
        self.server: RunningServer | None = None
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()))

    async def _run(self) -> None:
        async with federation() as server:
            await deployed(server)
            self.server = server
            self.kubeconfig = server.write_kubeconfig(self._directory)
            self._ready.set()
            await self._done.wait()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(30), "the federation did not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def fedctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verb]:
    """The program, with the administrator of a federation that runs web 2/2/2."""
    running = Background(tmp_path_factory.mktemp("federation"))
    running.start()
    config = yaml.safe_load(Path(running.kubeconfig).read_text())

    def verb(*given: str) -> int:
        return main(
            [*given, "--kubeconfig", running.kubeconfig, "--context", config["current-context"]]
        )

    yield verb
    running.stop()


def written(directory: Path, *documents: object) -> str:
    path = directory / "x.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


def test_a_plan_shows_each_cluster(
    fedctl: Verb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, deployment(7, "whoami:2"))
    assert fedctl("plan", "-f", file) == 0
    out = capsys.readouterr().out
    assert (
        "Deployment demo/web: is changed, placed by ClusterPropagationPolicy/default-spread" in out
    )
    assert "  Scheduled: " in out and "spec.replicas: 2 -> 3" in out
    assert out.count("spec.template.spec.containers[web].image: whoami:1 -> whoami:2") == 3
    assert out.rstrip().endswith("Nothing was written.")


def test_a_plan_of_a_policy_from_standard_input(
    fedctl: Verb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_dump(policy("alpha", "beta")).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert fedctl("plan", "-f", "-", "-o", "json", "--exit-code") == 3
    status = json.loads(capsys.readouterr().out)
    assert [o["object"]["kind"] for o in status["objects"]] == ["PropagationPolicy", "Deployment"]
    assert [c["after"] for c in status["objects"][1]["clusters"]] == [3, 3, 0]


def test_what_would_find_no_place_ends_with_1(
    fedctl: Verb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, deployment(600, name="big"))
    assert fedctl("plan", "-f", file) == 1
    assert "Unschedulable: failed to assign replicas" in capsys.readouterr().out


def test_what_is_there_already_changes_nothing(
    fedctl: Verb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = {"apiVersion": "v1", "kind": "List", "items": [deployment()]}
    assert fedctl("plan", "-f", written(tmp_path, listing), "--exit-code") == 0
    assert capsys.readouterr().out.endswith("Nothing would change.\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "x.yaml is no YAML"),
        ("- a", "a manifest is an object with apiVersion, kind and metadata"),
        ("", "there is no manifest in it"),
        ("kind: Deploy\napiVersion: v9\nmetadata: {name: a}", "the federation stores no v9 Deploy"),
    ],
)
def test_what_cannot_be_planned_is_said(
    text: str, told: str, fedctl: Verb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert fedctl("plan", "-f", str(tmp_path / "x.yaml")) == 1
    captured = capsys.readouterr()
    assert told in captured.err and captured.out == ""


def test_a_file_that_is_not_there(fedctl: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert fedctl("plan", "-f", "no/such.yaml") == 1
    assert "no/such.yaml: No such file or directory" in capsys.readouterr().err


def test_why_tells_filters_room_and_ties(fedctl: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert fedctl("why", "deploy/web", "-n", "demo") == 0
    out = capsys.readouterr().out
    assert out.startswith("Deployment demo/web: Scheduled: alpha:2, beta:2, gamma:2")
    assert "which stands" in out and "all 3 clusters may run the workload" in out
    assert "beta (zb): 2 replicas\n  it has room for" in out
    assert fedctl("why", "deploy/web", "-n", "demo", "-c", "beta") == 0
    assert "alpha (za)" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("deploy/wbe", "-n", "demo"), 'deployments.apps "wbe" not found'),
        (("web",), "say KIND/NAME, as in deploy/web"),
        (("deplyo/web",), "did you mean deploy/web?"),
        (("deploy/web", "-n", "demo", "-c", "delta"), "no cluster 'delta', it knows alpha, beta"),
    ],
)
def test_why_of_what_is_not_there(
    given: tuple[str, ...], told: str, fedctl: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fedctl("why", *given) == 1
    assert told in capsys.readouterr().err


def test_decisions_are_listed_and_replayed(
    fedctl: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fedctl("get", "decisions", "deploy/web", "-n", "demo") == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "WORKLOAD", "BY", "RESULT", "AGE", "REASON"]
    name, what, by, result, _, *reason = row.split()
    assert (what, by, result) == ("deployment/web", "placer", "Scheduled")
    assert reason == ["alpha:2,", "beta:2,", "gamma:2"]
    for given in ((name, "-n", "demo"), (name.rsplit("-", 1)[1],)):
        assert fedctl("replay", *given) == 0
        assert capsys.readouterr().out.endswith("decided again: the same\n")
    assert fedctl("get", "dec", "-A", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)[0]["metadata"]["name"] == name
    assert fedctl("get", "decisions", "-n", "default") == 0
    assert "holds no decisions in namespace default" in capsys.readouterr().out
    assert fedctl("replay", "nothing", "-n", "demo") == 1
    assert 'decisions.ubernetes.io "nothing" not found' in capsys.readouterr().err


def test_get_is_for_decisions_only(fedctl: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        fedctl("get", "decisoins")
    assert ended.value.code == 2
    assert "did you mean 'decisions'?" in capsys.readouterr().err

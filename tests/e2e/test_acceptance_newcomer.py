"""Acceptance 10: what a newcomer mistypes, forgets or runs twice is answered with what is wrong and what to do."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.fleet import KUBECTL, WHOAMI, Fleet, run, until

from federation.lab import state
from federation.lab.plan import API_PORT, LabSpec, choose_slot, make_plan

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.timeout(300)]

Kubectl = Callable[..., str]

NOBODY = 65534


# ---------------------------------------------------------------------------------------------------- fedctl
FEDCTL = [
    ("lba up", 2, "unknown verb 'lba'; did you mean 'lab'?"),
    ("lab", 2, "`fedctl lab --help` tells what there is"),
    ("lab dwn", 2, "did you mean 'down'?"),
    ("lab up --cluster x", 2, "did you mean '--clusters'?"),
    ("lab up --nodes two", 2, "argument --nodes: invalid int value: 'two'"),
    ("lab up --runtime contanerd", 2, "did you mean 'containerd'?"),
    ("lab --dir {new} up --clusters alpha,Beta", 1, "'Beta' is not a cluster name: at most 30 of"),
    ("lab --dir {new} up --clusters a,a", 1, "a name is given twice"),
    ("lab --dir {new} up --servers 2", 1, "give --database-url postgresql://"),
    ("lab --dir {new} status", 1, "no lab here: `fedctl lab up` starts one"),
    ("lab --dir {new} down", 0, "nothing to do"),
    ("lab --dir {lab} up --nodes 3", 1, "run `fedctl lab down` first, or repeat its options"),
    ("lab --dir {lab} exec alfa-node-1 true", 1, "did you mean 'alpha-node-1'?"),
    ("join", 2, "required: cluster"),
    ("join Delta --kubeconfig {config}", 1, "'Delta' is no name for a cluster"),
    ("join delta --kubeconfig {new}/none", 1, "no kubeconfig at"),
    ("join delta --kubeconfig {config} --context fed", 1, "it has: alpha, beta, federation, gamma"),
]


def test_fedctl_says_what_is_wrong(fleet: Fleet, tmp_path: Path) -> None:
    before = fleet.pids()
    places = {"new": tmp_path / "new", "lab": fleet.directory, "config": fleet.kubeconfig}
    for words, code, said in FEDCTL:
        argv = (sys.executable, "-m", "federation.cli", *words.format(**places).split())
        told = run(argv, code=code)
        assert said in told, f"{words}: {told}"
        assert "Traceback" not in told, f"{words}: {told}"
        assert "[" not in told.partition("\n")[0][:1], f"{words} began to work: {told}"
    assert fleet.pids() == before


def test_a_second_command_at_the_same_time_waits_its_turn(fleet: Fleet) -> None:
    with state.lock(fleet.directory):
        told = fleet.up(code=1)
    assert f"another fedctl lab command (process {os.getpid()}) is at work on this lab" in told
    assert "the fleet is up" in fleet.up()


# ---------------------------------------------------------------------------------------------------- kubectl
YAML = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: docker.io/lab/whoami:1}]
"""

APPLIED = [
    ("replicas: 2", "replicas: [2", "error converting YAML to JSON"),
    ("  replicas: 2", "\treplicas: 2", "found character that cannot start any token"),
    ("replicas: 2", "replcas: 2", 'unknown field "spec.replcas"'),
    ("image:", "imagee:", 'unknown field "spec.template.spec.containers[0].imagee"'),
    ("replicas: 2", "replicas: two", "cannot unmarshal string into Go struct field"),
    ("replicas: 2", "replicas: -2", "spec.replicas: Invalid value: -2: must be greater than"),
    (
        "{app: web}}\n    spec",
        "{app: wob}}\n    spec",
        "`selector` does not match template `labels`",
    ),
    ("name: web}", "name: Web_1}", "a lowercase RFC 1123 subdomain must consist of"),
    ("kind: Deployment", "kind: Deploymnt", 'no matches for kind "Deploymnt" in version "apps/v1"'),
    ("apps/v1", "apps/v2", 'no matches for kind "Deployment" in version "apps/v2"'),
    ("kind: Deployment\n", "", "kind not set"),
    ("name: c, ", "", "spec.template.spec.containers[0].name: Required value"),
]

TYPED = [
    ("get podz", 'the server doesn\'t have a resource type "podz"'),
    ("get deployment nope", 'deployments.apps "nope" not found'),
    ("get clusters alfa", 'clusters.cluster.karmada.io "alfa" not found'),
    ("logs nope", 'pods "nope" not found'),
    ("--context fedration get pods", "fedration"),
    (f"create deployment x --image={WHOAMI} -n nope", 'namespaces "nope" not found'),
    (f"run x --image={WHOAMI}", "the federation runs no pods itself: create a Deployment"),
    ("create namespace default", 'namespaces "default" already exists'),
    ("delete namespace kube-system", "this namespace may not be deleted"),
]


def test_kubectl_says_what_is_wrong(kubectl: Kubectl, namespace: str) -> None:
    for right, wrong, said in APPLIED:
        assert right in YAML
        told = kubectl(
            "federation", "apply", "-n", namespace, "-f", "-",
            stdin=YAML.replace(right, wrong, 1), code=1,
        )  # fmt: skip
        assert said in told, f"{wrong}: {told}"
    for words, said in TYPED:
        told = kubectl("federation", *words.split(), code=1)
        assert said in told, f"{words}: {told}"
    assert "No resources found" in kubectl("federation", "get", "deployments", "-n", namespace)


def test_an_image_that_does_not_exist_is_named(kubectl: Kubectl, namespace: str) -> None:
    """The federation tells it as a member would: in the pod's state and its events."""
    kubectl("federation", "create", "deployment", "web", "--image=lab/whoam:1", "-n", namespace)

    def told() -> bool:
        pods = kubectl("federation", "get", "pods", "-n", namespace)
        events = kubectl("federation", "events", "-n", namespace)
        return "ImagePullBackOff" in pods and 'Failed to pull image "lab/whoam:1"' in events

    until(told, "the image that cannot be pulled")


# ---------------------------------------------------------------------------------------------------- without root
class Unprivileged(Fleet):
    """A lab of user nobody. It may read everything (this Python can lie in root's home); it is still not root."""

    def lab(self, *words: str, code: int = 0) -> str:
        reader = ("--ambient-caps=+dac_read_search", "--inh-caps=+dac_read_search")
        user = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        home = ("env", f"HOME={Path(self.directory).parent}")
        argv = (sys.executable, "-m", "federation.cli", "lab", "--dir", self.directory, *words)
        return run(("setpriv", *user, *reader, *home, *argv), code=code, timeout=240)


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[Unprivileged]:
    if os.geteuid() != 0:
        pytest.skip("root becomes nobody here")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    for parent in home.parents:
        if parent == tmp_path or parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o755)
    lab = Unprivileged(home / ".lab", "--clusters", "alpha")
    try:
        yield lab
    finally:
        lab.leave()
        lab.lab("down")


def test_without_root(unprivileged: Unprivileged) -> None:
    """Hollow nodes, said plainly by everything; kubectl works as with real ones."""
    lab = unprivileged
    assert "real containers need root: run it as root" in lab.up("--runtime", "containerd", code=1)
    spec = LabSpec(directory=lab.directory, clusters=("alpha",), runtime="hollow", rooted=False)
    plan = make_plan(spec, choose_slot(lab.directory, []))
    with socket.create_server((plan.federation[0].address, API_PORT)):
        told = lab.up(code=1)
    assert f"port taken: another program listens on {plan.federation[0].address}:{API_PORT}" in told
    assert "`ss -ltnp`" in told

    said = lab.up()
    assert "not root: no real containers; nodes are hollow (they pretend)" in said
    assert "the fleet is up" in said
    before = lab.pids()
    assert "the fleet is up" in lab.up()
    assert lab.pids() == before
    as_root = (sys.executable, "-m", "federation.cli", "lab", "--dir", lab.directory, "up")
    assert "started without root: use that user" in run((*as_root, "--clusters", "alpha"), code=1)
    node = lab.api("alpha").list("/api/v1/nodes")[0]
    assert node["metadata"]["name"] == "node-1"
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("hollow://")
    if KUBECTL is not None:
        kubectl_on_hollow_nodes(lab)


def kubectl_on_hollow_nodes(lab: Unprivileged) -> None:
    lab.kubectl("federation", "create", "deployment", "web", f"--image={WHOAMI}", "--replicas=2")
    lab.kubectl("federation", "rollout", "status", "deployment/web", "--timeout=90s")
    pod = lab.kubectl("federation", "get", "pods", "-o", "name").split()[0]
    assert "no process runs here" in lab.kubectl("federation", "logs", pod)
    told = lab.kubectl("federation", "exec", pod, "--", "hostname")
    assert "nothing runs here" in told

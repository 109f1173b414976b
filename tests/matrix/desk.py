"""Where the commands of kubectl are tried: one kubectl at one server, a namespace, and a workload that runs.

Checks register themselves under the words that kubectl's own help lists (`@command("rollout undo")`); one that has none is red.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.matrix.clients import Kubectl
from tests.matrix.kinds import Document
from tests.matrix.record import Absent, Cell, Recorder, require
from tests.matrix.truth import Truth, contains, lacking, until
from tests.support.fleet import is_ready

WHOAMI, WHOAMI_2 = "docker.io/lab/whoami:1", "docker.io/lab/whoami:2"
BUSYBOX = "docker.io/lab/busybox:1"
SERVES = (
    "mkdir /w; echo hello >/w/index.html; httpd -p 8080 -h /w; echo it serves; trap 'exit 0' TERM;"
    " while read line; do echo got $line; done; while :; do sleep 0.2; done"
)
NOWHERE = {"matrix": "nowhere"}
APPS = "/apis/apps/v1/namespaces/{ns}/deployments/"
Check = Callable[["Desk"], None]


@dataclass
class Desk:
    """slug: letters that tell this kubectl's objects apart. real: whether nodes run real containers."""

    kubectl: Kubectl
    truth: Truth
    server: str
    slug: str
    scratch: Path
    real: bool
    recorder: Recorder
    level: str = "M"
    made: dict[str, int] = field(default_factory=dict)

    @property
    def ns(self) -> str:
        return self.truth.space

    @property
    def member(self) -> bool:
        return self.server == "member"

    @property
    def home(self) -> Truth:
        """Where pods and nodes are made: the member."""
        return self.truth if self.member else Truth(self.truth.kubeconfig, "alpha")

    def here(self, name: str) -> str:
        """What a member's object is called at this server."""
        return name if self.member else f"{name}.alpha"

    def run(self, *words: str, **given: Any) -> str:
        """In the namespace; see Kubectl.run."""
        return self.kubectl.run(*words[:1], "-n", self.ns, *words[1:], **given)

    def name(self, what: str) -> str:
        """A name of this desk's own."""
        return f"{self.slug}-{what}"

    def core(self, plural: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.ns}/{plural}" + (f"/{name}" if name else "")

    def group(self, group: str, plural: str, name: str = "") -> str:
        return f"/apis/{group}/namespaces/{self.ns}/{plural}" + (f"/{name}" if name else "")

    def get(self, path: str) -> Document:
        return self.truth.get(path)

    def sees(self, path: str, wanted: Document) -> Document:
        """Wrong unless the object there contains that, within a while."""
        held: list[Document] = [{}]

        def found() -> bool:
            held[0] = self.truth.get(path)
            return contains(held[0], wanted)

        until(found, lambda: f"{path}: {lacking(held[0], wanted)}")
        return held[0]

    def fresh(self, path: str) -> None:
        """Nothing of an earlier try is left."""
        self.truth.remove(path)
        self.truth.gone(path)

    def put(self, document: Document, truth: Truth | None = None) -> Document:
        """Make it by the second pair of eyes, anew; in this namespace where the kind has one."""
        path = where(document, self.ns)
        truth = truth or self.truth
        truth.remove(f"{path}/{document['metadata']['name']}")
        truth.gone(f"{path}/{document['metadata']['name']}")
        return truth.api.create(path, document)

    def file(self, name: str, *documents: Document) -> str:
        """A file with these, for `-f`."""
        path = self.scratch / name
        several: Document = {"apiVersion": "v1", "kind": "List", "items": documents}
        path.write_text(json.dumps(documents[0] if len(documents) == 1 else several))
        return str(path)

    def config_map(self, what: str, **data: str) -> Document:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name(what), "namespace": self.ns},
            "data": data,
        }

    def deployment(self, what: str, replicas: int = 0, **spec: Any) -> Document:
        labels = {"app": self.name(what)}
        pod = {
            "nodeSelector": NOWHERE,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": WHOAMI, "env": [{"name": "LINGER", "value": "0"}]}],
        }  # fmt: skip
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name(what), "namespace": self.ns, "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod | spec},
            },
        }

    # ------------------------------------------------------------------------------------------------ what runs
    def running(self, what: str, replicas: int = 1, **container: Any) -> str:
        """A Deployment whose pods run; the name of one of them here."""
        document = self.deployment(what, replicas, nodeSelector={})
        document["spec"]["template"]["spec"]["containers"][0] |= container
        path = APPS.format(ns=self.ns) + self.name(what)
        if self.truth.find(path) is None:
            self.truth.api.create(path.rpartition("/")[0], document)
        return until(lambda: self.ready(what, replicas), f"the pods of {what} do not run", 60)

    def pods(self, what: str) -> list[Document]:
        query = f"?labelSelector=app%3D{self.name(what)}"
        items: list[Document] = self.get(self.core("pods") + query)["items"]
        return items

    def ready(self, what: str, replicas: int = 1) -> str:
        found = [p for p in self.pods(what) if is_ready(p)]
        return found[0]["metadata"]["name"] if len(found) >= replicas else ""

    def server_pod(self) -> str:
        """A pod with a web server on 8080 that repeats what it reads."""
        self.needs_containers()
        return self.running(
            "web", image=BUSYBOX, command=["sh", "-c", SERVES], stdin=True, ports=[{"containerPort": 8080}]
        )  # fmt: skip

    def needs_containers(self) -> None:
        if not self.real:
            raise Absent("hollow nodes run no containers; run it as root")

    def node(self) -> str:
        """A node as this server names it."""
        found: list[str] = [
            n["metadata"]["name"] for n in self.get("/api/v1/nodes")["items"] if is_ready(n)
        ]
        return found[0]


def where(document: Document, namespace: str) -> str:
    """The collection of a document, for the kinds that checks make."""
    group, _, version = document["apiVersion"].rpartition("/")
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    kind = document["kind"].lower()
    plural = {"networkpolicy": "networkpolicies", "ingress": "ingresses", "priorityclass": "priorityclasses"}.get(kind, kind + "s")  # fmt: skip
    wide = document["kind"] in (
        "Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "PriorityClass", "CertificateSigningRequest",
        "CustomResourceDefinition", "StorageClass", "ClusterKopfPeering",
    )  # fmt: skip
    return f"{root}/{plural}" if wide else f"{root}/namespaces/{namespace}/{plural}"


# ------------------------------------------------------------------------------------------------------- the registry
COMMANDS: dict[str, list[tuple[str, str, Check]]] = {}
"""Command -> (what of it, level, check)."""


def command(words: str, what: str = "", level: str = "M") -> Callable[[Check], Check]:
    """`words` as kubectl's help lists them; `what` tells several checks of one command apart."""

    def note(check: Check) -> Check:
        COMMANDS.setdefault(words, []).append((what, level, check))
        return check

    return note


def listed(kubectl: Kubectl) -> list[str]:
    """Every command of its help, those below others too; a group of commands is not listed itself unless it does something."""
    found = []
    for word in _below(kubectl):
        deeper = [f"{word} {sub}" for sub in _below(kubectl, word)]
        found += [word] if not deeper or word in ("apply", "cluster-info") else []
        for sub in deeper:
            third = _below(kubectl, *sub.split())
            found += [f"{sub} {leaf}" for leaf in third] or [sub]
    return found


def _below(kubectl: Kubectl, *words: str) -> list[str]:
    done = subprocess.run(
        [kubectl.binary, *words, "--help"], capture_output=True, text=True, check=False, env=kubectl.env
    )  # fmt: skip
    found = []
    for block in re.split(r"\n(?=\S)", done.stdout):
        title = block.partition("\n")[0]
        if re.fullmatch(r"(.*Commands.*|Available Commands):", title) and "plugins" not in title:
            found += re.findall(r"^  ([a-z][a-z-]*)  ", block, re.MULTILINE)
    return found


def try_commands(desk: Desk) -> None:
    """One cell for each command of this kubectl's help, and one more for each further check of it."""
    for words in [*listed(desk.kubectl), "help", "options"]:
        checks = COMMANDS.get(words, [("", "M", _unchecked)])
        for what, level, check in checks:
            cell = Cell(
                "commands", desk.server, words, what or "works", desk.kubectl.label, level, ""
            )
            desk.recorder.check(cell, lambda check=check: check(desk))


def _unchecked(desk: Desk) -> None:
    require(False, "no check of it is written")


@contextmanager
def process(
    desk: Desk, *words: str, stdin: int | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that goes on, ended afterwards."""
    argv = desk.kubectl.argv(*words[:1], "-n", desk.ns, *words[1:])
    with subprocess.Popen(
        argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=desk.kubectl.env
    ) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait(10)

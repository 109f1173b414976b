"""Helm: a chart is installed, upgraded, rolled back and uninstalled; hooks, dry runs, CRDs, ownership. Each by its effect.

The real program is used (`tools.helms`): Helm 4 applies by server-side apply, Helm 3 by three-way patches of its own.
"""

import base64
import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml
from tests.matrix.clients import Failed
from tests.matrix.desk import WHOAMI, Desk
from tests.matrix.kinds import Document
from tests.matrix.record import Cell, require
from tests.matrix.tools import Program
from tests.matrix.truth import until

CHART = """
apiVersion: v2
name: matrix
version: {version}
appVersion: "1"
"""
GADGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: PLURAL.charts.example.com}
spec:
  group: charts.example.com
  scope: Namespaced
  names: {plural: PLURAL, singular: SINGULAR, kind: KIND}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
TEMPLATES = {
    "config.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-config, labels: {app.kubernetes.io/managed-by: Helm}}
data:
  colour: {{ .Values.colour }}
  {{- if .Values.extra }}
  extra: "yes"
  {{- end }}
""",
    "secret.yaml": """
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-secret}
stringData: {word: {{ .Values.colour }}}
""",
    "deployment.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}-web}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: "{{ .Values.image }}", env: [{name: LINGER, value: "0"}]}]
""",
    "service.yaml": """
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}-web}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{port: 80}]}
""",
    "account.yaml": """
apiVersion: v1
kind: ServiceAccount
metadata: {name: {{ .Release.Name }}-robot}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: {{ .Release.Name }}-reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: {{ .Release.Name }}-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .Release.Name }}-reader}
subjects: [{kind: ServiceAccount, name: {{ .Release.Name }}-robot}]
""",
    "budget.yaml": """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: {{ .Release.Name }}-web}
spec: {minAvailable: 0, selector: {matchLabels: {app: {{ .Release.Name }}}}}
""",
    "cron.yaml": """
apiVersion: batch/v1
kind: CronJob
metadata: {name: {{ .Release.Name }}-cron}
spec:
  schedule: "0 4 1 1 *"
  suspend: true
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: "{{ .Values.image }}"}]}}}}
""",
    "gadget.yaml": """
{{- if and .Values.gadget (.Capabilities.APIVersions.Has "apps/v1") }}
apiVersion: charts.example.com/v1
kind: {{ .Values.kind }}
metadata: {name: {{ .Release.Name }}-gadget}
spec: {colour: {{ .Values.colour }}, seen: "{{ (lookup "v1" "Namespace" "" .Release.Namespace).metadata.name }}"}
{{- end }}
""",
    "hook.yaml": """
{{- if .Values.hook }}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-hook
  annotations: {helm.sh/hook: "pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: "{{ .Values.hookImage }}", command: ["sh", "-c", "exit {{ .Values.hookEnd }}"]}]}}
{{- end }}
""",
}
ITEMS = {
    "v1 configmaps": "config", "v1 secrets": "secret", "apps/v1 deployments": "web", "v1 services": "web",
    "v1 serviceaccounts": "robot", "rbac.authorization.k8s.io/v1 roles": "reader",
    "rbac.authorization.k8s.io/v1 rolebindings": "reader", "policy/v1 poddisruptionbudgets": "web", "batch/v1 cronjobs": "cron",
}  # fmt: skip


class Charts:
    """One helm at one server."""

    def __init__(self, helm: Program, desk: Desk) -> None:
        self.helm, self.desk = helm, desk
        self.release = f"{desk.slug}-h{helm.label[-1]}"
        self.letter = f"{desk.slug}h{helm.label[-1]}".replace("-", "")
        self.plural = f"{self.letter}s"
        self.folder = desk.scratch / "chart"

    def write(self, version: str = "1.0.0") -> Path:
        """The chart in a folder."""
        (self.folder / "templates").mkdir(parents=True, exist_ok=True)
        (self.folder / "crds").mkdir(exist_ok=True)
        (self.folder / "Chart.yaml").write_text(CHART.format(version=version))
        values = {
            "colour": "red", "extra": True, "replicas": 1, "image": WHOAMI, "kind": self.letter.capitalize(), "hookEnd": 0,
            "gadget": True, "hook": self.desk.real,
            "hookImage": "docker.io/lab/busybox:1",
        }  # fmt: skip
        (self.folder / "values.yaml").write_text(yaml.safe_dump(values))
        definition = GADGETS.replace("PLURAL", self.plural).replace("SINGULAR", self.letter)
        definition = definition.replace("KIND", self.letter.capitalize())
        (self.folder / "crds/gadgets.yaml").write_text(definition)
        for name, text in TEMPLATES.items():
            (self.folder / "templates" / name).write_text(text)
        return self.folder

    def run(self, *words: str, code: int = 0) -> str:
        home = self.desk.scratch / "helm"
        env = self.desk.kubectl.env | {
            "HELM_CACHE_HOME": str(home), "HELM_CONFIG_HOME": str(home), "HELM_DATA_HOME": str(home),
        }  # fmt: skip
        where = [
            "--kubeconfig",
            self.desk.truth.kubeconfig,
            "--kube-context",
            self.desk.truth.context,
        ]
        done = subprocess.run(
            [self.helm.path, *words, *where, "-n", self.desk.ns], capture_output=True, text=True, check=False,
            env=env, timeout=180,
        )  # fmt: skip
        if done.returncode != code:
            raise Failed(f"{' '.join(words)}: {done.returncode} {done.stderr} {done.stdout}")
        return done.stdout + done.stderr

    def path(self, title: str, name: str) -> str:
        version, plural = title.split()
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        return f"{root}/namespaces/{self.desk.ns}/{plural}/{self.release}-{name}"

    @property
    def gadget(self) -> str:
        return self.path(f"charts.example.com/v1 {self.plural}", "gadget")

    # ------------------------------------------------------------------------------------------------ checks
    def checks(self) -> dict[str, Callable[[], None]]:
        """In this order: a release's life."""
        return {
            "install --dry-run=server": self.rehearse,
            "install --wait, CRDs first, lookup": self.install,
            "release Secret, found by its labels": self.stored,
            "status, get values|manifest, history": self.told,
            "ownership of what is there already": self.owned,
            "upgrade: only what changed": self.upgrade,
            "upgrade: a hook that fails stops it": self.hook_fails,
            "rollback": self.rollback,
            "drift survives where the chart says nothing": self.drift,
            "test of a chart's own pods by --wait-for-jobs": self.wait_jobs,
            "uninstall": self.uninstall,
        }

    def rehearse(self) -> None:
        self.clean()
        shown = self.run("install", self.release, str(self.write()), "--dry-run=server", "--set", "gadget=false")  # fmt: skip
        require(f"{self.release}-config" in shown, shown)
        for title, name in ITEMS.items():
            require(self.desk.truth.find(self.path(title, name)) is None, f"it made {title}")

    def install(self) -> None:
        self.clean()
        self.run("install", self.release, str(self.write()), "--wait", "--timeout=90s")
        for title, name in ITEMS.items():
            found = self.desk.get(self.path(title, name))["metadata"]
            require(found["labels"]["app.kubernetes.io/managed-by"] == "Helm", str(found))
            require(found["annotations"]["meta.helm.sh/release-name"] == self.release, str(found))
        spec = self.desk.get(self.gadget)["spec"]
        require(spec == {"colour": "red", "seen": self.desk.ns}, str(spec))
        deployment = self.desk.get(self.path("apps/v1 deployments", "web"))
        require(deployment["status"].get("readyReplicas") == 1, "it did not wait")
        secret = self.desk.get(self.path("v1 secrets", "secret"))
        require(secret["data"] == {"word": base64.b64encode(b"red").decode()}, str(secret["data"]))

    def _releases(self) -> list[Document]:
        query = f"?labelSelector=owner%3Dhelm%2Cname%3D{self.release}"
        found: list[Document] = self.desk.get(self.desk.core("secrets") + query)["items"]
        return found

    def stored(self) -> None:
        found = self._releases()
        require([s["type"] for s in found] == ["helm.sh/release.v1"], str(found)[:300])
        held = base64.b64decode(base64.b64decode(found[0]["data"]["release"]))
        release = json.loads(gzip.decompress(held))
        require(release["name"] == self.release and release["version"] == 1, "another release")
        require(found[0]["metadata"]["labels"]["status"] == "deployed", str(found[0]["metadata"]))

    def told(self) -> None:
        told = json.loads(self.run("status", self.release, "-o", "json"))
        require(told["info"]["status"] == "deployed", str(told["info"]))
        require("kind: Deployment" in self.run("get", "manifest", self.release), "no manifest")
        require("red" in self.run("get", "values", "--all", self.release), "no values")
        listed = json.loads(self.run("list", "-o", "json"))
        require(self.release in [r["name"] for r in listed], str(listed))
        require(len(json.loads(self.run("history", self.release, "-o", "json"))) == 1, "history")

    def owned(self) -> None:
        other = f"{self.release}-other"
        path = self.desk.core("configmaps", f"{other}-config")
        self.desk.fresh(path)
        self.desk.truth.api.create(path.rpartition("/")[0], {"metadata": {"name": f"{other}-config"}, "data": {"colour": "mine"}})  # fmt: skip
        said = self.run("install", other, str(self.write()), code=1)
        require("invalid ownership metadata" in said, said)
        require(self.desk.get(path)["data"] == {"colour": "mine"}, "it took it over")
        self.desk.truth.remove(path)
        for secret in self.desk.get(self.desk.core("secrets") + f"?labelSelector=name%3D{other}")[
            "items"
        ]:
            self.desk.truth.remove(self.desk.core("secrets", secret["metadata"]["name"]))

    def upgrade(self) -> None:
        kept = [
            self.desk.get(self.path(t, n))
            for t, n in ITEMS.items()
            if n in ("robot", "reader", "cron")
        ]
        config = self.path("v1 configmaps", "config")
        self.desk.truth.api.request("PATCH", config, {"data": {"theirs": "x"}}, "merge-patch+json")
        options = ("--set", "colour=blue,extra=false", "--wait", "--timeout=90s")
        self.run("upgrade", self.release, str(self.write("2.0.0")), *options)
        require(
            self.desk.get(config)["data"] == {"colour": "blue", "theirs": "x"},
            lambda: str(self.desk.get(config)),
        )
        require(self.desk.get(self.gadget)["spec"]["colour"] == "blue", "the custom object")
        for before, (title, name) in zip(
            kept, [i for i in ITEMS.items() if i[1] in ("robot", "reader", "cron")], strict=True
        ):
            after = self.desk.get(self.path(title, name))
            for part in ("spec", "rules", "roleRef", "subjects"):
                require(after.get(part) == before.get(part), f"{title} was changed")
        if not self.desk.real:
            return  # hollow nodes end no Job
        job = self.desk.get(self.path("batch/v1 jobs", "hook"))
        require(job["status"].get("succeeded") == 1, f"the hook has not run: {job['status']}")

    def hook_fails(self) -> None:
        self.desk.needs_containers()
        said = self.run("upgrade", self.release, str(self.write("2.1.0")), "--set", "colour=never,hookEnd=1", "--timeout=60s", code=1)  # fmt: skip
        require("hook" in said, said)
        require(
            self.desk.get(self.path("v1 configmaps", "config"))["data"]["colour"] == "blue",
            "it went on",
        )

    def rollback(self) -> None:
        self.run("rollback", self.release, "1", "--wait", "--timeout=90s")
        found = self.desk.get(self.path("v1 configmaps", "config"))["data"]
        require({"colour": "red", "extra": "yes"}.items() <= found.items(), str(found))
        history = json.loads(self.run("history", self.release, "-o", "json"))
        require("Rollback to 1" in history[-1]["description"], str(history[-1]))

    def drift(self) -> None:
        path = self.path("apps/v1 deployments", "web")
        self.desk.truth.api.request("PATCH", path, {"metadata": {"annotations": {"theirs": "x"}}}, "merge-patch+json")  # fmt: skip
        self.run(
            "upgrade",
            self.release,
            str(self.write("3.0.0")),
            "--set",
            "replicas=0",
            "--timeout=60s",
        )
        found = self.desk.get(path)
        require(found["metadata"]["annotations"].get("theirs") == "x", str(found["metadata"]))
        require(found["spec"]["replicas"] == 0, str(found["spec"]))

    def wait_jobs(self) -> None:
        self.run("upgrade", self.release, str(self.write("3.1.0")), "--wait", "--wait-for-jobs", "--timeout=90s")  # fmt: skip
        deployment = self.desk.get(self.path("apps/v1 deployments", "web"))
        wanted, ready = deployment["spec"]["replicas"], deployment["status"].get("readyReplicas", 0)
        require(ready == wanted, f"{ready} of {wanted} are ready")

    def uninstall(self) -> None:
        self.run("uninstall", self.release, "--wait", "--timeout=90s")
        for title, name in ITEMS.items():
            self.desk.truth.gone(self.path(title, name))
        require(not self._releases(), "the release is still stored")
        until(lambda: self.desk.truth.find(self.gadget) is None, "the custom object stays")
        self.clean()

    def clean(self) -> None:
        """Nothing of an earlier try."""
        for secret in self._releases():
            self.desk.truth.remove(self.desk.core("secrets", secret["metadata"]["name"]))
        for title, name in {**ITEMS, "batch/v1 jobs": "hook"}.items():
            self.desk.fresh(self.path(title, name))
        definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{self.plural}.charts.example.com"  # fmt: skip
        self.desk.fresh(definition)


def try_charts(helm: Program, desk: Desk) -> None:
    """One cell for each step of a release's life."""
    charts = Charts(helm, desk)
    for what, body in charts.checks().items():
        desk.recorder.check(Cell("helm", desk.server, what, "works", helm.label, "M", ""), body)

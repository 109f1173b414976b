"""kubectl's commands that read: get, describe, explain, events, top, discovery, rights; and its own settings."""

import contextlib
import json
import re
import urllib.request
from collections.abc import Iterator

from tests.matrix.clients import Failed
from tests.matrix.desk import APPS, WHOAMI, Desk, command, process
from tests.matrix.kinds import Document, certificate_request
from tests.matrix.record import Absent, require
from tests.matrix.truth import until


# --------------------------------------------------------------------------------------------------------------- get
@command("get")
def get(desk: Desk) -> None:
    for what, size in (("get1", "1"), ("get2", "2")):
        document = desk.config_map(what, size=size)
        document["metadata"]["labels"] = {"get": desk.slug}
        desk.put(document)
    one, two = desk.name("get1"), desk.name("get2")
    some = ("get", "configmap", "-l", f"get={desk.slug}")
    table = desk.run(*some).splitlines()
    require(table[0].split() == ["NAME", "DATA", "AGE"] and len(table) == 3, str(table))
    require(desk.run(*some, "-o", "name").split() == [f"configmap/{one}", f"configmap/{two}"], "-o name")  # fmt: skip
    shown = desk.run(*some, "--sort-by={.data.size}", "-o", "jsonpath={.items[*].data.size}")
    require(shown == "1 2", shown)
    shown = desk.run(*some, "-o", "custom-columns=N:.metadata.name,S:.data.size", "--no-headers")
    require([line.split() for line in shown.splitlines()] == [[one, "1"], [two, "2"]], shown)
    shown = desk.run(*some, "--show-labels", "-L", "get")
    require(f"get={desk.slug}" in shown and "LABELS" in shown, shown)
    shown = desk.run("get", "configmap", "--field-selector", f"metadata.name={two}", "-o", "name")
    require(shown.split() == [f"configmap/{two}"], shown)
    require(desk.run(*some, "--chunk-size=1", "-o", "name").split() == [f"configmap/{one}", f"configmap/{two}"], "chunks")  # fmt: skip
    require(one in desk.kubectl.run("get", "configmap", "-A", "-l", f"get={desk.slug}"), "-A")
    raw = json.loads(desk.kubectl.run("get", "--raw", desk.core("configmaps", one)))
    require(raw["data"] == {"size": "1"}, str(raw))
    require("not found" in desk.run("get", "configmap", "nobody", code=1), "an absent one")


@command("get", "-w: what is added, changed, deleted")
def get_watch(desk: Desk) -> None:
    path = desk.core("configmaps", desk.name("seen"))
    desk.fresh(path)
    words = ("get", "configmap", "--field-selector", f"metadata.name={desk.name('seen')}", "-w",
             "--output-watch-events", "-o", "custom-columns=T:.type,A:.object.data.a")  # fmt: skip
    wanted = ["ADDED 1", "MODIFIED 2", "DELETED 2"]
    with process(desk, *words) as watching:
        steps = [
            lambda: desk.put(desk.config_map("seen", a="1")),
            lambda: desk.truth.api.request("PATCH", path, {"data": {"a": "2"}}, "merge-patch+json"),
            lambda: desk.truth.remove(path),
        ]
        assert watching.stdout is not None
        steps.pop(0)()
        seen: list[str] = []
        while len(seen) < len(wanted) and (line := watching.stdout.readline().decode()):
            if line.split() and line.split()[0] in ("ADDED", "MODIFIED", "DELETED"):
                seen.append(" ".join(line.split()))
                if steps:
                    steps.pop(0)()
    require(seen == wanted, str(seen))


@command("get", "all, and a custom kind with its columns")
def get_all(desk: Desk) -> None:
    desk.put(desk.deployment("all"))
    require(f"deployment.apps/{desk.name('all')}" in desk.run("get", "all"), "get all")
    spec = {"size": 4}
    path = desk.group("matrix.example.com/v1", "widgets", desk.name("w"))
    desk.fresh(path)
    desk.truth.api.create(
        path.rpartition("/")[0],
        {"apiVersion": "matrix.example.com/v1", "kind": "Widget", "metadata": {"name": desk.name("w")}, "spec": spec},
    )  # fmt: skip
    table = desk.run("get", "wdg", desk.name("w")).splitlines()
    require(table[0].split() == ["NAME", "SIZE"] and table[1].split()[1] == "4", str(table))
    desk.truth.remove(path)
    desk.truth.remove(APPS.format(ns=desk.ns) + desk.name("all"))


@command("describe")
def describe(desk: Desk) -> None:
    desk.running("told")
    out = desk.run("describe", "deployment", desk.name("told"))
    for words in (WHOAMI, "1 desired", "ScalingReplicaSet" if desk.member else "Events:", f"app={desk.name('told')}"):  # fmt: skip
        require(words in out, f"{words!r} is not in {out}")
    pod = until(lambda: desk.ready("told"), "no pod")
    out = desk.run("describe", "pod", pod)
    for words in ("Status:           Running", "Ready          ", WHOAMI, "Scheduled"):
        require(words in out, f"{words!r} is not in {out}")
    out = desk.kubectl.run("describe", "node", desk.node())
    for words in ("Capacity:", "Allocatable:", "Non-terminated Pods:", "KubeletReady"):
        require(words in out, f"{words!r} is not in {out}")
    told = [("namespace", desk.ns), ("clusterrole", "view")]
    if (
        desk.member
    ):  # at the federation accounts are templates, and there is none before somebody makes one
        told.append(("serviceaccount", "-n", "kube-system", "default"))
    for words in told:
        require("Name:" in desk.kubectl.run("describe", *words), str(words))
    desk.truth.remove(APPS.format(ns=desk.ns) + desk.name("told"))


OF_NEWER = ("ipaddresses.networking.k8s.io", "servicecidrs.networking.k8s.io")


@command("describe", "one of every kind that is served")
def describe_all(desk: Desk) -> None:
    names = desk.kubectl.run("api-resources", "--verbs=get,list", "-o", "name").split()
    silent = []
    for name in names:
        if name in OF_NEWER and desk.kubectl.label < "kubectl 1.33":
            continue  # it describes a version of them that 1.36 no longer serves
        found = desk.kubectl.run("get", name, "-A", "-o", "jsonpath={range .items[*]}{.metadata.namespace},{.metadata.name}{'\\n'}{end}").split()  # fmt: skip
        if found:
            namespace, _, of = found[0].partition(",")
            out = desk.kubectl.run("describe", name, of, *(("-n", namespace) if namespace else ()))
            if not re.search(rf"^Name:\s+{re.escape(of)}$", out, re.MULTILINE):
                silent.append(name)
    require(not silent, f"describe says nothing of {silent}")


@command("events")
def events(desk: Desk) -> None:
    name = desk.name("event")
    regarding = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "namespace": desk.ns}
    desk.put(
        {
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "involvedObject": regarding, "type": "Warning",
            "reason": "Matrix", "message": "it happened", "lastTimestamp": "2026-11-30T00:00:00Z", "count": 1,
        }
    )  # fmt: skip
    out = desk.run("events", "--for", f"configmap/{name}", "--types=Warning")
    require("Matrix" in out and "it happened" in out, out)
    require("it happened" not in desk.run("events", "--for", "configmap/nobody"), "another's event")
    desk.truth.remove(desk.core("events", name))


@command("explain")
def explain(desk: Desk) -> None:
    out = desk.kubectl.run("explain", "pod.spec.containers.livenessProbe.httpGet")
    require("FIELD: httpGet" in out and "path\t<string>" in out, out)
    out = desk.kubectl.run("explain", "deployments", "--recursive")
    require("maxUnavailable" in out, "recursive")
    out = desk.kubectl.run("explain", "widgets.spec.size")
    require("How big." in out, out)
    out = desk.kubectl.run("explain", "deployments", "--api-version=apps/v1")
    require("VERSION:    v1" in out, out)


@command("explain", "every kind that is served")
def explain_all(desk: Desk) -> None:
    rows = [line.split() for line in desk.kubectl.run("api-resources", "--no-headers").splitlines()]
    silent = []
    for row in rows:
        version, kind = next((row[i], row[i + 2]) for i in (1, 2) if row[i + 1] in ("true", "false"))  # fmt: skip
        out = _explained(desk, row[0], version)
        whole = "FIELDS:" in out and re.search(rf"^KIND:\s+{kind}$", out, re.MULTILINE)
        if out and not whole:
            silent.append(row[0])
    require(not silent, f"explain says nothing of {silent}")


def _explained(desk: Desk, plural: str, version: str) -> str:
    """Empty where it is a custom kind of another check that is gone by now."""
    try:
        return desk.kubectl.run("explain", plural, f"--api-version={version}")
    except Failed:
        listed = desk.truth.find(f"/apis/{version}" if "/" in version else f"/api/{version}")
        if plural in [one["name"] for one in (listed or {}).get("resources", ())]:
            raise
        return ""


@command("explain", "--output=plaintext-openapiv2", "L")
def explain_v2(desk: Desk) -> None:
    if "plaintext-openapiv2" not in desk.kubectl.run("explain", "--help"):
        raise Absent("this kubectl has no such option")
    try:
        out = desk.kubectl.run("explain", "pod.spec", "--output=plaintext-openapiv2")
    except Failed as error:
        raise Absent("kubectl asks for OpenAPI v2 in protobuf alone; v3 and v2 in JSON are served") from error  # fmt: skip
    require("containers" in out, out)


# --------------------------------------------------------------------------------------------------------- discovery
@command("api-resources")
def api_resources(desk: Desk) -> None:
    out = desk.kubectl.run("api-resources", "-o", "wide")
    row = next(line.split() for line in out.splitlines() if line.startswith("deployments "))
    require(row[1:5] == ["deploy", "apps/v1", "true", "Deployment"], str(row))
    namespaced = desk.kubectl.run("api-resources", "--namespaced=false", "-o", "name").split()
    require("namespaces" in namespaced and "pods" not in namespaced, str(namespaced))
    out = desk.kubectl.run("api-resources", "--api-group=matrix.example.com", "-o", "name")
    require(out.split() == ["widgets.matrix.example.com"], out)


@command("api-versions")
def api_versions(desk: Desk) -> None:
    found = desk.kubectl.run("api-versions").split()
    require({"v1", "apps/v1", "matrix.example.com/v1", "autoscaling/v2"} <= set(found), str(found))


@command("version")
def version(desk: Desk) -> None:
    told = json.loads(desk.kubectl.run("version", "-o", "json"))
    require(told["serverVersion"]["minor"] == "36", str(told))


@command("cluster-info")
def cluster_info(desk: Desk) -> None:
    out = desk.kubectl.run("cluster-info")
    require("control plane" in out and desk.truth.access.server in out, out)


@command("cluster-info dump")
def cluster_info_dump(desk: Desk) -> None:
    folder = desk.scratch / "dump"
    desk.kubectl.run("cluster-info", "dump", "--namespaces", desk.ns, f"--output-directory={folder}")  # fmt: skip
    nodes = json.loads((folder / "nodes.json").read_text())
    require([n["metadata"]["name"] for n in nodes["items"]], "no nodes in it")
    require((folder / desk.ns / "events.json").exists(), "no events in it")


# ------------------------------------------------------------------------------------------------------------ rights
@command("auth can-i")
def can_i(desk: Desk) -> None:
    require(desk.run("auth", "can-i", "create", "pods").strip() == "yes", "the administrator may not")  # fmt: skip
    user = f"--as={desk.name('eve')}"
    require("no" in desk.run("auth", "can-i", "create", "configmaps", user, code=1), "eve may")
    desk.run("create", "rolebinding", desk.name("eve"), "--clusterrole=edit", f"--user={desk.name('eve')}")  # fmt: skip
    until(lambda: "yes" in desk.run("auth", "can-i", "create", "configmaps", user), "eve may not")
    out = desk.run("auth", "can-i", "--list", user)
    require(re.search(r"configmaps\s.*create", out), out)
    desk.truth.remove(desk.group("rbac.authorization.k8s.io/v1", "rolebindings", desk.name("eve")))


@command("auth whoami")
def whoami(desk: Desk) -> None:
    try:
        desk.kubectl.run("auth", "whoami")
    except Failed as error:
        if "is not enabled in the cluster" in str(error):
            raise Absent("kubectl 1.27 asks for versions of SelfSubjectReview that 1.36 no longer serves") from error  # fmt: skip
        raise
    told = json.loads(desk.kubectl.run("auth", "whoami", "-o", "json"))
    require("system:masters" in told["status"]["userInfo"]["groups"], str(told))
    told = json.loads(desk.kubectl.run("auth", "whoami", "-o", "json", "--as=ann", "--as-group=devs"))  # fmt: skip
    require(told["status"]["userInfo"]["username"] == "ann", str(told))


@command("auth reconcile")
def reconcile(desk: Desk) -> None:
    name = desk.name("rec")
    path = desk.group("rbac.authorization.k8s.io/v1", "roles", name)
    desk.fresh(path)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": desk.ns},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    }
    desk.run("auth", "reconcile", "-f", desk.file("role.json", role))
    desk.sees(path, {"rules": role["rules"]})
    more = {**role, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}
    desk.run("auth", "reconcile", "-f", desk.file("role.json", more))
    resources = {r for rule in desk.get(path)["rules"] for r in rule["resources"]}
    require(resources == {"pods", "secrets"}, str(resources))


# ------------------------------------------------------------------------------------------------------------- nodes
@command("top node")
def top_node(desk: Desk) -> None:
    until(lambda: desk.get("/apis/metrics.k8s.io/v1beta1/nodes")["items"], "no metrics", 60)
    out = desk.kubectl.run("top", "node")
    row = next(line.split() for line in out.splitlines() if line.startswith(desk.node()))
    require(re.fullmatch(r"\d+m", row[1]) and re.fullmatch(r"\d+Mi", row[3]), str(row))


@command("top pod")
def top_pod(desk: Desk) -> None:
    desk.running("topped")
    name = until(lambda: desk.ready("topped"), "no pod")

    def shown() -> list[str]:
        try:
            out = desk.run("top", "pod", "--containers")
        except Failed:  # no metrics yet
            return []
        return next((line.split() for line in out.splitlines() if line.startswith(name)), [])

    row = until(shown, "no metrics of the pod", 60)
    require(row[1] == "main" and re.fullmatch(r"\d+m", row[2]), str(row))
    desk.truth.remove(APPS.format(ns=desk.ns) + desk.name("topped"))


@contextlib.contextmanager
def spare(desk: Desk) -> Iterator[str]:
    """A node of nobody's, made in the member; its name here."""
    name = desk.name("node")
    desk.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}, desk.home)
    until(lambda: desk.truth.find(f"/api/v1/nodes/{desk.here(name)}"), "the node is not shown")
    try:
        yield name
    finally:
        desk.home.remove(f"/api/v1/nodes/{name}")


def spec_of(desk: Desk, name: str) -> Document:
    """The node's spec where it is; the server that was asked must show the same."""
    found: Document = desk.home.get(f"/api/v1/nodes/{name}")["spec"]
    shown = f"/api/v1/nodes/{desk.here(name)}"
    until(lambda: desk.get(shown)["spec"] == desk.home.get(f"/api/v1/nodes/{name}")["spec"], "shown otherwise")  # fmt: skip
    return found


@command("cordon")
def cordon(desk: Desk) -> None:
    with spare(desk) as name:
        desk.kubectl.run("cordon", desk.here(name))
        require(spec_of(desk, name).get("unschedulable"), "it is not cordoned")


@command("uncordon")
def uncordon(desk: Desk) -> None:
    with spare(desk) as name:
        desk.home.api.request("PATCH", f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}}, "merge-patch+json")  # fmt: skip
        until(lambda: spec_of(desk, name).get("unschedulable"), "it is not cordoned")
        desk.kubectl.run("uncordon", desk.here(name))
        require(not spec_of(desk, name).get("unschedulable"), "it is cordoned")


@command("taint")
def taint(desk: Desk) -> None:
    with spare(desk) as name:

        def ours() -> list[Document]:
            return [t for t in spec_of(desk, name).get("taints", []) if t["key"] == "matrix"]

        desk.kubectl.run("taint", "node", desk.here(name), "matrix=yes:PreferNoSchedule")
        wanted = [{"key": "matrix", "value": "yes", "effect": "PreferNoSchedule"}]
        require(ours() == wanted, str(ours()))
        desk.kubectl.run("taint", "node", desk.here(name), "matrix-")
        require(ours() == [], str(ours()))


@command("drain")
def drain(desk: Desk) -> None:
    with spare(desk) as name:
        for what in ("free", "kept"):
            lodge(desk, what, name)
        selector = {"matchLabels": {"app": desk.name("kept")}}
        metadata = {"name": desk.name("keeps")}
        spec = {"minAvailable": 1, "selector": selector}
        desk.put({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}, desk.home)  # fmt: skip
        budget = desk.group("policy/v1", "poddisruptionbudgets", desk.name("keeps"))
        until(lambda: desk.home.get(budget).get("status", {}).get("expectedPods") == 1, "the budget is not counted")  # fmt: skip
        said = desk.kubectl.run("drain", desk.here(name), "--force", "--timeout=6s", code=1)
        require("violate the pod's disruption budget" in said, said)
        require(desk.home.find(desk.core("pods", desk.name("kept"))), "the budget did not hold")
        desk.home.gone(desk.core("pods", desk.name("free")))
        desk.home.remove(budget)
        desk.kubectl.run("drain", desk.here(name), "--force", "--timeout=30s")
        desk.home.gone(desk.core("pods", desk.name("kept")))
        require(spec_of(desk, name).get("unschedulable"), "it is not cordoned")


def lodge(desk: Desk, what: str, node: str) -> None:
    """A pod that passes for a running one on that node."""
    pod = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": WHOAMI}]}  # fmt: skip
    metadata = {"name": desk.name(what), "labels": {"app": desk.name(what)}}
    desk.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}, desk.home)
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    path = desk.core("pods", desk.name(what))
    desk.home.api.request("PATCH", f"{path}/status", {"status": ready}, "strategic-merge-patch+json")  # fmt: skip
    shown = desk.core("pods", desk.here(desk.name(what)))
    until(lambda: (desk.truth.find(shown) or {}).get("status", {}).get("phase") == "Running", "the pod is not shown")  # fmt: skip


@command("certificate approve")
def approve(desk: Desk) -> None:
    decide(desk, "approve", "Approved")


@command("certificate deny")
def deny(desk: Desk) -> None:
    decide(desk, "deny", "Denied")


def decide(desk: Desk, word: str, condition: str) -> None:

    name = desk.name(word)
    spec = {"request": certificate_request(), "signerName": "matrix.example.com/nobody", "usages": ["client auth"]}  # fmt: skip
    path = f"/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}"
    desk.put({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name}, "spec": spec})  # fmt: skip
    desk.kubectl.run("certificate", word, name)
    desk.sees(path, {"status": {"conditions": [{"type": condition, "status": "True"}]}})
    desk.truth.remove(path)


# ------------------------------------------------------------------------------------------------------------- proxy
@command("proxy")
def proxy(desk: Desk) -> None:
    desk.put(desk.config_map("proxied", a="b"))
    with process(desk, "proxy", "--port=0") as running:
        assert running.stdout is not None
        said = running.stdout.readline().decode()
        port = re.search(r":(\d+)", said)
        require(port, said)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        address = f"http://127.0.0.1:{port[1] if port else 0}{desk.core('configmaps', desk.name('proxied'))}"  # fmt: skip
        with opener.open(address, timeout=20) as answer:
            require(json.load(answer)["data"] == {"a": "b"}, "another object")

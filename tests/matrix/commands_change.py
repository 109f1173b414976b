"""kubectl's commands that change objects: apply, edit, patch, replace, label, set, scale, rollout, delete, wait."""

import json
import threading

from tests.matrix.desk import APPS, WHOAMI, WHOAMI_2, Desk, command, process
from tests.matrix.kinds import Document
from tests.matrix.record import require
from tests.matrix.truth import changed_only, until

LAST = "kubectl.kubernetes.io/last-applied-configuration"


def held(desk: Desk, what: str, **data: str) -> tuple[str, Document]:
    """A ConfigMap that is there: its path, and itself."""
    path = desk.core("configmaps", desk.name(what))
    return path, desk.put(desk.config_map(what, **data))


def workload(desk: Desk, what: str) -> tuple[str, Document]:
    """A Deployment without replicas, which the controllers have seen: its path, and itself."""
    path = APPS.format(ns=desk.ns) + desk.name(what)
    desk.put(desk.deployment(what))

    def seen() -> Document | None:
        found = desk.get(path)
        reported = found.get("status", {}).get("observedGeneration")
        return (
            found
            if reported == found["metadata"]["generation"] and found["metadata"].get("annotations")
            else None
        )

    return path, until(seen, "no controller has seen it")


# ------------------------------------------------------------------------------------------------------------- apply
@command("apply")
def apply(desk: Desk) -> None:
    path = desk.core("configmaps", desk.name("applied"))
    desk.fresh(path)
    first = desk.file("apply.json", desk.config_map("applied", a="1", b="2"))
    require("created" in desk.run("apply", "-f", first), "not created")
    desk.truth.api.request("PATCH", path, {"data": {"theirs": "x"}}, "merge-patch+json")
    require("unchanged" in desk.run("apply", "-f", first), "not unchanged")
    second = desk.file("apply.json", desk.config_map("applied", a="3"))
    require("configured" in desk.run("apply", "-f", second), "not configured")
    require(
        desk.get(path)["data"] == {"a": "3", "theirs": "x"}, lambda: str(desk.get(path)["data"])
    )


@command("apply", "a workload's lists, by their keys")
def apply_lists(desk: Desk) -> None:
    path = APPS.format(ns=desk.ns) + desk.name("lists")
    desk.fresh(path)
    document = desk.deployment("lists")
    containers = document["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "side", "image": WHOAMI})
    desk.run("apply", "-f", desk.file("lists.json", document))
    extra = {"spec": {"template": {"spec": {"containers": [{"name": "theirs", "image": WHOAMI}]}}}}
    desk.truth.api.request("PATCH", path, extra, "strategic-merge-patch+json")
    containers[:] = [{"name": "main", "image": WHOAMI_2}]
    desk.run("apply", "-f", desk.file("lists.json", document))
    found = {c["name"]: c["image"] for c in desk.get(path)["spec"]["template"]["spec"]["containers"]}  # fmt: skip
    require(found == {"main": WHOAMI_2, "theirs": WHOAMI}, str(found))
    desk.truth.remove(path)


@command("apply", "--server-side: conflicts, force, what is dropped")
def apply_server_side(desk: Desk) -> None:
    path = desk.core("configmaps", desk.name("ssa"))
    desk.fresh(path)
    words = ("apply", "--server-side", "-f")
    desk.run(*words, desk.file("ssa.json", desk.config_map("ssa", a="1", b="2")), "--field-manager=one")  # fmt: skip
    other = desk.file("ssa2.json", desk.config_map("ssa", a="9"))
    said = desk.run(*words, other, "--field-manager=two", code=1)
    require('conflict with "one"' in said and ".data.a" in said, said)
    desk.run(*words, other, "--field-manager=two", "--force-conflicts")
    desk.run(*words, desk.file("ssa3.json", desk.config_map("ssa")), "--field-manager=one")
    require(desk.get(path)["data"] == {"a": "9"}, lambda: str(desk.get(path)))


@command("apply", "--dry-run, strict fields")
def apply_dry(desk: Desk) -> None:
    path, before = held(desk, "dry", a="1")
    changed = desk.file("dry.json", desk.config_map("dry", a="2"))
    for mode in ("server", "client"):
        require("dry run" in desk.run("apply", f"--dry-run={mode}", "-f", changed), "not a dry run")
        require(desk.get(path) == before, f"--dry-run={mode} wrote")
    wrong = desk.deployment("wrong")
    wrong["spec"]["replicaz"] = 1
    said = desk.run("apply", "-f", desk.file("wrong.json", wrong), code=1)
    require('unknown field "spec.replicaz"' in said, said)


@command("apply", "--prune")
def apply_prune(desk: Desk) -> None:
    documents = [desk.config_map(what, a="1") for what in ("kept", "pruned")]
    for document in documents:
        document["metadata"]["labels"] = {"prune": desk.slug}
        desk.fresh(desk.core("configmaps", document["metadata"]["name"]))
    words = ("apply", "--prune", "-l", f"prune={desk.slug}", "--prune-allowlist=core/v1/ConfigMap", "-f")  # fmt: skip
    desk.run(*words, desk.file("prune.json", *documents))
    out = desk.run(*words, desk.file("prune.json", documents[0]))
    require("pruned" in out, out)
    desk.truth.gone(desk.core("configmaps", desk.name("pruned")))
    require(desk.truth.find(desk.core("configmaps", desk.name("kept"))), "it pruned what it applied")  # fmt: skip


@command("apply view-last-applied")
def view_last_applied(desk: Desk) -> None:
    desk.run("apply", "-f", desk.file("last.json", desk.config_map("last", a="1")))
    shown = desk.run("apply", "view-last-applied", f"configmap/{desk.name('last')}", "-o", "json")
    require(json.loads(shown)["data"] == {"a": "1"}, shown)


@command("apply set-last-applied")
def set_last_applied(desk: Desk) -> None:
    path, _ = held(desk, "set-last", a="1")
    file = desk.file("set-last.json", desk.config_map("set-last", a="7"))
    desk.run("apply", "set-last-applied", "--create-annotation", "-f", file)
    found = desk.get(path)
    require(json.loads(found["metadata"]["annotations"][LAST])["data"] == {"a": "7"}, str(found))
    require(found["data"] == {"a": "1"}, "it changed the data")


@command("apply edit-last-applied")
def edit_last_applied(desk: Desk) -> None:
    path = desk.core("configmaps", desk.name("edit-last"))
    desk.fresh(path)
    desk.run("apply", "-f", desk.file("edit-last.json", desk.config_map("edit-last", a="first")))
    editor = {"KUBE_EDITOR": "sed -i s/first/second/"}
    desk.run("apply", "edit-last-applied", f"configmap/{desk.name('edit-last')}", env=editor)
    require("second" in desk.get(path)["metadata"]["annotations"][LAST], str(desk.get(path)))


@command("diff")
def diff(desk: Desk) -> None:
    path, before = held(desk, "diff", a="was")
    out = desk.run("diff", "-f", desk.file("diff.json", desk.config_map("diff", a="will-be")), code=1)  # fmt: skip
    require("-  a: was" in out and "+  a: will-be" in out, out)
    require(desk.get(path) == before, "it wrote")
    out = desk.run("diff", "--server-side", "--force-conflicts", "-f", desk.file("diff.json", desk.config_map("diff", a="ssa")), code=1)  # fmt: skip
    require("+  a: ssa" in out, out)


@command("kustomize")
def kustomize(desk: Desk) -> None:
    folder = desk.scratch / "kustomize"
    folder.mkdir(exist_ok=True)
    (folder / "map.json").write_text(json.dumps(desk.config_map("kust", a="1")))
    kept = {"resources": ["map.json"], "namePrefix": "pre-", "labels": [{"pairs": {"made": "here"}}]}  # fmt: skip
    (folder / "kustomization.yaml").write_text(json.dumps(kept))
    path = desk.core("configmaps", f"pre-{desk.name('kust')}")
    desk.fresh(path)
    require(f"pre-{desk.name('kust')}" in desk.kubectl.run("kustomize", str(folder)), "not built")
    desk.run("apply", "-k", str(folder))
    desk.sees(path, {"data": {"a": "1"}, "metadata": {"labels": {"made": "here"}}})
    desk.run("delete", "-k", str(folder))
    desk.truth.gone(path)


# ----------------------------------------------------------------------------------------------------- small changes
@command("edit")
def edit(desk: Desk) -> None:
    path, before = held(desk, "edited", a="first")
    editor = {"KUBE_EDITOR": "sed -i s/first/second/"}
    desk.run("edit", "configmap", desk.name("edited"), env=editor)
    changed_only(before, desk.get(path), {"data|a": "second"})


@command("edit", "--subresource=status")
def edit_status(desk: Desk) -> None:
    path, before = workload(desk, "edit-status")
    condition = {"conditions": [{"type": "Matrix", "status": "True", "reason": "Told"}]}
    script = desk.scratch / "editor.py"
    script.write_text(
        "import json, sys\np = sys.argv[1]\nd = json.load(open(p))\n"
        f"d['status'].update({condition})\njson.dump(d, open(p, 'w'))\n"
    )
    editor = {"KUBE_EDITOR": f"python3 {script}"}
    words = ("edit", "--subresource=status", "-o", "json", "deployment", desk.name("edit-status"))
    said = json.loads(desk.run(*words, env=editor))
    told = {c["type"] for c in said["status"]["conditions"]}
    require("Matrix" in told, str(said["status"]))
    changed_only(before, desk.get(path), {})
    desk.truth.remove(path)


@command("label")
def label(desk: Desk) -> None:
    path, before = held(desk, "labelled")
    name = desk.name("labelled")
    desk.run("label", "configmap", name, "a=b", "c=d")
    changed_only(before, desk.get(path), {"metadata|labels|a": "b", "metadata|labels|c": "d"})
    said = desk.run("label", "configmap", name, "a=x", code=1)
    require("already has a value" in said, said)
    desk.run("label", "configmap", name, "a=x", "c-", "--overwrite")
    changed_only(before, desk.get(path), {"metadata|labels|a": "x"})
    desk.run("label", "configmap", "-l", "a=x", "all=yes")
    changed_only(before, desk.get(path), {"metadata|labels|a": "x", "metadata|labels|all": "yes"})


@command("annotate")
def annotate(desk: Desk) -> None:
    path, before = held(desk, "noted")
    desk.run("annotate", "configmap", desk.name("noted"), "why=because", "b=c")
    desk.run("annotate", "configmap", desk.name("noted"), "why=new", "b-", "--overwrite")
    changed_only(before, desk.get(path), {"metadata|annotations|why": "new"})


@command("patch")
def patch(desk: Desk) -> None:
    path, before = held(desk, "patched", a="1", b="2")
    name = desk.name("patched")
    desk.run("patch", "configmap", name, "-p", '{"data":{"a":"3"}}')
    desk.run("patch", "configmap", name, "--type=merge", "-p", '{"data":{"b":null}}')
    desk.run("patch", "configmap", name, "--type=json", "-p", '[{"op":"test","path":"/data/a","value":"3"},{"op":"add","path":"/data/c","value":"4"}]')  # fmt: skip
    changed_only(before, desk.get(path), {"data|a": "3", "data|b": None, "data|c": "4"})
    said = desk.run("patch", "configmap", name, "--type=json", "-p", '[{"op":"test","path":"/data/a","value":"9"}]', code=1)  # fmt: skip
    require("The request is invalid" in said, said)


@command("replace")
def replace(desk: Desk) -> None:
    path, before = held(desk, "replaced", a="1", b="2")
    desk.run("replace", "-f", desk.file("replace.json", desk.config_map("replaced", c="3")))
    changed_only(before, desk.get(path), {"data|a": None, "data|b": None, "data|c": "3"})


@command("replace", "--force")
def replace_force(desk: Desk) -> None:
    path, before = held(desk, "forced", a="1")
    desk.run("replace", "--force", "-f", desk.file("force.json", desk.config_map("forced", a="2")))
    found = desk.sees(path, {"data": {"a": "2"}})
    require(found["metadata"]["uid"] != before["metadata"]["uid"], "it is the same object")


# -------------------------------------------------------------------------------------------------------------- set
def sets(desk: Desk, what: str, words: tuple[str, ...], wanted: Document) -> None:
    path, before = workload(desk, what)
    desk.run("set", words[0], f"deployment/{desk.name(what)}", *words[1:])
    desk.sees(path, {"spec": {"template": {"spec": wanted}}})
    after = desk.get(path)
    require(after["spec"]["selector"] == before["spec"]["selector"], "it changed the selector")
    require(after["metadata"]["generation"] > before["metadata"]["generation"], "generation")
    desk.truth.remove(path)


@command("set image")
def set_image(desk: Desk) -> None:
    sets(desk, "set-image", ("image", f"main={WHOAMI_2}"), {"containers": [{"image": WHOAMI_2}]})


@command("set env")
def set_env(desk: Desk) -> None:
    wanted = {"containers": [{"env": [{"name": "LINGER", "value": "0"}, {"name": "COLOUR", "value": "red"}]}]}  # fmt: skip
    sets(desk, "set-env", ("env", "COLOUR=red"), wanted)


@command("set resources")
def set_resources(desk: Desk) -> None:
    wanted = {"containers": [{"resources": {"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}}}]}  # fmt: skip
    sets(desk, "set-res", ("resources", "--limits=cpu=200m", "--requests=cpu=100m"), wanted)


@command("set serviceaccount")
def set_serviceaccount(desk: Desk) -> None:
    sets(desk, "set-sa", ("serviceaccount", "robot"), {"serviceAccountName": "robot"})


@command("set selector")
def set_selector(desk: Desk) -> None:
    spec = {"selector": {"app": "a"}, "ports": [{"port": 80}]}
    path = desk.core("services", desk.name("chosen"))
    desk.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": desk.name("chosen")}, "spec": spec})  # fmt: skip
    desk.run("set", "selector", f"service/{desk.name('chosen')}", "app=b,tier=web")
    require(desk.get(path)["spec"]["selector"] == {"app": "b", "tier": "web"}, str(desk.get(path)))
    desk.truth.remove(path)


@command("set subject")
def set_subject(desk: Desk) -> None:
    name = desk.name("subject")
    path = desk.group("rbac.authorization.k8s.io/v1", "rolebindings", name)
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}
    desk.put({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name}, "roleRef": role, "subjects": [user]})  # fmt: skip
    desk.run("set", "subject", f"rolebinding/{name}", "--user=bob")
    names = [s["name"] for s in desk.get(path)["subjects"]]
    require(names == ["ann", "bob"], str(names))


# ------------------------------------------------------------------------------------------------- scale, rollout
@command("scale")
def scale(desk: Desk) -> None:
    path, before = workload(desk, "scale")
    name = f"deployment/{desk.name('scale')}"
    desk.run("scale", name, "--replicas=2")
    changed_only(before, desk.get(path), {"spec|replicas": 2})
    said = desk.run("scale", name, "--replicas=5", "--current-replicas=4", code=1)
    require("Expected replicas to be 4, was 2" in said, said)
    desk.run("scale", name, "--replicas=0", "--current-replicas=2")
    changed_only(before, desk.get(path), {})
    desk.truth.remove(path)


@command("rollout status")
def rollout_status(desk: Desk) -> None:
    desk.running("rolled")
    said = desk.run("rollout", "status", f"deployment/{desk.name('rolled')}", "--timeout=60s")
    require("successfully rolled out" in said, said)
    desk.run("set", "image", f"deployment/{desk.name('rolled')}", f"main={WHOAMI_2}")
    said = desk.run("rollout", "status", f"deployment/{desk.name('rolled')}", "--timeout=60s")
    require("successfully rolled out" in said, said)
    images = {p["spec"]["containers"][0]["image"] for p in desk.pods("rolled")}
    require(WHOAMI_2 in images, f"it said so while pods run {images}")
    desk.truth.remove(APPS.format(ns=desk.ns) + desk.name("rolled"))


@command("rollout restart")
def rollout_restart(desk: Desk) -> None:
    path, before = workload(desk, "restart")
    desk.run("rollout", "restart", f"deployment/{desk.name('restart')}")
    found = desk.get(path)
    noted = found["spec"]["template"]["metadata"]["annotations"]
    require("kubectl.kubernetes.io/restartedAt" in noted, str(noted))
    require(found["metadata"]["generation"] > before["metadata"]["generation"], "generation")
    desk.truth.remove(path)


@command("rollout pause")
def rollout_pause(desk: Desk) -> None:
    path, before = workload(desk, "pause")
    desk.run("rollout", "pause", f"deployment/{desk.name('pause')}")
    changed_only(before, desk.get(path), {"spec|paused": True})
    said = desk.run("rollout", "pause", f"deployment/{desk.name('pause')}", code=1)
    require("already paused" in said, said)
    desk.truth.remove(path)


@command("rollout resume")
def rollout_resume(desk: Desk) -> None:
    path, _ = workload(desk, "resume")
    desk.truth.api.request("PATCH", path, {"spec": {"paused": True}}, "merge-patch+json")
    desk.run("rollout", "resume", f"deployment/{desk.name('resume')}")
    require(not desk.get(path)["spec"].get("paused"), "it is paused")
    desk.truth.remove(path)


def revised(desk: Desk, what: str) -> str:
    """A Deployment with two revisions, the second with another image."""
    path, _ = workload(desk, what)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": WHOAMI_2}]}}}}
    first = {"deployment.kubernetes.io/revision": "1"}
    desk.sees(path, {"metadata": {"annotations": first}})
    desk.truth.api.request("PATCH", path, image, "strategic-merge-patch+json")
    desk.sees(path, {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "2"}}})
    return path


@command("rollout history")
def rollout_history(desk: Desk) -> None:
    path = revised(desk, "history")
    name = f"deployment/{desk.name('history')}"
    lines = [line.split()[0] for line in desk.run("rollout", "history", name).splitlines() if line[:1].isdigit()]  # fmt: skip
    require(lines == ["1", "2"], f"revisions {lines}")
    shown = desk.run("rollout", "history", name, "--revision=1")
    require(WHOAMI in shown and WHOAMI_2 not in shown, shown)
    desk.truth.remove(path)


@command("rollout undo")
def rollout_undo(desk: Desk) -> None:
    path = revised(desk, "undone")
    desk.run("rollout", "undo", f"deployment/{desk.name('undone')}")
    desk.sees(path, {"spec": {"template": {"spec": {"containers": [{"image": WHOAMI}]}}}})
    desk.sees(path, {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "3"}}})
    desk.truth.remove(path)


# ------------------------------------------------------------------------------------------------------ delete, wait
@command("delete")
def delete(desk: Desk) -> None:
    paths = []
    for what in ("del1", "del2", "del3"):
        path, _ = held(desk, what)
        desk.truth.api.request("PATCH", path, {"metadata": {"labels": {"del": f"{desk.slug}-{what[3:]}"}}}, "merge-patch+json")  # fmt: skip
        paths.append(path)
    desk.run("delete", "configmap", desk.name("del1"), "--dry-run=server")
    require(desk.truth.find(paths[0]), "a dry run deleted")
    desk.run("delete", "configmap", desk.name("del1"))
    desk.truth.gone(paths[0])
    desk.run("delete", "-f", desk.file("del.json", desk.config_map("del2")))
    desk.truth.gone(paths[1])
    desk.run("delete", "configmap", "-l", f"del={desk.slug}-3")
    desk.truth.gone(paths[2])
    desk.run("delete", "configmap", desk.name("del1"), "--ignore-not-found")
    said = desk.run("delete", "configmap", desk.name("del1"), code=1)
    require("not found" in said, said)


@command("delete", "--cascade=orphan, foreground")
def delete_cascade(desk: Desk) -> None:
    for how, stays in (("orphan", True), ("foreground", False)):
        path, _ = workload(desk, how)
        sets_of = desk.group("apps/v1", "replicasets") + f"?labelSelector=app%3D{desk.name(how)}"
        owned = until(lambda: desk.get(sets_of)["items"], "no ReplicaSet")  # noqa: B023
        desk.run("delete", "deployment", desk.name(how), f"--cascade={how}", "--timeout=40s")
        desk.truth.gone(path)
        left = [s for s in desk.get(sets_of)["items"] if not s["metadata"].get("deletionTimestamp")]
        require(bool(left) is stays, f"--cascade={how} left {len(left)} ReplicaSets")
        for replica_set in owned:
            desk.truth.remove(desk.group("apps/v1", "replicasets", replica_set["metadata"]["name"]))


@command("wait")
def wait(desk: Desk) -> None:
    desk.running("awaited")
    deployment = f"deployment/{desk.name('awaited')}"
    require("condition met" in desk.run("wait", deployment, "--for=condition=Available", "--timeout=30s"), "")  # fmt: skip
    require("condition met" in desk.run("wait", deployment, "--for=jsonpath={.status.readyReplicas}=1", "--timeout=30s"), "")  # fmt: skip
    path, _ = held(desk, "waited")
    configmap = f"configmap/{desk.name('waited')}"
    said = desk.run("wait", configmap, "--for=delete", "--timeout=1s", code=1)
    require("timed out" in said, said)
    threading.Timer(1, lambda: desk.truth.remove(path)).start()
    desk.run("wait", configmap, "--for=delete", "--timeout=20s")
    require(desk.truth.find(path) is None, "it is still there")
    with process(desk, "wait", configmap, "--for=jsonpath={.data.done}=yes", "--timeout=20s") as waiting:  # fmt: skip
        said = waiting.communicate(timeout=30)[0].decode()
        require("not found" in said, said)
    desk.truth.remove(APPS.format(ns=desk.ns) + desk.name("awaited"))

"""kubectl's own settings: they ask no server (or only check that they do not), and belong to its help all the same."""

import json
import shutil
import subprocess

import yaml
from tests.matrix.desk import Desk, command
from tests.matrix.kinds import Document
from tests.matrix.record import require


def own(desk: Desk, *words: str, code: int = 0) -> tuple[str, Document]:
    """A command on a copy of the kubeconfig, without a context named; what it printed, and the file after it."""
    copy = desk.scratch / "kubeconfig"
    if not copy.exists():
        shutil.copy(desk.truth.kubeconfig, copy)
    env = {**desk.kubectl.env, "KUBECONFIG": str(copy)}
    argv = [desk.kubectl.binary, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    require(done.returncode == code, lambda: f"{words}: {done.returncode} {done.stderr}{done.stdout}")  # fmt: skip
    return done.stdout, yaml.safe_load(copy.read_text())


def named(entries: list[Document]) -> set[str]:
    return {entry["name"] for entry in entries or ()}


@command("config current-context")
def current_context(desk: Desk) -> None:
    own(desk, "config", "use-context", desk.truth.context)
    out, _ = own(desk, "config", "current-context")
    require(out.strip() == desk.truth.context, out)


@command("config use-context")
def use_context(desk: Desk) -> None:
    _, found = own(desk, "config", "use-context", "federation")
    require(found["current-context"] == "federation", str(found))
    own(desk, "config", "use-context", "nobody", code=1)


@command("config get-contexts")
def get_contexts(desk: Desk) -> None:
    out, _ = own(desk, "config", "get-contexts", "-o", "name")
    require({"federation", "alpha"} <= set(out.split()), out)


@command("config get-clusters")
def get_clusters(desk: Desk) -> None:
    out, found = own(desk, "config", "get-clusters")
    require(named(found["clusters"]) <= set(out.split()), out)


@command("config get-users")
def get_users(desk: Desk) -> None:
    out, found = own(desk, "config", "get-users")
    require(named(found["users"]) <= set(out.split()), out)


@command("config view")
def view(desk: Desk) -> None:
    out, _ = own(desk, "config", "view", "--minify", "-o", "json", "--context", desk.truth.context)
    require(json.loads(out)["clusters"][0]["cluster"]["server"] == desk.truth.access.server, out)


@command("config set-cluster")
def set_cluster(desk: Desk) -> None:
    _, found = own(desk, "config", "set-cluster", "other", "--server=https://192.0.2.1")
    require("other" in named(found["clusters"]), str(found))


@command("config set-credentials")
def set_credentials(desk: Desk) -> None:
    _, found = own(desk, "config", "set-credentials", "other", "--token=t")
    require("other" in named(found["users"]), str(found))


@command("config set-context")
def set_context(desk: Desk) -> None:
    _, found = own(desk, "config", "set-context", "other", "--cluster=other", "--user=other")
    require("other" in named(found["contexts"]), str(found))


@command("config rename-context")
def rename_context(desk: Desk) -> None:
    set_context(desk)
    _, found = own(desk, "config", "rename-context", "other", "another")
    require("another" in named(found["contexts"]), str(found))
    own(desk, "config", "delete-context", "another")


@command("config set")
def config_set(desk: Desk) -> None:
    _, found = own(desk, "config", "set", "clusters.third.server", "https://192.0.2.3")
    require("third" in named(found["clusters"]), str(found))


@command("config unset")
def config_unset(desk: Desk) -> None:
    config_set(desk)
    _, found = own(desk, "config", "unset", "clusters.third")
    require("third" not in named(found["clusters"]), str(found))


@command("config delete-context")
def delete_context(desk: Desk) -> None:
    set_context(desk)
    _, found = own(desk, "config", "delete-context", "other")
    require("other" not in named(found["contexts"]), str(found))


@command("config delete-cluster")
def delete_cluster(desk: Desk) -> None:
    set_cluster(desk)
    _, found = own(desk, "config", "delete-cluster", "other")
    require("other" not in named(found["clusters"]), str(found))


@command("config delete-user")
def delete_user(desk: Desk) -> None:
    set_credentials(desk)
    _, found = own(desk, "config", "delete-user", "other")
    require("other" not in named(found["users"]), str(found))


@command("kuberc set")
def kuberc_set(desk: Desk) -> None:
    file = desk.scratch / "kuberc"
    file.unlink(missing_ok=True)
    words = ("kuberc", "set", f"--kuberc={file}", "--section=defaults", "--command=get", "--option=output=wide")  # fmt: skip
    desk.kubectl.run(*words)
    require("wide" in file.read_text(), file.read_text())


@command("kuberc view")
def kuberc_view(desk: Desk) -> None:
    kuberc_set(desk)
    out = desk.kubectl.run("kuberc", "view", f"--kuberc={desk.scratch / 'kuberc'}")
    require("wide" in out, out)


@command("completion")
def completion(desk: Desk) -> None:
    own(desk, "config", "use-context", desk.truth.context)
    out, _ = own(desk, "completion", "bash")
    require("__start_kubectl" in out, "no bash function")
    desk.put(desk.config_map("completed"))
    out, _ = own(desk, "__complete", "get", "-n", desk.ns, "configmap", desk.name("comp"))
    require(desk.name("completed") in out.split(), out)


@command("plugin list")
def plugin_list(desk: Desk) -> None:
    folder = desk.scratch / "plugins"
    folder.mkdir(exist_ok=True)
    plugin = folder / "kubectl-matrix"
    plugin.write_text("#!/bin/sh\necho plugged\n")
    plugin.chmod(0o755)
    path = {"PATH": f"{folder}:/usr/bin:/bin"}
    require(str(plugin) in desk.kubectl.run("plugin", "list", env=path), "it is not listed")


@command("options")
def options(desk: Desk) -> None:
    require("--as-group" in desk.kubectl.run("options"), "no options")


@command("help")
def help_(desk: Desk) -> None:
    out, _ = own(desk, "help")
    require("rollout" in out, "no help")


@command("alpha")
def alpha(desk: Desk) -> None:
    desk.kubectl.run("alpha")

"""What the official Python client is used for beside the verbs: pages, watches that go on, streams, tokens, rights, in-cluster."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kubernetes import client, config, dynamic, stream, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.dynamic.exceptions import ConflictError, ResourceNotFoundError
from tests.matrix.commands_read import lodge, spare
from tests.matrix.desk import BUSYBOX, Desk
from tests.matrix.pythons import new_api
from tests.matrix.record import Absent, Cell, require
from tests.matrix.truth import until

Check = Callable[[Desk, client.ApiClient], None]
CHECKS: list[tuple[str, str, Check]] = []


def check(client_label: str, what: str) -> Callable[[Check], Check]:
    def note(body: Check) -> Check:
        CHECKS.append((client_label, what, body))
        return body

    return note


def try_python(desk: Desk) -> None:
    for label, what, body in CHECKS:
        cell = Cell("python", desk.server, what, "works", label, "M", "")
        with new_api(desk.truth) as api:
            desk.recorder.check(cell, lambda body=body, api=api: body(desk, api))


def maps(desk: Desk, *names: str) -> None:
    for name in names:
        document = desk.config_map(name, a=name)
        document["metadata"]["labels"] = {"py": desk.slug}
        desk.put(document)


@check("python typed", "list: limit, continue, remainingItemCount")
def pages(desk: Desk, api: client.ApiClient) -> None:
    maps(desk, "p1", "p2", "p3")
    core = client.CoreV1Api(api)
    seen, token = [], None
    while True:
        page = core.list_namespaced_config_map(desk.ns, label_selector=f"py={desk.slug}", limit=2, _continue=token)  # fmt: skip
        seen.append([item.metadata.name for item in page.items])
        token = page.metadata._continue
        if not token:
            break
    require(seen == [[desk.name("p1"), desk.name("p2")], [desk.name("p3")]], str(seen))
    whole = core.list_namespaced_config_map(desk.ns, limit=1)
    total = len(desk.get(desk.core("configmaps"))["items"])
    require(whole.metadata.remaining_item_count == total - 1, str(whole.metadata))


@check("python typed", "watch: from a resourceVersion")
def watching(desk: Desk, api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    maps(desk, "w1")
    version = core.list_namespaced_config_map(desk.ns).metadata.resource_version
    maps(desk, "w2")
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_config_map, desk.ns, resource_version=version, timeout_seconds=5):  # fmt: skip
        seen.append((event["type"], event["object"].metadata.name))
        break
    require(seen == [("ADDED", desk.name("w2"))], str(seen))


@check("python typed", "errors: the Status and its reason")
def errors(desk: Desk, api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    try:
        core.read_namespaced_config_map("nobody", desk.ns)
    except ApiException as error:
        require(error.status == 404 and '"reason":"NotFound"' in error.body, error.body)
    bad = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="Not_Valid"))
    try:
        core.create_namespaced_config_map(desk.ns, bad)
    except ApiException as error:
        require(error.status == 422 and "metadata.name" in error.body, error.body)
    else:
        require(False, "a name that is none was taken")


@check("python typed", "create_from_yaml, dry_run, field_validation")
def from_yaml(desk: Desk, api: client.ApiClient) -> None:
    path = desk.core("configmaps", desk.name("yaml"))
    desk.fresh(path)
    file = Path(desk.file("py.yaml", desk.config_map("yaml", a="b")))
    utils.create_from_yaml(api, str(file), namespace=desk.ns)
    desk.sees(path, {"data": {"a": "b"}})
    core = client.CoreV1Api(api)
    body = {"metadata": {"name": desk.name("dry-py")}, "dota": {}}
    try:
        core.create_namespaced_config_map(desk.ns, body, field_validation="Strict")
    except ApiException as error:
        require('unknown field \\"dota\\"' in error.body, error.body)
    core.create_namespaced_config_map(desk.ns, {"metadata": {"name": desk.name("dry-py")}}, dry_run="All")  # fmt: skip
    require(desk.truth.find(desk.core("configmaps", desk.name("dry-py"))) is None, "a dry run wrote")  # fmt: skip


@check("python typed", "token of a ServiceAccount; TokenReview, SelfSubjectReview")
def token(desk: Desk, api: client.ApiClient) -> None:
    given = new_token(desk, api, "py-robot")
    review = client.AuthenticationV1Api(api).create_token_review({"spec": {"token": given}})
    user = f"system:serviceaccount:{desk.ns}:{desk.name('py-robot')}"
    require(review.status.authenticated and review.status.user.username == user, str(review.status))
    review = client.AuthenticationV1Api(api).create_token_review({"spec": {"token": given + "x"}})
    require(not review.status.authenticated, "a broken token was believed")


def new_token(desk: Desk, api: client.ApiClient, account: str) -> str:
    name = desk.name(account)
    desk.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    body = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))  # fmt: skip
    made = client.CoreV1Api(api).create_namespaced_service_account_token(name, desk.ns, body)
    found: str = made.status.token
    return found


@check(
    "python typed",
    "rights: SelfSubjectAccessReview, SelfSubjectRulesReview, Subject-, LocalSubject-",
)
def rights(desk: Desk, api: client.ApiClient) -> None:
    reviews = client.AuthorizationV1Api(api)
    asked = {"resourceAttributes": {"verb": "create", "resource": "configmaps", "namespace": desk.ns}}  # fmt: skip
    require(reviews.create_self_subject_access_review({"spec": asked}).status.allowed, "the administrator may not")  # fmt: skip
    require(not reviews.create_subject_access_review({"spec": {**asked, "user": "eve"}}).status.allowed, "eve may")  # fmt: skip
    local = reviews.create_namespaced_local_subject_access_review(desk.ns, {"metadata": {"namespace": desk.ns}, "spec": {**asked, "user": "eve"}})  # fmt: skip
    require(not local.status.allowed, "eve may here")
    rules = reviews.create_self_subject_rules_review({"spec": {"namespace": desk.ns}}).status
    require(any("*" in r.verbs for r in rules.resource_rules), str(rules))


@check("python typed", "discovery: version, groups, resources, OpenID")
def discovery(desk: Desk, api: client.ApiClient) -> None:
    require(client.VersionApi(api).get_code().minor == "36", "version")
    groups = {g.name for g in client.ApisApi(api).get_api_versions().groups}
    require({"apps", "batch", "matrix.example.com"} <= groups, str(groups))
    names = {r.name for r in client.CoreV1Api(api).get_api_resources().resources}
    require({"pods", "pods/eviction", "pods/exec"} <= names, str(names))
    keys = client.OpenidApi(api).get_service_account_issuer_open_id_keyset()
    require("keys" in str(keys), str(keys))


@check("python typed", "eviction")
def eviction(desk: Desk, api: client.ApiClient) -> None:
    with spare(desk) as node:
        lodge(desk, "py-evicted", node)
        name = desk.here(desk.name("py-evicted"))
        body = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=desk.ns))
        client.CoreV1Api(api).create_namespaced_pod_eviction(name, desk.ns, body)
        desk.home.gone(desk.core("pods", desk.name("py-evicted")))


@check("python typed", "binding, ephemeral containers, resize")
def pod_parts(desk: Desk, api: client.ApiClient) -> None:
    if not desk.member:
        raise Absent("pods run in members: these are for a member's own scheduler and users")
    core = client.CoreV1Api(api)
    pod = {"terminationGracePeriodSeconds": 0, "schedulerName": "nobody", "containers": [{"name": "c", "image": BUSYBOX, "resources": {"requests": {"cpu": "100m"}}}]}  # fmt: skip
    path = desk.core("pods", desk.name("py-pod"))
    desk.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": desk.name("py-pod")}, "spec": pod})  # fmt: skip
    with spare(desk) as node:
        body = client.V1Binding(metadata=client.V1ObjectMeta(name=desk.name("py-pod")), target=client.V1ObjectReference(kind="Node", name=node))  # fmt: skip
        core.create_namespaced_pod_binding(desk.name("py-pod"), desk.ns, body, _preload_content=False)  # fmt: skip
        found = desk.get(path)
        require(found["spec"]["nodeName"] == node, str(found["spec"]))
        extra = {"spec": {"ephemeralContainers": [{"name": "dbg", "image": BUSYBOX}]}}
        core.patch_namespaced_pod_ephemeralcontainers(desk.name("py-pod"), desk.ns, extra)
        require(desk.get(path)["spec"]["ephemeralContainers"][0]["name"] == "dbg", "no ephemeral container")  # fmt: skip
        more = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "200m"}}}]}}
        core.patch_namespaced_pod_resize(desk.name("py-pod"), desk.ns, more)
        require(desk.get(path)["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "200m", "not resized")  # fmt: skip
        desk.truth.remove(path)


@check("python typed", "log: tail_lines, follow")
def log(desk: Desk, api: client.ApiClient) -> None:
    pod = desk.server_pod()
    core = client.CoreV1Api(api)
    require("it serves" in core.read_namespaced_pod_log(pod, desk.ns), "another log")
    answer = core.read_namespaced_pod_log(pod, desk.ns, follow=True, tail_lines=1, _preload_content=False)  # fmt: skip
    first = next(answer.stream(64))
    answer.close()
    require(first.strip(), "nothing followed")


@check("python typed", "exec by stream: both outputs, stdin, exit code")
def exec_stream(desk: Desk, api: client.ApiClient) -> None:
    pod = desk.server_pod()
    core = client.CoreV1Api(api)
    command = ["sh", "-c", "read x; echo out $x; echo err >&2; exit 7"]
    run = stream.stream(
        core.connect_get_namespaced_pod_exec, pod, desk.ns, command=command, stdin=True, stdout=True, stderr=True,
        tty=False, _preload_content=False,
    )  # fmt: skip
    run.write_stdin("typed\n")
    run.run_forever(timeout=20)
    require(run.read_stdout() == "out typed\n" and run.read_stderr() == "err\n", "other outputs")
    require(run.returncode == 7, f"exit code {run.returncode}")


@check("python typed", "exec by stream: by turns while it runs; all at once; the end of an input")
def exec_turns(desk: Desk, api: client.ApiClient) -> None:
    pod, core = desk.server_pod(), client.CoreV1Api(api)
    asked = {"name": pod, "namespace": desk.ns, "stdout": True, "stderr": True, "tty": False}
    command = ["sh", "-c", "while read x; do echo got $x; echo also $x >&2; done; echo over"]
    run = stream.stream(core.connect_get_namespaced_pod_exec, command=command, stdin=True, _preload_content=False, **asked)  # fmt: skip
    for word in ("one", "two", "three"):
        run.write_stdin(f"{word}\n")
        require(run.readline_stdout(timeout=20) == f"got {word}", word)
        require(run.readline_stderr(timeout=20) == f"also {word}", word)
    require(run.is_open() and run.returncode is None, "it ended early")
    run.update(timeout=0)
    run.close_channel(0)
    if run.subprotocol != "v5.channel.k8s.io":
        run.close()
    else:
        require(run.readline_stdout(timeout=20) == "over", "no end of the input")
        run.run_forever(timeout=20)
        require(run.returncode == 0, f"exit code {run.returncode}")
    whole = stream.stream(core.connect_get_namespaced_pod_exec, command=["sh", "-c", "echo out; echo err >&2"], stdin=False, **asked)  # fmt: skip
    require(sorted(whole.split()) == ["err", "out"], whole)


@check("python typed", "port-forward by stream")
def forward(desk: Desk, api: client.ApiClient) -> None:
    pod = desk.server_pod()
    core = client.CoreV1Api(api)
    forwarded = stream.portforward(core.connect_get_namespaced_pod_portforward, pod, desk.ns, ports="8080")  # fmt: skip
    socket = forwarded.socket(8080)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    said = b""
    while piece := socket.recv(4096):
        said += piece
    socket.close()
    require(said.endswith(b"hello\n"), str(said))


# ------------------------------------------------------------------------------------------------------- in a cluster
@contextlib.contextmanager
def mounted(desk: Desk, given: str) -> Iterator[Any]:
    """A loader on files like those of a pod's mount, with the variables of a pod."""
    folder = desk.scratch / "mount"
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(given)
    (folder / "ca.crt").write_bytes(desk.truth.access.ca)
    (folder / "namespace").write_text(desk.ns)
    host, _, port = desk.truth.access.server.removeprefix("https://").rpartition(":")
    environ = {**os.environ, "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    loader = config.incluster_config.InClusterConfigLoader(
        token_filename=str(folder / "token"), cert_filename=str(folder / "ca.crt"), environ=environ
    )
    made = client.Configuration()
    loader.load_and_set(made)
    yield made


@check("python typed", "in a cluster: a pod's mount, the account's rights and no others")
def in_cluster(desk: Desk, api: client.ApiClient) -> None:
    given = new_token(desk, api, "py-inside")
    account = {"kind": "ServiceAccount", "name": desk.name("py-inside"), "namespace": desk.ns}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    desk.put({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": desk.name("py-inside")}, "roleRef": role, "subjects": [account]})  # fmt: skip
    maps(desk, "inside")
    with mounted(desk, given) as configuration, client.ApiClient(configuration) as inside:
        core = client.CoreV1Api(inside)
        found = until(lambda: _read(core, desk), "it may not read")
        require(found.data == {"a": "inside"}, str(found.data))
        try:
            core.delete_namespaced_config_map(desk.name("inside"), desk.ns)
        except ApiException as error:
            require(error.status == 403 and desk.name("py-inside") in error.body, error.body)
        else:
            require(False, "it may delete")


def _read(core: client.CoreV1Api, desk: Desk) -> Any:
    try:
        return core.read_namespaced_config_map(desk.name("inside"), desk.ns)
    except ApiException:
        return None


@check("python typed", "leader election by a Lease")
def leader(desk: Desk, api: client.ApiClient) -> None:
    leases = client.CoordinationV1Api(api)
    path = desk.group("coordination.k8s.io/v1", "leases", desk.name("leader"))
    desk.fresh(path)
    body = {"metadata": {"name": desk.name("leader")}, "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15}}  # fmt: skip
    made = leases.create_namespaced_lease(desk.ns, body)
    wins: list[str] = []

    def take(who: str) -> None:
        with new_api(desk.truth) as own:
            copy = client.CoordinationV1Api(own).read_namespaced_lease(desk.name("leader"), desk.ns)
            copy.metadata.resource_version = made.metadata.resource_version
            copy.spec.holder_identity = who
            with contextlib.suppress(ApiException):
                client.CoordinationV1Api(own).replace_namespaced_lease(desk.name("leader"), desk.ns, copy)  # fmt: skip
                wins.append(who)

    threads = [threading.Thread(target=take, args=(who,)) for who in ("two", "three", "four")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    require(len(wins) == 1, f"{wins} all took it")
    require(desk.get(path)["spec"]["holderIdentity"] == wins[0], "another holds it")


# ------------------------------------------------------------------------------------------------------------ dynamic
@check("python dynamic", "a new custom kind is discovered at once")
def new_kind(desk: Desk, api: client.ApiClient) -> None:
    plural = f"py{desk.slug}s"
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.matrix.example.com"  # fmt: skip
    desk.fresh(definition)
    names = {"plural": plural, "singular": f"py{desk.slug}", "kind": f"Py{desk.slug}"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    spec = {"group": "matrix.example.com", "scope": "Cluster", "names": names, "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}]}  # fmt: skip
    dyn = dynamic.DynamicClient(api)
    crds = dyn.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    crds.create(body={"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.matrix.example.com"}, "spec": spec})  # fmt: skip
    began = time.monotonic()
    kinds = until(lambda: _kind(dyn, names["kind"]), "the kind is not discovered", 5)
    require(time.monotonic() - began < 5, "late")
    kinds.create(body={"apiVersion": "matrix.example.com/v1", "kind": names["kind"], "metadata": {"name": "one"}, "x": 1})  # fmt: skip
    require(kinds.get(name="one").x == 1, "read otherwise")
    desk.truth.remove(definition)


def _kind(dyn: Any, kind: str) -> Any:
    dyn.resources.invalidate_cache()
    try:
        return dyn.resources.get(api_version="matrix.example.com/v1", kind=kind)
    except ResourceNotFoundError:
        return None


@check("python dynamic", "server-side apply: conflict, force, what is dropped")
def dynamic_apply(desk: Desk, api: client.ApiClient) -> None:
    path = desk.group("matrix.example.com/v1", "widgets", desk.name("py-ssa"))
    desk.fresh(path)
    widgets = dynamic.DynamicClient(api).resources.get(api_version="matrix.example.com/v1", kind="Widget")  # fmt: skip

    def apply(manager: str, spec: dict[str, Any], **given: Any) -> None:
        body = {"apiVersion": "matrix.example.com/v1", "kind": "Widget", "metadata": {"name": desk.name("py-ssa")}, "spec": spec}  # fmt: skip
        widgets.server_side_apply(body=body, name=desk.name("py-ssa"), namespace=desk.ns, field_manager=manager, **given)  # fmt: skip

    apply("one", {"size": 1, "colour": "red"})
    try:
        apply("two", {"size": 2})
    except ConflictError as error:
        require('conflict with \\"one\\"' in str(error.body), str(error.body))
    else:
        require(False, "no conflict")
    apply("two", {"size": 2}, force_conflicts=True)
    apply("one", {"size": 2})
    require(desk.get(path)["spec"] == {"size": 2, "colour": "grey"}, lambda: str(desk.get(path)["spec"]))  # fmt: skip

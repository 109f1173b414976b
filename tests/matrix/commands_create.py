"""kubectl create, and what else makes objects: run, expose, autoscale. Each is read back with its values."""

import base64
import json
from pathlib import Path

from tests.matrix.clients import Failed
from tests.matrix.desk import NOWHERE, WHOAMI, Desk, command
from tests.matrix.kinds import Document
from tests.matrix.record import Absent, require
from tests.matrix.truth import until

from machinery.kit.clock import SystemClock
from machinery.server.pki import CertificateAuthority

RBAC = "rbac.authorization.k8s.io/v1"


def makes(desk: Desk, words: str, path: str, wanted: Document, *more: str) -> None:
    """`kubectl WORDS` makes the object at `path`, of which `wanted` is true; a rehearsal before it makes nothing."""
    desk.fresh(path)
    said = words.split()
    shown = desk.run(*said, "--dry-run=server", "-o", "json", *more)
    require(json.loads(shown)["metadata"]["name"] == path.rpartition("/")[2], f"rehearsed {shown}")
    require(desk.truth.find(path) is None, "a rehearsal made it")
    out = desk.run(*said, *more)
    require("created" in out, lambda: f"it said {out!r}")
    desk.sees(path, wanted)
    desk.truth.remove(path)


@command("create")
def create(desk: Desk) -> None:
    document = desk.config_map("made", a="b")
    desk.fresh(desk.core("configmaps", desk.name("made")))
    desk.run("create", "-f", desk.file("made.json", document))
    desk.sees(desk.core("configmaps", desk.name("made")), {"data": {"a": "b"}})
    said = desk.run("create", "-f", desk.file("made.json", document), code=1)
    require("already exists" in said, said)


@command("create clusterrole")
def clusterrole(desk: Desk) -> None:
    name = desk.name("cr")
    path = f"/apis/{RBAC}/clusterroles/{name}"
    rule = {"verbs": ["get", "list"], "apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"]}  # fmt: skip
    makes(desk, f"create clusterrole {name} --verb=get,list --resource=deployments.apps --resource-name=web", path, {"rules": [rule]})  # fmt: skip


def aggregated(desk: Desk, what: str) -> str:
    """A ClusterRole made of those that carry a label, of which there is one; the path of it."""
    name, part = desk.name(what), desk.name(f"{what}-part")
    path = f"/apis/{RBAC}/clusterroles/{name}"
    desk.fresh(path)
    desk.put(
        {
            "apiVersion": RBAC,
            "kind": "ClusterRole",
            "metadata": {"name": part, "labels": {what: desk.slug}},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
        }
    )
    desk.run("create", "clusterrole", name, f"--aggregation-rule={what}={desk.slug}")
    return path


@command("create clusterrole", "aggregation gives its rights")
def aggregation(desk: Desk) -> None:
    path = aggregated(desk, "sum")
    user = desk.name("sum-user")
    desk.run("create", "rolebinding", desk.name("sum"), f"--clusterrole={desk.name('sum')}", f"--user={user}")  # fmt: skip
    asked = ("auth", "can-i", "list", "pods", f"--as={user}")

    def may() -> bool:
        try:
            return "yes" in desk.run(*asked)
        except Failed:
            return False

    until(may, "who has the sum may not what its part allows")
    require("no" in desk.run("auth", "can-i", "delete", "pods", f"--as={user}", code=1), "more than that")  # fmt: skip
    desk.truth.remove(path)
    desk.truth.remove(desk.group(RBAC, "rolebindings", desk.name("sum")))


@command("create clusterrole", "aggregation shows the sum of rules", "S")
def aggregation_shown(desk: Desk) -> None:
    path = aggregated(desk, "shown")
    wanted = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    until(lambda: desk.get(path).get("rules") == wanted, "its rules do not show the sum")
    desk.truth.remove(path)


@command("create clusterrolebinding")
def clusterrolebinding(desk: Desk) -> None:
    name = desk.name("crb")
    makes(
        desk, f"create clusterrolebinding {name} --clusterrole=view --user=ann --group=devs",
        f"/apis/{RBAC}/clusterrolebindings/{name}",
        {"roleRef": {"name": "view", "kind": "ClusterRole"}, "subjects": [{"kind": "User", "name": "ann"}, {"kind": "Group", "name": "devs"}]},
    )  # fmt: skip


@command("create configmap")
def configmap(desk: Desk) -> None:
    file = desk.scratch / "conf.txt"
    file.write_text("colour=red\n")
    name = desk.name("cm")
    makes(
        desk, f"create configmap {name} --from-literal=a=b --from-file=conf={file}", desk.core("configmaps", name),
        {"data": {"a": "b", "conf": "colour=red\n"}},
    )  # fmt: skip


@command("create cronjob")
def cronjob(desk: Desk) -> None:
    name = desk.name("cj")
    makes(
        desk, f"create cronjob {name} --image={WHOAMI} --restart=Never", desk.group("batch/v1", "cronjobs", name),
        {"spec": {"schedule": "0 4 1 1 *", "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"image": WHOAMI}]}}}}}},
        "--schedule=0 4 1 1 *",
    )  # fmt: skip


@command("create deployment")
def deployment(desk: Desk) -> None:
    name = desk.name("dep")
    makes(
        desk, f"create deployment {name} --image={WHOAMI} --replicas=0 --port=80", desk.group("apps/v1", "deployments", name),
        {"spec": {"replicas": 0, "template": {"spec": {"containers": [{"image": WHOAMI, "ports": [{"containerPort": 80}]}]}}}},
    )  # fmt: skip


@command("create ingress")
def ingress(desk: Desk) -> None:
    name = desk.name("ing")
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    makes(
        desk, f"create ingress {name} --rule=matrix.example.com/path=web:80 --class=nobody",
        desk.group("networking.k8s.io/v1", "ingresses", name),
        {"spec": {"ingressClassName": "nobody", "rules": [{"host": "matrix.example.com", "http": {"paths": [{"path": "/path", "backend": backend}]}}]}},
    )  # fmt: skip


@command("create job")
def job(desk: Desk) -> None:
    name = desk.name("job")
    path = desk.group("batch/v1", "jobs", name)
    makes(desk, f"create job {name} --image={WHOAMI}", path, {"spec": {"template": {"spec": {"containers": [{"image": WHOAMI}]}}}}, "--", "true")  # fmt: skip


@command("create job", "from a cronjob")
def job_of_cronjob(desk: Desk) -> None:
    pod = {"restartPolicy": "Never", "nodeSelector": NOWHERE, "containers": [{"name": "c", "image": WHOAMI}]}  # fmt: skip
    spec = {"schedule": "0 4 1 1 *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    desk.put({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": desk.name("clock")}, "spec": spec})  # fmt: skip
    path = desk.group("batch/v1", "jobs", desk.name("now"))
    desk.fresh(path)
    desk.run("create", "job", desk.name("now"), f"--from=cronjob/{desk.name('clock')}")
    made = desk.sees(path, {"spec": {"template": {"spec": {"containers": [{"image": WHOAMI}]}}}})
    require(made["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"] == "manual", str(made["metadata"]))  # fmt: skip
    desk.truth.remove(path)
    desk.truth.remove(desk.group("batch/v1", "cronjobs", desk.name("clock")))


@command("create namespace")
def namespace(desk: Desk) -> None:
    name = desk.name("space")
    makes(desk, f"create namespace {name}", f"/api/v1/namespaces/{name}", {"spec": {"finalizers": ["kubernetes"]}})  # fmt: skip


@command("create poddisruptionbudget")
def budget(desk: Desk) -> None:
    name = desk.name("pdb")
    makes(
        desk, f"create poddisruptionbudget {name} --selector=app=nobody --min-available=50%",
        desk.group("policy/v1", "poddisruptionbudgets", name),
        {"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "nobody"}}}},
    )  # fmt: skip


@command("create priorityclass")
def priorityclass(desk: Desk) -> None:
    name = desk.name("pc")
    makes(
        desk, f"create priorityclass {name} --value=1000 --description=high",
        f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}",
        {"value": 1000, "description": "high", "preemptionPolicy": "PreemptLowerPriority"},
    )  # fmt: skip


@command("create quota")
def quota(desk: Desk) -> None:
    name = desk.name("quota")
    hard = {"count/widgets.matrix.example.com": "50"}
    makes(desk, f"create quota {name} --hard=count/widgets.matrix.example.com=50", desk.core("resourcequotas", name), {"spec": {"hard": hard}})  # fmt: skip


@command("create role")
def role(desk: Desk) -> None:
    name = desk.name("role")
    makes(
        desk, f"create role {name} --verb=watch --resource=pods,pods/log", desk.group(RBAC, "roles", name),
        {"rules": [{"verbs": ["watch"], "apiGroups": [""], "resources": ["pods", "pods/log"]}]},
    )  # fmt: skip


@command("create rolebinding")
def rolebinding(desk: Desk) -> None:
    name = desk.name("rb")
    makes(
        desk, f"create rolebinding {name} --clusterrole=view --serviceaccount={desk.ns}:robot", desk.group(RBAC, "rolebindings", name),
        {"roleRef": {"name": "view"}, "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": desk.ns}]},
    )  # fmt: skip


@command("create secret generic")
def secret(desk: Desk) -> None:
    name = desk.name("sec")
    makes(desk, f"create secret generic {name} --from-literal=word=hidden", desk.core("secrets", name), {"type": "Opaque", "data": {"word": "aGlkZGVu"}})  # fmt: skip


@command("create secret docker-registry")
def docker_registry(desk: Desk) -> None:
    name = desk.name("reg")
    path = desk.core("secrets", name)
    desk.fresh(path)
    desk.run("create", "secret", "docker-registry", name, "--docker-server=reg.example.com", "--docker-username=u", "--docker-password=p")  # fmt: skip
    made = desk.sees(path, {"type": "kubernetes.io/dockerconfigjson"})
    held = json.loads(base64.b64decode(made["data"][".dockerconfigjson"]))
    require(held["auths"]["reg.example.com"]["username"] == "u", str(held))


@command("create secret tls")
def tls(desk: Desk) -> None:
    certificate, key = pair(desk.scratch)
    name = desk.name("tls")
    wanted = {"type": "kubernetes.io/tls", "data": {"tls.crt": base64.b64encode(certificate.read_bytes()).decode()}}  # fmt: skip
    makes(desk, f"create secret tls {name} --cert={certificate} --key={key}", desk.core("secrets", name), wanted)  # fmt: skip


def pair(directory: Path) -> tuple[Path, Path]:
    """Files with a certificate and its key."""
    made = CertificateAuthority.create("matrix", SystemClock()).issue_client("somebody")
    certificate, key = directory / "tls.crt", directory / "tls.key"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    return certificate, key


@command("create service clusterip")
def clusterip(desk: Desk) -> None:
    name = desk.name("svc")
    makes(
        desk, f"create service clusterip {name} --tcp=80:8080", desk.core("services", name),
        {"spec": {"type": "ClusterIP", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}},
    )  # fmt: skip


@command("create service externalname")
def externalname(desk: Desk) -> None:
    name = desk.name("ext")
    makes(
        desk, f"create service externalname {name} --external-name=db.example.com", desk.core("services", name),
        {"spec": {"type": "ExternalName", "externalName": "db.example.com"}},
    )  # fmt: skip


@command("create service loadbalancer")
def loadbalancer(desk: Desk) -> None:
    name = desk.name("lb")
    makes(desk, f"create service loadbalancer {name} --tcp=80", desk.core("services", name), {"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}})  # fmt: skip


@command("create service nodeport")
def nodeport(desk: Desk) -> None:
    name = desk.name("np")
    path = desk.core("services", name)
    makes(desk, f"create service nodeport {name} --tcp=80 --node-port=31789", path, {"spec": {"type": "NodePort", "ports": [{"nodePort": 31789}]}})  # fmt: skip


@command("create serviceaccount")
def serviceaccount(desk: Desk) -> None:
    name = desk.name("sa")
    makes(desk, f"create serviceaccount {name}", desk.core("serviceaccounts", name), {"kind": "ServiceAccount"})  # fmt: skip


@command("create token")
def token(desk: Desk) -> None:
    name = desk.name("robot")
    desk.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    given = desk.run("create", "token", name, "--duration=20m", "--audience=matrix").strip()
    claims = json.loads(base64.urlsafe_b64decode(given.split(".")[1] + "=="))
    require(claims["sub"] == f"system:serviceaccount:{desk.ns}:{name}", str(claims))
    require(claims["aud"] == ["matrix"] and claims["exp"] - claims["iat"] == 1200, str(claims))
    said = desk.kubectl.run("auth", "whoami", "--token", given, "--client-certificate=", "--client-key=", code=1)  # fmt: skip
    require("Unauthorized" in said or "must be logged in" in said, f"a token for others was taken: {said}")  # fmt: skip


# ------------------------------------------------------------------------------------------------------- other makers
@command("run")
def run(desk: Desk) -> None:
    name = desk.name("run")
    path = desk.core("pods", name)
    words = ("run", name, f"--image={WHOAMI}", "--labels=app=run", "--env=A=b", "--port=80", "--overrides",
             json.dumps({"spec": {"nodeSelector": NOWHERE}}))  # fmt: skip
    if not desk.member:
        said = desk.run(*words, code=1)
        require("the federation runs no pods itself" in said, said)
        raise Absent("pods run in members: the refusal says to make a Deployment")
    desk.fresh(path)
    desk.run(*words)
    container = {"image": WHOAMI, "env": [{"name": "A", "value": "b"}], "ports": [{"containerPort": 80}]}  # fmt: skip
    desk.sees(path, {"metadata": {"labels": {"app": "run"}}, "spec": {"containers": [container], "nodeSelector": NOWHERE}})  # fmt: skip
    desk.truth.remove(path)


@command("expose")
def expose(desk: Desk) -> None:
    document = desk.put(desk.deployment("exposed"))
    path = desk.core("services", desk.name("exposed"))
    desk.fresh(path)
    desk.run("expose", "deployment", desk.name("exposed"), "--port=80", "--target-port=8080")
    selector = document["spec"]["selector"]["matchLabels"]
    desk.sees(path, {"spec": {"selector": selector, "ports": [{"port": 80, "targetPort": 8080}]}})
    desk.truth.remove(path)
    desk.truth.remove(desk.group("apps/v1", "deployments", desk.name("exposed")))


@command("autoscale")
def autoscale(desk: Desk) -> None:
    desk.put(desk.deployment("scaled"))
    path = desk.group("autoscaling/v2", "horizontalpodautoscalers", desk.name("scaled"))
    desk.truth.remove(path)
    percent = (
        "--cpu=70%" if "--cpu=" in desk.kubectl.run("autoscale", "--help") else "--cpu-percent=70"
    )
    desk.run("autoscale", "deployment", desk.name("scaled"), "--min=1", "--max=4", percent)
    target = {"type": "Utilization", "averageUtilization": 70}
    desk.sees(
        path,
        {
            "spec": {
                "minReplicas": 1,
                "maxReplicas": 4,
                "scaleTargetRef": {"name": desk.name("scaled"), "kind": "Deployment"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            }
        },
    )
    desk.truth.remove(path)
    desk.truth.remove(desk.group("apps/v1", "deployments", desk.name("scaled")))

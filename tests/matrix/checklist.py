"""What no client's verb shows: items of the checklist (local-orchestrator.md, section 1) by plain HTTP, each with its level.

The golden tests play hundreds of recorded conversations about these; here each item is asked once of a running program.
"""

import gzip
import http.client
import json
import urllib.parse
from collections.abc import Callable
from typing import Any

from tests.matrix.desk import Desk
from tests.matrix.record import Absent, Cell, require
from tests.matrix.truth import until

Check = Callable[["Asked"], None]
ITEMS: list[tuple[str, str, Check]] = []
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Asked:
    """A desk with plain requests."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        place = urllib.parse.urlsplit(self.desk.truth.access.server)
        connection = http.client.HTTPSConnection(
            place.hostname or "", place.port, context=self.desk.truth.access.ssl_context(), timeout=30
        )  # fmt: skip
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def maps(self, name: str = "") -> str:
        return self.desk.core("configmaps", self.desk.name(name) if name else "")

    def made(self, name: str, **data: str) -> Any:
        return self.desk.put(self.desk.config_map(name, **data))


def item(what: str, level: str = "M") -> Callable[[Check], Check]:
    def note(body: Check) -> Check:
        ITEMS.append((what, level, body))
        return body

    return note


def try_checklist(desk: Desk) -> None:
    for what, level, body in ITEMS:
        cell = Cell("checklist", desk.server, what, "works", "http", level, "")
        desk.recorder.check(cell, lambda body=body: body(Asked(desk)))


# ------------------------------------------------------------------------------------------------------ 1.2 discovery
@item("1.2 aggregated discovery, with the parameters of its type")
def aggregated(a: Asked) -> None:
    kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer = a.ask("GET", "/apis", Accept=kind)
    told = answer.headers["Content-Type"].replace(" ", "")
    require(told.startswith(kind), told)
    apps = next(g for g in answer.json["items"] if g["metadata"]["name"] == "apps")
    found = {r["resource"]: r for v in apps["versions"] for r in v["resources"]}["deployments"]
    require({"deploy"} <= set(found["shortNames"]) and found["categories"] == ["all"], str(found))
    require({s["subresource"] for s in found["subresources"]} == {"scale", "status"}, str(found))
    again = a.ask("GET", "/apis", Accept=kind, If_None_Match=answer.headers.get("ETag", ""))
    require(again.status == 304, f"ETag: {again.status}")


@item("1.2 pods/eviction is of policy/v1 in the legacy list (drain keeps budgets)")
def eviction_listed(a: Asked) -> None:
    found = {r["name"]: r for r in a.ask("GET", "/api/v1").json["resources"]}["pods/eviction"]
    require((found["group"], found["version"], found["kind"]) == ("policy", "v1", "Eviction"), str(found))  # fmt: skip


@item("1.2 /healthz, /livez, /readyz?verbose, /version, /metrics, OpenID documents")
def health(a: Asked) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        require(a.ask("GET", path).body == b"ok", path)
    require(b"[+]" in a.ask("GET", "/readyz?verbose").body, "verbose")
    require(b"apiserver_request" in a.ask("GET", "/metrics").body, "metrics")
    issuer = a.ask("GET", "/.well-known/openid-configuration").json
    require("issuer" in issuer and a.ask("GET", "/openid/v1/jwks").json["keys"], str(issuer))


@item("1.2 a new custom kind is in discovery and OpenAPI within a second")
def discovered(a: Asked) -> None:
    document = {"type": "object", "properties": {"deep": {"type": "string"}}}
    name = f"asked{a.desk.slug}s"
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}.matrix.example.com"
    a.desk.fresh(path)
    names = {"plural": name, "singular": name[:-1], "kind": name.capitalize()}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": document}}  # fmt: skip
    spec = {"group": "matrix.example.com", "scope": "Cluster", "names": names, "versions": [version]}  # fmt: skip
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{name}.matrix.example.com"}, "spec": spec}  # fmt: skip
    before = a.ask("GET", "/openapi/v3").json["paths"]["apis/matrix.example.com/v1"]
    a.desk.truth.api.create(path.rpartition("/")[0], body)
    until(lambda: name in [r["name"] for r in a.ask("GET", "/apis/matrix.example.com/v1").json["resources"]], "not discovered", 2)  # fmt: skip
    after = until(lambda: (p := a.ask("GET", "/openapi/v3").json["paths"]["apis/matrix.example.com/v1"]) != before and p, "the hash is the same", 2)  # fmt: skip
    require(b"deep" in a.ask("GET", after["serverRelativeURL"]).body, "no schema")
    a.desk.truth.remove(path)


# ------------------------------------------------------------------------------------------------ 1.3, 1.4 OpenAPI, wire
@item("1.3 OpenAPI v3: fieldValidation, patch strategies, kinds")
def openapi(a: Asked) -> None:
    where = a.ask("GET", "/openapi/v3").json["paths"]["apis/apps/v1"]["serverRelativeURL"]
    document = a.ask("GET", where).json
    path = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    require(path["x-kubernetes-group-version-kind"]["kind"] == "Deployment", str(path)[:300])
    require("fieldValidation" in {p.get("name") for p in path["parameters"]}, "no fieldValidation")
    pod = document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"][
        "containers"
    ]
    require((pod["x-kubernetes-patch-strategy"], pod["x-kubernetes-patch-merge-key"]) == ("merge", "name"), str(pod)[:300])  # fmt: skip


@item("1.3 OpenAPI v2 in JSON", "S")
def openapi_v2(a: Asked) -> None:
    found = a.ask("GET", "/openapi/v2", Accept="application/json").json
    require(found["swagger"] == "2.0" and "io.k8s.api.apps.v1.Deployment" in found["definitions"], "not v2")  # fmt: skip


@item("1.4 Table and PartialObjectMetadata, for LIST and WATCH")
def tables(a: Asked) -> None:
    a.made("table", a="b")
    query = f"?fieldSelector=metadata.name%3D{a.desk.name('table')}"
    found = a.ask("GET", a.maps() + query, Accept=TABLE).json
    require([c["name"] for c in found["columnDefinitions"]] == ["Name", "Data", "Age"], str(found))
    require(found["rows"][0]["cells"][:2] == [a.desk.name("table"), 1], str(found["rows"]))
    found = a.ask("GET", a.maps() + query, Accept=PARTIAL).json
    require("data" not in found["items"][0] and found["items"][0]["kind"] == "PartialObjectMetadata", str(found))  # fmt: skip
    lines = a.ask("GET", a.maps() + query + "&watch=1&timeoutSeconds=1", Accept=TABLE).body.splitlines()  # fmt: skip
    event = json.loads(lines[0])
    require(event["object"]["kind"] == "Table" and event["object"]["columnDefinitions"], str(event))


@item("1.4 YAML both ways; gzip; 406 and 415")
def media(a: Asked) -> None:
    path = a.maps("yaml-http")
    a.desk.fresh(path)
    body = f"metadata: {{name: {a.desk.name('yaml-http')}}}\ndata: {{a: b}}\n".encode()
    require(a.ask("POST", a.maps(), body, Content_Type="application/yaml").status == 201, "YAML")
    require(b"a: b" in a.ask("GET", path, Accept="application/yaml").body, "no YAML back")
    big = a.made("big", **{f"k{n}": "x" * 1000 for n in range(200)})
    packed = a.ask("GET", a.maps("big"), Accept_Encoding="gzip")
    require(packed.headers.get("Content-Encoding") == "gzip", "not packed")
    require(json.loads(gzip.decompress(packed.body))["data"] == big["data"], "unpacked otherwise")
    require(a.ask("GET", path, Accept="text/html").status == 406, "406")
    require(a.ask("POST", a.maps(), b"x", Content_Type="text/plain").status == 415, "415")


@item("1.4 bodies of more than 3 MiB are refused with 413")
def too_large(a: Asked) -> None:
    data = {"metadata": {"name": "large"}, "data": {"a": "x" * (3 * 1024 * 1024 + 10)}}
    require(a.ask("POST", a.maps(), data).status == 413, "taken")


# ----------------------------------------------------------------------------------------------------- 1.7 LIST, WATCH
@item("1.7 LIST: exact at a revision, not older than, invalid combinations")
def exact(a: Asked) -> None:
    a.made("exact", a="1")
    version = a.ask("GET", a.maps()).json["metadata"]["resourceVersion"]
    a.desk.truth.api.request("PATCH", a.maps("exact"), {"data": {"a": "2"}}, "merge-patch+json")

    def data(query: str) -> Any:
        items = a.ask("GET", f"{a.maps()}?{query}").json["items"]
        return next(i["data"] for i in items if i["metadata"]["name"] == a.desk.name("exact"))

    require(data(f"resourceVersion={version}&resourceVersionMatch=Exact") == {"a": "1"}, "exact")
    require(data(f"resourceVersion={version}&resourceVersionMatch=NotOlderThan") == {"a": "2"}, "not older")  # fmt: skip
    answer = a.ask("GET", f"{a.maps()}?resourceVersionMatch=Exact")
    require(answer.status == 422, f"{answer.status}")
    ahead = a.ask("GET", f"{a.maps()}?resourceVersion=99999999999")
    require(ahead.status == 504 and ahead.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge", str(ahead.body))  # fmt: skip


@item("1.7 WATCH: synthetic ADDED, initial events and their bookmark")
def initial(a: Asked) -> None:
    a.made("init", a="1")
    query = f"watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3D{a.desk.name('init')}"
    events = [json.loads(line) for line in a.ask("GET", f"{a.maps()}?{query}").body.splitlines()]
    require([e["type"] for e in events] == ["ADDED"], str(events))
    more = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    events = [
        json.loads(line) for line in a.ask("GET", f"{a.maps()}?{query}{more}").body.splitlines()
    ]
    require([e["type"] for e in events][:2] == ["ADDED", "BOOKMARK"], str(events))
    marks = events[1]["object"]["metadata"]["annotations"]
    require(marks == {"k8s.io/initial-events-end": "true"}, str(marks))


@item("1.7 a selector turns MODIFIED into ADDED and DELETED")
def selector(a: Asked) -> None:
    a.desk.fresh(a.maps("sel"))
    version = a.ask("GET", a.maps()).json["metadata"]["resourceVersion"]
    a.made("sel")
    for label in ("yes", None):
        a.desk.truth.api.request("PATCH", a.maps("sel"), {"metadata": {"labels": {"chosen": label}}}, "merge-patch+json")  # fmt: skip
    query = f"watch=1&timeoutSeconds=1&resourceVersion={version}&labelSelector=chosen%3Dyes"
    events = [
        json.loads(line)["type"] for line in a.ask("GET", f"{a.maps()}?{query}").body.splitlines()
    ]
    require(events == ["ADDED", "DELETED"], str(events))


# ------------------------------------------------------------------------------------------------------ 1.8 lifecycle
@item("1.8 generateName")
def generated(a: Asked) -> None:
    made = [a.ask("POST", a.maps(), {"metadata": {"generateName": a.desk.name("gen-")}}).json for _ in range(2)]  # fmt: skip
    names = {m["metadata"]["name"] for m in made}
    require(len(names) == 2 and all(len(n) == len(a.desk.name("gen-")) + 5 for n in names), str(names))  # fmt: skip


@item("1.8 fieldValidation Strict, Warn (Warning header), Ignore")
def validation(a: Asked) -> None:
    body = {"metadata": {"name": a.desk.name("fv")}, "dota": {}}
    a.desk.fresh(a.maps("fv"))
    require(a.ask("POST", f"{a.maps()}?fieldValidation=Strict", body).status == 400, "Strict")
    warned = a.ask("POST", f"{a.maps()}?fieldValidation=Warn&dryRun=All", body)
    require(warned.headers.get("Warning") == '299 - "unknown field \\"dota\\""', str(warned.headers.get("Warning")))  # fmt: skip
    silent = a.ask("POST", f"{a.maps()}?fieldValidation=Ignore&dryRun=All", body)
    require(silent.status == 201 and silent.headers.get("Warning") is None, "Ignore")
    require(a.desk.truth.find(a.maps("fv")) is None, "a dry run wrote")


@item("1.8 DELETE: preconditions, propagation, 202 with finalizers, only their removal")
def deletion(a: Asked) -> None:
    made = a.made("del")
    wrong = a.ask("DELETE", a.maps("del"), {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}})  # fmt: skip
    require(wrong.status == 409, f"{wrong.status}")
    a.desk.truth.api.request("PATCH", a.maps("del"), {"metadata": {"finalizers": ["a.b/c"]}}, "merge-patch+json")  # fmt: skip
    answer = a.ask("DELETE", a.maps("del"), {"preconditions": {"uid": made["metadata"]["uid"]}})
    require(answer.status == 200 and answer.json["metadata"]["deletionTimestamp"], str(answer.body))
    more = a.ask("PATCH", a.maps("del"), {"metadata": {"finalizers": ["a.b/c", "d.e/f"]}}, Content_Type=MERGE)  # fmt: skip
    require(more.status == 422, "a finalizer was added to what is deleted")
    a.ask("PATCH", a.maps("del"), {"metadata": {"finalizers": None}}, Content_Type=MERGE)
    require(a.desk.truth.find(a.maps("del")) is None, "it outlived its last finalizer")


@item("1.8 owner references: a child goes with its owner")
def collected(a: Asked) -> None:
    owner = a.made("owner")
    child = a.desk.config_map("child")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": a.desk.name("owner"), "uid": owner["metadata"]["uid"]}  # fmt: skip
    child["metadata"]["ownerReferences"] = [reference]
    a.desk.put(child)
    a.ask("DELETE", a.maps("owner"))
    a.desk.truth.gone(a.maps("child"), 40)


@item("1.8 generation counts changes of the spec alone; a write that changes nothing is none")
def generation(a: Asked) -> None:
    path = a.desk.group("matrix.example.com/v1", "widgets", a.desk.name("gen"))
    a.desk.fresh(path)
    body = {"apiVersion": "matrix.example.com/v1", "kind": "Widget", "metadata": {"name": a.desk.name("gen")}, "spec": {"size": 1}}  # fmt: skip
    a.desk.truth.api.create(path.rpartition("/")[0], body)
    steps: list[tuple[str, Any, int]] = [
        ("/status", {"status": {"ready": 3}}, 1),
        ("", {"metadata": {"labels": {"a": "b"}}}, 1),
        ("", {"spec": {"size": 2}}, 2),
    ]
    for where, patch, wanted in steps:
        found = a.ask("PATCH", path + where, patch, Content_Type=MERGE).json["metadata"]
        require(found["generation"] == wanted, f"{patch}: {found['generation']}")
    again = a.ask("PATCH", path, {"spec": {"size": 2}}, Content_Type=MERGE).json["metadata"]
    require(again["resourceVersion"] == found["resourceVersion"], "nothing was changed, and it is newer")  # fmt: skip
    a.desk.truth.remove(path)


@item("1.8 a namespace ends with all that is in it")
def namespace(a: Asked) -> None:
    name = a.desk.name("ends")
    path = f"/api/v1/namespaces/{name}"
    a.desk.fresh(path)
    a.desk.truth.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    held = f"{path}/configmaps"
    a.desk.truth.api.create(held, {"metadata": {"name": "held", "finalizers": ["a.b/c"]}})
    a.ask("DELETE", path)
    until(lambda: a.desk.get(path)["status"]["phase"] == "Terminating", "not Terminating")
    late = a.ask("POST", held, {"metadata": {"name": "late"}})
    require(late.status == 403 and "being terminated" in late.json["message"], str(late.body))
    until(lambda: "held" in str(a.desk.get(path)["status"].get("conditions")) or "remain" in str(a.desk.get(path)["status"].get("conditions")), "no condition says what remains")  # fmt: skip
    a.ask("PATCH", f"{held}/held", {"metadata": {"finalizers": None}}, Content_Type=MERGE)
    a.desk.truth.gone(path, 40)


# --------------------------------------------------------------------------------------------------------- 1.9 errors
@item("1.9 errors in upstream's words; conflicts; unknown field selectors")
def errors(a: Asked) -> None:
    missing = a.ask("GET", a.desk.group("apps/v1", "deployments", "nobody")).json
    require(missing["message"] == 'deployments.apps "nobody" not found', str(missing))
    made = a.made("stale", a="1")
    a.desk.truth.api.request("PATCH", a.maps("stale"), {"data": {"a": "2"}}, "merge-patch+json")
    stale = a.ask("PUT", a.maps("stale"), made).json
    require("the object has been modified; please apply your changes to the latest version" in stale["message"], str(stale))  # fmt: skip
    refused = a.ask("GET", f"{a.maps()}?fieldSelector=data.a%3D1")
    require(refused.status == 400 and "is not a known field selector" in refused.json["message"], str(refused.body))  # fmt: skip
    eve = a.ask("GET", a.maps(), Impersonate_User="eve")
    wanted = f'configmaps is forbidden: User "eve" cannot list resource "configmaps" in API group "" in the namespace "{a.desk.ns}"'  # fmt: skip
    require(eve.status == 403 and eve.json["message"] == wanted, str(eve.body))


# ---------------------------------------------------------------------------------------------------- 1.11 who may what
@item("1.11 ResourceQuota counts and refuses")
def admission(a: Asked) -> None:
    if not a.desk.member:
        raise Absent("a template here: members enforce it; FederatedResourceQuota is for the fleet")
    quota = a.desk.core("resourcequotas", a.desk.name("q"))
    path = a.desk.group("matrix.example.com/v1", "widgets")
    there = len(a.desk.get(path)["items"])
    hard = {"spec": {"hard": {"count/widgets.matrix.example.com": str(there + 1)}}}
    a.desk.put({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": a.desk.name("q")}, **hard})  # fmt: skip
    a.desk.sees(quota, {"status": {"hard": hard["spec"]["hard"]}})
    body = {"apiVersion": "matrix.example.com/v1", "kind": "Widget", "metadata": {"generateName": "q-"}, "spec": {"size": 1}}  # fmt: skip
    answers = [a.ask("POST", path, body) for _ in range(2)]
    a.desk.truth.remove(quota)
    require([x.status for x in answers] == [201, 403], str([x.status for x in answers]))
    require("exceeded quota" in answers[1].json["message"], str(answers[1].body))
    a.desk.truth.remove(f"{path}/{answers[0].json['metadata']['name']}")


@item("1.11 custom kinds: structural schema, defaults, pruning, wrong values refused")
def structural(a: Asked) -> None:
    path = a.desk.group("matrix.example.com/v1", "widgets")
    base = {"apiVersion": "matrix.example.com/v1", "kind": "Widget", "metadata": {"name": a.desk.name("str")}}  # fmt: skip
    a.desk.fresh(f"{path}/{a.desk.name('str')}")
    found = a.ask("POST", path, {**base, "spec": {"size": 1, "unknown": True}}).json
    require(found["spec"] == {"size": 1, "colour": "grey"}, str(found["spec"]))
    wrong = a.ask("POST", path, {**base, "spec": {"size": 0}}).json
    require("spec.size: Invalid value: 0" in wrong["message"], str(wrong))
    a.desk.truth.remove(f"{path}/{a.desk.name('str')}")


@item("1.11 events: one store, seen as v1 and as events.k8s.io/v1")
def events(a: Asked) -> None:
    name = a.desk.name("two")
    regarding = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "namespace": a.desk.ns}
    body = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "involvedObject": regarding, "reason": "Matrix", "message": "seen twice", "type": "Normal"}  # fmt: skip
    a.desk.put(body)
    found = a.desk.get(a.desk.group("events.k8s.io/v1", "events", name))
    require(found["note"] == "seen twice" and found["regarding"]["name"] == "x", str(found))
    a.desk.truth.remove(a.desk.core("events", name))

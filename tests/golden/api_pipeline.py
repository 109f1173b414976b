"""Recorded writes of a real server, played through decode, defaults, strategy and validation alone.

What the server itself adds (uid, times, revisions, managedFields, the requestor of a CSR) is left out of the comparison;
the two admission steps that the recordings show on every pod and node are imitated here, in the order of upstream:
defaults, admission, strategy, validation.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from machinery.api import strategy
from machinery.api.decode import decode_body
from machinery.api.defaults import apply_defaults
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme, ServedKind
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.api.validation import validate_create, validate_update
from machinery.api.warnings import warnings_of
from machinery.meta.errors import StatusError, invalid

FOLDER = Path(__file__).parent / "api"
SCHEME = Scheme((*BUILTIN, *TEMPLATE_KINDS))
SUFFIX = "zzzzz"
UID = "0c3e7d52-9d6b-4f0e-8a43-6f0f6e7b1a2d"
"""What stands in a Job's selector where the recording has <uid:1>."""
PROTECTION = (["kubernetes.io/pvc-protection"], ["kubernetes.io/vac-protection"])
"""Admission gives it to objects of storage, and a controller takes it away; there is neither here."""
SERVERS_OWN = ("Service", "Endpoints")
"""What becomes of a Service depends on the addresses in use, and the advice on Endpoints is the server's own."""
SERVER_SET = ("uid", "resourceVersion", "creationTimestamp", "managedFields")
REQUESTOR = ("username", "uid", "groups")
DEFAULT_TOLERATIONS = [
    {
        "key": f"node.kubernetes.io/{state}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    for state in ("not-ready", "unreachable")
]
Json = Any


@dataclass(frozen=True)
class Target:
    """What a recorded URL speaks of."""

    kind: ServedKind
    namespace: str
    name: str
    subresource: str
    query: dict[str, list[str]]


@dataclass(frozen=True)
class Case:
    """One recorded write, with the object as it was before."""

    id: str
    target: Target
    raw: bytes
    media_type: str
    live: Json
    status: int
    body: Json
    warnings: tuple[str, ...]


def target_of(path: str) -> Target | None:
    url = urlsplit(path)
    parts = url.path.strip("/").split("/")
    group = "" if parts[0] == "api" else parts[1]
    version, *rest = parts[1:] if not group else parts[2:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = SCHEME.by_plural(group, version, rest[0])
    name, subresource = (*rest[1:], "", "")[:2]
    if kind is None:
        return None
    return Target(kind, namespace, name, subresource, parse_qs(url.query))


def timed(value: Json) -> Json:
    text = json.dumps(value).replace("<time>", "2026-01-01T00:00:00Z")
    text = re.sub(r'"<nodePort:(\d+)>"', lambda m: str(30086 + int(m[1])), text)
    text = re.sub(r"<clusterIP:(\d+)>", r"10.0.1.\1", text)
    return json.loads(text.replace("<microtime>", "2026-01-01T00:00:00.000000Z"))


def cases(file: str) -> Iterator[Case]:
    """The writes of one file that end in an object, a 400 or a 422 of the object itself."""
    live: dict[tuple[str, str, str], Json] = {}
    for line in (FOLDER / f"{file}.jsonl").read_text().splitlines():
        record = json.loads(line)
        request, response = record["request"], record["response"]
        target = target_of(request["path"])
        if target is None or "body" not in response:
            continue
        body, name = response["body"], target.name
        key = (record["seq"], target.kind.kind, name)
        before = live.get(key)
        stored = response["status"] < 300 and "dryRun" not in target.query
        if stored and isinstance(body, dict) and body.get("kind") == target.kind.kind:
            live[record["seq"], target.kind.kind, body["metadata"].get("name", "")] = timed(body)
        if wanted(target, request, response) and (request["method"] == "POST" or before):
            yield Case(
                record["id"],
                target,
                body_of(request),
                (request.get("headers") or {}).get("Content-Type", "application/json"),
                before if request["method"] == "PUT" else None,
                response["status"],
                timed(body),
                tuple(response["headers"].get("warning") or ()),
            )


def wanted(target: Target, request: Json, response: Json) -> bool:
    if request["method"] not in ("POST", "PUT") or response["status"] not in (200, 201, 400, 422):
        return False
    if not target.kind.storable:  # reviews are answered, not stored
        return False
    if target.kind.kind in SERVERS_OWN:
        return False
    if target.subresource and (request["method"] == "POST" or target.subresource == "scale"):
        return False
    if request.get("body") is None and "body_raw" not in request:
        return False
    if request.get("body_raw", "").startswith("base64:"):
        return False
    body = response["body"]
    of_the_request = r"on the URL|Options|namespace sent on"
    return body.get("kind") != "Status" or not re.search(of_the_request, body["message"])


def body_of(request: Json) -> bytes:
    if "body_raw" in request:
        return str(request["body_raw"]).encode()
    return json.dumps(timed(request["body"])).encode()


# ------------------------------------------------------------------------------------------------------- the pipeline
def play(case: Case) -> tuple[int, Json, tuple[str, ...]]:
    """Status, comparable body and warnings."""
    kind = case.target.kind
    field_validation = case.target.query.get("fieldValidation", [""])[0]
    try:
        decoded = decode_body(kind, case.raw, case.media_type, field_validation)
        step = created if case.live is None else updated
        document = step(case, decoded.document)
    except StatusError as error:
        return error.status_code, error.to_status(), ()
    advice = warnings_of(kind, document, creating=case.live is None)
    return 201, comparable(document), (*decoded.warnings, *advice)


def created(case: Case, document: Json) -> Json:
    kind = case.target.kind
    metadata = dict(document.get("metadata") or {})
    if kind.namespaced:
        metadata["namespace"] = case.target.namespace
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"][:58] + SUFFIX
    document = admitted(kind, apply_defaults(kind, {**document, "metadata": metadata}), None)
    document = strategy.prepare_create(kind, document)
    stamp = {**document["metadata"], "uid": UID}
    document = strategy.stamped(kind, {**document, "metadata": stamp})
    if causes := validate_create(kind, document):
        raise invalid(kind.kind, kind.group, metadata.get("name", ""), causes)
    return document


def updated(case: Case, document: Json) -> Json:
    kind, target = case.target.kind, case.target
    metadata = dict(document.get("metadata") or {})
    if kind.namespaced:
        metadata.setdefault("namespace", target.namespace)
    document = apply_defaults(kind, {**document, "metadata": metadata})
    if not target.subresource:
        document = admitted(kind, document, case.live)
    document = strategy.prepare_update(kind, document, case.live, target.subresource)
    if causes := validate_update(kind, document, case.live, target.subresource):
        raise invalid(kind.kind, kind.group, target.name, causes)
    return document


def admitted(kind: ServedKind, document: Json, live: Json) -> Json:
    spec = dict(document.get("spec") or {})
    if kind.kind == "Pod":
        found = list(spec.get("tolerations") or [])
        spec["tolerations"] = found + [t for t in DEFAULT_TOLERATIONS if not _tolerated(t, found)]
        before = (live or {}).get("spec") or {
            "priority": 0,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        for key in ("priority", "preemptionPolicy"):
            if key in before:
                spec.setdefault(key, before[key])
        return {**document, "spec": spec}
    if kind.kind == "Node" and live is None:
        taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
        spec["taints"] = [*(spec.get("taints") or []), taint]
        return {**document, "spec": spec}
    return document


def _tolerated(default: Json, found: list[Json]) -> bool:
    return any(
        one.get("effect", "NoExecute") == "NoExecute" and one.get("key") == default["key"]
        for one in found
    )


def comparable(body: Json) -> Json:
    """A body without what only a running server can know."""
    text = json.dumps(body).replace("<uid:1>", UID)
    body = json.loads(re.sub(r"<rand:\d+>|A_685np", _suffix, text))
    if body.get("kind") == "Status":
        return body
    metadata = {k: v for k, v in body["metadata"].items() if k not in SERVER_SET}
    if metadata.get("finalizers") in PROTECTION:
        del metadata["finalizers"]
    out = {**body, "metadata": metadata}
    if body["kind"] == "CertificateSigningRequest":
        out["spec"] = {k: v for k, v in body["spec"].items() if k not in REQUESTOR}
    return out


def _suffix(found: re.Match[str]) -> str:
    return SUFFIX if found[0].startswith("<") else "A_" + SUFFIX


def recorded(case: Case) -> tuple[int, Json, tuple[str, ...]]:
    status = case.status if case.status >= 400 else 201
    texts = tuple(
        text[len('299 - "') : -1].replace('\\"', '"').replace("\\n", "\n") for text in case.warnings
    )
    return status, comparable(case.body), texts if status < 400 else ()

"""Karmada's recorded answers to writes of its kinds, played through decoding, defaults, admission and validation.

Of every accepted write the stored object is compared, of every refused one the code and the whole message.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from federation.propagation.admission.plugin import KarmadaKinds
from machinery.api import strategy
from machinery.api.decode import decode_body
from machinery.api.defaults import apply_defaults
from machinery.api.fleet.kinds import FLEET
from machinery.api.scheme import Scheme, ServedKind
from machinery.api.validation import validate_create, validate_update
from machinery.meta.errors import StatusError, invalid
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.call import Call
from machinery.server.user import UserInfo

HERE = Path(__file__).parent / "karmada"
SCHEME = Scheme(FLEET)
KINDS = {kind.kind: kind for kind in SCHEME.kinds}
ACCEPTED = (
    "PropagationPolicy", "ClusterPropagationPolicy", "OverridePolicy", "ClusterOverridePolicy",
    "ResourceBinding", "ClusterResourceBinding", "Work", "WorkloadRebalancer",
    "ClusterTaintPolicy", "FederatedResourceQuota", "CronFederatedHPA",
    "FederatedHPA", "ResourceInterpreterCustomization",
)  # fmt: skip
UUID = "0c3e7d52-9d6b-4f0e-8a43-6f0f6e7b1a2d"
"""What stands for the recording's `<uuid>`: a label must be able to hold it."""
CASES = [
    case
    for case in map(
        json.loads, (HERE / "webhook.jsonl").read_text().replace("<uuid>", UUID).splitlines()
    )
    if case["input"].get("kind") in ACCEPTED
]
BOOK_KEEPING = (
    "resourcetemplate.karmada.io/managed-annotations",
    "resourcetemplate.karmada.io/managed-labels",
)
"""Of manifests in Works: what Karmada's agent takes away again by. Here the member's server knows, by field managers."""


class OneId:
    """Ids as the recording masks them."""

    def uid(self) -> str:
        return UUID

    def suffix(self, length: int = 5) -> str:
        return "x" * length


PLUGIN = KarmadaKinds(OneId())


def call() -> Call:
    return Call(user=UserInfo("tester"))


def play(case: dict[str, Any]) -> tuple[int, Document | str]:
    """Status code, and the object or the message."""
    kind = KINDS[case["input"]["kind"]]
    step = {"CREATE": created, "UPDATE": updated, "DELETE": deleted}[case["operation"]]
    try:
        return step(kind, case)
    except StatusError as error:
        return error.status_code, str(error)


def decoded(kind: ServedKind, body: Document) -> Document:
    document = decode_body(kind, json.dumps(body).encode(), "application/json", "").document
    metadata = dict(document["metadata"])
    if kind.namespaced:
        metadata.setdefault("namespace", "default")
    return apply_defaults(kind, {**document, "metadata": metadata})


def request(kind: ServedKind, verb: str, document: Document, old: Document | None) -> Any:
    metadata = document["metadata"]
    place = (metadata.get("namespace", ""), metadata.get("name", ""))
    return AdmissionRequest(verb, kind, *place, "", document, old, call())


def created(kind: ServedKind, case: dict[str, Any]) -> tuple[int, Document]:
    asked = request(kind, "create", decoded(kind, case["input"]), None)
    document = strategy.prepare_create(kind, PLUGIN.admit(asked))
    if causes := validate_create(kind, document):
        raise invalid(kind.kind, kind.group, asked.name, causes)
    asked.document = document
    PLUGIN.validate(asked)
    return 201, document


def updated(kind: ServedKind, case: dict[str, Any]) -> tuple[int, Document]:
    old = case["oldObject"]
    asked = request(kind, "update", decoded(kind, case["input"]), old)
    document = strategy.prepare_update(kind, PLUGIN.admit(asked), old, "")
    if causes := validate_update(kind, document, old):
        raise invalid(kind.kind, kind.group, asked.name, causes)
    asked.document = document
    PLUGIN.validate(asked)
    return 200, document


def deleted(kind: ServedKind, case: dict[str, Any]) -> tuple[int, Document]:
    PLUGIN.validate(request(kind, "delete", case["input"], case["input"]))
    return 200, case["input"]


def comparable(document: Document) -> Document:
    metadata = {k: v for k, v in document["metadata"].items() if k != "generation" and v != []}
    out = {**document, "metadata": metadata}
    manifests = (document.get("spec") or {}).get("workload", {}).get("manifests")
    if manifests:
        kept = [without_book_keeping(m) for m in manifests]
        out["spec"] = document["spec"] | {"workload": {"manifests": kept}}
    return out


def without_book_keeping(manifest: Document) -> Document:
    held = manifest["metadata"]
    annotations = {
        k: v for k, v in (held.get("annotations") or {}).items() if k not in BOOK_KEEPING
    }
    metadata = {k: v for k, v in held.items() if k != "annotations"}
    return manifest | {"metadata": metadata | ({"annotations": annotations} if annotations else {})}


def wanted(case: dict[str, Any]) -> tuple[int, Document | str]:
    output = case["output"]
    if output["allowed"]:
        return output["code"], comparable(output["object"])
    return output["code"], output["message"]


def outcome(case: dict[str, Any]) -> tuple[int, Document | str]:
    code, answer = play(case)
    return code, comparable(answer) if isinstance(answer, dict) else answer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_write_is_answered_as_by_karmada(case: dict[str, Any]) -> None:
    assert outcome(case) == wanted(case)

"""Objects made from the server's own schemas: every kind of both programs, its status and scale, created, replaced and patched."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from tests.fuzz.arena import Arena, arena
from tests.fuzz.inputs import shaped
from tests.fuzz.rounds import fuzzed

from federation.propagation.admission.plugin import KarmadaKinds
from machinery.api import schemas
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import ServedKind
from machinery.api.template_kinds import (
    IP_ADDRESS,
    SERVICE_CIDR,
    TEMPLATE_KINDS,
)
from machinery.kit.ids import SystemIds
from machinery.server import patching
from machinery.server.app import Extensions

pytestmark = pytest.mark.integration
SERVED = (*BUILTIN, *TEMPLATE_KINDS, IP_ADDRESS, SERVICE_CIDR, *FLEET)
KINDS = [kind for kind in SERVED if kind.verbs]
NAMES = ("a", "b", "widgets.example.com")
_held: list[Arena] = []


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    extensions = Extensions(admission=(KarmadaKinds(SystemIds()),))
    with arena(kinds=SERVED, extensions=extensions) as found:
        _held.append(found)
        yield
        _held.clear()


def drawn(data: st.DataObject, kind: ServedKind, name: str) -> Any:
    """An object of the kind, for the most part as its schema has it."""
    document = data.draw(shaped(schemas.schema_of(kind)))
    if not isinstance(document, dict):
        return document
    metadata = document.get("metadata")
    held = metadata if isinstance(metadata, dict) else {}
    named = {
        "name": name,
        **{
            k: v
            for k, v in held.items()
            if k in ("labels", "annotations", "finalizers", "ownerReferences")
        },
    }
    return {**document, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": named}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "replace")


@fuzzed(90, kind=st.sampled_from(KINDS), name=st.sampled_from(NAMES), data=st.data())
def test_written_and_read(kind: ServedKind, name: str, data: st.DataObject) -> None:
    server = _held[0]
    collection = server.collection(kind)
    path = f"{collection}/{name}"
    status = server.tried("POST", collection, encoded(drawn(data, kind, name)))
    if status not in (201, 409) or not kind.storable:
        return
    server.tried("PUT", path, encoded(drawn(data, kind, name)))
    if kind.has_status:
        server.tried("PUT", f"{path}/status", encoded(drawn(data, kind, name)))
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    assert server.tried("GET", collection, Accept=table) == 200
    assert server.tried("GET", f"{collection}?limit=1", Accept="application/yaml") == 200


@fuzzed(
    70,
    kind=st.sampled_from(KINDS),
    name=st.sampled_from(NAMES),
    media=st.sampled_from([patching.MERGE, patching.STRATEGIC, patching.APPLY]),
    data=st.data(),
)
def test_patched(kind: ServedKind, name: str, media: str, data: st.DataObject) -> None:
    server = _held[0]
    path = f"{server.collection(kind)}/{name}"
    server.tried(
        "PATCH",
        f"{path}?fieldManager=a&force=true",
        encoded(drawn(data, kind, name)),
        Content_Type=patching.APPLY,
    )
    server.tried(
        "PATCH", f"{path}?fieldManager=b", encoded(drawn(data, kind, name)), Content_Type=media
    )
    for sub in kind.subresources[:2]:
        server.tried(
            "PATCH",
            f"{path}/{sub.name}?fieldManager=b",
            encoded(drawn(data, kind, name)),
            Content_Type=media,
        )
    server.tried("DELETE", path)

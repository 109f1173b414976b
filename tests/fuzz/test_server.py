"""A server that is sent what no client should send: every kind, verb and form of body, over HTTPS."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from tests.fuzz.arena import Arena, Item, arena
from tests.fuzz.inputs import damaged, keys, mangled, scalars, values, words
from tests.fuzz.rounds import fuzzed
from tests.fuzz.test_decoders import QUERY_KEYS, YAML_TEXTS

from machinery.server import patching

pytestmark = pytest.mark.integration
PATCHES = (patching.JSON, patching.MERGE, patching.STRATEGIC, patching.APPLY)
MEDIA = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "text/plain",
    "",
    "application/json; charset=x",
)
ACCEPTS = (
    "application/json", "application/yaml", "*/*", "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf", "x",
)  # fmt: skip
_held: list[Arena] = []


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with arena() as found:
        _held.append(found)
        yield
        _held.clear()


def there() -> Arena:
    return _held[0]


def quoted(text: str) -> str:
    """Percent-encoded where a target could not carry it at all."""
    return "".join(
        c
        if c.isalnum() and c.isascii() or c in "-._~%=!*(),:/"
        else "".join(f"%{b:02x}" for b in c.encode("utf-8", "replace"))
        for c in text
    )


queries = st.lists(st.tuples(st.sampled_from(QUERY_KEYS), words.filter(lambda w: len(w) < 1000)), max_size=3).map(
    lambda pairs: "&".join(f"{key}={quoted(value)}" for key, value in pairs if (key, value) != ("watch", "true") and key != "watch")
)  # fmt: skip
dice = st.integers(0, 10_000)
"""Which object of the stock: strategies are made before the server is."""


def chosen(number: int) -> Item:
    items = there().items
    return items[number % len(items)]


def live(item: Item) -> Any:
    return json.loads(json.dumps(item.document))


# ----------------------------------------------------------------------------------------------------------- bodies
@fuzzed(
    150,
    number=dice,
    data=st.data(),
    verb=st.sampled_from(["POST", "PUT"]),
    query=queries,
    accept=st.sampled_from(ACCEPTS),
)
def test_damaged_objects(
    number: int, data: st.DataObject, verb: str, query: str, accept: str
) -> None:
    item = chosen(number)
    sound = live(item)
    if verb == "POST":
        sound["metadata"] = {"name": data.draw(words), "generateName": "g-"}
    else:
        sound["metadata"].pop("resourceVersion")
    body = data.draw(damaged(st.just(sound)))
    target = item.collection if verb == "POST" else item.path
    there().tried(
        verb, f"{target}?{query}", json.dumps(body).encode("utf-8", "replace"), Accept=accept
    )


@fuzzed(60, number=dice, data=st.data(), media=st.sampled_from(MEDIA))
def test_bodies_that_are_no_objects(number: int, data: st.DataObject, media: str) -> None:
    item = chosen(number)
    sound = st.just(json.dumps(item.document).encode()) | st.sampled_from(YAML_TEXTS).map(
        str.encode
    )
    raw = data.draw(mangled(sound) | st.binary(max_size=60))
    headers = {"Content_Type": media} if media else {}
    there().tried("POST", item.collection, raw, **headers)
    there().tried("PUT", item.path, raw, **headers)


# ---------------------------------------------------------------------------------------------------------- patches
paths = st.lists(keys | st.sampled_from(["0", "-", "-1", "99", "~1", "~0"]), max_size=5).map(
    lambda steps: "".join("/" + s for s in steps)
)
operations = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "replace", "remove", "copy", "move", "test", "x"]) | scalars, "path": paths | scalars},
        optional={"value": values, "from": paths},
    ),
    max_size=4,
) | values  # fmt: skip


@fuzzed(120, number=dice, patch=operations, query=queries)
def test_json_patches(number: int, patch: Any, query: str) -> None:
    there().tried(
        "PATCH",
        f"{chosen(number).path}?{query}",
        json.dumps(patch).encode("utf-8", "replace"),
        Content_Type=patching.JSON,
    )


@fuzzed(
    150,
    number=dice,
    data=st.data(),
    media=st.sampled_from(PATCHES[1:]),
    query=queries,
    status=st.booleans(),
)
def test_merging_patches(
    number: int, data: st.DataObject, media: str, query: str, status: bool
) -> None:
    item = chosen(number)
    sound = live(item)
    if media == patching.APPLY:
        sound["metadata"] = {"name": item.name}
        query = f"fieldManager=f{number % 3}&force={number % 2}&{query}"
    else:
        sound = {
            key: sound[key]
            for key in data.draw(st.sets(st.sampled_from(sorted(sound)), min_size=1))
        }
    patch = data.draw(damaged(st.just(sound)) | st.dictionaries(keys, values, max_size=3))
    target = item.path + ("/status" if status and item.kind.has_status else "")
    there().tried(
        "PATCH",
        f"{target}?{query}",
        json.dumps(patch).encode("utf-8", "replace"),
        Content_Type=media,
    )


field_sets = st.recursive(
    st.just({}) | scalars,
    lambda inner: st.dictionaries(st.sampled_from([".", "f:spec", "f:metadata", "f:labels", "k:{", 'k:{"name":"a"}', "k:[]", "v:", 'v:"a"', "i:0", "i:x", ""]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@fuzzed(
    80,
    number=dice,
    fields=field_sets,
    operation=st.sampled_from(["Apply", "Update", "x"]) | scalars,
    then=st.sampled_from(PATCHES[1:]),
)
def test_managed_fields_of_clients(number: int, fields: Any, operation: Any, then: str) -> None:
    item = chosen(number)
    entry = {
        "manager": "m",
        "operation": operation,
        "apiVersion": item.kind.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    patch = json.dumps(
        {"metadata": {"managedFields": [entry], "labels": {"a": str(number)}}}
    ).encode()
    there().tried("PATCH", item.path, patch, Content_Type=patching.MERGE)
    label: Any = {"metadata": {"labels": {"a": "x", "b": str(number)}}}
    if then == patching.APPLY:
        label = {
            "apiVersion": item.kind.api_version,
            "kind": item.kind.kind,
            "metadata": {"name": item.name, **label["metadata"]},
        }
    there().tried(
        "PATCH", f"{item.path}?fieldManager=other", json.dumps(label).encode(), Content_Type=then
    )


# ---------------------------------------------------------------------------------------------------- other requests
@fuzzed(100, number=dice, query=queries, accept=st.sampled_from(ACCEPTS), one=st.booleans())
def test_reads(number: int, query: str, accept: str, one: bool) -> None:
    item = chosen(number)
    there().tried("GET", f"{item.path if one else item.collection}?{query}", Accept=accept)


@fuzzed(
    60,
    number=dice,
    sub=st.sampled_from(
        [
            "scale",
            "status",
            "token",
            "eviction",
            "binding",
            "approval",
            "finalize",
            "log",
            "exec",
            "proxy",
            "x",
        ]
    ),
    verb=st.sampled_from(["GET", "POST", "PUT", "PATCH"]),
    body=values,
    query=queries,
)
def test_subresources(number: int, sub: str, verb: str, body: Any, query: str) -> None:
    there().tried(
        verb,
        f"{chosen(number).path}/{sub}?{query}",
        None if verb == "GET" else json.dumps(body).encode("utf-8", "replace"),
    )


@fuzzed(
    60,
    number=dice,
    options=st.dictionaries(
        st.sampled_from(
            [
                "gracePeriodSeconds",
                "propagationPolicy",
                "preconditions",
                "dryRun",
                "orphanDependents",
                "kind",
                "apiVersion",
            ]
        ),
        scalars | values,
        max_size=4,
    ),
)
def test_delete_options(number: int, options: Any) -> None:
    """A rehearsal, so that the stock stays."""
    there().tried(
        "DELETE",
        f"{chosen(number).path}?dryRun=All",
        json.dumps(options).encode("utf-8", "replace"),
    )


REVIEWS = ("authentication.k8s.io/v1/tokenreviews", "authentication.k8s.io/v1/selfsubjectreviews", "authorization.k8s.io/v1/subjectaccessreviews", "authorization.k8s.io/v1/selfsubjectaccessreviews", "authorization.k8s.io/v1/selfsubjectrulesreviews", "authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews")  # fmt: skip
asked = st.fixed_dictionaries(
    {},
    optional={
        "user": words, "groups": st.lists(words, max_size=2), "token": words, "audiences": st.lists(words, max_size=2), "namespace": words,
        "resourceAttributes": st.dictionaries(st.sampled_from(["verb", "group", "resource", "namespace", "name"]), words),
        "nonResourceAttributes": st.dictionaries(st.sampled_from(["verb", "path"]), words), "extra": st.dictionaries(words, st.lists(words)),
    },
)  # fmt: skip


@fuzzed(60, path=st.sampled_from(REVIEWS), spec=asked | values)
def test_reviews(path: str, spec: Any) -> None:
    there().tried("POST", f"/apis/{path}", json.dumps({"spec": spec}).encode("utf-8", "replace"))


@pytest.mark.parametrize(
    "header",
    [
        "User-Agent",
        "Authorization",
        "Accept",
        "Content-Type",
        "Impersonate-User",
        "Impersonate-Group",
    ],
)
@pytest.mark.parametrize(
    "value",
    [
        "\udcff\udcfe",
        "é",
        "Bearer \udcff",
        "a\tb",
        "x" * 5000,
        "Bearer " + "a." * 100,
        "Bearer ..",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ],
)
def test_headers(header: str, value: str) -> None:
    """Bytes that are no text, as aiohttp keeps them, in what is stored and told."""
    from tests.fuzz.raw import exchange

    arena = there()
    body = json.dumps({"metadata": {"generateName": "h-"}}).encode()
    for method, path, sent in (
        ("POST", "/api/v1/namespaces/default/configmaps", body),
        ("GET", "/api/v1/namespaces/default/pods/none", b""),
    ):
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(sent)}\r\n{header}: {value}\r\nConnection: close\r\n\r\n"
        status, headers, raw = arena.runner.run(
            exchange(arena.server, head.encode("utf-8", "surrogateescape") + sent)
        )
        arena.check(status, headers, raw)
        assert status < 500


MANAGED = [
    {"f:metadata": 5},
    {"f:spec": {"f:a": "x"}},
    {"k:{": {}},
    {"k:[]": {}},
    {"v:": {}},
    {"x": {}},
    {"i:x": {}},
    {"f:spec": {"k:{": {}, 'k:{"a":1}': {}}},
]


@pytest.mark.parametrize("fields", MANAGED, ids=str)
def test_sets_of_fields_that_are_none(fields: Any) -> None:
    """They are what nobody manages: the live managers stay, also where a refusal has to quote them."""
    arena = there()
    for item in arena.items[:2]:
        entry = {
            "manager": "m",
            "operation": "Update",
            "apiVersion": item.kind.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        metadata = {"managedFields": [entry], "labels": {"a": "1"}}
        assert (
            arena.tried(
                "PATCH",
                item.path,
                json.dumps({"metadata": metadata}).encode(),
                Content_Type=patching.MERGE,
            )
            == 200
        )
        refused = {"metadata": {**metadata, "labels": {"a": 1}}}
        assert (
            arena.tried(
                "PATCH", item.path, json.dumps(refused).encode(), Content_Type=patching.MERGE
            )
            == 422
        )
        told = json.loads(arena.runner.run(arena.ask("GET", item.path, None, {}))[2])
        assert fields not in [row["fieldsV1"] for row in told["metadata"]["managedFields"]]


def test_a_signing_request_without_a_request() -> None:
    body = {
        "metadata": {"name": "none"},
        "spec": {"signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]},
    }
    assert there().tried(
        "POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", json.dumps(body).encode()
    ) in (400, 422)


@pytest.mark.parametrize(
    ("field", "body"), [("gracePeriodSeconds", 2**62), ("gracePeriodSeconds", -(2**62))]
)
def test_a_grace_that_no_calendar_has(field: str, body: int) -> None:
    arena = there()
    pod = {
        "metadata": {"name": "grace"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    }
    assert arena.tried("POST", "/api/v1/namespaces/default/pods", json.dumps(pod).encode()) in (
        201,
        409,
    )
    assert (
        arena.tried(
            "DELETE", "/api/v1/namespaces/default/pods/grace", json.dumps({field: body}).encode()
        )
        == 200
    )


@pytest.mark.parametrize(
    "metadata",
    [
        "x",
        [],
        1,
        True,
        ["a"],
        {"name": []},
        {"namespace": {}},
        {"labels": "x"},
        {"managedFields": "x"},
        {"name": "stock", "labels": {"a": {}}},
    ],
    ids=str,
)
def test_metadata_of_an_applied_configuration(metadata: Any) -> None:
    arena = there()
    for item in arena.items[:3]:
        body = {"apiVersion": item.kind.api_version, "kind": item.kind.kind, "metadata": metadata}
        for target in (item.path, f"{item.path}/status"):
            arena.tried(
                "PATCH",
                f"{target}?fieldManager=m",
                json.dumps(body).encode(),
                Content_Type=patching.APPLY,
            )


def test_copies_of_copies_nest_no_deeper_than_anything_may() -> None:
    arena = there()
    item = next(item for item in arena.items if item.kind.kind == "Widget")
    copies = [{"op": "copy", "from": "/spec", "path": "/spec/again"}] * 300
    assert arena.tried(
        "PATCH", item.path, json.dumps(copies).encode(), Content_Type=patching.JSON
    ) in (400, 422)
    deep: Any = {}
    for _ in range(140):
        deep = {"a": deep}
    steps = [{"op": "add", "path": "/spec" + "/a" * 140 * n, "value": deep} for n in range(1, 4)]
    first = [{"op": "add", "path": "/spec/a", "value": deep}]
    for patch in (
        first,
        [*first, *steps],
        [*first, {"op": "add", "path": "/spec" + "/a" * 5000, "value": 1}],
    ):
        assert arena.tried(
            "PATCH", item.path, json.dumps(patch).encode(), Content_Type=patching.JSON
        ) in (200, 400, 422)

"""Patches: the rules that the recordings do not show, and that inputs are never written to."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery.api.patch import gotext, json_patch, merge, restore, strategic
from machinery.api.patch.ordering import in_place, merge_sorted, order_like, partition
from machinery.meta.errors import BadRequest, InternalError, Invalid, StatusError, TooLarge

POD = "io.k8s.api.core.v1.Pod"
DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": list(containers), **spec}}


# ------------------------------------------------------------------------------------------------------ JSON patch
DOC = {"a": {"b": 1, "n": None}, "l": [1, 2, {"x": "y"}], "t/~": 0}


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        pytest.param(
            [{"op": "add", "path": "/l/-", "value": 3}],
            DOC | {"l": [1, 2, {"x": "y"}, 3]},
            id="append",
        ),
        pytest.param(
            [{"op": "add", "path": "/l/1", "value": 3}],
            DOC | {"l": [1, 3, 2, {"x": "y"}]},
            id="insert",
        ),
        pytest.param([{"op": "remove", "path": "/l/-1"}], DOC | {"l": [1, 2]}, id="negative-index"),
        pytest.param(
            [{"op": "replace", "path": "/t~1~0", "value": 1}], DOC | {"t/~": 1}, id="escapes"
        ),
        pytest.param(
            [{"op": "copy", "from": "/a/gone", "path": "/c"}],
            DOC | {"c": None},
            id="copy-of-nothing",
        ),
        pytest.param(
            [{"op": "move", "from": "/l/2/x", "path": "/x"}],
            DOC | {"l": [1, 2, {}], "x": "y"},
            id="move",
        ),
        pytest.param([{"op": "test", "path": "/a/n"}], DOC, id="test-null"),
        pytest.param([{"op": "test", "path": "", "value": DOC}], DOC, id="test-whole"),
    ],
)
def test_json_patch(operations: list[Any], expected: Any) -> None:
    before = copy.deepcopy(DOC)
    assert json_patch.apply(DOC, operations) == expected
    assert before == DOC


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"op": "add", "path": "/l/4", "value": 0}, id="beyond-the-end"),
        pytest.param({"op": "add", "path": "/l/x", "value": 0}, id="no-index"),
        pytest.param({"op": "add", "path": "x", "value": 0}, id="no-slash"),
        pytest.param({"op": "add", "path": "", "value": {}}, id="add-the-whole"),
        pytest.param({"op": "remove", "path": ""}, id="remove-the-whole"),
        pytest.param({"op": "replace", "path": "", "value": 1}, id="whole-by-a-scalar"),
        pytest.param({"op": "replace", "path": "/a/b/c", "value": 1}, id="through-a-scalar"),
        pytest.param({"op": "move", "from": "/a", "path": "/a/b"}, id="into-itself"),
        pytest.param({"op": "test", "path": "/a/b", "value": True}, id="1-is-not-true"),
        pytest.param({"op": "test", "path": "/a/b", "value": 1.0}, id="1-is-not-1.0"),
        pytest.param({"op": "copy", "path": "/z"}, id="copy-without-from"),
    ],
)
def test_json_patch_that_does_not_fit(operation: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as raised:
        json_patch.apply(DOC, [operation])
    assert raised.value.to_status()["details"] == {}


def test_json_patch_limits() -> None:
    with pytest.raises(TooLarge):
        json_patch.apply(DOC, [{"op": "test", "path": "/a/b", "value": 1}] * 10_001)
    double = [{"op": "copy", "from": "/a", "path": f"/a/{i}"} for i in range(40)]
    with pytest.raises(Invalid):
        json_patch.apply(DOC, double)


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        (["x"], "cannot unmarshal string into Go value of type handlers.jsonPatchOp"),
        ([{"op": 1}], "cannot unmarshal number into Go struct field jsonPatchOp.op of type string"),
        (True, "cannot unmarshal bool into Go value of type []handlers.jsonPatchOp"),
    ],
    ids=["item", "field", "body"],
)
def test_json_patch_that_is_none(operations: Any, words: str) -> None:
    with pytest.raises(BadRequest, match="error decoding patch: json: ") as raised:
        json_patch.check(operations)
    assert words in raised.value.message


# ----------------------------------------------------------------------------------------------------- merge patch
@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": 1}, {"a": None}, {}),
        ({"a": {"b": 1}}, {"a": {"c": None, "d": {"e": None}}}, {"a": {"b": 1, "d": {}}}),
        ({"a": [1]}, {"a": {"b": None}}, {"a": {}}),
        ({"a": 1}, {"a": [{"b": None, "c": 1}]}, {"a": [{"c": 1}]}),
        ({"a": {"b": 1}}, {"a": "x"}, {"a": "x"}),
    ],
)
def test_merge_patch(document: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy(document)
    assert merge.apply(document, patch) == expected
    assert document == before


# ----------------------------------------------------------------------------------------------------- strategic
A, B, C = ({"name": n, "image": n} for n in "abc")


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        pytest.param(
            pod(A, B),
            {"spec": {"containers": [{"name": "b", "image": "x"}, C]}},
            pod(A, {"name": "b", "image": "x"}, C),
            id="known-keeps-its-place-and-new-follows-it",
        ),
        pytest.param(pod(A), {"spec": {"containers": [C]}}, pod(C, A), id="only-new-goes-first"),
        pytest.param(
            pod(A, tolerations=[{"key": "x"}]),
            {"spec": {"tolerations": [{"key": "y"}]}},
            pod(A, tolerations=[{"key": "y"}]),
            id="atomic-list",
        ),
        pytest.param(
            pod(A),
            {"spec": {"volumes": [{"name": "v", "emptyDir": {"medium": None}}]}},
            pod(A, volumes=[{"name": "v", "emptyDir": {}}]),
            id="nulls-of-a-new-part",
        ),
        pytest.param(
            pod(A),
            {"spec": {"volumes": [{"name": "v", "$patch": "delete"}, {"name": "w"}]}},
            pod(A, volumes=[{"name": "w"}]),
            id="directives-of-a-new-list",
        ),
        pytest.param(
            pod(A, B),
            {"spec": {"containers": None, "$setElementOrder/containers": [{"name": "a"}]}},
            {"apiVersion": "v1", "kind": "Pod", "spec": {}},
            id="null-beats-order",
        ),
        pytest.param(
            pod(A),
            {"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}]}},
            pod({**A, "resources": {"limits": {"cpu": "1"}}}),
            id="nested-struct",
        ),
    ],
)
def test_strategic(document: Any, patch: Any, expected: Any) -> None:
    before, given_patch = copy.deepcopy(document), copy.deepcopy(patch)
    assert strategic.apply(POD, document, patch) == expected
    assert (document, patch) == (before, given_patch)


@pytest.mark.parametrize(
    ("patch", "error", "words"),
    [
        ([], BadRequest, "json: cannot unmarshal array into Go value"),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}, BadRequest, "primitive list"),
        ({"spec": {"$setElementOrder/containers": {}}}, BadRequest, "setElementOrder list"),
        ({"spec": {"volumes": [{"name": "v", "$patch": "merge"}]}}, InternalError, "cannot yet be"),
        ({"spec": {"containers": [["a"]]}}, Invalid, "the server rejected our request"),
    ],
)
def test_strategic_nonsense(patch: Any, error: type[StatusError], words: str) -> None:
    document = pod(A, volumes=[{"name": "v"}]) | {"metadata": {"name": "p"}}
    with pytest.raises(error) as raised:
        strategic.apply(POD, document, patch)
    assert words in raised.value.message


def test_what_cannot_be_restored() -> None:
    assert restore.complaint(POD, pod(A)) == ""
    assert restore.complaint(POD, pod({"name": 1})) == "cannot convert int64 to string"
    broken = {"spec": {"replicas": "x"}}
    assert restore.complaint(DEPLOYMENT, broken) == "cannot convert string to int32"
    assert restore.complaint(POD, {"spec": {"nodeSelector": []}}) == "cannot restore map from slice"


def test_go_text() -> None:
    value = {"b": [1, None, True], "a": {"x": 1.5, "y": 2.0}}
    assert gotext.text(value) == "map[a:map[x:1.5 y:2] b:[1 <nil> true]]"


@given(st.lists(st.integers(0, 9), unique=True), st.lists(st.integers(0, 9), unique=True))
def test_merged_order_keeps_both_orders(left: list[int], right: list[int]) -> None:
    left = [n for n in left if n not in right]
    order = sorted([*left, *right])
    result = merge_sorted(left, right, order, "")
    assert sorted(result) == order
    assert [n for n in result if n in left] == left
    assert [n for n in result if n in right] == right


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


NAMES = st.lists(st.sampled_from("abcd"), max_size=4)


@given(NAMES, NAMES)
def test_what_is_in_place_is_where_it_would_be_put(live: list[str], wanted: list[str]) -> None:
    items, order = [{"name": n} for n in live], [{"name": n} for n in wanted]
    mine, others = partition(items, order, "name")
    mine = order_like(mine, order, "name")
    moved = merge_sorted(order_like(others, items, "name"), mine, items, "name")
    assert moved == items or not in_place(items, order, "name")
    assert merge_sorted(others, mine, items, "name") == items or not in_place(
        items, order, "name", whole=True
    )
    unique = len(set(live)) == len(live) and len(set(wanted)) == len(wanted)
    named = [name for name in live if name in wanted]
    assert in_place(items, order, "name") == (unique and named == wanted)
    assert in_place(items, order, "name", whole=True) == (unique and live == wanted)


@given(JSON)
def test_any_patch_is_applied_or_refused(patch: Any) -> None:
    document = pod(A, B)
    for attempt in (
        lambda: strategic.apply(POD, document, {"spec": patch}),
        lambda: merge.apply(document, patch),
        lambda: json_patch.apply(document, patch),
    ):
        try:
            attempt()
        except StatusError as error:
            assert error.status_code in (400, 413, 422, 500)

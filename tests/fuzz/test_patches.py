"""Patches alone: what they cost, and that they change nothing but their result."""

import orjson
import pytest
from hypothesis import strategies as st
from tests.fuzz.inputs import keys, places, values
from tests.fuzz.rounds import fuzzed, quick

from machinery.api.patch import json_patch, strategic
from machinery.meta.errors import StatusError


def test_many_operations_on_a_long_list_copy_it_once() -> None:
    live = {"spec": {"list": [0] * 200_000}}
    operations = [{"op": "add", "path": "/spec/list/-", "value": 1}] * 10_000
    with quick():
        patched = json_patch.apply(live, operations)
    assert (len(live["spec"]["list"]), len(patched["spec"]["list"])) == (200_000, 210_000)


@pytest.mark.parametrize("directive", [{}, {"$patch": "delete"}])
def test_strategic_patches_of_long_lists_find_items_at_once(directive) -> None:
    def pod(**more):
        named = [{"name": f"E{n}", **more} for n in range(40_000)]
        return {"spec": {"containers": [{"name": "c", "env": named}]}}

    with quick():
        patched = strategic.apply(
            "io.k8s.api.core.v1.Pod", pod(value="x"), pod(**directive or {"value": "y"})
        )
    left = patched["spec"]["containers"][0].get("env") or []
    assert [item["value"] for item in left[:1]] == ([] if directive else ["y"])
    assert len(left) == (0 if directive else 40_000)


@fuzzed(80, document=st.dictionaries(keys, values, max_size=3), data=st.data())
def test_json_patch_as_if_everything_were_copied(document, data: st.DataObject) -> None:
    """Neither the document nor the patch is changed, and what was copied is another thing."""
    paths = [
        "/" + "/".join(str(step).replace("~", "~0").replace("/", "~1") for step in place)
        for place in places(document)
    ] or ["/a"]
    some = st.sampled_from(paths) | st.sampled_from(paths).map(lambda path: path + "/x")
    operation = st.fixed_dictionaries(
        {
            "op": st.sampled_from(["add", "replace", "remove", "copy", "move"]),
            "path": some,
            "from": some,
            "value": values,
        }
    )
    operations = data.draw(st.lists(operation, max_size=5))
    before = orjson.dumps([document, operations])
    try:
        patched = json_patch.apply(document, operations)
    except StatusError:
        patched = None
    assert orjson.dumps([document, operations]) == before
    one_by_one = document
    try:
        for one in operations:
            one_by_one = orjson.loads(orjson.dumps(json_patch.apply(one_by_one, [one])))
    except StatusError:
        one_by_one = None
    assert (patched is None) == (one_by_one is None)
    assert patched is None or orjson.dumps(patched) == orjson.dumps(one_by_one)

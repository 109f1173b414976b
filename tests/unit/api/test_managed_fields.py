"""Field managers and apply: what the recordings do not reach, and the laws of field sets."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery.api import managed_fields
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN, POD
from machinery.api.managed_fields import sets
from machinery.api.scheme import Scheme, ServedKind
from machinery.meta.errors import BadRequest, Conflict, InternalError

SCHEME = Scheme((*BUILTIN, *FLEET))
T1, T2, T3 = (f"2026-01-01T00:00:0{n}Z" for n in (1, 2, 3))
Json = dict[str, Any]


def kind(group: str, name: str, version: str = "v1") -> ServedKind:
    found = SCHEME.by_gvk(group, version, name)
    assert found is not None
    return found


CONFIG_MAP = kind("", "ConfigMap")
DEPLOYMENT = kind("apps", "Deployment")


def config_map(data: Json | None = None, **metadata: Any) -> Json:
    found: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", **metadata}}
    return found if data is None else {**found, "data": data}


def changed(document: Json, **parts: Any) -> Json:
    return {**document, **parts}


def owners(document: Json) -> dict[str, Any]:
    return {
        f"{row['manager']}/{row['operation']}": row["fieldsV1"]
        for row in document["metadata"].get("managedFields", ())
    }


def times(document: Json) -> dict[str, str]:
    return {row["manager"]: row["time"] for row in document["metadata"]["managedFields"]}


# ------------------------------------------------------------------------------------------------------- tracking
def created(manager: str = "a", data: Json | None = None) -> Json:
    made = managed_fields.update_manager(
        CONFIG_MAP, None, config_map(data or {"x": "1", "y": "1"}), manager, T1
    )
    return {**made, "metadata": {**made["metadata"], "uid": "u"}}


def test_a_write_takes_what_it_changes() -> None:
    live = created()
    new = changed(live, data={"x": "2", "y": "1"})
    got = managed_fields.update_manager(CONFIG_MAP, live, new, "b", T2)
    assert owners(got) == {
        "a/Update": {"f:data": {".": {}, "f:y": {}}},
        "b/Update": {"f:data": {"f:x": {}}},
    }
    assert times(got) == {"a": T1, "b": T2}


def test_a_removal_ends_everybodys_ownership() -> None:
    live = created()
    got = managed_fields.update_manager(CONFIG_MAP, live, config_map(), "b", T2)
    assert owners(got) == {}
    assert "managedFields" not in got["metadata"]


def test_a_write_that_changes_nothing_keeps_the_list() -> None:
    live = created()
    got = managed_fields.update_manager(CONFIG_MAP, live, copy.deepcopy(live), "b", T2)
    assert got == live


def test_an_object_without_managers_stays_without() -> None:
    live = config_map({"x": "1"}, uid="u")
    new = changed(live, data={"x": "2"})
    assert (
        "managedFields"
        not in managed_fields.update_manager(CONFIG_MAP, live, new, "b", T2)["metadata"]
    )


def test_the_client_may_reset_and_replace_the_list() -> None:
    live = created()
    reset = changed(live, metadata={**live["metadata"], "managedFields": [{}]})
    got = managed_fields.update_manager(CONFIG_MAP, live, reset, "b", T2)
    assert "managedFields" not in got["metadata"]
    absent = changed(live, metadata={"name": "c"}, data={"x": "1", "y": "2"})
    got = managed_fields.update_manager(CONFIG_MAP, live, absent, "b", T2)
    assert set(owners(got)) == {"a/Update", "b/Update"}


def test_status_and_scale_are_other_managers() -> None:
    live = managed_fields.update_manager(
        DEPLOYMENT,
        None,
        {"metadata": {"name": "d"}, "spec": {"replicas": 1}, "status": {}},
        "a",
        T1,
    )
    new = changed(live, spec={"replicas": 9}, status={"replicas": 1})
    got = managed_fields.update_manager(DEPLOYMENT, live, new, "a", T2, "status")
    rows = got["metadata"]["managedFields"]
    assert [(r.get("subresource", ""), r["fieldsV1"]) for r in rows] == [
        ("", {"f:spec": {"f:replicas": {}}}),
        ("status", {"f:status": {"f:replicas": {}}}),
    ]
    scaled = managed_fields.update_manager(
        DEPLOYMENT, live, changed(live, spec={"replicas": 2}), "h", T2, "scale"
    )
    (row,) = scaled["metadata"]["managedFields"]
    assert (row["manager"], row["subresource"], row.get("time")) == ("h", "scale", None)


def test_the_oldest_updaters_are_merged() -> None:
    live = created("m0", {"k0": "0"})
    for n in range(1, 14):
        new = changed(live, data={**live["data"], f"k{n}": "0"})
        live = managed_fields.update_manager(
            CONFIG_MAP, live, new, f"m{n:02}", f"2026-01-01T00:00:{n + 1:02}Z"
        )
    found = owners(live)
    assert len(found) == 10
    assert found["ancient-changes/Update"]["f:data"].keys() == {
        ".",
        "f:k0",
        "f:k1",
        "f:k2",
        "f:k3",
        "f:k4",
    }


def test_inputs_are_never_written_to() -> None:
    live = created()
    new = changed(live, data={"x": "2"}, metadata={**live["metadata"], "labels": {"l": "1"}})
    before = copy.deepcopy((live, new))
    managed_fields.update_manager(CONFIG_MAP, live, new, "b", T2)
    managed_fields.apply(CONFIG_MAP, live, config_map({"x": "3"}), "c", True, T3)
    assert (live, new) == before


def test_items_of_a_keyed_list() -> None:
    def document(*conditions: Json) -> Json:
        return {"metadata": {"name": "p"}, "status": {"conditions": list(conditions)}}

    ready, sched = ({"type": t, "status": "False"} for t in ("Ready", "PodScheduled"))
    live = managed_fields.update_manager(
        POD,
        {"metadata": {"name": "p", "managedFields": _owned("x", {"f:q": {}})}},
        document(ready),
        "k",
        T1,
        "status",
    )
    moved = document(sched, {**ready, "status": "True"})
    got = managed_fields.update_manager(POD, live, moved, "s", T2, "status")
    assert owners(got)["s/Update"] == {
        "f:status": {
            "f:conditions": {
                'k:{"type":"PodScheduled"}': {".": {}, "f:status": {}, "f:type": {}},
                'k:{"type":"Ready"}': {"f:status": {}},
            }
        }
    }
    left = owners(got)["k/Update"]["f:status"]["f:conditions"]
    assert left == {".": {}, 'k:{"type":"Ready"}': {".": {}, "f:type": {}}}


def _owned(manager: str, fields: Json) -> list[Json]:
    row = {"manager": manager, "operation": "Update", "apiVersion": "v1", "time": T1}
    return [row | {"fieldsType": "FieldsV1", "fieldsV1": fields}]


# ---------------------------------------------------------------------------------------------------------- apply
def apply(
    live: Json | None, applied: Json, manager: str, *, force: bool = False, time: str = T2
) -> Json:
    return managed_fields.apply(CONFIG_MAP, live, applied, manager, force, time)


def test_first_apply_over_an_unmanaged_object() -> None:
    live = config_map({"x": "1", "y": "1"}, uid="u")
    with pytest.raises(Conflict) as raised:
        apply(live, config_map({"x": "2"}), "m")
    assert raised.value.message == (
        'Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.x'
    )
    got = apply(live, config_map({"x": "2"}), "m", force=True)
    assert got["data"] == {"x": "2", "y": "1"}
    assert owners(got)["before-first-apply/Update"] == {"f:data": {".": {}, "f:y": {}}}


def test_what_is_no_longer_stated_goes() -> None:
    live = apply(None, config_map({"x": "1", "y": "1"}), "m", time=T1)
    live = apply(live, config_map({"z": "1"}), "n")
    got = apply(live, config_map({"x": "1"}), "m")
    assert got["data"] == {"x": "1", "z": "1"}
    emptied = apply(got, config_map(), "m")
    assert emptied["data"] == {"z": "1"}


def test_shared_fields_stay_until_the_last_owner_leaves() -> None:
    live = apply(None, config_map({"x": "1"}), "m", time=T1)
    live = apply(live, config_map({"x": "1"}), "n")
    assert apply(live, config_map(), "m")["data"] == {"x": "1"}
    alone = apply(live, config_map(), "m")
    assert "data" not in apply(alone, config_map(), "n")


def test_several_conflicts() -> None:
    live = apply(None, config_map({"x": "1", "y": "1"}), "m", time=T1)
    live = managed_fields.update_manager(
        CONFIG_MAP, live, changed(live, data={"x": "1", "y": "1", "z": "1"}), "u", T1
    )
    with pytest.raises(Conflict) as raised:
        apply(live, config_map({"x": "2", "y": "2", "z": "2"}), "n")
    assert raised.value.message == (
        'Apply failed with 3 conflicts: conflicts with "m":\n- .data.x\n- .data.y\n'
        'conflicts with "u" using v1:\n- .data.z'
    )
    assert [c["field"] for c in raised.value.details["causes"]] == [".data.x", ".data.y", ".data.z"]  # type: ignore[index]


def test_an_apply_that_changes_nothing_keeps_its_time() -> None:
    live = apply(None, config_map({"x": "1"}), "m", time=T1)
    assert apply(live, config_map({"x": "1"}), "m", time=T3) == live


@pytest.mark.parametrize(
    ("applied", "error", "words"),
    [
        (config_map(managedFields=[{}]), BadRequest, "metadata.managedFields must be nil"),
        (
            {**config_map(), "kind": "Pod"}, BadRequest, "invalid object type: /v1, Kind=Pod",
        ),
        (
            config_map({"x": 1}), InternalError,
            "failed to create typed patch object (/c; /v1, Kind=ConfigMap): .data.x: expected string, got int",
        ),
        (
            {**config_map(["x"]), "zz": 1, "immutable": "y"},  # type: ignore[arg-type]
            InternalError, ".zz: field not declared in schema",
        ),
    ],
)  # fmt: skip
def test_refused(applied: Json, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as raised:
        apply(None, applied, "m")
    assert words in str(raised.value)


def test_lists_keep_the_stated_order_between_live_items() -> None:
    def spec(*names: str) -> Json:
        return {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": n, "image": n} for n in names]},
        }  # fmt: skip

    live = managed_fields.apply(POD, None, spec("a", "b", "c"), "m", False, T1)
    got = managed_fields.apply(POD, live, spec("c", "x", "a"), "n", False, T2)
    assert [c["name"] for c in got["spec"]["containers"]] == ["b", "c", "x", "a"]


def test_own_kinds_are_merged_by_their_schema() -> None:
    own = ServedKind(
        "a.b", "v1", "W", "ws", "w", True, "b.a.W", custom=True,
        schema={
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "list": {
                            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}},
                        },
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                }
            },
        },
    )  # fmt: skip

    def body(*items: Json, **more: Any) -> Json:
        return {
            "apiVersion": "a.b/v1",
            "kind": "W",
            "metadata": {"name": "w"},
            "spec": {"list": list(items), **more},
        }

    live = managed_fields.apply(
        own, None, body({"k": "a", "v": 1}, free={"q": [1]}), "m", False, T1
    )
    assert owners(live)["m/Apply"]["f:spec"] == {
        "f:free": {"f:q": {}},
        "f:list": {'k:{"k":"a"}': {".": {}, "f:k": {}, "f:v": {}}},
    }
    with pytest.raises(Conflict, match=r'\.spec\.list\[k="a"\]\.v'):
        managed_fields.apply(own, live, body({"k": "a", "v": 2}), "n", False, T2)
    got = managed_fields.apply(own, live, body({"k": "b"}), "n", False, T2)
    assert [item["k"] for item in got["spec"]["list"]] == ["a", "b"]
    assert got["spec"]["free"] == {"q": [1]}


# ----------------------------------------------------------------------------------------------------- laws of sets
MEMBERS = st.sets(
    st.lists(st.sampled_from(["f:a", "f:b", 'k:{"n":1}']), min_size=1, max_size=3).map(tuple),
    max_size=8,
)


def as_set(members: set[sets.Path]) -> Json:
    root: Json = {}
    for path in members:
        node = root
        for element in path:
            node = node.setdefault(element, {"_": 1})
        node["."] = {}

    def canonical(node: Json) -> Json:
        found = {k: canonical(v) for k, v in node.items() if k not in ("_", ".")}
        return ({".": {}, **found} if found else {}) if "." in node else found

    return {element: canonical(node) for element, node in root.items()}


@given(MEMBERS, MEMBERS)
def test_algebra(left: set[sets.Path], right: set[sets.Path]) -> None:
    a, b = as_set(left), as_set(right)
    assert set(sets.paths(a)) == left
    assert set(sets.paths(sets.union(a, b))) == left | right
    assert set(sets.paths(sets.difference(a, b))) == left - right
    assert set(sets.paths(sets.intersection(a, b))) == left & right
    assert sets.union(a, a) is a
    assert sets.difference(a, {}) is a
    assert (a, b) == (as_set(left), as_set(right))


DATA = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), max_size=4)


@given(st.lists(st.tuples(st.sampled_from("mno"), st.booleans(), DATA), max_size=8))
def test_every_field_has_an_owner_and_no_owner_has_more(
    moves: list[tuple[str, bool, Json]],
) -> None:
    live = {**created("m", {"a": "1"})}
    for manager, by_apply, data in moves:
        if by_apply:
            live = apply(live, config_map(data), manager, force=True)
        else:
            live = managed_fields.update_manager(
                CONFIG_MAP, live, {**managed_fields.strip(live), "data": data}, manager, T2
            )
        owned: set[str] = set()
        for fields in owners(live).values():
            owned |= {element[2:] for element in fields.get("f:data", {}) if element != "."}
        assert owned == set(live.get("data") or {})

"""Patches, field managers, tables and discovery, answered as the real server answered them.

What differs and why stands in DIFFERENCES.md, section "API wire".
"""

import datetime as dt
import json
import re
from typing import Any

import pytest
from tests.golden import api_wire
from tests.golden.api_pipeline import FOLDER, SCHEME, comparable, target_of, timed
from tests.golden.api_wire import APPLY, NOW, Step, managers, patched, settled, steps

from machinery.api import decode, discovery, managed_fields, openapi, table
from machinery.api.defaults import apply_defaults
from machinery.meta.errors import StatusError

Json = Any
FILES = (
    "1-objects", "2b-fieldvalidation-updates", "3-patch", "6-lifecycle", "10-with-kcm", "11-templates",
)  # fmt: skip
NEVER_EQUAL = "obj-controllerrevision/04"
"""Upstream compares the data of a patched ControllerRevision with other bytes of itself, and refuses every patch."""
PATCH_TYPES = {api_wire.STRATEGIC, api_wire.MERGE, api_wire.JSON_PATCH}
ECHO = re.compile(r'Invalid value: "(\{.*\})": (.*)', re.DOTALL)
"""A refusal that shows the whole patched object."""
UNKNOWN = re.compile(r'unknown field "([^"]*)"(?:, )?')
DESCRIPTION_DIFFERS = {"Role", "SignerName"}
"""Columns whose description is the API's, where upstream has another one of its own."""
ALL = [step for file in FILES for step in steps(file)]
PATCHES = [
    s
    for s in ALL
    if s.id != NEVER_EQUAL
    and s.media_type in PATCH_TYPES
    and s.live
    and s.target.subresource in ("", "status")
]
CREATES = [s for s in ALL if s.method == "POST" and s.status == 201 and not s.target.subresource]
APPLIES = [
    s for s in steps("4-apply") if s.media_type == APPLY and s.target.subresource in ("", "status")
]


@pytest.mark.parametrize("step", PATCHES, ids=lambda s: s.id)
def test_patch(step: Step) -> None:
    try:
        got = settled(step, patched(step))
    except StatusError as error:
        answer = error.to_status()
        assert answer["code"] == step.status
        assert _unordered(answer) == _unordered(step.answer)
        return
    assert step.status < 300, step.answer
    assert got == comparable(step.answer)


def _unordered(answer: Json) -> Json:
    """A Status whose echo of an object, and whose list of unknown fields, have no order."""

    def text(message: str) -> Json:
        echo = ECHO.search(message)
        shown = json.loads(json.loads(f'"{echo[1]}"')) if echo else None
        why = echo[2] if echo else message
        return shown, UNKNOWN.sub("", why), sorted(UNKNOWN.findall(why))

    details = answer.get("details") or {}
    causes = [{**c, "message": text(c["message"])} for c in details.get("causes") or ()]
    return {**answer, "message": text(answer["message"]), "details": {**details, "causes": causes}}


@pytest.mark.parametrize("step", [s for s in PATCHES if s.status < 300], ids=lambda s: s.id)
def test_managers_after_a_patch(step: Step) -> None:
    sub = step.target.subresource
    got = managed_fields.update_manager(
        step.target.kind, step.live, patched(step), step.manager, NOW, sub
    )
    assert managers(got) == managers(step.answer)


@pytest.mark.parametrize("step", CREATES, ids=lambda s: s.id)
def test_managers_after_a_create(step: Step) -> None:
    kind = step.target.kind
    body = decode.decode_body(kind, json.dumps(step.body).encode(), "application/json", "Warn")
    document = apply_defaults(kind, body.document)
    document = {**document, "metadata": {**document["metadata"], "name": "x"}}
    got = managed_fields.update_manager(kind, None, document, step.manager, NOW)
    assert managers(got) == managers(step.answer)


@pytest.mark.parametrize("step", APPLIES, ids=lambda s: s.id)
def test_apply(step: Step) -> None:
    kind, sub = step.target.kind, step.target.subresource
    try:
        wanted = managed_fields.apply(
            kind, step.live, step.body, step.manager, step.force, NOW, sub
        )
        if step.live is not None:
            tidy, _ = decode.check_fields(kind, wanted, "Warn")
            got = settled(step, apply_defaults(kind, tidy))
            assert got == comparable(step.answer)
    except StatusError as error:
        assert error.to_status() == step.answer
        return
    if step.status < 300:
        assert managers(wanted) == managers(step.answer)


def test_apply_to_a_scale() -> None:
    recorded = {s.id: s for s in steps("4-apply")}
    answer = recorded["ssa-status-scale/10"].answer
    workload = timed(_record("4-apply", "ssa-status-scale/08")["response"]["body"])
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "ds"}}
    scale["spec"] = {"replicas": 5}
    wanted = {**scale, "spec": {"replicas": 6}}
    kind = _scale_kind()
    with pytest.raises(StatusError) as raised:
        managed_fields.apply_scale(kind, workload, scale, wanted, "hpa2", False, NOW)
    assert raised.value.to_status() == answer
    result, after = managed_fields.apply_scale(kind, workload, scale, wanted, "hpa2", True, NOW)
    assert result["spec"] == {"replicas": 6}
    assert ("hpa2", "Apply", "scale", {"f:spec": {"f:replicas": {}}}) in [
        (r["manager"], r["operation"], r.get("subresource"), r["fieldsV1"]) for r in managers(after)
    ]
    assert "hpa" not in {r["manager"] for r in managers(after)}


def _scale_kind() -> Any:
    from machinery.api.scheme import ServedKind

    return ServedKind(
        "autoscaling", "v1", "Scale", "scales", "scale", True, "io.k8s.api.autoscaling.v1.Scale"
    )


def _record(file: str, wanted: str) -> Json:
    lines = (FOLDER / f"{file}.jsonl").read_text().splitlines()
    return next(r for r in map(json.loads, lines) if r["id"] == wanted)


# ---------------------------------------------------------------------------------------------------------- tables
def tables() -> list[Any]:
    """Recorded tables of which every row's object was seen before in the same conversation."""
    found = []
    for file in ("1-objects", "5-list-watch", "6-lifecycle", "11-templates"):
        seen: dict[tuple[str, str, str], Json] = {}
        for line in (FOLDER / f"{file}.jsonl").read_text().splitlines():
            record = json.loads(line)
            body = record["response"].get("body")
            target = target_of(record["request"]["path"]) if record["request"]["path"] else None
            if target is None or not isinstance(body, dict):
                continue
            for item in [body, *(body.get("items") or ())]:
                meta = item.get("metadata") or {}
                key = (record["seq"], target.kind.kind, meta.get("name", ""))
                if item.get("kind") != "Table" and "resourceVersion" in meta and "uid" in meta:
                    seen[(*key, meta["resourceVersion"])] = item  # type: ignore[index]
            if body.get("kind") != "Table" or target.subresource or not body["columnDefinitions"]:
                continue
            rows = [(r["object"] or {}).get("metadata") or {} for r in body["rows"]]
            documents = [
                seen.get((record["seq"], target.kind.kind, m.get("name"), m.get("resourceVersion")))
                for m in rows
            ]
            if all(documents):
                found.append(pytest.param(target.kind, documents, body, id=record["id"]))
    return found


@pytest.mark.parametrize(("kind", "documents", "recorded"), tables())
def test_table(kind: Any, documents: list[Json], recorded: Json) -> None:
    now = dt.datetime(2026, 2, 3, tzinfo=dt.UTC)
    got = table.to_table(kind, documents, now, list_metadata=recorded["metadata"])
    assert got["metadata"] == recorded["metadata"]
    assert [_aged(row["cells"]) for row in got["rows"]] == [
        _aged(row["cells"]) for row in recorded["rows"]
    ]
    assert [row["object"] for row in got["rows"]] == [row["object"] for row in recorded["rows"]]
    assert [_column(c) for c in got["columnDefinitions"]] == [
        _column(c) for c in recorded["columnDefinitions"]
    ]


def _aged(cells: list[Any]) -> list[Any]:
    return ["<age>" if c == "<unknown>" or _is_age(c) else c for c in cells]


def _is_age(cell: Any) -> bool:
    return isinstance(cell, str) and cell[-1:] in ("s", "d") and cell[:-1].isdigit()


def _column(column: Json) -> Json:
    words = " ".join(column["description"].split())
    return {**column, "description": "" if column["name"] in DESCRIPTION_DIFFERS else words}


# ------------------------------------------------------------------------------------------------------- discovery
STORED_AS_V1 = {"mutatingadmissionpolicies", "mutatingadmissionpolicybindings"}
"""The real server stores them as v1beta1, so that its hash of the stored version is another."""


def _hashless(entry: Json) -> Json:
    if entry["name"] not in STORED_AS_V1:
        return entry
    return {key: value for key, value in entry.items() if key != "storageVersionHash"}


def _lists() -> list[Any]:
    lines = (FOLDER / "9-discovery.jsonl").read_text().splitlines()
    return [
        pytest.param(r["request"]["path"], r["response"]["body"], id=r["id"])
        for r in map(json.loads, lines)
        if isinstance(r["response"].get("body"), dict)
        and r["response"]["body"].get("kind") in ("APIResourceList", "APIGroup")
    ]


@pytest.mark.parametrize(("path", "recorded"), _lists())
def test_discovery(path: str, recorded: Json) -> None:
    parts = path.strip("/").split("/")
    group = "" if parts[0] == "api" else parts[1]
    if recorded["kind"] == "APIGroup":
        if group in SCHEME.groups():
            assert discovery.api_group(SCHEME, group) == recorded
        else:
            assert discovery.api_group(SCHEME, group) is None
        return
    got = discovery.api_resource_list(SCHEME, group, parts[-1])
    if got is None:
        assert group not in SCHEME.groups()
        return
    ours = {entry["name"] for entry in got["resources"]}
    assert list(got) == list(recorded)
    known = [_hashless(e) for e in recorded["resources"] if e["name"] in ours]
    assert [_hashless(e) for e in got["resources"]] == known
    plurals = {name.split("/")[0] for name in ours}
    missing = {e["name"] for e in recorded["resources"] if e["name"].split("/")[0] in plurals}
    assert missing == ours


def test_openapi_operations() -> None:
    recorded = _record("9-discovery", "openapi/02")["response"]["body"]
    got = openapi.group_document(SCHEME, "apps", "v1")
    assert got is not None
    assert set(got["paths"]) <= set(recorded["_pathNames"])
    for path, item in recorded["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            ours = got["paths"][path][method]
            for key in ("operationId", "x-kubernetes-action", "x-kubernetes-group-version-kind"):
                assert ours[key] == operation[key]
            if "requestBody" in operation:
                assert set(ours["requestBody"]["content"]) == set(
                    operation["requestBody"]["content"]
                )


def test_that_the_recordings_are_there() -> None:
    assert (len(PATCHES), len(CREATES), len(APPLIES)) > (80, 40, 25)
    assert len(tables()) > 20
    assert len(_lists()) > 20

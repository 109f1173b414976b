"""Recorded conversations cut into steps that pure functions can answer: patches, applies, managers, tables.

Each step has the object as the recorded server held it before. Requests that only a server can judge (revision conflicts,
names against URLs, missing objects) are left out.
"""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.golden.api_pipeline import FOLDER, Target, admitted, comparable, target_of, timed

from machinery.api import decode, services, strategy
from machinery.api.defaults import apply_defaults
from machinery.api.patch import errors as patch_errors
from machinery.api.patch import gotext, json_patch, merge, restore, strategic
from machinery.api.scheme import ServedKind
from machinery.api.validation import validate_update
from machinery.meta.errors import BadRequest, invalid
from machinery.server.services.choosing import Choice, choose
from machinery.server.services.families import with_families
from machinery.server.services.ranges import AddressRange, PortRange

Json = Any
NOW = "2026-01-01T00:00:00Z"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
_SERVER_ONLY = r"on the URL|based on URL|Options|object has been modified|not found|does not allow|is forbidden"


@dataclass(frozen=True)
class Step:
    """One recorded request on one object."""

    id: str
    method: str
    media_type: str
    target: Target
    body: Json
    live: Json
    status: int
    answer: Json

    @property
    def manager(self) -> str:
        return self.target.query.get("fieldManager", ["rec"])[0]

    @property
    def force(self) -> bool:
        return self.target.query.get("force") == ["true"]


def steps(file: str) -> Iterator[Step]:
    """All writes of a file whose outcome depends on the object and the body alone."""
    held: dict[tuple[str, str, str, str], Json] = {}
    for line in (FOLDER / f"{file}.jsonl").read_text().splitlines():
        record = json.loads(line)
        request, response = record["request"], record["response"]
        target = target_of(request["path"]) if request["path"].count("/") > 3 else None
        answer = timed(response.get("body"))
        if target is None or not isinstance(answer, dict):
            continue
        name = target.name or (answer.get("metadata") or {}).get("name", "")
        key = (record["seq"], target.kind.kind, target.namespace, name)
        if "body" in request and not _server_only(answer):
            yield Step(
                record["id"],
                request["method"],
                (request.get("headers") or {}).get("Content-Type", ""),
                target,
                timed(request["body"]),
                held.get(key) if request["method"] != "POST" else None,
                response["status"],
                answer,
            )
        if request["method"] == "DELETE" or target.subresource == "scale":
            for other in [k for k in held if k[:2] == key[:2] and (not name or k == key)]:
                del held[other]  # what is there now is seen at the next read
        elif (
            response["status"] < 300
            and answer.get("kind") == target.kind.kind
            and "dryRun" not in target.query
        ):
            held[key] = answer


def _server_only(answer: Json) -> bool:
    return answer.get("kind") == "Status" and bool(
        re.search(_SERVER_ONLY, str(answer.get("message", "")))
    )


def patched(step: Step) -> Json:
    """The object that a patch asks for, defaults included: what field managers are told."""
    kind = step.target.kind
    shown = ""
    if step.media_type == STRATEGIC:
        result = strategic.apply(kind.schema_name, step.live, step.body)
        shown = gotext.text(step.body)
    elif step.media_type == MERGE:
        result = merge.apply(step.live, step.body)
    else:
        result = json_patch.apply(step.live, step.body)
    try:
        tidy, _ = decode.check_fields(
            kind, result, step.target.query.get("fieldValidation", ["Warn"])[0]
        )
    except BadRequest as error:
        raise patch_errors.unfit_result(
            shown or json.dumps(result, separators=(",", ":"), ensure_ascii=False),
            (shown and restore.complaint(kind.schema_name, result)) or error.message,
        ) from None
    return apply_defaults(kind, tidy)


def settled(step: Step, document: Json) -> Json:
    """The object after admission, strategy and validation, without what only a server sets."""
    kind: ServedKind = step.target.kind
    sub = step.target.subresource
    if not sub:
        document = admitted(kind, document, step.live)
    document = strategy.prepare_update(kind, document, step.live, sub)
    if kind.kind == "Service":
        document = allocated(document, step.live)
    if causes := validate_update(kind, document, step.live, sub):
        raise invalid(kind.kind, kind.group, step.target.name, causes)
    return comparable(document)


def allocated(document: Json, live: Json) -> Json:
    """A Service with the node ports that the recorded server happened to choose."""
    numbers = itertools.count(1)
    choice = Choice(
        (AddressRange.parse("10.0.0.0/16"),), PortRange(), lambda _key: False, lambda _key: False,
        lambda _below: next(numbers),
    )  # fmt: skip
    document = services.prepare_update(document, live)
    spec = with_families(document["spec"], live["spec"], ("IPv4",), live["metadata"]["name"])
    return {**document, "spec": choose(spec, live["spec"], live["metadata"]["name"], choice)}


def managers(document: Json) -> list[Json]:
    """managedFields without times and in an order that no clock decides."""
    rows = [
        {key: value for key, value in row.items() if key != "time"}
        for row in document["metadata"].get("managedFields") or ()
    ]
    return sorted(rows, key=lambda r: (r["operation"], r["manager"], r.get("subresource", "")))

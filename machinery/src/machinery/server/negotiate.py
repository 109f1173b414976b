"""Content negotiation: what the client can read, and in which form the answer goes out.

Answers are JSON (or YAML); a request that accepts protobuf alone is refused with 406. `as=Table` and
`as=PartialObjectMetadata(List)` are the same object seen through a transformation, for GET, LIST and WATCH.
"""

import enum
from dataclasses import dataclass
from functools import lru_cache

from machinery.meta.errors import NotAcceptable

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"


class Form(enum.Enum):
    """How an object is shown."""

    OBJECT = "object"
    TABLE = "table"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The outcome: form, encoding and the version of the metadata kinds (v1 or v1beta1)."""

    form: Form = Form.OBJECT
    yaml: bool = False
    version: str = "v1"
    discovery: str = ""
    """`v2` when aggregated discovery was asked for."""


@dataclass(frozen=True, slots=True)
class _Clause:
    media_type: str
    parameters: dict[str, str]


@lru_cache(maxsize=512)
def negotiate(accept: str, *, streaming: bool = False) -> Accepted:
    """The first clause that we can serve. Raises NotAcceptable."""
    if not accept or accept in ("*/*", JSON):
        return Accepted()
    for clause in _clauses(accept):
        found = _serve(clause, streaming)
        if found is not None:
            return found
    if streaming:
        offered = f"{JSON};stream=watch, {PROTOBUF};stream=watch"
    else:
        offered = f"{JSON}, {YAML}, {PROTOBUF}"
    raise NotAcceptable(f"only the following media types are accepted: {offered}")


def _serve(clause: _Clause, streaming: bool) -> Accepted | None:
    media, parameters = clause.media_type, clause.parameters
    yaml = media in (YAML, "application/x-yaml")
    if media not in (JSON, "*/*", "application/*") and (not yaml or streaming):
        return None
    form = parameters.get("as", "")
    if not form:
        return Accepted(yaml=yaml)
    group, version = parameters.get("g", ""), parameters.get("v", "")
    if form == "APIGroupDiscoveryList":
        if group == "apidiscovery.k8s.io" and version == "v2":
            return Accepted(discovery="v2")
        return None
    if group != "meta.k8s.io" or version not in ("v1", "v1beta1"):
        return None
    if form == "Table":
        return Accepted(Form.TABLE, yaml, version)
    if form in ("PartialObjectMetadata", "PartialObjectMetadataList"):
        return Accepted(Form.PARTIAL, yaml, version)
    return None


def _clauses(accept: str) -> list[_Clause]:
    found = []
    for number, text in enumerate(accept.split(",")):
        media, *rest = [piece.strip() for piece in text.split(";")]
        parameters = dict(
            (key.strip(), value.strip().strip('"'))
            for key, _, value in (piece.partition("=") for piece in rest)
        )
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 1.0
        if media and quality > 0:
            found.append((-quality, number, _Clause(media.lower(), parameters)))
    return [clause for _, _, clause in sorted(found, key=lambda item: item[:2])]


def media_type(content_type: str) -> str:
    """`application/json` of `application/json; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower() if content_type else ""

"""OpenAPI: what kubectl reads before it creates, applies, diffs or explains.

kubectl 1.32 fetches the v3 index and one group document at every create and apply. It looks for the `fieldValidation` and
`dryRun` query parameters on the PATCH operation of the kind, for strategic merge patch among the body's media types, and
for `x-kubernetes-group-version-kind` on schemas; without them it falls back to v2 in protobuf and fails. Documents hold
only the schemas that their operations reach. They are made once per set of kinds and kept as bytes with their hash, which
the index carries, so that clients may keep them for ever.
"""

import hashlib
from functools import lru_cache

import orjson

from machinery.api.openapi.operations import path_items
from machinery.api.openapi.reach import component_schemas
from machinery.api.openapi.swagger import swagger_of
from machinery.api.scheme import Scheme, ServedKind
from machinery.meta.resource import Document

VERSION = "1.36"
_DOCUMENTS_MAX = 512
"""Group documents kept; one server has some twenty, and those of its custom kinds."""

_Identity = tuple[int, ...]


def index(scheme: Scheme) -> Document:
    """`/openapi/v3`: where the document of each group and version is, under its hash."""
    paths: Document = {}
    for group, versions in scheme.groups().items():
        for version in versions:
            at = f"apis/{group}/{version}" if group else f"api/{version}"
            _, digest = group_bytes(scheme, group, version)
            paths[at] = {"serverRelativeURL": f"/openapi/v3/{at}?hash={digest}"}
    return {"paths": dict(sorted(paths.items()))}


def group_bytes(scheme: Scheme, group: str, version: str) -> tuple[bytes, str]:
    """The v3 document of a group and version as JSON, and its hash; `(b"", "")` where it is not served."""
    kinds = _kinds(scheme, group, version)
    return _rendered(kinds, _identity(kinds)) if kinds else (b"", "")


def group_document(scheme: Scheme, group: str, version: str) -> Document | None:
    """The v3 document of a group and version, or None where it is not served."""
    raw, _ = group_bytes(scheme, group, version)
    return orjson.loads(raw) if raw else None


def swagger_bytes(scheme: Scheme) -> tuple[bytes, str]:
    """`/openapi/v2` as JSON, and its hash."""
    kinds = scheme.kinds
    return _rendered_swagger(kinds, _identity(kinds))


def _kinds(scheme: Scheme, group: str, version: str) -> tuple[ServedKind, ...]:
    found = [kind for kind in scheme.kinds if kind.group == group and kind.version == version]
    return tuple(sorted(found, key=lambda kind: kind.plural))


def _identity(kinds: tuple[ServedKind, ...]) -> _Identity:
    """Kinds are equal whatever their schema says, so the schemas tell cache entries apart."""
    return tuple(id(kind.schema) for kind in kinds)


@lru_cache(maxsize=_DOCUMENTS_MAX)
def _rendered(kinds: tuple[ServedKind, ...], _identity_of_schemas: _Identity) -> tuple[bytes, str]:
    return _with_hash(_document(kinds))


@lru_cache(maxsize=2)
def _rendered_swagger(
    kinds: tuple[ServedKind, ...], _identity_of_schemas: _Identity
) -> tuple[bytes, str]:
    return _with_hash(swagger_of(_document(kinds)))


def _document(kinds: tuple[ServedKind, ...]) -> Document:
    paths = path_items(kinds)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": component_schemas(paths, kinds),
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey",
                    "description": "Bearer Token authentication",
                    "name": "authorization",
                    "in": "header",
                }
            },
        },
    }


def _with_hash(document: Document) -> tuple[bytes, str]:
    raw = orjson.dumps(document)
    return raw, hashlib.sha256(raw).hexdigest().upper()

"""What a request sent and what it got, as documents: only worked out where the policy wants bodies."""

from collections.abc import Mapping

import orjson
import yaml

from machinery.api import decode, kinds, syntax
from machinery.api.scheme import Scheme, ServedKind
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document
from machinery.server.negotiate import YAML, media_type
from machinery.server.replies import JSON_TYPE, Reply
from machinery.server.request import RequestInfo

DELETE_OPTIONS = ServedKind(
    "", "v1", "DeleteOptions", "deleteoptions", "deleteoptions", False,
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
)  # fmt: skip


def sent(
    scheme: Scheme, info: RequestInfo, headers: Mapping[str, str], body: bytes | None
) -> Document | None:
    """The object, the patch or the options in a body. None: there is none, or it cannot be read."""
    if not body or not info.is_resource:
        return None
    media = media_type(headers.get("Content-Type", ""))
    try:
        if info.verb == "patch":
            return _patch(body)
        kind = _kind(scheme, info)
        return None if kind is None else decode.decode_body(kind, body, media, "Ignore").document
    except (StatusError, syntax.BadSyntax):
        return None


def _patch(body: bytes) -> Document | None:
    """A patch as it came; a list (JSON patch) as well. An apply may be YAML."""
    try:
        found: Document = orjson.loads(body)
    except orjson.JSONDecodeError:
        found, _ = syntax.parse_yaml(body)
    return found


def _kind(scheme: Scheme, info: RequestInfo) -> ServedKind | None:
    if info.verb in ("delete", "deletecollection"):
        return DELETE_OPTIONS
    kind = scheme.by_plural(info.group, info.version, info.resource)
    sub = None if kind is None else kind.subresource(info.subresource)
    return kind if kind is None or sub is None else kinds.subresource_body(kind, sub)


def got(reply: object) -> Document | None:
    """The object in an answer that came whole. None: it has none."""
    if not isinstance(reply, Reply) or not reply.payload:
        return None
    if any(name == "Content-Encoding" for name, _ in reply.extra):
        return None
    try:
        if reply.content == JSON_TYPE:
            found = orjson.loads(reply.payload)
        elif reply.content == YAML:
            found = yaml.safe_load(reply.payload)
        else:
            return None
    except (orjson.JSONDecodeError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict) else None

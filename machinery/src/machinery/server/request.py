"""What a request asks for: path, verb and query, split by hand.

The grammar of Kubernetes' paths is small and fixed, so one function replaces a router:

    /api/<version>/…                       the core group
    /apis/<group>/<version>/…              any other group
    …/<resource>[/<name>[/<subresource>[/<rest>]]]
    …/namespaces/<namespace>/<resource>…   the same within a namespace
    …/watch/…                              an older spelling of ?watch=1
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from machinery.meta.selectors import SelectorError, parse_fields

if TYPE_CHECKING:
    from machinery.server.audit.event import Trail

METHOD_VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
STREAMS = frozenset({"exec", "attach", "portforward"})
"""Subresources of pods that are upgrades. A GET of one (WebSocket) has the verb `get` and needs `create` too, as upstream."""
Query = dict[str, list[str]]
EMPTY_QUERY: Query = {}


@dataclass(slots=True)
class RequestInfo:
    """A request in the words of authorization: verb, group, resource, namespace, name."""

    method: str
    path: str
    query: Query
    verb: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    rest: tuple[str, ...] = ()
    audit: "Trail | None" = None
    """What the audit log knows of it; None where there is no audit log."""

    def first(self, key: str, default: str = "") -> str:
        """The first value of a query parameter."""
        values = self.query.get(key)
        return values[0] if values else default


def readable(text: str) -> str:
    """A text of the wire without what is no UTF-8: aiohttp keeps such bytes as half surrogates, which no JSON can carry."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def truthy(info: RequestInfo, key: str) -> bool:
    """A boolean query parameter as Go reads it: given and neither `false` nor `0`."""
    values = info.query.get(key)
    return values is not None and values[0].lower() not in ("false", "0")


def parse_target(method: str, target: str) -> RequestInfo:
    """The request for a method and a request target (path and query, undecoded)."""
    raw_path, _, raw_query = readable(target).partition("?")
    query = parse_qs(raw_query, keep_blank_values=True) if raw_query else EMPTY_QUERY
    verb = METHOD_VERBS.get(method, method.lower())
    info = RequestInfo(method, raw_path, query, verb)
    parts = raw_path.split("/")
    if parts[-1] == "" and len(parts) > 2:
        parts.pop()
    root = parts[1] if len(parts) > 1 else ""
    if root == "api" and len(parts) > 3:
        info.version = parts[2]
        _resource(info, parts[3:])
    elif root == "apis" and len(parts) > 4:
        info.group, info.version = parts[2], parts[3]
        _resource(info, parts[4:])
    elif "%" in raw_path:
        info.path = unquote(raw_path)
    return info


def _resource(info: RequestInfo, parts: list[str]) -> None:
    watching = False
    if parts[0] == "watch" and len(parts) > 1:
        watching, parts = True, parts[1:]
    info.is_resource = True
    if parts[0] == "namespaces" and len(parts) > 1:
        info.namespace = unquote(parts[1]) if "%" in parts[1] else parts[1]
        if len(parts) > 2 and not (parts[2] in NAMESPACE_SUBRESOURCES and len(parts) == 3):
            parts = parts[2:]
    info.resource = parts[0]
    if len(parts) > 1:
        info.name = unquote(parts[1]) if "%" in parts[1] else parts[1]
    if len(parts) > 2:
        info.subresource = parts[2]
    if len(parts) > 3:
        info.rest = tuple(parts[3:])
    if info.resource == "namespaces":
        info.namespace = info.name
    _collection_verb(info, watching)


def _collection_verb(info: RequestInfo, watching: bool) -> None:
    if info.verb == "get" and (watching or not info.name):
        info.verb = "watch" if watching or truthy(info, "watch") else "list"
        if not info.name and "fieldSelector" in info.query:
            info.name = _exact_name(info.first("fieldSelector"))
    elif info.verb == "delete" and not info.name:
        info.verb = "deletecollection"


def _exact_name(field_selector: str) -> str:
    """The one name that a field selector demands; authorization may then be by name."""
    try:
        return parse_fields(field_selector).exact("metadata.name") or ""
    except SelectorError:
        return ""

"""The operations of the kinds of one group and version, as path items."""

from machinery.api.kinds import SUBRESOURCE_KINDS
from machinery.api.openapi.reach import LIST_SUFFIX, META, reference
from machinery.api.scheme import ServedKind, Subresource
from machinery.meta.resource import Document

JSON_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
)
STRATEGIC = "application/strategic-merge-patch+json"
_CONNECT_KINDS = frozenset(
    {"NodeProxyOptions", "PodAttachOptions", "PodExecOptions", "PodPortForwardOptions"}
)


def _query(name: str, kind: str, description: str) -> Document:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": kind, "uniqueItems": True},
    }


_DRY_RUN = _query("dryRun", "string", "All: the request is checked and answered, and not kept.")
_FIELD_MANAGER = _query(
    "fieldManager", "string", "Who makes the change, up to 128 printable characters."
)
_FIELD_VALIDATION = _query(
    "fieldValidation",
    "string",
    "What becomes of unknown and duplicate fields: Ignore, Warn (default) or Strict.",
)
_FORCE = _query("force", "boolean", "Apply only: take over fields of other managers.")
_PRETTY = _query("pretty", "string", "If 'true', then the output is pretty printed.")
_DELETE = [
    _DRY_RUN,
    _query("gracePeriodSeconds", "integer", "Seconds before the object is removed."),
    _query("propagationPolicy", "string", "Orphan, Background or Foreground."),
]
_LIST = [
    _query("allowWatchBookmarks", "boolean", "Whether a watch may carry BOOKMARK events."),
    _query("continue", "string", "The token of the next part of a list."),
    _query("fieldSelector", "string", "Selects by fields."),
    _query("labelSelector", "string", "Selects by labels."),
    _query("limit", "integer", "How many items at most."),
    _query("resourceVersion", "string", "What resource versions the answer may be served from."),
    _query("resourceVersionMatch", "string", "How resourceVersion is meant: Exact, NotOlderThan."),
    _query("sendInitialEvents", "boolean", "Whether a watch begins with the present objects."),
    _query("timeoutSeconds", "integer", "How long a list or watch may take."),
    _query("watch", "boolean", "Watch instead of list."),
]
_WRITE = [_DRY_RUN, _FIELD_MANAGER, _FIELD_VALIDATION]
_DELETE_OPTIONS = META + "DeleteOptions"


def path_items(kinds: tuple[ServedKind, ...]) -> Document:
    """Path -> path item, for all kinds of one group and version (or of several, for v2)."""
    paths: Document = {}
    for kind in kinds:
        base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        paths.setdefault(base + "/", _resources(kind))
        namespaced = f"{base}/namespaces/{{namespace}}/{kind.plural}"
        collection = namespaced if kind.namespaced else f"{base}/{kind.plural}"
        _put(paths, collection, _collection(kind), _parameters(kind, named=False))
        if kind.namespaced and "list" in kind.verbs:
            everywhere = {"get": _list(kind, "ForAllNamespaces")}
            paths[f"{base}/{kind.plural}"] = everywhere | {"parameters": [_PRETTY]}
        _put(paths, collection + "/{name}", _object(kind), _parameters(kind, named=True))
        for sub in kind.subresources:
            at = f"{collection}/{{name}}/{sub.name}"
            _put(paths, at, _subresource(kind, sub), _parameters(kind, named=True))
    return dict(sorted(paths.items()))


def _put(paths: Document, path: str, operations: Document, parameters: list[Document]) -> None:
    if operations:
        paths[path] = operations | {"parameters": parameters}


def _parameters(kind: ServedKind, *, named: bool) -> list[Document]:
    """Of the path itself."""
    names = (["name"] if named else []) + (["namespace"] if kind.namespaced else [])
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ] + [_PRETTY]


def _tag(kind: ServedKind) -> str:
    group = kind.group.split(".", 1)[0] or "core"
    return f"{group}_{kind.version}"


def _id(verb: str, kind: ServedKind, scope: str = "", sub: str = "") -> str:
    group, version = _tag(kind).split("_")
    where = "Namespaced" if kind.namespaced and scope != "ForAllNamespaces" else ""
    return (
        f"{verb}{group[0].upper()}{group[1:]}{version.capitalize()}{where}{kind.kind}{sub}{scope}"
    )


def _operation(
    kind: ServedKind, verb: str, operation_id: str, action: str, gvk: Document | None = None
) -> Document:
    return {
        "tags": [_tag(kind)],
        "description": f"{verb} {kind.kind}",
        "operationId": operation_id,
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk or _gvk(kind.group, kind.version, kind.kind),
    }


def _gvk(group: str, version: str, kind: str) -> Document:
    return {"group": group, "version": version, "kind": kind}


def _content(schema: str, types: tuple[str, ...] = JSON_TYPES) -> Document:
    return {media: {"schema": reference(schema)} for media in types}


def _responses(schema: str, *codes: int) -> Document:
    words = {200: "OK", 201: "Created", 202: "Accepted"}
    found: Document = {
        str(code): {"description": words[code], "content": _content(schema)} for code in codes
    }
    return found | {"401": {"description": "Unauthorized"}}


def _body(schema: str, types: tuple[str, ...] = ("*/*",), *, required: bool = True) -> Document:
    body: Document = {"content": _content(schema, types)}
    return body | ({"required": True} if required else {})


def _collection(kind: ServedKind) -> Document:
    found: Document = {}
    if "list" in kind.verbs:
        found["get"] = _list(kind, "")
    if "create" in kind.verbs:
        found["post"] = _operation(kind, "create a", _id("create", kind), "post") | {
            "parameters": _WRITE,
            "requestBody": _body(kind.schema_name),
            "responses": _responses(kind.schema_name, 200, 201, 202),
        }
    if "deletecollection" in kind.verbs:
        operation_id = _id("deleteCollection", kind)
        found["delete"] = _operation(
            kind, "delete collection of", operation_id, "deletecollection"
        ) | {
            "parameters": [*_DELETE, *_LIST[1:9]],
            "requestBody": _body(_DELETE_OPTIONS, required=False),
            "responses": _responses(META + "Status", 200),
        }
    return found


def _list(kind: ServedKind, scope: str) -> Document:
    return _operation(kind, "list or watch objects of kind", _id("list", kind, scope), "list") | {
        "parameters": _LIST,
        "responses": _responses(kind.schema_name + LIST_SUFFIX, 200),
    }


def _object(kind: ServedKind) -> Document:
    found: Document = {}
    schema = kind.schema_name
    if "get" in kind.verbs:
        found["get"] = _operation(kind, "read the specified", _id("read", kind), "get") | {
            "responses": _responses(schema, 200)
        }
    if "update" in kind.verbs:
        found["put"] = _operation(kind, "replace the specified", _id("replace", kind), "put") | {
            "parameters": _WRITE,
            "requestBody": _body(schema),
            "responses": _responses(schema, 200, 201),
        }
    if "patch" in kind.verbs:
        found["patch"] = _patch(kind, schema, _id("patch", kind), None)
    if "delete" in kind.verbs:
        found["delete"] = _operation(kind, "delete a", _id("delete", kind), "delete") | {
            "parameters": _DELETE,
            "requestBody": _body(_DELETE_OPTIONS, required=False),
            "responses": _responses(META + "Status", 200, 202),
        }
    return found


def _patch(kind: ServedKind, schema: str, operation_id: str, gvk: Document | None) -> Document:
    types = PATCH_TYPES if kind.custom else (*PATCH_TYPES, STRATEGIC)
    return _operation(kind, "partially update the specified", operation_id, "patch", gvk) | {
        "parameters": [*_WRITE, _FORCE],
        "requestBody": _body(META + "Patch", types),
        "responses": _responses(schema, 200, 201),
    }


def _subresource(kind: ServedKind, sub: Subresource) -> Document:
    group, version = (sub.group, sub.version) if sub.version else (kind.group, kind.version)
    gvk = _gvk(group, version, sub.kind)
    own = sub.kind == kind.kind
    schema = kind.schema_name if own else SUBRESOURCE_KINDS.get((group, version, sub.kind))
    suffix = sub.name.capitalize()
    if schema is None or sub.kind in _CONNECT_KINDS or sub.name == "log":
        return _connect(kind, sub, gvk)
    found: Document = {}
    if "get" in sub.verbs:
        found["get"] = _operation(
            kind, f"read {sub.name} of the specified", _id("read", kind, sub=suffix), "get", gvk
        ) | {"responses": _responses(schema, 200)}
    if "create" in sub.verbs:
        found["post"] = _operation(
            kind, f"create {sub.name} of a", _id("create", kind, sub=suffix), "post", gvk
        ) | {
            "parameters": _WRITE,
            "requestBody": _body(schema),
            "responses": _responses(schema, 200, 201, 202),
        }
    if "update" in sub.verbs:
        found["put"] = _operation(
            kind,
            f"replace {sub.name} of the specified",
            _id("replace", kind, sub=suffix),
            "put",
            gvk,
        ) | {
            "parameters": _WRITE,
            "requestBody": _body(schema),
            "responses": _responses(schema, 200, 201),
        }
    if "patch" in sub.verbs:
        found["patch"] = _patch(kind, schema, _id("patch", kind, sub=suffix), gvk)
    return found


def _connect(kind: ServedKind, sub: Subresource, gvk: Document) -> Document:
    """Streams and logs: no schema, text or an upgrade."""
    methods = {
        "get": "get",
        "create": "post",
        "update": "put",
        "patch": "patch",
        "delete": "delete",
    }
    text = {"200": {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}}}
    action = "get" if sub.name == "log" else "connect"
    suffix = sub.name.capitalize()
    return {
        methods[verb]: _operation(
            kind, f"connect to {sub.name} of", _id(f"connect{verb.capitalize()}", kind, sub=suffix),
            action, gvk,
        ) | {"responses": text | {"401": {"description": "Unauthorized"}}}
        for verb in sub.verbs
    }  # fmt: skip


def _resources(kind: ServedKind) -> Document:
    group, version = _tag(kind).split("_")
    operation_id = f"get{group[0].upper()}{group[1:]}{version.capitalize()}APIResources"
    return {
        "get": {
            "tags": [_tag(kind)],
            "description": "get available resources",
            "operationId": operation_id,
            "responses": _responses(META + "APIResourceList", 200),
        }
    }

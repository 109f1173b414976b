"""The v2 (Swagger) form, derived from v3: for clients that never learnt v3. JSON only; the protobuf form is not served."""

from collections.abc import Mapping
from typing import Any

from machinery.api.openapi.reach import PREFIX
from machinery.meta.resource import Document

_DEFINITIONS = "#/definitions/"
_METHODS = frozenset({"get", "put", "post", "patch", "delete"})


def swagger_of(document: Mapping[str, Any]) -> Document:
    """The v2 document that says what a v3 document says."""
    components = document["components"]
    return {
        "swagger": "2.0",
        "info": document["info"],
        "paths": {path: _path(item) for path, item in document["paths"].items()},
        "definitions": {name: _schema(s) for name, s in components["schemas"].items()},
        "securityDefinitions": components["securitySchemes"],
        "security": [{"BearerToken": []}],
    }


def _path(item: Mapping[str, Any]) -> Document:
    found: Document = {m: _operation(o) for m, o in item.items() if m in _METHODS}
    if "parameters" in item:
        found["parameters"] = [_parameter(p) for p in item["parameters"]]
    return found


def _operation(operation: Mapping[str, Any]) -> Document:
    kept = {
        key: value
        for key, value in operation.items()
        if key not in ("parameters", "requestBody", "responses")
    }
    parameters = [_parameter(p) for p in operation.get("parameters") or ()]
    body = operation.get("requestBody")
    if body:
        kept["consumes"] = list(body["content"])
        schema = _schema(next(iter(body["content"].values()))["schema"])
        required = {"required": True} if body.get("required") else {}
        parameters.insert(0, {"name": "body", "in": "body", "schema": schema} | required)
    kept["produces"] = ["application/json"]
    return kept | {
        "parameters": parameters,
        "responses": {c: _response(r) for c, r in operation["responses"].items()},
    }


def _parameter(parameter: Mapping[str, Any]) -> Document:
    return {k: v for k, v in parameter.items() if k != "schema"} | dict(parameter["schema"])


def _response(response: Mapping[str, Any]) -> Document:
    found = {"description": response["description"]}
    content = response.get("content")
    if content:
        found["schema"] = _schema(next(iter(content.values()))["schema"])
    return found


def _schema(node: Any) -> Any:
    """References point elsewhere, one-part `allOf` is the reference itself, alternatives of scalars are a string."""
    if isinstance(node, list):
        return [_schema(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    parts = node.get("allOf")
    if isinstance(parts, list) and len(parts) == 1:
        rest = {k: v for k, v in node.items() if k not in ("allOf", "default")}
        return rest | _schema(parts[0])
    found: Document = {}
    for key, value in node.items():
        if key == "properties" and isinstance(value, Mapping):
            found[key] = {name: _schema(part) for name, part in value.items()}
        elif key == "$ref" and isinstance(value, str):
            found[key] = _DEFINITIONS + value.removeprefix(PREFIX)
        elif key in ("oneOf", "anyOf"):
            found["type"] = node.get("type") or "string"
        else:
            found[key] = _schema(value)
    return found

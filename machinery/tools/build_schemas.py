# ruff: noqa: INP001
"""Cuts the schema data file of the API out of the package kubernetes-validate. Run by hand, the result is committed:

    .venv/bin/python machinery/tools/build_schemas.py

In: `_definitions.json` of the served version, and go_types.txt beside this script (what an OpenAPI schema does not say:
field order, pointers, what is left out when empty, the Go type named in error messages). Out: one zlib-compressed JSON
file with the definitions that the served kinds reach, in OpenAPI v3 form as upstream serves it.
"""

import json
import sys
import zlib
from importlib import resources
from pathlib import Path
from typing import Any

from machinery.api.kinds import BUILTIN, SUBRESOURCE_KINDS
from machinery.api.template_kinds import RUN_BY_MEMBERS, TEMPLATE_KINDS

VERSION = "v1.36.0-local"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
ALWAYS = tuple(
    META + name
    for name in (
        "APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "DeleteOptions", "ListMeta",
        "ObjectMeta", "Patch", "Status", "WatchEvent", "Condition",
    )
)  # fmt: skip
REFERENCE = "#/components/schemas/"
_PREFIXES = {
    "meta.v1": META[:-1],
    "apiextensions.v1": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
}
OUT = Path(__file__).parent.parent / "src/machinery/api/data/schemas.json.zlib"
INT_OR_STRING = {
    "format": "int-or-string",
    "oneOf": [{"type": "integer"}, {"type": "string"}],
}
QUANTITY = {"oneOf": [{"type": "string"}, {"type": "number"}]}

Json = Any


def clean(schema: Json) -> Json:
    """One schema in upstream's v3 form: no null types, references in allOf, no enum on apiVersion and kind."""
    if isinstance(schema, list):
        return [clean(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: clean(value) for key, value in schema.items() if key != "properties"}
    if isinstance(schema.get("properties"), dict):
        out["properties"] = {k: _property(k, v) for k, v in schema["properties"].items()}
    kind = out.get("type")
    if isinstance(kind, list):
        out["type"] = next(item for item in kind if item != "null")
    if isinstance(reference := out.pop("$ref", None), str):
        out["allOf"] = [{"$ref": REFERENCE + reference.rsplit("/", 1)[1]}]
    return out


def _property(name: str, schema: Json) -> Json:
    out = clean(schema)
    if name in ("apiVersion", "kind"):
        out.pop("enum", None)
    return out


def references(schema: Json) -> set[str]:
    """The definitions that a cleaned schema names."""
    if isinstance(schema, list):
        return {name for item in schema for name in references(item)}
    if not isinstance(schema, dict):
        return set()
    found = {name for value in schema.values() for name in references(value)}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found.add(reference.removeprefix(REFERENCE))
    return found


def reachable(definitions: dict[str, Json], roots: list[str]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found or name not in definitions:
            continue
        found[name] = clean(definitions[name])
        waiting += references(found[name])
    for name, schema in found.items():
        if name.endswith(".intstr.IntOrString"):
            found[name] = INT_OR_STRING
        elif name.endswith(".resource.Quantity"):
            found[name] = QUANTITY | {k: v for k, v in schema.items() if k == "description"}
    return dict(sorted(found.items()))


def go_types(text: str) -> dict[str, list[list[str]]]:
    """Definition name -> [field, Go type, `o` or ``] in struct order, inlined structs unfolded."""
    raw: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            package, struct, *fields = line.split(" ")
            raw[f"{_prefix(package)}.{struct}"] = fields

    def unfold(name: str) -> list[list[str]]:
        rows: list[list[str]] = []
        for field in raw.get(name, ()):
            if field.startswith("+"):
                rows += unfold(f"{name.rsplit('.', 1)[0]}.{field[1:]}")
                continue
            key, _, rest = field.partition("=")
            go, _, omit = rest.partition(",")
            rows.append([key, _qualified(go), omit])
        return rows

    return {name: unfold(name) for name in raw}


def _prefix(package: str) -> str:
    return _PREFIXES.get(package, "io.k8s.api." + package)


def _qualified(go: str) -> str:
    """`[]Volume` -> `[]v1.Volume`: how Go's messages name a type."""
    head = go.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")
    name = go[len(head) :]
    if "." in name:
        package, _, bare = name.rpartition(".")
        name = f"{'v1' if package in ('metav1', 'corev1', 'v1') else package}.{bare}"
    elif name[:1].isupper():
        name = "v1." + name
    return head + name


def main() -> int:
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / VERSION
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    kinds = (*BUILTIN, *TEMPLATE_KINDS, *RUN_BY_MEMBERS)
    roots = [kind.schema_name for kind in kinds] + list(SUBRESOURCE_KINDS.values())
    roots += [name + "List" for name in roots] + list(ALWAYS)
    found = reachable(definitions, roots)
    types = go_types((Path(__file__).parent / "go_types.txt").read_text())
    data = {
        "version": VERSION.partition("-")[0],
        "definitions": found,
        "go": {
            name: [row for row in types[name] if row[0] in schema.get("properties", {})]
            for name, schema in found.items()
            if name in types
        },
    }
    packed = zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 9)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(packed)
    sys.stdout.write(f"{len(found)} definitions, {len(data['go'])} structs, {len(packed)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

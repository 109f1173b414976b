"""The pieces of which the schemas of our own kinds are written: OpenAPI v3 as CustomResourceDefinitions have it. Pure."""

from typing import Any

from machinery.api.scheme import Column, ServedKind, Subresource

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "format": "int32"}
LARGE: Schema = {"type": "integer", "format": "int64"}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
ANY: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
QUANTITY: Schema = {"x-kubernetes-int-or-string": True}
_DIGITS = r"(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
NUMERAL: Schema = QUANTITY | {
    "pattern": rf"^(\+|-)?{_DIGITS}(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?{_DIGITS}))?$"
}
"""A quantity that is refused unless it can be read, in the words of custom resources."""


CATEGORIES = {"karmada.io": ("karmada-io",), "x-k8s.io": (), "k8s.io": ()}
"""What `kubectl get CATEGORY` shows, by the group's domain; all others are ours."""


def struct(required: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": fields}
    return schema | ({"required": list(required)} if required else {})


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items} | more


def mapping(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def choice(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


REQUIREMENT = struct(("key", "operator"), key=TEXT, operator=TEXT, values=array(TEXT))
LABEL_SELECTOR = struct(matchLabels=mapping(TEXT), matchExpressions=array(REQUIREMENT))
RESOURCE_SELECTOR = struct(
    ("apiVersion", "kind"),
    apiVersion=TEXT, kind=TEXT, namespace=TEXT, name=TEXT, labelSelector=LABEL_SELECTOR,
)  # fmt: skip
TOLERATION = struct(key=TEXT, operator=TEXT, value=TEXT, effect=TEXT, tolerationSeconds=LARGE)
TAINT = struct(("effect", "key"), key=TEXT, value=TEXT, effect=TEXT, timeAdded=TIME)
AFFINITY_FIELDS = {
    "labelSelector": LABEL_SELECTOR,
    "fieldSelector": struct(matchExpressions=array(REQUIREMENT)),
    "clusterNames": array(TEXT),
    "exclude": array(TEXT),
}
AFFINITY = struct(**AFFINITY_FIELDS)
"""Which clusters are meant."""
CONDITION = struct(
    ("type", "status"),
    type=TEXT, status=choice("True", "False", "Unknown"), reason=TEXT, message=TEXT,
    lastTransitionTime=TIME, observedGeneration=LARGE,
)  # fmt: skip
CONDITIONS = array(CONDITION)
AGE = Column("Age", "date", ".metadata.creationTimestamp")


def served(  # noqa: PLR0913
    group_version: str,
    kind: str,
    plural: str,
    short: str,
    *,
    namespaced: bool,
    spec: Schema | None = None,
    status: Schema | None = None,
    columns: tuple[Column, ...] = (),
    spec_required: bool = True,
) -> ServedKind:
    """One kind with `spec` and `status` as they are given; `short` names are parted by blanks."""
    group, version = group_version.split("/")
    meta: Schema = {
        "apiVersion": TEXT,
        "kind": TEXT,
        "metadata": {"type": "object"},
    }
    fields = meta | ({"spec": spec} if spec is not None else {})
    fields |= {"status": status} if status is not None else {}
    return ServedKind(
        group,
        version,
        kind,
        plural,
        kind.lower(),
        namespaced,
        f"io.ubernetes.{group}.{version}.{kind}",
        short_names=tuple(short.split()),
        categories=CATEGORIES.get(group.split(".", 1)[-1], ("ubernetes",)),
        subresources=(Subresource("status", kind),) if status is not None else (),
        schema=struct(("spec",) if spec is not None and spec_required else (), **fields)
        | {"x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": kind}]},
        custom=True,
        columns=columns,
        has_status=status is not None,
    )

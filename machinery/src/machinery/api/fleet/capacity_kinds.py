"""CapacityEstimate as members serve it."""

from dataclasses import replace

from machinery.api.fleet.schema import (
    ANY,
    NUMBER,
    QUANTITY,
    TEXT,
    TOLERATION,
    array,
    mapping,
    served,
    struct,
)
from machinery.api.scheme import ServedKind

_REQUIREMENTS = struct(
    nodeClaim=struct(
        hardNodeAffinity=ANY, nodeSelector=mapping(TEXT), tolerations=array(TOLERATION)
    ),
    resourceRequest=mapping(QUANTITY),
    namespace=TEXT,
    priorityClassName=TEXT,
)
CAPACITY_ESTIMATE = replace(
    served(
        "ubernetes.io/v1alpha1", "CapacityEstimate", "capacityestimates", "", namespaced=False,
        spec=struct(
            ("replicaRequirements",),
            replicaRequirements=_REQUIREMENTS,
            replicas=NUMBER | {"minimum": 0},
        ),
        status=struct(
            replicas=NUMBER,
            byNode=array(struct(("name",), name=TEXT, replicas=NUMBER)),
            reason=TEXT,
        ),
    ),
    verbs=("create",), subresources=(), has_status=False, categories=(),
)  # fmt: skip
ESTIMATES: tuple[ServedKind, ...] = (CAPACITY_ESTIMATE,)

"""Whether a body can be read into Go's structs at all, and the sentence of Go's decoder when it cannot.

Karmada's mutating webhooks decode before the schema is asked, so a wrong type is their 400 and no 422. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_STRUCTS: Final[Mapping[str, str]] = {
    "resourceSelectors": "ResourceSelector",
    "placement": "Placement",
    "clusterAffinity": "ClusterAffinity",
    "targetCluster": "ClusterAffinity",
    "clusterAffinities": "ClusterAffinityTerm",
    "overflowAffinities": "OverflowClusterAffinity",
    "fieldSelector": "FieldSelector",
    "spreadConstraints": "SpreadConstraint",
    "replicaScheduling": "ReplicaSchedulingStrategy",
    "weightPreference": "ClusterPreferences",
    "staticWeightList": "StaticClusterWeight",
    "workloadAffinity": "WorkloadAffinity",
    "affinity": "WorkloadAffinityTerm",
    "antiAffinity": "WorkloadAntiAffinityTerm",
    "suspension": "Suspension",
    "dispatchingOnClusters": "SuspendClusters",
    "failover": "FailoverBehavior",
    "application": "ApplicationFailoverBehavior",
    "cluster": "ClusterFailoverBehavior",
    "decisionConditions": "DecisionConditions",
    "statePreservation": "StatePreservation",
    "rules": "StatePreservationRule",
    "schedulePriority": "SchedulePriority",
    "overrideRules": "RuleWithCluster",
    "overriders": "Overriders",
    "plaintext": "PlaintextOverrider",
    "imageOverrider": "ImageOverrider",
    "predicate": "ImagePredicate",
    "commandOverrider": "CommandArgsOverrider",
    "argsOverrider": "CommandArgsOverrider",
    "labelsOverrider": "LabelAnnotationOverrider",
    "annotationsOverrider": "LabelAnnotationOverrider",
    "fieldOverrider": "FieldOverrider",
    "json": "JSONPatchOperation",
    "yaml": "YAMLPatchOperation",
}
_SHARED: Final[Mapping[str, str]] = {
    "labelSelector": "v1.LabelSelector",
    "clusterTolerations": "v1.Toleration",
    "scaleTargetRef": "v2.CrossVersionObjectReference",
    "describedObject": "v2.CrossVersionObjectReference",
    "metrics": "v2.MetricSpec",
    "metric": "v2.MetricIdentifier",
    "target": "v2.MetricTarget",
    "resource": "v2.ResourceMetricSource",
    "containerResource": "v2.ContainerResourceMetricSource",
    "pods": "v2.PodsMetricSource",
    "object": "v2.ObjectMetricSource",
    "external": "v2.ExternalMetricSource",
    "behavior": "v2.HorizontalPodAutoscalerBehavior",
    "scaleUp": "v2.HPAScalingRules",
    "scaleDown": "v2.HPAScalingRules",
    "policies": "v2.HPAScalingPolicy",
}
"""Structs of Kubernetes' own packages."""
_WORDS: Final[Mapping[str, str]] = {
    "conflictResolution": "v1alpha1.ConflictResolution",
    "preemption": "v1alpha1.PreemptionBehavior",
    "activationPreference": "v1alpha1.ActivationPreference",
    "replicaSchedulingType": "v1alpha1.ReplicaSchedulingType",
    "replicaDivisionPreference": "v1alpha1.ReplicaDivisionPreference",
    "dynamicWeight": "v1alpha1.DynamicWeightFactor",
    "spreadByField": "v1alpha1.SpreadFieldValue",
    "purgeMode": "v1alpha1.PurgeMode",
    "priorityClassSource": "v1alpha1.PriorityClassSource",
    "component": "v1alpha1.ImageComponent",
    "selectPolicy": "v2.ScalingPolicySelect",
}
"""Texts with a type of their own."""
_OWNERS: Final = {"PropagationSpec": "PropagationPolicy", "OverrideSpec": "OverridePolicy"}
"""Whose `spec` a struct is, where its name does not say it."""
_TYPES: Final[Mapping[str, str]] = {
    "v2.MetricSpec": "v2.MetricSourceType",
    "v2.MetricTarget": "v2.MetricTargetType",
    "v2.HPAScalingPolicy": "v2.HPAScalingPolicyType",
}
"""What `type` is, by its struct."""
_OPERATORS: Final[Mapping[str, str]] = {
    "v1.Toleration": "v1.TolerationOperator",
    "v1.LabelSelectorRequirement": "v1.LabelSelectorOperator",
    "v1.NodeSelectorRequirement": "v1.NodeSelectorOperator",
}
_JSON: Final = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}  # fmt: skip
_PYTHON: Final = {"string": str, "boolean": bool, "array": list, "object": dict}


def mismatch(schema: Schema, spec: Any, struct: str) -> str:
    """Go's sentence on the first value of `spec` that its struct cannot take; empty when all fit."""
    if not isinstance(spec, dict):
        whole = _OWNERS.get(struct, struct.removesuffix("Spec"))
        return _sentence(spec, f"{whole}.spec", f"v1alpha1.{struct}")
    return _struct(schema, spec, f"v1alpha1.{struct}", "spec")


def _struct(schema: Schema, value: dict[str, Any], struct: str, path: str) -> str:
    for key, part in (schema.get("properties") or {}).items():
        if (one := value.get(key)) is None:
            continue
        where = f"{struct.rpartition('.')[2]}.{path}.{key}"
        if said := _value(part, one, _go(key, part, struct), where, f"{path}.{key}"):
            return said
    return ""


def _value(part: Schema, value: Any, go: str, where: str, path: str) -> str:
    kind = part.get("type")
    if kind is None or part.get("x-kubernetes-preserve-unknown-fields"):
        return ""
    if kind == "integer":
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, _PYTHON.get(str(kind), object))
    if not fits:
        return _sentence(value, where, go)
    if kind == "array":
        found = (
            _value(part["items"], one, go.removeprefix("[]"), where, path)
            for one in value
            if one is not None
        )
        return next((said for said in found if said), "")
    if kind == "object" and "properties" in part:
        return _struct(part, value, go, path)
    if kind == "object" and "additionalProperties" in part:
        strange = next((v for v in value.values() if not isinstance(v, str)), "")
        return _sentence(strange, where, "string") if strange else ""
    return ""


def _go(key: str, part: Schema, struct: str) -> str:
    """The Go type of a field."""
    kind = part.get("type")
    if kind == "array":
        return "[]" + _go(key, part["items"], struct)
    if kind == "object" and "additionalProperties" in part:
        return "map[string]string"
    if kind == "object":
        if key == "matchExpressions":
            owner = "LabelSelector" if struct == "v1.LabelSelector" else "NodeSelector"
            return f"v1.{owner}Requirement"
        return _SHARED.get(key) or f"v1alpha1.{_STRUCTS.get(key, key)}"
    if kind == "integer":
        return str(part.get("format", "int32"))
    if kind == "boolean":
        return "bool"
    if key == "type":
        return _TYPES.get(struct, "string")
    if key == "operator":
        return _OPERATORS.get(struct, "v1alpha1.OverriderOperator")
    return _WORDS.get(key, "string")


def _sentence(value: Any, where: str, go: str) -> str:
    name = _JSON[type(value)]
    if name == "number" and go.startswith("int"):
        name = f"number {value!r}"
    return f"json: cannot unmarshal {name} into Go struct field {where} of type {go}"

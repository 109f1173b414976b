"""HorizontalPodAutoscaler of autoscaling/v1 as another face of autoscaling/v2, the form in which it is stored.

v1 knows one target: a share of the requested CPU. Everything else of a v2 autoscaler stands in annotations of the v1 form
(`autoscaling.alpha.kubernetes.io/…`, in JSON), as upstream has it, so that who reads v1, changes something and writes it back
loses nothing. The annotations exist in that form only: they are made anew by each reading and taken off by each writing, and
one that cannot be read is as good as none. `behavior` is in upstream's annotation with the names of Go's fields.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from machinery.api.conform import Mismatch, Walk
from machinery.meta.resource import Document

GROUP: Final = "autoscaling"
OLD_API, NEW_API = "autoscaling/v1", "autoscaling/v2"
_PREFIX: Final = "autoscaling.alpha.kubernetes.io/"
METRICS: Final = _PREFIX + "metrics"
CURRENT: Final = _PREFIX + "current-metrics"
CONDITIONS: Final = _PREFIX + "conditions"
BEHAVIOR: Final = _PREFIX + "behavior"
_ANNOTATIONS: Final = frozenset({METRICS, CURRENT, CONDITIONS, BEHAVIOR})
_SCHEMA: Final = "io.k8s.api.autoscaling.v2."
_BEHAVIOR_FIELDS: Final = {
    name.lower(): name
    for name in (
        "scaleUp", "scaleDown", "stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance",
        "type", "value", "periodSeconds",
    )
}  # fmt: skip

Json = Any


# ------------------------------------------------------------------------------------------------------------- outward
def to_v1(document: Document) -> Document:
    """An autoscaler of v2 in the form of v1."""
    spec, status = document.get("spec") or {}, document.get("status") or {}
    out = {**document, "apiVersion": OLD_API}
    if "spec" in document:
        out["spec"] = _old_spec(spec)
    if "status" in document:
        out["status"] = _old_status(status)
    if "metadata" in document:
        out["metadata"] = _annotated(document["metadata"], _kept(spec, status))
    return out


def _kept(spec: Document, status: Document) -> dict[str, str]:
    """The annotations for what v1 has no fields for."""
    shown = _shown(spec)
    kept: dict[str, Json] = {
        METRICS: [_old(one, "target") for one in spec.get("metrics") or () if one is not shown],
        CURRENT: [_old(one, "current") for one in status.get("currentMetrics") or ()],
        CONDITIONS: status.get("conditions"),
        BEHAVIOR: _go_behavior(spec["behavior"]) if spec.get("behavior") else None,
    }
    return {name: orjson.dumps(value).decode() for name, value in kept.items() if value}


def _annotated(metadata: Document, annotations: Mapping[str, str]) -> Document:
    held = metadata.get("annotations") or {}
    plain = {key: value for key, value in held.items() if key not in _ANNOTATIONS}
    out = {key: value for key, value in metadata.items() if key != "annotations"}
    if plain or annotations:
        out["annotations"] = {**plain, **annotations}
    return out


def _shown(spec: Document) -> Document | None:
    """The metric that v1 has a field for: the first one on CPU, if it is a share of what was requested."""
    first = next((one for one in spec.get("metrics") or () if _is_cpu(one)), None)
    return None if first is None or _share(first) is None else first


def _is_cpu(metric: Document) -> bool:
    return metric.get("type") == "Resource" and (metric.get("resource") or {}).get("name") == "cpu"


def _share(metric: Document) -> int | None:
    share: int | None = (metric["resource"].get("target") or {}).get("averageUtilization")
    return share


def _old_spec(spec: Document) -> Document:
    out = {key: value for key, value in spec.items() if key not in ("metrics", "behavior")}
    shown = _shown(spec)
    return out if shown is None else {**out, "targetCPUUtilizationPercentage": _share(shown)}


def _old_status(status: Document) -> Document:
    out = {
        key: value for key, value in status.items() if key not in ("currentMetrics", "conditions")
    }
    out = {"currentReplicas": 0, "desiredReplicas": 0, **out}
    for metric in status.get("currentMetrics") or ():
        current = (metric.get("resource") or {}).get("current") or {}
        if _is_cpu(metric) and current.get("averageUtilization") is not None:
            out["currentCPUUtilizationPercentage"] = current["averageUtilization"]
    return out


def _old(metric: Document, word: str) -> Document:
    """A metric of v2 in the form of v1's annotations; `word` is what it tells: its `target`, or its `current` amount."""
    key, source = _source(metric)
    amounts = source.get(word) or {}
    identity = source.get("metric") or {}
    unsaid = "0" if word == "current" else None  # a measured amount is always written
    old: Document
    match metric.get("type"):
        case "Object":
            old = {
                "target": source.get("describedObject") or {},
                "metricName": identity.get("name", ""),
                f"{word}Value": amounts.get("value", "0"),
                "selector": identity.get("selector"),
                "averageValue": amounts.get("averageValue"),
            }
        case "Pods":
            old = {
                "metricName": identity.get("name", ""),
                f"{word}AverageValue": amounts.get("averageValue", "0"),
                "selector": identity.get("selector"),
            }
        case "External":
            old = {
                "metricName": identity.get("name", ""),
                "metricSelector": identity.get("selector"),
                f"{word}Value": amounts.get("value", unsaid),
                f"{word}AverageValue": amounts.get("averageValue"),
            }
        case _:
            old = {
                "name": source.get("name", ""),
                f"{word}AverageUtilization": amounts.get("averageUtilization"),
                f"{word}AverageValue": amounts.get("averageValue", unsaid),
                "container": source.get("container"),
            }
    return {"type": metric.get("type", ""), key: _given(old)}


def _source(metric: Document) -> tuple[str, Document]:
    kind = str(metric.get("type", ""))
    key = kind[:1].lower() + kind[1:]
    return key, metric.get(key) or {}


def _given(values: Document) -> Document:
    return {key: value for key, value in values.items() if value is not None}


def _go_behavior(behavior: Document) -> Document:
    """With the names of Go's fields: upstream writes its internal type into this one."""

    def rules(found: Document | None) -> Document | None:
        if found is None:
            return None
        policies = [
            {key[:1].upper() + key[1:]: value for key, value in one.items()}
            for one in found.get("policies") or ()
        ]
        return {
            "StabilizationWindowSeconds": found.get("stabilizationWindowSeconds"),
            "SelectPolicy": found.get("selectPolicy"),
            "Policies": policies or None,
            "Tolerance": found.get("tolerance"),
        }

    return {
        "ScaleUp": rules(behavior.get("scaleUp")),
        "ScaleDown": rules(behavior.get("scaleDown")),
    }


# -------------------------------------------------------------------------------------------------------------- inward
def to_v2(document: Document) -> Document:
    """An autoscaler of v1 in the form of v2, with what its annotations say."""
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    said = annotations if isinstance(annotations, dict) else {}
    out = {**document, "apiVersion": NEW_API}
    if "metadata" in document:
        out["metadata"] = _annotated(document["metadata"] or {}, {})
    spec = _new_spec(document.get("spec") or {}, said)
    if "spec" in document or spec:
        out["spec"] = spec
    status = _new_status(document.get("status") or {}, said)
    if "status" in document or status:
        out["status"] = status
    return out


def _new_spec(old: Document, said: Mapping[str, str]) -> Document:
    out = {key: value for key, value in old.items() if key != "targetCPUUtilizationPercentage"}
    share = old.get("targetCPUUtilizationPercentage")
    metrics = _read(said.get(METRICS), "MetricSpec", _new_metric)
    if share is not None:
        target = {"type": "Utilization", "averageUtilization": share}
        metrics = [*metrics, {"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if metrics:
        out["metrics"] = metrics
    rules = _read_behavior(said.get(BEHAVIOR))
    return {**out, "behavior": rules} if rules else out


def _new_status(old: Document, said: Mapping[str, str]) -> Document:
    out = {key: value for key, value in old.items() if key != "currentCPUUtilizationPercentage"}
    current = _read(said.get(CURRENT), "MetricStatus", _new_current)
    share = old.get("currentCPUUtilizationPercentage")
    if not current and share is not None:
        held = {"name": "cpu", "current": {"averageUtilization": share}}
        current = [{"type": "Resource", "resource": held}]
    if current:
        out["currentMetrics"] = current
    conditions = _read(said.get(CONDITIONS), "HorizontalPodAutoscalerCondition", lambda one: one)
    return {**out, "conditions": conditions} if conditions else out


def _new_metric(old: Document) -> Document:
    key, source = _source(old)
    value, average, share = (
        source.get(name)
        for name in ("targetValue", "targetAverageValue", "targetAverageUtilization")
    )
    kind = old.get("type")
    if kind == "Object":
        average = source.get("averageValue")
        value = value if average is None else None
    target: Document = {"type": "Value", "value": value, "averageValue": average}
    if kind == "Pods" or average is not None:
        target["type"] = "AverageValue"
    elif kind in ("Resource", "ContainerResource"):
        target["type"] = "AverageValue" if share is None else "Utilization"
    target["averageUtilization"] = share
    return {"type": kind, key: _named(kind, source) | {"target": _given(target)}}


def _new_current(old: Document) -> Document:
    key, source = _source(old)
    kind = old.get("type")
    average = source.get("averageValue" if kind == "Object" else "currentAverageValue")
    current = {
        "value": source.get("currentValue"),
        "averageValue": average,
        "averageUtilization": source.get("currentAverageUtilization"),
    }
    return {"type": kind, key: _named(kind, source) | {"current": _given(current)}}


def _named(kind: Json, source: Document) -> Document:
    """What a metric is about, in the words of v2."""
    if kind in ("Resource", "ContainerResource"):
        return _given({"name": source.get("name"), "container": source.get("container")})
    selector = source.get("metricSelector" if kind == "External" else "selector")
    metric = _given({"name": source.get("metricName"), "selector": selector})
    return {"metric": metric, **_given({"describedObject": source.get("target")})}


def _read(text: Json, schema: str, turn: Callable[[Document], Document]) -> list[Document]:
    """The list in an annotation, turned into v2; empty where it cannot be read."""
    try:
        held = orjson.loads(text) if isinstance(text, str) else []
        return [Walk().run(_SCHEMA + schema, turn(one)) for one in held or ()]
    except (orjson.JSONDecodeError, Mismatch, AttributeError, TypeError):
        return []


def _read_behavior(text: Json) -> Document:
    try:
        held = _lowered(orjson.loads(text)) if isinstance(text, str) else {}
        return Walk().run(_SCHEMA + "HorizontalPodAutoscalerBehavior", held)
    except (orjson.JSONDecodeError, Mismatch, AttributeError, TypeError):
        return {}


def _lowered(value: Json) -> Json:
    """Go matches names of fields without regard to case; what is null is absent."""
    if isinstance(value, dict):
        named = {_BEHAVIOR_FIELDS.get(key.lower(), key): one for key, one in value.items()}
        return {key: _lowered(one) for key, one in named.items() if one is not None}
    return [_lowered(one) for one in value] if isinstance(value, list) else value

"""What the server fills in for the kinds that the federation serves as templates (`template_kinds`), as a 1.36 server does.

Path-copy, as in `defaults`.
"""

from typing import Any, Final

from machinery.api.pod_defaults import pod_spec
from machinery.meta.resource import Document

_POLICY: Final[Document] = {"whenDeleted": "Retain", "whenScaled": "Retain"}


def pod_template(spec: Document) -> Document:
    """The spec with the defaults of its pod template."""
    template = spec.get("template") or {}
    inner = pod_spec(template.get("spec") or {}, of_pod=False)
    return {**spec, "template": {"metadata": {}, **template, "spec": inner}}


def replication_controller(document: Document) -> Document:
    """The labels of its pods are its selector and its own labels, where it has none."""
    spec = _fill(pod_template(document.get("spec") or {}), (("replicas", 1),))
    out = {"status": {"replicas": 0}, **document, "spec": spec}
    labels = (spec["template"].get("metadata") or {}).get("labels")
    if not labels:
        return out
    if not spec.get("selector"):
        spec["selector"] = labels
    metadata = document.get("metadata") or {}
    return out if metadata.get("labels") else {**out, "metadata": {**metadata, "labels": labels}}


def _fill(spec: Document, values: tuple[tuple[str, Any], ...]) -> Document:
    """`spec`, which is the caller's own, with values for what is absent or null."""
    for key, value in values:
        if spec.get(key) is None:
            spec[key] = value
    return spec


def stateful_set(document: Document) -> Document:
    spec = _fill(
        pod_template(document.get("spec") or {}),
        (("replicas", 1), ("revisionHistoryLimit", 10)),
    )
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    strategy = dict(spec.get("updateStrategy") or {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = _fill(dict(strategy.get("rollingUpdate") or {}), (("partition", 0),))
        strategy["rollingUpdate"] = rolling
    kept = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    spec |= {
        "updateStrategy": strategy,
        "persistentVolumeClaimRetentionPolicy": _POLICY | {k: v for k, v in kept.items() if v},
    }
    if claims := spec.get("volumeClaimTemplates"):
        spec["volumeClaimTemplates"] = [claim_template(one) for one in claims]
    status = {"replicas": 0, "availableReplicas": 0, **(document.get("status") or {})}
    return {**document, "spec": spec, "status": status}


def claim_template(claim: Document) -> Document:
    """A claim inside a StatefulSet carries its kind, as upstream stores it."""
    return {"kind": "PersistentVolumeClaim", "apiVersion": "v1"} | volume_claim(claim)


def volume_claim(document: Document) -> Document:
    spec = _fill(dict(document.get("spec") or {}), (("volumeMode", "Filesystem"),))
    spec.setdefault("resources", {})
    status = document.get("status") or {}
    return {**document, "spec": spec, "status": {"phase": "Pending", **status}}


_COUNTS: Final = dict.fromkeys(
    ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"), 0
)


def daemon_set(document: Document) -> Document:
    spec = _fill(pod_template(document.get("spec") or {}), (("revisionHistoryLimit", 10),))
    strategy = dict(spec.get("updateStrategy") or {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = dict(strategy.get("rollingUpdate") or {})
        strategy["rollingUpdate"] = _fill(rolling, (("maxUnavailable", 1), ("maxSurge", 0)))
    spec["updateStrategy"] = strategy
    return {**document, "spec": spec, "status": {**_COUNTS, **(document.get("status") or {})}}


def job(document: Document) -> Document:
    spec = pod_template(document.get("spec") or {})
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    defaults: list[tuple[str, Any]] = [
        ("parallelism", 1),
        ("backoffLimit", 2**31 - 1 if spec.get("backoffLimitPerIndex") is not None else 6),
        ("completionMode", "NonIndexed"),
        ("suspend", False),
        ("manualSelector", False),
        ("podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else _REPLACE),
    ]
    spec = _fill(spec, tuple(defaults))
    if policy := spec.get("podFailurePolicy"):
        spec["podFailurePolicy"] = {
            **policy,
            "rules": [_rule(one) for one in policy.get("rules") or ()],
        }
    metadata = document.get("metadata") or {}
    labels = (spec["template"].get("metadata") or {}).get("labels")
    if labels and not metadata.get("labels"):
        document = {**document, "metadata": {**metadata, "labels": labels}}
    return {"status": {}, **document, "spec": spec}


_REPLACE: Final = "TerminatingOrFailed"


def _rule(rule: Document) -> Document:
    found = rule.get("onPodConditions")
    if not found:
        return rule
    return {**rule, "onPodConditions": [{"status": "True", **one} for one in found]}


def cron_job(document: Document) -> Document:
    spec = _fill(
        dict(document.get("spec") or {}),
        (("suspend", False), ("successfulJobsHistoryLimit", 3), ("failedJobsHistoryLimit", 1)),
    )
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    template = spec.get("jobTemplate") or {}
    inner = pod_template(template.get("spec") or {})
    spec["jobTemplate"] = {"metadata": {}, **template, "spec": inner}
    return {"status": {}, **document, "spec": spec}


# ------------------------------------------------------------------------------------------------------------- scaling
_CPU: Final[list[Document]] = [
    {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
]
_ALL: Final[Document] = {"type": "Percent", "value": 100, "periodSeconds": 15}
_UP: Final[Document] = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, _ALL],
}
_DOWN: Final[Document] = {"selectPolicy": "Max", "policies": [_ALL]}


def autoscaler(document: Document) -> Document:
    spec = _fill(dict(document.get("spec") or {}), (("minReplicas", 1),))
    if not spec.get("metrics"):
        spec["metrics"] = _CPU
    if (behaviour := spec.get("behavior")) is not None:
        spec["behavior"] = {
            **behaviour,
            "scaleUp": _UP | _given(behaviour.get("scaleUp")),
            "scaleDown": _DOWN | _given(behaviour.get("scaleDown")),
        }
    status = {"desiredReplicas": 0, "currentMetrics": None, **(document.get("status") or {})}
    return {**document, "spec": spec, "status": status}


def old_autoscaler(document: Document) -> Document:
    """In the form of autoscaling/v1; what v2 fills in comes with that."""
    spec = _fill(dict(document.get("spec") or {}), (("minReplicas", 1),))
    status = {"currentReplicas": 0, "desiredReplicas": 0, **(document.get("status") or {})}
    return {**document, "spec": spec, "status": status}


def _given(rules: Document | None) -> Document:
    return {key: value for key, value in (rules or {}).items() if value is not None}


_BUDGET: Final = dict.fromkeys(
    ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"), 0
)


def disruption_budget(document: Document) -> Document:
    status = {**_BUDGET, **(document.get("status") or {})}
    return {"spec": {}, **document, "status": status}


# ------------------------------------------------------------------------------------------------------------- network
def ingress(document: Document) -> Document:
    status = {"loadBalancer": {}, **(document.get("status") or {})}
    return {"spec": {}, **document, "status": status}


def network_policy(document: Document) -> Document:
    spec = dict(document.get("spec") or {})
    spec.setdefault("podSelector", {})
    for key in ("ingress", "egress"):
        if rules := spec.get(key):
            spec[key] = [_network_rule(one) for one in rules]
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    return {**document, "spec": spec}


def _network_rule(rule: Document) -> Document:
    ports = rule.get("ports")
    if not ports:
        return rule
    return {
        **rule,
        "ports": [{**port, "protocol": port.get("protocol") or "TCP"} for port in ports],
    }


# -------------------------------------------------------------------------------------------------------------- limits
def limit_range(document: Document) -> Document:
    spec = document.get("spec") or {}
    limits = [_limit(one) for one in spec.get("limits") or ()]
    return {**document, "spec": {**spec, "limits": limits or spec.get("limits")}}


def _limit(item: Document) -> Document:
    """A container's default limit is its maximum, its default request the default limit, else the minimum."""
    if item.get("type") != "Container":
        return item
    limit = {**(item.get("max") or {}), **(item.get("default") or {})}
    request = {**(item.get("min") or {}), **limit, **(item.get("defaultRequest") or {})}
    found = {"default": limit, "defaultRequest": request}
    return {**item, **{key: value for key, value in found.items() if value}}

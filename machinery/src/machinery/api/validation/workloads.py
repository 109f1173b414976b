"""Deployments, ReplicaSets and ReplicationControllers: selector, template, rollout."""

from typing import Any, Final

from machinery.api.validation import metadata
from machinery.api.validation.causes import Causes
from machinery.api.validation.pod import pod_spec
from machinery.api.validation.selectors import is_empty, label_selector
from machinery.meta import names, selectors
from machinery.meta.resource import Document

_RESTART: Final = ("Always",)


def deployment(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    causes.not_negative("spec.replicas", spec.get("replicas"))
    selector = _selector(spec, "deployment", causes)
    _template(spec, selector, "spec.template", causes)
    _strategy(spec.get("strategy") or {}, "spec.strategy", causes)
    causes.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    causes.not_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is None:
        return
    causes.not_negative("spec.progressDeadlineSeconds", deadline)
    if deadline <= spec.get("minReadySeconds", 0):
        causes.invalid(
            "spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"
        )


def replica_set(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    causes.not_negative("spec.replicas", spec.get("replicas"))
    causes.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    selector = _selector(spec, "replicaset", causes)
    _template(spec, selector, "spec.template", causes)


def replication_controller(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    causes.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    wanted = spec.get("selector") or {}
    if not wanted:
        causes.required("spec.selector")
    causes.not_negative("spec.replicas", spec.get("replicas"))
    selector = selectors.from_object({"matchLabels": wanted}) if wanted else None
    _template(spec, selector, "spec.template", causes, "ReplicationController")


def selector_unchanged(new: Document, old: Document, causes: Causes) -> None:
    """The selector decides which pods are whose; it stays."""
    after = (new.get("spec") or {}).get("selector")
    if after != (old.get("spec") or {}).get("selector"):
        causes.invalid("spec.selector", after, metadata.IMMUTABLE)


def _selector(spec: Document, kind: str, causes: Causes) -> selectors.Selector | None:
    selector = spec.get("selector")
    if selector is None:
        causes.required("spec.selector")
        return selectors.NOTHING
    label_selector(selector, "spec.selector", causes)
    if is_empty(selector):
        causes.invalid("spec.selector", selector, f"empty selector is invalid for {kind}")
        return None
    try:
        return _compiled(selector)
    except selectors.SelectorError:
        causes.invalid("spec.selector", selector, "invalid label selector")
        return None


def _compiled(selector: Document) -> selectors.Selector:
    for expression in selector.get("matchExpressions") or ():
        values = expression.get("values") or []
        unary = expression.get("operator") in ("Exists", "DoesNotExist")
        if unary is bool(values):
            raise selectors.SelectorError("invalid label selector")
    return selectors.from_object(selector)


def _template(
    spec: Document,
    selector: selectors.Selector | None,
    field: str,
    causes: Causes,
    kind: str = "ReplicaSet",
) -> None:
    template = spec.get("template") or {}
    meta = template.get("metadata") or {}
    labels = meta.get("labels")
    if selector is not None and not selector.matches(labels):
        causes.invalid(
            f"{field}.metadata.labels",
            labels or None,
            "`selector` does not match template `labels`",
        )
    always_running(template, field, kind, causes)


def always_running(template: Document, field: str, kind: str, causes: Causes) -> None:
    """A template whose pods start again whenever they end. `kind`: whose, as messages name it."""
    pod_template(template, field, causes)
    inner = template.get("spec") or {}
    policy = inner.get("restartPolicy", "")
    if policy in ("OnFailure", "Never"):
        causes.unsupported(f"{field}.spec.restartPolicy", policy, _RESTART)
    if inner.get("activeDeadlineSeconds") is not None:
        causes.forbidden(
            f"{field}.spec.activeDeadlineSeconds",
            f"activeDeadlineSeconds in {kind} is not Supported",
        )


def selected_template(spec: Document, noun: str, kind: str, causes: Causes) -> None:
    """Selector and template of a workload; `noun` and `kind` as messages name it."""
    _template(spec, _selector(spec, noun, causes), "spec.template", causes, kind)


def pod_template(template: Document, field: str, causes: Causes) -> None:
    """Labels, annotations and spec of a template."""
    meta = template.get("metadata") or {}
    metadata.labels(meta.get("labels") or {}, f"{field}.labels", causes)
    metadata.annotations(meta.get("annotations") or {}, f"{field}.annotations", causes)
    spec = template.get("spec") or {}
    pod_spec(spec, f"{field}.spec", causes)
    if spec.get("ephemeralContainers"):
        causes.forbidden(
            f"{field}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"
        )


# ------------------------------------------------------------------------------------------------------------ rollout
def _strategy(strategy: Document, field: str, causes: Causes) -> None:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            causes.forbidden(
                f"{field}.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"
            )
    elif kind == "RollingUpdate":
        if rolling is None:
            causes.required(f"{field}.rollingUpdate", "this should be defaulted and never be nil")
        else:
            _rolling(rolling, f"{field}.rollingUpdate", causes)
    else:
        shown = {"Type": kind, "RollingUpdate": rolling}
        causes.unsupported(field, shown, ("Recreate", "RollingUpdate"))


def _rolling(rolling: Document, field: str, causes: Causes) -> None:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    int_or_percent(unavailable, f"{field}.maxUnavailable", causes)
    int_or_percent(surge, f"{field}.maxSurge", causes)
    if _amount(unavailable) == 0 and _amount(surge) == 0:
        causes.invalid(f"{field}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
    if (
        isinstance(unavailable, str)
        and not names.percent(unavailable)
        and int(unavailable[:-1]) > 100
    ):
        causes.invalid(f"{field}.maxUnavailable", unavailable, "must not be greater than 100%")


def int_or_percent(value: Any, field: str, causes: Causes) -> None:
    """A count, or a share in percent."""
    if isinstance(value, str):
        causes.invalid_each(field, value, names.percent(value))
    else:
        causes.not_negative(field, value)


def _amount(value: Any) -> int | None:
    if isinstance(value, str):
        return None if names.percent(value) else int(value[:-1])
    return int(value)


def workload_status(document: Document, causes: Causes) -> None:
    """Counts of a status: none negative, parts not above the whole."""
    status = document.get("status") or {}
    replicas = status.get("replicas", 0)
    keys = (
        "replicas", "fullyLabeledReplicas", "updatedReplicas", "readyReplicas", "availableReplicas",
        "unavailableReplicas", "observedGeneration",
    )  # fmt: skip
    for key in keys:
        causes.not_negative(f"status.{key}", status.get(key))
    for key in ("fullyLabeledReplicas", "updatedReplicas", "readyReplicas", "availableReplicas"):
        if status.get(key, 0) > replicas:
            causes.invalid(f"status.{key}", status[key], "cannot be greater than status.replicas")
    ready = status.get("readyReplicas", 0)
    if status.get("availableReplicas", 0) > ready:
        causes.invalid(
            "status.availableReplicas",
            status["availableReplicas"],
            "cannot be greater than readyReplicas",
        )

"""StatefulSets and DaemonSets: selector, template, order and rollout."""

from typing import Any, Final

from machinery.api.validation import claims, workloads
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE
from machinery.api.validation.selectors import is_empty, label_selector
from machinery.meta import names, selectors
from machinery.meta.resource import Document

_RETENTION: Final = ("Retain", "Delete")
_CHANGEABLE: Final = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip
_FIXED: Final = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def stateful_set(document: Document, causes: Causes) -> None:
    name = (document.get("metadata") or {}).get("name", "")
    if name and not names.dns_subdomain(name):
        causes.invalid_each("metadata.name", name, names.dns_label(name))
    spec = document.get("spec") or {}
    management = spec.get("podManagementPolicy", "")
    if management not in ("OrderedReady", "Parallel"):
        causes.invalid(
            "spec.podManagementPolicy", management, "must be 'OrderedReady' or 'Parallel'"
        )
    _stateful_strategy(spec.get("updateStrategy") or {}, "spec.updateStrategy", causes)
    kept = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for key in ("whenDeleted", "whenScaled"):
        field = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
        causes.one_of(field, kept.get(key, "Retain"), _RETENTION)
    causes.not_negative("spec.replicas", spec.get("replicas"))
    causes.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    causes.not_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        where = f"spec.volumeClaimTemplates[{index}]"
        claims.claim_spec(claim.get("spec") or {}, f"{where}.spec", causes)
    workloads.selected_template(_with_claims(spec), "statefulset", "StatefulSet", causes)


def _with_claims(spec: Document) -> Document:
    """The spec with the volumes that its claims become in each pod: containers may mount them."""
    claimed = [
        (claim.get("metadata") or {}).get("name", "")
        for claim in spec.get("volumeClaimTemplates") or ()
    ]
    if not claimed:
        return spec
    template = spec.get("template") or {}
    inner = template.get("spec") or {}
    own = [one for one in inner.get("volumes") or () if one.get("name") not in claimed]
    made = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claimed if name
    ]
    return {**spec, "template": {**template, "spec": {**inner, "volumes": [*own, *made]}}}


def _stateful_strategy(strategy: Document, field: str, causes: Causes) -> None:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        if rolling is not None:
            causes.invalid(
                f"{field}.rollingUpdate", rolling, "only allowed for updateStrategy 'RollingUpdate'"
            )
    elif kind == "RollingUpdate":
        if rolling is None:
            return
        causes.not_negative(f"{field}.rollingUpdate.partition", rolling.get("partition"))
        if (away := rolling.get("maxUnavailable")) is not None:
            where = f"{field}.rollingUpdate.maxUnavailable"
            workloads.int_or_percent(away, where, causes)
            if _nothing(away):
                causes.invalid(where, away, "cannot be 0")
    else:
        shown = {"Type": kind, "RollingUpdate": rolling}
        causes.invalid(field, shown, "must be 'RollingUpdate' or 'OnDelete'")


def _nothing(value: Any) -> bool:
    if isinstance(value, str):
        return not names.percent(value) and int(value[:-1]) == 0
    return bool(value == 0)


def stateful_set_update(new: Document, old: Document, causes: Causes) -> None:
    """Only some of the spec may change; the rest would need other pods and claims."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    rest = [{k: v for k, v in spec.items() if k not in _CHANGEABLE} for spec in (after, before)]
    if rest[0] != rest[1]:
        causes.forbidden("spec", _FIXED)


# ----------------------------------------------------------------------------------------------------------- DaemonSet
def daemon_set(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    selector = spec.get("selector")
    label_selector(selector, "spec.selector", causes)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    try:
        matches = selector is not None and selectors.from_object(selector).matches(labels)
    except selectors.SelectorError:
        matches = False
    if not matches and not is_empty(selector):
        causes.invalid(
            "spec.template.metadata.labels",
            labels or None,
            "`selector` does not match template `labels`",
        )
    if is_empty(selector):
        causes.invalid("spec.selector", selector, "empty selector is invalid for daemonset")
    workloads.always_running(spec.get("template") or {}, "spec.template", "DaemonSet", causes)
    causes.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    _daemon_strategy(spec.get("updateStrategy") or {}, "spec.updateStrategy", causes)
    causes.not_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))


def _daemon_strategy(strategy: Document, field: str, causes: Causes) -> None:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return
    if kind != "RollingUpdate":
        causes.unsupported(
            field, {"Type": kind, "RollingUpdate": rolling}, ("RollingUpdate", "OnDelete")
        )
        return
    where = f"{field}.rollingUpdate"
    if rolling is None:
        causes.required(where)
        return
    away, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    workloads.int_or_percent(away, f"{where}.maxUnavailable", causes)
    workloads.int_or_percent(surge, f"{where}.maxSurge", causes)
    if not _nothing(away) and not _nothing(surge):
        causes.invalid(f"{where}.maxSurge", surge, "may not be set when maxUnavailable is non-zero")
    if _nothing(away) and _nothing(surge):
        causes.required(f"{where}.maxUnavailable", "cannot be 0 when maxSurge is 0")


def daemon_set_update(new: Document, old: Document, causes: Causes) -> None:
    after = (new.get("spec") or {}).get("selector")
    if after != (old.get("spec") or {}).get("selector"):
        causes.invalid("spec.selector", after, IMMUTABLE)


# -------------------------------------------------------------------------------------------------------------- status
def set_status(new: Document, old: Document, causes: Causes) -> None:
    """Counts of a status are not negative."""
    for key, value in (new.get("status") or {}).items():
        if isinstance(value, int) and not isinstance(value, bool):
            causes.not_negative(f"status.{key}", value)

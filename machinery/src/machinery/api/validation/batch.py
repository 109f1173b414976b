"""Jobs and CronJobs."""

from functools import cache
from importlib import resources
from typing import Any, Final

from machinery.api.template_strategy import JOB_NAMES, JOB_UIDS
from machinery.api.validation import cron, workloads
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE
from machinery.api.validation.selectors import label_selector
from machinery.meta import names, selectors
from machinery.meta.resource import Document

_ACTIONS: Final = ("Count", "FailIndex", "FailJob", "Ignore")
_INDEXED_MAX: Final = 100_000
_RULES_MAX: Final = 20
_CRON_NAME_MAX: Final = 52
"""A CronJob's Jobs have eleven letters more, and a Job's name is a label's value."""


def job(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    _generated_selector(document, causes)
    job_spec(spec, "spec", causes)
    selector = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if selector is None:
        causes.required("spec.selector")
        return
    label_selector(selector, "spec.selector", causes)
    try:
        matches = selectors.from_object(selector).matches(labels)
    except selectors.SelectorError:
        return
    if not matches:
        causes.invalid(
            "spec.template.metadata.labels",
            labels or None,
            "`selector` does not match template `labels`",
        )


def _generated_selector(document: Document, causes: Causes) -> None:
    """A selector that the server makes is its own alone."""
    spec, metadata = document.get("spec") or {}, document.get("metadata") or {}
    selector = spec.get("selector")
    if spec.get("manualSelector") or selector is None:
        return
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    uid = metadata.get("uid", "")
    wanted = dict.fromkeys(JOB_UIDS, uid) | dict.fromkeys(JOB_NAMES, metadata.get("name", ""))
    for label, value in wanted.items():
        if labels.get(label) != value:
            causes.invalid("spec.template.metadata.labels", labels or None, f"must be '{value}'")
    own = [{"matchLabels": {label: uid}} for label in JOB_UIDS]
    if selector not in own:
        causes.invalid("spec.selector", selector, "`selector` not auto-generated")


def job_spec(spec: Document, field: str, causes: Causes) -> None:
    """Everything but the selector."""
    for key in (
        "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit",
        "ttlSecondsAfterFinished", "backoffLimitPerIndex", "maxFailedIndexes",
    ):  # fmt: skip
        causes.not_negative(f"{field}.{key}", spec.get(key))
    if (manager := spec.get("managedBy")) is not None:
        _managed_by(manager, f"{field}.managedBy", causes)
    _mode(spec, field, causes)
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        causes.required(f"{field}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if (policy := spec.get("podFailurePolicy")) is not None:
        _failure_policy(policy, spec, f"{field}.podFailurePolicy", causes)
    if (success := spec.get("successPolicy")) is not None:
        _success_policy(success, spec, f"{field}.successPolicy", causes)
    replacement = spec.get("podReplacementPolicy")
    if replacement is not None:
        valid = ("Failed",) if spec.get("podFailurePolicy") else ("Failed", "TerminatingOrFailed")
        causes.one_of(f"{field}.podReplacementPolicy", replacement, valid)
    template = spec.get("template") or {}
    workloads.pod_template(template, f"{field}.template", causes)
    _restart(spec, (template.get("spec") or {}).get("restartPolicy", ""), field, causes)


def _mode(spec: Document, field: str, causes: Causes) -> None:
    mode, completions = spec.get("completionMode"), spec.get("completions")
    if mode is None:
        return
    if mode not in ("NonIndexed", "Indexed"):
        causes.unsupported(f"{field}.completionMode", mode, ("NonIndexed", "Indexed"))
    if mode == "Indexed":
        if completions is None:
            causes.required(f"{field}.completions", "when completion mode is Indexed")
        if (parallel := spec.get("parallelism") or 0) > _INDEXED_MAX:
            causes.invalid(
                f"{field}.parallelism",
                parallel,
                f"must be less than or equal to {_INDEXED_MAX} when completion mode is Indexed",
            )
        failed = spec.get("maxFailedIndexes")
        if failed is not None and completions is not None and failed > completions:
            causes.invalid(
                f"{field}.maxFailedIndexes", failed, "must be less than or equal to completions"
            )
    else:
        for key in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(key) is not None and mode == "NonIndexed":
                causes.invalid(f"{field}.{key}", spec[key], "requires indexed completion mode")


def _restart(spec: Document, policy: str, field: str, causes: Causes) -> None:
    where = f"{field}.template.spec.restartPolicy"
    if policy in ("", "Always"):
        causes.required(where, 'valid values: "OnFailure", "Never"')
        return
    causes.one_of(where, policy, ("OnFailure", "Never"))
    for key in ("podFailurePolicy", "backoffLimitPerIndex"):
        if spec.get(key) is not None and policy != "Never":
            causes.invalid(where, policy, f'only "Never" is supported when {key} is specified')


def _managed_by(manager: str, field: str, causes: Causes) -> None:
    domain, slash, path = manager.partition("/")
    if not slash or not domain or not path or names.dns_subdomain(domain) or " " in path:
        causes.invalid(field, manager, 'must be a domain-prefixed path (such as "acme.io/foo")')
    if len(manager) > names.LABEL_MAX:
        causes.too_long(field, names.LABEL_MAX)


def _failure_policy(policy: Document, spec: Document, field: str, causes: Causes) -> None:
    rules = policy.get("rules") or []
    if len(rules) > _RULES_MAX:
        causes.too_many(f"{field}.rules", len(rules), _RULES_MAX)
    for index, rule in enumerate(rules):
        where = f"{field}.rules[{index}]"
        action = rule.get("action", "")
        if not action:
            causes.required(
                f"{where}.action", "valid values: " + ", ".join(f'"{a}"' for a in _ACTIONS)
            )
        elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            causes.invalid(f"{where}.action", action, "requires the backoffLimitPerIndex to be set")
        else:
            causes.one_of(f"{where}.action", action, _ACTIONS)
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None:
            _exit_codes(codes, f"{where}.onExitCodes", causes)
        if conditions and codes is not None:
            causes.invalid(
                where, rule, "specifying both OnExitCodes and OnPodConditions is not supported"
            )
        if not conditions and codes is None:
            causes.invalid(
                where, rule, "specifying one of OnExitCodes and OnPodConditions is required"
            )


def _exit_codes(codes: Document, field: str, causes: Causes) -> None:
    operator, values = codes.get("operator", ""), codes.get("values") or []
    if operator not in ("In", "NotIn"):
        causes.unsupported(f"{field}.operator", operator, ("In", "NotIn"))
    for index, value in enumerate(values):
        if value == 0 and operator == "In":
            causes.invalid(f"{field}.values[{index}]", value, "must not be 0 for the In operator")
        if value in values[:index]:
            causes.duplicate(f"{field}.values[{index}]", value)
    if not values:
        causes.invalid(f"{field}.values", values, "at least one value is required")
    elif values != sorted(values):
        causes.invalid(f"{field}.values", values, "must be ordered")


def _success_policy(policy: Document, spec: Document, field: str, causes: Causes) -> None:
    rules = policy.get("rules") or []
    if not rules:
        causes.required(
            f"{field}.rules",
            "at least one rules must be specified when the successPolicy is specified",
        )
    if len(rules) > _RULES_MAX:
        causes.too_many(f"{field}.rules", len(rules), _RULES_MAX)
    for index, rule in enumerate(rules):
        where = f"{field}.rules[{index}]"
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is None and count is None:
            causes.required(
                where, "at least one of succeededCount or succeededIndexes must be specified"
            )
        if count is not None:
            causes.not_negative(f"{where}.succeededCount", count)
            if count > (spec.get("completions") or 0):
                causes.invalid(
                    f"{where}.succeededCount",
                    count,
                    f"must be less than or equal to {spec.get('completions') or 0} (the number of specified completions)",
                )
    if spec.get("completionMode") != "Indexed":
        causes.invalid(field, policy, "requires indexed completion mode")


_IMMUTABLE: Final = (
    "selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy",
    "successPolicy",
)  # fmt: skip


def job_update(new: Document, old: Document, causes: Causes) -> None:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    job_spec(after, "spec", causes)
    if _completions_fixed(after, before):
        causes.invalid("spec.completions", after.get("completions"), IMMUTABLE)
    for key in _IMMUTABLE:
        _immutable(after, before, key, causes)
    if not (before.get("suspend") and not (old.get("status") or {}).get("startTime")):
        _immutable(after, before, "template", causes)


def _completions_fixed(after: Document, before: Document) -> bool:
    """An Indexed Job may grow and shrink as long as completions stay its parallelism."""
    if after.get("completions") == before.get("completions"):
        return False
    elastic = after.get("completionMode") == "Indexed"
    return not (elastic and after.get("completions") == after.get("parallelism"))


def _immutable(after: Document, before: Document, key: str, causes: Causes) -> None:
    if after.get(key) != before.get(key):
        causes.invalid(f"spec.{key}", after.get(key), IMMUTABLE)


# ------------------------------------------------------------------------------------------------------------- CronJob
def cron_job(document: Document, causes: Causes) -> None:
    name = (document.get("metadata") or {}).get("name", "")
    if len(name) > _CRON_NAME_MAX:
        causes.invalid("metadata.name", name, names.too_long(_CRON_NAME_MAX))
    spec = document.get("spec") or {}
    schedule, zone = spec.get("schedule", ""), spec.get("timeZone")
    if not schedule:
        causes.required("spec.schedule")
    else:
        _schedule(schedule, zone, causes)
    _time_zone(zone, causes)
    causes.not_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    concurrency = spec.get("concurrencyPolicy", "")
    if not concurrency:
        causes.required("spec.concurrencyPolicy")
    else:
        causes.one_of("spec.concurrencyPolicy", concurrency, ("Allow", "Forbid", "Replace"))
    for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        causes.not_negative(f"spec.{key}", spec.get(key))
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    if template.get("manualSelector"):
        causes.unsupported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false"))
    job_spec(template, "spec.jobTemplate.spec", causes)


def _schedule(schedule: str, zone: Any, causes: Causes) -> None:
    try:
        cron.check(schedule)
    except cron.ScheduleError as error:
        causes.invalid("spec.schedule", schedule, str(error))
    if "TZ" in schedule:
        causes.invalid(
            "spec.schedule",
            schedule,
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        )


def _time_zone(zone: str | None, causes: Causes) -> None:
    if zone is None:
        return
    if not zone:
        causes.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
    elif zone.lower() == "local":
        causes.invalid(
            "spec.timeZone",
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        )
    elif not _known_zone(zone):
        causes.invalid("spec.timeZone", zone, f"unknown time zone {zone}")


def _known_zone(zone: str) -> bool:
    """Whether the IANA's list has the time zone; like upstream's loader, names of files that are no zones are none."""
    return zone in _zones()


@cache
def _zones() -> frozenset[str]:
    """The names of the list as of this release: the same answer on every machine."""
    text = (resources.files("machinery.api") / "data" / "timezones.txt").read_text()
    return frozenset(text.split())

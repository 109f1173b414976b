"""The row printers of admissionregistration.k8s.io."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from machinery.api.policy_kinds import (
    MUTATING_BINDING,
    MUTATING_POLICY,
    VALIDATING_BINDING,
    VALIDATING_POLICY,
)
from machinery.api.table.cells import AGE, NAME, Printer, TableColumn, age_of, name_of
from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.meta.resource import Document

_ABOUT: Final = "Webhooks indicates the number of webhooks registered in this configuration"
_UNSET: Final = "<unset>"


def _webhooks(document: Document, now: dt.datetime) -> list[Any]:
    return [name_of(document), len(document.get("webhooks") or ()), age_of(document, now)]


def _policy(document: Document, now: dt.datetime, counted: str) -> list[Any]:
    spec = document.get("spec") or {}
    kind = spec.get("paramKind")
    params = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else _UNSET
    return [name_of(document), len(spec.get(counted) or ()), params, age_of(document, now)]


def _binding(document: Document, now: dt.datetime) -> list[Any]:
    spec = document.get("spec") or {}
    params = _params(spec.get("paramRef") or {})
    return [name_of(document), spec.get("policyName", ""), params, age_of(document, now)]


def _params(ref: Document) -> str:
    if name := ref.get("name"):
        return f"{ref.get('namespace') or '*'}/{name}"
    selector = ref.get("selector")
    return _UNSET if selector is None else _selector(selector)


def _selector(selector: Document) -> str:
    """A LabelSelector as Go's generated code writes it."""
    labels = "".join(f"{k}: {v}," for k, v in sorted((selector.get("matchLabels") or {}).items()))
    requirements = "".join(
        f"LabelSelectorRequirement{{Key:{one.get('key', '')},Operator:{one.get('operator', '')},"
        f"Values:[{' '.join(one.get('values') or ())}],}},"
        for one in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{requirements}}},}}"
    )


_WEBHOOKS: Final = Printer((NAME, TableColumn("Webhooks", _ABOUT, type="integer"), AGE), _webhooks)
_PARAM_KIND: Final = TableColumn(
    "ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy"
)
_BINDINGS: Final = Printer(
    (
        NAME,
        TableColumn(
            "PolicyName",
            "PolicyName indicates the policy definition which the policy binding binded to",
        ),
        TableColumn(
            "ParamRef",
            "ParamRef indicates the param resource which sets the configuration param",
        ),
        AGE,
    ),
    _binding,
)
_VALIDATIONS: Final = TableColumn(
    "Validations",
    "Validations indicates the number of validation rules defined in this configuration",
    type="integer",
)
_MUTATIONS: Final = TableColumn(
    "Mutations",
    "Mutation indicates the number of mutations rules defined in this configuration",
    type="integer",
)
PRINTERS: Final[Mapping[tuple[str, str], Printer]] = {
    MUTATING.group_kind: _WEBHOOKS,
    VALIDATING.group_kind: _WEBHOOKS,
    VALIDATING_POLICY.group_kind: Printer(
        (NAME, _VALIDATIONS, _PARAM_KIND, AGE), lambda one, now: _policy(one, now, "validations")
    ),
    MUTATING_POLICY.group_kind: Printer(
        (NAME, _MUTATIONS, _PARAM_KIND, AGE), lambda one, now: _policy(one, now, "mutations")
    ),
    VALIDATING_BINDING.group_kind: _BINDINGS,
    MUTATING_BINDING.group_kind: _BINDINGS,
}

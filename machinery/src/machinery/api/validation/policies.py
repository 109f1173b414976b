"""Whether admission policies and their bindings may be stored, in upstream's words: complaints of the compiler are complaints of fields."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from machinery.api.expressions import admission
from machinery.api.expressions.admission import Variables
from machinery.api.expressions.compiling import CompileFault, Program, Scope
from machinery.api.expressions.source import RESERVED
from machinery.api.validation import listed
from machinery.api.validation.causes import Causes
from machinery.api.validation.selectors import label_selector
from machinery.api.validation.webhooks import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    REINVOCATIONS,
    rule_with_operations,
)
from machinery.meta import names
from machinery.meta.resource import Document

ANNOTATIONS_MAX: Final = 20
VALUE_LETTERS_MAX: Final = 5 * 1024
CONDITIONS_MAX: Final = 64
EXPRESSIONS_MAX: Final = 256
"""Variables, validations and mutations of one policy: each is compiled while nobody else is served. Upstream has no bound."""
REASONS: Final = ("Forbidden", "Invalid", "RequestEntityTooLarge")
ACTIONS: Final = ("Audit", "Deny", "Warn")
NOT_FOUND_ACTIONS: Final = ("Deny", "Allow")
PATCHES: Final = ("ApplyConfiguration", "JSONPatch")
_IDENTIFIER: Final = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*", re.ASCII)
_BREAK: Final = re.compile(r"[\n\r]")
UNSAID: Final = "expression is not specified"


# ------------------------------------------------------------------------------------------------------------- policies
def validating_policy(document: Document, causes: Causes) -> None:
    """A new ValidatingAdmissionPolicy."""
    _validating(document, causes, conditions=True)


def validating_policy_update(new: Document, old: Document, causes: Causes) -> None:
    """A changed one: conditions that stay as they were are not compiled again."""
    _validating(new, causes, conditions=_conditions_changed(new, old))


def mutating_policy(document: Document, causes: Causes) -> None:
    """A new MutatingAdmissionPolicy."""
    _mutating(document, causes, conditions=True)


def mutating_policy_update(new: Document, old: Document, causes: Causes) -> None:
    """A changed one."""
    _mutating(new, causes, conditions=_conditions_changed(new, old))


def _conditions_changed(new: Document, old: Document) -> bool:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    return any(after.get(key) != before.get(key) for key in ("paramKind", "matchConditions"))


def _validating(document: Document, causes: Causes, *, conditions: bool) -> None:
    spec = document.get("spec") or {}
    known = _common(spec, causes, conditions=conditions)
    validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
    if not validations and not annotations:
        text = "validations or auditAnnotations must contain at least one item"
        causes.required("spec.validations", text)
        causes.required("spec.auditAnnotations", text)
        return
    _bounded("spec.validations", validations, causes)
    for index, one in enumerate(validations[:EXPRESSIONS_MAX]):
        _validation(one, known, f"spec.validations[{index}]", causes)
    if len(annotations) > ANNOTATIONS_MAX:
        text = f"must not have more than {ANNOTATIONS_MAX} auditAnnotations"
        causes.invalid("spec.auditAnnotations", annotations, text)
    seen: set[str] = set()
    name = (document.get("metadata") or {}).get("name") or ""
    for index, one in enumerate(annotations[:EXPRESSIONS_MAX]):
        at, key = f"spec.auditAnnotations[{index}]", one.get("key") or ""
        _annotation(one, name, known, at, causes)
        if key in seen:
            causes.duplicate(f"{at}.key", key)
        seen.add(key)


def _mutating(document: Document, causes: Causes, *, conditions: bool) -> None:
    spec = document.get("spec") or {}
    known = _common(spec, causes, conditions=conditions)._replace(structs=True)
    mutations = spec.get("mutations") or ()
    if not mutations:
        causes.required("spec.mutations", "mutations must contain at least one item")
    _bounded("spec.mutations", mutations, causes)
    for index, one in enumerate(mutations[:EXPRESSIONS_MAX]):
        _mutation(one, known, f"spec.mutations[{index}]", causes)
    _one_of_required(spec, "reinvocationPolicy", REINVOCATIONS, "spec", causes)


def _common(spec: Document, causes: Causes, *, conditions: bool) -> Scope:
    """What both sorts have; the scope of their expressions."""
    _one_of_required(spec, "failurePolicy", FAILURE_POLICIES, "spec", causes)
    kind = spec.get("paramKind")
    if kind is not None:
        _param_kind(kind, "spec.paramKind", causes)
    constraints = spec.get("matchConstraints")
    if constraints is None:
        causes.required("spec.matchConstraints")
    else:
        match_resources(constraints, "spec.matchConstraints", causes)
        if not constraints.get("resourceRules"):
            causes.required("spec.matchConstraints.resourceRules")
    known = admission.scope(params=kind is not None, authorizer=True)
    if conditions:
        _conditions(spec.get("matchConditions") or (), known, causes)
    return _variables(spec.get("variables") or (), known, causes)


def _conditions(conditions: Sequence[Document], known: Scope, causes: Causes) -> None:
    def compiled(index: int, at: str, expression: str) -> None:
        if index < EXPRESSIONS_MAX:
            text = expression.strip()
            _compiles(known, text, text, at, causes, "bool")

    listed.named_conditions(conditions, "spec.matchConditions", CONDITIONS_MAX, compiled, causes)


def _variables(listed: Sequence[Document], known: Scope, causes: Causes) -> Scope:
    _bounded("spec.variables", listed, causes)
    listed = listed[:EXPRESSIONS_MAX]
    variables, known = Variables.of(listed, known)
    for index, one in enumerate(listed):
        at, name = f"spec.variables[{index}]", one.get("name") or ""
        if not name.strip():
            causes.required(f"{at}.name", "name is not specified")
        elif not _IDENTIFIER.fullmatch(name) or name in RESERVED:
            causes.invalid(f"{at}.name", name, "name is not a valid CEL identifier")
        text = one.get("expression") or ""
        fault = variables.programs.get(name)
        if not text.strip():
            causes.required(f"{at}.expression", UNSAID)
        elif isinstance(fault, CompileFault):
            causes.invalid(f"{at}.expression", text, str(fault))
    return known


def _compiles(  # noqa: PLR0913 - what it is, where it stands, what it may be
    known: Scope, text: str, shown: str, field: str, causes: Causes, *returns: str
) -> None:
    try:
        _program(known, text, *returns)
    except CompileFault as fault:
        causes.invalid(field, shown, str(fault))


def _program(known: Scope, text: str, *returns: str) -> Program:
    return admission.compiled(known, text, *returns)


def _validation(one: Document, known: Scope, at: str, causes: Causes) -> None:
    text = one.get("expression") or ""
    if not text.strip():
        causes.required(f"{at}.expression", UNSAID)
    else:
        _compiles(known, text, text, f"{at}.expression", causes, "bool")
    told = one.get("messageExpression") or ""
    if told and not told.strip():
        causes.invalid(f"{at}.messageExpression", told, "must be non-empty if specified")
    elif told:
        _compiles(without_authorizer(known), told, told, f"{at}.messageExpression", causes, "string")  # fmt: skip
    message = one.get("message") or ""
    if message and not message.strip():
        causes.invalid(f"{at}.message", message, "message must be non-empty if specified")
    elif _BREAK.search(message.strip()):
        causes.invalid(f"{at}.message", message, "message must not contain line breaks")
    if (reason := one.get("reason")) is not None:
        causes.one_of(f"{at}.reason", reason, REASONS)


def without_authorizer(known: Scope) -> Scope:
    """The scope of messages: they ask nobody."""
    kept = [pair for pair in known.variables if not pair[0].startswith("authorizer")]
    return known._replace(variables=tuple(kept))


def _annotation(one: Document, name: str, known: Scope, at: str, causes: Causes) -> None:
    key = one.get("key") or ""
    if name:
        causes.invalid_each(f"{at}.key", f"{name}/{key}", names.qualified_name(f"{name}/{key}"))
    else:
        causes.invalid(f"{at}.key", key, "requires metadata.name be non-empty")
    given = one.get("valueExpression") or ""
    text = given.strip()
    if not text:
        causes.required(f"{at}.valueExpression", "valueExpression is not specified")
    elif len(text.encode()) > VALUE_LETTERS_MAX:
        told = f"must not exceed {VALUE_LETTERS_MAX} bytes in length"
        causes.required(f"{at}.valueExpression", told)
    else:
        _compiles(known, text, given, f"{at}.valueExpression", causes, "string", "null_type")


MADE_BY: Final = {"ApplyConfiguration": "Object", "JSONPatch": "list(JSONPatch)"}
"""What the expression of a mutation must come to."""
FIELD_OF: Final = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


def _mutation(one: Document, known: Scope, at: str, causes: Causes) -> None:
    kind = one.get("patchType") or ""
    if not kind:
        causes.required(f"{at}.patchType")
        return
    if kind not in PATCHES:
        causes.unsupported(f"{at}.patchType", kind, PATCHES)
        return
    field = FIELD_OF[kind]
    for other in FIELD_OF.values():
        if other != field and one.get(other) is not None:
            causes.forbidden(f"{at}.{other}", f"must not be specified when patchType is {kind}")
    patch = one.get(field)
    if patch is None:
        causes.required(f"{at}.{field}", f"must be specified when patchType is {kind}")
        return
    text = patch.get("expression") or ""
    if not text.strip():
        causes.required(f"{at}.{field}.expression", UNSAID)
    else:
        _compiles(known, text, text, f"{at}.{field}.expression", causes, MADE_BY[kind])


# ------------------------------------------------------------------------------------------------------------- bindings
def validating_binding(document: Document, causes: Causes) -> None:
    """A ValidatingAdmissionPolicyBinding."""
    _binding(document, causes)
    _actions((document.get("spec") or {}).get("validationActions") or [], causes)


def mutating_binding(document: Document, causes: Causes) -> None:
    """A MutatingAdmissionPolicyBinding."""
    _binding(document, causes)


def _binding(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    name = spec.get("policyName") or ""
    if not name:
        causes.required("spec.policyName")
    else:
        causes.invalid_each("spec.policyName", name, names.dns_subdomain(name))
    if (ref := spec.get("paramRef")) is not None:
        _param_ref(ref, "spec.paramRef", causes)
    if (resources := spec.get("matchResources")) is not None:
        match_resources(resources, "spec.matchResouces", causes)  # upstream's spelling


def _param_ref(ref: Document, field: str, causes: Causes) -> None:
    name, selector = ref.get("name") or "", ref.get("selector")
    exclusive = "name and selector are mutually exclusive"
    if name:
        causes.invalid_each(f"{field}.name", name, names.path_segment(name))
        if selector is not None:
            causes.forbidden(f"{field}.name", exclusive)
    if selector is not None:
        label_selector(selector, f"{field}.selector", causes)
        if name:
            causes.forbidden(f"{field}.selector", exclusive)
    elif not name:
        causes.required(field, "one of name or selector must be specified")
    _one_of_required(ref, "parameterNotFoundAction", NOT_FOUND_ACTIONS, field, causes)


def _actions(actions: list[str], causes: Causes) -> None:
    field = "spec.validationActions"
    seen: set[str] = set()
    for index, action in enumerate(actions):
        causes.one_of(f"{field}[{index}]", action, ACTIONS)
        if action in seen:
            causes.duplicate(f"{field}[{index}]", action)
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        text = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API response "
            "and headers serves no purpose)"
        )
        causes.invalid(field, actions, text)
    if not seen:
        causes.required(field, "at least one validation action is required")


# ---------------------------------------------------------------------------------------------------------------- parts
def match_resources(resources: Document, field: str, causes: Causes) -> None:
    """A MatchResources, defaults in place."""
    _one_of_required(resources, "matchPolicy", MATCH_POLICIES, field, causes)
    for key in ("namespaceSelector", "objectSelector"):
        if resources.get(key) is None:
            causes.required(f"{field}.{key}")
        label_selector(resources.get(key), f"{field}.{key}", causes)
    for key in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(resources.get(key) or ()):
            _named_rule(rule, f"{field}.{key}[{index}]", causes)


def _named_rule(rule: Document, field: str, causes: Causes) -> None:
    seen: set[str] = set()
    for index, name in enumerate(rule.get("resourceNames") or ()):
        at = f"{field}.resourceNames[{index}]"
        causes.invalid_each(at, name, names.path_segment(name))
        if name in seen:
            causes.duplicate(at, name)
        seen.add(name)
    rule_with_operations(rule, field, causes)


def _param_kind(kind: Document, field: str, causes: Causes) -> None:
    given, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    group, slash, version = given.rpartition("/")
    if not given:
        causes.required(f"{field}.apiVersion")
    elif given.count("/") > 1:
        told = f"unexpected GroupVersion string: {given}"
        causes.invalid(f"{field}.apiVersion", given, told)
    else:
        if slash and group and (complaints := names.dns_subdomain(group)):
            causes.invalid(f"{field}.apiVersion", group, ",".join(complaints))
        if not version:
            causes.invalid(f"{field}.apiVersion", given, "version must be specified")
        elif complaints := names.dns_1035_label(version):
            causes.invalid(f"{field}.apiVersion", version, ",".join(complaints))
    if not name:
        causes.required(f"{field}.kind")
    elif complaints := names.dns_1035_label(name.lower()):
        told = "may have mixed case, but should otherwise match: " + ",".join(complaints)
        causes.invalid(f"{field}.kind", name, told)


def _one_of_required(
    document: Document, key: str, valid: Sequence[str], field: str, causes: Causes
) -> None:
    value = document.get(key)
    if not value:
        causes.required(f"{field}.{key}")
    else:
        causes.one_of(f"{field}.{key}", value, valid)


def _bounded(field: str, items: Sequence[Any], causes: Causes) -> None:
    if len(items) > EXPRESSIONS_MAX:
        causes.too_many(field, len(items), EXPRESSIONS_MAX)


CREATE: Final[dict[str, Callable[[Document, Causes], None]]] = {
    "ValidatingAdmissionPolicy": validating_policy,
    "MutatingAdmissionPolicy": mutating_policy,
    "ValidatingAdmissionPolicyBinding": validating_binding,
    "MutatingAdmissionPolicyBinding": mutating_binding,
}

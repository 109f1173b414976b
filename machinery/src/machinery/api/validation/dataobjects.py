"""IngressClasses, PodTemplates and ControllerRevisions."""

import re
from typing import Final

from machinery.api.validation import workloads
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE
from machinery.meta import names
from machinery.meta.resource import Document

CONTROLLER_MAX: Final = 250
_PATH: Final = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_PATH_RULE: Final = (
    "a valid domain path must consist of alphanumeric characters, or one of the characters"
)


# ------------------------------------------------------------------------------------------------------- IngressClasses
def ingress_class(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    controller = spec.get("controller", "")
    if len(controller) > CONTROLLER_MAX:
        causes.too_long("spec.controller", CONTROLLER_MAX)
    _prefixed_path(controller, "spec.controller", causes)
    if (parameters := spec.get("parameters")) is not None:
        _parameters(parameters, "spec.parameters", causes)


def ingress_class_update(new: Document, old: Document, causes: Causes) -> None:
    after = (new.get("spec") or {}).get("controller", "")
    if after != (old.get("spec") or {}).get("controller", ""):
        causes.invalid("spec.controller", after, IMMUTABLE)
    ingress_class(new, causes)


def _prefixed_path(text: str, field: str, causes: Causes) -> None:
    if not text:
        causes.required(field)
        return
    domain, _, path = text.partition("/")
    if not domain or not path:
        causes.invalid(field, text, 'must be a domain-prefixed path (such as "acme.io/foo")')
        return
    causes.invalid_each(field, domain, names.dns_subdomain(domain))
    if _PATH.fullmatch(path) is None:
        causes.invalid(
            field, path, f"{_PATH_RULE} (regex used for validation is '{_PATH.pattern}')"
        )


def _parameters(found: Document, field: str, causes: Causes) -> None:
    if group := found.get("apiGroup"):
        causes.invalid_each(f"{field}.apiGroup", group, names.dns_subdomain(group))
    for key in ("kind", "name"):
        if not (value := found.get(key, "")):
            causes.required(f"{field}.{key}")
        else:
            causes.invalid_each(f"{field}.{key}", value, names.path_segment(value))
    scope, namespace = found.get("scope"), found.get("namespace")
    if scope is None:
        causes.required(f"{field}.scope")
        return
    causes.one_of(f"{field}.scope", scope, ("Cluster", "Namespace"))
    if scope == "Namespace":
        if namespace is None:
            causes.required(f"{field}.namespace", "`parameters.scope` is set to 'Namespace'")
        else:
            causes.invalid_each(f"{field}.namespace", namespace, names.dns_label(namespace))
    if scope == "Cluster" and namespace is not None:
        causes.forbidden(f"{field}.namespace", "`parameters.scope` is set to 'Cluster'")


# ------------------------------------------------------------------------------------------------------------ histories
def pod_template(document: Document, causes: Causes) -> None:
    workloads.pod_template(document.get("template") or {}, "template", causes)


def controller_revision(document: Document, causes: Causes) -> None:
    if document.get("data") is None:
        causes.required("data", "data is mandatory")
    causes.not_negative("revision", document.get("revision"))


def controller_revision_update(new: Document, old: Document, causes: Causes) -> None:
    controller_revision(new, causes)
    if new.get("data") != old.get("data"):
        causes.invalid("data", new.get("data"), IMMUTABLE)

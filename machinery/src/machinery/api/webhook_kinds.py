"""Kinds of admissionregistration.k8s.io that name webhooks, and what is filled into them when a client leaves it out."""

from typing import Any, Final

from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document

GROUP: Final = "admissionregistration.k8s.io"
CATEGORY: Final = "api-extensions"
SERVICE_PORT: Final = 443
TIMEOUT_SECONDS: Final = 10


def registration_kind(kind: str, plural: str) -> ServedKind:
    """A kind of the group: nothing of it is in a namespace."""
    return ServedKind(
        GROUP, "v1", kind, plural, kind.lower(), False,
        f"io.k8s.api.admissionregistration.v1.{kind}", categories=(CATEGORY,),
    )  # fmt: skip


MUTATING = registration_kind("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
VALIDATING = registration_kind("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
WEBHOOK_KINDS: tuple[ServedKind, ...] = (MUTATING, VALIDATING)


# ------------------------------------------------------------------------------------------------------------- defaults
def mutating_defaults(document: Document) -> Document:
    """A MutatingWebhookConfiguration with every default in place."""
    return _filled(document, {"reinvocationPolicy": "Never"})


def validating_defaults(document: Document) -> Document:
    """A ValidatingWebhookConfiguration with every default in place."""
    return _filled(document, {})


def _filled(document: Document, own: Document) -> Document:
    hooks = document.get("webhooks")
    if not hooks:
        return document
    return {**document, "webhooks": [_webhook(hook, own) for hook in hooks]}


def _webhook(hook: Document, own: Document) -> Document:
    filled = _defaulted(
        hook,
        {
            "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {},
            "objectSelector": {}, "timeoutSeconds": TIMEOUT_SECONDS, **own,
        },
    )  # fmt: skip
    filled["clientConfig"] = client_defaults(hook.get("clientConfig") or {})
    if rules := hook.get("rules"):
        filled["rules"] = [_defaulted(rule, {"scope": "*"}) for rule in rules]
    return filled


def client_defaults(config: Document) -> Document:
    """The `clientConfig` of a webhook: a service is asked on port 443."""
    service = config.get("service")
    if not service:
        return config
    return {**config, "service": _defaulted(service, {"port": SERVICE_PORT})}


def _defaulted(document: Document, values: dict[str, Any]) -> Document:
    missing = {key: value for key, value in values.items() if document.get(key) is None}
    return {**document, **missing}

"""Lease, PriorityClass, RuntimeClass, CertificateSigningRequest, Scale, TokenRequest."""

import base64
import binascii
import re
from typing import Final

from cryptography import x509

from machinery.api.validation import resources, scheduling
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE
from machinery.meta import names
from machinery.meta.resource import Document

USER_PRIORITY_MAX: Final = 1_000_000_000
SYSTEM_CLASSES: Final = {
    "system-node-critical": 2_000_001_000,
    "system-cluster-critical": 2_000_000_000,
}
_APPROVALS: Final = ("Approved", "Denied", "Failed")
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_USAGES: Final = frozenset(
    {
        "signing", "digital signature", "content commitment", "key encipherment", "key agreement",
        "data encipherment", "cert sign", "crl sign", "encipher only", "decipher only", "any",
        "server auth", "client auth", "code signing", "email protection", "s/mime",
        "ipsec end system", "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing",
        "microsoft sgc", "netscape sgc",
    }
)  # fmt: skip
_SHOWN_CERTIFICATE: Final = "<certificate data>"


# --------------------------------------------------------------------------------------------------------------- Lease
def lease(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        causes.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")
    causes.not_negative("spec.leaseTransitions", transitions)


# ------------------------------------------------------------------------------------------------------- PriorityClass
def priority_class(document: Document, causes: Causes) -> None:
    name = (document.get("metadata") or {}).get("name", "")
    value = document.get("value", 0)
    if name.startswith("system-"):
        if SYSTEM_CLASSES.get(name) != value:
            why = (
                f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
                if name in SYSTEM_CLASSES
                else f"{name} is not a known system priority class"
            )
            causes.forbidden(
                "metadata.name",
                "priority class names with 'system-' prefix are reserved for system use only. "
                f"error: {why}",
            )
    elif value > USER_PRIORITY_MAX:
        causes.forbidden(
            "value", f"maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}"
        )
    if policy := document.get("preemptionPolicy"):
        causes.one_of("preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))


def priority_class_update(new: Document, old: Document, causes: Causes) -> None:
    if new.get("value", 0) != old.get("value", 0):
        causes.forbidden("value", "may not be changed in an update.")
    if (policy := new.get("preemptionPolicy")) != old.get("preemptionPolicy"):
        causes.invalid("preemptionPolicy", policy, IMMUTABLE)


# -------------------------------------------------------------------------------------------------------- RuntimeClass
def runtime_class(document: Document, causes: Causes) -> None:
    handler = document.get("handler", "")
    causes.invalid_each("handler", handler, names.dns_label(handler))
    if fixed := (document.get("overhead") or {}).get("podFixed"):
        resources.amounts(fixed, "overhead.podFixed", causes)
    rules = document.get("scheduling") or {}
    if chosen := rules.get("nodeSelector"):
        scheduling.node_selector_labels(chosen, "scheduling.nodeSelector", causes)
    if tolerations := rules.get("tolerations"):
        scheduling.tolerations(tolerations, "scheduling.tolerations", causes)


def runtime_class_update(new: Document, old: Document, causes: Causes) -> None:
    if (handler := new.get("handler")) != old.get("handler"):
        causes.invalid("handler", handler, IMMUTABLE)


# ------------------------------------------------------------------------------------------ CertificateSigningRequest
def signing_request(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    _request(spec.get("request") or "", causes)
    usages = spec.get("usages") or []
    if not usages:
        causes.required("spec.usages")
    for index, usage in enumerate(usages):
        if usage not in _USAGES:
            causes.unsupported(f"spec.usages[{index}]", usage, sorted(_USAGES))
        if usage in usages[:index]:
            causes.duplicate(f"spec.usages[{index}]", usage)
    _signer(spec.get("signerName", ""), causes)
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        causes.invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        )


def _request(packed: str, causes: Causes) -> None:
    try:
        raw = base64.b64decode(packed)
    except binascii.Error:
        raw = b""
    block = _BLOCK.search(raw)
    if block is None or block[1] != b"CERTIFICATE REQUEST":
        causes.invalid("spec.request", packed, "PEM block type must be CERTIFICATE REQUEST")
        return
    try:
        x509.load_pem_x509_csr(raw)
    except ValueError:
        causes.invalid("spec.request", packed, "x509: malformed certificate request")


def _signer(name: str, causes: Causes) -> None:
    field = "spec.signerName"
    if not name:
        causes.required(field)
        return
    domain, slash, path = name.partition("/")
    if not slash or "/" in path:
        causes.invalid(
            field,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        )
        return
    causes.invalid_each(field, domain, names.fully_qualified_domain(domain))
    for segment in path.split("."):
        causes.invalid_each(field, segment, names.dns_label(segment))
    if len(name) > 571:
        causes.too_long(field, 571)


def signing_request_update(new: Document, old: Document, causes: Causes) -> None:
    """Conditions Approved, Denied and Failed are decisions: set once, true, and never taken back."""
    after = (new.get("status") or {}).get("conditions") or []
    before = (old.get("status") or {}).get("conditions") or []
    types = [c.get("type") for c in after]
    for index, one in enumerate(after):
        where = f"status.conditions[{index}]"
        if not one.get("type"):
            causes.required(f"{where}.type")
        status = one.get("status", "")
        if one.get("type") in _APPROVALS:
            if not status:
                causes.required(f"{where}.status")
            else:
                causes.one_of(f"{where}.status", status, ("True",))
        elif status not in ("True", "False", "Unknown"):
            causes.unsupported(f"{where}.status", status, ("True", "False", "Unknown"))
        if one.get("type") in types[:index]:
            causes.duplicate(f"{where}.type", one.get("type"))
    if "Approved" in types and "Denied" in types:
        second = max(types.index("Approved"), types.index("Denied"))
        causes.invalid(
            "status.conditions",
            types[second],
            "Approved and Denied conditions are mutually exclusive",
        )
    for one in before:
        if one.get("type") in _APPROVALS and one.get("type") not in types:
            causes.forbidden(
                "status.conditions", f'updates may not remove a condition of type "{one["type"]}"'
            )
    _certificate(new, old, causes)


def _certificate(new: Document, old: Document, causes: Causes) -> None:
    after = (new.get("status") or {}).get("certificate")
    before = (old.get("status") or {}).get("certificate")
    if not after or after == before:
        return
    field = "status.certificate"
    if before:
        causes.forbidden(field, "updates may not modify existing certificate content")
        return
    raw = base64.b64decode(after)
    blocks = _BLOCK.findall(raw)
    if b"CERTIFICATE" not in blocks:
        causes.invalid(field, _SHOWN_CERTIFICATE, "must contain at least one CERTIFICATE PEM block")
        return
    try:
        x509.load_pem_x509_certificates(raw)
    except ValueError:
        causes.invalid(field, _SHOWN_CERTIFICATE, "x509: malformed certificate")


# ------------------------------------------------------------------------------------------------- bodies of subresources
def scale(document: Document, causes: Causes) -> None:
    causes.not_negative("spec.replicas", (document.get("spec") or {}).get("replicas"))


def token_request(document: Document, causes: Causes) -> None:
    seconds = (document.get("spec") or {}).get("expirationSeconds", 0)
    if seconds < 600:
        causes.invalid(
            "spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"
        )
    if seconds > 1 << 32:
        causes.invalid(
            "spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"
        )

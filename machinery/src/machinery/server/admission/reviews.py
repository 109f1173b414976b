"""AdmissionReview: what a webhook is asked, and what its answer means. Pure; upstream's checks and words.

Of v1 the answer's uid, kind and patch type are checked, of v1beta1 none of them, as upstream has it.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from machinery.meta.errors import StatusError, from_status
from machinery.meta.resource import Document

GROUP: Final = "admission.k8s.io"
VERSIONS: Final = ("v1", "v1beta1")
KIND: Final = "AdmissionReview"
JSON_PATCH: Final = "JSONPatch"
ANNOTATION_BYTES_MAX: Final = 64 << 10
"""Of all audit annotations of one answer."""
WARNINGS_MAX: Final = 32
WARNING_LETTERS_MAX: Final = 4096


class Unfit(Exception):
    """The webhook's answer is none; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a webhook has answered."""

    allowed: bool
    status: Mapping[str, Any] | None = None
    patch: bytes = b""
    patch_type: str = ""
    warnings: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def version_of(accepted: Sequence[str]) -> str:
    """The first version that both speak. Raises Unfit."""
    for version in accepted:
        if version in VERSIONS:
            return version
    raise Unfit("webhook does not accept known AdmissionReview versions (v1, v1beta1)")


def review(
    version: str, uid: str, request: Document, document: Document | None, old: Document | None
) -> Document:
    """The AdmissionReview to send. `request` is the AdmissionRequest without uid and objects."""
    whole: Document = {"uid": uid}
    for key, value in request.items():
        if key == "dryRun":
            whole |= {"object": document, "oldObject": old}
        whole[key] = value
    return {"kind": KIND, "apiVersion": f"{GROUP}/{version}", "request": whole}


def verdict(answer: Document, version: str, uid: str, *, mutating: bool) -> Verdict:
    """What an answer says. Raises Unfit."""
    response = answer.get("response")
    if version == "v1":
        _check_kind(answer)
    if response is None:
        raise Unfit("webhook response was absent")
    if not isinstance(response, Mapping):
        raise Unfit("webhook response is no object")
    given = response.get("uid", "")
    if version == "v1" and given != uid:
        raise Unfit(f'expected response.uid="{uid}", got "{given}"')
    patch, patch_type = _patch(response, version, mutating=mutating)
    status = response.get("status")
    return Verdict(
        response.get("allowed") is True,
        status if isinstance(status, Mapping) else None,
        patch,
        patch_type,
        tuple(_warnings(response.get("warnings"))),
        _annotations(response.get("auditAnnotations")),
    )


def _check_kind(answer: Document) -> None:
    wanted = (f"{GROUP}/v1", KIND)
    given = (answer.get("apiVersion") or "/", answer.get("kind") or "")
    if given != wanted:
        texts = [f"{version}, Kind={kind}" for version, kind in (wanted, given)]
        raise Unfit(f"expected webhook response of {texts[0]}, got {texts[1]}")


def _patch(response: Mapping[str, Any], version: str, *, mutating: bool) -> tuple[bytes, str]:
    given, kind = response.get("patch"), response.get("patchType")
    try:
        patch = base64.b64decode(given or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise Unfit("response.patch is no base64") from None
    if version != "v1":
        return (patch, JSON_PATCH) if mutating and patch else (b"", "")
    if not mutating:
        if patch:
            raise Unfit("validating webhook may not return response.patch")
        if kind is not None:
            raise Unfit("validating webhook may not return response.patchType")
        return b"", ""
    if patch and kind is None:
        raise Unfit("webhook returned response.patch but not response.patchType")
    if not patch and kind is not None:
        raise Unfit("webhook returned response.patchType but not response.patch")
    if kind is not None and not kind:
        raise Unfit('webhook returned invalid response.patchType of ""')
    return patch, str(kind or "")


def _warnings(given: Any) -> list[str]:
    if not isinstance(given, list):
        return []
    texts = [str(one) for one in given[:WARNINGS_MAX] if isinstance(one, str)]
    return [" ".join(text[:WARNING_LETTERS_MAX].split()) for text in texts]


def _annotations(given: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    left = ANNOTATION_BYTES_MAX
    for key, value in given.items() if isinstance(given, Mapping) else ():
        left -= len(str(key)) + len(str(value))
        if left < 0:
            break
        found[str(key)] = str(value)
    return found


def operations(found: Verdict) -> Any:
    """A verdict's JSON patch as it was decoded, nothing where there is none. Raises Unfit, ValueError."""
    if not found.patch:
        return []
    if found.patch_type != JSON_PATCH:
        raise Unfit(f'unsupported patch type "{found.patch_type}"')
    return orjson.loads(found.patch)


def refusal(name: str, status: Mapping[str, Any] | None) -> StatusError:
    """The error that a client hears of a webhook that does not allow: never a status of success."""
    texts = {key: value for key, value in (status or {}).items() if key in ("message", "reason")}
    result = {key: value for key, value in (status or {}).items() if key not in texts}
    result |= {key: value for key, value in texts.items() if isinstance(value, str)}
    code = result.get("code")
    if not isinstance(code, int) or code < 400:
        result["code"] = 400
    elif code > 599:  # no code of HTTP
        result["code"] = 500
    told = f'admission webhook "{name}" denied the request'
    message, reason = result.get("message"), result.get("reason")
    if message or reason:
        result["message"] = f"{told}: {message or reason}"
    else:
        result["message"] = f"{told} without explanation"
    if not isinstance(result.get("details"), Mapping):
        result.pop("details", None)
    error = from_status(result)
    error.status_reason = str(reason or "")
    return error

"""LimitRanger: what containers leave unsaid is filled in from the namespace's LimitRanges, what goes beyond them is refused.

Defaults come before validation, bounds after it, both in upstream's words. Pods are judged when they are made and when they
are resized, claims at every write. A server without LimitRanges pays for a look at an empty table.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from machinery.api.quota.amounts import Amounts, read
from machinery.api.quota.usage import limits_of, requests_of
from machinery.meta.quantity import Quantity
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, Kinds, refuse
from machinery.server.cache import KindCache

ANNOTATION = "kubernetes.io/limit-ranger"
_CLAIM = "PersistentVolumeClaim"


class LimitRanger:
    """Bounds and defaults of one server."""

    kinds: ClassVar[Kinds] = frozenset({("", "Pod"), ("", _CLAIM)})

    def __init__(self, ranges: KindCache | None) -> None:
        self._ranges = ranges

    def admit(self, request: AdmissionRequest) -> Document:
        if request.verb != "create" or request.kind.kind != "Pod" or request.subresource:
            return request.document
        items = self._items(request.namespace)
        if not items:
            return request.document
        return with_defaults(request.document, items)

    def validate(self, request: AdmissionRequest) -> None:
        if not _is_judged(request):
            return
        items = self._items(request.namespace)
        if not items:
            return
        judge = pod_faults if request.kind.kind == "Pod" else claim_faults
        found = list(dict.fromkeys(judge(request.document, items)))
        if found:
            why = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
            raise refuse(request, why)

    def _items(self, namespace: str) -> list[Document]:
        """The limits of all LimitRanges of the namespace."""
        ranges = self._ranges
        if ranges is None or not ranges.entries:
            return []
        found = (ranges.entries[key].document() for key in ranges.ordered(namespace))
        return [item for one in found for item in (one.get("spec") or {}).get("limits") or ()]


def _is_judged(request: AdmissionRequest) -> bool:
    if request.kind.kind == "Pod":
        if request.verb == "update":
            return request.subresource == "resize"
        return request.verb == "create" and not request.subresource
    going = (request.document.get("metadata") or {}).get("deletionTimestamp")
    return request.verb in ("create", "update") and not request.subresource and not going


# --------------------------------------------------------------------------------------------------------------- defaults
def with_defaults(pod: Document, items: Iterable[Document]) -> Document:
    """The pod with the defaults of its containers, and an annotation that says what was set."""
    limits: dict[str, Any] = {}
    requests: dict[str, Any] = {}
    for item in items:
        if item.get("type") == "Container":
            limits |= item.get("default") or {}
            requests |= item.get("defaultRequest") or {}
    told: list[str] = []
    spec = dict(pod.get("spec") or {})
    for key, noun in (("containers", "container"), ("initContainers", "init container")):
        if found := spec.get(key):
            spec[key] = [_filled(one, noun, requests, limits, told) for one in found]
    if not told:
        return pod
    metadata = pod.get("metadata") or {}
    marks = {**(metadata.get("annotations") or {})}
    marks[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(told)
    return {**pod, "metadata": {**metadata, "annotations": marks}, "spec": spec}


def _filled(
    container: Document,
    noun: str,
    requests: Mapping[str, Any],
    limits: Mapping[str, Any],
    told: list[str],
) -> Document:
    resources = dict(container.get("resources") or {})
    for key, part, defaults in (
        ("requests", "request", requests),
        ("limits", "limit", limits),
    ):
        held = resources.get(key) or {}
        missing = {name: value for name, value in defaults.items() if name not in held}
        if missing:
            resources[key] = {**held, **missing}
            told.append(
                f"{', '.join(sorted(missing))} {part} for {noun} {container.get('name', '')}"
            )
    return {**container, "resources": resources}


# ----------------------------------------------------------------------------------------------------------------- bounds
def pod_faults(pod: Document, items: Iterable[Document]) -> Iterable[str]:
    """What of a pod is out of bounds."""
    spec = pod.get("spec") or {}
    for item in items:
        if item.get("type") == "Container":
            for one in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
                resources = one.get("resources") or {}
                yield from _faults(
                    item,
                    "Container",
                    read(resources.get("requests")),
                    read(resources.get("limits")),
                )
        elif item.get("type") == "Pod":
            yield from _faults(item, "Pod", requests_of(spec), limits_of(spec))


def claim_faults(claim: Document, items: Iterable[Document]) -> Iterable[str]:
    """What of a claim is out of bounds; only its request counts."""
    asked = read(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    for item in items:
        if item.get("type") == _CLAIM:
            yield from _each(item, "min", lambda n, q: _minimum(n, q, _CLAIM, asked, {}))
            yield from _each(item, "max", lambda n, q: _most_asked(n, q, asked))


def _faults(item: Document, what: str, requests: Amounts, limits: Amounts) -> Iterable[str]:
    yield from _each(item, "min", lambda n, q: _minimum(n, q, what, requests, limits))
    yield from _each(item, "max", lambda n, q: _maximum(n, q, what, requests, limits))
    yield from _each(
        item, "maxLimitRequestRatio", lambda n, q: _ratio(n, q, what, requests, limits)
    )


def _each(item: Document, part: str, judge: Callable[[str, Quantity], str]) -> Iterable[str]:
    bounds = read(item.get(part))
    for name in sorted(bounds):
        if fault := judge(name, bounds[name]):
            yield fault


def _minimum(name: str, bound: Quantity, what: str, requests: Amounts, limits: Amounts) -> str:
    head = f"minimum {name} usage per {what} is {bound}"
    asked, limit = requests.get(name), limits.get(name)
    if asked is None:
        return f"{head}.  No request is specified"
    if asked.value < bound.value:
        return f"{head}, but request is {asked}"
    if limit is not None and limit.value < bound.value:
        return f"{head}, but limit is {limit}"
    return ""


def _maximum(name: str, bound: Quantity, what: str, requests: Amounts, limits: Amounts) -> str:
    head = f"maximum {name} usage per {what} is {bound}"
    asked, limit = requests.get(name), limits.get(name)
    if limit is None:
        return f"{head}.  No limit is specified"
    if limit.value > bound.value:
        return f"{head}, but limit is {limit}"
    if asked is not None and asked.value > bound.value:
        return f"{head}, but request is {asked}"
    return ""


def _most_asked(name: str, bound: Quantity, requests: Amounts) -> str:
    head = f"maximum {name} usage per {_CLAIM} is {bound}"
    asked = requests.get(name)
    if asked is None:
        return f"{head}.  No request is specified"
    return f"{head}, but request is {asked}" if asked.value > bound.value else ""


def _ratio(name: str, bound: Quantity, what: str, requests: Amounts, limits: Amounts) -> str:
    head = f"{name} max limit to request ratio per {what} is {bound}"
    asked, limit = requests.get(name), limits.get(name)
    if asked is None or not asked.value:
        return f"{head}, but no request is specified or request is 0"
    if limit is None or not limit.value:
        return f"{head}, but no limit is specified or limit is 0"
    found = limit.value / asked.value
    return f"{head}, but provided ratio is {float(found):f}" if found > bound.value else ""

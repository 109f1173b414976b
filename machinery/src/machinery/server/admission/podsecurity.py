"""PodSecurity: pods are held against the level that their namespace's labels ask for.

`enforce` refuses pods, `warn` warns of pods and of workloads that make them. A namespace whose labels cannot be read is
refused; one that becomes stricter is told which of its pods would be refused now. `audit` is read and checked like the
others, and nothing is written for it. A namespace without such labels costs a look at them.
"""

from collections.abc import Iterable
from typing import ClassVar

from machinery.api.podsecurity import judge, levels
from machinery.api.podsecurity.levels import Level
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, Kinds, refuse
from machinery.server.admission.plugins import Peek
from machinery.server.cache import KindCache

PODS_MAX = 3000
"""How many pods of a namespace are looked at when its level changes."""
_NAMESPACE = ("", "Namespace")
_POD = ("", "Pod")
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")


class PodSecurity:
    """The levels of one server's namespaces."""

    kinds: ClassVar[Kinds] = frozenset({_POD, _NAMESPACE, *judge.TEMPLATES})

    def __init__(self, peek: Peek, pods: KindCache | None) -> None:
        self._peek = peek
        self._pods = pods

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        if request.verb not in ("create", "update"):
            return
        if request.kind.group_kind == _NAMESPACE:
            if not request.subresource:
                self._namespace(request)
            return
        namespace = self._peek("core/namespaces", "", request.namespace)
        labels = (namespace or {}).get("metadata", {}).get("labels")
        if not levels.speaks(labels):
            return
        if request.kind.group_kind == _POD:
            self._pod(request, labels)
        elif not request.subresource:
            template = judge.template_of(*request.kind.group_kind, request.document)
            if template is not None:
                _warn(request, labels, template)

    def _pod(self, request: AdmissionRequest, labels: dict[str, str]) -> None:
        if request.subresource not in ("", "ephemeralcontainers"):
            return
        old = request.old
        if (
            old is not None
            and not request.subresource
            and _images(request.document) == _images(old)
        ):
            return
        level = levels.level_of(labels, "enforce")
        found = judge.faults(level, request.document)
        if found:
            raise refuse(request, f'violates PodSecurity "{level}": {judge.told(found)}')
        _warn(request, labels, request.document)

    # ------------------------------------------------------------------------------------------------------- namespaces
    def _namespace(self, request: AdmissionRequest) -> None:
        new, old = _labels(request.document), _labels(request.old or {})
        causes = levels.faults(new)
        if causes and not (request.old is not None and levels.faults(old)):
            raise errors.invalid("Namespace", "", request.name, causes)
        if request.old is None:
            return
        level = levels.level_of(new, "enforce")
        if levels.is_stricter(level, levels.level_of(old, "enforce")):
            request.call.warnings.extend(self._existing(request.name, level))

    def _existing(self, namespace: str, level: Level) -> Iterable[str]:
        """Which pods of a namespace would be refused now, those with the same faults together."""
        if self._pods is None:
            return
        by_faults: dict[str, list[str]] = {}
        for key in self._pods.ordered(namespace)[:PODS_MAX]:
            pod = self._pods.entries[key].document()
            if found := judge.faults(level, pod):
                reasons = ", ".join(fault.reason for fault in found)
                by_faults.setdefault(reasons, []).append(pod["metadata"]["name"])
        if not by_faults:
            return
        yield (
            f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{level}"'
        )
        yield from sorted(_of_pods(pods, reasons) for reasons, pods in by_faults.items())


def _of_pods(pods: list[str], reasons: str) -> str:
    others = len(pods) - 1
    more = f" (and {others} other pod{'s' if others > 1 else ''})" if others else ""
    return f"{min(pods)}{more}: {reasons}"


def _labels(document: Document) -> dict[str, str]:
    found: dict[str, str] = (document.get("metadata") or {}).get("labels") or {}
    return found


def _images(pod: Document) -> list[tuple[str, str]]:
    """What of a pod an update may change and a check looks at."""
    spec = pod.get("spec") or {}
    return [
        (one.get("name", ""), one.get("image", ""))
        for key in _CONTAINERS
        for one in spec.get(key) or ()
    ]


def _warn(request: AdmissionRequest, labels: dict[str, str], pod: Document) -> None:
    level = levels.level_of(labels, "warn")
    if found := judge.faults(level, pod):
        text = f'would violate PodSecurity "{level}": {judge.told(found)}'
        request.call.warnings.append(text)

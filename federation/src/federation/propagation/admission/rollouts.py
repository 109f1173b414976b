"""The admission of staged updates and disruption budgets: what their schemas cannot say."""

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from federation.propagation.rollouts import rules
from machinery.meta.errors import Invalid
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest

GROUP = "ubernetes.io"
_JUDGES: Mapping[str, Callable[[Document], Iterable[rules.Fault]]] = {
    "StagedUpdateStrategy": rules.strategy,
    "PlacementDisruptionBudget": rules.budget,
}
_WORKLOADS = (
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("batch", "Job"),
    ("batch", "CronJob"),
)


class StagedKinds:
    """Strategies, runs and budgets are judged; workloads are warned of annotations that mean nothing."""

    kinds: ClassVar[frozenset[tuple[str, str]]] = frozenset(
        [*((GROUP, kind) for kind in (*_JUDGES, "StagedUpdateRun")), *_WORKLOADS]
    )

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        """Raises Invalid with every fault."""
        if request.verb not in ("create", "update") or request.subresource:
            return
        if request.kind.group != GROUP:
            request.call.warnings.extend(rules.idle(request.document))
            return
        kind, faults = request.kind.kind, list[rules.Fault]()
        if kind in _JUDGES:
            faults += _JUDGES[kind](request.document)
        elif request.old is not None:
            faults += rules.run_changed(request.document, request.old)
        if faults:
            raise refusal(kind, request.document, faults)


def refusal(kind: str, document: Document, faults: Iterable[rules.Fault]) -> Invalid:
    """As API servers word it."""
    name = (document.get("metadata") or {}).get("name", "")
    causes = [
        {
            "reason": "FieldValueInvalid",
            "message": f"Invalid value: {_shown(value)}: {why}",
            "field": field,
        }
        for field, value, why in faults
    ]
    said = [f"{cause['field']}: {cause['message']}" for cause in causes]
    text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    details = {"name": name, "group": GROUP, "kind": kind, "causes": causes}
    return Invalid(f'{kind}.{GROUP} "{name}" is invalid: {text}', details=details)


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)

"""Which names a definition is given, and when it is established; in the reasons and words of apiextensions-apiserver.

A name that another definition or a built kind of the group has is not given; those given once are kept, whatever comes
later. A definition is established once, when all its names were given, and stays so though later names conflict.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document

CLEANUP_FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
APPROVAL: Final = "api-approved.kubernetes.io"
Taken = tuple[set[str], set[str]]
"""The names of resources (plural, singular, short) and of kinds (kind, list kind) that others in the group have."""


def taken(name: str, group: str, others: Iterable[Document], kinds: Iterable[ServedKind]) -> Taken:
    """What a definition of that name may not have: by the other definitions, and by the kinds that none made."""
    resources: set[str] = set()
    titles: set[str] = set()
    for other in others:
        if other["spec"]["group"] != group or other["metadata"]["name"] == name:
            continue
        names = (other.get("status") or {}).get("acceptedNames") or {}
        resources |= {names.get("plural", ""), names.get("singular", "")}
        resources.update(names.get("shortNames") or ())
        titles |= {names.get("kind", ""), names.get("listKind", "")}
    for kind in kinds:
        if kind.group == group and kind.dynamic is None:
            resources |= {kind.plural, kind.singular, *kind.short_names}
            titles |= {kind.kind, kind.list_kind}
    return resources - {""}, titles - {""}


def status_of(definition: Document, held: Taken, now: str) -> Document:
    """The status that a definition should have; equal to the present one when nothing is to be done."""
    status = definition.get("status") or {}
    names, accepted = _accepted(definition["spec"]["names"], status.get("acceptedNames"), held)
    present = {c["type"]: c for c in status.get("conditions") or ()}
    established = _established(present.get("Established"), accepted)
    wanted = {"NamesAccepted": accepted, "Established": established, **_approval(definition)}
    conditions = [
        _condition(kind, *words, present.get(kind), now) for kind, words in wanted.items()
    ]
    conditions += [c for kind, c in present.items() if kind not in wanted]
    return {**status, "conditions": conditions, "acceptedNames": names}


def terminating(status: Document, words: tuple[str, str, str], now: str) -> Document:
    """The status with the condition Terminating: status, reason, message."""
    rows = list(status.get("conditions") or ())
    old = next((row for row in rows if row["type"] == "Terminating"), None)
    new = _condition("Terminating", *words, old, now)
    rows = [new if row is old else row for row in rows] if old else [*rows, new]
    return {**status, "conditions": rows}


def _accepted(
    wanted: Mapping[str, Any], current: Mapping[str, Any] | None, held: Taken
) -> tuple[Document, tuple[str, str, str]]:
    """(the accepted names, the words of NamesAccepted). Every name that is free is given, also beside a conflict."""
    names: Document = {"plural": "", "kind": "", **(current or {})}
    verdict = ("True", "NoConflicts", "no conflicts found")
    resources, titles = held
    for key, reason, used in (
        ("plural", "PluralConflict", resources),
        ("singular", "SingularConflict", resources),
        ("shortNames", "ShortNamesConflict", resources),
        ("kind", "KindConflict", titles),
        ("listKind", "ListKindConflict", titles),
    ):
        value = wanted.get(key)
        mine = names.get(key) or ()
        if key == "shortNames":
            bad = [one for one in value or () if one not in mine and one in used]
        else:
            bad = [value] if value and value != mine and value in used else []
        if bad:
            texts = [f'"{one}" is already in use' for one in bad]
            verdict = ("False", reason, texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
        elif value:
            names[key] = value
        elif key not in ("plural", "kind"):
            names.pop(key, None)
    if categories := wanted.get("categories"):
        names["categories"] = categories
    else:
        names.pop("categories", None)
    return names, verdict


def _established(old: Document | None, accepted: tuple[str, str, str]) -> tuple[str, str, str]:
    if old is not None and old["status"] == "True":
        return ("True", old.get("reason", ""), old.get("message", ""))
    if accepted[0] == "True":
        return ("True", "InitialNamesAccepted", "the initial names have been accepted")
    return ("False", "NotAccepted", "not all names are accepted")


def _approval(definition: Document) -> dict[str, tuple[str, str, str]]:
    """Groups that belong to Kubernetes say who approved the API."""
    if not is_protected(definition["spec"]["group"]):
        return {}
    value = (definition["metadata"].get("annotations") or {}).get(APPROVAL, "")
    if not value:
        return {}
    words = ("True", "ApprovedAnnotation", f"approved in {value}")
    if value.startswith("unapproved"):
        text = f'not approved: "{value}"'
        words = ("False", "UnapprovedAnnotation", text)
    return {"KubernetesAPIApprovalPolicyConformant": words}


def is_protected(group: str) -> bool:
    """Whether a group is Kubernetes' own."""
    return any(group == base or group.endswith("." + base) for base in ("k8s.io", "kubernetes.io"))


def _condition(
    kind: str, status: str, reason: str, message: str, old: Document | None, now: str
) -> Document:
    if old is not None and (old["status"], old.get("reason"), old.get("message")) == (
        status, reason, message,
    ):  # fmt: skip
        return old
    kept = old is not None and old["status"] == status and old.get("lastTransitionTime")
    return {
        "type": kind,
        "status": status,
        "lastTransitionTime": kept or now,
        "reason": reason,
        "message": message,
    }

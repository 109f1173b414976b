"""What checks have in common: the containers of a pod, and how they are named in a refusal."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from machinery.meta.resource import Document


class Fault(NamedTuple):
    """What a pod does wrong: in a word, and where."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


def containers(spec: Document) -> Iterator[Document]:
    """All of a pod, in the order in which they are looked at."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(key) or ()


def security(owner: Document) -> Document:
    """The security context of a pod or a container."""
    found: Document = owner.get("securityContext") or {}
    return found


def names(found: Iterable[Document]) -> list[str]:
    return [one.get("name", "") for one in found]


def quoted(texts: Iterable[str]) -> str:
    """`"a", "b"`."""
    return ", ".join(f'"{text}"' for text in texts)


def several(texts: Sequence[str], noun: str = "container") -> str:
    """`container "a"` or `containers "a", "b"`."""
    return f"{noun if len(texts) == 1 else noun + 's'} {quoted(texts)}"


def setters(pod: bool, bad: Sequence[str]) -> str:
    """`pod`, `container "a"`, or `pod and container "a"`."""
    parts = ["pod"] if pod else []
    if bad:
        parts.append(several(bad))
    return " and ".join(parts)


def ordered(texts: Iterable[Any]) -> list[Any]:
    return sorted(set(texts))

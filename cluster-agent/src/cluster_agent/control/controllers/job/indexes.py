"""Completion indexes of an Indexed Job, held as ordered intervals: `0-2,5,7,8`. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from machinery.api.core import Pod

INDEX = "batch.kubernetes.io/job-completion-index"
"""Annotation and label of a pod: which index it works on."""


@dataclass(frozen=True, slots=True)
class Indexes:
    """A set of indexes as (first, last) pairs, in order, with a gap between any two."""

    spans: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        return ",".join(_span(first, last) for first, last in self.spans)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.spans)

    def __contains__(self, index: int) -> bool:
        return any(first <= index <= last for first, last in self.spans)

    def with_indexes(self, more: Iterable[int]) -> "Indexes":
        """With these single ones too."""
        return self | Indexes(tuple((index, index) for index in more))

    def __or__(self, other: "Indexes") -> "Indexes":
        merged: list[tuple[int, int]] = []
        for first, last in sorted((*self.spans, *other.spans)):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return Indexes(tuple(merged))

    def __and__(self, other: "Indexes") -> int:
        """How many are in both."""
        both = 0
        for first, last in self.spans:
            for begin, end in other.spans:
                both += max(0, min(last, end) - max(first, begin) + 1)
        return both

    def absent(self, completions: int) -> Iterator[int]:
        """Those below `completions` that are not here, in order."""
        candidate = 0
        for first, last in self.spans:
            yield from range(candidate, min(first, completions))
            candidate = max(candidate, last + 1)
        yield from range(candidate, completions)


def _span(first: int, last: int) -> str:
    if last == first:
        return str(first)
    return f"{first}{',' if last == first + 1 else '-'}{last}"


def parse(text: str, completions: int) -> Indexes:
    """What a status or a rule says, cut off at `completions`; a part that cannot be read says nothing."""
    spans = []
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            continue
        end = min(int(last) if dash else int(first), completions - 1)
        if int(first) <= end:
            spans.append((int(first), end))
    return Indexes() | Indexes(tuple(spans))


def index_of(pod: Pod) -> int | None:
    """The index that the pod works on."""
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def indexes_of(pods: Iterable[Pod]) -> Indexes:
    """The indexes that the pods work on."""
    found = (index_of(pod) for pod in pods)
    return Indexes().with_indexes(index for index in found if index is not None)

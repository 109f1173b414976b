"""Label and node selectors of pods, compiled once into matchers with a hashable identity.

Identity matters: counts of matching pods are kept per matcher, so that a thousand pods of one ReplicaSet share them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from machinery.api.core import LabelSelector, NodeSelector, NodeSelectorTerm

Labels = Mapping[str, str]
Test = tuple[str, str, tuple[str, ...]]
"""Key, operator, values."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """A conjunction of tests on labels; `nothing` matches no object (a nil selector)."""

    tests: tuple[Test, ...] = ()
    nothing: bool = False
    identity: int = field(default=0, compare=False)

    def __call__(self, labels: Labels) -> bool:
        return not self.nothing and all(passes(test, labels) for test in self.tests)

    def with_equal(self, pairs: Mapping[str, str]) -> "Matcher":
        """This matcher, and each of `pairs` as well (matchLabelKeys)."""
        extra = tuple((key, "In", (value,)) for key, value in sorted(pairs.items()))
        return Matcher(self.tests + extra, self.nothing)

    def without(self, pairs: Mapping[str, str]) -> "Matcher":
        """This matcher, and none of `pairs` (mismatchLabelKeys)."""
        extra = tuple((key, "NotIn", (value,)) for key, value in sorted(pairs.items()))
        return Matcher(self.tests + extra, self.nothing)


def compile_selector(selector: LabelSelector | None) -> Matcher:
    """A nil selector matches nothing, an empty one everything (metav1.LabelSelectorAsSelector).

    Gt and Lt belong to node selectors; in a label selector they make it invalid, and it matches nothing.
    """
    if selector is None or any(r.operator in ("Gt", "Lt") for r in selector.match_expressions):
        return Matcher(nothing=True)
    tests: list[Test] = [
        (key, "In", (value,)) for key, value in sorted(selector.match_labels.items())
    ]
    tests += [(r.key, r.operator, r.values) for r in selector.match_expressions]
    return Matcher(tuple(tests))


def passes(test: Test, labels: Labels) -> bool:
    """One requirement of a label or node selector."""
    key, operator, values = test
    held = labels.get(key)
    match operator:
        case "In":
            return held is not None and held in values
        case "NotIn":
            return held is None or held not in values
        case "Exists":
            return held is not None
        case "DoesNotExist":
            return held is None
        case "Gt" | "Lt":
            return _compares(operator, held, values)
        case _:
            return False


def _compares(operator: str, held: str | None, values: tuple[str, ...]) -> bool:
    try:
        left, right = int(held or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return left > right if operator == "Gt" else left < right


def term_matches(term: NodeSelectorTerm, name: str, labels: Labels) -> bool:
    """A term of a node selector; an empty term matches no node."""
    if not term.match_expressions and not term.match_fields:
        return False
    fields = {"metadata.name": name}
    on_labels = all(passes((r.key, r.operator, r.values), labels) for r in term.match_expressions)
    return on_labels and all(
        passes((r.key, r.operator, r.values), fields) for r in term.match_fields
    )


def node_selector_matches(selector: NodeSelector, name: str, labels: Labels) -> bool:
    """Any of the terms."""
    return any(term_matches(term, name, labels) for term in selector.node_selector_terms)


def named_nodes(selector: NodeSelector | None) -> frozenset[str] | None:
    """The nodes that every term names by metadata.name, or None when some term does not restrict names."""
    if selector is None or not selector.node_selector_terms:
        return None
    names: set[str] = set()
    for term in selector.node_selector_terms:
        of_term = [
            set(r.values)
            for r in term.match_fields
            if r.key == "metadata.name" and r.operator == "In"
        ]
        if not of_term:
            return None
        names |= set.intersection(*of_term)
    return frozenset(names)


LabelTest = Callable[[Labels], bool]

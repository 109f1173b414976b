"""Does a label selector take these labels? An empty selector takes everything, as upstream's does."""

from collections.abc import Mapping

from machinery.api.core import LabelSelector, LabelSelectorRequirement


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Every label and every expression must hold."""
    if not selector.match_labels.items() <= labels.items():
        return False
    expressions = selector.match_expressions
    return not expressions or all(_holds(requirement, labels) for requirement in expressions)


def is_empty(selector: LabelSelector) -> bool:
    """Whether it asks for nothing, and so would take everything."""
    return not selector.match_labels and not selector.match_expressions


def _holds(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False

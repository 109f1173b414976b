"""Lists that kinds with webhooks and expressions have in common: conditions with names, versions of reviews."""

from collections.abc import Callable, Sequence

from machinery.api.validation.causes import Causes
from machinery.meta import names
from machinery.meta.resource import Document


def named_conditions(
    conditions: Sequence[Document],
    field: str,
    most: int,
    compiled: Callable[[int, str, str], None],
    causes: Causes,
) -> None:
    """Conditions with an expression and a name of their own, at `most` so many; `compiled` is told the place, the field and the
    text of each expression."""
    if len(conditions) > most:
        causes.too_many(field, len(conditions), most)
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        at = f"{field}[{index}]"
        expression, name = condition.get("expression") or "", condition.get("name") or ""
        if not expression.strip():
            causes.required(f"{at}.expression")
        else:
            compiled(index, f"{at}.expression", expression)
        if not name:
            causes.required(f"{at}.name")
            continue
        causes.invalid_each(f"{at}.name", name, names.qualified_name(name))
        if name in seen:
            causes.duplicate(f"{at}.name", name)
        seen.add(name)


def review_versions(
    versions: Sequence[str], accepted: Sequence[str], field: str, none: str, causes: Causes
) -> None:
    """Versions of a review, of which the server must speak one; `none` says so."""
    seen: set[str] = set()
    for index, version in enumerate(versions):
        if version in seen:
            causes.invalid(f"{field}[{index}]", version, "duplicate version")
            continue
        seen.add(version)
        causes.invalid_each(f"{field}[{index}]", version, names.dns_1035_label(version))
    if seen.isdisjoint(accepted):
        causes.invalid(field, list(versions), none)

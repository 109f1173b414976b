"""Which expressions of a policy cannot be meant, given the kinds that it is about: their fields are compared with the schemas. Pure.

Nothing is refused for it: a policy may be about kinds that differ, and what it is about may change. Upstream's words, in
`status.typeChecking.expressionWarnings`; at most ten kinds of one rule are looked at, none of a wildcard.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from machinery.api.expressions import compiling
from machinery.api.expressions.admission import Variables, scope
from machinery.api.expressions.compiling import CompileFault, Scope
from machinery.api.expressions.functions.variables import PREFIX
from machinery.api.expressions.records import ADMISSION, FromSchema, Records
from machinery.api.schemas import Schema
from machinery.meta.resource import Document

KINDS_MAX: Final = 10


class Typed(NamedTuple):
    """A kind and its schema."""

    group: str
    version: str
    kind: str
    schema: Schema

    def __str__(self) -> str:
        """As upstream writes a kind."""
        return f"{self.group}/{self.version}, Kind={self.kind}"


ByResource = Callable[[str, str, str], Typed | None]
"""From (group, version, plural)."""
ByKind = Callable[[str, str, str], Typed | None]
"""From (group, version, kind)."""


def warnings(spec: Document, by_resource: ByResource, by_kind: ByKind) -> list[Document]:
    """`expressionWarnings` of a ValidatingAdmissionPolicy."""
    kinds = _kinds(spec, by_resource)
    if not kinds:
        return []
    params = _params(spec, by_kind)
    scopes = [(kind, _scope(spec, kind, params)) for kind in kinds]
    out = []
    for index, one in enumerate(spec.get("validations") or ()):
        for field in ("expression", "messageExpression"):
            text = one.get(field) or ""
            told = "\n".join(_told(text, scopes)) if text else ""
            if told:
                where = f"spec.validations[{index}].{field}"
                out.append({"fieldRef": where, "warning": told})
    return out


def _told(text: str, scopes: Iterable[tuple[Typed, Scope]]) -> Iterable[str]:
    for kind, known in scopes:
        try:
            _ = compiling.check(known, text)
        except CompileFault as fault:
            yield f"{kind}: {fault}\n"


def _kinds(spec: Document, by_resource: ByResource) -> list[Typed]:
    """What the rules are about, in order, without wildcards and subresources."""
    found: dict[str, Typed] = {}
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or (), rule.get("apiVersions") or ()
        if any("*" in text for text in (*groups, *versions)):
            continue
        resources = [text for text in rule.get("resources") or () if not {"*", "/"} & set(text)]
        names = [(g, v, r) for g in groups for v in versions for r in resources]
        for name in sorted(names):
            if len(found) < KINDS_MAX and (kind := by_resource(*name)) is not None:
                found[str(kind)] = kind
    return sorted(found.values(), key=lambda kind: kind[:3])


def _params(spec: Document, by_kind: ByKind) -> Typed | None:
    wanted = spec.get("paramKind")
    if wanted is None:
        return None
    group, _, version = (wanted.get("apiVersion") or "").rpartition("/")
    return by_kind(group, version, wanted.get("kind") or "")


def _scope(spec: Document, kind: Typed, params: Typed | None) -> Scope:
    """What an expression of the policy may name, with the types of `object`, `oldObject`, `params` and variables."""
    made = FromSchema()
    types = {"object": made.type_of(kind.schema, kind.kind)}
    types["oldObject"] = types["object"]
    if params is not None:
        types["params"] = made.type_of(params.schema, params.kind)
    known = scope(params=spec.get("paramKind") is not None, authorizer=True)
    variables = tuple((name, types.get(name, was)) for name, was in known.variables)
    known = known._replace(variables=variables, records=Records({**ADMISSION, **made.records}))
    return _with_variables(spec.get("variables") or (), known)


def _with_variables(listed: Iterable[Mapping[str, Any]], known: Scope) -> Scope:
    for one in listed:
        try:
            kind = compiling.check(known, one.get("expression", "")).returns()
        except CompileFault:
            kind = "dyn"
        known = known.having(PREFIX + one.get("name", ""), Variables.declared(kind))
    return known

"""Role-based access control: which rules a user holds, and whether one of them covers a request.

The index is built from the four kinds' documents in one pass and thrown away when any of them changes. Per user the
rules are gathered once; per question the answer is remembered, so that a request costs one look-up. Aggregated
ClusterRoles are resolved while indexing: no controller has to copy rules for them to count.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from machinery.meta.resource import Document
from machinery.meta.selectors import Selector, from_object
from machinery.server.user import UserInfo

GROUP = "rbac.authorization.k8s.io"
DECISIONS_MAX = 50_000


class Attributes(NamedTuple):
    """A question: may this verb be used on this. Without `resource` it is about a URL path.

    A tuple, because it is hashed on every request.
    """

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True)
class Rule:
    """rbac PolicyRule."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    urls: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)

    @classmethod
    def read(cls, rule: Mapping[str, Any]) -> "Rule":
        return cls(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
            rule,
        )

    def covers(self, asked: Attributes) -> bool:
        if asked.verb not in self.verbs and "*" not in self.verbs:
            return False
        if not asked.resource:
            return any(_url_matches(url, asked.path) for url in self.urls)
        if asked.group not in self.groups and "*" not in self.groups:
            return False
        if not self._has_resource(asked):
            return False
        return not self.names or asked.name in self.names

    def _has_resource(self, asked: Attributes) -> bool:
        if "*" in self.resources or asked.full_resource in self.resources:
            return True
        return bool(asked.subresource) and f"*/{asked.subresource}" in self.resources


def _url_matches(pattern: str, path: str) -> bool:
    if pattern == "*" or pattern == path:
        return True
    return pattern.endswith("*") and path.startswith(pattern.rstrip("*"))


@dataclass(frozen=True, slots=True)
class Grants:
    """All rules of one user."""

    cluster: tuple[Rule, ...]
    by_namespace: Mapping[str, tuple[Rule, ...]]

    def rules(self, namespace: str) -> Iterable[Rule]:
        """Those that count in a namespace (empty: cluster-wide only)."""
        yield from self.cluster
        if namespace:
            yield from self.by_namespace.get(namespace, ())


@dataclass(frozen=True, slots=True)
class Held:
    """The rules that one binding gives to one subject."""

    namespace: str
    rules: tuple[Rule, ...]
    binding: Document
    subject: Mapping[str, Any]

    def words(self) -> str:
        kind = "RoleBinding" if self.namespace else "ClusterRoleBinding"
        name = _meta(self.binding, "name") + (f"/{self.namespace}" if self.namespace else "")
        role = self.binding.get("roleRef") or {}
        subject = self.subject.get("name", "")
        if self.subject.get("kind") == "ServiceAccount":
            subject = f"{subject}/{self.subject.get('namespace') or self.namespace}"
        return (
            f'RBAC: allowed by {kind} "{name}" of {role.get("kind", "")} "{role.get("name", "")}" '
            f'to {self.subject.get("kind", "")} "{subject}"'
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """The documents that access is decided by."""

    roles: Sequence[Document] = ()
    cluster_roles: Sequence[Document] = ()
    bindings: Sequence[Document] = ()
    cluster_bindings: Sequence[Document] = ()


class Index:
    """The rules of every subject, ready to be asked."""

    def __init__(self, policy: Policy) -> None:
        self._cluster_roles = _cluster_rules(policy.cluster_roles)
        self._roles = {(_meta(r, "namespace"), _meta(r, "name")): _rules(r) for r in policy.roles}
        self._subjects: dict[str, list[Held]] = {}
        for binding in policy.cluster_bindings:
            self._add(binding, "")
        for binding in policy.bindings:
            self._add(binding, _meta(binding, "namespace"))
        self._grants: dict[UserInfo, Grants] = {}
        self._decisions: dict[tuple[UserInfo, Attributes], bool] = {}

    def _add(self, binding: Document, namespace: str) -> None:
        rules = self.role_rules(binding.get("roleRef") or {}, namespace)
        if rules is None:
            return
        for subject in binding.get("subjects") or ():
            key = _subject_key(subject, namespace)
            self._subjects.setdefault(key, []).append(Held(namespace, rules, binding, subject))

    def role_rules(self, ref: Mapping[str, Any], namespace: str) -> tuple[Rule, ...] | None:
        """The rules of a roleRef; None if there is no such role."""
        if ref.get("kind") == "ClusterRole":
            return self._cluster_roles.get(ref.get("name", ""))
        return self._roles.get((namespace, ref.get("name", "")))

    def grants(self, user: UserInfo) -> Grants:
        """All rules of a user."""
        found = self._grants.get(user)
        if found is not None:
            return found
        cluster: list[Rule] = []
        spaces: dict[str, list[Rule]] = {}
        for key in (f"User {user.name}", *(f"Group {group}" for group in user.groups)):
            for held in self._subjects.get(key, ()):
                into = spaces.setdefault(held.namespace, []) if held.namespace else cluster
                into.extend(held.rules)
        grants = Grants(tuple(cluster), {space: tuple(r) for space, r in spaces.items()})
        self._grants[user] = grants
        return grants

    def allows(self, user: UserInfo, asked: Attributes) -> bool:
        """Whether a rule of the user covers the question."""
        key = (user, asked)
        answer = self._decisions.get(key)
        if answer is None:
            rules = self.grants(user).rules(asked.namespace if asked.resource else "")
            answer = any(rule.covers(asked) for rule in rules)
            if len(self._decisions) >= DECISIONS_MAX:
                self._decisions.clear()
            self._decisions[key] = answer
        return answer

    def reason(self, user: UserInfo, asked: Attributes) -> str:
        """`RBAC: allowed by RoleBinding "b/ns" of Role "r" to User "u"`; empty when nothing allows."""
        for key in (f"User {user.name}", *(f"Group {group}" for group in user.groups)):
            for held in self._subjects.get(key, ()):
                if held.namespace in ("", asked.namespace) and any(
                    rule.covers(asked) for rule in held.rules
                ):
                    return held.words()
        return ""


def _cluster_rules(cluster_roles: Sequence[Document]) -> dict[str, tuple[Rule, ...]]:
    """Name -> rules, aggregated ones resolved; a role may gather one that gathers others."""
    by_name = {_meta(role, "name"): role for role in cluster_roles}
    found: dict[str, tuple[Rule, ...]] = {}

    def resolve(name: str, above: frozenset[str]) -> tuple[Rule, ...]:
        if name in found:
            return found[name]
        role = by_name[name]
        selectors = _selectors(role)
        # What stands in the rules of one that gathers was written there by the controller `rolesums`, some time ago.
        rules = dict.fromkeys(() if selectors else _rules(role))
        for other in by_name if selectors else ():
            labels = (by_name[other].get("metadata") or {}).get("labels")
            if (
                other != name
                and other not in above
                and any(selector.matches(labels) for selector in selectors)
            ):
                rules |= dict.fromkeys(resolve(other, above | {name}))
        if not above:
            found[name] = tuple(rules)
        return tuple(rules)

    for name in by_name:
        resolve(name, frozenset())
    return found


def _selectors(role: Document) -> list[Selector]:
    """Of the roles whose rules it gathers."""
    given = (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()
    return [from_object(one) for one in given]


def _subject_key(subject: Mapping[str, Any], namespace: str) -> str:
    kind, name = subject.get("kind", ""), subject.get("name", "")
    if kind == "ServiceAccount":
        return f"User system:serviceaccount:{subject.get('namespace') or namespace}:{name}"
    return f"{kind} {name}"


def _rules(role: Document) -> tuple[Rule, ...]:
    return tuple(Rule.read(rule) for rule in role.get("rules") or ())


def _meta(document: Document, key: str) -> str:
    return str((document.get("metadata") or {}).get(key, ""))


# ------------------------------------------------------------------------------------------------- escalation
def single_rules(rule: Rule) -> Iterable[Rule]:
    """A rule as its smallest parts: one verb, one group, one resource, one name or one URL."""
    for verb in sorted(rule.verbs):
        for url in rule.urls:
            yield Rule(frozenset({verb}), urls=(url,))
        for group in sorted(rule.groups):
            for resource in sorted(rule.resources):
                for name in sorted(rule.names) or ("",):
                    names = frozenset({name}) if name else frozenset[str]()
                    yield Rule(frozenset({verb}), frozenset({group}), frozenset({resource}), names)


def uncovered(held: Iterable[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """The parts of `wanted` that no rule of `held` covers: what granting it would add to the giver."""
    owned = list(held)
    return [
        part
        for rule in wanted
        for part in single_rules(rule)
        if not any(_part_covered(mine, part) for mine in owned)
    ]


def _part_covered(mine: Rule, part: Rule) -> bool:
    if "*" not in mine.verbs and not part.verbs <= mine.verbs:
        return False
    if part.urls:
        return any(_url_matches(url, part.urls[0]) for url in mine.urls)
    if "*" not in mine.groups and not part.groups <= mine.groups:
        return False
    resource = next(iter(part.resources))
    if not _resource_covered(mine.resources, resource):
        return False
    return not mine.names or (bool(part.names) and part.names <= mine.names)


def _resource_covered(held: frozenset[str], resource: str) -> bool:
    if "*" in held or resource in held:
        return True
    _, slash, sub = resource.partition("/")
    return bool(slash) and f"*/{sub}" in held


def compact_text(parts: Sequence[Rule]) -> str:
    """Parts put together again, in the words of upstream's refusal."""
    merged: dict[tuple[Any, ...], set[str]] = {}
    for part in parts:
        key = (tuple(part.groups), tuple(part.resources), tuple(part.names), part.urls)
        merged.setdefault(key, set()).update(part.verbs)
    lines = []
    for (groups, resources, names, urls), verbs in merged.items():
        fields = []
        for title, values in (
            ("APIGroups", groups), ("Resources", resources), ("ResourceNames", names),
            ("NonResourceURLs", urls), ("Verbs", sorted(verbs)),
        ):  # fmt: skip
            if values:
                quoted = " ".join(f'"{value}"' for value in values)
                fields.append(f"{title}:[{quoted}]")
        lines.append("{" + ", ".join(fields) + "}")
    return "\n".join(sorted(lines))

"""audit.k8s.io/v1 Policy: how much is recorded of which request. The first rule that matches decides; none: nothing.

What a request is about (verb, group, resource, subresource) decides in most policies alone, so the rules are sorted out
once for each such question: what is left is one level, or the few rules that also ask who, where or which. A request that
is not recorded costs a look-up.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import yaml

from machinery.meta.names import dns_subdomain
from machinery.server.request import RequestInfo
from machinery.server.user import UserInfo

API_VERSION = "audit.k8s.io/v1"
QUESTIONS_MAX = 4096
"""Sorted-out questions that are kept: a client may ask for any resource it can spell."""

REQUEST_RECEIVED, RESPONSE_STARTED = "RequestReceived", "ResponseStarted"
RESPONSE_COMPLETE, PANIC = "ResponseComplete", "Panic"
STAGES = (REQUEST_RECEIVED, RESPONSE_STARTED, RESPONSE_COMPLETE, PANIC)


class Level(IntEnum):
    """How much of a request is recorded; each has all that the one before has."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3


LEVELS = {
    "None": Level.NONE,
    "Metadata": Level.METADATA,
    "Request": Level.REQUEST,
    "RequestResponse": Level.REQUEST_RESPONSE,
}
NAMES = {level: name for name, level in LEVELS.items()}


class PolicyError(ValueError):
    """A policy that cannot be used; the text names each place and what is wrong there."""


class Decision(NamedTuple):
    """What is recorded of one request."""

    level: Level
    omit: frozenset[str] = frozenset()
    """Stages of which nothing is recorded."""
    bare: bool = False
    """Objects are recorded without metadata.managedFields."""


NOTHING = Decision(Level.NONE)


class GroupResources(NamedTuple):
    """Resources of one API group; none named: all of them."""

    group: str
    resources: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()

    def covers(self, resource: str, subresource: str) -> bool:
        """Whether one of its resources is meant: `pods`, `pods/log`, `pods/*`, `*/scale`, `*`."""
        full = f"{resource}/{subresource}" if subresource else resource
        wanted = {full, "*", f"{resource}/*"} | ({f"*/{subresource}"} if subresource else set())
        return not self.resources or not wanted.isdisjoint(self.resources)


@dataclass(frozen=True, slots=True)
class Rule:
    """PolicyRule. What is empty matches everything."""

    decision: Decision
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    resources: tuple[GroupResources, ...] = ()
    urls: tuple[str, ...] = ()

    def speaks_of(self, user: UserInfo | None) -> bool:
        """Whether it is about this user; None: nobody that we know."""
        if self.users and (user is None or user.name not in self.users):
            return False
        return not self.groups or (user is not None and not self.groups.isdisjoint(user.groups))

    def names(self, group: str, resource: str, subresource: str) -> frozenset[str] | None:
        """Names of objects that it is about: empty for all of the resource, None for none."""
        if not self.resources:
            return None if self.urls else frozenset()
        found: set[str] = set()
        for each in self.resources:
            if each.group == group and each.covers(resource, subresource):
                if not each.names:
                    return frozenset()
                found |= each.names
        return frozenset(found) if found else None

    def about_path(self, path: str) -> bool:
        """Whether it is about a path that is no object's."""
        if self.resources or self.namespaces:
            return False
        return not self.urls or any(_path_matches(url, path) for url in self.urls)


def _path_matches(wanted: str, path: str) -> bool:
    return wanted == path or (wanted.endswith("*") and path.startswith(wanted[:-1]))


class Candidate(NamedTuple):
    """A rule that may match, by who asks, where, and for which object."""

    rule: Rule
    names: frozenset[str]

    @property
    def certain(self) -> bool:
        rule = self.rule
        return not (self.names or rule.users or rule.groups or rule.namespaces)

    def matches(self, user: UserInfo | None, info: RequestInfo) -> bool:
        rule = self.rule
        if rule.namespaces and info.namespace not in rule.namespaces:
            return False
        return (not self.names or info.name in self.names) and rule.speaks_of(user)


Question = tuple[str, str, str, str]
"""verb, group, resource, subresource"""


@dataclass(slots=True)
class Policy:
    """Rules in their order, and what was sorted out of them."""

    rules: tuple[Rule, ...]
    _sorted: dict[Question, Decision | tuple[Candidate, ...]] = field(default_factory=dict)

    def decide(self, user: UserInfo | None, info: RequestInfo) -> Decision:
        """What is recorded of this request of this user (None: nobody that we know)."""
        if not info.is_resource:
            return self._of_path(user, info)
        key = (info.verb, info.group, info.resource, info.subresource)
        found = self._sorted.get(key)
        if found is None:
            found = self._sort_out(key)
        if isinstance(found, Decision):
            return found
        for candidate in found:
            if candidate.matches(user, info):
                return candidate.rule.decision
        return NOTHING

    def _of_path(self, user: UserInfo | None, info: RequestInfo) -> Decision:
        verb = info.method.lower()
        for rule in self.rules:
            if rule.verbs and verb not in rule.verbs:
                continue
            if rule.about_path(info.path) and rule.speaks_of(user):
                return rule.decision
        return NOTHING

    def _sort_out(self, key: Question) -> "Decision | tuple[Candidate, ...]":
        candidates = tuple(self.candidates(*key))
        found: Decision | tuple[Candidate, ...] = candidates
        decisions = {candidate.rule.decision for candidate in candidates}
        if not (candidates and candidates[-1].certain):
            decisions.add(NOTHING)
        if len(decisions) == 1 or decisions <= {NOTHING}:
            found = decisions.pop()
        if len(self._sorted) >= QUESTIONS_MAX:
            self._sorted.clear()
        self._sorted[key] = found
        return found

    def candidates(
        self, verb: str, group: str, resource: str, subresource: str
    ) -> Iterator[Candidate]:
        """Rules that may decide, up to the first that surely does."""
        for rule in self.rules:
            if rule.verbs and verb not in rule.verbs:
                continue
            names = rule.names(group, resource, subresource)
            if names is None:
                continue
            candidate = Candidate(rule, names)
            yield candidate
            if candidate.certain:
                return


SECRETIVE = (
    ("create", "", "secrets", ""), ("update", "", "secrets", ""), ("patch", "", "secrets", ""),
    ("create", "", "serviceaccounts", "token"), ("create", "authentication.k8s.io", "tokenreviews", ""),
)  # fmt: skip
"""Requests whose bodies hold what nobody should find in a log; of reads of a Secret it is the answer."""
_READS = (("get", "", "secrets", ""), ("list", "", "secrets", ""))


def spilled(held: Policy) -> list[str]:
    """Resources whose secret bodies such a policy writes into the log, of anybody at all."""
    asked = [(key, Level.REQUEST) for key in SECRETIVE]
    asked += [(key, Level.REQUEST_RESPONSE) for key in _READS]
    return sorted(
        {
            f"{key[2]}/{key[3]}" if key[3] else key[2]
            for key, least in asked
            if any(one.rule.decision.level >= least for one in held.candidates(*key))
        }
    )


# ------------------------------------------------------------------------------------------------------------ reading
def read(text: str | bytes, place: str) -> Policy:
    """A policy from YAML. Raises PolicyError, which names `place`."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"{place}: is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise PolicyError(f"{place}: is no Policy: expected a mapping")
    faults = list(_faults(document))
    if faults:
        raise PolicyError(f"{place}: " + "; ".join(faults))
    return of_document(document)


def load(path: str) -> Policy:
    """A policy from a file. Raises PolicyError."""
    try:
        with open(path, "rb") as file:
            return read(file.read(), path)
    except OSError as error:
        raise PolicyError(f"{path}: audit policy cannot be read: {error.strerror}") from error


def of_document(document: Mapping[str, Any]) -> Policy:
    """A policy that was checked."""
    omit = frozenset(document.get("omitStages") or ())
    bare = bool(document.get("omitManagedFields"))
    return Policy(tuple(_rule(rule, omit, bare) for rule in document["rules"]))


def _rule(rule: Mapping[str, Any], omit: frozenset[str], bare: bool) -> Rule:
    own = rule.get("omitManagedFields")
    return Rule(
        Decision(
            LEVELS[rule["level"]],
            omit | frozenset(rule.get("omitStages") or ()),
            bare if own is None else own,
        ),
        frozenset(rule.get("users") or ()),
        frozenset(rule.get("userGroups") or ()),
        frozenset(rule.get("verbs") or ()),
        frozenset(rule.get("namespaces") or ()),
        tuple(
            GroupResources(
                each.get("group") or "",
                tuple(each.get("resources") or ()),
                frozenset(each.get("resourceNames") or ()),
            )
            for each in rule.get("resources") or ()
        ),
        tuple(rule.get("nonResourceURLs") or ()),
    )


# ------------------------------------------------------------------------------------------------------------ checking
_TEXTS = ("users", "userGroups", "verbs", "namespaces", "nonResourceURLs", "omitStages")
_KEYS = {
    "": {"apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"},
    "rule": {*_TEXTS, "level", "resources", "omitManagedFields"},
    "resources": {"group", "resources", "resourceNames"},
}


def _faults(document: Mapping[str, Any]) -> Iterator[str]:
    """Everything that is wrong, in upstream's words where it has any."""
    version, kind = document.get("apiVersion"), document.get("kind")
    if (version, kind) != (API_VERSION, "Policy"):
        yield f"expected apiVersion: {API_VERSION}, kind: Policy, got {version!r}, {kind!r}"
    yield from _unknown(document, "", "")
    yield from _switch(document, "")
    yield from _stages(document, "omitStages")
    rules = document.get("rules")
    if not isinstance(rules, list) or not rules:
        yield "rules: Required value: loaded illegal policy with 0 rules"
        return
    for number, rule in enumerate(rules):
        path = f"rules[{number}]"
        if isinstance(rule, dict):
            yield from _rule_faults(rule, path)
        else:
            yield f"{path}: expected a mapping, got {rule!r}"


def _rule_faults(rule: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _unknown(rule, "rule", f"{path}.")
    yield from _switch(rule, f"{path}.")
    level = rule.get("level")
    if not level:
        yield f"{path}.level: Required value"
    elif level not in LEVELS:
        listed = ", ".join(f'"{name}"' for name in sorted(LEVELS))
        yield f'{path}.level: Unsupported value: "{level}": supported values: {listed}'
    wrong = [key for key in _TEXTS if not _texts(rule.get(key))]
    yield from (f"{path}.{key}: expected a list of texts, got {rule[key]!r}" for key in wrong)
    if "omitStages" not in wrong:
        yield from _stages(rule, f"{path}.omitStages")
    if "nonResourceURLs" not in wrong:
        yield from _url_faults(rule, f"{path}.nonResourceURLs")
    resources = rule.get("resources") or ()
    if not isinstance(resources, (list, tuple)) or not all(isinstance(r, dict) for r in resources):
        yield f"{path}.resources: expected a list of groups with their resources"
        return
    for number, each in enumerate(resources):
        yield from _resource_faults(each, f"{path}.resources[{number}]")


def _url_faults(rule: Mapping[str, Any], path: str) -> Iterator[str]:
    urls = rule.get("nonResourceURLs") or ()
    for number, url in enumerate(urls):
        place = f'{path}[{number}]: Invalid value: "{url}"'
        if url != "*" and not url.startswith("/"):
            yield f"{place}: non-resource URL rules must begin with a '/' character"
        if "*" in url[:-1]:
            yield f"{place}: non-resource URL wildcards '*' must be the final character of the rule"
    if urls and (rule.get("resources") or rule.get("namespaces")):
        yield f"{path}: Invalid value: rules cannot apply to both regular resources and non-resource URLs"


def _resource_faults(each: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _unknown(each, "resources", f"{path}.")
    group = each.get("group") or ""
    if not isinstance(group, str):
        yield f"{path}.group: expected a text, got {group!r}"
    elif group and (wrong := dns_subdomain(group)):
        yield f'{path}.group: Invalid value: "{group}": {",".join(wrong)}'
    for key in ("resources", "resourceNames"):
        if not _texts(each.get(key)):
            yield f"{path}.{key}: expected a list of texts, got {each[key]!r}"
    if each.get("resourceNames") and not each.get("resources"):
        yield f"{path}.resourceNames: Invalid value: using resourceNames requires at least one resource"


def _texts(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(v, str) for v in value))


def _stages(holder: Mapping[str, Any], path: str) -> Iterator[str]:
    stages = holder.get("omitStages") or ()
    if not isinstance(stages, (list, tuple)):
        yield f"{path}: expected a list of texts, got {stages!r}"
        return
    for number, stage in enumerate(stages):
        if stage not in STAGES:
            yield f'{path}[{number}]: Invalid value: "{stage}": allowed stages are {",".join(STAGES)}'


def _switch(holder: Mapping[str, Any], path: str) -> Iterator[str]:
    value = holder.get("omitManagedFields")
    if value is not None and not isinstance(value, bool):
        yield f"{path}omitManagedFields: expected true or false, got {value!r}"


def _unknown(holder: Mapping[str, Any], what: str, path: str) -> Iterator[str]:
    for key in holder:
        if key not in _KEYS[what]:
            yield f'unknown field "{path}{key}"'

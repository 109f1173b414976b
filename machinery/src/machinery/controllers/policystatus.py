"""Policy status: whether the expressions of a ValidatingAdmissionPolicy fit the kinds that it is about is told in its status.

Each generation is looked at once, when it is first seen, with the schemas that there are then; nothing that a policy does depends
on it.
"""

from collections.abc import Iterable, Sequence

from machinery.api import schemas
from machinery.api.expressions.typechecking import ByResource, Typed, warnings
from machinery.api.policy_kinds import VALIDATING_POLICY
from machinery.api.scheme import ServedKind
from machinery.client.interface import dynamic
from machinery.controller.action import Action, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.meta.resource import Document, ObjectKey, document_key

POLICIES = dynamic(
    VALIDATING_POLICY.group,
    VALIDATING_POLICY.version,
    VALIDATING_POLICY.plural,
    VALIDATING_POLICY.kind,
    False,
)
DEFINITIONS = dynamic(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)


def plan(policy: Document, by_resource: ByResource, by_kind: ByResource) -> list[Action]:
    """What its status says of this generation."""
    metadata, status = policy["metadata"], policy.get("status") or {}
    generation = metadata.get("generation", 0)
    if status.get("observedGeneration", 0) >= generation or metadata.get("deletionTimestamp"):
        return []
    found = warnings(policy.get("spec") or {}, by_resource, by_kind)
    checking: Document = {"expressionWarnings": found or None}
    told = {"observedGeneration": generation, "typeChecking": checking}
    version = metadata.get("resourceVersion", "")
    return [SetStatus(POLICIES, document_key(policy), told, version)]


class Kinds:
    """Kinds and their schemas: built ones, and those of definitions."""

    def __init__(self, built: Sequence[ServedKind], definitions: Iterable[Document]) -> None:
        self._built = built
        self._definitions = list(definitions)

    def by_resource(self, group: str, version: str, plural: str) -> Typed | None:
        """The kind of a resource."""
        for kind in self._built:
            if (kind.group, kind.version, kind.plural) == (group, version, plural):
                return Typed(group, version, kind.kind, schemas.schema_of(kind))
        return self._defined(group, version, "plural", plural)

    def by_kind(self, group: str, version: str, name: str) -> Typed | None:
        """The kind of that name."""
        for kind in self._built:
            if (kind.group, kind.version, kind.kind) == (group, version, name):
                return Typed(group, version, name, schemas.schema_of(kind))
        return self._defined(group, version, "kind", name)

    def _defined(self, group: str, version: str, field: str, name: str) -> Typed | None:
        for definition in self._definitions:
            spec = definition.get("spec") or {}
            names = spec.get("names") or {}
            if spec.get("group") != group or names.get(field) != name:
                continue
            for one in spec.get("versions") or ():
                if one.get("name") == version and one.get("served"):
                    schema = (one.get("schema") or {}).get("openAPIV3Schema") or {}
                    return Typed(group, version, names.get("kind", ""), _whole(schema))
        return None


def _whole(schema: schemas.Schema) -> schemas.Schema:
    """With what every object has, whatever its definition says."""
    meta = {"$ref": f"{schemas.REFERENCE}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    texts = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    return {**schema, "properties": {**(schema.get("properties") or {}), **texts, "metadata": meta}}


class PolicyStatus:
    """Read, plan, act."""

    def __init__(self, manager: Manager, kinds: Sequence[ServedKind]) -> None:
        self._executor = manager.executor
        self._policies = manager.informer(POLICIES)
        self._definitions = manager.informer(DEFINITIONS)
        self._kinds = kinds

    async def reconcile(self, key: ObjectKey) -> Result:
        policy = self._policies.get(key)
        if policy is None:
            return Result()
        kinds = Kinds(self._kinds, self._definitions.list())
        return await self._executor.apply(plan(policy, kinds.by_resource, kinds.by_kind))


def setup(manager: Manager, kinds: Sequence[ServedKind]) -> None:
    """Watch the policies. `kinds` are those that the server has built in."""
    builder = manager.controller("policy-status", PolicyStatus(manager, kinds), workers=1)
    builder.watches(POLICIES)

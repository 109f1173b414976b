"""Aggregated ClusterRoles: the rules of the roles that an `aggregationRule` selects are written into the role that gathers them.

For who reads a role (`kubectl describe clusterrole admin`): rights are summed up when they are asked for
(`machinery.server.rbac`), and never wait for this. As upstream's clusterrole-aggregation-controller: selector by selector, roles by
name, each rule once; what somebody wrote into `rules` by hand is replaced.
"""

from collections.abc import Iterable

from machinery.client.interface import dynamic
from machinery.controller.action import Action, Patch, Result
from machinery.controller.manager import Manager
from machinery.meta.resource import Document, ObjectKey, document_key
from machinery.meta.selectors import from_object

CLUSTER_ROLES = dynamic(
    "rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False
)


def gathers(role: Document) -> bool:
    """Whether its rules are others'."""
    return bool(role.get("aggregationRule"))


def rules_of(role: Document, roles: Iterable[Document]) -> list[Document]:
    """The rules that the role is to have."""
    ordered = sorted(roles, key=lambda other: str(other["metadata"]["name"]))
    found: list[Document] = []
    for given in role["aggregationRule"].get("clusterRoleSelectors") or ():
        selector = from_object(given)
        for other in ordered:
            same = other["metadata"]["name"] == role["metadata"]["name"]
            if not same and selector.matches(other["metadata"].get("labels") or {}):
                found.extend(rule for rule in other.get("rules") or () if rule not in found)
    return found


def plan(role: Document, roles: Iterable[Document]) -> list[Action]:
    """The write that brings its rules up to date."""
    metadata = role["metadata"]
    if not gathers(role) or metadata.get("deletionTimestamp"):
        return []
    rules = rules_of(role, roles)
    if rules == (role.get("rules") or []):
        return []
    version = metadata.get("resourceVersion", "")
    return [Patch(CLUSTER_ROLES, document_key(role), {"rules": rules}, resource_version=version)]


class RoleSums:
    """Read, plan, act."""

    def __init__(self, manager: Manager) -> None:
        self._executor = manager.executor
        self._roles = manager.informer(CLUSTER_ROLES)

    async def reconcile(self, key: ObjectKey) -> Result:
        role = self._roles.get(key)
        if role is None:
            return Result()
        return await self._executor.apply(plan(role, self._roles.list()))

    def gathering(self, _: Document) -> list[ObjectKey]:
        """Whom a changed role may concern: it may have been selected before, so all that gather."""
        return [document_key(role) for role in self._roles.list() if gathers(role)]


def setup(manager: Manager) -> None:
    """Watch the roles."""
    sums = RoleSums(manager)
    builder = manager.controller("cluster-role-aggregation", sums, workers=1)
    builder.watches(CLUSTER_ROLES, sums.gathering)

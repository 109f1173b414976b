"""Service accounts: every living namespace has the ServiceAccount `default`, which pods run as when they name none."""

from machinery.api.core import NAMESPACES, SERVICEACCOUNTS, Namespace, ServiceAccount
from machinery.controller.action import Action, Create, Result
from machinery.controller.manager import Manager
from machinery.meta.errors import Forbidden
from machinery.meta.resource import ObjectKey

DEFAULT = "default"


def plan(namespace: Namespace | None, account: ServiceAccount | None) -> list[Action]:
    """Make the account where it is missing."""
    if namespace is None or namespace.deleting or account is not None:
        return []
    metadata = {"name": DEFAULT, "namespace": namespace.metadata.name}
    document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    return [Create(SERVICEACCOUNTS, document, exists_ok=True)]


class ServiceAccountReconciler:
    """Read, plan, act; the key is the namespace's."""

    def __init__(self, manager: Manager) -> None:
        self._executor = manager.executor
        self._namespaces = manager.informer(NAMESPACES)
        self._accounts = manager.informer(SERVICEACCOUNTS)

    async def reconcile(self, key: ObjectKey) -> Result:
        account = self._accounts.get(ObjectKey(key.name, DEFAULT))
        try:
            return await self._executor.apply(plan(self._namespaces.get(key), account))
        except Forbidden:
            return Result()  # the namespace began to go while we looked


def setup(manager: Manager) -> None:
    """Watch namespaces, and the default accounts in them."""

    def namespace_of(account: ServiceAccount) -> list[ObjectKey]:
        here = account.metadata.name == DEFAULT
        return [ObjectKey("", account.metadata.namespace)] if here else []

    builder = manager.controller("serviceaccount", ServiceAccountReconciler(manager), workers=1)
    builder.watches(NAMESPACES).watches(SERVICEACCOUNTS, namespace_of)

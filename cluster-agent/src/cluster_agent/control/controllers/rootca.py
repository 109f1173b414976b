"""Root CA publisher: ConfigMap `kube-root-ca.crt` in every living namespace, so that pods can verify the API server."""

from machinery.api.core import CONFIGMAPS, NAMESPACES, ConfigMap, Namespace
from machinery.controller.action import Action, Create, Patch, Result
from machinery.controller.manager import Manager
from machinery.meta.errors import Forbidden
from machinery.meta.resource import ObjectKey

NAME = "kube-root-ca.crt"
DESCRIPTION = "kubernetes.io/description"
DESCRIPTION_TEXT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
    "guaranteed across distributions of Kubernetes clusters."
)


def plan(namespace: Namespace | None, present: ConfigMap | None, ca_pem: str) -> list[Action]:
    """Make it, or put its content right again."""
    if namespace is None or namespace.deleting:
        return []
    notes, data = {DESCRIPTION: DESCRIPTION_TEXT}, {"ca.crt": ca_pem}
    if present is None:
        metadata = {"name": NAME, "namespace": namespace.metadata.name, "annotations": notes}
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        return [Create(CONFIGMAPS, document, exists_ok=True)]
    if present.data == data and present.metadata.annotations.get(DESCRIPTION):
        return []
    extra = {name: None for name in present.data if name not in data}
    patch = {"metadata": {"annotations": notes}, "data": {**extra, **data}}
    return [Patch(CONFIGMAPS, present.key, patch, uid=present.metadata.uid)]


class RootCAReconciler:
    """Read, plan, act; the key is the namespace's."""

    def __init__(self, manager: Manager, ca_pem: str) -> None:
        self._executor, self._ca_pem = manager.executor, ca_pem
        self._namespaces = manager.informer(NAMESPACES)
        self._maps = manager.informer(CONFIGMAPS, field_selector=f"metadata.name={NAME}")

    async def reconcile(self, key: ObjectKey) -> Result:
        present = self._maps.get(ObjectKey(key.name, NAME))
        try:
            return await self._executor.apply(
                plan(self._namespaces.get(key), present, self._ca_pem)
            )
        except Forbidden:
            return Result()  # the namespace began to go while we looked


def setup(manager: Manager, ca_pem: str) -> None:
    """Watch namespaces, and the published ConfigMaps in them."""

    def namespace_of(published: ConfigMap) -> list[ObjectKey]:
        return [ObjectKey("", published.metadata.namespace)]

    builder = manager.controller("root-ca", RootCAReconciler(manager, ca_pem), workers=1)
    builder.watches(NAMESPACES)
    builder.watches(CONFIGMAPS, namespace_of, field_selector=f"metadata.name={NAME}")

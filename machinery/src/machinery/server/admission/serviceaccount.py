"""ServiceAccount admission: every pod runs as an account that exists and gets that account's token.

The token is projected: the kubelet asks for one bound to the pod and renews it; nothing secret stands in the pod.
"""

from typing import Any, ClassVar

from machinery.kit.ids import Ids
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, Kinds, refuse
from machinery.server.admission.plugins import PODS, Peek
from machinery.server.authz import MIRROR

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607


class ServiceAccount:
    """Fills in serviceAccountName and the token volume."""

    kinds: ClassVar[Kinds] = PODS

    def __init__(self, peek: Peek, ids: Ids) -> None:
        self._peek = peek
        self._ids = ids

    def admit(self, request: AdmissionRequest) -> Document:
        if request.verb != "create" or request.kind.kind != "Pod" or request.kind.group:
            return request.document
        document = request.document
        annotations = (document.get("metadata") or {}).get("annotations") or {}
        if request.subresource or MIRROR in annotations:
            return document
        spec = dict(document.get("spec") or {})
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = self._peek("core/serviceaccounts", request.namespace, name)
        if account is None:
            raise refuse(
                request,
                f'error looking up service account {request.namespace}/{name}: serviceaccount "{name}" not found',
            )
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        if _wants_token(spec, account):
            spec = self._with_token(spec)
        return {**document, "spec": spec}

    def _with_token(self, spec: dict[str, Any]) -> dict[str, Any]:
        volume = f"kube-api-access-{self._ids.suffix()}"
        mounted = False
        for field in ("initContainers", "containers"):
            containers = spec.get(field)
            if not containers:
                continue
            filled = [_mounted(container, volume) for container in containers]
            mounted = mounted or any(
                new is not old for new, old in zip(filled, containers, strict=True)
            )
            spec = {**spec, field: filled}
        if not mounted:
            return spec
        return {**spec, "volumes": [*(spec.get("volumes") or ()), _token_volume(volume)]}

    def validate(self, request: AdmissionRequest) -> None:
        return None


def _wants_token(spec: Document, account: Document) -> bool:
    for holder in (spec, account):
        wish = holder.get("automountServiceAccountToken")
        if wish is not None:
            return bool(wish)
    return True


def _mounted(container: Document, volume: str) -> Document:
    mounts = container.get("volumeMounts") or ()
    if any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
        return container
    mount = {"name": volume, "readOnly": True, "mountPath": MOUNT_PATH}
    return {**container, "volumeMounts": [*mounts, mount]}


def _token_volume(name: str) -> Document:
    return {
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {
                    "configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }
                },
                {
                    "downwardAPI": {
                        "items": [
                            {
                                "path": "namespace",
                                "fieldRef": {
                                    "apiVersion": "v1",
                                    "fieldPath": "metadata.namespace",
                                },
                            }
                        ]
                    }
                },
            ],
            "defaultMode": 420,
        },
    }

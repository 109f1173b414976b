"""A pod as a cluster has thousands of: 1.5 kB when a controller asks for it, 5.3 kB when it runs (managers, status).

What is stored of it is made by the server itself, by a create and by its kubelet's report; `fill` puts as many as are wanted into
the store with names, uids, addresses, nodes and containers of their own, so that lists compress as real ones do.
"""

import asyncio
import hashlib
import json
from typing import Any

from tests.support.apiserver import RunningServer

from machinery.store.interface import Durability

PODS = "/api/v1/namespaces/default/pods"
FIRST = "web-5d9c7b6f-00000"
_NODE, _ADDRESS, _CONTAINER = "node-0000", "10.244.0.0", "c" * 64
_PREFIX = "/registry/core/pods/default/"
_AT_ONCE = 256
_VARIABLES = ("DATABASE_HOST", "REGION")


def name_of(number: int) -> str:
    return f"{FIRST[:-5]}{number:05}"


def wish(name: str = "") -> dict[str, Any]:
    """What a ReplicaSet's controller sends."""
    named = {"name": name} if name else {"generateName": "web-5d9c7b6f-"}
    token = {"name": "kube-api-access-x7k2p", "projected": {"sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ], "defaultMode": 420}}  # fmt: skip
    container = {
        "name": "web", "image": "registry.example/shop/web:v1.14.2", "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": n, "value": f"{n.lower()}.shop.svc.cluster.local"} for n in _VARIABLES],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": token["name"], "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
    }  # fmt: skip
    gone = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            **named,
            "labels": {"app": "web", "pod-template-hash": "5d9c7b6f"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c7b6f",
                "uid": "0b5a1a36-4c1b-4df8-9d5c-6d3a1f1c2b3a", "controller": True, "blockOwnerDeletion": True,
            }],
        },
        "spec": {
            "containers": [container], "volumes": [token], "serviceAccountName": "default", "nodeName": _NODE,
            "tolerations": [{"key": f"node.kubernetes.io/{k}", **gone} for k in ("not-ready", "unreachable")],
        },
    }  # fmt: skip


_CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)
_READINESS = ("Ready", "ContainersReady")


def _condition(name: str, since: str) -> dict[str, Any]:
    return {"type": name, "status": "True", "lastProbeTime": None, "lastTransitionTime": since}


def _containers(restarts: int, since: str) -> list[dict[str, Any]]:
    return [{
        "name": "web", "ready": True, "started": True, "restartCount": restarts,
        "image": "registry.example/shop/web:v1.14.2",
        "imageID": f"registry.example/shop/web@sha256:{'a' * 64}",
        "containerID": f"containerd://{_CONTAINER}",
        "state": {"running": {"startedAt": since}}, "lastState": {},
    }]  # fmt: skip


def report() -> dict[str, Any]:
    """A kubelet's first patch: the pod runs."""
    since = "2026-11-30T00:00:00Z"
    return {
        "status": {
            "phase": "Running", "hostIP": "192.168.0.10", "hostIPs": [{"ip": "192.168.0.10"}],
            "podIP": _ADDRESS, "podIPs": [{"ip": _ADDRESS}], "startTime": since,
            "conditions": [_condition(name, since) for name in _CONDITIONS],
            "containerStatuses": _containers(0, since),
        }
    }  # fmt: skip


def change(number: int) -> dict[str, Any]:
    """A later one, of what has changed: the container is another. Each number says something else than the one before."""
    since = f"2026-11-30T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"
    order = [{"type": name} for name in _CONDITIONS]
    return {
        "status": {
            "$setElementOrder/conditions": order,
            "conditions": [
                {"type": name, "status": "True", "lastTransitionTime": since} for name in _READINESS
            ],
            "containerStatuses": _containers(number, since),
        }
    }


STRATEGIC = "application/strategic-merge-patch+json"


async def begin(server: RunningServer) -> bytes:
    """Make the first running pod, through the API; its JSON."""
    ask = server.rest.request
    await ask("POST", PODS, body=json.dumps(wish(FIRST)).encode())
    body = json.dumps(report()).encode()
    return await ask("PATCH", f"{PODS}/{FIRST}/status", body=body, content_type=STRATEGIC)


async def fill(server: RunningServer, pods: int) -> None:
    """Bring the namespace up to that many running pods: copies of the first, straight into the store."""
    store = server.api.store
    row = store.get(_PREFIX + FIRST)
    if row is None:
        await begin(server)
        row = store.get(_PREFIX + FIRST)
    assert row is not None
    uid = json.loads(row.value)["metadata"]["uid"].encode()
    have = len(store.list(_PREFIX).rows)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int, value: bytes) -> None:
        async with gate:
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            own = f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-9{digest[17:20]}-{digest[20:32]}"
            name = name_of(number)
            for old, new in (
                (FIRST, name), (_NODE, f"node-{number % 1000:04}"), (_CONTAINER, digest),
                (f'"{_ADDRESS}"', f'"10.244.{number // 250 % 250}.{number % 250}"'),
            ):  # fmt: skip
                value = value.replace(old.encode(), new.encode())
            value = value.replace(uid, own.encode())
            await store.create(_PREFIX + name, value, Durability.RELAXED)

    async with asyncio.TaskGroup() as group:
        for number in range(1, pods - have + 1):
            group.create_task(one(number, row.value))
    await server.api.cache.fresh()

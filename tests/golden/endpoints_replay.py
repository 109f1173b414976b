"""Transcripts of Services and their endpoints: what the general replay compares for pods is compared for slices here.

The recorder's kubelet gave addresses from 10.244.0.2 upwards in the order in which pods first ran. Names of slices are
random, so slices are compared as a multiset; endpoints within one by address. Recordings of more than 20 endpoints tell how
many there are and not which.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.golden.controllers_replay import POD, RESOURCES, Difference, Replay, kubelet_status

from machinery.client.interface import DeleteOptions, PatchType
from machinery.meta.resource import Document, ObjectKey

ENDPOINTS, SLICES = RESOURCES["Endpoints"], RESOURCES["EndpointSlice"]


class EndpointsReplay(Replay):
    """One transcript in one namespace."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._addresses: dict[str, str] = {}
        self._made = 0

    async def _op_kubelet(self, op: dict[str, Any]) -> None:
        name = op["pod"]
        default = f"10.244.0.{len(self._addresses) + 2}"
        address = op.get("ip") or self._addresses.setdefault(name, default)
        status = kubelet_status(op, self.clock.now())
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
        key = ObjectKey(self.namespace, name)
        await self.client.patch(
            POD, key, {"status": status}, PatchType.STRATEGIC, subresource="status"
        )

    async def _do(self, index: int, op: dict[str, Any]) -> None:
        said = op.get("say", "")
        if found := re.match(r"create (\d+) ready pods|add (\d+)$", said):
            await self._make(int(found[1] or found[2]))
        elif found := re.fullmatch(r"remove p(\d+)\.\.p(\d+)", said):
            for number in range(int(found[1]), int(found[2]) + 1):
                key = ObjectKey(self.namespace, f"p{number}")
                await self.client.delete(POD, key, DeleteOptions(grace_period_seconds=0))
        else:
            await super()._do(index, op)

    async def _make(self, count: int) -> None:
        for _ in range(count):
            name = f"p{self._made}"
            self._made += 1
            document = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": "x"}, "namespace": self.namespace},
                "spec": {"containers": [{"name": "c", "image": "img:1"}], "nodeName": "base-1"},
            }
            await self.client.create(POD, document, self.namespace)
            await self._op_kubelet({"pod": name, "phase": "Running", "ready": True})

    async def _compare(self, index: int, then: dict[str, Any]) -> list[Difference]:
        found: list[Difference] = []
        slices = [self._plain(d) for d in (await self.client.list(SLICES, self.namespace)).items]
        endpoints = {
            d["metadata"]["name"]: self._plain(d).get("subsets") or []
            for d in (await self.client.list(ENDPOINTS, self.namespace)).items
        }
        wanted_slices = list((then.get("endpointslices") or {}).values())
        if any("count" in one for one in wanted_slices):
            want: Any = sorted(one.get("count", len(one["endpoints"])) for one in wanted_slices)
            have: Any = sorted(len(one.get("endpoints") or ()) for one in slices)
        else:
            want, have = _sorted(map(_slice, wanted_slices)), _sorted(map(_slice, slices))
        if want != have:
            found.append(Difference(index, "endpointslices", want, have))
        wanted = {name: _subsets(told) for name, told in (then.get("endpoints") or {}).items()}
        counted = any(isinstance(s.get("addresses"), int) for told in wanted.values() for s in told)
        ours = {name: _subsets(told, counted=counted) for name, told in endpoints.items()}
        if wanted != ours:
            found.append(Difference(index, "endpoints", wanted, ours))
        return found

    def _plain(self, document: Document) -> Document:
        text = re.sub(r'"uid": "[^"]*"', '"uid": "UID"', json.dumps(document))
        plain: Document = json.loads(text.replace(f'"{self.namespace}"', '"NS"'))
        return plain


def _slice(document: Mapping[str, Any]) -> Document:
    labels = document.get("labels") or document["metadata"]["labels"]
    return {
        "labels": labels,
        "addressType": document["addressType"],
        "ports": document.get("ports"),
        "endpoints": _sorted(document.get("endpoints") or ()),
    }


def _subsets(told: Any, *, counted: bool = False) -> list[Any]:
    out = []
    for subset in told:
        plain = dict(subset)
        for key in ("addresses", "notReadyAddresses"):
            if isinstance(plain.get(key), list):
                plain[key] = len(plain[key]) if counted else _sorted(plain[key])
        if plain.get("ports"):
            plain["ports"] = _sorted(plain["ports"])
        out.append(plain)
    return _sorted(out)


def _sorted(items: Any) -> list[Any]:
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))

"""Plays recorded transcripts of the real persistentvolume-binder against ours (`controllers_replay` says how).

Volumes and classes have no namespace: their names begin with the transcript's, in the recording with `NS`.
"""

import json
import re
from collections import Counter
from typing import Any

from tests.golden.controllers_replay import RESOURCES, Difference, QuotaClient, Replay

from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.client.interface import Client, dynamic
from machinery.kit.clock import Clock
from machinery.meta.resource import Document, ObjectKey

KINDS = (*BUILTIN, *RUN_BY_MEMBERS)
CLAIM = dynamic("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", namespaced=True)
VOLUME = dynamic("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
CLASS = dynamic("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
ALL = {"PersistentVolumeClaim": CLAIM, "PersistentVolume": VOLUME, "StorageClass": CLASS}
UNSET = "absent"


class VolumesReplay(Replay):
    """One transcript in one namespace."""

    SPEAKERS = ("PersistentVolumeClaim", "PersistentVolume")

    def __init__(
        self, client: Client, transcript: dict[str, Any], quotas: QuotaClient, clock: Clock
    ) -> None:
        super().__init__(client, transcript, quotas, clock)
        text = re.sub(r'(?<=")NS(?=["-k\\mo])|\\"NS', self._ours, json.dumps(transcript["steps"]))
        self.transcript = {**transcript, "steps": json.loads(text)}
        for name, resource in ALL.items():
            RESOURCES.setdefault(name, resource)

    def _ours(self, found: re.Match[str]) -> str:
        return found.group().replace("NS", self.namespace)

    def _key(self, kind: str, name: str) -> ObjectKey:
        return ObjectKey(self.namespace if ALL[kind].namespaced else "", name)

    async def _op_create(self, op: dict[str, Any]) -> None:
        resource = ALL[op["obj"]["kind"]]
        namespace = self.namespace if resource.namespaced else ""
        await self.client.create(resource, op["obj"], namespace)

    async def _compare(self, index: int, then: dict[str, Any]) -> list[Difference]:
        claims = (await self.client.list(CLAIM, self.namespace)).items
        volumes = [
            one
            for one in (await self.client.list(VOLUME)).items
            if one["metadata"]["name"].startswith(self.namespace)
        ]
        ours = {
            "pvcs": {one["metadata"]["name"]: _claim(one) for one in claims},
            "persistentvolumes": {one["metadata"]["name"]: _volume(one) for one in volumes},
        }
        recorded = {
            kind: {n: told for n, told in then.get(kind, {}).items() if told != UNSET}
            for kind in ours
        }
        return [
            Difference(index, kind, recorded[kind], ours[kind])
            for kind in ours
            if recorded[kind] != ours[kind]
        ]

    def _our_event(self, text: str) -> str:
        return text

    def _recorded_event(self, text: str) -> str:
        return text

    def _same_events(self, recorded: Counter[str], ours: Counter[str], _: dict[str, Any]) -> bool:
        return recorded.keys() == ours.keys()  # how often depends on how often it was looked


def _common(document: Document) -> Document:
    notes = document["metadata"].get("annotations") or {}
    status = document["status"]
    if "lastPhaseTransitionTime" in status:
        status = {**status, "lastPhaseTransitionTime": "TIME"}
    return {
        "status": status,
        "annotations": [[name, notes[name]] for name in sorted(notes)],
        "finalizers": document["metadata"].get("finalizers") or [],
    }


def _claim(claim: Document) -> Document:
    volume = claim["spec"].get("volumeName")
    return {"phase": claim["status"]["phase"], "volume": volume, **_common(claim)}


def _volume(volume: Document) -> Document:
    reference = volume["spec"].get("claimRef")
    return {"claim": reference["name"] if reference else None, **_common(volume)}

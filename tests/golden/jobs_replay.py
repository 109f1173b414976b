"""Plays recorded transcripts of the real Job and CronJob controllers against ours (`controllers_replay` says how).

Pods of a Job are grouped by the Job and, where it is Indexed, by the index; Jobs of a CronJob are told apart by the order in which they
were made. Steps of a CronJob happen at the seconds of the minute that the recording names.
"""

import asyncio
import re
from collections import Counter
from typing import Any

from tests.golden.controllers_replay import (
    POD,
    RESOURCES,
    SAY_MAX_S,
    Difference,
    Names,
    Replay,
    _by_group,
    _controller,
    kubelet_status,
)

from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.client.interface import PatchType, dynamic
from machinery.meta.resource import Document

for _kind in RUN_BY_MEMBERS:
    RESOURCES.setdefault(
        _kind.kind,
        dynamic(_kind.group, _kind.version, _kind.plural, _kind.kind, namespaced=True),
    )
JOB, CRONJOB = RESOURCES["Job"], RESOURCES["CronJob"]
SETTLE_S = 1.7
SOONER_S = {"job-ttl": 1.0}
"""Where a longer look would see what belongs to the next step."""
PATIENCE_S = 12.0
"""How much longer a step may take that the recording does not call a wait: the recorder waited for what it knew would come."""
CREATED_AT_S = 50.0
"""CronJobs are made at this second of a minute, so that the first Job is soon due."""
AFTER_MINUTE_S = 4.0
INDEX = "batch.kubernetes.io/job-completion-index"


class JobNames(Names):
    """Recorded names of Jobs and pods, and ours."""

    def see_pod(self, pod: Document) -> None:
        name = pod["metadata"]["name"]
        if name in self.groups:
            return
        owner = _controller(pod)
        group = self.sets.get(owner, name) if owner is not None else name
        index = (pod["metadata"].get("annotations") or {}).get(INDEX)
        self.groups[name] = group if index is None else f"{group}-{index}"
        self.order.append(name)


class JobReplay(Replay):
    """One transcript in one namespace."""

    SPEAKERS = ("Job", "CronJob")

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.names: JobNames = JobNames()

    async def _step(self, index: int, step: dict[str, Any]) -> None:
        waited = self.transcript["kind"] == "cronjob"
        for op in step["do"]:
            waited = waited or "say" in op
            await self._at_its_second(op)
            await self._do(index, op)
            await asyncio.sleep(0.05)
            await self._look()
        await self._settled()
        differences = await self._compare(index, step["then"])
        left = SAY_MAX_S if waited else PATIENCE_S
        while differences and left > 0:
            await asyncio.sleep(0.5)
            left -= 0.5
            differences = await self._compare(index, step["then"])
        if index not in self.transcript.get("unstable_steps", ()):
            self.outcome.states += differences
        await self._compare_events(index, step)

    async def _settled(self) -> None:
        """Until nothing changes any more, as the recorder waited."""
        before: list[str] = []
        quiet_s, enough_s = 0.0, SOONER_S.get(self.transcript["id"], SETTLE_S)
        while quiet_s < enough_s:
            await asyncio.sleep(0.1)
            now = [
                document["metadata"]["resourceVersion"]
                for resource in (POD, JOB, CRONJOB)
                for document in (await self.client.list(resource, self.namespace)).items
            ]
            quiet_s = quiet_s + 0.1 if now == before else 0.0
            before = now

    async def _at_its_second(self, op: dict[str, Any]) -> None:
        now = self.clock.now()
        second = now.second + now.microsecond / 1e6
        if op.get("op") == "create" and op["obj"]["kind"] == "CronJob":
            await asyncio.sleep((CREATED_AT_S - second) % 60)
        elif re.match(r"minute \d+", op.get("say", "")):
            await asyncio.sleep(60 - second + AFTER_MINUTE_S)

    async def _op_kubelet(self, op: dict[str, Any]) -> None:
        status = kubelet_status(op, self.clock.now())
        status["conditions"] += op.get("conds") or []
        key = self._key("Pod", op["pod"])
        await self.client.patch(
            POD, key, {"status": status}, PatchType.STRATEGIC, subresource="status"
        )

    # ----------------------------------------------------------------------------------------------- looking
    async def _look(self) -> None:
        def made(document: Document) -> tuple[str, str]:
            metadata = document["metadata"]
            return metadata["creationTimestamp"], metadata["name"]

        for job in sorted((await self.client.list(JOB, self.namespace)).items, key=made):
            self.names.see_set(job, "JOB")
        pods = (await self.client.list(POD, self.namespace)).items
        for pod in sorted(pods, key=lambda d: int(d["metadata"]["resourceVersion"])):
            self.names.see_pod(pod)

    async def _compare(self, index: int, then: dict[str, Any]) -> list[Difference]:
        await self._look()
        jobs = (await self.client.list(JOB, self.namespace)).items
        crons = (await self.client.list(CRONJOB, self.namespace)).items
        pods = (await self.client.list(POD, self.namespace)).items
        seen = (
            ("jobs", {self.names.sets[j["metadata"]["name"]]: self._job(j) for j in jobs}),
            ("cronjobs", {c["metadata"]["name"]: self._cron_job(c) for c in crons}),
        )
        recorded = {**then, "jobs": _nameless(then.get("jobs", {}))}
        found = [
            Difference(index, what, recorded.get(what, {}), ours)
            for what, ours in seen
            if recorded.get(what, {}) != ours
        ]
        if _by_group(then.get("pods", {})) != self._pods(pods):
            found.append(
                Difference(index, "pods", _by_group(then.get("pods", {})), self._pods(pods))
            )
        self._match(then.get("pods", {}), pods)
        if not all(then.get("name_is_cj_minutes", ())):
            found.append(Difference(index, "names", "by minutes", "not recorded so"))
        for job in jobs:
            owner, name = _controller(job), job["metadata"]["name"]
            if owner is not None and not self._is_due(owner, name):
                found.append(Difference(index, "name", "minutes since the epoch", name))
        return found

    def _is_due(self, owner: str, name: str) -> bool:
        """Whether the name says a minute of the last ten."""
        minutes = int(self.clock.now().timestamp()) // 60
        return name in {f"{owner}-{minutes - ago}" for ago in range(10)}

    def _job(self, document: Document) -> Document:
        status = {k: v for k, v in (document.get("status") or {}).items() if k != "startTime"}
        if "completionTime" in status:
            status["completionTime"] = "TIME"
        told: Document = {"status": _normal(self._status(status))}
        if owner := _controller(document):
            told["owner"] = f"CronJob/{owner}"
        if document["spec"].get("suspend"):
            told["suspend"] = True
        return told

    def _cron_job(self, document: Document) -> Document:
        status = dict(document.get("status") or {})
        active = [self.names.sets[ref["name"]] for ref in status.pop("active", ())]
        return {"status": dict.fromkeys(status, "TIME"), "active": active}

    def _pod(self, pod: Document) -> str:
        words = [super()._pod(pod)]
        for c in (pod.get("status") or {}).get("conditions") or ():
            if c["type"] == "DisruptionTarget":
                words.append(f"DisruptionTarget({c['status']},{c['reason']},{c['message']})")
        index = (pod["metadata"].get("annotations") or {}).get(INDEX)
        if index is not None:
            words.append(f"job-completion-index={index}")
        return " ".join(words)

    def _our_event(self, text: str) -> str:
        return super()._our_event(text).replace(f"{self.namespace}/", "NS/")

    def _recorded_event(self, text: str) -> str:
        return _plain(text)

    def _same_events(self, recorded: Counter[str], ours: Counter[str], _: dict[str, Any]) -> bool:
        return recorded == ours

    def _status(self, status: Document) -> Document:
        told = super()._status(status)
        if "conditions" in told:
            told["conditions"] = [
                text.replace(f"{self.namespace}/", "NS/") for text in told["conditions"]
            ]
        return told


def _plain(text: str) -> str:
    """Pods without their numbers: which of equal ones it is decides nothing."""
    return re.sub(r"-p\d+\b", "-p", text)


def _nameless(jobs: Document) -> Document:
    return {name: {**told, "status": _normal(told["status"])} for name, told in jobs.items()}


def _normal(status: Document) -> Document:
    if "conditions" not in status:
        return status
    return {**status, "conditions": sorted(_plain(text) for text in status["conditions"])}

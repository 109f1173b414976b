"""The link of a cluster that is not ours: EKS, GKE, k3s, any Kubernetes, made a member by a process beside it.

The same Link as in our own control plane runs here over the foreign API: Works, report, heartbeat, reversed connections. What
needs our node process (grants, services over clusters) is off, and the Cluster's conditions say so. A heartbeat means that
the member is there, so it is withheld when its API server has not answered for API_SILENT_S; what the federation then does
is what it does with any silent member.

The kubeconfig is read once. A token file is read for every request, so a rotated token needs no restart.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from cluster_agent.link.app import Link, LinkConfig
from cluster_agent.link.foreign_discovery import ACCEPT, Discovery, enabled
from cluster_agent.link.foreign_proxy import ForeignApi
from cluster_agent.link.foreign_remarks import GRANTS, SERVICES, Remark
from cluster_agent.link.foreign_rights import ESSENTIAL, EVERYTHING, missing, wording
from cluster_agent.link.identity import FederationAccess
from cluster_agent.link.member import FIELD_MANAGER
from cluster_agent.link.report import Place
from machinery.client import kubeconfig
from machinery.client.kubeconfig import Access, KubeconfigError
from machinery.client.rest import RestClient
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document

log = logging.getLogger(__name__)

PROBE_S = 5.0
PROBE_TIMEOUT_S = 4.0
API_SILENT_S = 30.0
"""Silence of the API server after which the member counts as gone: Karmada's own threshold for members it pushes to."""
DISCOVERY_S = 60.0
RIGHTS_S = 600.0
MISSING_S = 30.0
"""Rights are looked for more often while some are missing: somebody may be granting them just now."""
START = Backoff(base_s=1.0, cap_s=30.0)


class ForeignSilent(ConnectionError):
    """The foreign API server has not answered for too long."""


@dataclass(frozen=True, slots=True)
class ForeignConfig:
    """What `cluster-agent link` is told."""

    place: Place
    """Version and kinds are filled in from the cluster itself."""
    access: Access
    federation: FederationAccess
    directory: Path


def foreign_access(path: str, context: str = "") -> Access:
    """The kubeconfig's access. Raises KubeconfigError for what must not or cannot be used here."""
    try:
        access = kubeconfig.load(path, context)
    except KubeconfigError as error:
        if "exec" not in str(error) and "auth-provider" not in str(error):
            raise
        raise KubeconfigError(
            f"{error}: the agent runs unattended and needs credentials of its own; apply the output of "
            "`cluster-agent link --print-rbac` and use the token of its ServiceAccount"
        ) from error
    if not access.server.startswith("https://"):
        raise KubeconfigError(f"{access.server}: only https is spoken to a member")
    if access.insecure:
        raise KubeconfigError(
            "insecure-skip-tls-verify is refused: the federation's Secrets would go to whoever answers; "
            "give certificate-authority-data"
        )
    return access


class Foreign:
    """`start` once, `stop` once."""

    def __init__(self, config: ForeignConfig, clock: Clock, ids: Ids) -> None:
        self._config, self._clock, self._ids = config, clock, ids
        access = config.access
        self._member = access.client(field_manager=FIELD_MANAGER)
        self._asker = RestClient(
            access.server,
            access.ssl_context(),
            access.bearer(),
            headers={"Accept": ACCEPT},
            server_hostname=access.server_name,
        )
        self._proxy = ForeignApi(access, config.place.cluster)
        self._discovery = Discovery(self._asker)
        self._place = config.place
        self._answered = clock.monotonic()
        self._fault = ""
        self._refused: list[Document] = []
        self._tasks = TaskOwner()
        self.link: Link | None = None

    def start(self) -> None:
        """Link the cluster, in the background."""
        _ = self._tasks.spawn(self._run(), "foreign")

    async def stop(self) -> None:
        """Let go of everything."""
        await self._tasks.close()
        if self.link is not None:
            await self.link.stop()
        await self._proxy.close()
        await self._asker.close()
        await self._member.close()

    # -------------------------------------------------------------------------------------------------------- running
    async def _run(self) -> None:
        await self._first_look()
        self.link = Link(
            LinkConfig(
                self._place,
                self._config.federation,
                self._config.directory,
                own_nodes=False,
                alive=self.alive,
                remarks=self.remarks,
            ),
            self._member,
            self._proxy.handle,
            self._discovery.resolve,
            self._clock,
            self._ids,
        )
        _ = self._tasks.spawn(self._probe(), "foreign-probe")
        _ = self._tasks.spawn(self._look_again(), "foreign-discovery")
        self.link.start()
        await self._watch_rights()

    async def _first_look(self) -> None:
        """Until the cluster answers and lets us see nodes and pods: without them there is no member to introduce."""
        failures = 0
        while True:
            try:
                await self._look()
                self._refused = await missing(self._member, ESSENTIAL)
            except (StatusError, ConnectionError, TimeoutError) as error:
                log.warning("foreign cluster does not answer", extra=self._extra(error))
            else:
                if not self._refused:
                    return
                log.error(
                    "rights are missing in the foreign cluster, it cannot be linked without them; "
                    "apply the output of `cluster-agent link --print-rbac` there",
                    extra={"missing": wording(self._refused)},
                )
            failures += 1
            await self._clock.sleep(START.delay(failures))

    def _extra(self, error: Exception) -> dict[str, str]:
        return {"server": self._config.access.server, "error": str(error) or type(error).__name__}

    async def _look(self) -> None:
        """Version and kinds. Raises StatusError, ConnectionError."""
        version = orjson.loads(await self._asker.request("GET", "/version")).get("gitVersion", "")
        await self._discovery.refresh()
        self._place = replace(
            self._config.place,
            kubernetes_version=version,
            kinds=enabled(self._discovery.kinds),
            grants_enforced=False,
        )

    async def _look_again(self) -> None:
        while True:
            await self._clock.sleep(DISCOVERY_S)
            before = self._place
            try:
                await self._look()
            except (StatusError, ConnectionError, TimeoutError) as error:
                log.info("discovery failed", extra=self._extra(error))
                continue
            if self._place != before and self.link is not None:
                self.link.moved(self._place)

    async def _watch_rights(self) -> None:
        """What our user may not do, told when it changes."""
        told: list[Document] | None = None
        while True:
            try:
                self._refused = await missing(self._member, EVERYTHING)
            except (StatusError, ConnectionError, TimeoutError) as error:
                log.info("rights not asked", extra=self._extra(error))
            if self._refused and self._refused != told:
                log.warning(
                    "rights are missing in the foreign cluster; what needs them fails",
                    extra={"missing": wording(self._refused)},
                )
            told = self._refused
            await self._clock.sleep(MISSING_S if self._refused else RIGHTS_S)

    # --------------------------------------------------------------------------------------------------- is it there?
    async def _probe(self) -> None:
        while True:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await self._asker.request("GET", "/version")
            except (ConnectionError, TimeoutError) as error:
                self._fault = str(error) or "no answer in time"
            except StatusError:
                self._heard()  # whatever it says, it is there
            else:
                self._heard()
            await self._clock.sleep(PROBE_S)

    def _heard(self) -> None:
        self._answered, self._fault = self._clock.monotonic(), ""

    async def alive(self) -> None:
        """Raises ForeignSilent when the member must not be said to be there."""
        silent = self._clock.monotonic() - self._answered
        if silent > API_SILENT_S:
            raise ForeignSilent(
                f"the member's API server has not answered for {silent:.0f} s: {self._fault}"
            )

    def remarks(self) -> Sequence[Remark]:
        """What is to be known of this member."""
        refused = wording(self._refused)
        rights = Remark(
            "MemberRights",
            not refused,
            "RightsMissing" if refused else "Complete",
            f"The agent's user lacks: {refused}" if refused else "The agent's user has every right",
        )
        answers = Remark(
            "MemberAPI",
            not self._fault,
            "NotReached" if self._fault else "Answers",
            self._fault or "The member's API server answers its agent",
        )
        return GRANTS, SERVICES, rights, answers

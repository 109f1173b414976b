"""Takes away the folders of deleted volumes that this node made, and then the finalizer that waits for it.

Only a volume that says Delete loses its folder; one with Retain is let go and its data stay. A folder goes only upon a
volume that names it: what lies there without one, from another life of the cluster perhaps, is left alone.
"""

import asyncio
import logging
import shutil
from collections.abc import Collection

from cluster_agent.node.volumes.claims import VOLUMES
from machinery.api.local_volumes import (
    is_within,
    node_of,
    path_of,
    waits_for_node,
    without_finalizer,
)
from machinery.client.informer import Informer
from machinery.client.interface import Client, PatchType
from machinery.kit.clock import Clock
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, document_key

log = logging.getLogger(__name__)

RETRY_S = 10.0


def loses_folder(volume: Document, folder: str) -> bool:
    """Whether a volume that waits for us has a folder that goes with it. Pure."""
    delete = volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
    return delete and is_within(volume, folder)


class LocalVolumes:
    """Of one node, or of the hollow nodes of a process, which have no folders."""

    def __init__(
        self, client: Client, clock: Clock, nodes: Collection[str], folder: str, *, hollow: bool
    ) -> None:
        self._client, self._clock, self._nodes = client, clock, frozenset(nodes)
        self._folder, self._hollow = folder, hollow
        self._wake = asyncio.Event()
        self._volumes: Informer[Document] = Informer(client, VOLUMES, clock)
        self._volumes.on_change(self._on_change)

    def _on_change(self, _old: Document | None, new: Document | None) -> None:
        if new is not None and self._is_mine(new):
            self._wake.set()

    def _is_mine(self, volume: Document) -> bool:
        return node_of(volume) in self._nodes and waits_for_node(volume)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            _ = group.create_task(self._volumes.run())
            while True:
                await self._wake.wait()
                self._wake.clear()
                if not await self.run_once():
                    await self._clock.sleep(RETRY_S)
                    self._wake.set()

    async def run_once(self) -> bool:
        """Let go all that waits for us; False: not everything could be."""
        done = True
        for volume in [one for one in self._volumes.list() if self._is_mine(one)]:
            try:
                await self._let_go(volume)
            except NotFound:
                continue
            except (StatusError, ConnectionError, TimeoutError, OSError) as error:
                name = volume["metadata"]["name"]
                log.warning("local volume stays", extra={"volume": name, "error": str(error)})
                done = False
        return done

    async def _let_go(self, volume: Document) -> None:
        if not self._hollow and loses_folder(volume, self._folder):
            await asyncio.to_thread(remove, path_of(volume))
        metadata = volume["metadata"]
        patch = {
            "metadata": {
                "finalizers": without_finalizer(volume),
                "resourceVersion": metadata["resourceVersion"],
            }
        }
        await self._client.patch(VOLUMES, document_key(volume), patch, PatchType.MERGE)
        log.info("local volume removed", extra={"volume": metadata["name"]})


def remove(path: str) -> None:
    """The folder and all in it; one that was never made is gone already."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return

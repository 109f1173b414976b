"""ConfigMaps and Secrets that this node's pods use: watched one by one, kept on disk for the time without an API.

A node may read only what its pods refer to, so there is one single-object watch per referenced object, started with
the first pod that needs it and ended with the last. What was read is written to disk, 0600, so that a node that starts
while the API is away can still set up its pods. An object counts as absent only when the API has said so.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from cluster_agent.node.kubelet.checkpoint import write_private
from cluster_agent.node.kubelet.resources import every_container
from machinery.api.core import CONFIGMAPS, SECRETS, ConfigMap, Container, Pod, Secret
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner, cancel_all

log = logging.getLogger(__name__)

SYNC_TIMEOUT_S = 5.0


class Ref(NamedTuple):
    """Which object."""

    kind: str
    """`configmap` or `secret`."""
    namespace: str
    name: str

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}"'


def references(pod: Pod) -> set[Ref]:
    """Every ConfigMap and Secret that the pod's volumes and environment name. Pure."""
    namespace = pod.metadata.namespace
    return {Ref(kind, namespace, name) for kind, name in _named(pod) if name}


def _named(pod: Pod) -> Iterator[tuple[str, str]]:
    for volume in pod.spec.volumes:
        if volume.config_map is not None:
            yield "configmap", volume.config_map.name
        if volume.secret is not None:
            yield "secret", volume.secret.secret_name
        for source in volume.projected.sources if volume.projected is not None else ():
            if source.config_map is not None:
                yield "configmap", source.config_map.name
            if source.secret is not None:
                yield "secret", source.secret.name
    for secret in pod.spec.image_pull_secrets:
        yield "secret", secret.name
    for container in every_container(pod.spec):
        yield from _of_environment(container)


def _of_environment(container: Container) -> Iterator[tuple[str, str]]:
    for source in container.env_from:
        if source.config_map_ref is not None:
            yield "configmap", source.config_map_ref.name
        if source.secret_ref is not None:
            yield "secret", source.secret_ref.name
    for variable in container.env:
        origin = variable.value_from
        if origin is None:
            continue
        if origin.config_map_key_ref is not None:
            yield "configmap", origin.config_map_key_ref.name
        if origin.secret_key_ref is not None:
            yield "secret", origin.secret_key_ref.name


class _Watched:
    """One object's informer and its task."""

    def __init__(
        self, informer: Informer[ConfigMap] | Informer[Secret], task: "asyncio.Task[None]"
    ) -> None:
        self.informer, self.task = informer, task


class NotSynced(Exception):
    """Nobody has told us yet whether the object exists."""


class Objects:
    """The objects that a node's pods use."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        tasks: TaskOwner,
        folder: str,
        changed: Callable[[Ref], None],
    ) -> None:
        self._client, self._clock, self._tasks = client, clock, tasks
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._changed = changed
        self._watched: dict[Ref, _Watched] = {}

    # ------------------------------------------------------------------------------------------------- what is used
    def use(self, wanted: Iterable[Ref]) -> None:
        """From now on exactly these objects are watched."""
        wanted = set(wanted)
        for ref in wanted - self._watched.keys():
            self._watch(ref)
        for ref in self._watched.keys() - wanted:
            watched = self._watched.pop(ref)
            watched.task.cancel()
            self._path(ref).unlink(missing_ok=True)

    def _watch(self, ref: Ref) -> None:
        informer: Informer[ConfigMap] | Informer[Secret]
        selector = f"metadata.name={ref.name}"
        if ref.kind == "configmap":
            informer = Informer(
                self._client,
                CONFIGMAPS,
                self._clock,
                namespace=ref.namespace,
                field_selector=selector,
            )
        else:
            informer = Informer(
                self._client, SECRETS, self._clock, namespace=ref.namespace, field_selector=selector
            )
        informer.on_change(lambda old, new: self._on_change(ref, new))
        task = self._tasks.spawn(informer.run(), f"object {ref}")
        self._watched[ref] = _Watched(informer, task)

    def _on_change(self, ref: Ref, new: ConfigMap | Secret | None) -> None:
        if new is None:
            self._path(ref).unlink(missing_ok=True)
        else:
            write_private(self._path(ref), msgspec.json.encode(new))
        self._changed(ref)

    def _path(self, ref: Ref) -> Path:
        digest = hashlib.sha256("\0".join(ref).encode()).hexdigest()[:32]
        return self._folder / f"{ref.kind}-{digest}.json"

    # ------------------------------------------------------------------------------------------------------ reading
    def _now(self, ref: Ref) -> ConfigMap | Secret | None:
        watched = self._watched.get(ref)
        if watched is not None and watched.informer.synced:
            found: list[ConfigMap | Secret] = [*watched.informer.list()]
            return found[0] if found else None
        stored = self._stored(ref)
        if stored is None:
            raise NotSynced(str(ref))
        return stored

    def _stored(self, ref: Ref) -> ConfigMap | Secret | None:
        try:
            raw = self._path(ref).read_bytes()
            if ref.kind == "configmap":
                return msgspec.json.decode(raw, type=ConfigMap)
            return msgspec.json.decode(raw, type=Secret)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        """Raises NotSynced."""
        found = self._now(Ref("configmap", namespace, name))
        assert found is None or isinstance(found, ConfigMap)
        return found

    def secret(self, namespace: str, name: str) -> Secret | None:
        """Raises NotSynced."""
        found = self._now(Ref("secret", namespace, name))
        assert found is None or isinstance(found, Secret)
        return found

    async def wait(self, refs: Iterable[Ref]) -> None:
        """Until each is known (from the API or from disk), at most five seconds."""
        refs = list(refs)
        try:
            async with asyncio.timeout(SYNC_TIMEOUT_S):
                for ref in refs:
                    watched = self._watched.get(ref)
                    if watched is not None and not self._path(ref).exists():
                        await watched.informer.wait_synced()
        except TimeoutError:
            log.info("objects not known in time", extra={"objects": [str(r) for r in refs]})

    async def close(self) -> None:
        await cancel_all([w.task for w in self._watched.values()])

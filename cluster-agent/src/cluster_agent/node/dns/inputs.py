"""From views of the API to what the directory holds, one object at a time.

`DnsFeed` listens to informers and hands each difference on; a zone is marked ready when the first lists of all that it
is made of are in. Slices tell by their labels whose they are: `kubernetes.io/service-name` for a Service of this
cluster, the two labels of the multi-cluster API for an import. Only endpoints of the address types IPv4 and IPv6 count.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from cluster_agent.node.dns.directory import Directory
from cluster_agent.node.dns.model import Endpoint, PodName, Port, Service, ServiceName, Slice
from machinery.api import core, discovery_kinds, service_kinds
from machinery.api.fleet import multicluster
from machinery.client.informer import Informer
from machinery.meta.objectmeta import Object

T = TypeVar("T", bound=Object)

SeenAs: TypeAlias = Callable[[discovery_kinds.EndpointSlice], discovery_kinds.EndpointSlice]

MCS_SERVICE_LABEL = "multicluster.kubernetes.io/service-name"
MCS_CLUSTER_LABEL = "multicluster.kubernetes.io/source-cluster"
ADDRESS_TYPES = ("IPv4", "IPv6")
ENDED_PHASES = ("Succeeded", "Failed")


def service_of(view: service_kinds.Service) -> Service:
    """A Service, as DNS sees it."""
    spec = view.spec
    external = spec.type == "ExternalName"
    ips = tuple(ip for ip in spec.cluster_ips or (spec.cluster_ip,) if ip and ip != "None")
    return Service(
        namespace=view.metadata.namespace,
        name=view.metadata.name,
        ips=() if external else ips,
        ports=tuple(Port(p.port, p.protocol, p.name) for p in spec.ports),
        headless=spec.headless and not external,
        external_name=spec.external_name if external else "",
        publish_not_ready=spec.publish_not_ready_addresses,
    )


def import_of(view: multicluster.ServiceImport) -> Service:
    """A Service of the clusterset, as DNS sees it."""
    spec = view.spec
    return Service(
        namespace=view.metadata.namespace,
        name=view.metadata.name,
        ips=() if spec.headless else spec.ips,
        ports=tuple(Port(p.port, p.protocol, p.name) for p in spec.ports),
        headless=spec.headless,
        imported=True,
    )


def slice_of(view: discovery_kinds.EndpointSlice) -> Slice | None:
    """A slice, or None when it is nobody's or has no addresses that DNS could give."""
    cluster, service = _whose(view.metadata.labels)
    if not service or view.address_type not in ADDRESS_TYPES:
        return None
    return Slice(
        namespace=view.metadata.namespace,
        service=service,
        endpoints=tuple(
            Endpoint(
                addresses=endpoint.addresses,
                hostname=endpoint.hostname,
                ready=endpoint.ready,
                pod=endpoint.target_ref.name if endpoint.target_ref is not None else "",
            )
            for endpoint in view.endpoints
        ),
        ports=tuple(Port(p.port, p.protocol, p.name) for p in view.ports if p.port is not None),
        cluster=cluster,
    )


def _whose(labels: Mapping[str, str]) -> tuple[str, str]:
    """(source cluster, Service); both labels or neither make an import."""
    cluster, imported = labels.get(MCS_CLUSTER_LABEL, ""), labels.get(MCS_SERVICE_LABEL, "")
    if cluster and imported:
        return cluster, imported
    return "", labels.get(discovery_kinds.SERVICE_NAME_LABEL, "")


def addresses_of(pod: core.Pod) -> tuple[str, ...]:
    """The addresses of a pod that has not ended."""
    if pod.status.phase in ENDED_PHASES:
        return ()
    ips = tuple(ip.ip for ip in pod.status.pod_ips) or (pod.status.pod_ip,)
    return tuple(ip for ip in ips if ip)


@dataclass(frozen=True, slots=True)
class Sources:
    """The informers that the cluster's names are made of; pods only where `pods` is verified."""

    services: Informer[service_kinds.Service]
    slices: Informer[discovery_kinds.EndpointSlice]
    namespaces: Informer[core.Namespace]
    pods: Informer[core.Pod] | None = None


class DnsFeed:
    """Keeps a directory like the informers' copies."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._seen: SeenAs = lambda piece: piece

    def see_imports_as(self, seen: SeenAs) -> None:
        """Let `seen` leave out endpoints of imports' slices that cannot be reached; before any informer runs."""
        self._seen = seen

    def show(self, pieces: Iterable[discovery_kinds.EndpointSlice]) -> None:
        """Look at these slices anew: other endpoints of them may be reachable now."""
        for piece in pieces:
            self._slice(piece, piece)

    def watch(self, sources: Sources) -> None:
        """Hear of every change from now on."""
        sources.services.on_change(self._service)
        sources.slices.on_change(self._slice)
        sources.namespaces.on_change(self._namespace)
        if sources.pods is not None:
            sources.pods.on_change(self._pod)

    async def run(self, sources: Sources) -> None:
        """Mark the cluster's zone ready once everything has been listed."""
        for informer in (sources.services, sources.slices, sources.namespaces, sources.pods):
            if informer is not None:
                await informer.wait_synced()
        self._directory.mark_ready()

    def watch_imports(self, imports: Informer[T], as_service: Callable[[T], Service]) -> None:
        """Hear of every import; `as_service` turns its view into a Service that is `imported`."""

        def changed(old: T | None, new: T | None) -> None:
            if new is not None:
                self._directory.put_service(as_service(new))
            elif old is not None:
                self._directory.remove_service(ServiceName(*old.key, imported=True))

        imports.on_change(changed)

    async def run_imports(self, imports: Informer[T], sources: Sources) -> None:
        """Mark the clusterset's zone ready once it has been listed; its slices come with all the others."""
        for informer in (imports, sources.slices, sources.namespaces):
            await informer.wait_synced()
        self._directory.mark_ready(imported=True)

    def _service(
        self, old: service_kinds.Service | None, new: service_kinds.Service | None
    ) -> None:
        if new is not None:
            self._directory.put_service(service_of(new))
        elif old is not None:
            self._directory.remove_service(ServiceName(*old.key))

    def _slice(
        self,
        old: discovery_kinds.EndpointSlice | None,
        new: discovery_kinds.EndpointSlice | None,
    ) -> None:
        made = slice_of(self._seen(new)) if new is not None else None
        if new is not None and made is not None:
            self._directory.put_slice(new.key, made)
        elif (gone := old or new) is not None:
            self._directory.remove_slice(gone.key)

    def _namespace(self, old: core.Namespace | None, new: core.Namespace | None) -> None:
        if new is not None:
            self._directory.put_namespace(new.metadata.name)
        elif old is not None:
            self._directory.remove_namespace(old.metadata.name)

    def _pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        if new is not None:
            self._directory.put_pod(PodName(*new.key), addresses_of(new))
        elif old is not None:
            self._directory.remove_pod(PodName(*old.key))

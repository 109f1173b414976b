"""A hollow node: the kubelet as it is, over a runtime in memory. No hooks: there is no file system to prepare."""

from cluster_agent.node.config import NodeConfig
from cluster_agent.node.cri.hollow import Delays, HollowRuntime
from cluster_agent.node.kubelet.events import Recorder, Silent
from cluster_agent.node.kubelet.grants import Grants
from cluster_agent.node.kubelet.hollowprobes import HollowHandlers, HollowProber
from cluster_agent.node.kubelet.kubelet import Kubelet
from cluster_agent.node.kubelet.services import Services
from cluster_agent.node.parts import NodeParts, Shared, no_image_auth
from cluster_agent.node.registration import capacity
from cluster_agent.node.stats import Sampler
from cluster_agent.node.stats_hollow import HollowMeter
from machinery.api.local_volumes import LOCAL_FOLDER
from machinery.meta.quantity import quantity_of


def build_hollow(config: NodeConfig, shared: Shared, name: str, pod_cidr: str) -> NodeParts:
    """One hollow node. With many in a process, events and intermediate statuses are left out."""
    alone = config.hollow_count == 1
    delays = Delays(sandbox_s=config.hollow_sandbox_s, start_s=config.hollow_start_s)
    runtime = HollowRuntime(shared.clock, shared.ids, pod_cidr=pod_cidr, delays=delays)
    recorder = Recorder(shared.client, shared.clock, shared.ids, name) if alone else None
    prober = HollowProber(shared.clock, shared.tasks, lambda uid: kubelet.wake(uid))
    grants = Grants(shared.clock)
    services = Services(
        node_name=name,
        host_ip=config.node_ip,
        runtime=runtime,
        hooks=(),
        statuses=shared.statuses,
        events=recorder or Silent(),
        prober=prober,
        handlers=HollowHandlers(shared.clock),
        clock=shared.clock,
        tasks=shared.tasks,
        image_auth=no_image_auth,
        grants=grants,
        quiet=not alone,
    )
    kubelet = Kubelet(services)
    background = [recorder.run] if recorder is not None else []
    sampler = Sampler(
        name,
        HollowMeter(shared.clock),
        kubelet.workers.values,
        shared.clock,
        started_at=shared.clock.now(),
        memory_total=quantity_of(capacity(config, shared.machine)["memory"]).whole,
        threaded=False,
    )
    parts = NodeParts(runtime, kubelet, background, grants=grants, sampler=sampler)
    parts.annotations.put(LOCAL_FOLDER, config.local_volumes_dir)  # where nothing is ever made
    return parts

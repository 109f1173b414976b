"""The effects of starting: sandbox, image, container, postStart. One function per step of the plan.

A step that fails raises `StepFault` with the waiting reason that people know; the worker keeps it and the planner
waits with back-off. Nothing here decides whether something should be started.
"""

import logging
from dataclasses import replace

from cluster_agent.node.cri.interface import (
    LABEL_CONTAINER,
    LABEL_POD_NAME,
    LABEL_POD_NAMESPACE,
    LABEL_POD_UID,
    NOTE_BACKOFF,
    NOTE_GRACE,
    NOTE_HASH,
    NOTE_MESSAGE_PATH,
    NOTE_MESSAGE_POLICY,
    NOTE_RESTARTS,
    ContainerConfig,
    ImagePullError,
    RuntimeFault,
    RuntimePod,
    RuntimeUnavailable,
    SandboxConfig,
)
from cluster_agent.node.kubelet.environment import CONFIG_ERROR
from cluster_agent.node.kubelet.events import pod_subject
from cluster_agent.node.kubelet.hooks import HookFault
from cluster_agent.node.kubelet.plan import StartContainer
from cluster_agent.node.kubelet.resources import every_container
from cluster_agent.node.kubelet.services import HandlerFault, Services
from machinery.api.core import Container, EphemeralContainer, Pod

log = logging.getLogger(__name__)


class StepFault(Exception):
    """A step did not succeed. `reason` is a container's waiting reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def find(pod: Pod, name: str) -> Container:
    """A container of the pod by name."""
    return next(c for c in every_container(pod.spec) if c.name == name)


def is_init(pod: Pod, name: str) -> bool:
    return any(c.name == name for c in pod.spec.init_containers)


def labels_of(pod: Pod) -> dict[str, str]:
    """By these labels a pod is found again in the runtime."""
    meta = pod.metadata
    return {
        LABEL_POD_NAME: meta.name,
        LABEL_POD_NAMESPACE: meta.namespace,
        LABEL_POD_UID: meta.uid,
    }


def sandbox_config(services: Services, pod: Pod, attempt: int) -> SandboxConfig:
    """What the sandbox is made from, hooks included."""
    meta, spec = pod.metadata, pod.spec
    config = SandboxConfig(
        uid=meta.uid,
        name=meta.name,
        namespace=meta.namespace,
        attempt=attempt,
        labels=meta.labels | labels_of(pod),
        annotations=meta.annotations,
        host_network=spec.host_network,
        host_pid=spec.host_pid,
        host_ipc=spec.host_ipc,
        share_pid=spec.share_process_namespace,
    )
    for hook in services.hooks:
        config = hook.sandbox(pod, config)
    return config


async def create_sandbox(services: Services, pod: Pod, attempt: int) -> None:
    """Run a sandbox. Raises StepFault."""
    try:
        await services.runtime.run_sandbox(sandbox_config(services, pod, attempt))
    except RuntimeUnavailable:
        raise
    except RuntimeFault as error:
        message = f"Failed to create pod sandbox: {error}"
        services.events.emit(pod_subject(pod), "Warning", "FailedCreatePodSandBox", message)
        raise StepFault("ContainerCreating", "") from error


async def start_container(
    services: Services, pod: Pod, step: StartContainer, observed: RuntimePod
) -> None:
    """Create, start, postStart; the image is there. Raises StepFault."""
    container = find(pod, step.name)
    sandbox = observed.sandbox
    assert sandbox is not None
    subject = pod_subject(pod, step.name, init=is_init(pod, step.name))
    await _connected(services, pod, container, sandbox.ips)
    container_id = step.existing
    if not container_id:
        config = _container_config(services, pod, container, step, sandbox.ips)
        if isinstance(container, EphemeralContainer) and container.target_container_name:
            target = _target(services, pod, container, observed)
            config = replace(config, target_id=target)
        sandbox_cfg = sandbox_config(services, pod, sandbox.attempt)
        try:
            container_id = await services.runtime.create_container(sandbox.id, config, sandbox_cfg)
        except RuntimeUnavailable:
            raise
        except RuntimeFault as error:
            reason = "ErrImagePull" if isinstance(error, ImagePullError) else "CreateContainerError"
            services.events.emit(subject, "Warning", "Failed", f"Error: {error}")
            raise StepFault(reason, str(error)) from error
        services.events.emit(subject, "Normal", "Created", "Container created")
    try:
        await services.runtime.start_container(container_id)
    except RuntimeUnavailable:
        raise
    except RuntimeFault as error:
        services.events.emit(subject, "Warning", "Failed", f"Error: {error}")
        raise StepFault("RunContainerError", str(error)) from error
    services.events.emit(subject, "Normal", "Started", "Container started")
    await _post_start(services, pod, container, container_id, sandbox.ips)


def _target(services: Services, pod: Pod, guest: EphemeralContainer, observed: RuntimePod) -> str:
    """The newest container of the name that it wants to look into. Raises StepFault."""
    found = observed.latest(guest.target_container_name)
    if found is not None:
        return found.id
    message = f"unable to find target container {guest.target_container_name}"
    raise _refused(services, pod, guest, HookFault(CONFIG_ERROR, message))


async def _connected(
    services: Services, pod: Pod, container: Container, ips: tuple[str, ...]
) -> None:
    try:
        for hook in services.hooks:
            await hook.connected(pod, ips)
    except HookFault as error:
        raise _refused(services, pod, container, error) from error


def _refused(services: Services, pod: Pod, container: Container, error: HookFault) -> StepFault:
    subject = pod_subject(pod, container.name, init=is_init(pod, container.name))
    services.events.emit(subject, "Warning", "Failed", f"Error: {error.message}")
    return StepFault(error.reason, error.message)


async def _post_start(
    services: Services, pod: Pod, container: Container, container_id: str, ips: tuple[str, ...]
) -> None:
    if container.lifecycle.post_start is None:
        return
    try:
        ip = ips[0] if ips else services.host_ip
        await services.handlers.post_start(pod, container, container_id, ip)
    except HandlerFault as error:
        subject = pod_subject(pod, container.name, init=is_init(pod, container.name))
        services.events.emit(subject, "Warning", "FailedPostStartHook", str(error))
        text = f"FailedPostStartHook: container {container.name} will be killed"
        services.events.emit(subject, "Normal", "Killing", text)
        grace = pod.spec.termination_grace_period_seconds
        await services.runtime.stop_container(container_id, 30 if grace is None else grace)
        raise StepFault("PostStartHookError", str(error)) from error


def image_hash(container: Container) -> str:
    """What may change in a running pod and then asks for a new container: the image."""
    return container.image


def _container_config(
    services: Services,
    pod: Pod,
    container: Container,
    step: StartContainer,
    ips: tuple[str, ...],
) -> ContainerConfig:
    grace = pod.spec.termination_grace_period_seconds
    config = ContainerConfig(
        name=container.name,
        attempt=step.attempt,
        image=container.image,
        command=container.command,
        args=container.args,
        working_dir=container.working_dir,
        labels=labels_of(pod) | {LABEL_CONTAINER: container.name},
        annotations={
            NOTE_HASH: image_hash(container),
            NOTE_RESTARTS: str(step.attempt),
            NOTE_MESSAGE_PATH: container.termination_message_path,
            NOTE_MESSAGE_POLICY: container.termination_message_policy,
            NOTE_GRACE: str(30 if grace is None else grace),
            NOTE_BACKOFF: str(step.failures),
        },
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        pod_ips=ips or (services.host_ip,),
    )
    try:
        for hook in services.hooks:
            config = hook.container(pod, container, config)
    except HookFault as error:
        raise _refused(services, pod, container, error) from error
    return config


# ---------------------------------------------------------------------------------------------------------- images
async def ensure_image(services: Services, pod: Pod, container: Container) -> None:
    """Have the image, as the pull policy says. Raises StepFault."""
    subject = pod_subject(pod, container.name, init=is_init(pod, container.name))
    image, policy = container.image, container.image_pull_policy
    found = await services.runtime.image(image)
    if policy == "Never" and found is None:
        text = f'Container image "{image}" is not present with pull policy of Never'
        services.events.emit(subject, "Warning", "ErrImageNeverPull", text)
        services.events.emit(subject, "Warning", "Failed", "Error: ErrImageNeverPull")
        raise StepFault("ErrImageNeverPull", text)
    if found is not None and policy != "Always":
        text = (
            f'Container image "{image}" already present on machine and can be accessed by the pod'
        )
        services.events.emit(subject, "Normal", "Pulled", text)
        return
    services.events.emit(subject, "Normal", "Pulling", f'Pulling image "{image}"')
    started = services.clock.monotonic()
    try:
        await _pull(services, pod, image)
    except RuntimeUnavailable:
        raise
    except RuntimeFault as error:
        text = f'Failed to pull image "{image}": {error}'
        services.events.emit(subject, "Warning", "Failed", text)
        services.events.emit(subject, "Warning", "Failed", "Error: ErrImagePull")
        raise StepFault("ErrImagePull", str(error)) from error
    took = f"{services.clock.monotonic() - started:.3f}s"
    pulled = await services.runtime.image(image)
    size = pulled.size_bytes if pulled is not None else 0
    text = (
        f'Successfully pulled image "{image}" in {took} ({took} including waiting). '
        f"Image size: {size} bytes."
    )
    services.events.emit(subject, "Normal", "Pulled", text)


async def _pull(services: Services, pod: Pod, image: str) -> None:
    """With each of the pod's credentials in turn, and without any if there are none."""
    fault: RuntimeFault | None = None
    for auth in [*await services.image_auth(pod, image), None]:
        try:
            await services.runtime.pull(image, auth)
        except RuntimeUnavailable:
            raise
        except RuntimeFault as error:
            fault = fault or error
        else:
            return
    assert fault is not None
    raise fault

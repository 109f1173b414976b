"""Users, groups, capabilities, privilege: the security contexts of pod and container, the container's winning.

runAsNonRoot is checked against the number that will run; a name in the image cannot be checked and is refused.
"""

from collections.abc import Callable
from dataclasses import replace

from cluster_agent.node.cri.interface import ContainerConfig, Image, SandboxConfig
from cluster_agent.node.kubelet.environment import CONFIG_ERROR
from cluster_agent.node.kubelet.hooks import Hook, HookFault
from cluster_agent.node.kubelet.resources import every_container
from machinery.api.core import Container, Pod


def non_root_problem(pod: Pod, container: Container, image: Image | None) -> str:
    """Why the container must not start under runAsNonRoot; empty when it may. Wording is upstream's."""
    own, shared = container.security_context, pod.spec.security_context
    wanted = own.run_as_non_root if own.run_as_non_root is not None else shared.run_as_non_root
    if not wanted:
        return ""
    user = own.run_as_user if own.run_as_user is not None else shared.run_as_user
    where = f'(pod: "{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})", container: {container.name})'
    if user is not None:
        return f"container's runAsUser breaks non-root policy {where}" if user == 0 else ""
    text = image.user if image is not None else ""
    if text in ("", "0"):
        return f"container has runAsNonRoot and image will run as root {where}"
    if not text.isdigit():
        return (
            f"container has runAsNonRoot and image has non-numeric user ({text}), "
            f"cannot verify user is non-root {where}"
        )
    return ""


class Security(Hook):
    """`image_of` gives what is known of an image that is present."""

    def __init__(self, image_of: Callable[[str], Image | None]) -> None:
        self._image_of = image_of

    def sandbox(self, pod: Pod, config: SandboxConfig) -> SandboxConfig:
        shared = pod.spec.security_context
        return replace(
            config,
            privileged=any(c.security_context.privileged for c in every_container(pod.spec)),
            sysctls={s.name: s.value for s in shared.sysctls},
            run_as_user=shared.run_as_user,
            run_as_group=shared.run_as_group,
            supplemental_groups=_groups(pod),
        )

    def container(self, pod: Pod, container: Container, config: ContainerConfig) -> ContainerConfig:
        own, shared = container.security_context, pod.spec.security_context
        if problem := non_root_problem(pod, container, self._image_of(container.image)):
            raise HookFault(CONFIG_ERROR, problem)
        profile = own.seccomp_profile or shared.seccomp_profile
        if profile is not None and profile.type == "Localhost":
            raise HookFault(CONFIG_ERROR, "seccomp profiles of type Localhost are not supported")
        return replace(
            config,
            privileged=own.privileged,
            read_only_root=own.read_only_root_filesystem,
            no_new_privileges=own.allow_privilege_escalation is False,
            add_capabilities=own.capabilities.add,
            drop_capabilities=own.capabilities.drop,
            run_as_user=own.run_as_user if own.run_as_user is not None else shared.run_as_user,
            run_as_group=own.run_as_group if own.run_as_group is not None else shared.run_as_group,
            supplemental_groups=_groups(pod),
            seccomp=profile.type if profile is not None else "",
        )


def _groups(pod: Pod) -> tuple[int, ...]:
    shared = pod.spec.security_context
    extra = (shared.fs_group,) if shared.fs_group is not None else ()
    return (*shared.supplemental_groups, *extra)

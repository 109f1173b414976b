"""A container's environment, and `$(NAME)` in it, in commands and in arguments. Pure.

Order is upstream's: envFrom first, then env one by one; a value may refer to what stands before it; `$$(NAME)` is the
text `$(NAME)`; a reference to nothing stays as it is written.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from cluster_agent.node.kubelet.hooks import HookFault
from cluster_agent.node.objects import NotSynced
from cluster_agent.node.volumes import downward
from cluster_agent.node.volumes.tokens import decode_secret
from machinery.api.core import ConfigMap, Container, EnvVarSource, KeySelector, Pod, Secret

_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")
CONFIG_ERROR = "CreateContainerConfigError"


class Source(Protocol):
    """Where objects come from: `objects.Objects`, or a table."""

    def config_map(self, namespace: str, name: str) -> ConfigMap | None: ...

    def secret(self, namespace: str, name: str) -> Secret | None: ...


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` by its value."""

    def one(found: "re.Match[str]") -> str:
        if found[1] == "$":
            return "$"
        return values.get(found[2], found[0])

    return _REFERENCE.sub(one, text)


def expand_all(texts: Iterable[str], values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(expand(text, values) for text in texts)


def environment(
    pod: Pod,
    container: Container,
    source: Source,
    *,
    host_ip: str,
    node_name: str,
    pod_ips: tuple[str, ...],
    allocatable: Mapping[str, str],
    place: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """What the pod asks for, after `place` (NodeConfig.place_env). Raises HookFault(CreateContainerConfigError)."""
    values: dict[str, str] = dict(place)
    try:
        _add_from(values, pod, container, source)
        for variable in container.env:
            if variable.value_from is None:
                values[variable.name] = expand(variable.value, values)
                continue
            found = _value_from(
                pod, container, variable.value_from, source,
                host_ip=host_ip, node_name=node_name, pod_ips=pod_ips, allocatable=allocatable,
            )  # fmt: skip
            if found is not None:
                values[variable.name] = found
    except NotSynced as error:
        raise HookFault(CONFIG_ERROR, f"failed to sync {error} cache: timed out waiting") from error
    except (downward.BadField, ValueError) as error:
        raise HookFault(CONFIG_ERROR, str(error)) from error
    return values


def _add_from(values: dict[str, str], pod: Pod, container: Container, source: Source) -> None:
    namespace = pod.metadata.namespace
    for origin in container.env_from:
        if (ref := origin.config_map_ref) is not None:
            found = source.config_map(namespace, ref.name)
            if found is None and not ref.optional:
                raise HookFault(CONFIG_ERROR, f'configmap "{ref.name}" not found')
            plain = found.data if found is not None else {}
            values |= {origin.prefix + key: value for key, value in plain.items()}
        if (ref := origin.secret_ref) is not None:
            secret = source.secret(namespace, ref.name)
            if secret is None and not ref.optional:
                raise HookFault(CONFIG_ERROR, f'secret "{ref.name}" not found')
            data = secret.data if secret is not None else {}
            for key, value in data.items():
                values[origin.prefix + key] = decode_secret(value).decode("utf-8", "replace")


def _value_from(
    pod: Pod,
    container: Container,
    origin: EnvVarSource,
    source: Source,
    *,
    host_ip: str,
    node_name: str,
    pod_ips: tuple[str, ...],
    allocatable: Mapping[str, str],
) -> str | None:
    namespace = pod.metadata.namespace
    if origin.field_ref is not None:
        return downward.field(
            pod, origin.field_ref, host_ip=host_ip, node_name=node_name, pod_ips=pod_ips
        )
    if origin.resource_field_ref is not None:
        return downward.resource(pod, container, origin.resource_field_ref, allocatable)
    if (ref := origin.config_map_key_ref) is not None:
        found = source.config_map(namespace, ref.name)
        return _pick(found.data if found is not None else None, ref, "configmap", namespace)
    if (ref := origin.secret_key_ref) is not None:
        secret = source.secret(namespace, ref.name)
        value = _pick(secret.data if secret is not None else None, ref, "secret", namespace)
        return None if value is None else decode_secret(value).decode("utf-8", "replace")
    raise HookFault(CONFIG_ERROR, "this source of an environment variable is not supported")


def _pick(
    data: Mapping[str, str] | None, ref: KeySelector, kind: str, namespace: str
) -> str | None:
    if data is None:
        if ref.optional:
            return None
        raise HookFault(CONFIG_ERROR, f'{kind} "{ref.name}" not found')
    if ref.key in data:
        return data[ref.key]
    if ref.optional:
        return None
    named = "ConfigMap" if kind == "configmap" else "Secret"
    raise HookFault(CONFIG_ERROR, f"couldn't find key {ref.key} in {named} {namespace}/{ref.name}")

"""Containers of every sort: regular, init, ephemeral."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from machinery.api.validation import probes, resources, security, volumes
from machinery.api.validation.causes import Causes
from machinery.api.validation.fieldpaths import ENV_FIELDS, field_ref, resource_field_ref
from machinery.meta import names
from machinery.meta.resource import Document

PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_MESSAGE_POLICIES: Final = ("FallbackToLogsOnError", "File")
_RESIZE_POLICIES: Final = ("NotRequired", "RestartContainer")
_RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_NOT_EPHEMERAL: Final = (
    "ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources",
    "resizePolicy", "restartPolicy",
)  # fmt: skip
_ENV_SOURCES: Final = (
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of its pod a container is checked against."""

    volumes: Mapping[str, Document]
    claims: frozenset[str]
    grace: int
    host_network: bool
    restart_policy: str


def containers(spec: Document, field: str, around: Surroundings, causes: Causes) -> None:
    """All containers of a pod; their names are one space."""
    regular = spec.get("containers") or []
    if not regular:
        causes.required(f"{field}.containers")
    taken: set[str] = set()
    for index, container in enumerate(regular):
        _regular(container, f"{field}.containers[{index}]", taken, around, causes)
    _host_ports(regular, f"{field}.containers", causes)
    for index, container in enumerate(spec.get("initContainers") or ()):
        _init(container, f"{field}.initContainers[{index}]", taken, around, causes)
    for index, container in enumerate(spec.get("ephemeralContainers") or ()):
        where = f"{field}.ephemeralContainers[{index}]"
        _ephemeral(container, where, taken, spec, around, causes)


def _regular(
    container: Document, field: str, taken: set[str], around: Surroundings, causes: Causes
) -> None:
    _common(container, field, around, causes)
    _unique(container, field, taken, causes)
    _runtime(container, field, around, causes)


def _unique(container: Document, field: str, taken: set[str], causes: Causes) -> None:
    name = container.get("name", "")
    if name and name in taken:
        causes.duplicate(f"{field}.name", name)
    taken.add(name)


def _runtime(container: Document, field: str, around: Surroundings, causes: Causes) -> None:
    if hooks := container.get("lifecycle"):
        probes.lifecycle(hooks, around.grace, f"{field}.lifecycle", causes)
    probes.probes(container, field, causes)
    if (policy := container.get("restartPolicy")) is not None:
        causes.one_of(f"{field}.restartPolicy", policy, _RESTART_POLICIES)


def _init(
    container: Document, field: str, taken: set[str], around: Surroundings, causes: Causes
) -> None:
    _common(container, field, around, causes)
    _unique(container, field, taken, causes)
    _host_ports([container], field, causes, nested=True)
    if container.get("restartPolicy") == "Always":
        _runtime(container, field, around, causes)
        return
    for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(key) is not None:
            causes.forbidden(
                f"{field}.{key}", "may not be set for init containers without restartPolicy=Always"
            )
    if (policy := container.get("restartPolicy")) is not None:
        causes.one_of(f"{field}.restartPolicy", policy, _RESTART_POLICIES)


def _ephemeral(
    container: Document,
    field: str,
    taken: set[str],
    spec: Document,
    around: Surroundings,
    causes: Causes,
) -> None:
    _common(container, field, around, causes)
    _unique(container, field, taken, causes)
    if target := container.get("targetContainerName"):
        known = {
            one.get("name")
            for key in ("containers", "initContainers")
            for one in spec.get(key) or ()
        }
        if target not in known:
            causes.not_found(f"{field}.targetContainerName", target)
    for key in _NOT_EPHEMERAL:
        if container.get(key):
            causes.forbidden(f"{field}.{key}", "cannot be set for an Ephemeral Container")
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        for key in ("subPath", "subPathExpr"):
            if mount.get(key):
                causes.forbidden(
                    f"{field}.volumeMounts[{index}].{key}",
                    "cannot be set for an Ephemeral Container",
                )


def _common(container: Document, field: str, around: Surroundings, causes: Causes) -> None:
    name, image = container.get("name", ""), container.get("image", "")
    if not name:
        causes.required(f"{field}.name")
    else:
        causes.invalid_each(f"{field}.name", name, names.dns_label(name))
    if not image:
        causes.required(f"{field}.image")
    elif image != image.strip():
        causes.invalid(f"{field}.image", image, "must not have leading or trailing whitespace")
    _chosen(container, "terminationMessagePolicy", field, _MESSAGE_POLICIES, causes)
    if ports := container.get("ports"):
        _ports(ports, f"{field}.ports", around.host_network, causes)
    if variables := container.get("env"):
        environment(variables, f"{field}.env", causes)
    if sources := container.get("envFrom"):
        _env_from(sources, f"{field}.envFrom", causes)
    if container.get("volumeMounts"):
        volumes.mounts(container, around.volumes, f"{field}.volumeMounts", causes)
    _chosen(container, "imagePullPolicy", field, PULL_POLICIES, causes)
    if found := container.get("resources"):
        resources.requirements(found, f"{field}.resources", causes, around.claims)
    if policies := container.get("resizePolicy"):
        _resize(policies, f"{field}.resizePolicy", causes)
    if context := container.get("securityContext"):
        security.container_context(context, f"{field}.securityContext", causes)


def _chosen(
    container: Document, key: str, field: str, valid: tuple[str, ...], causes: Causes
) -> None:
    if value := container.get(key):
        causes.one_of(f"{field}.{key}", value, valid)
    else:
        causes.required(f"{field}.{key}")


# --------------------------------------------------------------------------------------------------------------- ports
def _ports(found: list[Document], field: str, host_network: bool, causes: Causes) -> None:
    taken: set[str] = set()
    for index, port in enumerate(found):
        where = f"{field}[{index}]"
        if name := port.get("name"):
            complaints = names.port_name(name)
            causes.invalid_each(f"{where}.name", name, complaints)
            if not complaints and name in taken:
                causes.duplicate(f"{where}.name", name)
            taken.add(name)
        number, outside = port.get("containerPort", 0), port.get("hostPort", 0)
        if not number:
            causes.required(f"{where}.containerPort")
        else:
            causes.invalid_each(f"{where}.containerPort", number, names.port_number(number))
        if outside:
            causes.invalid_each(f"{where}.hostPort", outside, names.port_number(outside))
        protocol = port.get("protocol", "")
        if protocol:
            causes.one_of(f"{where}.protocol", protocol, PROTOCOLS)
        else:
            causes.required(f"{where}.protocol")


def host_network_ports(spec: Document, field: str, causes: Causes) -> None:
    """In the host's network a port is the same inside and outside."""
    for key in ("containers",):
        for number, container in enumerate(spec.get(key) or ()):
            for index, port in enumerate(container.get("ports") or ()):
                outside = port.get("hostPort", 0)
                if outside != port.get("containerPort", 0):
                    causes.invalid(
                        f"{field}.{key}[{number}].ports[{index}].hostPort",
                        outside,
                        "must match `containerPort` when `hostNetwork` is true",
                    )


def _host_ports(found: list[Document], field: str, causes: Causes, *, nested: bool = False) -> None:
    taken: set[str] = set()
    for number, container in enumerate(found):
        where = field if nested else f"{field}[{number}]"
        for index, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if key in taken:
                causes.duplicate(f"{where}.ports[{index}].hostPort", key)
            taken.add(key)


# --------------------------------------------------------------------------------------------------------- environment
def environment(found: list[Document], field: str, causes: Causes) -> None:
    """`env` of a container."""
    for index, variable in enumerate(found):
        name = variable.get("name", "")
        if "valueFrom" not in variable and name and not names.environment_name(name):
            continue
        where = f"{field}[{index}]"
        if not name:
            causes.required(f"{where}.name")
        else:
            causes.invalid_each(f"{where}.name", name, names.environment_name(name))
        if (source := variable.get("valueFrom")) is not None:
            _value_from(variable, source, f"{where}.valueFrom", causes)


def _value_from(variable: Document, source: Document, field: str, causes: Causes) -> None:
    found = [key for key in _ENV_SOURCES if source.get(key) is not None]
    for key in found:
        where, part = f"{field}.{key}", source[key]
        if key == "fieldRef":
            field_ref(part, where, causes, ENV_FIELDS)
        elif key == "resourceFieldRef":
            resource_field_ref(part, where, causes, in_volume=False)
        else:
            _key_ref(part, where, causes)
    if not found:
        causes.invalid(field, "", f"must specify one of: {_choices()}")
    elif variable.get("value"):
        causes.invalid(field, "", "may not be specified when `value` is not empty")
    elif len(found) > 1:
        causes.invalid(field, "", "may not have more than one field specified at a time")


def _choices() -> str:
    return "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"


def _key_ref(reference: Document, field: str, causes: Causes) -> None:
    if not reference.get("name") and not field.endswith("fileKeyRef"):
        causes.required(f"{field}.name")
    key = reference.get("key", "")
    if not key:
        causes.required(f"{field}.key")
    else:
        causes.invalid_each(f"{field}.key", key, names.config_key(key))


def _env_from(found: list[Document], field: str, causes: Causes) -> None:
    for index, source in enumerate(found):
        where = f"{field}[{index}]"
        if prefix := source.get("prefix"):
            causes.invalid_each(f"{where}.prefix", prefix, names.environment_name(prefix))
        kinds = [key for key in ("configMapRef", "secretRef") if source.get(key) is not None]
        for key in kinds:
            if not source[key].get("name"):
                causes.required(f"{where}.{key}.name")
            else:
                name = source[key]["name"]
                causes.invalid_each(f"{where}.{key}.name", name, names.dns_subdomain(name))
        if not kinds:
            causes.invalid(where, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(kinds) > 1:
            causes.invalid(where, "", "may not have more than one field specified at a time")


def _resize(found: list[Document], field: str, causes: Causes) -> None:
    seen: set[Any] = set()
    for policy in found:
        name, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if name in seen:
            causes.duplicate(field, name)
        seen.add(name)
        if not name:
            causes.required(field)
        else:
            causes.one_of(field, name, ("cpu", "memory"))
        if not restart:
            causes.required(field)
        else:
            causes.one_of(field, restart, _RESIZE_POLICIES)

"""A pod's spec, in a Pod and in a template."""

import ipaddress
import re
from typing import Final

from machinery.api.validation import (
    containers,
    proven,
    resources,
    scheduling,
    security,
    volumes,
)  # fmt: skip
from machinery.api.validation.causes import Causes
from machinery.meta import names
from machinery.meta.resource import Document

RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,10}|-[0-9]{1,11}", re.ASCII)
_DNS_POLICIES: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION: Final = ("Never", "PreemptLowerPriority")
_INT32: Final = 2**31 - 1
_NAMESERVERS_MAX: Final = 3
_SEARCHES_MAX: Final = 32
_SEARCH_BYTES_MAX: Final = 2048


def validate_create(document: Document, causes: Causes) -> None:
    """A new pod."""
    deletion_cost(document, {}, causes)
    spec = document.get("spec") or {}
    key = proven.key_of(spec)
    if proven.known(key):
        return
    before = len(causes)
    _new_spec(spec, causes)
    if len(causes) == before:
        proven.keep(key)


def deletion_cost(new: Document, old: Document, causes: Causes) -> None:
    """What its ReplicaSet takes the pod's end for; one that was wrong before may stay."""
    given = ((new.get("metadata") or {}).get("annotations") or {}).get(DELETION_COST)
    before = ((old.get("metadata") or {}).get("annotations") or {}).get(DELETION_COST)
    if given is None or given == before:
        return
    if not _NUMBER.fullmatch(given) or not -_INT32 - 1 <= int(given) <= _INT32:
        causes.invalid(f"metadata.annotations[{DELETION_COST}]", given, "must be a 32bit integer")


def _new_spec(spec: Document, causes: Causes) -> None:
    pod_spec(spec, "spec", causes)
    if spec.get("ephemeralContainers"):
        causes.forbidden("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("nodeName") and spec.get("schedulingGates"):
        causes.forbidden(
            "spec.nodeName", "cannot be set until all schedulingGates have been cleared"
        )


def pod_spec(spec: Document, field: str, causes: Causes) -> None:
    """Everything below `spec`, in the order in which upstream checks."""
    known = volumes.volumes(spec.get("volumes") or [], f"{field}.volumes", causes)
    claims = _resource_claims(spec.get("resourceClaims") or [], f"{field}.resourceClaims", causes)
    grace = spec.get("terminationGracePeriodSeconds")
    around = containers.Surroundings(
        volumes=known,
        claims=claims,
        grace=30 if grace is None else grace,
        host_network=bool(spec.get("hostNetwork")),
        restart_policy=spec.get("restartPolicy", ""),
    )
    containers.containers(spec, field, around, causes)
    _policies(spec, field, causes)
    scheduling.node_selector_labels(spec.get("nodeSelector") or {}, f"{field}.nodeSelector", causes)
    if spec.get("hostNetwork"):
        containers.host_network_ports(spec, field, causes)
    security.pod_context(spec, field, causes)
    _placement(spec, field, causes)
    _identity(spec, field, causes)
    _rest(spec, field, causes)


def _resource_claims(found: list[Document], field: str, causes: Causes) -> frozenset[str]:
    seen: set[str] = set()
    for index, claim in enumerate(found):
        name, where = claim.get("name", ""), f"{field}[{index}]"
        if not name:
            causes.required(f"{where}.name")
        elif name in seen:
            causes.duplicate(f"{where}.name", name)
        else:
            causes.invalid_each(f"{where}.name", name, names.dns_label(name))
        seen.add(name)
        direct, template = claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName")
        if direct is not None and template is not None:
            causes.invalid(
                where,
                claim,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            )
        elif direct is None and template is None:
            causes.invalid(
                where,
                claim,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            )
    return frozenset(seen)


def _policies(spec: Document, field: str, causes: Causes) -> None:
    for key, valid in (("restartPolicy", RESTART_POLICIES), ("dnsPolicy", _DNS_POLICIES)):
        value = spec.get(key, "")
        if value:
            causes.one_of(f"{field}.{key}", value, valid)
        else:
            causes.required(f"{field}.{key}")


def _placement(spec: Document, field: str, causes: Causes) -> None:
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            causes.required(f"{field}.imagePullSecrets[{index}].name")
    scheduling.affinity(spec.get("affinity"), f"{field}.affinity", causes)
    _dns_config(spec, field, causes)
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        name = gate.get("conditionType", "")
        where = f"{field}.readinessGates[{index}].conditionType"
        causes.invalid_each(where, name, names.qualified_name(name))
    scheduling.gates(spec.get("schedulingGates") or [], f"{field}.schedulingGates", causes)
    constraints = spec.get("topologySpreadConstraints") or []
    scheduling.spread_constraints(constraints, f"{field}.topologySpreadConstraints", causes)


def _dns_config(spec: Document, field: str, causes: Causes) -> None:
    where, config = f"{field}.dnsConfig", spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            causes.required(where, "must provide `dnsConfig` when `dnsPolicy` is None")
            return
        if not config.get("nameservers"):
            causes.required(
                f"{where}.nameservers",
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            )
    if config is not None:
        _resolver(config, where, causes)


def _resolver(config: Document, where: str, causes: Causes) -> None:
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > _NAMESERVERS_MAX:
        causes.invalid(
            f"{where}.nameservers",
            servers,
            f"must not have more than {_NAMESERVERS_MAX} nameservers",
        )
    for index, server in enumerate(servers):
        ip_address(server, f"{where}.nameservers[{index}]", causes)
    if len(searches) > _SEARCHES_MAX:
        causes.invalid(
            f"{where}.searches", searches, f"must not have more than {_SEARCHES_MAX} search paths"
        )
    if len(" ".join(searches)) > _SEARCH_BYTES_MAX:
        causes.invalid(
            f"{where}.searches",
            searches,
            f"must not have more than {_SEARCH_BYTES_MAX} characters (including spaces) in the search list",
        )
    for index, search in enumerate(searches):
        if search != ".":
            plain = search.removesuffix(".").replace("_", "a")
            causes.invalid_each(f"{where}.searches[{index}]", search, names.dns_subdomain(plain))
    for index, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            causes.required(f"{where}.options[{index}]", "must not be empty")


def ip_address(text: str, field: str, causes: Causes) -> None:
    """An address in the form that Go reads without doubt."""
    if not is_ip(text):
        causes.invalid(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _identity(spec: Document, field: str, causes: Causes) -> None:
    for key in ("serviceAccountName", "nodeName"):
        if name := spec.get(key):
            causes.invalid_each(f"{field}.{key}", name, names.dns_subdomain(name))
    seconds = spec.get("activeDeadlineSeconds")
    if seconds is not None and not 1 <= seconds <= _INT32:
        causes.invalid(
            f"{field}.activeDeadlineSeconds", seconds, f"must be between 1 and {_INT32}, inclusive"
        )
    for key in ("hostname", "subdomain"):
        if name := spec.get(key):
            causes.invalid_each(f"{field}.{key}", name, names.dns_label(name))


def _rest(spec: Document, field: str, causes: Causes) -> None:
    if found := spec.get("tolerations"):
        scheduling.tolerations(found, f"{field}.tolerations", causes)
    for alias in spec.get("hostAliases") or ():
        ip_address(alias.get("ip", ""), f"{field}.hostAliases.ip", causes)
        for name in alias.get("hostnames") or ():
            causes.invalid_each(f"{field}.hostAliases.hostnames", name, names.dns_subdomain(name))
    for key in ("priorityClassName", "runtimeClassName"):
        if name := spec.get(key):
            causes.invalid_each(f"{field}.{key}", name, names.dns_subdomain(name))
    if policy := spec.get("preemptionPolicy"):
        causes.one_of(f"{field}.preemptionPolicy", policy, _PREEMPTION)
    if overhead := spec.get("overhead"):
        resources.amounts(overhead, f"{field}.overhead", causes)
    if (system := spec.get("os")) is not None:
        name = system.get("name", "")
        if not name:
            causes.required(f"{field}.os.name", "cannot be empty")
        else:
            causes.one_of(f"{field}.os.name", name, ("linux", "windows"))
        if name == "windows":
            security.windows_pod(spec, field, causes)

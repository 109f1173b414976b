"""The checks of level baseline: what lets a pod out of its containers. One function a check; None when all is well."""

from typing import Final

from machinery.api.podsecurity.words import (
    Fault,
    containers,
    names,
    ordered,
    quoted,
    security,
    setters,
    several,
)
from machinery.meta.resource import Document

_DEFAULT_CAPABILITIES: Final = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
_SELINUX_TYPES: Final = frozenset(
    {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)
_SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
    }
)  # fmt: skip
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS: Final = ("postStart", "preStop")


def app_armor(metadata: Document, spec: Document) -> Fault | None:
    def unconfined(owner: Document) -> bool:
        return (security(owner).get("appArmorProfile") or {}).get("type") == "Unconfined"

    bad, pod = names(filter(unconfined, containers(spec))), unconfined(spec)
    marks = metadata.get("annotations") or {}
    old = [
        f'annotation {quoted([key])}="{value}"'
        for key, value in sorted(marks.items())
        if key.startswith(_APPARMOR)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    ]
    told = [*old]
    if pod or bad:
        told.insert(0, f'{setters(pod, bad)} must not set AppArmor profile type to "Unconfined"')
    if not told:
        return None
    plural = "s" if len(told) > 1 else ""
    return Fault(f"forbidden AppArmor profile{plural}", ", ".join(told))


def added(spec: Document, allowed: frozenset[str]) -> str:
    """Who adds which capabilities beyond those allowed."""
    bad: list[str] = []
    extra: set[str] = set()
    for one in containers(spec):
        wanted = set((security(one).get("capabilities") or {}).get("add") or ()) - allowed
        if wanted:
            bad.append(one.get("name", ""))
            extra |= wanted
    if not bad:
        return ""
    shown = quoted(ordered(extra))
    return f"{several(bad)} must not include {shown} in securityContext.capabilities.add"


def capabilities(_metadata: Document, spec: Document) -> Fault | None:
    told = added(spec, _DEFAULT_CAPABILITIES)
    return Fault("non-default capabilities", told) if told else None


def host_namespaces(_metadata: Document, spec: Document) -> Fault | None:
    used = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return Fault("host namespaces", ", ".join(used)) if used else None


def host_path(_metadata: Document, spec: Document) -> Fault | None:
    found = [v for v in spec.get("volumes") or () if v.get("hostPath") is not None]
    return Fault("hostPath volumes", several(names(found), "volume")) if found else None


def host_ports(_metadata: Document, spec: Document) -> Fault | None:
    bad: list[str] = []
    ports: set[int] = set()
    for one in containers(spec):
        used = {port["hostPort"] for port in one.get("ports") or () if port.get("hostPort")}
        if used:
            bad.append(one.get("name", ""))
            ports |= used
    if not bad:
        return None
    verb, noun = "uses" if len(bad) == 1 else "use", "hostPort" if len(ports) == 1 else "hostPorts"
    shown = ", ".join(sorted(str(port) for port in ports))
    return Fault("hostPort", f"{several(bad)} {verb} {noun} {shown}")


def probe_hosts(_metadata: Document, spec: Document) -> Fault | None:
    bad: list[str] = []
    hosts: set[str] = set()
    for one in containers(spec):
        hooks = one.get("lifecycle") or {}
        acts = [one.get(key) or {} for key in _PROBES] + [hooks.get(key) or {} for key in _HOOKS]
        found = {
            host
            for act in acts
            for key in ("httpGet", "tcpSocket")
            if (host := (act.get(key) or {}).get("host"))
        }
        if found:
            bad.append(one.get("name", ""))
            hosts |= found
    if not bad:
        return None
    verb, noun = "uses" if len(bad) == 1 else "use", "host" if len(hosts) == 1 else "hosts"
    return Fault(
        "probe or lifecycle host",
        f"{several(bad)} {verb} probe or lifecycle {noun} {quoted(ordered(hosts))}",
    )


def privileged(_metadata: Document, spec: Document) -> Fault | None:
    bad = names(one for one in containers(spec) if security(one).get("privileged"))
    if not bad:
        return None
    return Fault("privileged", f"{several(bad)} must not set securityContext.privileged=true")


def proc_mount(_metadata: Document, spec: Document) -> Fault | None:
    bad: list[str] = []
    kinds: set[str] = set()
    for one in containers(spec):
        kind = security(one).get("procMount")
        if kind not in (None, "Default"):
            bad.append(one.get("name", ""))
            kinds.add(str(kind))
    if not bad:
        return None
    shown = quoted(ordered(kinds))
    return Fault("procMount", f"{several(bad)} must not set securityContext.procMount to {shown}")


def se_linux(_metadata: Document, spec: Document) -> Fault | None:
    kinds: set[str] = set()
    parts: set[str] = set()

    def is_bad(owner: Document) -> bool:
        options = security(owner).get("seLinuxOptions") or {}
        wrong = options.get("type", "") not in _SELINUX_TYPES
        if wrong:
            kinds.add(options["type"])
        given = {key for key in ("user", "role") if options.get(key)}
        parts.update(given)
        return wrong or bool(given)

    pod = is_bad(spec)
    bad = names([one for one in containers(spec) if is_bad(one)])
    if not pod and not bad:
        return None
    told = [f"{'type' if len(kinds) == 1 else 'types'} {quoted(ordered(kinds))}"] if kinds else []
    told += [f"{part} may not be set" for part in ("user", "role") if part in parts]
    where = f"{setters(pod, bad)} set forbidden securityContext.seLinuxOptions"
    return Fault("seLinuxOptions", f"{where}: {'; '.join(told)}")


def unconfined_seccomp(spec: Document) -> str:
    """Who says that system calls are not filtered."""

    def is_bad(owner: Document) -> bool:
        return (security(owner).get("seccompProfile") or {}).get("type") == "Unconfined"

    pod, bad = is_bad(spec), names(filter(is_bad, containers(spec)))
    if not pod and not bad:
        return ""
    return f'{setters(pod, bad)} must not set securityContext.seccompProfile.type to "Unconfined"'


def seccomp(_metadata: Document, spec: Document) -> Fault | None:
    told = unconfined_seccomp(spec)
    return Fault("seccompProfile", told) if told else None


def sysctls(_metadata: Document, spec: Document) -> Fault | None:
    used = [one.get("name", "") for one in security(spec).get("sysctls") or ()]
    bad = [name for name in used if name not in _SYSCTLS]
    return Fault("forbidden sysctls", ", ".join(bad)) if bad else None


def host_process(_metadata: Document, spec: Document) -> Fault | None:
    def is_bad(owner: Document) -> bool:
        return bool((security(owner).get("windowsOptions") or {}).get("hostProcess"))

    pod, bad = is_bad(spec), names(filter(is_bad, containers(spec)))
    if not pod and not bad:
        return None
    told = f"{setters(pod, bad)} must not set securityContext.windowsOptions.hostProcess=true"
    return Fault("hostProcess", told)

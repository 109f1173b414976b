"""The checks of level restricted, which go beyond those of baseline or take their place."""

from typing import Any, Final

from machinery.api.podsecurity.baseline import added, unconfined_seccomp
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

_VOLUMES: Final = frozenset(
    {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim",
        "projected", "secret",
    }
)  # fmt: skip
_ALLOWED: Final = frozenset({"NET_BIND_SERVICE"})
_FILTERED: Final = ("RuntimeDefault", "Localhost")


def _is_windows(spec: Document) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def escalation(_metadata: Document, spec: Document) -> Fault | None:
    if _is_windows(spec):
        return None
    bad = names(
        one
        for one in containers(spec)
        if security(one).get("allowPrivilegeEscalation") is not False
    )
    if not bad:
        return None
    told = f"{several(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Fault("allowPrivilegeEscalation != false", told)


def capabilities(_metadata: Document, spec: Document) -> Fault | None:
    if _is_windows(spec):
        return None
    keeps = names(
        one
        for one in containers(spec)
        if "ALL" not in ((security(one).get("capabilities") or {}).get("drop") or ())
    )
    told = []
    if keeps:
        told.append(f'{several(keeps)} must set securityContext.capabilities.drop=["ALL"]')
    if more := added(spec, _ALLOWED):
        told.append(more)
    return Fault("unrestricted capabilities", "; ".join(told)) if told else None


def volumes(_metadata: Document, spec: Document) -> Fault | None:
    bad: list[str] = []
    kinds: set[str] = set()
    for volume in spec.get("volumes") or ():
        found = {key for key, value in volume.items() if key != "name" and value is not None}
        if found - _VOLUMES:
            bad.append(volume.get("name", ""))
            kinds |= found - _VOLUMES
    if not bad:
        return None
    verb, noun = "uses" if len(bad) == 1 else "use", "type" if len(kinds) == 1 else "types"
    where = f"{several(bad, 'volume')} {verb} restricted volume {noun}"
    return Fault("restricted volume types", f"{where} {quoted(ordered(kinds))}")


def non_root(_metadata: Document, spec: Document) -> Fault | None:
    whole = security(spec).get("runAsNonRoot")
    pod = whole is False
    bad: list[str] = []
    silent: list[str] = []
    for one in containers(spec):
        said = security(one).get("runAsNonRoot")
        if said is False:
            bad.append(one.get("name", ""))
        elif said is None and not whole:
            silent.append(one.get("name", ""))
    told = ""
    if bad or (pod and silent):
        told = f"{setters(pod, bad)} must not set securityContext.runAsNonRoot=false"
    elif silent:
        told = f"pod or {several(silent)} must set securityContext.runAsNonRoot=true"
    return Fault("runAsNonRoot != true", told) if told else None


def user(_metadata: Document, spec: Document) -> Fault | None:
    def is_root(owner: Document) -> bool:
        return bool(security(owner).get("runAsUser", 1) == 0)

    pod, bad = is_root(spec), names(filter(is_root, containers(spec)))
    if not pod and not bad:
        return None
    return Fault("runAsUser=0", f"{setters(pod, bad)} must not set runAsUser=0")


def seccomp(_metadata: Document, spec: Document) -> Fault | None:
    if _is_windows(spec):
        return None
    if told := unconfined_seccomp(spec):
        return Fault("seccompProfile", told)

    def said(owner: Document) -> Any:
        return (security(owner).get("seccompProfile") or {}).get("type")

    if said(spec) in _FILTERED:
        return None
    silent = names(one for one in containers(spec) if said(one) not in _FILTERED)
    if not silent:
        return None
    where = f"pod or {several(silent)} must set securityContext.seccompProfile.type"
    return Fault("seccompProfile", f'{where} to "RuntimeDefault" or "Localhost"')

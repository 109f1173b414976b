"""Security contexts of pods and containers."""

from typing import Any, Final

from machinery.api.validation.causes import Causes
from machinery.meta.resource import Document

_ID_MAX: Final = 2**31 - 1
_ID_RANGE: Final = "must be between 0 and 2147483647, inclusive"
_SECCOMP: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_GROUP_CHANGE: Final = ("Always", "OnRootMismatch")
_SUPPLEMENTAL: Final = ("Merge", "Strict")
_LINUX_ONLY: Final = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy",
    "sysctls", "shareProcessNamespace", "runAsUser", "runAsGroup", "supplementalGroups",
    "supplementalGroupsPolicy",
)  # fmt: skip


def _identity(value: Any, field: str, causes: Causes) -> None:
    if value is not None and not 0 <= value <= _ID_MAX:
        causes.invalid(field, value, _ID_RANGE)


def pod_context(spec: Document, field: str, causes: Causes) -> None:
    """The pod's context, with the host namespaces that internally belong to it."""
    context, where = spec.get("securityContext") or {}, f"{field}.securityContext"
    if not context and not spec.get("shareProcessNamespace"):
        return
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        _identity(context.get(key), f"{where}.{key}", causes)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        _identity(group, f"{where}.supplementalGroups[{index}]", causes)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        causes.invalid(
            f"{where}.shareProcessNamespace",
            True,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        )
    if sysctls := context.get("sysctls"):
        _sysctls(sysctls, f"{where}.sysctls", causes)
    if (policy := context.get("fsGroupChangePolicy")) is not None:
        causes.one_of(f"{where}.fsGroupChangePolicy", policy, _GROUP_CHANGE)
    _profiles(context, where, causes)
    if (policy := context.get("supplementalGroupsPolicy")) is not None:
        causes.one_of(f"{where}.supplementalGroupsPolicy", policy, _SUPPLEMENTAL)


def _sysctls(found: list[Document], field: str, causes: Causes) -> None:
    seen: set[str] = set()
    for index, sysctl in enumerate(found):
        name = sysctl.get("name", "")
        if not name:
            causes.required(f"{field}[{index}].name")
        elif name in seen:
            causes.duplicate(f"{field}[{index}].name", name)
        seen.add(name)


def _profiles(context: Document, field: str, causes: Causes) -> None:
    if (profile := context.get("seccompProfile")) is not None:
        _profile(profile, f"{field}.seccompProfile", "seccomp", _SECCOMP, causes)
    if (profile := context.get("appArmorProfile")) is not None:
        _profile(profile, f"{field}.appArmorProfile", "AppArmor", _SECCOMP, causes)


def _profile(
    profile: Document, field: str, name: str, valid: tuple[str, ...], causes: Causes
) -> None:
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    if not kind:
        causes.required(
            f"{field}.type",
            "type is required when seccompProfile is set"
            if name == "seccomp"
            else "type is required when appArmorProfile is set",
        )
        return
    causes.one_of(f"{field}.type", kind, valid)
    if kind == "Localhost":
        if not local:
            causes.required(
                f"{field}.localhostProfile", f"must be set when {name} type is Localhost"
            )
        elif local.startswith("/") or ".." in local.split("/"):
            detail = "must be a relative path" if local.startswith("/") else "must not contain '..'"
            causes.invalid(f"{field}.localhostProfile", local, detail)
    elif local is not None:
        causes.invalid(
            f"{field}.localhostProfile", local, f"can only be set when {name} type is Localhost"
        )


def container_context(context: Document, field: str, causes: Causes) -> None:
    for key in ("runAsUser", "runAsGroup"):
        _identity(context.get(key), f"{field}.{key}", causes)
    if (mount := context.get("procMount")) is not None:
        causes.one_of(f"{field}.procMount", mount, ("Default", "Unmasked"))
    _profiles(context, field, causes)
    if context.get("allowPrivilegeEscalation") is not False:
        return
    if context.get("privileged"):
        causes.invalid(
            field,
            context,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        )
    added = (context.get("capabilities") or {}).get("add") or ()
    if "CAP_SYS_ADMIN" in added:
        causes.invalid(
            field,
            context,
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        )


def windows_pod(spec: Document, field: str, causes: Causes) -> None:
    """A Windows pod cannot carry Linux' settings."""
    for key in ("hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"):
        if spec.get(key):
            causes.forbidden(f"{field}.{key}", "cannot be set for a windows pod")
    context = spec.get("securityContext") or {}
    for key in _LINUX_ONLY:
        if context.get(key) is not None:
            causes.forbidden(f"{field}.securityContext.{key}", "cannot be set for a windows pod")

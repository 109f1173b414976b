"""Volumes of a pod and the places where containers mount them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from machinery.api.validation.causes import Causes
from machinery.api.validation.fieldpaths import field_ref, resource_field_ref
from machinery.meta import names, quantity
from machinery.meta.resource import Document

VOLUME_FIELDS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_HOST_PATH_TYPES: Final = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate",
    "Socket",
)  # fmt: skip
_MODE: Final = "must be a number between 0 and 0777 (octal), both inclusive"
_PROPAGATION: Final = ("Bidirectional", "HostToContainer", "None")
_READ_ONLY: Final = ("Disabled", "Enabled", "IfPossible")


def volumes(found: list[Document], field: str, causes: Causes) -> Mapping[str, Document]:
    """Checks all, and returns those with a usable name."""
    good: dict[str, Document] = {}
    for index, volume in enumerate(found):
        where, name = f"{field}[{index}]", volume.get("name", "")
        before = len(causes)
        _source(volume, where, causes)
        if not name:
            causes.required(f"{where}.name")
        else:
            causes.invalid_each(f"{where}.name", name, names.dns_label(name))
        if name in good:
            causes.duplicate(f"{where}.name", name)
        if len(causes) == before or name and name not in good:
            good[name] = volume
    return good


def _source(volume: Document, field: str, causes: Causes) -> None:
    found = [key for key, source in volume.items() if key != "name" and source is not None]
    if len(found) > 1:
        found.sort(key=lambda key: (_RANK.get(key, len(_RANK)), key))
    if not found:
        causes.required(field, "must specify a volume type")
        return
    for index, key in enumerate(found):
        if index:
            causes.forbidden(f"{field}.{key}", "may not specify more than 1 volume type")
        elif key in _CHECKS:
            _CHECKS[key](volume[key], f"{field}.{key}", causes)


def _empty_dir(source: Document, field: str, causes: Causes) -> None:
    size = source.get("sizeLimit")
    if size is not None and quantity.quantity_of(size).value < 0:
        causes.forbidden(f"{field}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _host_path(source: Document, field: str, causes: Causes) -> None:
    path = source.get("path", "")
    if not path:
        causes.required(f"{field}.path")
        return
    _no_backsteps(path, f"{field}.path", causes)
    causes.one_of(f"{field}.type", source.get("type") or "", _HOST_PATH_TYPES)


def _no_backsteps(path: str, field: str, causes: Causes) -> None:
    if ".." in path.split("/"):
        causes.invalid(field, path, "must not contain '..'")


def _local_path(path: str, field: str, causes: Causes) -> None:
    """A relative path that stays below its root."""
    if path.startswith("/"):
        causes.invalid(field, path, "must be a relative path")
    _no_backsteps(path, field, causes)


def _local_non_reserved(path: str, field: str, causes: Causes) -> None:
    _local_path(path, field, causes)
    if path.startswith("..") and not path.startswith("../"):
        causes.invalid(field, path, "must not start with '..'")


def _mode(source: Document, key: str, field: str, causes: Causes) -> None:
    mode = source.get(key)
    if mode is not None and not 0 <= mode <= 0o777:
        causes.invalid(f"{field}.{key}", mode, _MODE)


def _items(source: Document, field: str, causes: Causes) -> None:
    for index, item in enumerate(source.get("items") or ()):
        where = f"{field}.items[{index}]"
        if not item.get("key"):
            causes.required(f"{where}.key")
        if not item.get("path"):
            causes.required(f"{where}.path")
        _local_non_reserved(item.get("path", ""), f"{where}.path", causes)
        _mode(item, "mode", where, causes)


def _config_map(source: Document, field: str, causes: Causes) -> None:
    if not source.get("name"):
        causes.required(f"{field}.name")
    _mode(source, "defaultMode", field, causes)
    _items(source, field, causes)


def _secret(source: Document, field: str, causes: Causes) -> None:
    if not source.get("secretName"):
        causes.required(f"{field}.secretName")
    _mode(source, "defaultMode", field, causes)
    _items(source, field, causes)


def _downward(source: Document, field: str, causes: Causes) -> None:
    _mode(source, "defaultMode", field, causes)
    _downward_items(source.get("items") or (), field, causes)


def _downward_items(items: Any, field: str, causes: Causes) -> None:
    """Upstream names the source, not the item, in these complaints."""
    for item in items:
        where, path = field, item.get("path", "")
        if not path:
            causes.required(f"{where}.path")
        _local_non_reserved(path, f"{where}.path", causes)
        fields, amounts = item.get("fieldRef"), item.get("resourceFieldRef")
        if fields is not None:
            field_ref(fields, f"{where}.fieldRef", causes, VOLUME_FIELDS)
            if amounts is not None:
                causes.invalid(
                    where,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                )
        elif amounts is not None:
            resource_field_ref(amounts, f"{where}.resourceFieldRef", causes, in_volume=True)
        else:
            causes.required(where, "one of fieldRef and resourceFieldRef is required")
        _mode(item, "mode", where, causes)


def _projected(source: Document, field: str, causes: Causes) -> None:
    _mode(source, "defaultMode", field, causes)
    paths: set[str] = set()
    for index, projection in enumerate(source.get("sources") or ()):
        where = f"{field}.sources[{index}]"
        kinds = [key for key in _PROJECTIONS if projection.get(key) is not None]
        for number, key in enumerate(kinds):
            if number:
                causes.forbidden(f"{where}.{key}", "may not specify more than 1 volume type")
            else:
                _projection(key, projection[key], f"{where}.{key}", paths, causes)


def _projection(key: str, source: Document, field: str, paths: set[str], causes: Causes) -> None:
    if key in ("secret", "configMap"):
        if not source.get("name"):
            causes.required(f"{field}.name")
        _items(source, field, causes)
    elif key == "downwardAPI":
        _downward_items(source.get("items") or (), field, causes)
    elif key == "serviceAccountToken":
        _token(source, field, causes)
    for path in _paths_of(key, source):
        if path and path in paths:
            causes.invalid(f"{field}.path", path, "conflicting duplicate paths")
        paths.add(path)


def _paths_of(key: str, source: Document) -> list[str]:
    if key in ("serviceAccountToken", "clusterTrustBundle"):
        return [source.get("path", "")]
    return [item.get("path", "") for item in source.get("items") or ()]


def _token(source: Document, field: str, causes: Causes) -> None:
    seconds, path = source.get("expirationSeconds", 0), source.get("path", "")
    if seconds < 600:
        causes.invalid(
            f"{field}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"
        )
    if seconds > 1 << 32:
        causes.invalid(
            f"{field}.expirationSeconds",
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        )
    if not path:
        causes.required(f"{field}.path")
        return
    _local_non_reserved(path, f"{field}.path", causes)


def _claim(source: Document, field: str, causes: Causes) -> None:
    if not source.get("claimName"):
        causes.required(f"{field}.claimName")


def _nfs(source: Document, field: str, causes: Causes) -> None:
    if not source.get("server"):
        causes.required(f"{field}.server")
    path = source.get("path", "")
    if not path:
        causes.required(f"{field}.path")
    elif not path.startswith("/"):
        causes.invalid(f"{field}.path", path, "must be an absolute path")


def _csi(source: Document, field: str, causes: Causes) -> None:
    if not source.get("driver"):
        causes.required(f"{field}.driver")


def _image(source: Document, field: str, causes: Causes) -> None:
    if not source.get("reference"):
        causes.required(f"{field}.reference")
    causes.one_of(
        f"{field}.pullPolicy", source.get("pullPolicy", ""), ("Always", "IfNotPresent", "Never")
    )


def _stored(source: Document, field: str, causes: Causes) -> None:
    """Sources that are kept and never mounted here: nothing to check."""


_CHECKS: Final[Mapping[str, Callable[[Document, str, Causes], None]]] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "secret": _secret,
    "nfs": _nfs,
    "persistentVolumeClaim": _claim,
    "configMap": _config_map,
    "downwardAPI": _downward,
    "projected": _projected,
    "csi": _csi,
    "ephemeral": _stored,
    "image": _image,
}
_RANK: Final = {key: rank for rank, key in enumerate(_CHECKS)}
_PROJECTIONS: Final = (
    "secret", "downwardAPI", "configMap", "serviceAccountToken", "clusterTrustBundle",
    "podCertificate",
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- mounts
def mounts(container: Document, known: Mapping[str, Document], field: str, causes: Causes) -> None:
    """`volumeMounts` of a container."""
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        where = f"{field}[{index}]"
        name, path = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            causes.required(f"{where}.name")
        elif name not in known:
            causes.not_found(f"{where}.name", name)
        if not path:
            causes.required(f"{where}.mountPath")
        if path in paths:
            causes.invalid(f"{where}.mountPath", path, "must be unique")
        paths.add(path)
        _mount_options(mount, container, where, causes)


def _mount_options(mount: Document, container: Document, field: str, causes: Causes) -> None:
    sub, expression = mount.get("subPath", ""), mount.get("subPathExpr", "")
    if sub:
        _local_path(sub, f"{field}.subPath", causes)
    if expression:
        if sub:
            causes.invalid(
                f"{field}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive"
            )
        _local_path(expression, f"{field}.subPathExpr", causes)
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        causes.one_of(f"{field}.mountPropagation", propagation, _PROPAGATION)
        privileged = (container.get("securityContext") or {}).get("privileged")
        if propagation == "Bidirectional" and not privileged:
            causes.forbidden(
                f"{field}.mountPropagation",
                "Bidirectional mount propagation is available only to privileged containers",
            )
    if (recursive := mount.get("recursiveReadOnly")) is not None:
        causes.one_of(f"{field}.recursiveReadOnly", recursive, _READ_ONLY)
        if recursive != "Disabled" and not mount.get("readOnly"):
            causes.forbidden(
                f"{field}.recursiveReadOnly", "may only be specified when readOnly is true"
            )

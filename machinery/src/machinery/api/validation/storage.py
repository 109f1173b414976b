"""StorageClasses, the kinds of CSI, VolumeAttachments and VolumeAttributesClasses."""

from collections.abc import Mapping
from typing import Any, Final

from machinery.api.validation import pv
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE
from machinery.api.validation.resources import NOT_NEGATIVE
from machinery.api.validation.selectors import label_selector
from machinery.meta import names, quantity
from machinery.meta.resource import Document

PARAMETERS_MAX: Final = 512
PARAMETERS_BYTES_MAX: Final = 256 * 1024
DRIVER_NAME_MAX: Final = 63
NODE_ID_MAX: Final = 192
_POLICIES: Final = ("Delete", "Retain")
_BINDING_MODES: Final = ("Immediate", "WaitForFirstConsumer")
_GROUP_POLICIES: Final = ("File", "None", "ReadWriteOnceWithFSType")
_LIFECYCLES: Final = ("Ephemeral", "Persistent")
_TOKEN_SECONDS_MIN: Final = 600
_UPDATE_PERIOD_MIN: Final = 10
_ONE_SOURCE: Final = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


def _immutable(new: Document, old: Document, field: str, causes: Causes) -> None:
    """`field` is a path; its last step is compared in both."""
    key = field.rpartition(".")[2]
    if new.get(key) != old.get(key):
        causes.invalid(field, new.get(key), IMMUTABLE)


# -------------------------------------------------------------------------------------------------------------- classes
def storage_class(document: Document, causes: Causes) -> None:
    _provisioner(document.get("provisioner", ""), "provisioner", causes)
    _parameters(document.get("parameters") or {}, causes)
    if policy := document.get("reclaimPolicy"):
        causes.one_of("reclaimPolicy", policy, _POLICIES)
    mode = document.get("volumeBindingMode")
    if mode is None:
        causes.required("volumeBindingMode")
    else:
        causes.one_of("volumeBindingMode", mode, _BINDING_MODES)
    _topologies(document.get("allowedTopologies") or [], causes)


def storage_class_update(new: Document, old: Document, causes: Causes) -> None:
    for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
        _immutable(new, old, field, causes)


def attributes_class(document: Document, causes: Causes) -> None:
    _provisioner(document.get("driverName", ""), "driverName", causes)
    parameters = document.get("parameters") or {}
    _parameters(parameters, causes)
    if not parameters:
        causes.required("parameters", "must contain at least one key/value pair")


def attributes_class_update(new: Document, old: Document, causes: Causes) -> None:
    for field in ("driverName", "parameters"):
        _immutable(new, old, field, causes)


def _provisioner(name: str, field: str, causes: Causes) -> None:
    if not name:
        causes.required(field)
    else:
        causes.invalid_each(field, name, names.qualified_name(name.lower()))


def _parameters(found: Mapping[str, Any], causes: Causes) -> None:
    if len(found) > PARAMETERS_MAX:
        causes.too_long("parameters", PARAMETERS_MAX)
        return
    for key in found:
        if not key:
            causes.invalid("parameters", key, "field can not be empty.")
    if (
        sum(len(key.encode()) + len(str(v).encode()) for key, v in found.items())
        > PARAMETERS_BYTES_MAX
    ):
        causes.too_long("parameters", PARAMETERS_BYTES_MAX)


def _topologies(terms: list[Document], causes: Causes) -> None:
    seen: list[Document] = []
    for index, term in enumerate(terms):
        where = f"allowedTopologies[{index}]"
        pairs: dict[str, frozenset[str]] = {}
        rows = term.get("matchLabelExpressions") or []
        for number, row in enumerate(rows):
            _topology_row(row, f"{where}.matchLabelExpressions[{number}]", pairs, causes)
        if not rows:
            causes.required(f"{where}.matchLabelExpressions")
        if pairs in seen:
            causes.duplicate(f"{where}.matchLabelExpressions", "")
        seen.append(pairs)


def _topology_row(
    row: Document, where: str, pairs: dict[str, frozenset[str]], causes: Causes
) -> None:
    key, values = row.get("key", ""), row.get("values") or []
    if not values:
        causes.required(f"{where}.values")
    for index, value in enumerate(values):
        if value in values[:index]:
            causes.duplicate(f"{where}.values[{index}]", value)
    causes.invalid_each(f"{where}.key", key, names.qualified_name(key))
    if key in pairs:
        causes.duplicate(f"{where}.key", key)
    pairs[key] = frozenset(values)


# ------------------------------------------------------------------------------------------------------------------ CSI
def driver_name(name: str, field: str, causes: Causes) -> None:
    """The name of a CSI driver."""
    if not name:
        causes.required(field)
        return
    if len(name) > DRIVER_NAME_MAX:
        causes.too_long(field, DRIVER_NAME_MAX)
    causes.invalid_each(field, name, names.dns_subdomain(name.lower()))


def csi_driver(document: Document, causes: Causes) -> None:
    driver_name((document.get("metadata") or {}).get("name", ""), "metadata.name", causes)
    spec = document.get("spec") or {}
    _tokens(spec.get("tokenRequests") or [], causes)
    if policy := spec.get("fsGroupPolicy"):
        causes.one_of("spec.fsGroupPolicy", policy, _GROUP_POLICIES)
    for mode in spec.get("volumeLifecycleModes") or ():
        causes.one_of("spec.volumeLifecycleModes", mode, _LIFECYCLES)
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < _UPDATE_PERIOD_MIN:
        causes.invalid(
            "spec.nodeAllocatableUpdatePeriodSeconds",
            period,
            f"must be greater than or equal to {_UPDATE_PERIOD_MIN} seconds",
        )


def csi_driver_update(new: Document, old: Document, causes: Causes) -> None:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    for key in ("attachRequired", "volumeLifecycleModes"):
        _immutable(after, before, f"spec.{key}", causes)


def _tokens(found: list[Document], causes: Causes) -> None:
    seen: set[str] = set()
    for index, one in enumerate(found):
        where, audience = f"spec.tokenRequests[{index}]", one.get("audience", "")
        if audience in seen:
            causes.duplicate(f"{where}.audience", audience)
            continue
        seen.add(audience)
        seconds = one.get("expirationSeconds")
        if seconds is None:
            continue
        if seconds < _TOKEN_SECONDS_MIN:
            causes.invalid(
                f"{where}.expirationSeconds", seconds,
                "may not specify a duration less than 10 minutes",
            )  # fmt: skip
        elif seconds > 1 << 32:
            causes.invalid(
                f"{where}.expirationSeconds", seconds,
                "may not specify a duration larger than 2^32 seconds",
            )  # fmt: skip


def csi_node(document: Document, causes: Causes) -> None:
    seen: set[str] = set()
    for index, driver in enumerate((document.get("spec") or {}).get("drivers") or ()):
        where = f"spec.drivers[{index}]"
        name = driver.get("name", "")
        driver_name(name, f"{where}.name", causes)
        if not (node_id := driver.get("nodeID", "")):
            causes.required(f"{where}.nodeID")
        elif len(node_id) > NODE_ID_MAX:
            causes.invalid(f"{where}.nodeID", node_id, f"must be {NODE_ID_MAX} characters or less")
        count = (driver.get("allocatable") or {}).get("count")
        if count is not None and count < 0:
            causes.invalid(f"{where}.allocatable.count", count, NOT_NEGATIVE)
        if name in seen:
            causes.duplicate(f"{where}.name", name)
        seen.add(name)
        keys = driver.get("topologyKeys") or []
        for number, key in enumerate(keys):
            if not key:
                causes.required(f"{where}.topologyKeys")
            if key in keys[:number]:
                causes.duplicate(f"{where}.topologyKeys", key)
            causes.invalid_each(f"{where}.topologyKeys", key, names.qualified_name(key))


def csi_node_update(new: Document, old: Document, causes: Causes) -> None:
    """A driver's entry may come and go; of one that stays only the count of volumes may change."""
    held = {one.get("name"): one for one in (old.get("spec") or {}).get("drivers") or ()}
    for driver in (new.get("spec") or {}).get("drivers") or ():
        before = held.get(driver.get("name"))
        if before is None:
            continue
        pair = [{k: v for k, v in one.items() if k != "allocatable"} for one in (driver, before)]
        if pair[0] != pair[1]:
            causes.invalid("CSINodeDrivers", driver, IMMUTABLE)


def storage_capacity(document: Document, causes: Causes) -> None:
    name = document.get("storageClassName", "")
    causes.invalid_each("storageClassName", name, names.dns_subdomain(name))
    label_selector(document.get("nodeTopology"), "nodeTopology", causes)
    for key in ("capacity", "maximumVolumeSize"):
        amount = document.get(key)
        if amount is not None and quantity.quantity_of(amount).value < 0:
            causes.invalid(key, quantity.canonical_of(amount), NOT_NEGATIVE)


def storage_capacity_update(new: Document, old: Document, causes: Causes) -> None:
    for field in ("nodeTopology", "storageClassName"):
        _immutable(new, old, field, causes)


# ---------------------------------------------------------------------------------------------------- VolumeAttachments
def volume_attachment(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    driver_name(spec.get("attacher", ""), "spec.attacher", causes)
    source = spec.get("source") or {}
    inline, volume = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if inline is None and volume is None:
        causes.required("spec.source", _ONE_SOURCE)
    elif inline is not None and volume is not None:
        causes.forbidden("spec.source", _ONE_SOURCE)
    elif volume == "":
        causes.required(
            "spec.source.persistentVolumeName", "must specify non empty persistentVolumeName"
        )
    elif inline is not None:
        pv.inline(inline, "spec.source.inlineVolumeSpec", causes)
    node = spec.get("nodeName", "")
    causes.invalid_each("spec.nodeName", node, names.dns_subdomain(node))


def volume_attachment_update(new: Document, old: Document, causes: Causes) -> None:
    _immutable(new, old, "spec", causes)

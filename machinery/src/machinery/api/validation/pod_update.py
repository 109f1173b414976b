"""What may change in a pod that exists: the few fields of the main endpoint, and those of its subresources."""

from typing import Final

from machinery.api.qos import qos_class
from machinery.api.validation import internal
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE
from machinery.api.validation.pod import deletion_cost, is_ip, pod_spec
from machinery.meta.resource import Document

_ALLOWED: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_IP: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def validate_update(new: Document, old: Document, causes: Causes) -> None:
    """The main endpoint."""
    deletion_cost(new, old, causes)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if after == before:
        return
    pod_spec(after, "spec", causes)
    if _count_differs(after, before, causes):
        return
    _deadline(after, before, causes)
    _tolerations(after, before, causes)
    _gates(after, before, causes)
    if causes:
        return
    masked = _masked(after, before)
    if masked != before:
        causes.forbidden("spec", _ALLOWED + "\n" + internal.spec_diff(masked, before))


def _count_differs(after: Document, before: Document, causes: Causes) -> bool:
    """Without as many containers as before, nothing else is worth comparing."""
    found = False
    for key, name in (("containers", "containers"), ("initContainers", "initContainers")):
        if len(after.get(key) or ()) != len(before.get(key) or ()):
            what = "containers" if key == "containers" else "initContainers"
            causes.forbidden(f"spec.{name}", f"pod updates may not add or remove {what}")
            found = True
    return found


def _deadline(after: Document, before: Document, causes: Causes) -> None:
    new, old = after.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    field = "spec.activeDeadlineSeconds"
    if new is not None and old is not None and new > old:
        causes.invalid(field, new, "must be less than or equal to previous value")
    elif new is None and old is not None:
        causes.invalid(field, None, "must not update from a positive integer to nil value")


def _tolerations(after: Document, before: Document, causes: Causes) -> None:
    new, old = after.get("tolerations") or [], before.get("tolerations") or []
    without = [_timeless(one) for one in new]
    for toleration in old:
        if toleration not in new and _timeless(toleration) not in without:
            causes.forbidden(
                "spec.tolerations",
                "existing toleration can not be modified except its tolerationSeconds",
            )
            return


def _timeless(toleration: Document) -> Document:
    return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}


def _gates(after: Document, before: Document, causes: Causes) -> None:
    known = {gate.get("name") for gate in before.get("schedulingGates") or ()}
    for index, gate in enumerate(after.get("schedulingGates") or ()):
        name = gate.get("name", "")
        if name not in known:
            causes.forbidden(
                f"spec.schedulingGates[{index}].name",
                f"only deletion is allowed, but found new scheduling gate '{name}'",
            )


def _masked(after: Document, before: Document) -> Document:
    """The new spec with everything that may change put back to what it was."""
    masked = dict(after)
    for key in ("containers", "initContainers"):
        if key in after and key in before:
            masked[key] = [
                {**new, "image": old.get("image", "")}
                for new, old in zip(after[key], before[key], strict=True)
            ]
    grace = before.get("terminationGracePeriodSeconds")
    keep = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if grace is not None and grace < 0 and after.get("terminationGracePeriodSeconds") == 1:
        keep.append("terminationGracePeriodSeconds")
    for key in keep:
        masked.pop(key, None)
        if key in before:
            masked[key] = before[key]
    if before.get("schedulingGates"):
        _gated(masked, after, before)
    return masked


def _gated(masked: Document, after: Document, before: Document) -> None:
    """While gated, a pod's node selector may still be narrowed."""
    new, old = after.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if all(new.get(key) == value for key, value in old.items()):
        masked.pop("nodeSelector", None)
        if "nodeSelector" in before:
            masked["nodeSelector"] = before["nodeSelector"]


# -------------------------------------------------------------------------------------------------------- subresources
def validate_status(new: Document, old: Document, causes: Causes) -> None:
    status, before = new.get("status") or {}, old.get("status") or {}
    if (quality := status.get("qosClass")) != before.get("qosClass") and before.get("qosClass"):
        causes.invalid("status.qosClass", quality, IMMUTABLE)
    ips = [one.get("ip", "") for one in status.get("podIPs") or ()] or (
        [status["podIP"]] if status.get("podIP") else []
    )
    for index, address in enumerate(ips):
        if not is_ip(address):
            causes.invalid(f"status.podIPs[{index}]", address, _IP)
    if len(set(ips)) != len(ips):
        for index, address in enumerate(ips):
            if address in ips[:index]:
                causes.duplicate(f"status.podIPs[{index}]", {"IP": address})


def validate_ephemeral(new: Document, old: Document, causes: Causes) -> None:
    """Ephemeral containers are only ever added."""
    field = "spec.ephemeralContainers"
    pod_spec(new.get("spec") or {}, "spec", causes)
    found = {c.get("name"): c for c in (new.get("spec") or {}).get("ephemeralContainers") or ()}
    for before in (old.get("spec") or {}).get("ephemeralContainers") or ():
        name = before.get("name")
        after = found.get(name)
        if after is None:
            causes.forbidden(field, f'existing ephemeral containers "{name}" may not be removed\n')
        elif after != before:
            diff = internal.container_diff(after, before)
            causes.forbidden(
                field, f'existing ephemeral containers "{name}" may not be changed\n{diff}'
            )


def validate_resize(new: Document, old: Document, causes: Causes) -> None:
    """Resources of a running pod, within its quality-of-service class."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if _resize_count_differs(after, before, causes):
        return
    pod_spec(after, "spec", causes)
    quality = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if qos_class(after) != quality:
        causes.invalid("spec", quality, "Pod QOS Class may not change as a result of resizing")


def _resize_count_differs(after: Document, before: Document, causes: Causes) -> bool:
    if len(after.get("containers") or ()) == len(before.get("containers") or ()):
        return False
    causes.forbidden("spec.containers", "resource resize may not add or remove containers")
    return True

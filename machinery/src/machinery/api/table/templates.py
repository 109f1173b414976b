"""The row printers of the kinds that the federation serves as templates."""

import datetime as dt
from typing import Any, Final

from machinery.api import autoscaling_v1
from machinery.api.table.cells import (
    AGE,
    NAME,
    NONE,
    UNSET,
    Printer,
    TableColumn,
    access_modes,
    age_of,
    human_duration,
    joined,
    name_of,
    parse,
    selector_text,
    since,
)
from machinery.meta.resource import Document

_CORE: Final = "=io.k8s.api.core.v1."
_APPS: Final = "=io.k8s.api.apps.v1."
_BATCH: Final = "=io.k8s.api.batch.v1."
_SCALING: Final = "=io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"
_NETWORK: Final = "=io.k8s.api.networking.v1."
_SHOWN_METRICS: Final = 2
_SHOWN_ADDRESS: Final = 16


def _spec(document: Document) -> Document:
    return document.get("spec") or {}


def _status(document: Document) -> Document:
    return document.get("status") or {}


def _containers(spec: Document) -> list[Document]:
    found: list[Document] = ((spec.get("template") or {}).get("spec") or {}).get("containers") or []
    return found


def _images(containers: list[Document]) -> list[str]:
    return [joined(containers, "name"), joined(containers, "image")]


def _wide(selector: str = "") -> tuple[TableColumn, ...]:
    names = TableColumn("Containers", "Names of each container in the template.", priority=1)
    images = TableColumn(
        "Images", "Images referenced by each container in the template.", priority=1
    )
    chosen = (TableColumn("Selector", selector, priority=1),) if selector else ()
    return (names, images, *chosen)


# ----------------------------------------------------------------------------------------------------------- workloads
def _stateful_set(document: Document, now: dt.datetime) -> list[Any]:
    spec = _spec(document)
    ready = _status(document).get("readyReplicas", 0)
    return [
        name_of(document),
        f"{ready}/{spec.get('replicas') or 0}",
        age_of(document, now),
        *_images(_containers(spec)),
    ]


def _daemon_set(document: Document, now: dt.datetime) -> list[Any]:
    spec, status = _spec(document), _status(document)
    node = ((spec.get("template") or {}).get("spec") or {}).get("nodeSelector") or {}
    counts = (
        "desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled",
        "numberAvailable",
    )  # fmt: skip
    return [
        name_of(document),
        *(status.get(name, 0) for name in counts),
        ",".join(f"{key}={value}" for key, value in sorted(node.items())) or NONE,
        age_of(document, now),
        *_images(_containers(spec)),
        selector_text(spec.get("selector")),
    ]


def _job(document: Document, now: dt.datetime) -> list[Any]:
    spec, status = _spec(document), _status(document)
    completions, parallel = spec.get("completions"), spec.get("parallelism") or 0
    wanted = str(completions)
    if completions is None:
        wanted = f"1 of {parallel}" if parallel > 1 else "1"
    return [
        name_of(document),
        _job_state(document),
        f"{status.get('succeeded', 0)}/{wanted}",
        _duration(status, now),
        age_of(document, now),
        *_images(_containers(spec)),
        selector_text(spec.get("selector")),
    ]


def _job_state(document: Document) -> str:
    status = _status(document)
    true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    for kind, shown in (
        ("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"), ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):  # fmt: skip
        if kind in true:
            return shown
    if (document.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    return "Running"


def _duration(status: Document, now: dt.datetime) -> str:
    began = parse(status.get("startTime") or "")
    if began is None:
        return ""
    ended = parse(status.get("completionTime") or "") or now
    return human_duration((ended - began).total_seconds())


def _cron_job(document: Document, now: dt.datetime) -> list[Any]:
    spec, status = _spec(document), _status(document)
    last = status.get("lastScheduleTime")
    inner = (spec.get("jobTemplate") or {}).get("spec") or {}
    selector = inner.get("selector")
    return [
        name_of(document),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or ()),
        since(last, now) if last else NONE,
        age_of(document, now),
        *_images(_containers(inner)),
        selector_text(selector) if selector else NONE,
    ]


# ------------------------------------------------------------------------------------------------------------- scaling
def _autoscaler(document: Document, now: dt.datetime) -> list[Any]:
    if document.get("apiVersion") == autoscaling_v1.OLD_API:
        document = autoscaling_v1.to_v2(document)
    spec, status = _spec(document), _status(document)
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name_of(document),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        _metrics(spec.get("metrics") or [], status.get("currentMetrics") or []),
        UNSET if least is None else str(least),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age_of(document, now),
    ]


def _metrics(wanted: list[Document], current: list[Document]) -> str:
    if not wanted:
        return NONE
    found = [
        _metric(one, current[index] if index < len(current) else {})
        for index, one in enumerate(wanted)
    ]
    if len(found) > _SHOWN_METRICS:
        rest = len(found) - _SHOWN_METRICS
        return ", ".join(found[:_SHOWN_METRICS]) + f" + {rest} more..."
    return ", ".join(found)


def _metric(wanted: Document, current: Document) -> str:
    kind = wanted.get("type", "")
    key = kind[:1].lower() + kind[1:]
    source, held = wanted.get(key) or {}, (current.get(key) or {}).get("current") or {}
    target = source.get("target") or {}
    if kind in ("Resource", "ContainerResource"):
        label = f"{source.get('name', '')}: "
        if target.get("averageValue") is not None:
            return f"{label}{held.get('averageValue', '<unknown>')}/{target['averageValue']}"
        share = held.get("averageUtilization")
        shown = "<unknown>" if share is None else f"{share}%"
        goal = target.get("averageUtilization")
        return f"{label}{shown}/{'<auto>' if goal is None else f'{goal}%'}"
    if kind == "Pods":
        return f"{held.get('averageValue', '<unknown>')}/{target.get('averageValue', '')}"
    if target.get("averageValue") is not None:
        return f"{held.get('averageValue', '<unknown>')}/{target['averageValue']} (avg)"
    return f"{held.get('value', '<unknown>')}/{target.get('value', '')}"


def _ip_address(document: Document, now: dt.datetime) -> list[Any]:
    parent = _spec(document).get("parentRef")
    shown = NONE
    if parent:
        group, resource = parent.get("group", ""), parent.get("resource", "")
        parts = [f"{resource}.{group}" if group else resource, parent.get("namespace")]
        shown = "/".join(part for part in (*parts, parent.get("name", "")) if part is not None)
    return [name_of(document), shown, age_of(document, now)]


def _service_cidr(document: Document, now: dt.datetime) -> list[Any]:
    cidrs = _spec(document).get("cidrs") or ()
    return [name_of(document), ",".join(cidrs) or NONE, age_of(document, now)]


def _budget(document: Document, now: dt.datetime) -> list[Any]:
    spec = _spec(document)
    least, away = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        name_of(document),
        "N/A" if least is None else str(least),
        "N/A" if away is None else str(away),
        _status(document).get("disruptionsAllowed", 0),
        age_of(document, now),
    ]


# ------------------------------------------------------------------------------------------------- network and storage
def _ingress(document: Document, now: dt.datetime) -> list[Any]:
    spec = _spec(document)
    hosts = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
    shown = ",".join(hosts[:3]) + (f" + {len(hosts) - 3} more..." if len(hosts) > 3 else "")
    points = (_status(document).get("loadBalancer") or {}).get("ingress") or ()
    return [
        name_of(document),
        spec.get("ingressClassName") or NONE,
        shown or "*",
        ",".join(point.get("ip") or point.get("hostname", "") for point in points),
        "80, 443" if spec.get("tls") else "80",
        age_of(document, now),
    ]


def _network_policy(document: Document, now: dt.datetime) -> list[Any]:
    return [
        name_of(document),
        selector_text(_spec(document).get("podSelector")) or NONE,
        age_of(document, now),
    ]


def _volume_claim(document: Document, now: dt.datetime) -> list[Any]:
    spec, status = _spec(document), _status(document)
    going = (document.get("metadata") or {}).get("deletionTimestamp")
    bound = bool(spec.get("volumeName"))
    modes = status.get("accessModes") or ()
    return [
        name_of(document),
        "Terminating" if going else status.get("phase", ""),
        spec.get("volumeName", ""),
        str((status.get("capacity") or {}).get("storage", "")) if bound else "",
        access_modes(modes) if bound else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        age_of(document, now),
        spec.get("volumeMode") or UNSET,
    ]


def _printers() -> dict[tuple[str, str], Printer]:
    daemon, job = f"{_APPS}DaemonSet", f"{_BATCH}Job"
    counts = (
        ("Desired", "desiredNumberScheduled"), ("Current", "currentNumberScheduled"),
        ("Ready", "numberReady"), ("Up-to-date", "updatedNumberScheduled"),
        ("Available", "numberAvailable"),
    )  # fmt: skip
    return {
        ("apps", "StatefulSet"): Printer(
            (NAME, TableColumn("Ready", "Number of the pod with ready state"), AGE, *_wide()),
            _stateful_set,
        ),
        ("apps", "DaemonSet"): Printer(
            (
                NAME,
                *(TableColumn(n, f"{daemon}Status/{f}", type="integer") for n, f in counts),
                TableColumn("Node Selector", f"{_CORE}PodSpec/nodeSelector"),
                AGE,
                *_wide(f"{daemon}Spec/selector"),
            ),
            _daemon_set,
        ),
        ("batch", "Job"): Printer(
            (
                NAME,
                TableColumn("Status", "Status of the job."),
                TableColumn("Completions", f"{job}Status/succeeded"),
                TableColumn("Duration", "Time required to complete the job."),
                AGE,
                *_wide(f"{job}Spec/selector"),
            ),
            _job,
        ),
        ("batch", "CronJob"): Printer(_cron_columns(), _cron_job),
    } | _other_printers()


def _cron_columns() -> tuple[TableColumn, ...]:
    cron = f"{_BATCH}CronJob"
    return (
        NAME,
        TableColumn("Schedule", f"{cron}Spec/schedule"),
        TableColumn("Timezone", f"{cron}Spec/timeZone"),
        TableColumn("Suspend", f"{cron}Spec/suspend", type="boolean"),
        TableColumn("Active", f"{cron}Status/active", type="integer"),
        TableColumn("Last Schedule", f"{cron}Status/lastScheduleTime"),
        AGE,
        *_wide(f"{_BATCH}JobSpec/selector"),
    )


def _address_printers() -> dict[tuple[str, str], Printer]:
    return {
        ("networking.k8s.io", "IPAddress"): Printer(
            (NAME, TableColumn("ParentRef", f"{_NETWORK}IPAddressSpec/parentRef"), AGE),
            _ip_address,
        ),
        ("networking.k8s.io", "ServiceCIDR"): Printer(
            (NAME, TableColumn("CIDRs", f"{_NETWORK}ServiceCIDRSpec/cidrs"), AGE),
            _service_cidr,
        ),
    }


def _other_printers() -> dict[tuple[str, str], Printer]:
    claim = f"{_CORE}PersistentVolumeClaim"
    return {
        ("autoscaling", "HorizontalPodAutoscaler"): Printer(
            (
                NAME,
                TableColumn("Reference", f"{_SCALING}Spec/scaleTargetRef"),
                TableColumn("Targets", f"{_SCALING}Spec/metrics"),
                TableColumn("MinPods", f"{_SCALING}Spec/minReplicas"),
                TableColumn("MaxPods", f"{_SCALING}Spec/maxReplicas"),
                TableColumn("Replicas", f"{_SCALING}Status/currentReplicas"),
                AGE,
            ),
            _autoscaler,
        ),
        ("policy", "PodDisruptionBudget"): Printer(
            (
                NAME,
                TableColumn("Min Available", "The minimum number of pods that must be available."),
                TableColumn(
                    "Max Unavailable", "The maximum number of pods that may be unavailable."
                ),
                TableColumn(
                    "Allowed Disruptions",
                    "Calculated number of pods that may be disrupted at this time.",
                    type="integer",
                ),
                AGE,
            ),
            _budget,
        ),
        ("networking.k8s.io", "Ingress"): Printer(
            (
                NAME,
                TableColumn(
                    "Class",
                    "The name of the IngressClass resource that should be used for additional configuration",
                ),
                TableColumn(
                    "Hosts",
                    "Hosts that incoming requests are matched against before the ingress rule",
                ),
                TableColumn(
                    "Address", "Address is a list containing ingress points for the load-balancer"
                ),
                TableColumn("Ports", "Ports of TLS configurations that open"),
                AGE,
            ),
            _ingress,
        ),
        ("networking.k8s.io", "NetworkPolicy"): Printer(
            (NAME, TableColumn("Pod-Selector", f"{_NETWORK}NetworkPolicySpec/podSelector"), AGE),
            _network_policy,
        ),
        ("", "PersistentVolumeClaim"): Printer(
            (
                NAME,
                TableColumn("Status", f"{claim}Status/phase"),
                TableColumn("Volume", f"{claim}Spec/volumeName"),
                TableColumn("Capacity", f"{claim}Status/capacity"),
                TableColumn("Access Modes", f"{claim}Status/accessModes"),
                TableColumn("StorageClass", "StorageClass of the pvc"),
                TableColumn("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
                AGE,
                TableColumn("VolumeMode", f"{claim}Spec/volumeMode", priority=1),
            ),
            _volume_claim,
        ),
    }


PRINTERS: Final = _printers() | _address_printers()

"""Defaults inside a pod's spec, the same in a Pod and in a template; `of_pod` marks the few that only a Pod itself gets.

This runs for every pod that is created: plain dict work, a new dict only where something is filled in.
"""

from functools import lru_cache
from typing import Any, Final

from machinery.meta.resource import Document

_SPEC: Final[tuple[tuple[str, Any], ...]] = (
    ("restartPolicy", "Always"),
    ("terminationGracePeriodSeconds", 30),
    ("dnsPolicy", "ClusterFirst"),
    ("schedulerName", "default-scheduler"),
)
_PROBE: Final[Document] = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
FILE_MODE: Final = 0o644
TOKEN_SECONDS: Final = 3600


def pod_spec(spec: Document, *, of_pod: bool) -> Document:
    """The spec with its defaults."""
    out = dict(spec)
    for key in ("initContainers", "containers", "ephemeralContainers"):
        if found := spec.get(key):
            out[key] = [_container(one, of_pod=of_pod) for one in found]
    for key, value in _SPEC:
        if not out.get(key) and out.get(key) != 0:
            out[key] = value
    if out.get("securityContext") is None:
        out["securityContext"] = {}
    if of_pod and out.get("enableServiceLinks") is None:
        out["enableServiceLinks"] = True
    if of_pod and out["terminationGracePeriodSeconds"] < 0:
        out["terminationGracePeriodSeconds"] = 1
    if of_pod and out.get("hostNetwork"):
        _host_ports(out)
    _service_account(out)
    if volumes := spec.get("volumes"):
        out["volumes"] = [_volume(one) for one in volumes]
    return out


def _service_account(out: Document) -> None:
    """`serviceAccount` is the deprecated twin of `serviceAccountName`; both are always written."""
    name = out.get("serviceAccountName") or out.get("serviceAccount")
    if name:
        out["serviceAccountName"] = out["serviceAccount"] = name


def _host_ports(out: Document) -> None:
    for key in ("containers", "initContainers"):
        if key in out:
            out[key] = [_with_host_ports(one) for one in out[key]]


def _with_host_ports(container: Document) -> Document:
    if not (ports := container.get("ports")):
        return container
    filled = [
        port if port.get("hostPort") else {**port, "hostPort": port.get("containerPort", 0)}
        for port in ports
    ]
    return {**container, "ports": filled}


# ---------------------------------------------------------------------------------------------------------- container
def _container(container: Document, *, of_pod: bool) -> Document:
    out = {
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        **container,
    }
    if not out.get("imagePullPolicy"):
        out["imagePullPolicy"] = pull_policy(out.get("image") or "")
    if ports := container.get("ports"):
        out["ports"] = [_port(one) for one in ports]
    if variables := container.get("env"):
        out["env"] = [_variable(one) for one in variables]
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (probe := container.get(key)) is not None:
            out[key] = _handler({**_PROBE, **probe})
    if lifecycle := container.get("lifecycle"):
        out["lifecycle"] = {
            key: _handler(one) if isinstance(one, dict) else one for key, one in lifecycle.items()
        }
    if of_pod and (limits := out["resources"].get("limits")):
        requests = out["resources"].get("requests") or {}
        out["resources"] = {**out["resources"], "requests": {**limits, **requests}}
    return out


@lru_cache(maxsize=1024)
def pull_policy(image: str) -> str:
    """Always for `:latest` and for no tag at all; a digest or another tag is fetched only when missing."""
    if not image:
        return "IfNotPresent"
    plain, at, _ = image.partition("@")
    tag = plain.rsplit("/", 1)[-1].partition(":")[2]
    if at:
        return "Always" if tag == "latest" else "IfNotPresent"
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _port(port: Document) -> Document:
    return port if port.get("protocol") else {**port, "protocol": "TCP"}


def _variable(variable: Document) -> Document:
    source = variable.get("valueFrom")
    if not source:
        return variable
    return {**variable, "valueFrom": _field_sources(source)}


def _field_sources(source: Document) -> Document:
    """`fieldRef` and `resourceFieldRef`, as environment variables and downward API files have them."""
    out = source
    if (field := source.get("fieldRef")) is not None and not field.get("apiVersion"):
        out = {**out, "fieldRef": {**field, "apiVersion": "v1"}}
    if (amount := source.get("resourceFieldRef")) is not None and "divisor" not in amount:
        out = {**out, "resourceFieldRef": {**amount, "divisor": "0"}}
    return out


def _handler(handler: Document) -> Document:
    out = handler
    if (get := handler.get("httpGet")) is not None:
        filled = {"path": "/", "scheme": "HTTP"} | {k: v for k, v in get.items() if v != ""}
        out = {**out, "httpGet": filled}
    if (grpc := handler.get("grpc")) is not None and grpc.get("service") is None:
        out = {**out, "grpc": {**grpc, "service": ""}}
    return out


# ------------------------------------------------------------------------------------------------------------- volumes
def _volume(volume: Document) -> Document:
    if len(volume) < 2:
        return {**volume, "emptyDir": {}}
    for key in ("configMap", "secret", "downwardAPI", "projected"):
        source = volume.get(key)
        if source is not None:
            filled = {**source}
            if filled.get("defaultMode") is None:
                filled["defaultMode"] = FILE_MODE
            if key == "downwardAPI" and source.get("items"):
                filled["items"] = [_field_sources(one) for one in source["items"]]
            if key == "projected":
                filled["sources"] = [
                    _projection(one) for one in source.get("sources") or ()
                ] or None
            return {**volume, key: filled}
    if (path := volume.get("hostPath")) is not None and path.get("type") is None:
        return {**volume, "hostPath": {**path, "type": ""}}
    if (image := volume.get("image")) is not None and not image.get("pullPolicy"):
        policy = pull_policy(image.get("reference") or "")
        return {**volume, "image": {**image, "pullPolicy": policy}}
    return _storage(volume)


def _projection(source: Document) -> Document:
    if (token := source.get("serviceAccountToken")) is not None:
        if token.get("expirationSeconds") is None:
            token = {**token, "expirationSeconds": TOKEN_SECONDS}
        return {**source, "serviceAccountToken": token}
    if (fields := source.get("downwardAPI")) is not None and fields.get("items"):
        items = [_field_sources(one) for one in fields["items"]]
        return {**source, "downwardAPI": {**fields, "items": items}}
    return source


def _storage(volume: Document) -> Document:
    """Sources that nothing mounts here and that the API still stores: claims made for the pod, and iSCSI."""
    if (claim := volume.get("ephemeral")) is not None and (
        template := claim.get("volumeClaimTemplate")
    ):
        spec = {"volumeMode": "Filesystem", **(template.get("spec") or {})}
        filled = {"metadata": {}, **template, "spec": spec}
        return {**volume, "ephemeral": {**claim, "volumeClaimTemplate": filled}}
    if (iscsi := volume.get("iscsi")) is not None and not iscsi.get("iscsiInterface"):
        return {**volume, "iscsi": {**iscsi, "iscsiInterface": "default"}}
    return volume

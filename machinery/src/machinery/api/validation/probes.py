"""Probes and lifecycle handlers: what the kubelet runs against a container."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from machinery.api.validation.causes import Causes
from machinery.meta import names
from machinery.meta.resource import Document

_PORT_RANGE: Final = "must be between 1 and 65535, inclusive"
_SECONDS: Final = (
    "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold",
    "failureThreshold",
)  # fmt: skip


def probes(container: Document, field: str, causes: Causes) -> None:
    """The three probes of a container."""
    if (probe := container.get("livenessProbe")) is not None:
        _probe(probe, f"{field}.livenessProbe", causes)
        _only_one_success(probe, f"{field}.livenessProbe", causes)
    if (probe := container.get("readinessProbe")) is not None:
        where = f"{field}.readinessProbe"
        _probe(probe, where, causes)
        if (grace := probe.get("terminationGracePeriodSeconds")) is not None:
            causes.invalid(
                f"{where}.terminationGracePeriodSeconds",
                grace,
                "must not be set for readinessProbes",
            )
    if (probe := container.get("startupProbe")) is not None:
        _probe(probe, f"{field}.startupProbe", causes)
        _only_one_success(probe, f"{field}.startupProbe", causes)


def _only_one_success(probe: Document, field: str, causes: Causes) -> None:
    if (threshold := probe.get("successThreshold", 1)) != 1:
        causes.invalid(f"{field}.successThreshold", threshold, "must be 1")


def _probe(probe: Document, field: str, causes: Causes) -> None:
    handler(probe, field, causes)
    for key in _SECONDS:
        causes.not_negative(f"{field}.{key}", probe.get(key))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        causes.invalid(f"{field}.terminationGracePeriodSeconds", grace, "must be greater than 0")


def lifecycle(found: Document, grace: int, field: str, causes: Causes) -> None:
    """postStart and preStop."""
    for key in ("postStart", "preStop"):
        if (hook := found.get(key)) is not None:
            handler(hook, f"{field}.{key}", causes, grace=grace)


def handler(found: Document, field: str, causes: Causes, *, grace: int | None = None) -> None:
    """Exactly one action."""
    count = 0
    for key, check in _ACTIONS.items():
        if (action := found.get(key)) is None:
            continue
        if count:
            causes.forbidden(f"{field}.{key}", "may not specify more than 1 handler type")
        elif check is not None:
            check(action, f"{field}.{key}", causes)
        else:
            _sleep(action, f"{field}.{key}", grace, causes)
        count += 1
    if not count:
        causes.required(field, "must specify a handler type")


def _exec(action: Document, field: str, causes: Causes) -> None:
    if not action.get("command"):
        causes.required(f"{field}.command")


def _http(action: Document, field: str, causes: Causes) -> None:
    if not action.get("path"):
        causes.required(f"{field}.path")
    port(action.get("port", 0), f"{field}.port", causes)
    causes.one_of(f"{field}.scheme", action.get("scheme", ""), ("HTTP", "HTTPS"))
    for header in action.get("httpHeaders") or ():
        name = header.get("name", "")
        if not name or not all(c.isalnum() and c.isascii() or c == "-" for c in name):
            causes.invalid(
                f"{field}.httpHeaders",
                name,
                "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', "
                "regex used for validation is '[-A-Za-z0-9]+')",
            )


def port(value: Any, field: str, causes: Causes) -> None:
    """A port by number or by name."""
    complaints = names.port_number(value) if isinstance(value, int) else names.port_name(value)
    causes.invalid_each(field, value, complaints)


def _tcp(action: Document, field: str, causes: Causes) -> None:
    port(action.get("port", 0), f"{field}.port", causes)


def _grpc(action: Document, field: str, causes: Causes) -> None:
    port(action.get("port", 0), f"{field}.port", causes)


def _sleep(action: Document, field: str, grace: int | None, causes: Causes) -> None:
    seconds = action.get("seconds", 0)
    if grace is not None and not 0 <= seconds <= grace:
        causes.invalid(
            field,
            seconds,
            f"must be non-negative and less than terminationGracePeriodSeconds ({grace})",
        )


_ACTIONS: Final[Mapping[str, Callable[[Document, str, Causes], None] | None]] = {
    "exec": _exec,
    "httpGet": _http,
    "tcpSocket": _tcp,
    "grpc": _grpc,
    "sleep": None,
}

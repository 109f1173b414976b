"""Formats of texts and numbers in schemas."""

import base64
import binascii
import datetime as dt
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from machinery.kit.clock import parse_time
from machinery.meta import names

_GO_DURATION: Final = re.compile(r"[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h|d|w))+", re.I)  # fmt: skip
_UUID: Final = re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_UUIDS: Final = {
    "uuid3": re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}"),
    "uuid4": re.compile(
        r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}"
    ),
    "uuid5": re.compile(
        r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}"
    ),
}
_EMAIL: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+")
_HOST: Final = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_MAC: Final = re.compile(r"(?i)[0-9a-f]{2}([:-][0-9a-f]{2}){5}([:-][0-9a-f]{2}){0,2}")


def _date_time(value: str) -> bool:
    try:
        parse_time(value)
    except ValueError:
        return False
    return True


def _date(value: str) -> bool:
    try:
        dt.date.fromisoformat(value)
    except ValueError:
        return False
    return len(value) == 10


def _address(version: int) -> Callable[[str], bool]:
    def fits(value: str) -> bool:
        try:
            return ipaddress.ip_address(value).version == version
        except ValueError:
            return False

    return fits


def _cidr(value: str) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return "/" in value


def _uri(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path)) or value.startswith("/")


def _bytes(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _whole(pattern: "re.Pattern[str]") -> Callable[[str], bool]:
    return lambda value: pattern.fullmatch(value) is not None


FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "datetime": _date_time,
    "date": _date,
    "duration": _whole(_GO_DURATION),
    "ipv4": _address(4),
    "ipv6": _address(6),
    "cidr": _cidr,
    "mac": _whole(_MAC),
    "email": _whole(_EMAIL),
    "hostname": _whole(_HOST),
    "uri": _uri,
    "byte": _bytes,
    "uuid": _whole(_UUID),
    **{name: _whole(pattern) for name, pattern in _UUIDS.items()},
    "k8sshortname": lambda value: not names.dns_label(value),
    "k8slongname": lambda value: not names.dns_subdomain(value),
}
"""By name without dashes. Others (password, isbn, creditcard, ssn, colours, unknown ones) accept everything."""

IN_RANGE: Final[Mapping[str, Callable[[float], bool]]] = {
    "int32": lambda value: float(value).is_integer() and -(2**31) <= value < 2**31,
    "int64": lambda value: float(value).is_integer() and -(2**63) <= value < 2**63,
}

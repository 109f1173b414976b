"""What a name may look like: DNS labels, subdomains, qualified names, label values; upstream's rules and upstream's words.

Each check returns the complaints, empty when the text is fine, so that callers put them behind their own field path.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Final

LABEL_MAX: Final = 63
SUBDOMAIN_MAX: Final = 253

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_NAME_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_NAME_PART})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"

_IS_LABEL = re.compile(_LABEL)
_IS_LABEL_1035 = re.compile(_LABEL_1035)
_IS_SUBDOMAIN = re.compile(_SUBDOMAIN)
_IS_NAME_PART = re.compile(_NAME_PART)
_IS_VALUE = re.compile(_VALUE)
_IS_CONFIG_KEY = re.compile(_CONFIG_KEY)
_IS_PORT_NAME = re.compile("[-a-z0-9]+")
_HAS_LETTER = re.compile("[a-z]")
_IS_ENVIRONMENT = re.compile("[ -<>-~]+")
_IS_PERCENT = re.compile("[0-9]+%")

LABEL_MESSAGE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    f"alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
LABEL_1035_MESSAGE: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end "
    f"with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '{_LABEL_1035}')"
)
SUBDOMAIN_MESSAGE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    f"with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
NAME_PART_MESSAGE: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_NAME_PART}')"
)
VALUE_MESSAGE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)
CONFIG_KEY_MESSAGE: Final = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    f"'key-name', regex used for validation is '{_CONFIG_KEY}')"
)
PERCENT_MESSAGE: Final = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)


def too_long(limit: int) -> str:
    return f"must be no more than {limit} characters"


def too_many_bytes(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def is_dns_label(text: str) -> bool:
    """`dns_label` without complaints, and without a memory: for names that nobody asks about twice, as pods' are."""
    return len(text) <= LABEL_MAX and _IS_LABEL.fullmatch(text) is not None


@lru_cache(maxsize=8192)
def dns_label(text: str) -> tuple[str, ...]:
    """RFC 1123 label: namespaces, containers, volumes."""
    found = () if len(text.encode()) <= LABEL_MAX else (too_long(LABEL_MAX),)
    if _IS_LABEL.fullmatch(text):
        return found
    return (*found, "must not contain dots" if _IS_SUBDOMAIN.fullmatch(text) else LABEL_MESSAGE)


@lru_cache(maxsize=8192)
def dns_1035_label(text: str) -> tuple[str, ...]:
    """RFC 1035 label: starts with a letter."""
    found = () if len(text.encode()) <= LABEL_MAX else (too_long(LABEL_MAX),)
    return found if _IS_LABEL_1035.fullmatch(text) else (*found, LABEL_1035_MESSAGE)


@lru_cache(maxsize=8192)
def dns_subdomain(text: str) -> tuple[str, ...]:
    """RFC 1123 subdomain: the name of most objects."""
    found = () if len(text.encode()) <= SUBDOMAIN_MAX else (too_long(SUBDOMAIN_MAX),)
    return found if _IS_SUBDOMAIN.fullmatch(text) else (*found, SUBDOMAIN_MESSAGE)


def ip_address(text: str) -> tuple[str, ...]:
    """The name of an IPAddress."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return (f'ParseAddr("{text}"): unable to parse IP',)
    return () if str(found) == text else ("must be a canonical format IP address",)


def path_segment(text: str) -> list[str]:
    """What RBAC names may be: anything that stays one segment of a URL."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{bad}'" for bad in ("/", "%") if bad in text]


@lru_cache(maxsize=8192)
def qualified_name(text: str) -> tuple[str, ...]:
    """`prefix/name`: label and annotation keys, resource names, taint keys."""
    prefix, slash, name = text.rpartition("/")
    if text.count("/") > 1:
        return (
            f"a qualified name {NAME_PART_MESSAGE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        )
    found: list[str] = []
    if slash and not prefix:
        found.append("prefix part must be non-empty")
    elif slash:
        found += [f"prefix part {complaint}" for complaint in dns_subdomain(prefix)]
    if not name:
        found.append("name part must be non-empty")
    elif len(name.encode()) > LABEL_MAX:
        found.append("name part " + too_many_bytes(LABEL_MAX))
    if not _IS_NAME_PART.fullmatch(name):
        found.append("name part " + NAME_PART_MESSAGE)
    return tuple(found)


@lru_cache(maxsize=8192)
def label_value(text: str) -> tuple[str, ...]:
    found = () if len(text.encode()) <= LABEL_MAX else (too_many_bytes(LABEL_MAX),)
    return found if _IS_VALUE.fullmatch(text) else (*found, VALUE_MESSAGE)


def config_key(text: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    found = [] if len(text.encode()) <= SUBDOMAIN_MAX else [too_long(SUBDOMAIN_MAX)]
    if not _IS_CONFIG_KEY.fullmatch(text):
        found.append(CONFIG_KEY_MESSAGE)
    if text in (".", ".."):
        found.append(f"must not be '{text}'")
    elif text.startswith(".."):
        found.append("must not start with '..'")
    return found


def environment_name(text: str) -> list[str]:
    """The name of an environment variable, as relaxed since 1.34."""
    if not text:
        return ["environment variable name must not be empty"]
    if not _IS_ENVIRONMENT.fullmatch(text):
        return [
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
        ]
    return []


def port_name(text: str) -> list[str]:
    """IANA service name."""
    found: list[str] = []
    if len(text) > 15:
        found.append(too_long(15))
    if not _IS_PORT_NAME.fullmatch(text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _HAS_LETTER.search(text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return found


def port_number(number: int) -> list[str]:
    return [] if 1 <= number <= 65535 else ["must be between 1 and 65535, inclusive"]


def percent(text: str) -> list[str]:
    return [] if _IS_PERCENT.fullmatch(text) else [PERCENT_MESSAGE]


def fully_qualified_domain(text: str) -> list[str]:
    """A domain of at least two labels (ends of resource and signer names)."""
    if not text:
        return ["must not be empty"]
    if complaints := dns_subdomain(text):
        return list(complaints)
    return (
        [] if "." in text else ["should be a domain with at least two segments separated by dots"]
    )

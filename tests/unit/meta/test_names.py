"""Names: what is fine, and what is complained of."""

import pytest

from machinery.meta import names

FINE = [
    (names.dns_label, "a"), (names.dns_label, "a-1"), (names.dns_label, "0"), (names.dns_label, "a" * 63),
    (names.dns_1035_label, "a1"), (names.dns_subdomain, "a.b-c.1"), (names.dns_subdomain, "a" * 253),
    (names.qualified_name, "a"), (names.qualified_name, "example.com/A_b.c"), (names.label_value, ""),
    (names.label_value, "A_b.c-1"), (names.config_key, "..a"[2:]), (names.config_key, ".dockerconfigjson"),
    (names.environment_name, "a b"), (names.port_name, "http-1"), (names.percent, "25%"),
    (names.path_segment, "system:node"), (names.fully_qualified_domain, "example.com"),
]  # fmt: skip
WRONG = [
    (names.dns_label, "", "a lowercase RFC 1123 label"),
    (names.dns_label, "A", "a lowercase RFC 1123 label"),
    (names.dns_label, "a.b", "must not contain dots"),
    (names.dns_label, "a" * 64, "must be no more than 63 characters"),
    (names.dns_1035_label, "1a", "a DNS-1035 label"),
    (names.dns_subdomain, "a..b", "a lowercase RFC 1123 subdomain"),
    (names.dns_subdomain, "a" * 254, "must be no more than 253 characters"),
    (names.qualified_name, "", "name part must be non-empty"),
    (names.qualified_name, "/a", "prefix part must be non-empty"),
    (names.qualified_name, "A_/a", "prefix part a lowercase RFC 1123 subdomain"),
    (names.qualified_name, "a/b/c", "a qualified name must consist of"),
    (names.qualified_name, "x" * 64, "name part must be no more than 63 bytes"),
    (names.label_value, "-a", "a valid label must be an empty string"),
    (names.config_key, "a/b", "a valid config key"),
    (names.config_key, "..", "must not be '..'"),
    (names.config_key, "..a", "must not start with '..'"),
    (names.environment_name, "", "must not be empty"),
    (names.environment_name, "a=b", "printable ASCII"),
    (names.port_name, "-", "must contain at least one letter"),
    (names.port_name, "a--b", "must not contain consecutive hyphens"),
    (names.port_name, "a" * 16, "must be no more than 15 characters"),
    (names.percent, "25", "a valid percent string"),
    (names.path_segment, "a/b", "may not contain '/'"),
    (names.path_segment, "..", "may not be '..'"),
    (names.fully_qualified_domain, "local", "at least two segments"),
]


@pytest.mark.parametrize(("check", "text"), FINE)
def test_fine(check: object, text: str) -> None:
    assert callable(check)
    assert not check(text)


@pytest.mark.parametrize(("check", "text", "complaint"), WRONG)
def test_complaints(check: object, text: str, complaint: str) -> None:
    assert callable(check)
    assert any(complaint in one for one in check(text))


@pytest.mark.parametrize(("number", "fine"), [(0, False), (1, True), (65535, True), (65536, False)])
def test_port_numbers(number: int, fine: bool) -> None:
    assert (not names.port_number(number)) is fine

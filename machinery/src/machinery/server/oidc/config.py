"""The file of `authenticationConfig`: an AuthenticationConfiguration of apiserver.config.k8s.io (KEP-3331), read and judged.

All of `jwt` is there: several issuers, a discovery URL and a CA of their own, audiences, mappings of claims by name or in CEL, rules
on claims and on the user that comes of them. `anonymous` may only be off, since nobody is anonymous here; `egressSelectorType` may
only be absent, since there are no egress selectors.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import yaml
from cryptography import x509

GROUP: Final = "apiserver.config.k8s.io"
VERSIONS: Final = tuple(f"{GROUP}/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
KIND: Final = "AuthenticationConfiguration"
ISSUERS_MAX: Final = 64
RESERVED_DOMAINS: Final = ("kubernetes.io", "k8s.io")


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose tokens, and meant for whom."""

    url: str = ""
    discoveryURL: str = ""  # noqa: N815 - the file's names
    certificateAuthority: str = ""  # noqa: N815
    """PEM; empty: the machine's CAs."""
    audiences: tuple[str, ...] = ()
    audienceMatchPolicy: str = ""  # noqa: N815
    egressSelectorType: str = ""  # noqa: N815


class ClaimRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A claim that must have a value, or an expression on `claims` that must be true."""

    claim: str = ""
    requiredValue: str = ""  # noqa: N815
    expression: str = ""
    message: str = ""


class PrefixedClaim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A claim behind a prefix, or an expression on `claims`."""

    claim: str = ""
    prefix: str | None = None
    expression: str = ""


class PlainClaim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A claim, or an expression on `claims`."""

    claim: str = ""
    expression: str = ""


class Extra(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key of the user's extra."""

    key: str = ""
    valueExpression: str = ""  # noqa: N815


class Mappings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What of the claims becomes the user."""

    username: PrefixedClaim = PrefixedClaim()
    groups: PrefixedClaim = PrefixedClaim()
    uid: PlainClaim = PlainClaim()
    extra: tuple[Extra, ...] = ()


class UserRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An expression on `user` that must be true."""

    expression: str = ""
    message: str = ""


class JWTAuthenticator(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One issuer, and how its tokens are read."""

    issuer: Issuer
    claimValidationRules: tuple[ClaimRule, ...] = ()  # noqa: N815
    claimMappings: Mappings = Mappings()  # noqa: N815
    userValidationRules: tuple[UserRule, ...] = ()  # noqa: N815


class _Anonymous(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    enabled: bool = False
    conditions: tuple[dict[str, Any], ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    apiVersion: str = ""  # noqa: N815
    kind: str = ""
    jwt: tuple[JWTAuthenticator, ...] = ()
    anonymous: _Anonymous | None = None


class ConfigError(ValueError):
    """The file cannot be believed in; the text says why, a fault a line."""


def load(path: str) -> tuple[JWTAuthenticator, ...]:
    """The issuers of a file. Raises ConfigError."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    try:
        return parse(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse(text: bytes) -> tuple[JWTAuthenticator, ...]:
    """The issuers of YAML or JSON. Raises ConfigError."""
    try:
        found = msgspec.convert(yaml.safe_load(text), type=_File)
    except yaml.YAMLError as error:
        raise ConfigError(f"no YAML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from None
    if faults := list(_faults(found)):
        raise ConfigError("\n".join(faults))
    return found.jwt


# ---------------------------------------------------------------------------------------------------------- judging
def _faults(file: _File) -> Iterator[str]:
    if file.apiVersion not in VERSIONS or file.kind != KIND:
        yield f"apiVersion, kind: expected one of {', '.join(VERSIONS)} and {KIND}, not {file.apiVersion!r} and {file.kind!r}"
    if file.anonymous is not None and file.anonymous.enabled:
        yield "anonymous.enabled: Unsupported value: true: nobody is anonymous here; health checks need no identity"
    if len(file.jwt) > ISSUERS_MAX:
        yield f"jwt: Too many: {len(file.jwt)}: must have at most {ISSUERS_MAX} items"
    for index, one in enumerate(file.jwt):
        before = [other.issuer for other in file.jwt[:index]]
        yield from _issuer_faults(f"jwt[{index}].issuer", one.issuer, before)
        yield from _rule_faults(f"jwt[{index}].claimValidationRules", one.claimValidationRules)
        yield from _mapping_faults(f"jwt[{index}].claimMappings", one.claimMappings)
        yield from _email_faults(f"jwt[{index}].claimMappings.username.expression", one)
        for number, rule in enumerate(one.userValidationRules):
            if not rule.expression:
                yield f"jwt[{index}].userValidationRules[{number}].expression: Required value"


def _issuer_faults(path: str, issuer: Issuer, before: Sequence[Issuer]) -> Iterator[str]:
    yield from _url_faults(f"{path}.url", issuer.url)
    if any(issuer.url == other.url for other in before):
        yield f'{path}.url: Duplicate value: "{issuer.url}"'
    if issuer.discoveryURL:
        yield from _url_faults(f"{path}.discoveryURL", issuer.discoveryURL)
        if issuer.discoveryURL.rstrip("/") == issuer.url.rstrip("/"):
            yield f'{path}.discoveryURL: Invalid value: "{issuer.discoveryURL}": discoveryURL must be different from URL'
    yield from _audience_faults(path, issuer)
    if issuer.egressSelectorType:
        yield f'{path}.egressSelectorType: Unsupported value: "{issuer.egressSelectorType}": there are no egress selectors here'
    if issuer.certificateAuthority:
        try:
            x509.load_pem_x509_certificates(issuer.certificateAuthority.encode())
        except ValueError:
            yield f'{path}.certificateAuthority: Invalid value: "<omitted>": data does not contain any valid RSA or ECDSA certificates'


def _audience_faults(path: str, issuer: Issuer) -> Iterator[str]:
    if not issuer.audiences:
        yield f"{path}.audiences: Required value: at least one {path}.audiences is required"
    for number, audience in enumerate(issuer.audiences):
        if not audience:
            yield f"{path}.audiences[{number}]: Required value: audience can't be empty"
        if audience in issuer.audiences[:number]:
            yield f'{path}.audiences[{number}]: Duplicate value: "{audience}"'
    if issuer.audienceMatchPolicy not in ("", "MatchAny"):
        yield f'{path}.audienceMatchPolicy: Invalid value: "{issuer.audienceMatchPolicy}": audienceMatchPolicy must be empty or MatchAny'
    if len(issuer.audiences) > 1 and not issuer.audienceMatchPolicy:
        yield f'{path}.audienceMatchPolicy: Invalid value: "": audienceMatchPolicy must be MatchAny for multiple audiences'


def _url_faults(path: str, url: str) -> Iterator[str]:
    if not url:
        yield f"{path}: Required value: URL is required"
        return
    try:
        parts = urlsplit(url)
        credentials = parts.username is not None or parts.password is not None
    except ValueError as error:
        yield f'{path}: Invalid value: "{url}": {error}'
        return
    if parts.scheme != "https":
        yield f'{path}: Invalid value: "{url}": URL scheme must be https'
    if credentials:
        yield f'{path}: Invalid value: "{url}": URL must not contain a username or password'
    if parts.query:
        yield f'{path}: Invalid value: "{url}": URL must not contain a query'
    if parts.fragment:
        yield f'{path}: Invalid value: "{url}": URL must not contain a fragment'


def _rule_faults(path: str, rules: Sequence[ClaimRule]) -> Iterator[str]:
    for number, rule in enumerate(rules):
        where = f"{path}[{number}]"
        if rule.claim and rule.expression:
            yield f'{where}: Invalid value: "{rule.claim}": claim and expression can\'t both be set'
        elif not rule.claim and not rule.expression:
            yield f"{where}: Required value: claim or expression is required"
        elif rule.claim and rule.message:
            yield f'{where}.message: Invalid value: "{rule.message}": message can\'t be set when claim is set'
        elif rule.expression and rule.requiredValue:
            yield f'{where}.requiredValue: Invalid value: "{rule.requiredValue}": requiredValue can\'t be set when expression is set'
        if rule.claim and any(rule.claim == other.claim for other in rules[:number]):
            yield f'{where}.claim: Duplicate value: "{rule.claim}"'


def _mapping_faults(path: str, mappings: Mappings) -> Iterator[str]:
    if not mappings.username.claim and not mappings.username.expression:
        yield f"{path}.username: Required value: claim or expression is required"
    for name in ("username", "groups"):
        yield from _prefix_faults(f"{path}.{name}", getattr(mappings, name))
    if mappings.uid.claim and mappings.uid.expression:
        yield f'{path}.uid: Invalid value: "": claim and expression can\'t both be set'
    for number, extra in enumerate(mappings.extra):
        where = f"{path}.extra[{number}]"
        domain, slash, name = extra.key.partition("/")
        if not extra.key:
            yield f"{where}.key: Required value"
        elif not slash or not name or "." not in domain:
            yield f'{where}.key: Invalid value: "{extra.key}": must be a domain-prefixed path (such as "acme.io/foo")'
        elif extra.key != extra.key.lower():
            yield f'{where}.key: Invalid value: "{extra.key}": must be lowercase'
        elif (
            domain.endswith(tuple(f".{d}" for d in RESERVED_DOMAINS)) or domain in RESERVED_DOMAINS
        ):
            yield f'{where}.key: Invalid value: "{extra.key}": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use'
        if any(extra.key == other.key for other in mappings.extra[:number]):
            yield f'{where}.key: Duplicate value: "{extra.key}"'
        if not extra.valueExpression:
            yield f"{where}.valueExpression: Required value: valueExpression is required"


def _prefix_faults(path: str, mapping: PrefixedClaim) -> Iterator[str]:
    if mapping.claim and mapping.expression:
        yield f'{path}: Invalid value: "": claim and expression can\'t both be set'
    if mapping.claim and mapping.prefix is None:
        yield f"{path}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
    if mapping.prefix is not None and not mapping.claim:
        yield f'{path}.prefix: Invalid value: "{mapping.prefix}": prefix can only be set when claim is set'


def _email_faults(path: str, one: JWTAuthenticator) -> Iterator[str]:
    """A provider may hand out an address that it has not checked: who names users by it must look (as with `username.claim: email`)."""
    if "claims.email" not in one.claimMappings.username.expression:
        return
    told = [one.claimMappings.username.expression]
    told += [extra.valueExpression for extra in one.claimMappings.extra]
    told += [rule.expression for rule in one.claimValidationRules]
    if not any(
        "claims.email_verified" in text or "claims.?email_verified" in text for text in told
    ):
        yield (
            f'{path}: Invalid value: "{told[0]}": claims.email_verified must be used in claimMappings.username.expression or '
            "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression"
        )

"""AuthenticationConfiguration: what is refused, and which user comes of which claims."""

from typing import Any

import pytest
import yaml
from tests.support.idp import ec_key, jwk, rsa_key

from machinery.server.oidc.config import ConfigError, parse
from machinery.server.oidc.keysets import KeysError, parsed
from machinery.server.oidc.mapping import Mapper, Refused

ISSUER = {"url": "https://id.example", "audiences": ["fleet"]}
NAMED = {"username": {"claim": "sub", "prefix": ""}}


def written(*issuers: dict[str, Any], **more: Any) -> bytes:
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"}
    return yaml.safe_dump({**head, "jwt": list(issuers), **more}).encode()


def one(issuer: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"issuer": {**ISSUER, **(issuer or {})}, "claimMappings": NAMED, **more}


def test_a_plain_issuer() -> None:
    (found,) = parse(written(one()))
    assert found.issuer.url == "https://id.example"
    assert found.claimMappings.username.prefix == ""


REFUSED = [
    (written(one({"url": ""})), "jwt[0].issuer.url: Required value: URL is required"),
    (written(one({"url": "http://id.example"})), "URL scheme must be https"),
    (written(one({"url": "https://a:b@id.example"})), "URL must not contain a username or password"),
    (written(one({"url": "https://id.example?x=1"})), "URL must not contain a query"),
    (written(one({"url": "https://id.example#x"})), "URL must not contain a fragment"),
    (written(one(), one()), 'jwt[1].issuer.url: Duplicate value: "https://id.example"'),
    (written(one({"discoveryURL": "https://id.example/"})), "discoveryURL must be different from URL"),
    (written(one({"audiences": []})), "at least one jwt[0].issuer.audiences is required"),
    (written(one({"audiences": ["a", "b"]})), "must be MatchAny for multiple audiences"),
    (written(one({"audiences": ["a", "a"], "audienceMatchPolicy": "MatchAny"})), 'audiences[1]: Duplicate value: "a"'),
    (written(one({"certificateAuthority": "no"})), "data does not contain any valid RSA or ECDSA certificates"),
    (written(one({"egressSelectorType": "cluster"})), "there are no egress selectors here"),
    (written(one(claimMappings={})), "claimMappings.username: Required value: claim or expression is required"),
    (written(one(claimMappings={"username": {"claim": "sub"}})), "prefix is required when claim is set"),
    (
        written(one(claimMappings={"username": {"claim": "sub", "prefix": "", "expression": "claims.sub"}})),
        "claim and expression can't both be set",
    ),
    (
        written(one(claimMappings={"username": {"expression": "claims.email"}})),
        "claims.email_verified must be used",
    ),
    (written(one(claimMappings={**NAMED, "extra": [{"key": "a", "valueExpression": "'x'"}]})), "domain-prefixed path"),
    (
        written(one(claimMappings={**NAMED, "extra": [{"key": "k8s.io/a", "valueExpression": "'x'"}]})),
        "reserved for Kubernetes use",
    ),
    (written(one(claimValidationRules=[{}])), "claim or expression is required"),
    (written(one(claimValidationRules=[{"claim": "a", "message": "m"}])), "message can't be set when claim is set"),
    (written(one(userValidationRules=[{}])), "userValidationRules[0].expression: Required value"),
    (written(anonymous={"enabled": True}), "nobody is anonymous here"),
    (written(one({"uRL": "x"})), "unknown field `uRL`"),
    (b"apiVersion: v1\nkind: Pod", "apiVersion, kind: expected one of"),
    (b"{", "no YAML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_refused(text: bytes, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert why in str(caught.value)


def mapper(**settings: Any) -> Mapper:
    (found,) = parse(written(one(**settings)))
    return Mapper(found, "jwt[0]")


MAPPED = [
    pytest.param({}, {"sub": "ann"}, ("ann", ()), id="by claim"),
    pytest.param(
        {"claimMappings": {"username": {"claim": "sub", "prefix": "id:"}, "groups": {"claim": "roles", "prefix": "id:"}}},
        {"sub": "ann", "roles": ["a", "b"]}, ("id:ann", ("id:a", "id:b")), id="prefixes",
    ),
    pytest.param(
        {"claimMappings": {**NAMED, "groups": {"claim": "roles", "prefix": ""}}},
        {"sub": "ann", "roles": "one"}, ("ann", ("one",)), id="one group as a string",
    ),
    pytest.param(
        {"claimMappings": {**NAMED, "groups": {"claim": "roles", "prefix": ""}}},
        {"sub": "ann"}, ("ann", ()), id="no groups",
    ),
    pytest.param(
        {"claimMappings": {"username": {"expression": "claims.sub + '@' + claims.org"},
                           "groups": {"expression": "claims.roles.filter(r, r.startsWith('k8s-'))"}}},
        {"sub": "ann", "org": "acme", "roles": ["k8s-dev", "hr"]}, ("ann@acme", ("k8s-dev",)), id="expressions",
    ),
    pytest.param(
        {"claimMappings": {"username": {"claim": "email", "prefix": ""}}},
        {"email": "a@b.example", "email_verified": True}, ("a@b.example", ()), id="verified address",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "claims", "user"), MAPPED)
def test_users(
    settings: dict[str, Any], claims: dict[str, Any], user: tuple[str, tuple[str, ...]]
) -> None:
    found = mapper(**settings).user(claims)
    assert (found.name, found.groups) == (user[0], (*user[1], "system:authenticated"))


def test_uid_and_extra() -> None:
    mappings = {
        **NAMED,
        "uid": {"claim": "oid"},
        "extra": [
            {"key": "acme.io/tenant", "valueExpression": "claims.tenant"},
            {"key": "acme.io/none", "valueExpression": "''"},
        ],
    }
    found = mapper(claimMappings=mappings).user({"sub": "ann", "oid": "7", "tenant": ["x", "y"]})
    assert found.uid == "7"
    assert found.extra == {"acme.io/tenant": ("x", "y")}


SHUT_OUT = [
    pytest.param({}, {}, "empty name", id="no name"),
    pytest.param({}, {"sub": 7}, "is no string", id="a name that is a number"),
    pytest.param(
        {"claimMappings": {"username": {"claim": "email", "prefix": ""}}},
        {"email": "a@b.example", "email_verified": False}, "email not verified", id="address not verified",
    ),
    pytest.param(
        {"claimValidationRules": [{"claim": "hd", "requiredValue": "acme"}]}, {"sub": "ann"}, "claim hd not present", id="claim absent",
    ),
    pytest.param(
        {"claimValidationRules": [{"claim": "hd", "requiredValue": "acme"}]}, {"sub": "ann", "hd": "x"}, "'acme'", id="other value",
    ),
    pytest.param(
        {"claimValidationRules": [{"expression": "claims.exp - claims.nbf <= 86400", "message": "too long a life"}]},
        {"sub": "ann", "exp": 100_000, "nbf": 0}, "too long a life", id="rule on claims",
    ),
    pytest.param(
        {"claimValidationRules": [{"expression": "claims.absent == 'x'"}]}, {"sub": "ann"}, "resulted in error", id="rule that fails",
    ),
    pytest.param(
        {"userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "not a system"}]},
        {"sub": "system:admin"}, "not a system", id="rule on users",
    ),
    pytest.param(
        {"claimMappings": {**NAMED, "groups": {"claim": "roles", "prefix": ""}}},
        {"sub": "ann", "roles": [1]}, "neither a string nor a list", id="groups of another type",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "claims", "why"), SHUT_OUT)
def test_shut_out(settings: dict[str, Any], claims: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        mapper(**settings).user(claims)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("claims.", "compilation failed"),
        ("nobody.sub == 'x'", "undeclared"),
        ("'text'", "must evaluate to bool"),
    ],
)
def test_an_expression_that_is_none_stops_the_start(rule: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        mapper(claimValidationRules=[{"expression": rule}])


def test_keys_that_sign_are_taken_and_others_left() -> None:
    listed = [
        jwk(ec_key(), "e"), jwk(rsa_key(), "r"), jwk(rsa_key(), "enc", use="enc"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}, {"kty": "RSA", "kid": "broken"}, "rubbish",
    ]  # fmt: skip
    assert [key.key_id for key in parsed({"keys": listed})] == ["e", "r"]


@pytest.mark.parametrize(
    "document", [[], {}, {"keys": {}}, {"keys": []}, {"keys": [{"kty": "oct"}]}]
)
def test_no_keys(document: Any) -> None:
    with pytest.raises(KeysError):
        parsed(document)

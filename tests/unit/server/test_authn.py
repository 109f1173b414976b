"""Bearer tokens: static, bootstrap, ServiceAccount; certificates."""

import base64
from typing import Any

import orjson
import pytest

from machinery.kit.clock import FakeClock
from machinery.kit.ids import SeededIds
from machinery.server.authn import API_AUDIENCE, Authenticator, peer_user
from machinery.server.tokens import Bound, TokenIssuer
from machinery.server.user import UserInfo


class World:
    """Stored objects by (plural, namespace, name)."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.clock = FakeClock()
        self.issuer = TokenIssuer.load_or_create("", API_AUDIENCE, self.clock, SeededIds(1))
        static = (("secret", UserInfo("bob", ("devs",))),)
        self.authenticator = Authenticator(self.lookup, self.issuer, self.clock, static)

    def lookup(self, plural: str, namespace: str, name: str) -> bytes | None:
        found = self.objects.get((plural, namespace, name))
        return None if found is None else orjson.dumps(found)

    def user(self, token: str) -> UserInfo | None:
        return self.authenticator.token_user(token)

    def add_bootstrap(self, **changes: str) -> None:
        data = {
            "token-id": "abcdef",
            "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:members,evil",
            **changes,
        }
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.objects["secrets", "kube-system", "bootstrap-token-abcdef"] = {
            "metadata": {"uid": "s"},
            "type": "bootstrap.kubernetes.io/token",
            "data": encoded,
        }


@pytest.fixture
def world() -> World:
    return World()


def test_static_token(world: World) -> None:
    user = world.user("secret")
    assert user is not None
    assert user.name == "bob"
    assert user.groups == ("devs", "system:authenticated")
    assert world.user("wrong") is None


@pytest.mark.parametrize(
    ("changes", "token", "known"),
    [
        ({}, "abcdef.0123456789abcdef", True),
        ({}, "abcdef.0123456789abcde0", False),
        ({}, "zzzzzz.0123456789abcdef", False),
        ({"usage-bootstrap-authentication": "false"}, "abcdef.0123456789abcdef", False),
        ({"expiration": "2020-01-01T00:00:00Z"}, "abcdef.0123456789abcdef", False),
        ({"expiration": "2027-01-01T00:00:00Z"}, "abcdef.0123456789abcdef", True),
        ({"expiration": "soon"}, "abcdef.0123456789abcdef", False),
        ({"token-id": "fedcba"}, "abcdef.0123456789abcdef", False),
    ],
)
def test_bootstrap_token(world: World, changes: dict[str, str], token: str, known: bool) -> None:
    world.add_bootstrap(**changes)
    user = world.user(token)
    assert (user is not None) is known
    if user is not None:
        assert user.name == "system:bootstrap:abcdef"
        assert user.groups == (
            "system:bootstrappers", "system:bootstrappers:members", "system:authenticated",
        ), "groups of another kind are not given"  # fmt: skip


def test_service_account_token_ends_with_its_objects(world: World) -> None:
    account = ("serviceaccounts", "a", "sa")
    pod = ("pods", "a", "p")
    world.objects[account] = {"metadata": {"uid": "u-sa"}}
    world.objects[pod] = {"metadata": {"uid": "u-p"}}
    token, _ = world.issuer.issue(
        "a", "sa", "u-sa", [API_AUDIENCE], 3600, [Bound("Pod", "p", "u-p")]
    )
    user = world.user(token)
    assert user is not None
    assert user.name == "system:serviceaccount:a:sa"
    assert "system:serviceaccounts:a" in user.groups
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("p",)
    world.objects[pod] = {"metadata": {"uid": "another"}}
    assert world.user(token) is None, "the pod is another one"
    world.objects[pod] = {"metadata": {"uid": "u-p"}}
    assert world.user(token) is not None
    del world.objects[account]
    assert world.user(token) is None, "the account is gone"


def test_expired_token_is_not_remembered_as_good(world: World) -> None:
    world.objects["serviceaccounts", "a", "sa"] = {"metadata": {"uid": "u"}}
    token, _ = world.issuer.issue("a", "sa", "u", [API_AUDIENCE], 600)
    assert world.user(token) is not None
    world.clock.advance(700)
    assert world.user(token) is None


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        (None, None),
        ({}, None),
        ({"subject": ((("organizationName", "g"),),)}, None),
        ({"subject": ((("commonName", "ubernetes:gateway:alpha"),),)}, None),
        (
            {"subject": ((("organizationName", "g1"),), (("organizationName", "g2"),), (("commonName", "u"),))},
            UserInfo("u", ("g1", "g2", "system:authenticated")),
        ),
    ],
)  # fmt: skip
def test_certificate(certificate: dict[str, Any] | None, expected: UserInfo | None) -> None:
    assert peer_user(certificate) == expected

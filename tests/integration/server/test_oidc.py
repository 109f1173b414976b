"""Tokens of identity providers over HTTPS: who is let in as whom, and what happens to keys."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
import yaml
from tests.support.apiserver import RunningServer, running_server
from tests.support.idp import Provider, ec_key, provider, rsa_key, tampered, unsigned

from machinery.client.rest import RestClient
from machinery.kit.clock import SystemClock
from machinery.meta.errors import Unauthorized
from machinery.server.config import ServerConfig
from machinery.server.oidc.config import ConfigError
from machinery.server.oidc.users import OidcUsers

pytestmark = pytest.mark.integration
KEY, OTHER = ec_key(), rsa_key()
ME = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def configuration(path: Path, *providers: Provider, **more: Any) -> str:
    """A file that believes in these."""
    issuers = [
        {
            "issuer": {"url": p.url, "audiences": ["fleet"], "certificateAuthority": p.ca_pem},
            "claimMappings": {
                "username": {"claim": "sub", "prefix": "id:"},
                "groups": {"claim": "groups", "prefix": "id:"},
            },
            **more,
        }
        for p in providers
    ]
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"}
    file = path / "authentication.yaml"
    file.write_text(yaml.safe_dump({**head, "jwt": issuers}))
    return str(file)


@pytest.fixture
async def idp() -> AsyncIterator[Provider]:
    async with provider() as found:
        found.keys["one"] = KEY
        yield found


@pytest.fixture
async def server(idp: Provider, tmp_path: Path) -> AsyncIterator[RunningServer]:
    config = ServerConfig(
        pki_dir=str(tmp_path / "pki"), authentication_config=configuration(tmp_path, idp)
    )
    async with running_server(config=config) as found:
        yield found


async def whoami(client: RestClient) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(await client.request("POST", ME, body=b"{}"))
    return found["status"]["userInfo"]


async def test_a_bearer_is_who_the_provider_says(server: RunningServer, idp: Provider) -> None:
    token = idp.token(KEY, "one", groups=["devs"])
    found = await whoami(server.rest_with_token(token))
    assert found["username"] == "id:ann"
    assert found["groups"] == ["id:devs", "system:authenticated"]


async def test_a_token_without_a_key_id_is_tried_with_every_key(
    server: RunningServer, idp: Provider
) -> None:
    idp.keys["two"] = OTHER
    assert (await whoami(server.rest_with_token(idp.token(KEY, "one"))))["username"] == "id:ann"
    assert (await whoami(server.rest_with_token(idp.token(KEY))))["username"] == "id:ann"


async def test_token_review(server: RunningServer, idp: Provider) -> None:
    body = {"spec": {"token": idp.token(KEY, "one")}}
    await whoami(server.rest_with_token(idp.token(KEY, "one")))  # its keys are known from now on
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    told = orjson.loads(await server.rest.request("POST", path, body=orjson.dumps(body)))["status"]
    assert told["authenticated"] is True
    assert told["user"]["username"] == "id:ann"


def hostile(idp: Provider) -> dict[str, str]:
    now = int(SystemClock().now().timestamp())
    good = idp.token(KEY, "one")
    return {
        "signed by another": idp.token(ec_key(), "one"),
        "another's id": idp.token(OTHER, "one"),
        "for others": idp.token(KEY, "one", aud="elsewhere"),
        "for nobody": idp.token(KEY, "one", aud=None),
        "of another issuer": idp.token(KEY, "one", iss="https://evil.example"),
        "expired": idp.token(KEY, "one", exp=now - 1),
        "without an end": idp.token(KEY, "one", exp=None),
        "with an end that is text": tampered(good, exp="never"),
        "not yet": idp.token(KEY, "one", nbf=now + 3600),
        "none": unsigned({"iss": idp.url, "aud": "fleet", "exp": now + 600, "sub": "ann"}),
        "a shared secret": jwt.encode(
            {"iss": idp.url, "aud": "fleet", "exp": now + 600, "sub": "ann"}, "s" * 32, "HS256"
        ),
        "raised": tampered(good, sub="admin"),
        "without a name": idp.token(KEY, "one", sub=None),
        "two dots": "..",
        "half": good.rpartition(".")[0],
    }


HOSTILE = (
    "signed by another", "another's id", "for others", "for nobody", "of another issuer", "expired", "without an end",
    "with an end that is text", "not yet", "none", "a shared secret", "raised", "without a name", "two dots", "half",
)  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
async def test_refused(server: RunningServer, idp: Provider, kind: str) -> None:
    await whoami(server.rest_with_token(idp.token(KEY, "one")))
    with pytest.raises(Unauthorized):
        await whoami(server.rest_with_token(hostile(idp)[kind]))


async def test_a_new_key_is_fetched_for_the_first_token_that_names_it(
    tmp_path: Path, idp: Provider
) -> None:
    users = OidcUsers(configuration(tmp_path, idp), "", SystemClock(), own_issuer="own")
    token = idp.token(KEY, "one")
    assert users.user(token) is None
    assert await users.learned(token)
    found = users.user(token)
    assert found is not None
    assert found.name == "id:ann"


async def test_unknown_keys_make_nobody_ask_the_provider_again_and_again(
    tmp_path: Path, idp: Provider
) -> None:
    users = OidcUsers(configuration(tmp_path, idp), "", SystemClock(), own_issuer="own")
    for number in range(5):
        await users.learned(idp.token(ec_key(), f"unknown-{number}"))
    assert idp.asked == 1


async def test_of_a_provider_that_is_away_the_last_keys_count_after_a_restart_too(
    tmp_path: Path, idp: Provider
) -> None:
    file, kept, token = configuration(tmp_path, idp), str(tmp_path / "kept"), idp.token(KEY, "one")
    first = OidcUsers(file, kept, SystemClock(), own_issuer="own")
    assert await first.learned(token)
    idp.away = True
    second = OidcUsers(file, kept, SystemClock(), own_issuer="own")
    assert second.user(token) is not None


@pytest.mark.parametrize(
    "says",
    [{"issuer": "https://evil.example"}, {"jwks_uri": "http://127.0.0.1/keys"}, {"jwks_uri": None}],
    ids=["names another issuer", "keys in the clear", "no keys"],
)
async def test_a_provider_that_says_strange_things_is_not_believed(
    tmp_path: Path, idp: Provider, says: dict[str, Any]
) -> None:
    idp.says = says
    users = OidcUsers(configuration(tmp_path, idp), "", SystemClock(), own_issuer="own")
    token = idp.token(KEY, "one")
    await users.learned(token)
    assert users.user(token) is None


async def test_a_changed_file_is_taken_and_a_broken_one_is_not(
    tmp_path: Path, idp: Provider
) -> None:
    users = OidcUsers(configuration(tmp_path, idp), "", SystemClock(), own_issuer="own")
    token = idp.token(KEY, "one")
    await users.learned(token)
    assert users.user(token) is not None
    Path(tmp_path, "authentication.yaml").write_text("jwt: 7")
    users.read_again()
    assert users.user(token) is not None
    configuration(tmp_path, idp, userValidationRules=[{"expression": "user.username != 'id:ann'"}])
    users.read_again()
    assert users.remembered(token) is None
    assert users.user(token) is None


async def test_two_providers(tmp_path: Path, idp: Provider) -> None:
    async with provider() as second:
        second.keys["b"] = OTHER
        users = OidcUsers(configuration(tmp_path, idp, second), "", SystemClock(), own_issuer="own")
        for token in (idp.token(KEY, "one"), second.token(OTHER, "b")):
            await users.learned(token)
            assert users.user(token) is not None
        assert users.user(second.token(OTHER, "b", iss=idp.url)) is None


def test_our_own_issuer_is_nobody_elses(tmp_path: Path) -> None:
    own = Provider("https://own.example", "")
    with pytest.raises(ConfigError, match="disallowed issuers"):
        OidcUsers(configuration(tmp_path, own), "", SystemClock(), own_issuer=own.url)

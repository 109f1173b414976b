"""ServiceAccount tokens: signed, read, refused."""

from pathlib import Path

import jwt
import pytest

from machinery.kit.clock import FakeClock
from machinery.kit.ids import SeededIds
from machinery.server.tokens import Bound, TokenIssuer

AUDIENCE = "https://api"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def issuer(clock: FakeClock, directory: str = "") -> TokenIssuer:
    return TokenIssuer.load_or_create(directory, AUDIENCE, clock, SeededIds(1))


def test_what_is_issued_can_be_read(clock: FakeClock) -> None:
    ours = issuer(clock)
    token, expiry = ours.issue(
        "a", "sa", "uid-1", [AUDIENCE, "vault"], 3600, [Bound("Pod", "p", "uid-p")]
    )
    claims = ours.verify(token, [AUDIENCE])
    assert claims is not None
    assert (claims.namespace, claims.name, claims.uid) == ("a", "sa", "uid-1")
    assert claims.bound == (Bound("Pod", "p", "uid-p"),)
    assert claims.audiences == (AUDIENCE,)
    assert expiry == int(clock.now().timestamp()) + 3600


def test_refused(clock: FakeClock) -> None:
    ours = issuer(clock)
    token, _ = ours.issue("a", "sa", "uid-1", [AUDIENCE], 600)
    assert ours.verify(token, ["other"]) is None, "another audience"
    assert ours.verify(token[:-4] + "AAAA", [AUDIENCE]) is None, "a broken signature"
    assert issuer(clock).verify(token, [AUDIENCE]) is None, "another key"
    assert ours.verify("a.b", [AUDIENCE]) is None, "no token at all"
    unsigned = jwt.encode({"aud": [AUDIENCE], "iss": AUDIENCE, "exp": 2**33}, "", algorithm="none")
    assert ours.verify(unsigned, [AUDIENCE]) is None, "not signed"
    clock.advance(601)
    assert ours.verify(token, [AUDIENCE]) is None, "too late"


def test_the_key_survives_a_restart_and_is_published(clock: FakeClock, tmp_path: Path) -> None:
    token, _ = issuer(clock, str(tmp_path)).issue("a", "sa", "u", [AUDIENCE], 600)
    again = issuer(clock, str(tmp_path))
    assert again.verify(token, [AUDIENCE]) is not None
    published = jwt.PyJWK.from_dict(again.jwks()["keys"][0])
    read = jwt.decode(
        token, published.key, algorithms=["ES256"], audience=AUDIENCE, options={"verify_exp": False}
    )
    assert read["sub"] == "system:serviceaccount:a:sa"
    assert jwt.get_unverified_header(token)["kid"] == again.jwks()["keys"][0]["kid"]

"""EncryptionConfiguration: what is refused, what lies encrypted, and what opens."""

import base64
from typing import Any

import pytest
import yaml

from machinery.store.sealing import Sealer, SealingError, parse
from machinery.store.sql.values import Codec

SECRET = "/registry/core/secrets/demo/login"
MAP = "/registry/core/configmaps/demo/login"
DEPLOYMENT = "/registry/apps/deployments/demo/web"
VALUE = b"\x28\xb5\x2f\xfd a frame"


def key(name: str, letter: str = "a", size: int = 32) -> dict[str, str]:
    return {"name": name, "secret": base64.b64encode(letter.encode() * size).decode()}


def written(*entries: tuple[list[str], list[dict[str, Any]]], **more: Any) -> bytes:
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration"}
    listed = [{"resources": r, "providers": p} for r, p in entries]
    text: str = yaml.safe_dump({**head, "resources": listed, **more})
    return text.encode()


def gcm(*keys: dict[str, str]) -> dict[str, Any]:
    return {"aesgcm": {"keys": list(keys)}}


def cbc(*keys: dict[str, str]) -> dict[str, Any]:
    return {"aescbc": {"keys": list(keys)}}


PLAIN: dict[str, Any] = {"identity": {}}


def sealer(*providers: dict[str, Any], resources: tuple[str, ...] = ("secrets",)) -> Sealer:
    return parse(written((list(resources), list(providers))))


@pytest.mark.parametrize("provider", [gcm, cbc])
def test_a_secret_lies_encrypted_and_opens(provider: Any) -> None:
    found = sealer(provider(key("one")), PLAIN)
    lying = found.seal(SECRET, VALUE)
    assert lying.startswith(b"k8s:enc:aes")
    assert VALUE not in lying
    assert found.open(SECRET, lying) == VALUE
    assert lying != found.seal(SECRET, VALUE)


def test_what_no_entry_names_lies_as_it_is() -> None:
    assert sealer(gcm(key("one"))).seal(MAP, VALUE) == VALUE


RESOURCES = [
    ("secrets", {SECRET}),
    ("deployments.apps", {DEPLOYMENT}),
    ("*.apps", {DEPLOYMENT}),
    ("*.", {SECRET, MAP}),
    ("*.*", {SECRET, MAP, DEPLOYMENT}),
]


@pytest.mark.parametrize(("resource", "sealed"), RESOURCES, ids=[r for r, _ in RESOURCES])
def test_resources(resource: str, sealed: set[str]) -> None:
    found = sealer(gcm(key("one")), resources=(resource,))
    assert {row for row in (SECRET, MAP, DEPLOYMENT) if found.seal(row, VALUE) != VALUE} == sealed


def test_the_first_entry_that_names_a_resource_counts() -> None:
    found = parse(written((["secrets"], [PLAIN, gcm(key("one"))]), (["*.*"], [gcm(key("one"))])))
    assert found.seal(SECRET, VALUE) == VALUE
    assert found.seal(MAP, VALUE) != VALUE


def test_a_sealed_value_opens_in_its_own_row_only() -> None:
    found = sealer(gcm(key("one")))
    with pytest.raises(SealingError, match="does not open with aesgcm key 'one'"):
        found.open("/registry/core/secrets/demo/other", found.seal(SECRET, VALUE))


def test_a_key_that_is_not_there_is_named() -> None:
    lying = sealer(gcm(key("one"))).seal(SECRET, VALUE)
    with pytest.raises(
        SealingError,
        match="sealed with aesgcm key 'one', which the EncryptionConfiguration does not have",
    ):
        sealer(gcm(key("two", "b"))).open(SECRET, lying)


def test_a_damaged_value_is_found() -> None:
    found = sealer(gcm(key("one")))
    lying = bytearray(found.seal(SECRET, VALUE))
    lying[-1] ^= 1
    with pytest.raises(SealingError, match="damaged"):
        found.open(SECRET, bytes(lying))


def test_rotation() -> None:
    old, both = sealer(gcm(key("one"))), sealer(gcm(key("two", "b"), key("one")))
    lying = old.seal(SECRET, VALUE)
    assert both.open(SECRET, lying) == VALUE
    assert both.is_stale(SECRET, lying)
    assert not both.is_stale(SECRET, both.seal(SECRET, VALUE))
    assert both.is_stale(SECRET, VALUE)
    assert sealer(PLAIN, gcm(key("one"))).is_stale(SECRET, lying)
    assert not both.is_stale(MAP, VALUE)


def test_a_codec_knows_what_is_to_be_written_again() -> None:
    plain = Codec().pack(SECRET, b"{}")
    codec = Codec(sealer(gcm(key("one"))))
    assert codec.unpack(SECRET, plain) == b"{}"
    assert codec.stale == {SECRET}
    assert codec.unpack(SECRET, codec.pack(SECRET, b"{}")) == b"{}"
    assert codec.stale == set()


REFUSED = [
    (b"a: [", "no YAML"),
    (b"kind: Pod", "expected apiserver.config.k8s.io/v1 and EncryptionConfiguration"),
    (written(), "resources: Required value"),
    (written(([], [PLAIN])), "resources[0].resources: Required value"),
    (written((["secrets"], [])), "resources[0].providers: Required value"),
    (written((["secrets"], [{}])), "exactly one of aesgcm, aescbc, identity is to be given, not 0"),
    (written((["secrets"], [{**PLAIN, **gcm(key("a"))}])), "not 2"),
    (written((["secrets"], [{"kms": {"name": "x"}}])), "kms and secretbox are not built here"),
    (written((["secrets"], [gcm()])), "aesgcm.keys: Required value"),
    (written((["secrets"], [gcm(key(""))])), "keys[0].name: Invalid value"),
    (written((["secrets"], [gcm(key("a:b"))])), "no colon"),
    (written((["secrets"], [gcm({"name": "a", "secret": "not base64!"})])), "must be base64 encoded"),
    (written((["secrets"], [gcm(key("a", size=20))])), "got 20, expected one of [16 24 32]"),
    (written((["secrets"], [gcm(key("a"), key("a", "b"))])), "two keys of aesgcm have this name"),
    (written((["secrets"], [{"aesgmc": {}}])), "unknown field `aesgmc`"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_refused(text: bytes, why: str) -> None:
    with pytest.raises(SealingError) as caught:
        parse(text)
    assert why in str(caught.value)


def test_a_refusal_tells_no_secret() -> None:
    with pytest.raises(SealingError) as caught:
        parse(written((["secrets"], [gcm({"name": "a", "secret": "bm90IGxvbmcgZW5vdWdo"})])))
    assert "bm90" not in str(caught.value)

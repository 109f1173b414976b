"""Own kinds: a patch pays for what it touches, and what it does not touch is neither pruned nor judged again."""

from typing import Any

import pytest

from machinery.api import decode, defaults, schemas
from machinery.api.fleet.kinds import FLEET
from machinery.api.scheme import ServedKind
from machinery.api.validation import custom
from machinery.api.validation.causes import Causes

(BINDING,) = (kind for kind in FLEET if kind.plural == "resourcebindings")


def live() -> dict[str, Any]:
    """An object from before the schema knew better."""
    return {
        "apiVersion": BINDING.api_version,
        "kind": BINDING.kind,
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {"resource": {}, "replicas": "three", "fromLastYear": 1},
        "status": {},
    }


def test_what_a_patch_left_alone_keeps_its_fields() -> None:
    before = live()
    patched = before | {"status": {"fromLastYear": 2}}
    tidy, warnings = decode.check_fields(BINDING, patched, "Warn", before)
    assert tidy["spec"] is before["spec"]
    assert tidy["status"] == {}
    assert warnings == ('unknown field "status.fromLastYear"',)


@pytest.mark.parametrize(("touched", "complaints"), [(False, False), (True, True)])
def test_only_what_was_touched_is_judged(touched: bool, complaints: bool) -> None:
    before = live()
    after = before | ({"spec": dict(before["spec"])} if touched else {"status": {}})
    causes = Causes()
    custom.validate(schemas.schema_of(BINDING), after, causes, before)
    assert bool(causes) == complaints


@pytest.mark.parametrize(
    ("schema", "same"),
    [
        ({"properties": {"a": {"items": {"properties": {"b": {}}}}}}, True),
        ({"properties": {"a": {"items": {"properties": {"b": {"default": 1}}}}}}, False),
        ({"additionalProperties": {"items": {"properties": {"c": {"default": 1}}}}}, False),
        ({"properties": {"a": {"default": []}}}, True),
        (
            {
                "properties": {
                    "a": {"items": {"properties": {"b": {"nullable": True}}}, "default": []}
                }
            },
            True,
        ),
    ],
    ids=[
        "no default anywhere",
        "a default in a list",
        "a default in a map",
        "a default that is not needed",
        "nor inside",
    ],
)
def test_a_part_that_lacks_no_default_is_handed_on(schema: dict[str, Any], same: bool) -> None:
    value = {"a": [{}]}
    filled = defaults.from_schema(schema, value)
    assert (filled is value) == same


def test_the_kind_is_an_own_one() -> None:
    assert isinstance(BINDING, ServedKind)
    assert BINDING.custom

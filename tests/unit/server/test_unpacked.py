"""Documents are decoded when they are read; those that were read lately are kept, within a bound of bytes."""

import orjson

from machinery.client.interface import Packed
from machinery.meta.resource import ObjectKey
from machinery.server.cache import Entry
from machinery.server.unpacked import Unpacked


def entry(name: str, revision: int = 7) -> Entry:
    return Entry(f"a/{name}", orjson.dumps(document(name)), revision, pod=False)


def document(name: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "a"}, "data": {"k": "v" * 100}}


SIZE = len(entry("x").value)


def test_a_packed_entry_reads_as_its_document() -> None:
    packed = Packed(entry("x", 12), Unpacked().document)
    assert (packed.key, packed.version) == (ObjectKey("a", "x"), "12")
    read = packed.read()
    assert read["metadata"].pop("resourceVersion") == "12"
    assert read == document("x")
    assert packed.read() is read  # decoded once


def test_of_a_packed_entry_the_status_is_read_without_the_rest() -> None:
    unpacked = Unpacked()
    told = {"conditions": [{"type": "Ready", "status": "True"}], "replicas": 3}
    value = orjson.dumps(document("x") | {"status": told})
    assert Packed(Entry("a/x", value, 3, pod=False), unpacked.document).status() == told
    assert Packed(entry("x"), unpacked.document).status() is None


def test_what_was_read_longest_ago_goes_first() -> None:
    unpacked = Unpacked(bytes_max=2 * SIZE)
    a, b, c = entry("a"), entry("b"), entry("c")
    first, second = unpacked.document(a), unpacked.document(b)
    assert unpacked.document(a) is first
    unpacked.document(c)  # no room for all: b was read before a
    assert unpacked.document(a) is first
    again = unpacked.document(b)
    assert again == second
    assert again is not second


def test_what_is_bigger_than_the_bound_is_read_and_not_kept() -> None:
    unpacked = Unpacked(bytes_max=SIZE - 1)
    one = entry("x")
    assert unpacked.document(one) == unpacked.document(one)
    assert unpacked.document(one) is not unpacked.document(one)


def test_states_of_one_object_are_apart() -> None:
    unpacked = Unpacked()
    old, new = unpacked.document(entry("x", 1)), unpacked.document(entry("x", 2))
    versions = [d["metadata"]["resourceVersion"] for d in (old, new)]
    assert versions == ["1", "2"]

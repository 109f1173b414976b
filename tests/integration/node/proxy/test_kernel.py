"""The kernel and its twin, side by side; and a thousand services. Times are printed, not judged."""

import json
import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.node.proxy.clients import ask
from tests.integration.node.proxy.netns import Lab, Namespace, lab, needs_root
from tests.unit.node.proxy.nodes import CONFIG, service
from tests.unit.node.proxy.test_table import random_service

from cluster_agent.node.proxy.layout import TABLE
from cluster_agent.node.proxy.model import Endpoint, Service, ServicePort
from cluster_agent.node.proxy.nft import Form, KernelNft, NftError
from cluster_agent.node.proxy.nft_memory import MemoryNft
from cluster_agent.node.proxy.table import FamilyTable

pytestmark = [needs_root, pytest.mark.root, pytest.mark.integration]


@pytest.fixture(scope="module")
def node() -> Iterator[Lab]:
    with lab("pk") as made:
        made.pod(2, 8080)
        made.pod(9)
        yield made


def listed(space: Namespace, name: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The elements of a map as the command `nft` sees them."""
    text = space.sh("nft", "-j", "list", "map", "ip", TABLE, name)
    found = next(item["map"] for item in json.loads(text)["nftables"] if "map" in item)
    return sorted((fields(key), fields(value)) for key, value in found.get("elem", ()))


def fields(part: Any) -> tuple[str, ...]:
    return tuple(map(str, part["concat"])) if isinstance(part, dict) else (str(part),)


def same_maps(space: Namespace, kernel: KernelNft, twin: MemoryNft) -> int:
    """How many elements were compared."""
    count = 0
    objects = space.run(lambda: kernel.form("ip")).objects
    assert sorted(objects) == sorted(twin.form("ip").objects)
    for what, name in objects:
        if what == "map" and not name.startswith("closed"):
            mine = listed(space, name)
            assert mine == sorted(twin.elements("ip", name))
            count += len(mine)
    return count


@pytest.mark.parametrize("seed", [1, 2])
def test_the_twin_and_the_kernel_agree(node: Lab, seed: int) -> None:
    dice = random.Random(seed)
    kernel, twin = KernelNft(), MemoryNft()
    real, shadow = FamilyTable("ip", CONFIG, kernel), FamilyTable("ip", CONFIG, twin)
    for turn in range(12):
        changes = {f"s{n}": random_service(dice, n) for n in dice.sample(range(1, 12), 3)}
        now = float(turn * 20)
        node.host.run(lambda c=changes, t=now: real.step(c, t))  # type: ignore[misc]
        shadow.step(changes, now)
    assert (real.loads, shadow.loads) == (1, 1)
    assert same_maps(node.host, kernel, twin) > 50
    node.host.run(real.load)
    shadow.load()
    assert same_maps(node.host, kernel, twin) > 50
    node.host.run(real.remove)
    assert node.host.run(lambda: kernel.form("ip")) == Form()


def test_the_kernels_words_reach_us(node: Lab) -> None:
    kernel = KernelNft()
    with pytest.raises(NftError, match="No such file or directory"):
        node.host.run(lambda: kernel.apply((f"add element ip {TABLE} nothing {{ 10.0.0.1 }}",)))
    assert node.host.run(lambda: kernel.form("ip")) == Form()


def test_a_thousand_services(node: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    many = {
        f"demo/s{n}": Service(
            (f"10.96.{n // 250}.{n % 250 + 1}",),
            (
                ServicePort(
                    80, endpoints=tuple(Endpoint(f"10.77.{k}.{n % 250}", 80) for k in range(2, 6))
                ),
            ),
        )
        for n in range(1_000)
    }
    kernel = KernelNft()
    made = FamilyTable("ip", CONFIG, kernel)
    began = time.perf_counter()
    node.host.run(lambda: made.step(many, 0.0))
    loaded = time.perf_counter()
    steps = []
    for n in range(20):
        one = {"demo/new": service("10.96.200.1", *([2] if n % 2 == 0 else [2, 3]))}
        start = time.perf_counter()
        assert not node.host.run(lambda one=one: made.step(one, 0.0)).full  # type: ignore[misc]
        steps.append(time.perf_counter() - start)
    node.host.run(lambda: made.step({"demo/new": service("10.96.200.1", 2)}, 1e6))
    assert node.pods[9].run(ask("10.96.200.1", 80))[0] == "pod-2"
    assert node.host.run(made.intact)
    again = time.perf_counter()
    node.host.run(made.load)
    reloaded = time.perf_counter()
    assert len(listed(node.host, made.frame.slot_map("vip", 16, "tcp"))) == 16_016
    node.host.run(made.remove)
    with capsys.disabled():
        print(
            f"\n1,000 services of 4 endpoints: load {1e3 * (loaded - began):.0f} ms, reload beside it "
            f"{1e3 * (reloaded - again):.0f} ms, one change {1e3 * sorted(steps)[10]:.1f} ms (median)"
        )


def test_too_many_descriptors_are_an_error_and_not_the_end_of_the_process() -> None:
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with pytest.raises(NftError, match="descriptors are open"):
            KernelNft().apply(("list tables",))
    finally:
        for descriptor in held:
            os.close(descriptor)

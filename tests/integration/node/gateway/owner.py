"""A process that owns a gateway, for a test that kills it: `owner.py FOLDER BINARY PLAN`; says `ready` and waits."""

import asyncio
import json
import sys
from pathlib import Path

import msgspec

from cluster_agent.node.gateway.gateway import Gateway
from cluster_agent.node.gateway.model import GatewayConfig, GatewayPlan
from machinery.kit.clock import SystemClock


async def main(document: dict[str, str]) -> None:
    async def own(address: str) -> None:
        """The test has seen to it."""

    plan = msgspec.json.decode(document["plan"], type=GatewayPlan)
    config = GatewayConfig(
        plan.cluster,
        Path(document["folder"]),
        binary=document["binary"],
        debounce_s=0.0,
        drain_s=int(document["drain_s"]),
    )
    gateway = Gateway(config, SystemClock(), own=own)
    gateway.set_certificate(document["certificate"], document["key"], document["ca"])
    gateway.apply(plan)
    gateway.on_change(lambda: print("ready", flush=True) if gateway.ready else None)
    await gateway.run()


asyncio.run(main(json.load(sys.stdin)))

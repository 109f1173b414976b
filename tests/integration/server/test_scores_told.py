"""What a ResiliencePolicy prefers, over HTTPS: where it goes, what `why` says of it, and what a plan says of it."""

import asyncio

from tests.integration.server.test_reviews import explained, of, planned
from tests.support.placing import deployed, deployment, federation, policy

from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.meta.resource import Document, ObjectKey

PRICE = "ubernetes.io/cost-per-cpu-hour"


def preference(*scores: Document) -> Document:
    return {
        "apiVersion": RESILIENCE_POLICIES.api_version,
        "kind": RESILIENCE_POLICIES.kind,
        "metadata": {"name": "cheap", "namespace": "demo"},
        "spec": {
            "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}],
            "scores": list(scores),
        },
    }


async def test_why_tells_each_score_and_its_parts() -> None:
    async with federation() as server:
        for name, price in {"alpha": "0.02", "beta": "0.04"}.items():
            marks = {"metadata": {"annotations": {PRICE: price}}}
            _ = await server.rest.patch(CLUSTERS, ObjectKey("", name), marks)
        wish = preference({"by": "cost", "weight": 5})
        _ = await server.rest.create(RESILIENCE_POLICIES, wish, "demo")
        await asyncio.sleep(0.5)
        await deployed(server, policy("alpha", "beta"), deployment())
        status = await explained(server.rest)
        assert status["message"] == "alpha:4, beta:2" and status["replays"] == "same"
        assert any(s.startswith("clusters are scored by cost x 5") for s in status["sentences"])
        assert "its score is 500: cost 100 x 5" in of(status, "alpha")["sentences"]
        assert "its score is 250: cost 50 x 5" in of(status, "beta")["sentences"]
        found = await planned(server.rest, deployment(9))
        (web,) = found["objects"]
        assert (web["result"], web["message"]) == ("Scheduled", "alpha:6, beta:3")
        assert "its score is 500: cost 100 x 5" in of(web, "alpha")["why"]

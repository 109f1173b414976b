"""spread.yaml: which clusters are selected, how even replicas are over domains, and what room is kept for a loss."""

import msgspec
import pytest
from tests.support import deciding
from tests.support.tables import Row, cases

from federation.placement import plan
from federation.placement.headroom import Demand, Demands
from machinery.api.fleet.policy import Placement
from machinery.meta.resource import ObjectKey


@pytest.mark.parametrize("row", cases("spread", "clusters"))
def test_clusters(row: Row) -> None:
    deciding.check(row)


@pytest.mark.parametrize("row", cases("spread", "regions"))
def test_regions(row: Row) -> None:
    deciding.check(row)


@pytest.mark.parametrize("row", cases("spread", "groups"))
def test_groups(row: Row) -> None:
    deciding.check(row)


@pytest.mark.parametrize("row", cases("spread", "rules"))
def test_rules(row: Row) -> None:
    deciding.check(row)


@pytest.mark.parametrize("row", cases("spread", "headroom"))
def test_headroom(row: Row) -> None:
    deciding.check(row)


@pytest.mark.parametrize("row", cases("spread", "assess"))
def test_assess(row: Row) -> None:
    told = plan.assess(deciding.request(row), deciding.fleet(row))
    assert [warned.reason for warned in told] == row["tells"]


@pytest.mark.parametrize("row", cases("spread", "kept"))
def test_kept(row: Row) -> None:
    demands = Demands()
    for index, said in enumerate(row["workloads"]):
        demand = Demand(
            said["by"],
            msgspec.convert(said.get("placement", {}), Placement),
            {},
            said["where"],
            said.get("lost", 0),
        )
        demands.put(ObjectKey("demo", f"web-{index}"), demand)
    but = ObjectKey("demo", f"web-{row['but']}") if "but" in row.said else None
    kept = demands.kept(deciding.fleet(row), but=but)
    pods = {name: amounts.get("pods", 0) for name, amounts in kept.items()}
    assert {name: count for name, count in pods.items() if count} == row["keeps"]

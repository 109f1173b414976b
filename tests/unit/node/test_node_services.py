"""Which of a node's settings make a proxy and a name server, and what pods are told of it."""

from dataclasses import replace

import msgspec
import pytest

from cluster_agent.cli import NodeFile, node_config
from cluster_agent.node import services
from cluster_agent.node.clusterset import service as clusterset
from cluster_agent.node.config import NodeConfig

CONFIG = NodeConfig("n", "/state", api_server="https://a:1", pod_cidr="10.1.0.0/24")
FILE = NodeFile("n", "https://a:1", "/ca", "/state", podCIDR="10.1.0.0/24")


@pytest.mark.parametrize(
    ("cluster_dns", "own", "told"),
    [
        pytest.param((), "", (), id="neither: the host's"),
        pytest.param((), "169.254.20.10", ("169.254.20.10",), id="the node's own"),
        pytest.param(("10.9.0.10",), "169.254.20.10", ("10.9.0.10",), id="what was said wins"),
    ],
)
def test_resolvers_of_pods(cluster_dns: tuple[str, ...], own: str, told: tuple[str, ...]) -> None:
    config = replace(CONFIG, cluster_dns=cluster_dns, dns_address=own)
    assert config.pod_resolvers() == told


def test_a_proxy_needs_the_pods_range() -> None:
    replace(CONFIG, service_cidr="10.2.0.0/16").check()
    with pytest.raises(ValueError, match="set the pod range as well"):
        replace(CONFIG, service_cidr="10.2.0.0/16", pod_cidr="").check()


def test_both_families_by_a_comma() -> None:
    config = replace(CONFIG, service_cidr="10.2.0.0/16, fd00::/112", dns_address="169.254.20.10")
    assert services.proxy_config(config).service_cidrs == ("10.2.0.0/16", "fd00::/112")
    assert services.dns_config(config).reverse_cidrs == ("10.2.0.0/16", "fd00::/112")
    whole = replace(config, clusterset_cidr="10.3.0.0/16")
    ranges = services.proxy_config(whole).service_cidrs
    assert ranges == ("10.2.0.0/16", "fd00::/112", "10.3.0.0/16")


@pytest.mark.parametrize(
    ("runtime", "told"),
    [
        pytest.param("containerd", ("10.2.0.0/16", "169.254.20.10"), id="real"),
        pytest.param("hollow", ("", ""), id="hollow nodes have no packets"),
    ],
)
def test_the_file_says_it(runtime: str, told: tuple[str, str]) -> None:
    file = replace(FILE, runtime=runtime, serviceCidr="10.2.0.0/16", dnsAddress="169.254.20.10")
    config = node_config(file)
    assert (config.service_cidr, config.dns_address) == told


def test_off_unless_asked_for() -> None:
    config = node_config(FILE)
    assert (config.service_cidr, config.dns_address) == ("", "")


def test_the_clustersets_range_needs_a_proxy_and_a_name() -> None:
    whole = replace(
        CONFIG, service_cidr="10.2.0.0/16", clusterset_cidr="10.3.0.0/16", cluster_name="alpha"
    )
    whole.check()
    for field in ("service_cidr", "cluster_name"):
        with pytest.raises(ValueError, match="need the service proxy and the cluster's name"):
            replace(whole, **{field: ""}).check()


def test_what_a_node_says_of_its_gateway() -> None:
    config = replace(CONFIG, node_ip="192.0.2.7")
    assert msgspec.json.decode(clusterset.site(config)) == {
        "address": "192.0.2.7",
        "port": 15_443,
        "cidrs": ["10.1.0.0/24"],
        "probe": "10.1.0.1",
    }


@pytest.mark.parametrize(
    ("pod_cidr", "probe"),
    [
        ("10.1.0.0/24", "10.1.0.1"),
        ("10.1.4.0/22", "10.1.4.1"),
        ("10.1.0.7/32", ""),
        ("fd00::/64", ""),
    ],
)
def test_who_answers_probes(pod_cidr: str, probe: str) -> None:
    assert clusterset.probe_of(pod_cidr) == probe

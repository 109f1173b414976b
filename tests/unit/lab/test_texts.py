"""What the lab hands to ip, sh, containerd and the programs: texts as functions of the plan."""

import tomllib
from dataclasses import replace

import pytest
import yaml

from federation.lab import network, programs
from federation.lab.cgroups import Hierarchy, parse_hierarchies
from federation.lab.plan import LabSpec, make_plan

SPEC = LabSpec(directory="/x/.lab", clusters=("alpha", "beta"), nodes=2)
PLAN = make_plan(SPEC, 0)


def test_the_wan_has_a_port_for_every_host() -> None:
    lines = network.wan_batch(PLAN, "/x/.lab/ns").splitlines()
    made = "link add h0 type veth peer name wan0 address 02:55:c6:12:00:0b"
    assert f'{made} netns "/x/.lab/ns/federation-1.net"' in lines
    assert sum(line.startswith("link add h") for line in lines) == len(PLAN.hosts)
    assert "link set machine master wan up" in lines


def test_hosts_of_clusters_route_to_all_pods_but_their_own() -> None:
    node = PLAN.clusters[0].nodes[0]
    routes = [
        line for line in network.host_batch(PLAN, node).splitlines() if line.startswith("route")
    ]
    assert routes == [
        "route add 10.100.2.0/24 via 198.18.1.12",
        "route add 10.200.0.0/16 dev wan0",
        "route add 10.220.0.0/16 dev wan0",
        "route add 10.101.1.0/24 via 198.18.2.11",
        "route add 10.101.2.0/24 via 198.18.2.12",
    ]
    control = network.host_batch(PLAN, PLAN.clusters[0].control)
    assert control.count("route add") == 4
    assert "route" not in network.host_batch(PLAN, PLAN.federation[0])


@pytest.mark.parametrize(
    ("trees", "has", "hasnot"),
    [
        pytest.param(
            (Hierarchy("/sys/fs/cgroup/memory", 1), Hierarchy("/sys/fs/cgroup/unified", 2)),
            [
                "mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup",
                "mount --move /run/cg/0 /sys/fs/cgroup/memory",
            ],
            [],
            id="version 1 and hybrid",
        ),
        pytest.param(
            (Hierarchy("/sys/fs/cgroup", 2),),
            ["mount --bind /sys/fs/cgroup/g/h /run/cg/0", "mount --move /run/cg/0 /sys/fs/cgroup"],
            ["mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup"],
            id="version 2",
        ),
    ],
)
def test_a_node_sees_its_own_group_as_root(
    trees: tuple[Hierarchy, ...], has: list[str], hasnot: list[str]
) -> None:
    lines = network.node_mounts("g/h", trees, {}, "/x/.lab/ns").splitlines()
    assert all(line in lines for line in has)
    assert not any(line in lines for line in hasnot)


MOUNTINFO = """\
30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 1 8:1 / / rw - ext4 /dev/root rw
"""


def test_hierarchies_are_read_from_mountinfo() -> None:
    assert parse_hierarchies(MOUNTINFO) == (
        Hierarchy("/sys/fs/cgroup/cpu,cpuacct", 1),
        Hierarchy("/sys/fs/cgroup/unified", 2),
    )


def test_containerd_keeps_its_data_in_the_lab() -> None:
    config = tomllib.loads(programs.containerd_config("/x/.lab/data/n", "overlayfs"))
    assert config["root"] == "/x/.lab/data/n/containerd"
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["restrict_oom_score_adj"] is True
    assert cri["containerd"]["snapshotter"] == "overlayfs"
    assert cri["cni"]["conf_dir"] == "/x/.lab/data/n/cni/net.d"


def test_configurations_have_the_agreed_keys() -> None:
    cluster = PLAN.clusters[1]
    federation = programs.federation_config(PLAN, PLAN.federation[0])
    assert list(federation) == [
        "dataDir",
        "listen",
        "advertise",
        "databaseUrl",
        "failbackStabilizationSeconds",
    ]
    control = programs.control_config(PLAN, cluster, "/ca", "a.b")
    assert control["federation"] == {
        "url": "https://198.18.0.11:6443",
        "caFile": "/ca",
        "token": "a.b",
    }
    assert (control["cluster"], control["zone"], control["region"]) == (
        "beta",
        "zone-b",
        "region-1",
    )
    assert (control["serviceCidr"], control["clustersetCidr"]) == ("10.201.0.0/16", "10.221.0.0/16")
    node = programs.node_config(PLAN, cluster, cluster.nodes[0], "/ca", "a.b")
    assert (node["serviceCidr"], node["dnsAddress"]) == ("10.201.0.0/16", "169.254.20.10")
    assert node["clustersetCidr"] == "10.221.0.0/16"
    assert node["server"] == "https://198.18.2.1:6443"
    assert (node["node"], node["nodeIP"], node["podCIDR"]) == (
        "node-1",
        "198.18.2.11",
        "10.101.1.0/24",
    )
    assert yaml.safe_load(programs.to_yaml(node)) == node


@pytest.mark.parametrize(
    ("change", "stem", "count"),
    [
        pytest.param({"hollow_nodes": 7}, "hollow", 7, id="beside real nodes"),
        pytest.param({"runtime": "hollow"}, "node", 2, id="instead of real nodes"),
    ],
)
def test_hollow_nodes_are_one_process(change: dict[str, object], stem: str, count: int) -> None:
    plan = make_plan(replace(SPEC, **change), 0)
    cluster = plan.clusters[0]
    assert cluster.hollow is not None
    config = programs.node_config(plan, cluster, cluster.hollow, "/ca", "a.b")
    assert (config["node"], config["runtime"], config["hollowNodes"]) == (stem, "hollow", count)
    assert (config["serviceCidr"], config["dnsAddress"]) == ("", "")
    assert config["clustersetCidr"] == ""
    assert config["kubeconfig"] == "/x/.lab/data/alpha-control/admin.kubeconfig"
    assert len(programs.node_specs(plan, "/bin")) == 2 * (1 + len(cluster.nodes))


def test_processes_enter_their_host_and_keep_their_command() -> None:
    (spec,) = programs.server_specs(PLAN, "/v/bin")
    assert spec.argv[:2] == ("/bin/sh", "-ec")
    assert spec.argv[-3:] == (
        "/v/bin/federation-server",
        "--config",
        "/x/.lab/config/federation-1.yaml",
    )
    assert spec.ready == "tcp:198.18.0.11:6443"
    rootless = make_plan(replace(SPEC, rooted=False, runtime="hollow"), 0)
    (plain,) = programs.server_specs(rootless, "/v/bin")
    assert plain.argv[0] == "/v/bin/federation-server"


DATABASES = [
    ("", None, ""),
    ("sqlite:////x/f.db", None, "sqlite:////x/f.db"),
    (
        "postgresql://u:p@db.example:5433/f",
        ("db.example", 5433),
        "postgresql://u:p@127.0.0.1:5433/f",
    ),
    (
        "postgresql://localhost/f?ssl=off",
        ("localhost", 5432),
        "postgresql://127.0.0.1:5432/f?ssl=off",
    ),
    ("postgresql://u@/f?host=/run/pg", None, "postgresql://u@/f?host=/run/pg"),
]


@pytest.mark.parametrize(("given", "place", "inside"), DATABASES)
def test_a_database_on_the_machine_is_forwarded(
    given: str, place: tuple[str, int] | None, inside: str
) -> None:
    assert programs.database_place(given) == place
    plan = make_plan(replace(SPEC, database_url=given), 0)
    assert programs.database_inside(plan) == inside
    assert programs.database_inside(make_plan(replace(plan.spec, rooted=False), 0)) == given
    forwards = [s for s in programs.server_specs(plan, "/b") if s.name == "federation-1-database"]
    assert len(forwards) == (1 if place else 0)


def test_several_servers_share_data_and_stand_behind_one_address() -> None:
    plan = make_plan(replace(SPEC, servers=2, database_url="postgresql:///x?host=/run"), 0)
    assert {programs.data_dir(plan, host.name) for host in plan.federation} == {
        "/x/.lab/data/federation"
    }
    advertised = {programs.federation_config(plan, host)["advertise"] for host in plan.federation}
    assert advertised == {"https://198.18.0.10:6443"}
    front = programs.server_specs(plan, "/b")[-1]
    assert front.argv[-3:] == ("--to", "198.18.0.11:6443", "198.18.0.12:6443")

"""Exports of one name become one import: who wins, which ports, and what everybody is told. KEP-1645, rule by rule."""

import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.traffic import conflicts
from federation.traffic.conflicts import Export
from federation.traffic.merge import NOBODY, Held, Merged, by_precedence, merge
from machinery.api.fleet.multicluster import (
    CLUSTERSET_IP,
    HEADLESS,
    ExportedServiceSpec,
    ImportPort,
)
from machinery.api.service_kinds import ClientIPConfig, SessionAffinityConfig

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HTTP, HTTPS = ImportPort(80, "http"), ImportPort(443, "https")


def at(seconds: float) -> dt.datetime:
    return START + dt.timedelta(seconds=seconds)


def affinity(seconds: int) -> dict[str, Any]:
    config = SessionAffinityConfig(ClientIPConfig(seconds))
    return {"session_affinity": "ClientIP", "session_affinity_config": config}


def export(cluster: str, age: float = 0, **spec: Any) -> Export:
    fields = {"exported_at": at(age), "ports": (HTTP,), "ip_families": ("IPv4",)} | spec
    return Export(cluster, ExportedServiceSpec(**fields))


def merged(*exports: Export, held: Held | None = None) -> Merged:
    found = merge(exports, held)
    assert found is not None
    return found


def reason(*exports: Export, held: Held | None = None) -> str:
    return str(conflicts.condition(merged(*exports, held=held).disagreements)["reason"])


def message(*exports: Export, held: Held | None = None) -> str:
    return str(conflicts.condition(merged(*exports, held=held).disagreements)["message"])


def test_nothing_exported_is_no_import() -> None:
    assert merge([]) is None


# -------------------------------------------------------------------------------------------------- precedence
@pytest.mark.parametrize(
    ("ages", "order"),
    [
        ({"alpha": 5, "beta": 1, "gamma": 3}, "beta gamma alpha"),
        ({"gamma": 1, "beta": 1, "alpha": 1}, "alpha beta gamma"),
        ({"beta": 1.2, "alpha": 1.9}, "alpha beta"),
        ({"beta": 1.9, "alpha": 2.0}, "beta alpha"),
    ],
    ids=["oldest first", "ties by name", "one second is one second", "but not two"],
)
def test_precedence(ages: dict[str, float], order: str) -> None:
    found = by_precedence(export(name, age) for name, age in ages.items())
    assert [e.cluster for e in found] == order.split()


def test_an_export_without_a_time_is_the_youngest() -> None:
    timeless = Export("alpha", ExportedServiceSpec())
    assert [e.cluster for e in by_precedence([timeless, export("beta", 9)])] == ["beta", "alpha"]


# ------------------------------------------------------------------------------------------------------- ports
PORTS = [
    ("the same", [[HTTP], [HTTP]], [HTTP], ""),
    ("joined", [[HTTP], [HTTPS]], [HTTP, HTTPS], "joined"),
    ("a subset", [[HTTP, HTTPS], [HTTP]], [HTTP, HTTPS], "joined"),
    (
        "one name, two numbers",
        [[HTTP], [ImportPort(8080, "http")]],
        [HTTP],
        'left out: "http" TCP 8080 of c1 (taken: "http" TCP 80)',
    ),
    (
        "one number, two names",
        [[HTTP], [ImportPort(80, "web")]],
        [HTTP],
        'left out: "web" TCP 80 of c1 (taken: "http" TCP 80)',
    ),
    (
        "no name is a name",
        [[ImportPort(80)], [ImportPort(81)]],
        [ImportPort(80)],
        "left out: TCP 81 of c1 (taken: TCP 80)",
    ),
    (
        "protocols are apart",
        [[ImportPort(42, "tcp")], [ImportPort(42, "udp", "UDP")]],
        [ImportPort(42, "tcp"), ImportPort(42, "udp", "UDP")],
        "joined",
    ),
    (
        "another application protocol",
        [[HTTP], [ImportPort(80, "http", app_protocol="h2c")]],
        [HTTP],
        "joined",
    ),
    (
        "the youngest loses against both",
        [[HTTP], [HTTPS], [ImportPort(443, "http")]],
        [HTTP, HTTPS],
        'left out: "http" TCP 443 of c2',
    ),
    ("order does not matter", [[HTTP, HTTPS], [HTTPS, HTTP]], [HTTP, HTTPS], ""),
]


@pytest.mark.parametrize(
    ("ports", "wanted", "said"), [c[1:] for c in PORTS], ids=[c[0] for c in PORTS]
)
def test_ports(ports: list[list[ImportPort]], wanted: list[ImportPort], said: str) -> None:
    found = [export(f"c{i}", i, ports=tuple(p)) for i, p in enumerate(ports)]
    assert list(merged(*found).ports) == wanted
    assert (reason(*found) == "PortConflict") is bool(said)
    assert said in message(*found)


_ANY_PORT = st.builds(
    ImportPort,
    st.integers(1, 4),
    st.sampled_from(["", "a", "b", "c"]),
    st.sampled_from(["TCP", "UDP"]),
)


@given(st.lists(st.lists(_ANY_PORT, max_size=3), min_size=1, max_size=4))
def test_no_name_and_no_number_stands_twice_and_the_oldest_loses_nothing(
    ports: list[list[ImportPort]],
) -> None:
    own = [list({p.name: p for p in {(q.protocol, q.port): q for q in some}.values()}.values()) for some in ports]  # fmt: skip
    found = merged(*(export(f"c{i}", i, ports=tuple(p)) for i, p in enumerate(own)))
    names = [p.name for p in found.ports]
    numbers = [(p.protocol, p.port) for p in found.ports]
    assert len(set(names)) == len(names)
    assert len(set(numbers)) == len(numbers)
    assert list(found.ports[: len(own[0])]) == own[0]


# --------------------------------------------------------------------------------------------------- conflicts
CONFLICTS = [
    ("TypeConflict", {"type": HEADLESS}, {"type": CLUSTERSET_IP}, 'type: "Headless" of alpha'),
    ("SessionAffinityConflict", affinity(10), {}, 'sessionAffinity: "ClientIP" of alpha'),
    (
        "SessionAffinityConfigConflict", affinity(10), affinity(20),
        "sessionAffinityConfig.clientIP.timeoutSeconds: 10 s of alpha",
    ),
    (
        "InternalTrafficPolicyConflict", {"internal_traffic_policy": "Local"},
        {"internal_traffic_policy": "Cluster"}, 'internalTrafficPolicy: "Local" of alpha',
    ),
    (
        "TrafficDistributionConflict", {"traffic_distribution": "PreferClose"}, {},
        'trafficDistribution: "PreferClose" of alpha',
    ),
    (
        "AnnotationsConflict", {"exported_annotations": {"a": "1"}},
        {"exported_annotations": {"a": "2"}}, "exportedAnnotations: the set {a} of alpha",
    ),
    (
        "LabelsConflict", {"exported_labels": {"a": "1"}}, {},
        "exportedLabels: the set {a} of alpha",
    ),
    (
        "IPFamilyConflict", {"ip_families": ("IPv4", "IPv6")}, {"ip_families": ("IPv4",)},
        "ipFamilies: IPv4, IPv6 of alpha",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "old", "young", "said"), CONFLICTS, ids=[c[0] for c in CONFLICTS]
)
def test_the_oldest_wins_each_field_and_all_are_told(
    wanted: str, old: dict[str, Any], young: dict[str, Any], said: str
) -> None:
    exports = [export("zeta", 2, **old), export("alpha", 0, **old), export("beta", 1, **young)]
    assert reason(*exports) == wanted
    told = message(*exports)
    assert told.startswith(said)
    assert told.endswith("1/3 clusters disagree (beta)")
    found = merged(*exports)
    for name in (
        "type", "session_affinity", "session_affinity_config", "internal_traffic_policy",
        "traffic_distribution", "ip_families",
    ):  # fmt: skip
        assert getattr(found, name) == getattr(exports[1].spec, name)
    assert found.labels == exports[1].spec.exported_labels
    assert found.annotations == exports[1].spec.exported_annotations


def test_no_conflict() -> None:
    exports = [export("alpha"), export("beta", internal_traffic_policy="Cluster")]
    told = conflicts.condition(merged(*exports).disagreements)
    assert (told["status"], told["reason"]) == ("False", "NoConflicts")


def test_a_family_more_than_the_import_has_is_no_conflict() -> None:
    assert reason(export("alpha"), export("beta", 1, ip_families=("IPv6", "IPv4"))) == "NoConflicts"
    assert reason(export("alpha"), export("beta", 1, ip_families=("IPv6",))) == "IPFamilyConflict"


def test_several_reasons_are_parted_by_commas() -> None:
    told = reason(export("alpha"), export("beta", 1, type=HEADLESS, ports=(HTTPS,)))
    assert told == "PortConflict,TypeConflict"


def test_all_that_disagree_are_counted() -> None:
    exports = [
        export(name, i, type=HEADLESS if i else CLUSTERSET_IP) for i, name in enumerate("abcde")
    ]
    assert message(*exports).endswith("4/5 clusters disagree (b, c, d, e)")


# ----------------------------------------------------------------------------------- headless under consumers
HELD = [
    ("nobody consumes yet", None, {"a": HEADLESS}, (HEADLESS, "a")),
    ("it stays", Held(HEADLESS, "a"), {"a": HEADLESS, "b": CLUSTERSET_IP}, (HEADLESS, "a")),
    ("the oldest left", Held(HEADLESS, "a"), {"b": CLUSTERSET_IP}, (HEADLESS, NOBODY)),
    ("and is gone", Held(HEADLESS, NOBODY), {"b": CLUSTERSET_IP}, (HEADLESS, NOBODY)),
    ("and is back", Held(HEADLESS, NOBODY), {"b": CLUSTERSET_IP, "z": HEADLESS}, (HEADLESS, NOBODY)),
    ("an heir agrees", Held(HEADLESS, NOBODY), {"b": HEADLESS}, (HEADLESS, "b")),
    ("it changed its mind", Held(HEADLESS, "a"), {"a": CLUSTERSET_IP}, (CLUSTERSET_IP, "a")),
    (
        "an older one is heard late", Held(HEADLESS, "b"), {"a": CLUSTERSET_IP, "b": HEADLESS},
        (CLUSTERSET_IP, "a"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("held", "types", "wanted"), [c[1:] for c in HELD], ids=[c[0] for c in HELD]
)
def test_type(held: Held | None, types: dict[str, str], wanted: tuple[str, str]) -> None:
    found = merged(*(export(n, i, type=t) for i, (n, t) in enumerate(types.items())), held=held)
    assert (found.type, found.type_from) == wanted


def test_a_type_that_stays_is_reported() -> None:
    told = message(export("beta"), held=Held(HEADLESS, "alpha"))
    assert 'type: "Headless" stays, since consumers use it' in told
    assert told.endswith("1/1 clusters disagree (beta)")


# ------------------------------------------------------------------------------------------------------ labels
@pytest.mark.parametrize(
    "key",
    ["ubernetes.io/cluster", "x.karmada.io/y", "karmada.io/managed", "no key at all", "a/b/c"],
)
def test_labels_that_cannot_stand_on_the_import_do_not(key: str) -> None:
    found = merged(
        export("alpha", exported_labels={key: "x", "app": "web"}, exported_annotations={key: "x"})
    )
    assert found.labels == {"app": "web"}
    assert found.annotations == {}


def test_the_order_in_which_exports_are_heard_means_nothing() -> None:
    exports = [
        export("alpha", 2, type=HEADLESS),
        export("beta", 1, ports=(HTTPS,)),
        export("gamma", 1, ports=(ImportPort(443, "http"),)),
    ]
    assert len({str(merged(*some)) for some in itertools.permutations(exports)}) == 1

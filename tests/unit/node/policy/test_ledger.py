"""Differences in any order end where a fresh start would; tables follow one another by transactions that nft takes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.node.policy.packets import Packet, passes
from tests.unit.node.policy.worlds import BOTH, GATEWAY, IPS, key, ledger, pod, policy, table

from cluster_agent.node.policy import changes
from cluster_agent.node.policy.inputs import pod_of, policy_of
from cluster_agent.node.policy.layout import TABLE, compile_rules
from cluster_agent.node.policy.ledger import Ledger
from cluster_agent.node.policy.model import Ruleset
from cluster_agent.node.policy.table import PolicyTable
from cluster_agent.node.proxy.nft import Form, NftError
from cluster_agent.node.proxy.nft_memory import MemoryNft

WEB = {"matchLabels": {"app": "web"}}
SELECTORS: list[dict[str, Any]] = [
    {}, WEB, {"matchLabels": {"app": "db"}},
    {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
]  # fmt: skip
SPACES: list[dict[str, Any]] = [
    {}, {"matchLabels": {"team": "ops"}}, {"matchLabels": {"kubernetes.io/metadata.name": "lab"}},
]  # fmt: skip
PEERS: list[dict[str, Any]] = [
    *({"podSelector": one} for one in SELECTORS),
    *({"namespaceSelector": one} for one in SPACES),
    {"podSelector": WEB, "namespaceSelector": SPACES[1]},
    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
]
PORTS: list[dict[str, Any]] = [
    {"port": "http"}, {"port": 80}, {"protocol": "UDP"}, {"port": 1, "endPort": 99},
]  # fmt: skip
rules = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "from": st.lists(st.sampled_from(PEERS), max_size=3),
            "ports": st.lists(st.sampled_from(PORTS), max_size=2),
        },
    ),
    max_size=2,
)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("policy"), st.sampled_from(["shop/a", "shop/b", "ops/a"]),
            st.one_of(st.none(), st.tuples(st.sampled_from(SELECTORS), rules)),
        ),
        st.tuples(
            st.just("pod"), st.sampled_from(sorted(IPS)),
            st.one_of(
                st.none(),
                st.tuples(
                    st.sampled_from([{"app": "web"}, {"app": "db"}, {}]), st.sampled_from(["here", "there"]),
                    st.sampled_from([(), ("10.1.0.2",), ("10.1.0.9", "fd00::9")]), st.booleans(),
                ),
            ),
        ),
        st.tuples(
            st.just("space"), st.sampled_from(["shop", "ops", "lab"]),
            st.one_of(st.none(), st.sampled_from([{}, {"team": "ops"}])),
        ),
    ),
    max_size=25,
)  # fmt: skip


def put(book: Ledger, kind: str, name: str, what: Any) -> None:
    if kind == "policy":
        found = None
        if what is not None:
            spec = {"podSelector": what[0], "policyTypes": ["Ingress"], "ingress": what[1]}
            found = policy_of(policy(spec, *name.split("/")))
        book.put_policy(key(name), found)
    elif kind == "pod":
        made = None
        if what is not None:
            labels, node, ips, deleting = what
            made = pod_of(pod(name, labels=labels, node=node, ips=ips, deleting=deleting))
        book.put_pod(key(name), made)
    else:
        book.put_space(name, what)


def again(book: Ledger) -> Ledger:
    """The same state, put into a new one at once."""
    fresh = Ledger(book.node)
    for name, labels in book.spaces.items():
        fresh.put_space(name, labels)
    for one, policy_ in book.policies.items():
        fresh.put_policy(one, policy_)
    for one, pod_ in book.pods.items():
        fresh.put_pod(one, pod_)
    return fresh


def contents(nft: MemoryNft) -> tuple[Any, Any]:
    held = nft.tables.get(("inet", TABLE))
    if held is None:
        return {}, {}
    chains = {name: tuple(rules) for name, (_, rules) in held.chains.items()}
    elements = {
        name: {f"{k} : {v}" if v else k for k, v in holder.elements.items()}
        for name, holder in held.holders.items()
    }
    return chains, elements


@settings(max_examples=150, deadline=None)
@given(steps)
def test_any_way_leads_to_the_same_table_and_nft_takes_every_step(moves: list[Any]) -> None:
    book, nft = ledger(), MemoryNft(TABLE)
    kernel = PolicyTable(nft)
    for kind, name, what in moves:
        put(book, kind, name, what)
        wanted = compile_rules(book, BOTH, GATEWAY)
        _ = kernel.step(wanted)
        chains, elements = contents(nft)
        assert chains == {name: chain.rules for name, chain in wanted.chains.items()}
        assert elements == {name: set(h.elements) for name, h in wanted.holders.items()}
    assert compile_rules(again(book), BOTH, GATEWAY) == compile_rules(book, BOTH, GATEWAY)


def test_a_pod_that_comes_changes_elements_and_no_rule() -> None:
    book = ledger(policy({"podSelector": WEB, "ingress": [{"from": [{"podSelector": {}}]}]}))
    before = compile_rules(book, BOTH)
    book.put_pod(key("shop/new"), pod_of(pod("shop/new", ips=("10.1.1.9",), node="there")))
    after = compile_rules(book, BOTH)
    (command,) = changes.change(before, after)
    assert command.startswith(f"add element inet {TABLE} peers4-")
    assert command.endswith("{ 10.1.1.9 }")
    assert changes.change(after, compile_rules(book, BOTH)) == ()


def test_a_policy_that_selects_nobody_here_costs_nothing() -> None:
    assert table(policy({"podSelector": {"matchLabels": {"app": "none"}}})) == Ruleset()
    assert table(policy({"podSelector": WEB}), node="elsewhere") == Ruleset()


def test_an_address_belongs_to_the_pod_that_stays() -> None:
    book = ledger(policy({"podSelector": WEB}))
    book.put_pod(key("shop/web"), pod_of(pod("shop/web", deleting=True)))
    book.put_pod(key("ops/probe"), pod_of(pod("ops/probe", ips=(IPS["shop/web"],))))
    made = compile_rules(book, ("ip",))
    assert passes(made, Packet("10.9.9.9", IPS["shop/web"]))


def test_labels_of_a_namespace_decide_again() -> None:
    only_core = {"from": [{"namespaceSelector": {"matchLabels": {"tier": "core"}}}]}
    book = ledger(policy({"podSelector": WEB, "ingress": [only_core]}))
    said = Packet(IPS["lab/tool"], IPS["shop/web"])
    assert not passes(compile_rules(book, BOTH), said)
    book.put_space("lab", {"tier": "core"})
    assert passes(compile_rules(book, BOTH), said)
    book.put_space("lab", None)
    assert not passes(compile_rules(book, BOTH), said)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_has_no_address(phase: str) -> None:
    assert pod_of(pod("shop/web", phase=phase)) is None


def test_ports_of_sidecars_have_names_too_and_those_of_init_containers_not() -> None:
    ports = [{"name": "metrics", "containerPort": 9100}]
    made = pod_of(pod("lab/tool", init=[{"ports": ports, "restartPolicy": "Always"}]))
    assert made is not None
    assert made.ports == (("metrics", "tcp", 9100),)
    made = pod_of(pod("lab/tool", init=[{"ports": ports}]))
    assert made is not None
    assert made.ports == ()


def test_what_the_kernel_refuses_is_loaded_whole() -> None:
    book, nft = ledger(policy({"podSelector": WEB})), MemoryNft(TABLE)
    kernel = PolicyTable(nft)
    _ = kernel.step(compile_rules(book, BOTH))
    book.put_policy(key("shop/q"), policy_of(policy({"podSelector": {}}, name="q")))
    nft.refuse_next = "Device or resource busy"
    _ = kernel.step(compile_rules(book, BOTH))
    assert kernel.loads == 2
    wanted = compile_rules(book, BOTH)
    assert contents(nft)[0] == {name: chain.rules for name, chain in wanted.chains.items()}


def test_a_load_that_is_refused_leaves_what_there_was() -> None:
    nft = MemoryNft(TABLE)
    kernel = PolicyTable(nft)
    _ = kernel.step(table(policy({"podSelector": WEB})))
    before = contents(nft)
    later = PolicyTable(nft)
    nft.refuse_next = "no"
    with pytest.raises(NftError):
        _ = later.step(table(policy({"podSelector": {}})))
    assert contents(nft) == before
    _ = later.step(Ruleset())
    assert contents(nft) == ({}, {})


def test_a_table_that_somebody_changed_is_noticed() -> None:
    nft = MemoryNft(TABLE)
    kernel = PolicyTable(nft)
    _ = kernel.step(table(policy({"podSelector": WEB})))
    assert kernel.intact()
    nft.apply((f"flush chain inet {TABLE} ingress",))
    assert not kernel.intact()
    _ = kernel.step(table(policy({"podSelector": WEB})))
    assert kernel.intact()


def test_a_node_without_policies_touches_nothing() -> None:
    nft = MemoryNft(TABLE)
    assert PolicyTable(nft).step(Ruleset()) == 0
    assert nft.applied == []


def test_a_machine_without_nftables_is_well_while_no_policy_wants_it() -> None:
    class Without(MemoryNft):
        def form(self, family: str) -> Form:
            raise NftError("Protocol not supported")

    kernel = PolicyTable(Without(TABLE))
    assert kernel.step(Ruleset()) == 0
    assert kernel.intact()
    with pytest.raises(NftError):
        _ = kernel.step(table(policy({"podSelector": WEB})))

"""Who gets a seat, and what is overdue: tables, and a model for any order of events."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery.server.arrivals import Addresses, Arriving
from machinery.server.fairqueue import FLOWS_KEPT, FairQueue
from machinery.server.impersonation import is_asked
from machinery.server.limits import Limits
from machinery.server.request import parse_target
from machinery.server.shares import Share, begins_with_all, cost_of, share_of
from machinery.server.user import ADMIN, ANONYMOUS, LOOPBACK, UserInfo, service_account_user


# ------------------------------------------------------------------------------------------------- the queue
def served(seats: int, asked: str, costs: dict[str, int] | None = None, most: int = 100) -> str:
    """Flows in the order of their seats: all come at once, then whoever has had a seat for longest leaves."""
    queue: FairQueue[str] = FairQueue(seats, most)
    seated = []
    for number, flow in enumerate(asked):
        cost = (costs or {}).get(flow, 1)
        if queue.take(flow, cost):
            seated.append(flow)
        elif not queue.wait(flow, cost, f"{flow}{number}"):
            seated.append("-")
    left = [flow for flow in seated if flow != "-"]
    while left:
        now = [name[0] for name in queue.leave(left.pop(0))]
        seated += now
        left += now
    assert (queue.seated, queue.waiting) == (0, 0)
    return "".join(seated)


@pytest.mark.parametrize(
    ("asked", "costs", "order"),
    [
        ("aaa", {}, "aaa"),
        ("aaaaaaaab", {}, "aaabaaaaa"),  # a flow has at most three seats of four
        ("aaacaaaaaabb", {}, "aaacbabaaaaa"),  # who was silent is next, and then they take turns
        ("aaacbbbaaa", {}, "aaacbababa"),
        ("aaabaaabbbbb", {"a": 3}, "aaabbbabbbaa"),  # a turn of `a` costs three of `b`
        ("aaacaaaaaabbbbbb", {"a": 3}, "aaacbbbabbbaaaaa"),
        ("aaabcccaaabbb", {}, "aaabcbacbacba"),
    ],
)
def test_seats_go_round(asked: str, costs: dict[str, int], order: str) -> None:
    assert served(4, asked, costs) == order


def test_a_flow_that_has_enough_waiting_is_refused_and_no_other() -> None:
    queue: FairQueue[int] = FairQueue(2, 2)
    assert queue.take("a", 1)
    assert [queue.wait("a", 1, number) for number in range(4)] == [True, True, False, False]
    assert queue.take("b", 1)
    assert not queue.take("b", 1)
    assert queue.wait("b", 1, 9)
    assert queue.leave("b") == [9]


def test_who_gives_up_gets_no_seat() -> None:
    queue: FairQueue[str] = FairQueue(2, 9)
    assert queue.take("a", 1)
    for name in "xyz":
        assert queue.wait("a", 1, name)
    assert queue.give_up("a", "x")
    assert not queue.give_up("a", "x")
    assert not queue.give_up("nobody", "x")
    assert queue.leave("a") == ["y"]
    assert not queue.give_up("a", "y")
    assert queue.leave("a") == ["z"]
    assert queue.leave("a") == []


def test_silence_earns_no_credit() -> None:
    queue: FairQueue[str] = FairQueue(4, 99)
    for _ in range(50):
        assert queue.take("a", 1)
        assert queue.leave("a") == []
    left = [flow for flow in "aaab" if queue.take(flow, 1)]
    for number in range(6):
        assert queue.wait("b", 1, f"b{number}")
        assert queue.wait("a", 1, f"a{number}")
    order = ""
    while left:
        now = [name[0] for name in queue.leave(left.pop(0))]
        order += "".join(now)
        left += now
    assert order == "ba" * 6


def test_flows_without_work_are_forgotten() -> None:
    queue: FairQueue[str] = FairQueue(4, 9)
    for number in range(20 * FLOWS_KEPT):
        assert queue.take(f"flow-{number}", 1)
        assert queue.leave(f"flow-{number}") == []
    assert len(queue._flows) <= FLOWS_KEPT


@given(
    st.integers(2, 6),
    st.integers(0, 4),
    st.lists(
        st.tuples(st.sampled_from("+++--?"), st.integers(0, 3), st.integers(1, 9)), max_size=80
    ),
)
def test_any_order(seats: int, most: int, events: list[tuple[str, int, int]]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(seats, most)
    seated: list[str] = []
    waiting: dict[str, list[tuple[str, int]]] = {flow: [] for flow in "abcd"}
    for number, (event, which, cost) in enumerate(events):
        flow = "abcd"[which]
        request = (flow, number)
        if event == "+":
            if queue.take(flow, cost):
                seated.append(flow)
            elif queue.wait(flow, cost, request):
                waiting[flow].append(request)
            else:
                assert len(waiting[flow]) == most
        elif event == "-" and seated:
            for now in queue.leave(seated.pop(which % len(seated))):
                assert now == waiting[now[0]].pop(0)  # first come, first served within a flow
                seated.append(now[0])
        elif event == "?" and waiting[flow]:
            assert queue.give_up(flow, waiting[flow].pop(cost % len(waiting[flow])))
        had = Counter(seated)
        assert queue.seated == len(seated) <= seats
        assert queue.waiting == sum(map(len, waiting.values()))
        assert all(count <= queue.flow_seats for count in had.values())
        if len(seated) < seats:  # nobody waits in vain
            assert all(had[each] == queue.flow_seats for each in "abcd" if waiting[each])


# ------------------------------------------------------------------------------------------------- shares
BOB = UserInfo("bob", ("system:authenticated",))
NODE = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
PODS = "/api/v1/namespaces/a/pods"


@pytest.mark.parametrize(
    ("user", "path", "cost", "share"),
    [
        (NODE, LEASE, 1, Share("leases", "system:node:n1")),
        (BOB, LEASE, 1, Share("leases", "bob")),
        (BOB, "/apis/example.org/v1/namespaces/a/leases/x", 1, Share("users", "bob")),
        (NODE, f"{PODS}/p", 1, Share("nodes", "system:node:n1")),
        (NODE, PODS, 251, Share("scans", "system:node:n1", 251)),
        (UserInfo("system:node:n1"), PODS, 1, Share("system", "system:node:n1")),
        (BOB, PODS, 250, Share("users", "bob")),
        (BOB, PODS, 251, Share("scans", "bob", 251)),
        (ADMIN, PODS, 1, Share("system", ADMIN.name)),
        (ADMIN, PODS, 30_000, Share("scans", ADMIN.name, 30_000)),
        (LOOPBACK, PODS, 1, Share("system", LOOPBACK.name)),
        (ANONYMOUS, "/version", 0, Share("users", ANONYMOUS.name)),
        (UserInfo("system:kube-scheduler"), PODS, 1, Share("system", "system:kube-scheduler")),
        (service_account_user("kube-system", "x"), PODS, 1, Share("system", "system:serviceaccount:kube-system:x")),
        (service_account_user("shop", "x"), PODS, 1, Share("workloads", "system:serviceaccount:shop:x")),
    ],
)  # fmt: skip
def test_shares(user: UserInfo, path: str, cost: int, share: Share) -> None:
    assert share_of(user, parse_target("GET", path), cost, 250) == share


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("", 1000),
        ("?limit=500", 500),
        ("?limit=5000", 1000),
        ("?limit=0", 1000),
        ("?limit=-5", 1000),
        ("?limit=99999999999999999999", 1000),
        ("?limit=500&resourceVersion=0", 1000),  # the limit is ignored there
        ("?limit=1&labelSelector=app%3Dweb", 1000),  # all are looked at
        ("?limit=1&fieldSelector=spec.nodeName%3Dn", 1000),
        ("?watch=1&limit=5", 1000),
    ],
)
def test_costs(query: str, cost: int) -> None:
    assert cost_of(parse_target("GET", PODS + query), 1000) == cost


@pytest.mark.parametrize(
    ("query", "all_first"),
    [("", True), ("&resourceVersion=0", True), ("&resourceVersion=7", False),
     ("&resourceVersion=7&sendInitialEvents=true", True)],
)  # fmt: skip
def test_watches_that_begin_with_all(query: str, all_first: bool) -> None:
    assert begins_with_all(parse_target("GET", f"{PODS}?watch=1{query}")) is all_first


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        ((), False),
        (("Host", "User-Agent", "Accept"), False),
        (("Host", "If-None-Match", "X-Impersonate-User"), False),
        (("Impersonate-User",), True),
        (("Host", "impersonate-group"), True),
        (("IMPERSONATE-UID",), True),
        (("Impersonate-Extra-scopes",), True),
        (("impersonate-extra-a%2fb",), True),
        (("Impersonate-Nothing", "Impersonate-Users", ""), False),
    ],
)
def test_whether_another_identity_is_asked_for(names: tuple[str, ...], asked: bool) -> None:
    assert is_asked(names) is asked


# ------------------------------------------------------------------------------------------------- what does not come
class Body:
    """A body of which so many bytes are here."""

    def __init__(self, total_bytes: int, *, ended: bool = False) -> None:
        self.total_bytes = total_bytes
        self.ended = ended

    def is_eof(self) -> bool:
        return self.ended


LIMITS = Limits(head_s=30, body_grace_s=60, body_bytes_s_min=1000)


def overdue(arriving: Arriving, now: float, *, busy: bool = False, unread: bool = False) -> str:
    return arriving.overdue(now, LIMITS, busy=busy, unread=unread)


def test_a_connection_must_begin() -> None:
    arriving = Arriving(100)
    assert overdue(arriving, 130) == ""
    assert overdue(arriving, 131) == "head"


def test_between_two_requests_there_is_time() -> None:
    arriving = Arriving(0)
    arriving.whole(Body(0, ended=True))
    assert overdue(arriving, 3000) == ""
    assert arriving.part(5) == 5
    assert overdue(arriving, 3005) == ""
    assert arriving.part(5) == 10  # byte by byte is no progress
    assert overdue(arriving, 3035) == ""
    assert overdue(arriving, 3036) == "head"
    arriving.whole(Body(0, ended=True))
    assert overdue(arriving, 3037) == ""


def test_while_we_answer_nobody_is_late() -> None:
    arriving = Arriving(0)
    arriving.whole(Body(0, ended=True))
    arriving.part(5)
    assert overdue(arriving, 10) == ""
    assert overdue(arriving, 500, busy=True) == ""
    assert overdue(arriving, 529) == ""
    assert overdue(arriving, 531) == "head"


@pytest.mark.parametrize(
    ("age", "size", "late"),
    [
        (60, 0, ""),
        (61, 0, "body"),
        (61, 1000, ""),
        (100, 39_999, "body"),
        (100, 40_000, ""),
    ],
)
def test_a_body_comes_at_some_rate(age: float, size: int, late: str) -> None:
    arriving, body = Arriving(0), Body(0)
    arriving.whole(body)
    assert overdue(arriving, 10, busy=True) == ""
    body.total_bytes = size
    arriving.part(size)
    assert overdue(arriving, 10 + age, busy=True) == late
    body.ended = True
    assert overdue(arriving, 10 + age, busy=True) == ""


def test_a_body_that_we_do_not_read_is_not_late() -> None:
    arriving = Arriving(0)
    arriving.whole(Body(0))
    assert overdue(arriving, 10) == ""
    assert overdue(arriving, 500, unread=True) == ""
    assert overdue(arriving, 560) == ""
    assert overdue(arriving, 561) == "body"


def test_a_stream_has_all_the_time() -> None:
    arriving = Arriving(0)
    arriving.whole(Body(0))
    arriving.lasts = True
    assert [overdue(arriving, now, busy=True) for now in (10, 1000, 2000)] == ["", "", ""]
    arriving.whole(Body(0))  # of the next request
    assert overdue(arriving, 3000, busy=True) == ""
    assert overdue(arriving, 3061, busy=True) == "body"


def test_connections_of_an_address() -> None:
    addresses = Addresses(2)
    assert [addresses.come("a"), addresses.come("a"), addresses.come("a")] == [True, True, False]
    assert addresses.come("b")
    for _ in range(2):
        addresses.gone("a")
    assert addresses.come("a")
    for name in "aab":
        addresses.gone(name)
    assert not addresses.count

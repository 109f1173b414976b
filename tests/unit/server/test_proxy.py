"""Proxies: names in URLs, where they lead, and the heads that pass. Pure."""

from typing import Any

import pytest

from machinery.meta.errors import BadRequest, ServiceUnavailable, StatusError
from machinery.server.proxy import forwarding, places
from machinery.server.proxy.places import Endpoint, Named, Place

PODS = "/api/v1/namespaces/a/pods/web:80/proxy"


# --------------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("web", Named("", "web", "")),
        ("web:80", Named("", "web", "80")),
        ("web:http", Named("", "web", "http")),
        ("https:web:443", Named("https", "web", "443")),
        ("http:web:", Named("http", "web", "")),
        (":web:", Named("", "web", "")),
    ],
)
def test_a_name(identity: str, expected: Named) -> None:
    assert places.split(identity, "pod") == expected


@pytest.mark.parametrize("identity", ["", ":80", "ftp:web:21", "a:b:c:d", "https::443"])
def test_no_name(identity: str) -> None:
    with pytest.raises(BadRequest) as refused:
        places.split(identity, "service")
    assert refused.value.message == f'invalid service request "{identity}"'


# --------------------------------------------------------------------------------------------------------------- places
def pod(ip: str, *ports: int) -> dict[str, Any]:
    containers = [{"name": "first"}, *({"ports": [{"containerPort": port}]} for port in ports)]
    return {"spec": {"containers": containers}, "status": {"podIP": ip, "podIPs": [{"ip": ip}]}}


@pytest.mark.parametrize(
    ("document", "asked", "expected"),
    [
        (pod("10.1.0.7"), Named("", "web", ""), Place("10.1.0.7", "80", False)),
        (pod("10.1.0.7", 8080, 9090), Named("", "web", ""), Place("10.1.0.7", "8080", False)),
        (pod("10.1.0.7", 8080), Named("", "web", "9"), Place("10.1.0.7", "9", False)),
        (pod("10.1.0.7"), Named("https", "web", ""), Place("10.1.0.7", "443", True)),
        (pod("fd00::7"), Named("", "web", "81"), Place("fd00::7", "81", False)),
    ],
)
def test_the_place_of_a_pod(document: dict[str, Any], asked: Named, expected: Place) -> None:
    assert places.of_pod(document, asked) == expected


@pytest.mark.parametrize(
    "ip",
    ["", "x", "127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "ff02::1"],
)
def test_an_address_that_is_no_pods(ip: str) -> None:
    with pytest.raises(BadRequest) as refused:
        places.of_pod(pod(ip, 80), Named("", "web", ""))
    assert refused.value.message == "address not allowed"


def test_an_address_of_the_other_family_has_brackets() -> None:
    assert Place("fd00::7", "81", False).text == "[fd00::7]:81"
    assert Place("10.1.0.7", "81", False).text == "10.1.0.7:81"


SERVICE = {"spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 9000}]}}


@pytest.mark.parametrize(
    ("port", "expected"), [("80", "http"), ("9000", "admin"), ("admin", "admin"), ("", "")]
)
def test_the_port_of_a_service(port: str, expected: str) -> None:
    assert places.port_name(SERVICE, Named("", "web", port)) == expected


def test_a_port_that_a_service_does_not_have() -> None:
    with pytest.raises(ServiceUnavailable) as refused:
        places.port_name(SERVICE, Named("", "web", "81"))
    assert refused.value.message == 'no service port 81 found for service "web"'


def endpoint(address: str, pod: str, **more: Any) -> dict[str, Any]:
    return {"addresses": [address], "targetRef": {"kind": "Pod", "name": pod}, **more}


def test_endpoints_are_ready_pods_behind_the_port() -> None:
    slices = [
        {
            "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}],
            "endpoints": [
                endpoint("10.1.0.1", "a"),
                endpoint("10.1.0.2", "b", conditions={"ready": False}),
                endpoint("10.1.0.3", "c", conditions={"ready": True}),
                {"addresses": ["10.9.9.9"]},
                {"addresses": ["10.9.9.8"], "targetRef": {"kind": "Node", "name": "n"}},
            ],
        },
        {"ports": [{"name": "http", "port": 81}], "endpoints": [endpoint("10.1.0.4", "d")]},
        {"ports": None, "endpoints": [endpoint("10.1.0.5", "e")]},
    ]
    assert places.endpoints(slices, "http") == [
        Endpoint("10.1.0.1", "8080", "a"),
        Endpoint("10.1.0.3", "8080", "c"),
        Endpoint("10.1.0.4", "81", "d"),
    ]
    assert places.endpoints(slices, "") == []


def test_whose_address_it_is() -> None:
    assert places.has_address(pod("10.1.0.7"), "10.1.0.7")
    assert not places.has_address(pod("10.1.0.7"), "10.1.0.8")
    assert not places.has_address({}, "10.1.0.8")


# --------------------------------------------------------------------------------------------------------------- paths
@pytest.mark.parametrize(
    ("target", "namespaced", "rest", "query"),
    [
        (PODS, True, "", ""),
        (PODS + "?a=b", True, "", "?a=b"),
        (PODS + "/", True, "/", ""),
        (PODS + "/x/y/?a=/b?c", True, "/x/y/", "?a=/b?c"),
        (PODS + "//x", True, "//x", ""),
        (PODS + "/a%2Fb", True, "/a%2Fb", ""),
        ("/api/v1/nodes/n/proxy/metrics", False, "/metrics", ""),
    ],
)
def test_the_way(target: str, namespaced: bool, rest: str, query: str) -> None:
    way = forwarding.way_of(target, namespaced=namespaced)
    assert (way.rest, way.query) == (rest, query)
    assert way.whole + way.query == target
    assert way.prefix.endswith("/proxy")
    assert way.target == (rest or "/") + query


# --------------------------------------------------------------------------------------------------------------- heads
WAY = forwarding.way_of(PODS + "/x", namespaced=True)


def test_a_backend_sees_no_credentials_and_no_headers_of_our_connection() -> None:
    given = [
        ("Host", "api:6443"), ("Authorization", "Bearer t"), ("Impersonate-User", "root"),
        ("impersonate-extra-a", "b"), ("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"), ("TE", "trailers"),
        ("Transfer-Encoding", "chunked"), ("Cookie", "a=b"), ("Accept", "a"), ("Accept", "b"),
        ("Content-Type", "text/x"), ("X-Forwarded-Uri", "/lie"),
    ]  # fmt: skip
    assert forwarding.asked(given, WAY, "192.0.2.1", upgrade=False) == [
        ("Host", "api:6443"),
        ("Cookie", "a=b"),
        ("Accept", "a"),
        ("Accept", "b"),
        ("Content-Type", "text/x"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Uri", PODS + "/x"),
        ("Connection", "close"),
    ]


def test_who_forwarded_before_stays_named() -> None:
    given = [("X-Forwarded-For", "198.51.100.7")]
    passed = dict(forwarding.asked(given, WAY, "192.0.2.1", upgrade=False))
    assert passed["X-Forwarded-For"] == "198.51.100.7, 192.0.2.1"
    assert dict(forwarding.asked([], WAY, "", upgrade=False)).get("X-Forwarded-For") is None


def test_an_upgrade_is_passed_on() -> None:
    given = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "k")]
    assert forwarding.is_upgrade(given)
    passed = forwarding.asked(given, WAY, "", upgrade=True)
    assert [pair for pair in passed if pair[0] != "X-Forwarded-Uri"] == [
        ("Sec-WebSocket-Key", "k"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
    ]
    assert not forwarding.is_upgrade([("Upgrade", "h2c"), ("Connection", "close")])


def test_an_answer_loses_what_is_of_its_connection() -> None:
    given = [
        ("Content-Type", "text/x"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Keep-Alive", "5"),
        ("Access-Control-Allow-Origin", "*"), ("Connection", "close"), ("Location", "/login"),
    ]  # fmt: skip
    assert forwarding.answered(given, WAY, "10.1.0.7:80", "api:6443") == [
        ("Content-Type", "text/x"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Location", PODS + "/login"),
    ]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/login?next=/", PODS + "/login?next=/"),
        ("/", PODS + "/"),
        ("login", "login"),
        ("../up", "../up"),
        ("http://10.1.0.7:80/x", PODS + "/x"),
        ("https://api:6443/x#y", PODS + "/x#y"),
        ("https://elsewhere/x", "https://elsewhere/x"),
        (PODS + "/x", PODS + "/x"),
        ("http://[", "http://["),
    ],
)
def test_a_redirect_leads_back_through_the_proxy(location: str, expected: str) -> None:
    hosts = ("10.1.0.7:80", "api:6443")
    assert forwarding.redirected(location, PODS, hosts) == expected


def test_nobody_behind_it() -> None:
    error: StatusError = places.none_available("web:80")
    assert error.message == 'no endpoints available for service "web:80"'
    assert error.status_code == 503

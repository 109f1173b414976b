"""The path grammar, as a table."""

import pytest

from machinery.server.request import parse_target, truthy

CASES = [
    ("GET", "/api/v1/pods", "list", "", "v1", "pods", "", "", ""),
    ("GET", "/api/v1/namespaces/a/pods", "list", "", "v1", "pods", "a", "", ""),
    ("GET", "/api/v1/namespaces/a/pods/", "list", "", "v1", "pods", "a", "", ""),
    ("GET", "/api/v1/namespaces/a/pods?watch=1", "watch", "", "v1", "pods", "a", "", ""),
    ("GET", "/api/v1/namespaces/a/pods?watch=false", "list", "", "v1", "pods", "a", "", ""),
    ("GET", "/api/v1/watch/namespaces/a/pods", "watch", "", "v1", "pods", "a", "", ""),
    ("GET", "/api/v1/namespaces/a/pods/p", "get", "", "v1", "pods", "a", "p", ""),
    ("POST", "/api/v1/namespaces/a/pods", "create", "", "v1", "pods", "a", "", ""),
    ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", "", "v1", "pods", "a", "", ""),
    ("PATCH", "/api/v1/namespaces/a/pods/p/status", "patch", "", "v1", "pods", "a", "p", "status"),
    ("GET", "/api/v1/namespaces/a/pods/p/exec", "get", "", "v1", "pods", "a", "p", "exec"),
    ("GET", "/api/v1/namespaces/a/pods/p/log", "get", "", "v1", "pods", "a", "p", "log"),
    ("GET", "/api/v1/namespaces", "list", "", "v1", "namespaces", "", "", ""),
    ("GET", "/api/v1/namespaces/a", "get", "", "v1", "namespaces", "a", "a", ""),
    ("PUT", "/api/v1/namespaces/a/finalize", "update", "", "v1", "namespaces", "a", "a", "finalize"),
    ("GET", "/apis/apps/v1/namespaces/a/deployments/d/scale", "get", "apps", "v1", "deployments", "a", "d", "scale"),
    ("GET", "/apis/apps/v1/deployments", "list", "apps", "v1", "deployments", "", "", ""),
    ("GET", "/api/v1/nodes/n%2Fx", "get", "", "v1", "nodes", "", "n/x", ""),
    (
        "GET", "/api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3Ds",
        "list", "", "v1", "secrets", "a", "s", "",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "target", "verb", "group", "version", "resource", "namespace", "name", "sub"),
    CASES,
    ids=[f"{case[0]} {case[1]}" for case in CASES],
)
def test_resource_paths(
    method: str, target: str, verb: str, group: str, version: str, resource: str, namespace: str,
    name: str, sub: str,
) -> None:  # fmt: skip
    info = parse_target(method, target)
    assert info.is_resource
    found = (info.verb, info.group, info.version, info.resource, info.namespace, info.name)
    assert (*found, info.subresource) == (verb, group, version, resource, namespace, name, sub)


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/api", "/api/v1", "/apis/apps/v1", "/openapi/v3"]
)
def test_plain_paths(path: str) -> None:
    info = parse_target("GET", path)
    assert not info.is_resource
    assert info.path == path


@pytest.mark.parametrize(
    ("query", "expected"),
    [("watch=1", True), ("watch=True", True), ("watch=maybe", True), ("watch=0", False), ("watch=False", False), ("", False)],
)  # fmt: skip
def test_booleans_as_go_reads_them(query: str, expected: bool) -> None:
    assert truthy(parse_target("GET", f"/api/v1/pods?{query}"), "watch") is expected


def test_rest_of_a_proxy_path() -> None:
    info = parse_target("GET", "/api/v1/nodes/n/proxy/metrics/cadvisor?x=1")
    assert (info.subresource, info.rest) == ("proxy", ("metrics", "cadvisor"))

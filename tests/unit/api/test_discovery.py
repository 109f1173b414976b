"""Discovery: the aggregated form, and what drain and the Python client need of the legacy one."""

from typing import Any

import pytest

from machinery.api import discovery
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme

SCHEME = Scheme((*BUILTIN, *FLEET))


def entry(name: str, group: str = "", version: str = "v1") -> dict[str, Any]:
    listed = discovery.api_resource_list(SCHEME, group, version)
    assert listed is not None
    found: dict[str, Any] = next(r for r in listed["resources"] if r["name"] == name)
    return found


def test_drain_finds_the_eviction() -> None:
    found = entry("pods/eviction")
    assert (found["group"], found["version"], found["kind"]) == ("policy", "v1", "Eviction")


@pytest.mark.parametrize(
    ("name", "group", "kind"),
    [
        ("serviceaccounts/token", "authentication.k8s.io", "TokenRequest"),
        ("pods/binding", None, "Binding"),
        ("pods/status", None, "Pod"),
    ],
)
def test_kinds_of_subresources(name: str, group: str | None, kind: str) -> None:
    found = entry(name)
    assert (found.get("group"), found["kind"]) == (group, kind)


def test_scale_is_of_autoscaling() -> None:
    assert entry("deployments/scale", "apps")["group"] == "autoscaling"


def test_aggregated() -> None:
    core = discovery.aggregated(SCHEME, legacy=True)
    rest = discovery.aggregated(SCHEME, legacy=False)
    assert (core["kind"], core["apiVersion"]) == (
        "APIGroupDiscoveryList",
        "apidiscovery.k8s.io/v2",
    )
    assert [item["metadata"] for item in core["items"]] == [{}]
    names = [item["metadata"]["name"] for item in rest["items"]]
    assert names == [group for group in SCHEME.groups() if group]
    pods = next(r for r in core["items"][0]["versions"][0]["resources"] if r["resource"] == "pods")
    assert pods["scope"] == "Namespaced"
    assert pods["shortNames"] == ["po"]
    kinds = {sub["subresource"]: sub["responseKind"] for sub in pods["subresources"]}
    assert kinds["eviction"] == {"group": "policy", "version": "v1", "kind": "Eviction"}
    assert kinds["status"] == {"group": "", "version": "v1", "kind": "Pod"}


def test_both_forms_list_the_same() -> None:
    for legacy in (True, False):
        for item in discovery.aggregated(SCHEME, legacy)["items"]:
            group = item["metadata"].get("name", "")
            for version in item["versions"]:
                listed = discovery.api_resource_list(SCHEME, group, version["version"])
                assert listed is not None
                flat = {r["resource"] for r in version["resources"]} | {
                    f"{r['resource']}/{s['subresource']}"
                    for r in version["resources"]
                    for s in r.get("subresources", ())
                }
                assert flat == {r["name"] for r in listed["resources"]}


def test_what_is_not_served() -> None:
    assert discovery.api_group(SCHEME, "nope") is None
    assert discovery.api_group(SCHEME, "") is None
    assert discovery.api_resource_list(SCHEME, "apps", "v9") is None


def test_work_has_two_versions_of_its_group() -> None:
    group = discovery.api_group(SCHEME, "work.karmada.io")
    assert group is not None
    assert {v["version"] for v in group["versions"]} == {"v1alpha1", "v1alpha2"}
    assert group["preferredVersion"] == group["versions"][0]

"""Discovery: the lists by which clients learn what is served, in the aggregated (v2) and the legacy form.

kubectl takes the aggregated form, one document for `/api` and one for `/apis`; the Python client and `kubectl drain` read
only the legacy lists, where a subresource's `group` and `version` name its body's kind (`pods/eviction` must say policy/v1
Eviction, or drain deletes pods instead of evicting them). Everything is computed from the Scheme; callers cache the bytes.
"""

import base64
import hashlib
from itertools import groupby

from machinery.api.scheme import Scheme, ServedKind, Subresource
from machinery.meta.resource import Document

AGGREGATED_MEDIA_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""The Content-Type of an aggregated answer; without these parameters clients take it for the legacy form."""

_STORED_UPSTREAM = {("apiextensions.k8s.io", "CustomResourceDefinition"): "v1beta1"}
"""Where the reference server stores another version than it serves; its hash is what clients know."""


def aggregated(scheme: Scheme, legacy: bool) -> Document:
    """The APIGroupDiscoveryList of `/api` (legacy: the core group) or of `/apis` (all the others)."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group} if group else {},
                "versions": [
                    {
                        "version": version,
                        "resources": [
                            _resource_discovery(k) for k in _kinds(scheme, group, version)
                        ],
                        "freshness": "Current",
                    }
                    for version in versions
                ],
            }
            for group, versions in scheme.groups().items()
            if (group == "") == legacy
        ],
    }


def api_versions(server_address: str = "") -> Document:
    """`/api`: the versions of the core group."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}
        ],
    }


def api_group_list(scheme: Scheme) -> Document:
    """`/apis`: every group but the core one."""
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(group, versions) for group, versions in scheme.groups().items() if group],
    }


def api_group(scheme: Scheme, group: str) -> Document | None:
    """`/apis/<group>`, or None where the group is not served."""
    versions = scheme.groups().get(group)
    if not group or not versions:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)}


def api_resource_list(scheme: Scheme, group: str, version: str) -> Document | None:
    """`/api/v1` or `/apis/<group>/<version>`, or None where that version is not served."""
    kinds = _kinds(scheme, group, version)
    if not kinds:
        return None
    resources = [entry for kind in kinds for entry in _legacy_entries(kind)]
    if all(kind.dynamic is None for kind in kinds):
        resources.sort(key=lambda entry: str(entry["name"]))
    # the core group's list has no apiVersion: it is older than the field
    head: Document = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if group else {})
    return head | {
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }


def storage_version_hash(kind: ServedKind) -> str:
    """By what clients see that a kind's stored form has changed."""
    group, version = kind.stored_as or (kind.group, kind.version)
    if kind.dynamic is not None:
        version = kind.dynamic.storage_version
    version = _STORED_UPSTREAM.get(kind.group_kind, version)
    digest = hashlib.sha256(f"{group}/{version}/{kind.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _kinds(scheme: Scheme, group: str, version: str) -> list[ServedKind]:
    found = [k for k in scheme.kinds if k.group == group and k.version == version]
    return sorted(found, key=lambda kind: kind.plural)


def _group(group: str, versions: tuple[str, ...]) -> Document:
    rows = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": rows, "preferredVersion": rows[0]}


def _names(kind: ServedKind) -> Document:
    found: Document = {}
    if kind.short_names:
        found["shortNames"] = list(kind.short_names)
    if kind.categories:
        found["categories"] = list(kind.categories)
    return found


def _legacy_entries(kind: ServedKind) -> list[Document]:
    entry: Document = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
        **_names(kind),
    }
    if kind.storable:
        entry["storageVersionHash"] = storage_version_hash(kind)
    return [entry, *(_legacy_subresource(kind, sub) for sub in _subresources(kind))]


def _subresources(kind: ServedKind) -> list[Subresource]:
    """One entry a name, even where a server adds the same subresource twice."""
    if kind.dynamic is not None:
        return list(kind.subresources)
    ordered = sorted(kind.subresources, key=lambda sub: sub.name)
    return [next(rows) for _, rows in groupby(ordered, key=lambda sub: sub.name)]


def _legacy_subresource(kind: ServedKind, sub: Subresource) -> Document:
    entry: Document = {
        "name": f"{kind.plural}/{sub.name}",
        "singularName": "",
        "namespaced": kind.namespaced,
    }
    if (sub.group or sub.version) and (sub.group, sub.version) != (kind.group, kind.version):
        entry |= {"group": sub.group, "version": sub.version}
    return entry | {"kind": sub.kind, "verbs": list(sub.verbs)}


def _resource_discovery(kind: ServedKind) -> Document:
    entry: Document = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
        **_names(kind),
    }
    if kind.subresources:
        entry["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {
                    "group": sub.group if sub.version else kind.group,
                    "version": sub.version or kind.version,
                    "kind": sub.kind,
                },
                "verbs": list(sub.verbs),
            }
            for sub in _subresources(kind)
        ]
    return entry

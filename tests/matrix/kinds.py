"""Which resources there must be, which are served, and a sample of each.

Required of a member is what a recorded Kubernetes 1.36 serves in the groups that issue 5 names (the recording of the golden
tests), the kinds that are computed, those of services over clusters and our own; of the federation, what it says it serves.
"""

import copy
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.matrix.truth import Truth

Document = dict[str, Any]
HERE = Path(__file__).parent
RECORDING = HERE.parent / "golden/api/9-discovery.jsonl"
OUT_OF_SCOPE = {
    "apiregistration.k8s.io": "aggregation of other API servers is level L of the checklist",
}
"""Groups of the recording that are not required, and why."""


@dataclass(frozen=True)
class Resource:
    """One row: a resource of a group and version, with the subresources of it that are known."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    verbs: frozenset[str]
    subresources: Mapping[str, frozenset[str]] = field(default_factory=dict, compare=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def title(self) -> str:
        return f"{self.api_version} {self.plural}"

    @property
    def root(self) -> str:
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    @property
    def typed(self) -> str:
        """As kubectl takes it: `deployments.v1.apps`."""
        return f"{self.plural}.{self.version}.{self.group}" if self.group else self.plural

    def collection(self, namespace: str) -> str:
        where = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{self.root}{where}/{self.plural}"

    def path(self, namespace: str, name: str, subresource: str = "") -> str:
        return f"{self.collection(namespace)}/{name}" + (f"/{subresource}" if subresource else "")

    @property
    def key(self) -> tuple[str, str]:
        return self.api_version, self.kind


def parse(lists: list[Document]) -> dict[str, Resource]:
    """APIResourceLists -> title -> resource."""
    found: dict[str, Resource] = {}
    for document in lists:
        group, _, version = document["groupVersion"].rpartition("/")
        subresources: dict[str, dict[str, frozenset[str]]] = {}
        for entry in document["resources"]:
            plural, slash, subresource = entry["name"].partition("/")
            if slash:
                subresources.setdefault(plural, {})[subresource] = frozenset(entry["verbs"])
        for entry in document["resources"]:
            if "/" not in entry["name"]:
                resource = Resource(
                    group,
                    version,
                    entry["name"],
                    entry["kind"],
                    entry["namespaced"],
                    frozenset(entry["verbs"]),
                    subresources.get(entry["name"], {}),
                )
                found[resource.title] = resource
    return found


@functools.cache
def recorded() -> dict[str, Resource]:
    """What the recorded server serves, without groups that are out of scope."""
    lists = {}
    for line in RECORDING.read_text().splitlines():
        body = json.loads(line)["response"].get("body")
        if isinstance(body, dict) and body.get("kind") == "APIResourceList":
            group = body["groupVersion"].rpartition("/")[0]
            if group not in OUT_OF_SCOPE:
                lists[body["groupVersion"]] = body
    return parse(list(lists.values()))


def served(truth: Truth) -> dict[str, Resource]:
    """What the server says of itself, by the legacy lists."""
    groups = truth.get("/apis")["groups"]
    paths = ["/api/v1"] + [f"/apis/{v['groupVersion']}" for g in groups for v in g["versions"]]
    return parse([truth.get(path) for path in paths])


# ---------------------------------------------------------------------------------------------------------- samples
@dataclass(frozen=True)
class Sample:
    """An object to make of a resource, and what of it may be changed.

    change: dotted by `|`, with two values to give it; () for a label. status: what a write to the status says. ignore: paths
    that the server fills in together with the change. read: what is read back where it is not what was written.
    """

    resource: Resource
    document: Document
    change: tuple[Any, ...] = ()
    status: Document | None = None
    ignore: tuple[str, ...] = ()
    read: Document | None = None

    @property
    def name(self) -> str:
        name: str = self.document["metadata"]["name"]
        return name


@functools.cache
def _rows() -> dict[tuple[str, str], Document]:
    rows = yaml.safe_load((HERE / "samples.yaml").read_text())
    return {(row["kind"].split()[0], row["kind"].split()[1]): row for row in rows}


def sample(resource: Resource, namespace: str, slug: str) -> Sample | None:
    """The sample with its names filled in: `slug` (letters) tells clients apart. None where there is none.

    One object may be shown in two groups or versions: names tell these apart as well.
    """
    row = _rows().get(resource.key)
    if row is None:
        return None
    slug = slug + (resource.group.split(".")[0] or "core") + resource.version
    number = str(sum(map(ord, slug)) % 200 + 1)
    name = f"matrix-{slug}"
    fills = {"NAMESPACE": namespace, "NAME": name, "SLUG": slug, "NUMBER": number}
    filled = _filled(copy.deepcopy(row), fills)
    name = filled.get("name", name)
    document = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "labels": {"matrix": slug}, "annotations": {"first": "1"}},
    }
    if resource.namespaced:
        document["metadata"]["namespace"] = namespace
    document |= filled["document"]
    if resource.kind == "CertificateSigningRequest":
        document["spec"]["request"] = certificate_request()
    return Sample(
        resource,
        document,
        tuple(filled.get("change", ())),
        filled.get("status"),
        tuple(filled.get("ignore", ())),
        filled.get("read"),
    )


def _filled(value: Any, fills: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {_filled(k, fills): _filled(v, fills) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, fills) for v in value]
    if isinstance(value, str):
        for word in ("NAMESPACE", "NAME", "SLUG", "NUMBER"):
            value = value.replace(word, fills[word])
    return value


@functools.cache
def certificate_request() -> str:
    """A certificate request that any signer could read."""
    import base64

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "matrix")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()

"""When the gateways' certificate is asked for, and what the member keeps."""

import base64
import datetime as dt

import msgspec
import pytest
from tests.support.fake_client import FakeClient

from cluster_agent.link.gatewaycert import (
    LIFE_S,
    USAGES,
    GatewayCertificate,
    Held,
    fault,
    held_in,
    secret_document,
    subject,
)
from cluster_agent.link.properties import Properties, plan
from federation.controllers import identities
from machinery.api.core import SECRETS, Secret
from machinery.api.fleet.multicluster import (
    CLUSTER_ID_PROPERTY,
    CLUSTER_PROPERTIES,
    CLUSTERSET_PROPERTY,
    GATEWAY_SECRET,
    GATEWAY_SIGNER,
    ClusterProperty,
)
from machinery.client.identity import CSRS, Identity, Subject, new_key, signing_request
from machinery.controller.action import Create, Patch
from machinery.controllers.csr import RequestSpec, SigningRequest
from machinery.kit.clock import FakeClock
from machinery.meta.resource import Document, ObjectKey
from machinery.server.pki import SIGNER_AGENT, CertificateAuthority, refusal

CLOCK = FakeClock()
CA = CertificateAuthority.create("federation", CLOCK)
OTHER_CA = CertificateAuthority.create("another", CLOCK)
LIFE = dt.timedelta(seconds=LIFE_S)


def issued(cluster: str = "alpha", authority: CertificateAuthority = CA) -> Identity:
    key = new_key()
    pem = signing_request(key, subject(cluster))
    assert refusal(GATEWAY_SIGNER, pem, USAGES) == "", "what is asked for is what is signed"
    return Identity(key, authority.sign_request(pem, USAGES, LIFE))


GOOD = issued()


@pytest.mark.parametrize(
    ("held", "word"),
    [
        (Held(GOOD.certificate, GOOD.key, CA.certificate_pem), ""),
        (Held(), "there is none"),
        (Held(GOOD.certificate, GOOD.key, OTHER_CA.certificate_pem), "another authority"),
        (Held(issued(authority=OTHER_CA).certificate, GOOD.key, CA.certificate_pem), "not signed"),
        (Held(GOOD.certificate, new_key(), CA.certificate_pem), "key is another"),
        (Held(b"nonsense", GOOD.key, CA.certificate_pem), "cannot be read"),
    ],
    ids=["good", "none", "the authority changed", "forged", "mixed up", "nonsense"],
)
def test_what_counts_as_the_certificate(held: Held, word: str) -> None:
    said = fault(held, "alpha", CA.certificate_pem)
    assert (word in said) if word else not said


def test_another_clusters_certificate_is_not_ours() -> None:
    beta = issued("beta")
    held = Held(beta.certificate, beta.key, CA.certificate_pem)
    assert "another cluster's" in fault(held, "alpha", CA.certificate_pem)


def test_the_secret_says_what_it_was_given() -> None:
    document = secret_document(GOOD, CA.certificate_pem)
    assert (
        ObjectKey(document["metadata"]["namespace"], document["metadata"]["name"]) == GATEWAY_SECRET
    )
    assert held_in(msgspec.convert(document, Secret)) == Held(GOOD.certificate, GOOD.key, CA.certificate_pem)  # fmt: skip


class Signing(FakeClient):
    """A federation that signs at once whatever is asked."""

    def __init__(self, clock: FakeClock, authority: CertificateAuthority = CA) -> None:
        super().__init__()
        self.asked = 0
        self._clock, self._authority = clock, authority

    async def create(self, resource, document, namespace="", **more):  # type: ignore[no-untyped-def]
        if resource is CSRS:
            self.asked += 1
            pem = base64.b64decode(document["spec"]["request"])
            life = dt.timedelta(seconds=document["spec"]["expirationSeconds"])
            signed = self._authority.sign_request(pem, document["spec"]["usages"], life)
            document = {**document, "status": {"certificate": base64.b64encode(signed).decode()}}
        return await super().create(resource, document, namespace, **more)


def keeper(federation: FakeClient, member: FakeClient, clock: FakeClock) -> GatewayCertificate:
    ca = CA.certificate_pem
    return GatewayCertificate(federation, member, clock, "alpha", ca, lambda: 0.0)


async def test_it_is_asked_for_once_and_again_at_two_thirds_of_its_life() -> None:
    clock = FakeClock()
    authority = CertificateAuthority(CA._certificate, CA._key, clock)
    federation, member = Signing(clock, authority), FakeClient()
    certificate = keeper(federation, member, clock)
    await certificate.run_once()
    first = await member.get(SECRETS, GATEWAY_SECRET)
    assert fault(held_in(first), "alpha", CA.certificate_pem) == ""
    await certificate.run_once()
    clock.advance(LIFE_S * 0.6)
    await certificate.run_once()
    assert federation.asked == 1
    clock.advance(LIFE_S * 0.1)
    await certificate.run_once()
    second = await member.get(SECRETS, GATEWAY_SECRET)
    assert federation.asked == 2
    assert second.data["tls.key"] != first.data["tls.key"]
    assert fault(held_in(second), "alpha", CA.certificate_pem) == ""


async def test_a_secret_that_was_deleted_comes_back_and_nodes_may_read_it() -> None:
    clock = FakeClock()
    federation, member = Signing(clock), FakeClient()
    certificate = keeper(federation, member, clock)
    await certificate.run_once()
    await member.delete(SECRETS, GATEWAY_SECRET)
    await certificate.run_once()
    assert (await member.get(SECRETS, GATEWAY_SECRET)).data
    (role,) = [d for d in member.objects.values() if d["kind"] == "Role"]
    (rule,) = role["rules"]
    assert (rule["resources"], rule["resourceNames"]) == (["secrets"], [GATEWAY_SECRET.name])
    (binding,) = [d for d in member.objects.values() if d["kind"] == "RoleBinding"]
    assert [s["name"] for s in binding["subjects"]] == ["system:nodes"]


# ------------------------------------------------------------------------------------------------- the federation's side
def request(username: str, asked: Subject, signer: str = GATEWAY_SIGNER) -> SigningRequest:
    text = base64.b64encode(signing_request(new_key(), asked)).decode()
    spec = RequestSpec(request=text, signer_name=signer, usages=USAGES, username=username)
    return SigningRequest(spec=spec)


@pytest.mark.parametrize(
    ("username", "asked", "signer", "approved"),
    [
        ("ubernetes:cluster:alpha", subject("alpha"), GATEWAY_SIGNER, True),
        ("ubernetes:cluster:beta", subject("alpha"), GATEWAY_SIGNER, False),
        ("ubernetes:gateway:alpha", subject("alpha"), GATEWAY_SIGNER, False),
        ("kubernetes-admin", subject("alpha"), GATEWAY_SIGNER, False),
        ("ubernetes:cluster:alpha", Subject("ubernetes:cluster:alpha"), GATEWAY_SIGNER, False),
        ("ubernetes:cluster:alpha", subject("alpha"), SIGNER_AGENT, False),
    ],
    ids=["its own", "another's", "a gateway", "people", "an agent's name", "an agent's signer"],
)
def test_who_gets_a_gateways_certificate(
    username: str, asked: Subject, signer: str, approved: bool
) -> None:
    assert (identities.plan(request(username, asked, signer)) is not None) is approved


def test_no_token_gets_a_gateways_certificate() -> None:
    asked = request("system:bootstrap:abc", subject("alpha"))
    groups = ("system:bootstrappers:clusters:alpha",)
    held = msgspec.structs.replace(asked, spec=msgspec.structs.replace(asked.spec, groups=groups))
    assert identities.plan(held) is None


# ------------------------------------------------------------------------------------------------------------ properties
def held_property(name: str, value: str) -> ClusterProperty:
    document: Document = {"metadata": {"name": name}, "spec": {"value": value}}
    return msgspec.convert(document, ClusterProperty)


def test_properties_are_made_and_put_right() -> None:
    made = plan([], "alpha")
    values = {a.document["metadata"]["name"]: a.document["spec"]["value"] for a in made if isinstance(a, Create)}  # fmt: skip
    assert values == {CLUSTER_ID_PROPERTY: "alpha", CLUSTERSET_PROPERTY: "ubernetes"}
    standing = [held_property(name, value) for name, value in values.items()]
    assert plan(standing, "alpha") == []
    (change,) = plan([*standing[1:], held_property(CLUSTER_ID_PROPERTY, "beta")], "alpha")
    assert isinstance(change, Patch)


async def test_properties_stand_in_the_member() -> None:
    member = FakeClient()
    await Properties(member, FakeClock(), "alpha").run_once()
    found = await member.list(CLUSTER_PROPERTIES)
    assert {p.metadata.name: p.spec.value for p in found.items} == {
        CLUSTER_ID_PROPERTY: "alpha",
        CLUSTERSET_PROPERTY: "ubernetes",
    }

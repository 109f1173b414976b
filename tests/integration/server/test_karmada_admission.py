"""Karmada's kinds over HTTPS: what a client sees of defaults, refusals, warnings and protection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server

from federation.propagation.admission.plugin import KarmadaKinds
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.client.interface import DeleteOptions, dynamic
from machinery.kit.ids import SystemIds
from machinery.meta.errors import Forbidden, Invalid
from machinery.meta.resource import Document, ObjectKey
from machinery.server.app import Extensions

POLICIES = dynamic(
    "policy.karmada.io", "v1alpha1", "propagationpolicies", "PropagationPolicy", True
)
OVERRIDES = dynamic("policy.karmada.io", "v1alpha1", "overridepolicies", "OverridePolicy", True)
X = ObjectKey("default", "x")


@asynccontextmanager
async def karmada() -> AsyncIterator[RunningServer]:
    extensions = Extensions(admission=(KarmadaKinds(SystemIds()),))
    async with running_server(kinds=(*BUILTIN, *FLEET), extensions=extensions) as server:
        yield server


def document(kind: str, **spec: Any) -> Document:
    return {
        "apiVersion": "policy.karmada.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "x", "namespace": "default"},
        "spec": spec,
    }


SELECTORS = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}]


async def test_a_policy_is_filled_in_and_its_identity_stays() -> None:
    async with karmada() as server:
        made = await server.rest.create(
            POLICIES, document("PropagationPolicy", resourceSelectors=SELECTORS)
        )
        assert made["spec"] == {
            "resourceSelectors": [SELECTORS[0] | {"namespace": "default"}],
            "placement": {},
            "priority": 0,
            "preemption": "Never",
            "schedulerName": "default-scheduler",
            "conflictResolution": "Abort",
        }
        (label,) = made["metadata"]["labels"]
        assert label == "propagationpolicy.karmada.io/permanent-id"
        changed = await server.rest.patch(POLICIES, X, {"spec": {"priority": 3}})
        assert changed["metadata"]["labels"] == made["metadata"]["labels"]
        assert changed["metadata"]["generation"] == 2
        with pytest.raises(Forbidden, match="is immutable, it can only be set by the system"):
            await server.rest.patch(POLICIES, X, {"metadata": {"labels": {label: "mine"}}})
        with pytest.raises(Forbidden, match="the schedulerName should not be updated"):
            await server.rest.patch(POLICIES, X, {"spec": {"schedulerName": "other"}})


async def test_what_is_refused_is_refused_in_karmadas_words() -> None:
    async with karmada() as server:
        with pytest.raises(Invalid, match="spec.resourceSelectors in body must be of type array"):
            await server.rest.create(POLICIES, document("PropagationPolicy"))
        rules = [{"overriders": {"fieldOverrider": [{"fieldPath": "/data/a"}]}}]
        with pytest.raises(Forbidden) as refused:
            await server.rest.create(OVERRIDES, document("OverridePolicy", overrideRules=rules))
        assert str(refused.value) == (
            'admission webhook "overridepolicy.karmada.io" denied the request: '
            "spec.overrideRules[0].overriders.fieldOverrider[0]: Required value: "
            "FieldOverrider must have either JSON or YAML set"
        )


async def test_a_protected_policy_cannot_be_deleted_until_the_label_goes() -> None:
    protected = "resourcetemplate.karmada.io/deletion-protected"
    async with karmada() as server:
        await server.rest.create(OVERRIDES, document("OverridePolicy", overrideRules=[]))
        await server.rest.patch(OVERRIDES, X, {"metadata": {"labels": {protected: "Always"}}})
        with pytest.raises(Forbidden, match="This resource is protected"):
            await server.rest.delete(OVERRIDES, X, DeleteOptions())
        await server.rest.patch(OVERRIDES, X, {"metadata": {"labels": {protected: None}}})
        await server.rest.delete(OVERRIDES, X, DeleteOptions())

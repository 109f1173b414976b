"""CustomResourceDefinitions: what is stored, what names they get, what kinds they are."""

import json
from typing import Any

import pytest
from tests.support.widgets import SCALE, definition, version

from machinery.api import decode, defaults, strategy, validation
from machinery.api.customresources.kinds import kinds_of
from machinery.api.customresources.naming import status_of, taken, terminating
from machinery.api.kinds import BUILTIN, CUSTOM_RESOURCE_DEFINITION
from machinery.api.scheme import Scheme, version_priority
from machinery.client.dynamic_kinds import served_resources
from machinery.meta.errors import BadRequest

NOW = "2026-01-01T00:00:00Z"
FREE: Any = (set(), set())
OBJECT = {"type": "object"}


def prepared(document: Any) -> Any:
    """As it is judged: decoded, filled, with the status of a new one."""
    raw = json.dumps(document).encode()
    found = decode.decode_body(CUSTOM_RESOURCE_DEFINITION, raw, "application/json", "Strict")
    filled = defaults.apply_defaults(CUSTOM_RESOURCE_DEFINITION, found.document)
    return strategy.prepare_create(CUSTOM_RESOURCE_DEFINITION, filled)


def causes(document: Any) -> list[tuple[str, str]]:
    found = validation.validate_create(CUSTOM_RESOURCE_DEFINITION, prepared(document))
    return [(cause["field"], cause["message"]) for cause in found]


def schema_causes(part: Any) -> list[tuple[str, str]]:
    """Complaints about one property `a`, relative to it."""
    whole = {"type": "object", "properties": {"a": part}}
    at = "spec.validation.openAPIV3Schema.properties[a]"
    found = causes(definition("widgets", "Widget", version("v1", whole)))
    return [(field.removeprefix(at), message) for field, message in found]


def established(document: Any) -> Any:
    document = prepared(document)
    return {**document, "status": status_of(document, FREE, NOW)}


# -------------------------------------------------------------------------------------------------------------- storing
def test_a_good_one_has_no_fault() -> None:
    assert causes(definition(shortNames=["wd"], categories=["all"])) == []


def test_unknown_keys_of_nested_schemas_are_named() -> None:
    items = {"type": "array", "items": {"type": "string", "zz": 1}}
    bad = definition("widgets", "Widget", version("v1", {**OBJECT, "properties": {"a": items}}))
    with pytest.raises(BadRequest, match=r"properties.a.items.zz"):
        prepared(bad)


def webhook(config: Any, versions: Any = ("v1",), strategy: str = "Webhook") -> Any:
    given = {} if config is None else {"clientConfig": config}
    hook = {**given, "conversionReviewVersions": list(versions)}
    return {"conversion": {"strategy": strategy, "webhook": hook}}


def test_a_webhook_may_convert() -> None:
    document = definition()
    document["spec"] |= webhook({"service": {"name": "s", "namespace": "n"}})
    assert causes(document) == []


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"group": "nodot"}, "spec.group", "should be a domain with at least one dot"),
        ({"scope": "Galaxy"}, "spec.scope", "Unsupported value"),
        ({"names": {"plural": "Widgets", "kind": "Widget"}}, "spec.names.plural", "DNS-1035"),
        ({"names": {"plural": "widgets", "kind": "W_"}}, "spec.names.kind", "may have mixed case"),
        (webhook(None), "spec.conversion.webhookClientConfig", "required when strategy is set to Webhook"),
        (webhook({}), "spec.conversion.webhookClientConfig", "exactly one of url or service is required"),
        (webhook({"url": "http://x"}), "spec.conversion.webhookClientConfig.url", "'https' is the only allowed URL scheme"),
        (webhook({"url": "https://x", "caBundle": "eA=="}), "spec.conversion.webhookClientConfig.caBundle", "unable to load root certificates"),
        (webhook({"url": "https://x"}, []), "spec.conversion.conversionReviewVersions", "Required value"),
        (webhook({"url": "https://x"}, ["v1", "v1"]), "spec.conversion.conversionReviewVersions[1]", "duplicate version"),
        (webhook({"url": "https://x"}, ["v2"]), "spec.conversion.conversionReviewVersions", "none of the versions accepted by this server. accepted version(s) are v1, v1beta1"),
        (webhook({"url": "https://x"}, strategy="None"), "spec.conversion.webhookClientConfig", "should not be set when strategy is not set to Webhook"),
        (webhook({"url": "https://x"}, strategy="Magic"), "spec.conversion.strategy", 'supported values: "None", "Webhook"'),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields", "cannot set to true"),
        ({"versions": []}, "spec.versions", "must have exactly one version marked as storage"),
        ({"versions": [{"name": "v1", "served": True, "storage": True}]}, "spec.versions[0].schema.openAPIV3Schema", "schemas are required"),
        ({"versions": [version(deprecationWarning="old")]}, "spec.versions[0].deprecationWarning", "can only be set for deprecated"),
        ({"versions": [version(subresources={"scale": {**SCALE, "labelSelectorPath": ".x"}})]}, "spec.subresources.scale.labelSelectorPath", "should be a json path under"),
        ({"versions": [version(additionalPrinterColumns=[{"name": "a", "type": "text", "jsonPath": ".a"}])]}, "spec.additionalPrinterColumns[0].type", "Unsupported value"),
        ({"versions": [version(selectableFields=[{"jsonPath": ".spec"}])]}, "spec.selectableFields[0].jsonPath", "must point to a field of type string"),
    ],
)  # fmt: skip
def test_what_is_refused(change: Any, field: str, text: str) -> None:
    document = definition()
    document["spec"] |= change
    found = causes(document)
    assert any(where == field and text in message for where, message in found), found


def test_groups_of_kubernetes_need_an_approval() -> None:
    document = definition()
    document["metadata"]["name"] = "widgets.x.k8s.io"
    document["spec"]["group"] = "x.k8s.io"
    assert [field for field, _ in causes(document)] == [
        "metadata.annotations[api-approved.kubernetes.io]"
    ]
    document["metadata"]["annotations"] = {"api-approved.kubernetes.io": "https://x"}
    assert causes(document) == []
    found = status_of(prepared(document), FREE, NOW)["conditions"]
    assert found[-1]["type"] == "KubernetesAPIApprovalPolicyConformant"


@pytest.mark.parametrize(
    ("part", "at", "text"),
    [
        ({}, ".type", "Required value: must not be empty for specified object fields"),
        ({"type": "array", "items": {}}, ".items.type", "must not be empty for specified array items"),
        ({"type": "object", "x-kubernetes-embedded-resource": True, "additionalProperties": {"type": "string"}}, ".additionalProperties", "must not be used if x-kubernetes-embedded"),
        ({"type": "string", "not": {"type": "string"}}, ".not.type", "must be empty to be structural"),
        ({"type": "string", "anyOf": [{"default": "x"}]}, ".anyOf[0].default", "must be undefined to be structural"),
        ({"type": "null"}, ".type", "use nullable as an alternative"),
        ({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}, ".items.x-kubernetes-map-type", "must be atomic as item of a list"),
        ({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}, ".items.type", "must be object if parent array's"),
        ({"type": "string", "x-kubernetes-list-map-keys": ["k"]}, ".x-kubernetes-list-type", "must be map if"),
        ({"type": "string", "patternProperties": {"a": {"type": "string"}}}, ".patternProperties", "patternProperties is not supported"),
        ({"type": "string", "pattern": "[a"}, ".pattern", "missing closing ]: `[a`"),
        ({"type": "integer", "default": 0, "minimum": 1}, ".default", "should be greater than or equal to 1"),
        ({"type": "string", "x-kubernetes-validations": [{"rule": "nosuch(self)"}]}, ".x-kubernetes-validations[0].rule", "undeclared reference to 'nosuch'"),
        ({"type": "string", "x-kubernetes-validations": [{"rule": "self.size()"}]}, ".x-kubernetes-validations[0].rule", "must evaluate to a bool"),
    ],
)  # fmt: skip
def test_schemas_that_are_refused(part: Any, at: str, text: str) -> None:
    found = schema_causes(part)
    assert any(where == at and text in message for where, message in found), found


@pytest.mark.parametrize(
    "part",
    [
        {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        {"type": "string", "pattern": r"^[[:alpha:]]+\z"},
        {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        {"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('a')"}]},
        {"type": "object", "default": {}, "properties": {"x": {"type": "string", "default": "y"}}},
    ],
)  # fmt: skip
def test_schemas_that_are_fine(part: Any) -> None:
    assert schema_causes(part) == []


def test_an_established_one_keeps_what_its_objects_hang_on() -> None:
    old = established(definition())
    new = {**old, "spec": {**old["spec"], "scope": "Cluster"}}
    found = validation.validate_update(CUSTOM_RESOURCE_DEFINITION, new, old)
    assert [cause["field"] for cause in found] == ["spec.scope"]


# ---------------------------------------------------------------------------------------------------------------- names
def test_names_are_given_once_and_kept() -> None:
    first = established(definition(shortNames=["wd"]))
    rival = prepared(definition("wids", "Wid", shortNames=["wd"]))
    held = taken("wids.example.com", "example.com", [first], ())
    status = status_of(rival, held, NOW)
    conditions = {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}
    assert conditions["NamesAccepted"] == ("False", "ShortNamesConflict", '"wd" is already in use')
    assert "shortNames" not in status["acceptedNames"]
    assert kinds_of({**rival, "status": status}) == ()
    again = status_of(first, taken("widgets.example.com", "example.com", [first, rival], ()), NOW)
    assert again == first["status"]


def test_built_kinds_keep_their_names() -> None:
    document = definition()
    document["spec"] |= {"group": "apps", "names": {"plural": "deployments", "kind": "Deployment"}}
    status = status_of(document, taken("x", "apps", [], BUILTIN), NOW)
    assert status["conditions"][0]["reason"] == "KindConflict"


def test_a_condition_keeps_its_time_while_it_says_the_same() -> None:
    first = established(definition())
    assert status_of(first, FREE, "2027-01-01T00:00:00Z") == first["status"]
    ending = terminating(first["status"], ("True", "A", "b"), "2027-01-01T00:00:00Z")
    assert [c["type"] for c in ending["conditions"]] == [
        "NamesAccepted", "Established", "Terminating",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- kinds
def test_versions_in_order_of_preference() -> None:
    names = ["v1alpha1", "v2", "foo10", "v1", "v10", "v1beta1", "foo1"]
    assert sorted(names, key=version_priority) == [
        "v10", "v2", "v1", "v1beta1", "v1alpha1", "foo1", "foo10",
    ]  # fmt: skip


def test_each_served_version_is_a_kind_and_one_is_preferred() -> None:
    versions = (version("v1beta1", storage=False), version("v1"), version("v2", served=False))
    versions = (*versions[:1], {**versions[1]}, {**versions[2], "storage": False})
    found = kinds_of(established(definition("widgets", "Widget", *versions)))
    assert [(k.version, k.stored_as) for k in found] == [
        ("v1", None), ("v1beta1", ("example.com", "v1")),
    ]  # fmt: skip
    assert {k.dynamic.storage_version for k in found if k.dynamic} == {"v1"}
    resources = served_resources(established(definition("widgets", "Widget", *versions)))
    assert [r.version for r in resources] == ["v1", "v1beta1"]


def test_a_scheme_of_ones_own_forgets_dynamic_kinds() -> None:
    scheme = Scheme(BUILTIN)
    (kind,) = kinds_of(established(definition()))
    before = scheme.generation
    scheme.register(kind)
    assert scheme.by_gvk("example.com", "v1", "Widget") is kind
    assert scheme.own().by_gvk("example.com", "v1", "Widget") is None
    scheme.unregister(kind)
    assert scheme.generation == before + 2
    assert "example.com" not in scheme.groups()

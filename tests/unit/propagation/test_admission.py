"""Admission of Karmada's kinds: samples that use every field, what the recordings leave out, and what is warned about."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
import yaml

from federation.controllers import (
    defaults,
    dependencies,
    detector,
    dispatcher,
    namespaces,
    policies,
)
from federation.propagation import claims
from federation.propagation.admission import rules
from federation.propagation.admission.defaults import CLUSTER_POLICY_FINALIZER, POLICY_FINALIZER
from federation.propagation.admission.plugin import KarmadaKinds, idle
from federation.propagation.admission.shape import roundtrip, shown
from federation.propagation.works import work
from machinery.api import schemas, strategy
from machinery.api.decode import decode_body
from machinery.api.defaults import apply_defaults
from machinery.api.fleet.kinds import FLEET
from machinery.api.fleet.policy import ClusterPropagationPolicy, PropagationPolicy
from machinery.api.fleet.work import BINDING_LABEL, ResourceBinding
from machinery.api.scheme import Scheme
from machinery.api.validation import validate_create
from machinery.controller.action import Create, Patch
from machinery.kit.ids import SystemIds
from machinery.meta.errors import BadRequest, Forbidden
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.call import Call
from machinery.server.user import UserInfo

KINDS = {kind.kind: kind for kind in Scheme(FLEET).kinds}

SAMPLES = """
apiVersion: policy.karmada.io/v1alpha1
kind: PropagationPolicy
metadata: {name: shop, namespace: demo}
spec:
  resourceSelectors:
    - {apiVersion: apps/v1, kind: Deployment, namespace: demo, name: shop}
    - apiVersion: v1
      kind: ConfigMap
      labelSelector:
        matchLabels: {app: shop}
        matchExpressions: [{key: tier, operator: In, values: [front]}]
  propagateDeps: true
  association: false
  priority: 5
  preemption: Never
  dependentOverrides: [shop]
  schedulerName: default-scheduler
  conflictResolution: Overwrite
  activationPreference: Lazy
  preserveResourcesOnDeletion: true
  schedulePriority: {priorityClassSource: KubePriorityClass, priorityClassName: gold}
  suspension:
    dispatching: false
    dispatchingOnClusters: {clusterNames: [gamma]}
  failover:
    application:
      decisionConditions: {tolerationSeconds: 120}
      purgeMode: Gracefully
      gracePeriodSeconds: 300
      statePreservation:
        rules: [{aliasLabelName: shop.example/state, jsonPath: "{.readyReplicas}"}]
    cluster:
      purgeMode: Directly
      statePreservation:
        rules: [{aliasLabelName: shop.example/state, jsonPath: "{.readyReplicas}"}]
  placement:
    clusterAffinities:
      - affinityName: home
        clusterNames: [alpha]
        exclude: [beta]
        labelSelector: {matchLabels: {env: prod}}
        fieldSelector: {matchExpressions: [{key: zone, operator: NotIn, values: [zone-x]}]}
        overflowAffinities:
          - affinityName: cloud
            clusterNames: [gamma]
            exclude: [beta]
            labelSelector: {matchExpressions: [{key: env, operator: Exists}]}
            fieldSelector: {matchExpressions: [{key: provider, operator: In, values: [aws]}]}
    clusterTolerations:
      - {key: lease, operator: Equal, value: spot, effect: NoExecute, tolerationSeconds: 60}
    spreadConstraints:
      - {spreadByField: region, minGroups: 1, maxGroups: 2}
      - {spreadByField: cluster, minGroups: 2}
      - {spreadByLabel: rack, minGroups: 1}
    replicaScheduling:
      replicaSchedulingType: Divided
      replicaDivisionPreference: Weighted
      weightPreference:
        dynamicWeight: AvailableReplicas
        staticWeightList:
          - weight: 2
            targetCluster:
              clusterNames: [alpha]
              exclude: [beta]
              labelSelector: {matchLabels: {env: prod}}
              fieldSelector: {matchExpressions: [{key: region, operator: In, values: [eu]}]}
    workloadAffinity:
      affinity: {groupByLabelKey: app}
      antiAffinity: {groupByLabelKey: tenant}
---
apiVersion: policy.karmada.io/v1alpha1
kind: ClusterPropagationPolicy
metadata: {name: everywhere}
spec:
  resourceSelectors: [{apiVersion: apps/v1, kind: Deployment}]
  placement:
    clusterAffinity:
      clusterNames: [alpha]
      exclude: [beta]
      labelSelector: {matchLabels: {env: prod}}
      fieldSelector: {matchExpressions: [{key: region, operator: In, values: [eu]}]}
---
apiVersion: policy.karmada.io/v1alpha1
kind: OverridePolicy
metadata: {name: shop, namespace: demo}
spec:
  resourceSelectors:
    - {apiVersion: apps/v1, kind: Deployment, namespace: demo, name: shop, labelSelector: {matchLabels: {app: shop}}}
  overrideRules:
    - targetCluster:
        clusterNames: [alpha]
        exclude: [beta]
        labelSelector: {matchLabels: {env: prod}}
        fieldSelector: {matchExpressions: [{key: region, operator: In, values: [eu]}]}
      overriders:
        imageOverrider:
          - {component: Registry, operator: replace, value: mirror.example}
          - component: Tag
            operator: add
            value: -slim
            predicate: {path: /spec/template/spec/containers/0/image}
        commandOverrider: [{containerName: shop, operator: add, value: [--region=eu]}]
        argsOverrider: [{containerName: shop, operator: remove, value: [--debug]}]
        labelsOverrider: [{operator: add, value: {where: alpha}}]
        annotationsOverrider: [{operator: replace, value: {note: "in alpha"}}]
        fieldOverrider:
          - fieldPath: /data/shop.yaml
            yaml: [{subPath: /log/level, operator: replace, value: warn}]
          - fieldPath: /data/shop.json
            json: [{subPath: /limits, operator: add, value: {rps: 10}}]
        plaintext: [{path: /spec/replicas, operator: replace, value: 3}]
---
apiVersion: policy.karmada.io/v1alpha1
kind: ClusterOverridePolicy
metadata: {name: old-form}
spec:
  targetCluster: {clusterNames: [alpha]}
  overriders:
    plaintext: [{path: /metadata/labels/old, operator: add, value: "yes"}]
---
apiVersion: work.karmada.io/v1alpha2
kind: ResourceBinding
metadata: {name: shop-deployment, namespace: demo}
spec:
  resource: {apiVersion: apps/v1, kind: Deployment, namespace: demo, name: shop, uid: u-1}
  replicas: 3
  clusters: [{name: alpha, replicas: 2}, {name: beta, replicas: 1}]
---
apiVersion: work.karmada.io/v1alpha1
kind: Work
metadata: {name: shop, namespace: karmada-es-alpha}
spec:
  suspendDispatching: true
  preserveResourcesOnDeletion: true
  workload:
    manifests:
      - {apiVersion: v1, kind: ConfigMap, metadata: {name: shop, namespace: demo}, data: {a: "1"}}
"""
DOCUMENTS: list[Document] = list(yaml.safe_load_all(SAMPLES))


def plugin() -> KarmadaKinds:
    return KarmadaKinds(SystemIds())


def request(document: Document, verb: str = "create", old: Document | None = None) -> Any:
    kind = KINDS[document["kind"]]
    metadata = document["metadata"]
    place = (metadata.get("namespace", ""), metadata["name"])
    return AdmissionRequest(verb, kind, *place, "", document, old, Call(user=UserInfo("u")))


def applied(document: Document) -> tuple[Document, list[str]]:
    """The object as it is stored, and the warnings. Unknown fields, wrong values and refusals raise."""
    kind = KINDS[document["kind"]]
    body = decode_body(kind, msgspec.json.encode(document), "application/json", "Strict").document
    asked = request(apply_defaults(kind, body))
    stored = strategy.prepare_create(kind, plugin().admit(asked))
    assert validate_create(kind, stored) == []
    asked.document = stored
    plugin().validate(asked)
    return stored, asked.call.warnings


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda d: f"{d['kind']}/{d['metadata']['name']}"
)
def test_samples_apply_unchanged(document: Document) -> None:
    stored, _ = applied(document)
    assert kept(document["spec"], stored["spec"]), "what was asked for is what is stored"
    again = plugin().admit(request(stored, "update", stored))
    assert again == stored, "what is stored is filled in already"


def kept(asked: Any, stored: Any) -> bool:
    """Whether everything that says something is there as it was asked for."""
    if isinstance(asked, dict):
        return all(value is False or kept(value, stored.get(key)) for key, value in asked.items())
    if isinstance(asked, list):
        return len(asked) == len(stored) and all(map(kept, asked, stored))
    return bool(asked == stored)


def fields(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, part in (schema.get("properties") or {}).items():
        yield f"{path}.{key}"
        yield from fields(part, f"{path}.{key}")
    if "items" in schema:
        yield from fields(schema["items"], path)


def used(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from used(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from used(inner, path)


@pytest.mark.parametrize(
    "kinds",
    [
        ("PropagationPolicy", "ClusterPropagationPolicy"),
        ("OverridePolicy", "ClusterOverridePolicy"),
    ],
)
def test_the_samples_use_every_field(kinds: tuple[str, ...]) -> None:
    spec = schemas.schema_of(KINDS[kinds[0]])["properties"]["spec"]
    said = {p for d in DOCUMENTS if d["kind"] in kinds for p in used(d["spec"])}
    # The deprecated form and the selectors have their parts in common with fields that are used.
    shared = (".targetCluster.", ".overriders.")
    missing = {f for f in fields(spec) if f not in said and not f.startswith(shared)}
    assert {f for f in missing if ".labelSelector." not in f} == set()


def test_what_nothing_acts_on_is_warned_about() -> None:
    _, warnings = applied(DOCUMENTS[0])
    assert [text.partition(":")[0] for text in warnings] == []
    assert list(idle(DOCUMENTS[1])) == []


# ---------------------------------------------------------------------------------------------------------------- rules
def policy(kind: str = "PropagationPolicy", **spec: Any) -> Document:
    selectors = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}]
    metadata = {"name": "x"} | ({"namespace": "demo"} if kind[0] != "C" else {})
    return {"kind": kind, "metadata": metadata, "spec": {"resourceSelectors": selectors} | spec}


def spread(*constraints: Document) -> Document:
    return {"placement": {"spreadConstraints": list(constraints)}}


BY_ZONE, BY_CLUSTER = {"spreadByField": "zone"}, {"spreadByField": "cluster"}
DIVIDED = {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Aggregated"}
DETAIL = "overflowAffinities can only be used together with"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (spread(BY_ZONE), ""),
        (spread(BY_ZONE, BY_CLUSTER), ""),
        (spread({"spreadByField": "region"}), "the cluster spread constraint must be enabled"),
        (spread({"spreadByField": "region"}, BY_ZONE), "the cluster spread constraint must be enabled"),
        (spread(BY_ZONE, BY_ZONE), "multiple zone spread constraints are not allowed"),
        (spread(BY_CLUSTER | {"minGroups": -1, "maxGroups": -2}), "[spec.placement.spreadConstraints[0]: "),
        (spread(BY_CLUSTER | {"maxGroups": -2}), "maxGroups lower than 0 is not allowed"),
        ({"suspension": {"dispatching": True, "dispatchingOnClusters": {"clusterNames": ["a"]}}},
         "suspension dispatching cannot co-exist with dispatchingOnClusters.clusterNames"),
        ({"suspension": {"dispatching": True, "dispatchingOnClusters": {}}}, ""),
        ({"resourceSelectors": [{"apiVersion": "v1", "kind": "Secret", "namespace": "prod"}]},
         'spec.resourceSelectors[0].namespace: Invalid value: "prod": namespace of resource selector must be'),
        ({"propagateDeps": True, "failover": {"application": {"purgeMode": "Directly", "gracePeriodSeconds": 3}}},
         "spec.failover.application.gracePeriodSeconds: Invalid value: 3: only takes effect when purgeMode is gracefully"),
        ({"placement": {"clusterAffinity": {"fieldSelector": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}}}},
         'unsupported operator "Exists", must be In or NotIn'),
        ({"placement": {"replicaScheduling": DIVIDED, "clusterAffinities": [
            {"affinityName": "a", "overflowAffinities": [{"affinityName": "b"}]}]}},
         f"{DETAIL} the inline ClusterAffinity"),
        ({"placement": {"workloadAffinity": {"antiAffinity": {"groupByLabelKey": "a b"}}}},
         "spec.placement.workloadAffinity.antiAffinity.groupByLabelKey: Invalid value"),
    ],
)  # fmt: skip
def test_rules_of_policies_beyond_the_recordings(spec: Document, why: str) -> None:
    said = rules.propagation_policy(policy(**spec))
    assert why in said
    assert bool(why) == bool(said)


def test_a_cluster_policy_may_select_any_namespace() -> None:
    selectors = [{"apiVersion": "v1", "kind": "Secret", "namespace": "prod"}]
    assert (
        rules.propagation_policy(policy("ClusterPropagationPolicy", resourceSelectors=selectors))
        == ""
    )


def rule(**overriders: Any) -> Document:
    return {"overrideRules": [{"overriders": overriders}]}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (rule(fieldOverrider=[{"fieldPath": "/a", "yaml": [{"subPath": "b", "operator": "remove"}]}]),
         'fieldOverrider[0].yaml[0].subPath: Invalid value: "b": JSON pointer must be empty or start with a "/"\nJSON pointer error'),
        (rule(fieldOverrider=[{"fieldPath": "/a", "yaml": [{"subPath": "/b", "operator": "replace"}]}]),
         "yaml[0].value: Invalid value: null: value is required for add or replace operation"),
        (rule(annotationsOverrider=[{"operator": "add", "value": {"bad key": "b"}}]),
         'annotationsOverrider[0].value: Invalid value: "bad key": name part must consist of'),
        (rule(annotationsOverrider=[{"operator": "add", "value": {"a": "x" * 262144}}]),
         "annotationsOverrider[0].value: Too long: may not be more than 262144 bytes"),
        ({"overrideRules": [], "overriders": {"fieldOverrider": [{"fieldPath": "/a"}]}}, ""),
        ({"targetCluster": {"fieldSelector": {"matchExpressions": [{"key": "x"}]}}},
         'spec.targetCluster.fieldSelector: Invalid value: {"matchExpressions":[{"key":"x"}]}: unsupported key "x"'),
    ],
)  # fmt: skip
def test_rules_of_overrides_beyond_the_recordings(spec: Document, why: str) -> None:
    document = {"kind": "ClusterOverridePolicy", "metadata": {"name": "x"}, "spec": spec}
    said = rules.override_policy(document)
    assert why in said
    assert bool(why) == bool(said)


def test_a_protected_object_is_not_deleted() -> None:
    held = policy() | {"apiVersion": "policy.karmada.io/v1alpha1"}
    held["metadata"] = held["metadata"] | {
        "labels": {"resourcetemplate.karmada.io/deletion-protected": "Always"}
    }
    with pytest.raises(Forbidden, match="This resource is protected"):
        plugin().validate(request(held, "delete", held))
    held["metadata"]["labels"] = {"resourcetemplate.karmada.io/deletion-protected": "Never"}
    plugin().validate(request(held, "delete", held))


@pytest.mark.parametrize(
    ("kind", "spec", "why"),
    [
        ("PropagationPolicy", {"placement": "x"}, "string into Go struct field PropagationSpec.spec.placement of type v1alpha1.Placement"),
        ("PropagationPolicy", {"priority": "1"}, "string into Go struct field PropagationSpec.spec.priority of type int32"),
        ("PropagationPolicy", {"priority": 1.5}, "number 1.5 into Go struct field PropagationSpec.spec.priority of type int32"),
        ("PropagationPolicy", {"propagateDeps": 1}, "number into Go struct field PropagationSpec.spec.propagateDeps of type bool"),
        ("PropagationPolicy", {"conflictResolution": True}, "bool into Go struct field PropagationSpec.spec.conflictResolution of type v1alpha1.ConflictResolution"),
        ("PropagationPolicy", {"resourceSelectors": {}}, "object into Go struct field PropagationSpec.spec.resourceSelectors of type []v1alpha1.ResourceSelector"),
        ("PropagationPolicy", {"resourceSelectors": ["x"]}, "string into Go struct field PropagationSpec.spec.resourceSelectors of type v1alpha1.ResourceSelector"),
        ("PropagationPolicy", {"resourceSelectors": [{"name": 1}]}, "number into Go struct field ResourceSelector.spec.resourceSelectors.name of type string"),
        ("PropagationPolicy", {"resourceSelectors": [{"labelSelector": {"matchLabels": {"a": 1}}}]}, "number into Go struct field LabelSelector.spec.resourceSelectors.labelSelector.matchLabels of type string"),
        ("ClusterPropagationPolicy", {"placement": {"clusterTolerations": [{"operator": 1}]}}, "number into Go struct field Toleration.spec.placement.clusterTolerations.operator of type v1.TolerationOperator"),
        ("OverridePolicy", {"overrideRules": [{"overriders": {"plaintext": [{"operator": []}]}}]}, "array into Go struct field PlaintextOverrider.spec.overrideRules.overriders.plaintext.operator of type v1alpha1.OverriderOperator"),
        ("OverridePolicy", "x", "string into Go struct field OverridePolicy.spec of type v1alpha1.OverrideSpec"),
    ],
)  # fmt: skip
def test_what_go_cannot_decode(kind: str, spec: Any, why: str) -> None:
    document = {"kind": kind, "metadata": {"name": "x"}, "spec": spec}
    with pytest.raises(BadRequest) as refused:
        plugin().admit(request(document))
    assert str(refused.value).endswith(f"denied the request: json: cannot unmarshal {why}")


# ---------------------------------------------------------------------------------------------------------------- shapes
SCHEMA = {
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "priority": {"type": "integer"},
        "part": {"properties": {"weight": {"type": "integer"}}, "required": ["weight"]},
        "list": {"type": "array", "items": {"properties": {"k": {"type": "string"}}, "required": ["k"]}},
        "value": {"x-kubernetes-preserve-unknown-fields": True},
    },
    "required": ["name", "part"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({}, {"name": "", "part": {"weight": 0}}),
        (
            {"count": 0, "priority": 0, "list": []},
            {"name": "", "priority": 0, "part": {"weight": 0}},
        ),
        ({"list": [{}]}, {"name": "", "part": {"weight": 0}, "list": [{"k": ""}]}),
        ({"value": False, "part": None}, {"name": "", "part": {"weight": 0}, "value": False}),
        ({"name": 3, "part": "x"}, {"name": 3, "part": "x"}),
        ("no object", "no object"),
    ],
)
def test_a_struct_writes_itself(given: Any, written: Any) -> None:
    assert roundtrip(SCHEMA, given) == written


def test_a_value_is_shown_in_the_order_of_its_struct() -> None:
    given = {"part": {"weight": 1}, "name": "x"}
    assert list(shown(SCHEMA, given)) == ["name", "part", "value"]


# ------------------------------------------------------------------------------------------------------ end of a policy
def going(finalizers: list[str], namespace: str = "demo", *, deleting: bool = True) -> Any:
    kind = PropagationPolicy if namespace else ClusterPropagationPolicy
    metadata = {"name": "x", "resourceVersion": "4", "finalizers": finalizers}
    metadata |= {"namespace": namespace} if namespace else {}
    metadata |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    return msgspec.convert({"metadata": metadata}, kind)


CLAIMED = msgspec.convert(
    {
        "metadata": {
            "name": "web-deployment",
            "namespace": "demo",
            "annotations": {"propagationpolicy.karmada.io/name": "x", "propagationpolicy.karmada.io/namespace": "demo"},
        }
    },
    ResourceBinding,
)  # fmt: skip


def test_a_policy_goes_when_nothing_is_claimed_by_it() -> None:
    assert policies.claimed_by(CLAIMED) == [going([]).key]
    (patch,) = policies.plan(going([POLICY_FINALIZER, "other"]), [])
    assert isinstance(patch, Patch)
    assert patch.patch == {"metadata": {"finalizers": ["other"]}}
    assert patch.resource_version == "4"
    (last,) = policies.plan(going([CLUSTER_POLICY_FINALIZER], ""), [])
    assert isinstance(last, Patch)
    assert last.patch == {"metadata": {"finalizers": None}}


@pytest.mark.parametrize(
    ("held", "claims"),
    [
        (going([POLICY_FINALIZER]), [CLAIMED]),
        (going([POLICY_FINALIZER], deleting=False), []),
        (going(["other"]), []),
        (going([CLUSTER_POLICY_FINALIZER]), []),
        (None, []),
    ],
    ids=[
        "something is claimed",
        "it stays",
        "another's finalizer",
        "the sister's finalizer",
        "gone",
    ],
)
def test_a_policy_stays(held: Any, claims: list[ResourceBinding]) -> None:
    assert policies.plan(held, claims) == []


# ------------------------------------------------------------------------------------------- what our controllers write
WEB: Document = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "demo", "uid": "u-1", "generation": 3},
    "spec": {
        "replicas": 2,
        "template": {
            "metadata": {},
            "spec": {
                "containers": [{"name": "c", "image": "i"}],
                "volumes": [{"name": "v", "configMap": {"name": "settings"}}],
            },
        },
    },
}
SETTINGS: Document = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": "demo", "uid": "c-1"},
}
SPREAD = claims.Claim(msgspec.convert(defaults.DEFAULT_SPREAD, ClusterPropagationPolicy))


def stored_as(document: Document) -> Document:
    """After defaults and admission, as the API keeps it."""
    filled = apply_defaults(KINDS[document["kind"]], document)
    metadata = {"uid": "b-1", "resourceVersion": "1"}
    admitted = plugin().admit(request(filled))
    return admitted | {"metadata": admitted["metadata"] | metadata}


def created(actions: list[Any]) -> Document:
    (document,) = (a.document for a in actions if isinstance(a, Create))
    return dict(document)


def test_a_binding_that_was_admitted_is_what_the_detector_wants() -> None:
    held = stored_as(created(detector.plan(WEB, SPREAD, None, None)))
    assert BINDING_LABEL in held["metadata"]["labels"]
    assert detector.plan(WEB, SPREAD, msgspec.convert(held, ResourceBinding), held) == []


def test_a_dependency_that_was_admitted_is_what_is_wanted() -> None:
    bound = created(detector.plan(WEB, SPREAD, None, None))
    bound["spec"] = bound["spec"] | {"clusters": [{"name": "alpha", "replicas": 2}]}
    needing = [msgspec.convert(bound, ResourceBinding)]
    held = stored_as(created(dependencies.plan(SETTINGS, needing, None, None)))
    view = msgspec.convert(held, ResourceBinding)
    assert dependencies.plan(SETTINGS, needing, view, held) == []


def test_works_that_were_admitted_are_what_the_dispatcher_wants() -> None:
    bound = stored_as(created(detector.plan(WEB, SPREAD, None, None)))
    bound["spec"] = bound["spec"] | {"clusters": [{"name": "alpha", "replicas": 2}]}
    wanted = dispatcher.wanted_works(msgspec.convert(bound, ResourceBinding), WEB, ["alpha"])
    held = [stored_as(work) for work in wanted.values()]
    assert dispatcher.plan(wanted, held) == []
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo", "uid": "n-1"}}
    travelling = namespaces.wanted_works(space, "demo", ["alpha"]).works
    assert dispatcher.plan(travelling, [stored_as(w) for w in travelling.values()]) == []
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "demo", "uid": "s-1"},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
    }
    headless = {"alpha": work(service, "alpha")}
    assert dispatcher.plan(headless, [stored_as(headless["alpha"])]) == []

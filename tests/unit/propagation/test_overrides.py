"""Override policies: every overrider with its operators, the order, the choice of clusters, and what does not fit.

Most rows of images, words and marks are Karmada's recorded behaviour for other kinds than Deployments; Deployments are in
the golden runner.
"""

from typing import Any

import msgspec
import pytest

from federation.controllers import dispatcher
from federation.placement.model import Candidate
from federation.propagation.overrides import images, steps, texts
from federation.propagation.overrides.apply import overridden
from federation.propagation.overrides.errors import OverrideError, PolicyFailed
from federation.propagation.overrides.policies import APPLIED, APPLIED_CLUSTER, Overrides, wire
from machinery.api.fleet.policy import ClusterOverridePolicy, OverridePolicy, Overriders
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Create, Delete, Emit, Patch, SetStatus
from machinery.meta.resource import Document

NOW = "2026-01-01T00:00:00Z"
DIGEST = "sha256:" + "a" * 64


def overriders(**given: Any) -> Overriders:
    return msgspec.convert(given, Overriders)


def workload(kind: str, **container: Any) -> Document:
    pod = {"containers": [{"name": "c", "image": "i"} | container], "initContainers": [{"name": "c", "image": "n"}]}  # fmt: skip
    spec: Document = {"template": {"spec": pod}}
    if kind == "Pod":
        spec = pod
    elif kind == "CronJob":
        spec = {"jobTemplate": {"spec": {"template": {"spec": pod}}}}
    return {"apiVersion": "x/v1", "kind": kind, "metadata": {"name": "w"}, "spec": spec}


# -------------------------------------------------------------------------------------------------------------- images
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nginx", ("", "nginx", "", "")),
        ("nginx:1.25", ("", "nginx", "1.25", "")),
        ("library/nginx", ("", "library/nginx", "", "")),
        ("localhost/nginx", ("localhost", "nginx", "", "")),
        ("reg.io/a/b:1", ("reg.io", "a/b", "1", "")),
        ("reg.io:5000/a", ("reg.io:5000", "a", "", "")),
        (f"reg.io/a@{DIGEST}", ("reg.io", "a", "", DIGEST)),
        (f"reg.io/a:1@{DIGEST}", ("reg.io", "a", "1", "")),
        ("UPPER.io/a", ("UPPER.io", "a", "", "")),
    ],
)
def test_an_image_is_taken_apart(text: str, parts: tuple[str, ...]) -> None:
    image = images.parse(text)
    assert (image.registry, image.repository, image.tag, image.digest) == parts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Nginx", "repository name must be lowercase"),
        ("", "repository name must have at least one component"),
        ("a b", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a/" * 128 + "b", "repository name must not be more than 255 characters"),
    ],
)
def test_what_is_no_image(text: str, why: str) -> None:
    with pytest.raises(OverrideError, match=why):
        images.parse(text)


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("Pod", "i:9"),
        ("Job", "i:9"),
        ("StatefulSet", "i:9"),
        ("DaemonSet", "i:9"),
        ("ReplicaSet", "i:9"),
        ("CronJob", "i"),
        ("Rollout", "i"),
    ],
)
def test_images_of_all_containers_of_the_known_kinds(kind: str, image: str) -> None:
    tag = overriders(imageOverrider=[{"component": "Tag", "operator": "replace", "value": "9"}])
    given = workload(kind)
    changed = overridden(given, tag)
    text = str(changed)
    assert f"'image': '{image}'" in text
    assert "'image': 'n'" in text, "init containers are left alone"
    assert given == workload(kind), "the input is not touched"


def test_the_image_at_a_path_wherever_it_stands() -> None:
    path = "/spec/jobTemplate/spec/template/spec/containers/0/image"
    rule = {"predicate": {"path": path}, "component": "Registry", "operator": "add", "value": "r"}
    changed = overridden(workload("CronJob"), overriders(imageOverrider=[rule]))
    assert steps.resolve(changed, path) == "r/i"
    with pytest.raises(OverrideError, match="is no image"):
        overridden(
            workload("CronJob"),
            overriders(imageOverrider=[rule | {"predicate": {"path": "/spec"}}]),
        )


# -------------------------------------------------------------------------------------------------- words, marks, order
@pytest.mark.parametrize("field", ["command", "args"])
@pytest.mark.parametrize(
    ("operator", "value", "wanted"),
    [
        ("add", ["x", "x"], ["a", "b", "a", "x", "x"]),
        ("remove", ["a"], ["b"]),
        ("remove", ["a", "b"], []),
        ("remove", ["nope"], ["a", "b", "a"]),
    ],
)
def test_words(field: str, operator: str, value: list[str], wanted: list[str]) -> None:
    one = {"containerName": "c", "operator": operator, "value": value}
    changed = overridden(
        workload("Job", **{field: ["a", "b", "a"]}), overriders(**{f"{field}Overrider": [one]})
    )
    assert changed["spec"]["template"]["spec"]["containers"][0][field] == wanted
    assert field not in changed["spec"]["template"]["spec"]["initContainers"][0]


@pytest.mark.parametrize("field", ["labels", "annotations"])
@pytest.mark.parametrize(
    ("operator", "value", "wanted"),
    [
        ("add", {"a": "2", "b": "3"}, {"a": "2", "b": "3"}),
        ("replace", {"a": "2", "b": "3"}, {"a": "2"}),
        ("remove", {"a": "another value"}, {}),
        ("remove", {"b": ""}, {"a": "1"}),
    ],
)
def test_marks(field: str, operator: str, value: Document, wanted: Document) -> None:
    given = {"kind": "ConfigMap", "metadata": {"name": "x", field: {"a": "1"}}}
    one = {"operator": operator, "value": value}
    changed = overridden(given, overriders(**{f"{field}Overrider": [one]}))
    assert changed["metadata"][field] == wanted


def test_the_order_is_fixed_whatever_the_policy_says() -> None:
    rules = overriders(
        plaintext=[{"path": "/metadata/annotations/f", "operator": "replace", "value": "last"}],
        fieldOverrider=[
            {"fieldPath": "/metadata/annotations/f", "yaml": [{"subPath": "/k", "operator": "add", "value": 1}]}
        ],
        annotationsOverrider=[{"operator": "add", "value": {"f": "a: 0"}}],
    )  # fmt: skip
    assert overridden(workload("Pod"), rules)["metadata"]["annotations"] == {"f": "last"}
    assert list(wire(rules)) == ["plaintext", "annotationsOverrider", "fieldOverrider"]


# --------------------------------------------------------------------------------------------------- text inside fields
@pytest.mark.parametrize(
    ("text", "step", "wanted"),
    [
        ("a: 1 # why\nb: x\n", ("replace", "/a", 2), "a: 2\nb: x\n"),
        ("a: 1", ("add", "/t", "true"), 'a: 1\nt: "true"\n'),
        ("a: 1", ("add", "/t", "12"), 'a: 1\nt: "12"\n'),
        ("a: 1", ("add", "/t", "n"), 'a: 1\nt: "n"\n'),
        ("a: 1", ("add", "/t", "k: v"), "a: 1\nt: 'k: v'\n"),
        ("a: 1", ("add", "/t", "1\n2\n"), "a: 1\nt: |\n  1\n  2\n"),
        ("a10: 1\na9: 2", ("add", "/a1", 0), "a1: 0\na9: 2\na10: 1\n"),
        ("d: 2020-01-01", ("add", "/l", [[], {}]), 'd: "2020-01-01"\nl:\n- []\n- {}\n'),
        ("- 1", ("add", "/-", {"a": None}), "- 1\n- a: null\n"),
        ("", ("add", "", {"a": 1.5}), "a: 1.5\n"),
        ("on: 1\n2: x", ("remove", "/2", None), '"true": 1\n'),
        ("ports: [22:22, '0:30', 0:80]", ("add", "/a", "=="), 'a: ==\nports:\n- "22:22"\n- "0:30"\n- 0:80\n'),
        ("a: 0x1F\nb: 0777\nc: 08\nd: 1_000", ("add", "/e", 2), "a: 31\nb: 511\nc: 8\nd: 1000\ne: 2\n"),
        ("a: 1.0\nb: 1e3\nc: .5\nd: 1e30", ("add", "/e", 2.0), "a: 1\nb: 1000\nc: 0.5\nd: 1e+30\ne: 2\n"),
        ("a: 1234567.5\nb: 0.00001\nc: -1.25e-7", ("remove", "/c", None), "a: 1.2345675e+06\nb: 1e-05\n"),
        ("a: 12345678901234567890\nb: 99999999999999999999999", ("remove", "/b", None), "a: 12345678901234567890\n"),
        ("a: y\nb: Off\nc: ~\nd:", ("add", "/e", "<<"), 'a: true\nb: false\nc: null\nd: null\ne: "<<"\n'),
        ("base: &b {x: 1}\nmore:\n  <<: *b\n  z: 2", ("remove", "/base", None), 'more:\n  x: 1\n  z: 2\n'),
        ("a: =\nb: 'quoted: yes'\nc: 2020-1-2T3:4:5Z", ("add", "/d", ""), 'a: =\nb: \'quoted: yes\'\nc: "2020-1-2T3:4:5Z"\nd: ""\n'),
    ],
)  # fmt: skip
def test_yaml_text(text: str, step: tuple[str, str, Any], wanted: str) -> None:
    assert texts.yaml_changed(text, [step]) == wanted


@pytest.mark.parametrize(
    ("text", "step", "wanted"),
    [
        ('{"z": 1.0, "a": 1e3}', ("add", "/m", "<&>"), '{"z":1.0,"a":1e3,"m":"\\u003c\\u0026\\u003e"}'),
        ('{"n": 12345678901234567890}', ("add", "/a", [True, None]), '{"n":12345678901234567890,"a":[true,null]}'),
        ("[1,2]", ("remove", "/0", None), "[2]"),
        ("[1,2]", ("replace", "/-1", 3), "[1,3]"),
        ('{"ä":"ö"}', ("add", "/x", 1), '{"ä":"ö","x":1}'),
        ("", ("add", "/x", 1), ""),
    ],
)  # fmt: skip
def test_json_text(text: str, step: tuple[str, str, Any], wanted: str) -> None:
    assert texts.json_changed(text, [step]) == wanted


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LAUGHS, "yaml: document contains excessive aliasing"),
        ("a: &a [*a]", "yaml: exceeded max depth"),
        ("[" * 4000 + "]" * 4000, "yaml: "),
        ("a: !!python/object:os.system x", "yaml: could not determine a constructor"),
        ("a: [1", "yaml: line 1: did not find expected ',' or ']'"),
        ("a: 1\nb: [1", "yaml: line 2: did not find expected ',' or ']'"),
        ("a: 1\n\tb: 2", "yaml: line 2: found a tab character that violates indentation"),
    ],
    ids=[
        "a bomb",
        "a circle",
        "too deep",
        "a python object",
        "the end of one line",
        "the end of two lines",
        "a tab",
    ],
)
def test_yaml_that_is_refused(text: str, why: str) -> None:
    with pytest.raises(OverrideError) as raised:
        texts.yaml_changed(text, [("add", "/z", 1)])
    assert str(raised.value).startswith(why)


@pytest.mark.parametrize("text", ["{", "[" * 100000, "NaN", '{"a":1}x', "'a'"])
def test_json_that_is_refused(text: str) -> None:
    with pytest.raises(OverrideError, match="invalid state detected"):
        texts.json_changed(text, [("add", "/z", 1)])


@pytest.mark.parametrize(
    ("document", "step", "why"),
    [
        ({}, ("remove", "/a", None), "error in remove for path: '/a': unable to remove nonexistent key: a: missing value"),
        ({}, ("replace", "/a", 1), "replace operation does not apply: doc is missing key: /a: missing value"),
        ({}, ("replace", "/a/b", 1), "replace operation does not apply: doc is missing path: /a/b: missing value"),
        ({}, ("add", "/a/b", 1), 'add operation does not apply: doc is missing path: "/a/b": missing value'),
        ({"a": 1}, ("add", "/a/b", 1), 'add operation does not apply: doc is missing path: "/a/b": missing value'),
        ({}, ("remove", "", None), 'remove operation does not apply: doc is missing path: "": missing value'),
        ({}, ("remove", "a", None), 'remove operation does not apply: doc is missing path: "a": missing value'),
        ({"l": []}, ("add", "/l/1", 1), "error in add for path: '/l/1': Unable to access invalid index: 1: invalid index referenced"),
        ({"l": [1]}, ("remove", "/l/1", None), "error in remove for path: '/l/1': Unable to access invalid index: 1: invalid index referenced"),
        ({"l": [1]}, ("replace", "/l/x", 1), "replace operation does not apply: doc is missing key: /l/x: missing value"),
        (None, ("add", "/a", 1), "error in add for path: '/a': invalid value, expected object"),
    ],
)  # fmt: skip
def test_steps_that_do_not_fit(document: Any, step: tuple[str, str, Any], why: str) -> None:
    with pytest.raises(OverrideError) as raised:
        steps.apply(document, [step])
    assert str(raised.value) == why


@pytest.mark.parametrize(
    ("pointer", "why"),
    [
        ("/a/x", 'object has no key "x": JSON pointer error'),
        ("/l/3", "index out of bounds array[0,0] index '3': JSON pointer error"),
        ("/l/x", 'strconv.Atoi: parsing "x": invalid syntax: JSON pointer error'),
        ("/t/x", 'invalid token reference "x": JSON pointer error'),
        ("a", 'JSON pointer must be empty or start with a "/": JSON pointer error'),
    ],
)
def test_pointers_that_lead_nowhere(pointer: str, why: str) -> None:
    with pytest.raises(OverrideError) as raised:
        steps.resolve({"a": {}, "l": [0], "t": "text"}, pointer)
    assert str(raised.value) == why


def test_steps_change_a_copy_and_read_escapes() -> None:
    given = {"a/b": {"m~n": [1]}}
    assert steps.apply(given, [("add", "/a~1b/m~0n/0", 0)]) == {"a/b": {"m~n": [0, 1]}}
    assert given == {"a/b": {"m~n": [1]}}


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"plaintext": [{"path": "", "operator": "replace", "value": {}}]}, "Object 'Kind' is missing in '{}'"),
        ({"fieldOverrider": [{"fieldPath": "/spec", "json": [{"subPath": "/a", "operator": "remove"}]}]}, "the value at /spec is not a string"),
    ],
)  # fmt: skip
def test_what_is_no_object_or_no_text_any_more(rules: Document, why: str) -> None:
    with pytest.raises(OverrideError) as raised:
        overridden(workload("Pod"), overriders(**rules))
    assert str(raised.value) == why


# ------------------------------------------------------------------------------------------------------------- policies
def policy(name: str, namespace: str = "demo", **spec: Any) -> Any:
    kind = OverridePolicy if namespace else ClusterOverridePolicy
    metadata = {"name": name, "uid": f"u-{name}"} | ({"namespace": namespace} if namespace else {})
    return msgspec.convert({"metadata": metadata, "spec": spec}, kind)


def says(name: str, who: str) -> Document:
    return {"labelsOverrider": [{"operator": "add", "value": {"who": who, name: "1"}}]}


def selector(**more: Any) -> Document:
    return {"apiVersion": "apps/v1", "kind": "Deployment"} | more


TEMPLATE: Document = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "demo", "uid": "u-1", "labels": {"app": "web"}},
    "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "i:1"}]}}},
}
BY_NAME = selector(name="web")
BY_LABEL = selector(labelSelector={"matchLabels": {"app": "web"}})
ALPHA = Candidate("alpha", {"env": "prod"}, "aws", "r1", ("r1a", "r1b"))
BETA = Candidate("beta", {}, "gcp", "r2", ("r2a",))


def named(name: str, namespace: str, *selectors: Document, **spec: Any) -> Any:
    rules = [{"overriders": says(name, name)}]
    return policy(name, namespace, resourceSelectors=list(selectors), overrideRules=rules, **spec)


@pytest.mark.parametrize(
    ("policies", "who"),
    [
        ([named("a", "demo", BY_NAME), named("b", "demo", selector())], "a"),
        ([named("a", "demo", BY_LABEL), named("b", "demo", selector())], "a"),
        ([named("a", "demo", BY_NAME), named("b", "demo", BY_LABEL)], "a"),
        ([named("a", "demo"), named("b", "demo", selector())], "b"),
        ([named("b", "demo", selector()), named("a", "demo", selector())], "b"),
        ([named("z", "", BY_NAME), named("a", "demo")], "a"),
        ([named("z", "", BY_NAME), named("y", "", BY_LABEL)], "z"),
        ([named("a", "other")], None),
        ([named("a", "demo", selector(name="db"))], None),
        ([named("a", "", selector(namespace="other"))], None),
        ([named("a", "", selector(namespace="demo"))], "a"),
        ([named("a", "demo", selector(kind="StatefulSet"))], None),
    ],
    ids=[
        "name beats kind", "label beats kind", "name beats label", "any selector beats none",
        "the later name", "the namespace has the last word", "cluster policies among themselves",
        "another namespace", "another object", "a cluster policy of another namespace",
        "a cluster policy of this namespace", "another kind",
    ],
)  # fmt: skip
def test_who_has_the_last_word(policies: list[Any], who: str | None) -> None:
    everybody = Overrides(
        tuple(p for p in policies if not p.metadata.namespace),
        tuple(p for p in policies if p.metadata.namespace),
    )
    changed = everybody.of(TEMPLATE).apply(TEMPLATE, ALPHA)
    assert changed.document["metadata"]["labels"].get("who") == who
    for name in (p.metadata.name for p in policies):
        assert (name in changed.document["metadata"]["labels"]) == (who is not None)


@pytest.mark.parametrize(
    ("target", "clusters"),
    [
        (None, {"alpha", "beta"}),
        ({}, {"alpha", "beta"}),
        ({"clusterNames": ["beta"]}, {"beta"}),
        ({"exclude": ["beta"]}, {"alpha"}),
        ({"labelSelector": {"matchLabels": {"env": "prod"}}}, {"alpha"}),
        ({"fieldSelector": {"matchExpressions": [{"key": "region", "operator": "NotIn", "values": ["r1"]}]}}, {"beta"}),
        ({"fieldSelector": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["r1b"]}]}}, {"alpha"}),
        ({"fieldSelector": {"matchExpressions": [{"key": "provider", "operator": "In", "values": ["gcp"]}]}}, {"beta"}),
        ({"clusterNames": ["alpha", "beta"], "exclude": ["alpha"]}, {"beta"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("old_form", [False, True], ids=["rules", "the deprecated form"])
def test_which_clusters_a_rule_is_for(target: Any, clusters: set[str], old_form: bool) -> None:
    rule = {"overriders": says("x", "x")} | ({} if target is None else {"targetCluster": target})
    spec: Document = rule if old_form else {"overrideRules": [rule]}
    chosen = Overrides((), (policy("o", **spec),)).of(TEMPLATE)
    touched = {
        c.name
        for c in (ALPHA, BETA)
        if "x" in chosen.apply(TEMPLATE, c).document["metadata"]["labels"]
    }
    assert touched == clusters


def test_what_was_applied_is_written_down() -> None:
    rules = [
        {"overriders": says("first", "a")},
        {"overriders": {"plaintext": [{"path": "/spec/paused", "operator": "add", "value": True}]}},
        {"overriders": says("never", "b"), "targetCluster": {"clusterNames": ["beta"]}},
    ]
    everybody = Overrides((named("all", "", selector()),), (policy("o", overrideRules=rules),))
    changed = everybody.of(TEMPLATE).apply(TEMPLATE, ALPHA)
    assert changed.policies == ("all", "demo/o")
    assert changed.annotations == {
        APPLIED_CLUSTER: '[{"policyName":"all","overriders":{"labelsOverrider":[{"operator":"add","value":{"all":"1","who":"all"}}]}}]',
        APPLIED: '[{"policyName":"o","overriders":{"labelsOverrider":[{"operator":"add","value":{"first":"1","who":"a"}}]}},'
        '{"policyName":"o","overriders":{"plaintext":[{"path":"/spec/paused","operator":"add","value":true}]}}]',
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- dispatcher
FLEET = {"alpha": ALPHA, "beta": BETA}
BROKEN = {"plaintext": [{"path": "/spec/nope/deep", "operator": "add", "value": 1}]}


def binding(*conditions: Document) -> ResourceBinding:
    return msgspec.convert(
        {
            "metadata": {"name": "web-deployment", "namespace": "demo", "uid": "b-1", "resourceVersion": "7"},
            "spec": {"replicas": 4, "clusters": [{"name": "alpha", "replicas": 2}, {"name": "beta", "replicas": 2}]},
            "status": {"conditions": list(conditions)},
        },
        ResourceBinding,
    )  # fmt: skip


def play(
    held: list[Document], *policies: Any, conditions: tuple[Document, ...] = ()
) -> list[Action]:
    bound = binding(*conditions)
    chosen = Overrides((), policies).of(TEMPLATE)
    found = dispatcher.rendered(bound, TEMPLATE, FLEET, held, overrides=chosen)
    plan = dispatcher.plan(found.works, held, found.failed)
    return [*plan, *dispatcher.told(bound, TEMPLATE, found, held, NOW)]


def works(*policies: Any) -> list[Document]:
    chosen = Overrides((), policies).of(TEMPLATE)
    found = dispatcher.rendered(binding(), TEMPLATE, FLEET, overrides=chosen)
    return [
        w | {"metadata": w["metadata"] | {"uid": "w", "resourceVersion": "1"}}
        for w in found.works.values()
    ]


def only(cluster: str, rules: Document) -> Any:
    return policy(
        "o", overrideRules=[{"overriders": rules, "targetCluster": {"clusterNames": [cluster]}}]
    )


def test_a_changed_policy_renders_its_works_again_and_says_so() -> None:
    before = works()
    patch, said = play(before, only("alpha", says("x", "x")))
    assert isinstance(patch, Patch)
    assert patch.key.namespace == "karmada-es-alpha"
    assert isinstance(said, Emit)
    assert (said.reason, said.message) == (
        "ApplyOverridePolicySucceed",
        "Apply override policy(demo/o) for cluster(alpha) succeed.",
    )
    assert play(works(only("alpha", says("x", "x"))), only("alpha", says("x", "x"))) == []
    (back,) = play(works(only("alpha", says("x", "x"))))
    assert isinstance(back, Patch), "a policy that is gone leaves nothing behind"


def test_where_a_policy_cannot_be_applied_the_work_stays_and_the_binding_says_why() -> None:
    before = works()
    status, failed, why = play(before, only("alpha", BROKEN))
    assert isinstance(status, SetStatus)
    assert status.resource_version == "7"
    (told,) = status.status["conditions"]
    assert (told["type"], told["status"], told["reason"]) == (
        "Overridden", "False", "ApplyOverridePolicyFailed",
    )  # fmt: skip
    assert told["message"] == (
        "cluster(alpha): override policy(demo/o): "
        'add operation does not apply: doc is missing path: "/spec/nope/deep": missing value'
    )
    assert isinstance(failed, Emit)
    assert failed.message == "Apply override policy(demo/o) for cluster(alpha) failed."
    assert isinstance(why, Emit)
    assert why.reason == "SyncWorkFailed"


def test_a_failure_is_told_once_and_taken_back() -> None:
    before = works()
    (status, *_) = play(before, only("alpha", BROKEN))
    assert isinstance(status, SetStatus)
    told = tuple(status.status["conditions"])
    assert play(before, only("alpha", BROKEN), conditions=told) == []
    other = {"type": "Scheduled", "status": "True", "reason": "Success", "message": ""}
    (back,) = play(before, conditions=(*told, other))
    assert isinstance(back, SetStatus)
    assert [c["type"] for c in back.status["conditions"]] == ["Scheduled"]


def test_a_cluster_that_leaves_the_placement_loses_its_work_though_the_policy_fails() -> None:
    before = works()
    leaving = msgspec.structs.replace(
        binding(), spec=msgspec.structs.replace(binding().spec, clusters=())
    )
    chosen = Overrides((), (only("alpha", BROKEN),)).of(TEMPLATE)
    found = dispatcher.rendered(leaving, TEMPLATE, FLEET, before, overrides=chosen)
    actions = dispatcher.plan(found.works, before, found.failed)
    assert [type(a) for a in actions] == [Delete, Delete]


def test_a_failure_names_the_policy() -> None:
    chosen = Overrides((), (only("alpha", BROKEN),)).of(TEMPLATE)
    with pytest.raises(PolicyFailed) as raised:
        chosen.apply(TEMPLATE, ALPHA)
    assert raised.value.policy == "demo/o"
    assert chosen.apply(TEMPLATE, BETA).document == TEMPLATE


def test_a_work_of_an_older_name_goes_when_its_successor_is_there() -> None:
    found = dispatcher.rendered(binding(), TEMPLATE, FLEET)
    alpha, beta = works()
    old = alpha | {"metadata": alpha["metadata"] | {"name": "web-0011aabb"}}
    (create,) = dispatcher.plan(found.works, [old, beta])
    assert isinstance(create, Create)
    (delete,) = dispatcher.plan(found.works, [old, alpha, beta])
    assert isinstance(delete, Delete)
    assert delete.key.name == "web-0011aabb"

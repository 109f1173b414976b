"""Namespaces: pods first, conditions in upstream's words, and what every namespace has."""

import datetime as dt

from tests.unit.control.builders import NOW, ago

from cluster_agent.control.controllers import rootca, serviceaccount
from machinery.api.core import ConfigMap, Namespace, NamespaceSpec, NamespaceStatus, ServiceAccount
from machinery.api.kinds import BUILTIN
from machinery.controller.action import Create, Delete, Patch, RequeueAfter, SetStatus
from machinery.controllers import namespace
from machinery.controllers.garbagecollector.controller import metadata_resource
from machinery.controllers.namespace import Content, grace_left, plan
from machinery.meta.objectmeta import Condition, Object, ObjectMeta

KINDS = {k.plural: metadata_resource(k) for k in BUILTIN}


def going(*conditions: Condition) -> Namespace:
    return Namespace(
        metadata=ObjectMeta(name="ns", uid="u", deletion_timestamp=ago(10)),
        spec=NamespaceSpec(finalizers=("kubernetes",)),
        status=NamespaceStatus(conditions=conditions),
    )


def content(plural: str, *names: str, finalizer: str = "") -> Content:
    finalizers = (finalizer,) if finalizer else ()
    metas = [ObjectMeta(name=n, namespace="ns", uid=n, finalizers=finalizers) for n in names]
    return Content(KINDS[plural], [Object(metadata=m) for m in metas])


def test_grace_before_emptying() -> None:
    assert grace_left(going(), NOW, 15.0) == 5.0
    assert grace_left(going(), NOW + dt.timedelta(seconds=9), 15.0) < 0


def test_pods_go_before_everything_else() -> None:
    actions = plan(going(), [content("configmaps", "c"), content("pods", "p")], NOW)
    assert actions is not None
    assert [a.key.name for a in actions if isinstance(a, Delete)] == ["p"]
    (report,) = [a for a in actions if isinstance(a, SetStatus)]
    told = {c["type"]: c["status"] for c in report.status["conditions"]}
    assert told["NamespaceContentRemaining"] == "False", "the early return of upstream"
    assert isinstance(actions[-1], RequeueAfter)


def test_what_remains_is_told() -> None:
    actions = plan(going(), [content("configmaps", "c", "d", finalizer="example.com/x")], NOW)
    assert actions is not None
    (report,) = [a for a in actions if isinstance(a, SetStatus)]
    told = {c["type"]: c["message"] for c in report.status["conditions"]}
    assert told["NamespaceContentRemaining"] == (
        "Some resources are remaining: configmaps. has 2 resource instances"
    )
    assert told["NamespaceFinalizersRemaining"] == (
        "Some content in the namespace has finalizers remaining: "
        "example.com/x in 2 resource instances"
    )


def test_same_conditions_are_not_written_again() -> None:
    contents = [content("configmaps", "c")]
    first = plan(going(), contents, NOW)
    assert first is not None
    (report,) = [a for a in first if isinstance(a, SetStatus)]
    written = [
        Condition(type=c["type"], status=c["status"], reason=c["reason"], message=c["message"])
        for c in report.status["conditions"]
    ]
    again = plan(going(*written), contents, NOW)
    assert again is not None
    assert not [a for a in again if isinstance(a, SetStatus)]


def test_empty_namespace_is_finalized() -> None:
    assert plan(going(), [content("configmaps")], NOW) is None


def test_emptied_kinds() -> None:
    names = {(k.group, k.plural) for k in namespace.emptied(BUILTIN)}
    assert {("", "pods"), ("", "events"), ("apps", "deployments")} <= names
    assert ("", "nodes") not in names
    assert not [n for n in names if n[0] == "events.k8s.io"]


LIVING = Namespace(metadata=ObjectMeta(name="ns", uid="u"))


def test_default_service_account() -> None:
    (action,) = serviceaccount.plan(LIVING, None)
    assert isinstance(action, Create)
    assert action.document["metadata"] == {"name": "default", "namespace": "ns"}
    assert serviceaccount.plan(LIVING, ServiceAccount()) == []
    assert serviceaccount.plan(going(), None) == []
    assert serviceaccount.plan(None, None) == []


def test_root_ca_is_published_and_put_right() -> None:
    (made,) = rootca.plan(LIVING, None, "PEM")
    assert isinstance(made, Create)
    assert made.document["data"] == {"ca.crt": "PEM"}
    note = {rootca.DESCRIPTION: "x"}
    good = ConfigMap(metadata=ObjectMeta(annotations=note), data={"ca.crt": "PEM"})
    assert rootca.plan(LIVING, good, "PEM") == []
    bad = ConfigMap(metadata=ObjectMeta(annotations=note), data={"ca.crt": "no", "more": "x"})
    (patch,) = rootca.plan(LIVING, bad, "PEM")
    assert isinstance(patch, Patch)
    assert dict(patch.patch)["data"] == {"ca.crt": "PEM", "more": None}  # type: ignore[arg-type]
    assert rootca.plan(going(), None, "PEM") == []

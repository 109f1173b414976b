"""What is refused of the kinds of fleet operation, beyond the recordings; and what is warned about."""

from typing import Any

import pytest

from federation.propagation.admission import autoscaling, operations
from federation.propagation.admission.plugin import KarmadaKinds
from machinery.api.fleet.kinds import FLEET
from machinery.api.scheme import Scheme
from machinery.kit.ids import SystemIds
from machinery.meta.errors import BadRequest
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.call import Call
from machinery.server.user import UserInfo

DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
SCALER = {"apiVersion": "autoscaling.karmada.io/v1alpha1", "kind": "FederatedHPA", "name": "web"}


def document(kind: str, **spec: Any) -> Document:
    return {"kind": kind, "metadata": {"name": "x", "namespace": "demo"}, "spec": spec}


# ----------------------------------------------------------------------------------------------------------------- quotas
def quota(overall: Document, *hard: Document, cluster: str = "m1") -> Document:
    parts = [{"clusterName": cluster, "hard": one} for one in hard]
    return document("FederatedResourceQuota", overall=overall, staticAssignments=parts)


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (quota({"cpu": "10"}, {"cpu": "6"}, {"cpu": "4"}), ""),
        (quota({"cpu": "10"}, {"cpu": "6"}, {"cpu": "5"}),
         'spec.overall[cpu]: Invalid value: "10": overall is less than assignments'),
        (quota({"cpu": "-1"}), '[spec.overall[cpu]: Invalid value: "-1": must be greater than or equal to 0, '
         'spec.overall[cpu]: Invalid value: "-1": overall is less than assignments]'),
        (quota({"foo": "1"}), '[spec.overall[foo]: Invalid value: "foo": must be a standard resource type or fully qualified, '
         'spec.overall[foo]: Invalid value: "foo": must be a standard resource for quota]'),
        (quota({"hugepages-2Mi": "1Gi", "requests.nvidia.com/gpu": "4"}), ""),
        (quota({"vendor.com/card": "1.5"}), 'spec.overall[vendor.com/card]: Invalid value: "1500m": must be an integer'),
        (quota({"cpu": "1"}, {"cpu": "1"}, cluster=""), 'spec.staticAssignments[0].clusterName: Invalid value: "": must be not empty'),
        (quota({"cpu": "1"}, {"cpu": "1"}, cluster="a" * 49),
         f'spec.staticAssignments[0].clusterName: Invalid value: "{"a" * 49}": must be no more than 48 characters'),
        ({**quota({"cpu": "1"}), "metadata": {"name": "a" * 64}},
         f'metadata.name: Invalid value: "{"a" * 64}": must be no more than 63 characters'),
    ],
)  # fmt: skip
def test_quotas(held: Document, why: str) -> None:
    assert operations.federated_resource_quota(held) == why


def test_a_name_that_cannot_be_is_told_so_alone() -> None:
    why = operations.federated_resource_quota(quota({"cpu!": "1"}))
    assert why.count("Invalid value") == 2
    assert "must be a standard resource for quota" in why
    assert "or fully qualified" not in why


def test_what_of_a_quota_is_warned_about() -> None:
    held = quota({"cpu": "1", "requests.memory": "1Gi", "limits.cpu": "2", "count/x.y": "3"})
    assert [text.partition(":")[0] for text in operations.idle_quota(held)] == [
        "spec.overall[count/x.y]",
        "spec.overall[limits.cpu]",
    ]


# ---------------------------------------------------------------------------------------------------------------- taints
def test_taints_that_drain_may_be_allowed() -> None:
    held = document("ClusterTaintPolicy", taints=[{"key": "a", "effect": "NoExecute"}])
    assert "NoExecute effect is not allowed" in operations.cluster_taint_policy(
        held, no_execute=False
    )
    assert operations.cluster_taint_policy(held, no_execute=True) == ""
    both = [{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}]
    why = operations.cluster_taint_policy(
        document("ClusterTaintPolicy", taints=both), no_execute=False
    )
    assert why.count("spec.taints[0]") == 2
    assert why.count("spec.taints[1]") == 1


def test_what_of_a_taint_policy_is_warned_about() -> None:
    held = document(
        "ClusterTaintPolicy",
        taints=[{"key": "cluster.karmada.io/unreachable", "effect": "NoSchedule"}],
        addOnConditions=[{"conditionType": "Ready", "operator": "Exists", "statusValues": []}],
        removeOnConditions=[{"conditionType": "Ready", "operator": "NotIn", "statusValues": []}],
    )
    assert [text.partition(":")[0] for text in operations.idle_taints(held)] == [
        "spec.taints[0].key",
        "spec.addOnConditions[0].operator",
    ]


# ------------------------------------------------------------------------------------------------------------ autoscaling
def cron(target: Document, **rule: Any) -> Document:
    rules = [{"name": "r", "schedule": "0 7 * * *"} | rule]
    return document("CronFederatedHPA", scaleTargetRef=target, rules=rules)


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (cron(DEPLOYMENT, targetReplicas=0), ""),
        (cron(DEPLOYMENT, targetReplicas=-1),
         'spec.rules[0].targetReplicas: Invalid value: "": targetReplicas should be larger than or equal to 0'),
        (cron(SCALER, targetMaxReplicas=3), ""),
        (cron(SCALER), 'spec.rules[0].targetMaxReplicas: Invalid value: "": targetMinReplicas and targetMaxReplicas '
         "cannot be nil at the same time if you want to scale FederatedHPA"),
        (cron(SCALER, targetMaxReplicas=0),
         '[spec.rules[0].targetMaxReplicas: Invalid value: "": targetMaxReplicas should be larger than 0, '
         'spec.rules[0].targetMinReplicas: Invalid value: "": targetMaxReplicas should be larger than or equal to targetMinReplicas]'),
        (cron(SCALER | {"kind": "CronFederatedHPA"}, targetMaxReplicas=3),
         'spec.scaleTargetRef.kind: Invalid value: "CronFederatedHPA": invalid scaleTargetRef kind: CronFederatedHPA, only support FederatedHPA'),
        (cron(DEPLOYMENT | {"name": ""}, targetReplicas=1), "spec.scaleTargetRef.name: Required value"),
        (cron(DEPLOYMENT | {"name": "a/b"}, targetReplicas=1),
         "spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'"),
        (cron(DEPLOYMENT, targetReplicas=1, timeZone=""), ""),
        (cron(DEPLOYMENT, targetReplicas=1, timeZone="../etc/passwd"),
         'spec.rules[0].timeZone: Invalid value: "../etc/passwd": unknown time zone ../etc/passwd'),
        (cron(DEPLOYMENT, targetReplicas=1, schedule="0 0 7 * * *"),
         'spec.rules[0].schedule: Invalid value: "0 0 7 * * *": invalid cron format'),
    ],
)  # fmt: skip
def test_calendars(held: Document, why: str) -> None:
    assert autoscaling.cron_federated_hpa(held) == why


def hpa(*metrics: Document, **spec: Any) -> Document:
    held = document("FederatedHPA", scaleTargetRef=DEPLOYMENT, maxReplicas=9, metrics=list(metrics))
    return autoscaling.filled({**held, "spec": held["spec"] | spec})


def resource(name: str = "cpu", **target: Any) -> Document:
    return {"type": "Resource", "resource": {"name": name, "target": target}}


PERCENT = {"type": "Utilization", "averageUtilization": 50}


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (hpa(resource(**PERCENT)), ""),
        (hpa(minReplicas=0), "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"),
        (hpa(resource("", **PERCENT)), "spec.metrics[0].resource.name: Required value: must specify a resource name"),
        (hpa(resource(type="Utilization", averageUtilization=0)),
         "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"),
        (hpa(resource(**PERCENT, averageValue="1")),
         "spec.metrics[0].resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization"),
        (hpa(resource(type="Half", averageValue="1")),
         'spec.metrics[0].resource.target.type: Invalid value: "Half": must be either Utilization, Value, or AverageValue'),
        (hpa(resource(type="AverageValue", averageValue="-1")),
         'spec.metrics[0].resource.target.averageValue: Invalid value: "-1": must be positive'),
        (hpa({"type": "Resource"}),
         "spec.metrics[0].resource: Required value: must populate information for the given metric source"),
        (hpa({"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue"}}}),
         "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue"),
        (hpa({"type": "Object", "object": {"metric": {"name": ""}, "describedObject": DEPLOYMENT, "target": {"type": "Value", "value": "2"}}}),
         "spec.metrics[0].object.metric.name: Required value: must specify a metric name"),
        (hpa({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "", "target": PERCENT}}),
         "spec.metrics[0].containerResource.container: Required value: must specify a container"),
        (hpa(resource(**PERCENT) | {"pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "1"}}}),
         "spec.metrics[0].pods: Forbidden: must populate the given metric source only"),
        (hpa(behavior={"scaleDown": {"stabilizationWindowSeconds": 3601}}),
         "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600"),
        (hpa(behavior={"scaleUp": {"selectPolicy": "Some"}}),
         'spec.behavior.scaleUp.selectPolicy: Unsupported value: "Some": supported values: "Disabled", "Max", "Min"'),
        (hpa(behavior={"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1801}]}}),
         "[spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero, "
         "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800]"),
        (hpa(behavior={"scaleUp": {"tolerance": "-0.1"}}),
         'spec.behavior.scaleUp.tolerance: Invalid value: "-100m": must be greater than or equal to zero'),
    ],
)  # fmt: skip
def test_autoscalers(held: Document, why: str) -> None:
    assert autoscaling.federated_hpa(held) == why


def test_an_empty_autoscaler_is_written_by_its_struct_and_refused() -> None:
    held = autoscaling.filled(document("FederatedHPA"))
    assert held["spec"]["scaleTargetRef"] == {"kind": "", "name": ""}
    assert held["spec"]["maxReplicas"] == 0
    why = autoscaling.federated_hpa(held)
    assert "spec.maxReplicas: Invalid value: 0: must be greater than 0" in why
    assert "spec.scaleTargetRef.kind: Required value" in why


def test_what_of_an_autoscaler_is_warned_about() -> None:
    pods = {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {}}}
    assert [t.partition(":")[0] for t in autoscaling.idle_metrics(hpa(resource(**PERCENT), pods))] == [
        "spec.metrics[1]"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"maxReplicas": "9"}, "string into Go struct field FederatedHPASpec.spec.maxReplicas of type int32"),
        ({"scaleTargetRef": "x"}, "string into Go struct field FederatedHPASpec.spec.scaleTargetRef of type v2.CrossVersionObjectReference"),
        ({"behavior": {"scaleUp": {"selectPolicy": 1}}}, "number into Go struct field HPAScalingRules.spec.behavior.scaleUp.selectPolicy of type v2.ScalingPolicySelect"),
        ({"metrics": [{"type": 3}]}, "number into Go struct field MetricSpec.spec.metrics.type of type v2.MetricSourceType"),
        ("x", "string into Go struct field FederatedHPA.spec of type v1alpha1.FederatedHPASpec"),
    ],
)  # fmt: skip
def test_what_go_cannot_decode(spec: Any, why: str) -> None:
    (kind,) = (k for k in Scheme(FLEET).kinds if k.kind == "FederatedHPA")
    held = {"kind": "FederatedHPA", "metadata": {"name": "x"}, "spec": spec}
    call = Call(user=UserInfo("tester"))
    asked = AdmissionRequest("create", kind, "demo", "x", "", held, None, call)
    with pytest.raises(BadRequest) as refused:
        KarmadaKinds(SystemIds()).admit(asked)
    assert str(refused.value).endswith(f"denied the request: json: cannot unmarshal {why}")

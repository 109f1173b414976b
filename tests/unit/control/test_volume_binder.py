"""Claims and volumes: what the binder decides about each."""

import datetime as dt
from typing import Any

import pytest

from cluster_agent.control.controllers.persistentvolume.plan import Sight, plan, plan_volume
from cluster_agent.control.controllers.persistentvolume.provision import (
    Place,
    default_class,
)
from cluster_agent.control.controllers.volumeprotection import CLAIMS, VOLUMES
from machinery.api.local_volumes import (
    FOLDER_FINALIZER,
    LOCAL_PROVISIONER,
    PROVISIONED_BY,
    SELECTED_NODE,
)
from machinery.controller.action import Action, Create, Delete, Emit, Patch, SetStatus
from machinery.meta.resource import Document, ObjectKey
from machinery.scheduling.claims import BIND_COMPLETED, BOUND_BY_CONTROLLER

NOW = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
LOCAL = default_class()
NODE = Place("n1", "host-1", "/data/local-volumes")


def claim(name: str = "data", phase: str = "Pending", notes: Any = None, **spec: Any) -> Document:
    wanted = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "k",
    }
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "annotations": notes or {},
    }
    return {"metadata": metadata, "spec": {**wanted, **spec}, "status": {"phase": phase}}


def volume(
    name: str = "disk", phase: str = "Available", notes: Any = None, meta: Any = None, **spec: Any
) -> Document:
    wanted = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "storageClassName": "k",
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": "/tmp/x"},
    }
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "9", **(meta or {})}
    metadata["annotations"] = notes or {}
    return {"metadata": metadata, "spec": {**wanted, **spec}, "status": {"phase": phase}}


def reference(name: str = "data", uid: str | None = None) -> Document:
    found = {"namespace": "ns", "name": name}
    return {**found, "uid": f"uid-{name}" if uid is None else uid}


def sight(*volumes: Document, **more: Any) -> Sight:
    return Sight({one["metadata"]["name"]: one for one in volumes}, **more)


def decided(actions: list[Action]) -> list[Any]:
    """In short: what is written, and the reasons that are told."""
    told: list[Any] = []
    for action in actions:
        match action:
            case SetStatus():
                told.append((action.key.name, action.status["phase"]))
            case Emit():
                told.append(action.reason)
            case Patch():
                told.append(action.key.name)
            case Create():
                told.append(action.document["metadata"]["name"])
            case Delete():
                told.append(f"delete {action.key.name}")
    return told


BOTH = ["disk", ("disk", "Bound"), "data", ("data", "Bound")]


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        ({}, [volume()], BOTH),
        ({}, [volume("big", capacity={"storage": "9Gi"}), volume()], BOTH),
        ({}, [volume("any", accessModes=["ReadWriteOnce", "ReadWriteMany"]), volume()], BOTH),
        ({}, [volume("hers", claimRef=reference("other")), volume()], BOTH),
        ({}, [volume("going", meta={"deletionTimestamp": "x"}), volume()], BOTH),
        ({}, [volume("used", phase="Released"), volume()], BOTH),
        ({}, [volume("small", capacity={"storage": "1Mi"})], ["ProvisioningFailed"]),
        ({}, [volume(volumeMode="Block")], ["ProvisioningFailed"]),
        ({}, [volume(storageClassName="other")], ["ProvisioningFailed"]),
        ({"storageClassName": ""}, [volume(storageClassName="")], BOTH),
        ({"storageClassName": ""}, [volume()], ["FailedBinding"]),
        ({"selector": {"matchLabels": {"a": "b"}}}, [volume()], ["ProvisioningFailed"]),
        ({"selector": {"matchLabels": {"a": "b"}}}, [volume(meta={"labels": {"a": "b"}})], BOTH),
        ({"volumeName": "disk"}, [volume()], BOTH),
        ({"volumeName": "disk"}, [], []),
        ({"volumeName": "disk"}, [volume(storageClassName="")], ["VolumeMismatch"]),
        ({"volumeName": "disk"}, [volume(claimRef=reference("other"))], ["FailedBinding"]),
        ({"volumeName": "disk"}, [volume(claimRef=reference(uid=""))], BOTH),
    ],
)  # fmt: skip
def test_a_claim_finds_its_volume(given: Any, wanted: Any, expected: list[Any]) -> None:
    assert decided(plan(claim(**given), sight(*wanted), NOW)) == expected


def test_binding_names_the_versions_that_it_was_decided_on() -> None:
    to_volume, _, to_claim, status = plan(claim(), sight(volume()), NOW)
    assert isinstance(to_volume, Patch)
    assert to_volume.resource_version == "9"
    assert isinstance(to_volume.patch, dict)
    assert to_volume.patch["spec"]["claimRef"]["uid"] == "uid-data"
    assert to_volume.patch["metadata"]["annotations"] == {BOUND_BY_CONTROLLER: "yes"}
    assert to_claim == Patch(
        CLAIMS,
        ObjectKey("ns", "data"),
        {
            "spec": {"volumeName": "disk"},
            "metadata": {"annotations": {BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}},
        },
        resource_version="7",
        uid="uid-data",
    )
    fresh = {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
    assert status == SetStatus(CLAIMS, ObjectKey("ns", "data"), fresh)


def test_binding_goes_on_from_wherever_it_was_interrupted() -> None:
    """After each of the four writes the plan has exactly the rest left."""
    bound_claim = claim(
        notes={BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}, volumeName="disk"
    )
    mine = {"claimRef": reference()}
    assert decided(plan(claim(), sight(volume(**mine)), NOW)) == BOTH[1:]
    assert decided(plan(claim(), sight(volume(phase="Bound", **mine)), NOW)) == BOTH[2:]
    assert decided(plan(bound_claim, sight(volume(phase="Bound", **mine)), NOW)) == BOTH[3:]
    done = {**bound_claim, "status": {"phase": "Bound"}}
    assert plan(done, sight(volume(phase="Bound", **mine)), NOW) == []


@pytest.mark.parametrize(
    ("name", "volumes", "reason"),
    [
        ("", [], "ClaimLost"),
        ("disk", [], "ClaimLost"),
        ("disk", [volume(claimRef=reference("other"))], "ClaimMisbound"),
        ("disk", [volume(claimRef=reference(uid="older"))], "ClaimMisbound"),
    ],
)
def test_a_bound_claim_never_gets_another_volume(name: str, volumes: Any, reason: str) -> None:
    held = claim(phase="Bound", notes={BIND_COMPLETED: "yes"}, volumeName=name)
    assert decided(plan(held, sight(volume("free"), *volumes), NOW)) == [("data", "Lost"), reason]
    assert plan({**held, "status": {"phase": "Lost"}}, sight(*volumes), NOW) == []


# --------------------------------------------------------------------------------------------------------- provisioning
def local_claim(**more: Any) -> Document:
    return claim(storageClassName="local-path", **more)


@pytest.mark.parametrize(
    ("given", "place", "expected"),
    [
        ({}, None, ["WaitForFirstConsumer"]),
        ({}, NODE, ["data", "pvc-uid-data", "ProvisioningSucceeded"]),
        ({}, Place("n1", "", ""), ["ProvisioningFailed", "data"]),
        ({}, Place("n1", "host-1", ""), ["ProvisioningFailed", "data"]),
        ({"volumeMode": "Block"}, NODE, ["ProvisioningFailed", "data"]),
        ({"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}, NODE, ["ProvisioningFailed", "data"]),
    ],
)  # fmt: skip
def test_a_claim_that_nothing_suits_gets_a_folder(
    given: Any, place: Place | None, expected: list[Any]
) -> None:
    notes = {SELECTED_NODE: place.name} if place else {}
    found = plan(local_claim(notes=notes, **given), sight(class_=LOCAL, place=place), NOW)
    assert decided(found) == expected


def test_a_claim_waits_for_the_pod_that_is_to_be_placed() -> None:
    (told,) = plan(local_claim(), sight(class_=LOCAL, waiting=("a", "b")), NOW)
    assert isinstance(told, Emit)
    assert (told.reason, told.message) == (
        "WaitForPodScheduled",
        "waiting for pod a,b to be scheduled",
    )


@pytest.mark.parametrize(
    ("provisioner", "reason"),
    [
        ("kubernetes.io/no-provisioner", ["ProvisioningFailed"]),
        ("csi.example.com", ["data", "ExternalProvisioning"]),
        (LOCAL_PROVISIONER, ["ProvisioningFailed"]),
    ],
)
def test_classes_of_immediate_binding(provisioner: str, reason: list[Any]) -> None:
    found = {**LOCAL, "provisioner": provisioner, "volumeBindingMode": "Immediate"}
    assert decided(plan(local_claim(), sight(class_=found), NOW)) == reason


def test_a_folder_is_a_volume_of_its_node() -> None:
    notes = {SELECTED_NODE: "n1"}
    made = plan(local_claim(notes=notes), sight(class_=LOCAL, place=NODE), NOW)[1]
    assert isinstance(made, Create)
    document = made.document
    assert document["metadata"]["annotations"][PROVISIONED_BY] == LOCAL_PROVISIONER
    assert document["metadata"]["finalizers"] == [FOLDER_FINALIZER]
    spec = document["spec"]
    assert spec["local"] == {"path": "/data/local-volumes/pvc-uid-data"}
    assert spec["claimRef"]["uid"] == "uid-data"
    assert spec["persistentVolumeReclaimPolicy"] == "Delete"
    (term,) = spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["host-1"]


# ------------------------------------------------------------------------------------------------------------- volumes
OURS = {PROVISIONED_BY: LOCAL_PROVISIONER}
DELETE = {"persistentVolumeReclaimPolicy": "Delete", "claimRef": reference()}
GOING = {"deletionTimestamp": "x", "finalizers": [FOLDER_FINALIZER, "other"]}


@pytest.mark.parametrize(
    ("given", "its_claim", "expected"),
    [
        (volume(phase="Pending"), None, [("disk", "Available")]),
        (volume(claimRef=reference(uid="")), None, []),
        (volume(claimRef=reference()), claim(), []),
        (volume(claimRef=reference()), claim(volumeName="disk"), [("disk", "Bound")]),
        (volume(claimRef=reference(), phase="Bound"), None, [("disk", "Released")]),
        (volume(claimRef=reference(), phase="Released"), None, []),
        (volume(claimRef=reference(), notes={BOUND_BY_CONTROLLER: "yes"}), claim(volumeName="x"), ["disk"]),
        (volume(phase="Bound", **DELETE), None, [("disk", "Released"), "delete disk"]),
        (volume(phase="Released", notes=OURS, **DELETE), None, ["delete disk"]),
        (volume(phase="Released", notes=OURS, meta=GOING, **DELETE), None, []),
        (volume(phase="Released", notes={PROVISIONED_BY: "csi.example.com"}, **DELETE), None, []),
        (volume(phase="Bound", notes=OURS, **DELETE), claim(volumeName="x"), [("disk", "Released"), "delete disk"]),
        (
            volume(phase="Released", **DELETE, **{"hostPath": {"path": "/srv/x"}}), None,
            [("disk", "Failed"), "VolumeFailedDelete"],
        ),
        (
            volume(phase="Released", **DELETE, **{"hostPath": None, "local": {"path": "/x"}}), None,
            [("disk", "Failed"), "VolumeFailedDelete"],
        ),
        (volume(phase="Failed", **DELETE), None, []),
        (
            volume(phase="Bound", claimRef=reference(), persistentVolumeReclaimPolicy="Recycle"), None,
            [("disk", "Released"), ("disk", "Failed"), "VolumeFailedRecycle"],
        ),
    ],
)  # fmt: skip
def test_a_volume_follows_its_claim(
    given: Document, its_claim: Document | None, expected: list[Any]
) -> None:
    assert decided(plan_volume(given, its_claim, NOW)) == expected


def test_a_folder_whose_node_is_no_more_is_given_up() -> None:
    gone = volume(phase="Released", notes=OURS, meta=GOING, **DELETE)
    (action,) = plan_volume(gone, None, NOW, has_node=False)
    assert isinstance(action, Patch)
    assert action.resource is VOLUMES
    assert action.patch == {"metadata": {"finalizers": ["other"]}}
    alive = volume(phase="Released", notes=OURS, **DELETE)
    assert decided(plan_volume(alive, None, NOW, has_node=False)) == ["delete disk"]

"""Members' objects as they are shown at the federation."""

from federation.clusters.mirroring import away_warning, mirror_name, mirrored, source_of
from machinery.meta.resource import Document


def pod() -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-1",
            "namespace": "demo",
            "uid": "u",
            "resourceVersion": "9",
            "finalizers": ["x"],
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "uid": "r"}],
        },
        "spec": {"nodeName": "node-1"},
    }


def test_a_mirror_names_its_cluster_and_remembers_its_source() -> None:
    shown = mirrored(pod(), "alpha")
    metadata = shown["metadata"]
    assert metadata["name"] == "web-1.alpha"
    assert metadata["labels"] == {"ubernetes.io/cluster": "alpha"}
    assert shown["spec"]["nodeName"] == "node-1.alpha"
    assert source_of(shown) == ("alpha", "web-1")


def test_what_controllers_here_would_act_on_is_left_out() -> None:
    metadata = mirrored(pod(), "alpha")["metadata"]
    assert not {"ownerReferences", "finalizers", "resourceVersion"} & metadata.keys()
    assert '"ReplicaSet"' in metadata["annotations"]["ubernetes.io/owner-references"]


def test_the_source_is_not_touched() -> None:
    source = pod()
    mirrored(source, "alpha")
    assert source == pod()


def test_an_object_of_the_federation_is_no_mirror() -> None:
    assert source_of(pod()) is None


def test_a_name_too_long_is_cut_and_stays_unique() -> None:
    first, second = (mirror_name("a" * 250 + tail, "alpha") for tail in ("x", "y"))
    assert len(first) <= 253
    assert first != second
    assert first.endswith(".alpha")


def test_an_event_speaks_of_the_mirror() -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "demo"},
        "involvedObject": {"kind": "Pod", "name": "web-1"},
    }
    assert mirrored(event, "beta")["involvedObject"]["name"] == "web-1.beta"
    event["involvedObject"] = {"kind": "Deployment", "name": "web"}
    assert mirrored(event, "beta")["involvedObject"]["name"] == "web"


def test_a_list_says_who_is_away() -> None:
    assert away_warning(["alpha", "beta"], ["beta", "alpha"]) == ()
    (text,) = away_warning(["alpha", "beta", "gamma"], ["beta"])
    assert "alpha, gamma" in text

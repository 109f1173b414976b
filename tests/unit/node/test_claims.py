"""Claims on a node: where a volume lies, what is refused, and what is taken away of it."""

import os
from pathlib import Path
from typing import Any

import pytest

from cluster_agent.node.volumes.claims import (
    ClaimFault,
    Mounted,
    give_to_group,
    judge,
    make_folder,
    prepare,
)
from cluster_agent.node.volumes.local import loses_folder, remove
from machinery.api.local_volumes import (
    FOLDER_FINALIZER,
    LOCAL_PROVISIONER,
    PROTECTION,
    PROVISIONED_BY,
    SELECTED_NODE,
    waits_for_node,
)
from machinery.meta.resource import Document

FOLDER = "/state/local-volumes"
CLAIM: Document = {"metadata": {"name": "data", "namespace": "ns", "uid": "u1"}, "spec": {}}
OURS = {PROVISIONED_BY: LOCAL_PROVISIONER, SELECTED_NODE: "n1"}


def volume(notes: Any = None, **spec: Any) -> Document:
    wanted = {"claimRef": {"uid": "u1"}, "accessModes": ["ReadWriteOnce"]}
    metadata: Document = {"name": "pvc-u1", "annotations": notes or {}}
    return {"metadata": metadata, "spec": {**wanted, **spec}}


def on(*hosts: str, operator: str = "In") -> Document:
    term = {"key": "kubernetes.io/hostname", "operator": operator, "values": list(hosts)}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (volume(hostPath={"path": "/x"}), Mounted("/x")),
        (volume(hostPath={"path": "/x", "type": "Directory"}), Mounted("/x", "Directory")),
        (volume(local={"path": "/x"}, nodeAffinity=on("n1", "n2")), Mounted("/x", "local")),
        (volume(local={"path": "/x"}, nodeAffinity=on("n1", operator="NotIn")), Mounted("/x", "local")),
        (volume(OURS, local={"path": f"{FOLDER}/pvc-u1"}), Mounted(f"{FOLDER}/pvc-u1", "own")),
    ],
)  # fmt: skip
def test_where_a_volume_lies(found: Document, expected: Mounted) -> None:
    assert judge(CLAIM, found, "n1", FOLDER) == expected


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (volume(nfs={"server": "s", "path": "/"}), "nfs is not supported by this kubelet"),
        (volume(csi={"driver": "d"}), "csi is not supported by this kubelet"),
        (volume(hostPath={"path": "/x"}, volumeMode="Block"), "volumeMode Block is not supported"),
        (volume(hostPath={"path": "/x"}, claimRef={"uid": "u2"}), "is not bound to the claim"),
        (volume(local={"path": "/x"}, nodeAffinity=on("n2")), "no matching NodeSelectorTerms"),
        (volume(OURS, local={"path": "/etc"}), "was not made by this node"),
        (volume(OURS, local={"path": f"{FOLDER}/other"}), "was not made by this node"),
        (volume({**OURS, SELECTED_NODE: "n2"}, local={"path": f"{FOLDER}/pvc-u1"}), "was not made by this node"),
    ],
)  # fmt: skip
def test_what_is_refused(found: Document, words: str) -> None:
    with pytest.raises(ClaimFault, match=words):
        judge(CLAIM, found, "n1", FOLDER)


async def test_a_folder_is_made_once_and_only_for_a_volume_of_our_own(tmp_path: Path) -> None:
    own = Mounted(str(tmp_path / "volumes" / "a"), "own")
    await prepare(own, None)
    assert Path(own.path).stat().st_mode & 0o7777 == 0o777
    Path(own.path).chmod(0o750)
    await prepare(own, None)
    assert Path(own.path).stat().st_mode & 0o7777 == 0o750, "what a pod has set stays"
    with pytest.raises(ClaimFault, match="does not exist"):
        await prepare(Mounted(str(tmp_path / "b"), "local"), None)
    (tmp_path / "device").touch()
    with pytest.raises(ClaimFault, match="mounts no devices"):
        await prepare(Mounted(str(tmp_path / "device"), "local"), None)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_group_gets_all_but_what_links_lead_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    root = tmp_path / "root"
    make_folder(str(root))
    (root / "in").mkdir(mode=0o700)
    (root / "in" / "file").write_text("")
    (root / "in" / "file").chmod(0o600)
    (root / "link").symlink_to(outside)
    give_to_group(str(root), 2000)
    held = {path: path.stat() for path in (root, root / "in", root / "in" / "file")}
    assert {one.st_gid for one in held.values()} == {2000}
    assert [one.st_mode & 0o7777 for one in held.values()] == [0o2777, 0o2770, 0o660]
    assert outside.stat().st_gid != 2000


def deleted(policy: str = "Delete", **changes: Any) -> Document:
    found = volume(OURS, local={"path": f"{FOLDER}/pvc-u1"}, persistentVolumeReclaimPolicy=policy)
    found["metadata"] |= {"deletionTimestamp": "x", "finalizers": [FOLDER_FINALIZER]}
    found["metadata"] |= changes.pop("metadata", {})
    return {**found, "status": {"phase": "Released"}, **changes}


@pytest.mark.parametrize(
    ("found", "waits"),
    [
        (deleted(), True),
        (deleted(metadata={"deletionTimestamp": None}), False),
        (deleted(metadata={"finalizers": []}), False),
        (deleted(metadata={"finalizers": [FOLDER_FINALIZER, PROTECTION]}), False),
        (deleted(status={"phase": "Bound"}), False),
    ],
)
def test_a_node_acts_on_what_is_deleted_and_unused(found: Document, waits: bool) -> None:
    assert waits_for_node(found) is waits


def test_only_delete_and_only_our_own_folder_loses_data() -> None:
    assert loses_folder(deleted(), FOLDER)
    assert not loses_folder(deleted("Retain"), FOLDER)
    assert not loses_folder(deleted(), "/elsewhere")
    strayed = deleted()
    strayed["spec"]["local"]["path"] = "/etc"
    assert not loses_folder(strayed, FOLDER)


def test_what_was_never_made_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    (folder / "b").mkdir(parents=True)
    remove(str(folder))
    remove(str(folder))
    assert not folder.exists()

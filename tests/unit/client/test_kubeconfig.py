"""Any kubectl configuration is understood, ours is written safely."""

import base64
import stat
from pathlib import Path

import pytest
import yaml
from tests.support.tls import TestAuthority

from machinery.client.kubeconfig import (
    Access,
    KubeconfigError,
    access,
    document,
    in_cluster,
    load,
    merge,
    write,
)


def config(user=None, cluster=None, current="here", **context):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": "c", "cluster": {"server": "https://x:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", **context}}],
    }


def b64(text):
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(config(), Access("https://x:6443"), id="bare"),
        pytest.param(
            config({"token": "t", "tokenFile": "/f"}), Access("https://x:6443", token="t"),
            id="token-wins",
        ),
        pytest.param(
            config({"tokenFile": "/f"}), Access("https://x:6443", token_file="/f"), id="token-file"
        ),
        pytest.param(
            config(
                {"client-certificate-data": b64("cert"), "client-key-data": b64("key")},
                {"certificate-authority-data": b64("ca"), "tls-server-name": "api"},
                namespace="demo",
            ),
            Access(
                "https://x:6443", b"ca", b"cert", b"key", namespace="demo", server_name="api"
            ),
            id="inline",
        ),
        pytest.param(
            config(None, {"insecure-skip-tls-verify": True}),
            Access("https://x:6443", insecure=True),
            id="insecure",
        ),
    ],
)  # fmt: skip
def test_access(given, expected):
    assert access(given) == expected


def test_files_are_relative_to_the_kubeconfig_and_read(tmp_path):
    (tmp_path / "ca.pem").write_text("CA")
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki/c.pem").write_text("CERT")
    (tmp_path / "pki/k.pem").write_text("KEY")
    user = {"client-certificate": "pki/c.pem", "client-key": "pki/k.pem"}
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config(user, {"certificate-authority": "ca.pem"})))
    found = load(path)
    assert (found.ca, found.certificate, found.key) == (b"CA", b"CERT", b"KEY")


@pytest.mark.parametrize(
    ("given", "context", "words"),
    [
        pytest.param(config(current=""), "", "no current-context", id="no-current"),
        pytest.param(config(), "typo", 'no context "typo" (it has: here)', id="typo"),
        pytest.param(config({"exec": {"command": "aws"}}), "", "uses exec", id="exec"),
        pytest.param(config({"username": "a"}), "", "uses username", id="basic"),
        pytest.param(config({"client-key-data": "%%"}), "", "not base64", id="base64"),
        pytest.param(config({"client-key": "/nowhere/k"}), "", "/nowhere/k", id="no-file"),
        pytest.param(config(cluster={"server": ""}), "", "has no server", id="no-server"),
    ],
)
def test_what_is_refused_is_named(given, context, words):
    with pytest.raises(KubeconfigError) as caught:
        access(given, context)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", ["- a list", "kind: Pod", "{", "just text"])
def test_not_a_kubeconfig(tmp_path, content):
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(KubeconfigError, match=r"config is not"):
        load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(KubeconfigError, match="no kubeconfig at .*nowhere"):
        load(tmp_path / "nowhere")


def test_merging_takes_the_first_of_each_name():
    one = config(current="")
    two = config({"token": "second"}, {"server": "https://y"}, current="other")
    two["contexts"].append({"name": "other", "context": {"cluster": "c", "user": "u"}})
    merged = merge([(Path("/a"), one), (Path("/b"), two)])
    assert merged["current-context"] == "other"
    assert access(merged).server == "https://x:6443"
    assert access(merged).token == ""


def test_written_files_are_ours_alone_and_keep_other_contexts(tmp_path):
    path = tmp_path / "deep" / "kubeconfig"
    pem = TestAuthority().issue()
    alpha = Access("https://a:1", b"CA", pem.certificate, pem.key, namespace="demo")
    write(path, document("alpha", alpha))
    write(path, document("beta", Access("https://b:1", token="t")))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path, "alpha") == alpha
    assert load(path).server == "https://b:1"
    write(path, document("alpha", Access("https://moved:1")))
    assert load(path, "alpha").server == "https://moved:1"
    assert load(path, "beta").token == "t"
    write(path, document("only", Access("https://o:1")), keep_others=False)
    with pytest.raises(KubeconfigError, match="it has: only"):
        load(path, "beta")
    assert [p.name for p in path.parent.iterdir()] == ["kubeconfig"]


def test_in_cluster(tmp_path):
    for name in ("ca.crt", "token", "namespace"):
        (tmp_path / name).write_text(f"{name}\n")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = in_cluster(environ, tmp_path)
    assert (found.server, found.namespace) == ("https://[fd00::1]:443", "namespace")
    bearer = found.bearer()
    (tmp_path / "token").write_text("rotated\n")
    assert bearer() == "rotated"
    with pytest.raises(KubeconfigError, match="not in a cluster"):
        in_cluster({}, tmp_path)

"""Settings that both servers take as files of Kubernetes' own: they reach the server, and a wrong one stops the start."""

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import yaml

from cluster_agent.cli import ControlFile, start_control
from federation.app import FederationServer
from federation.config import FederationConfig
from machinery.client.rest import RestClient
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.server.app import ApiServer
from machinery.server.pki import client_context
from machinery.store.interface import StoreUnavailable
from machinery.store.sql import open_store

pytestmark = pytest.mark.integration
Stop = Callable[[], Awaitable[None]]
ENCRYPTED = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "EncryptionConfiguration",
    "resources": [
        {
            "resources": ["secrets"],
            "providers": [
                {
                    "aesgcm": {
                        "keys": [{"name": "one", "secret": base64.b64encode(b"k" * 32).decode()}]
                    }
                }
            ],
        }
    ],
}


async def federation(folder: Path, authentication: str, encryption: str) -> tuple[ApiServer, Stop]:
    config = FederationConfig(
        str(folder),
        ("127.0.0.1:0",),
        authenticationConfig=authentication,
        encryptionConfig=encryption,
    )
    found = FederationServer(config, SystemClock(), SystemIds())
    return await found.start(), found.stop


async def member(folder: Path, authentication: str, encryption: str) -> tuple[ApiServer, Stop]:
    file = ControlFile(
        "alpha",
        str(folder),
        ("127.0.0.1:0",),
        authenticationConfig=authentication,
        encryptionConfig=encryption,
    )
    control, _ = await start_control(file)
    assert control.server is not None
    return control.server, control.stop


BOTH = pytest.mark.parametrize("start", [federation, member])


@BOTH
async def test_secrets_lie_encrypted(
    start: Callable[[Path, str, str], Awaitable[tuple[ApiServer, Stop]]], tmp_path: Path
) -> None:
    file = tmp_path / "encryption.yaml"
    file.write_text(yaml.safe_dump(ENCRYPTED))
    server, stop = await start(tmp_path / "data", "", str(file))
    try:
        client = RestClient(
            server.url,
            client_context(server.ca_pem, server.client_pair("root", ("system:masters",))),
        )
        body = b'{"metadata":{"name":"login"},"stringData":{"word":"open sesame"}}'
        await client.request("POST", "/api/v1/namespaces/default/secrets", body=body)
        await client.close()
    finally:
        await stop()
    plain = open_store(f"sqlite:///{tmp_path / 'data'}/store.db", migrate_to="heads")
    with pytest.raises(
        StoreUnavailable, match="secrets/default/login is sealed with aesgcm key 'one'"
    ):
        await plain.start()


@BOTH
@pytest.mark.parametrize("wrong", ["authentication", "encryption"])
async def test_a_wrong_file_stops_the_start_and_is_named(
    start: Callable[[Path, str, str], Awaitable[tuple[ApiServer, Stop]]], wrong: str, tmp_path: Path
) -> None:
    file = tmp_path / f"{wrong}.yaml"
    file.write_text("kind: Pod")
    files = {"authentication": "", "encryption": "", wrong: str(file)}
    with pytest.raises(ValueError, match=f"{wrong}.yaml: apiVersion, kind: expected"):
        await start(tmp_path / "data", files["authentication"], files["encryption"])

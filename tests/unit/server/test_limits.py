"""What an operator sets of a server's limits."""

import pytest

from federation.config import FederationConfig
from machinery.kit.config import ConfigError, load
from machinery.server.limits import LIMITS, Limits, LimitSettings


def test_what_is_not_set_is_as_ever() -> None:
    assert LimitSettings().limits == LIMITS


def test_from_the_file_to_the_server(tmp_path) -> None:
    file = tmp_path / "federation.yaml"
    file.write_text(
        "dataDir: /x\nlimits: {requestBodyBytes: 1048576, waitSeconds: 2.5, lastingRequestsPerUser: 9}\n"
    )
    found = load(FederationConfig, file=str(file)).limits.limits
    assert found == Limits(body_bytes_max=1_048_576, wait_s=2.5, lasting_max=9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("requestBodyBytes: 1", "requestBodyBytes: must be 65536 to 67108864"),
        ("waitSeconds: 0", "waitSeconds: must be more than 0 and at most 60"),
        ("waitingRequestsPerFlow: 0", "waitingRequestsPerFlow: must be 1 or more"),
        ("connectionsPerAddress: many", "connectionsPerAddress"),
        ("connectionsPerHost: 1", "connectionsPerHost"),
    ],
)
def test_nonsense_is_refused(tmp_path, text: str, message: str) -> None:
    file = tmp_path / "federation.yaml"
    file.write_text(f"dataDir: /x\nlimits:\n  {text}\n")
    with pytest.raises(ConfigError, match=message):
        load(FederationConfig, file=str(file))

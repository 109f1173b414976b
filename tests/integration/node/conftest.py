"""One containerd and one event loop for all tests with real containers: gRPC keeps to the loop it first saw."""

from collections.abc import Iterator

import pytest
from tests.integration.node.containers import Containerd, running_containerd


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with running_containerd(tmp_path_factory.mktemp("containerd")) as made:
        yield made

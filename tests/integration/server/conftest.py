"""What the tests of a server share."""

from collections.abc import AsyncIterator

import pytest
from tests.support.webhook import Webhooks, running_webhooks


@pytest.fixture
async def hooks() -> AsyncIterator[Webhooks]:
    async with running_webhooks() as running:
        yield running

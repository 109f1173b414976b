"""What every test run needs once."""

import asyncio


def pytest_configure() -> None:
    """Say that the main thread has no event loop.

    looptime asks the policy for the current loop before each test, sync ones too; the first time the policy would make one
    that nobody closes, and `filterwarnings = error` turns that into a failure at the end of the run.
    """
    asyncio.set_event_loop(None)

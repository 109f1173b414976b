"""Addresses that a node answers itself: on its loopback, so that they are there before and without any pod."""

import asyncio
import contextlib
import ipaddress

LOOPBACK = "lo"


async def own_address(address: str) -> None:
    """Make a link-local address this host's, on the loopback. Raises OSError."""
    bits = ipaddress.ip_address(address).max_prefixlen
    words = ("ip", "address", "replace", f"{address}/{bits}", "dev", LOOPBACK)
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
    if process.returncode:
        raise OSError(f"{' '.join(words)}: {said.decode(errors='replace').strip()}")

"""Whether packets that stay on the pods' bridge pass the hooks of IP, where policies are.

The kernel shows them by br_netfilter: for all bridges of a network namespace (`net.bridge.bridge-nf-call-*`), or for one
bridge that asks for it. Ours asks; other bridges of the machine are left as they are. Without br_netfilter two pods of
one node talk past every rule, and no table can help: the bridge family's own hooks know no connections there either.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

SETTINGS = Path("/proc/sys/net/bridge")
_CALL = {"ip": "iptables", "ip6": "ip6tables"}

Run = Callable[..., Awaitable[tuple[int, str]]]
"""Words of a command -> its exit status and what it wrote."""


class Bridge:
    """The pods' bridge of this node, by name."""

    def __init__(self, name: str, settings: Path = SETTINGS, run: Run | None = None) -> None:
        self.name, self._settings, self._run = name, settings, run or run_command
        self._tried_module = False

    async def open(self, families: Sequence[str]) -> str:
        """See to it that the hooks see its packets; why they do not, empty where they do or where there is no bridge."""
        if not self._settings.exists() and not self._tried_module:
            self._tried_module = True
            _ = await self._run("modprobe", "br_netfilter")
        if not self._settings.exists():
            return (
                "the kernel has no br_netfilter: pods of this node reach each other past every NetworkPolicy; "
                "use a kernel with it (modprobe br_netfilter)"
            )
        closed = [family for family in families if not self._global(family)]
        missing = closed and await self._missing(closed)
        if not missing:
            return ""
        words = [word for family in missing for word in (f"nf_call_{_CALL[family]}", "1")]
        _ = await self._run("ip", "link", "set", "dev", self.name, "type", "bridge", *words)
        missing = await self._missing(closed)
        if not missing:
            return ""
        names = ", ".join(f"net.bridge.bridge-nf-call-{_CALL[family]}" for family in missing)
        return (
            f"bridge {self.name} cannot be made to pass its packets to the firewall: pods of this node reach each other "
            f"past every NetworkPolicy; set {names} to 1"
        )

    def _global(self, family: str) -> bool:
        try:
            return (self._settings / f"bridge-nf-call-{_CALL[family]}").read_text().strip() == "1"
        except OSError:
            return False

    async def _missing(self, families: Sequence[str]) -> list[str]:
        """Families that the bridge itself does not show; none where there is no such bridge."""
        status, text = await self._run("ip", "-json", "-details", "link", "show", "dev", self.name)
        if status:
            return []
        data = json.loads(text or "[{}]")[0].get("linkinfo", {}).get("info_data", {})
        return [family for family in families if data.get(f"nf_call_{_CALL[family]}") != 1]


async def run_command(*words: str) -> tuple[int, str]:
    """Run a command of the host; 127 where there is none of that name."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except FileNotFoundError:
        return 127, ""
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
    return process.returncode or 0, said.decode(errors="replace")

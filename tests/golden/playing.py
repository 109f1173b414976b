"""One file's transcripts, played against our API server with some controllers, in virtual time."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

from tests.golden.controllers_replay import Outcome, QuotaClient, Replay, transcripts
from tests.support.apiserver import running_server
from tests.support.loopclock import LoopClock

from machinery.api.kinds import BUILTIN
from machinery.api.scheme import ServedKind
from machinery.controller.manager import Manager
from machinery.kit.ids import SeededIds
from machinery.server.app import Extensions


async def play(
    name: str,
    set_up: Callable[[Manager], None],
    replay: type[Replay] = Replay,
    kinds: Iterable[ServedKind] = BUILTIN,
    without: Collection[str] = (),
    *,
    extensions: Extensions | None = None,
) -> list[Outcome]:
    """One after the other. `set_up` makes the controllers; `without`: ids of transcripts that are left out."""
    clock, outcomes = LoopClock(), []
    async with running_server(
        clock=clock, ids=SeededIds(1), kinds=kinds, extensions=extensions
    ) as server:
        quotas = QuotaClient(server.local)
        manager = Manager(quotas, clock, SeededIds(2), component="test")
        set_up(manager)
        await manager.start()
        try:
            for transcript in transcripts(name):
                if transcript["id"] not in without:
                    outcomes.append(await replay(server.local, transcript, quotas, clock).run())
                    await asyncio.sleep(1)
        finally:
            await manager.stop()
    return outcomes


def report(outcomes: Sequence[Outcome]) -> str:
    """The first differences of each."""
    return "\n".join(
        f"{outcome.id}: {difference}"
        for outcome in outcomes
        for difference in [*outcome.states[:2], *outcome.events[:1]]
    )

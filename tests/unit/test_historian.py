"""The historian goes on, and says so, where somebody moves its history by hand."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from rota.adapters.clocks import SystemClock
from rota.agent.historian import TROUBLE, Historian
from rota.core.events import EPOCH, HistorySealed
from rota.core.fold import Change
from rota.core.schedules import Note
from rota.errors import StaleError


class Moved:
    """A store whose history somebody moved once."""

    def __init__(self) -> None:
        self.tries = 0

    async def covered(self) -> int:
        return 0

    async def head(self, branch: str) -> str:
        return "a1"

    async def record(self, records: object, **_: object) -> str:
        self.tries += 1
        if self.tries == 1:
            raise StaleError("history is at b2, not at a1")
        return "c3"


async def test_a_history_that_was_moved_by_hand_is_a_trouble_and_no_end() -> None:
    world: Any = SimpleNamespace(seq=0, troubles={})
    store: Any = Moved()
    index: Any = None
    historian = Historian(world, store, index, SystemClock())
    await historian.begin()
    historian.seal(
        HistorySealed(at=EPOCH, through=7), Change(ledger=(Note(seq=7, at=EPOCH, by="here"),))
    )
    running = asyncio.create_task(historian.run())
    await asyncio.wait_for(historian.settled(), 20)
    running.cancel()
    assert (historian.head, historian.covered, store.tries) == ("c3", 7, 2)
    assert world.troubles[TROUBLE] == (
        "somebody moved this agent's history by hand: history is at b2, not at a1; "
        "rota audit verify says where it parted"
    )

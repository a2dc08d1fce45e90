"""A task that runs beside a ``with`` block, and ends with it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


@asynccontextmanager
async def beside(
    work: Coroutine[object, object, None], name: str
) -> AsyncIterator[asyncio.Task[None]]:
    """Run ``work`` while the block does, then cancel it.

    As in any task group, an error of ``work`` ends the block. Unlike there, an error of the block
    comes out as it is, not in an exception group: the task is nothing the caller knows of.
    """
    group = asyncio.TaskGroup()
    await group.__aenter__()
    task = group.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await group.__aexit__(None, None, None)

"""Tasks that run for as long as a block."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine


@contextlib.asynccontextmanager
async def ended_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose tasks are cancelled when its body is left, as 3.11 has no such call."""

    class _Over(Exception):  # noqa: N818 - not an error: the way to end a group
        pass

    async def end() -> None:
        raise _Over

    try:
        async with asyncio.TaskGroup() as group:
            yield group
            group.create_task(end())
    except* _Over:
        pass


@contextlib.asynccontextmanager
async def background(task: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``task`` for as long as the context is open."""
    async with ended_group() as group:
        group.create_task(task)
        yield

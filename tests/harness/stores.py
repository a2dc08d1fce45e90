"""Moves ``main`` of one store, without a journal and without other agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from rota.ports.store import Author, Store

ADA = Author(name="Ada", email="ada@example.org")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def commit(
    store: Store,
    changes: Mapping[str, bytes | None],
    *,
    base: str | None = None,
    author: Author = ADA,
    message: str = "x",
    at: datetime = AT,
) -> str:
    """Make a commit, move ``main`` to it, and return its hash."""
    old = await store.head() if base is None else base
    made = await store.prepare(changes, base=old, author=author, message=message, at=at)
    await store.apply(old, made.commit, pieces(made.pack))
    return made.commit


async def pieces(data: bytes, size: int = 1 << 16) -> AsyncIterator[bytes]:
    """Yield a pack in pieces."""
    for start in range(0, len(data), size):
        yield data[start : start + size]

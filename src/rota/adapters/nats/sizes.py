"""How much each stream of the engine takes on a disk that has a copy of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rota.adapters.nats.jetstream import Stream
from rota.errors import UnavailableError

if TYPE_CHECKING:
    from rota.adapters.nats.client import Client

STREAMS = ("JOURNAL", "LOG", "BLOB")
LIMIT_S = 0.8


async def stream_sizes(client: Client) -> Mapping[str, int]:
    """Return bytes by stream. Cost: a round trip each, at once; who does not answer is left out."""
    found = await asyncio.gather(*(_size(client, name) for name in STREAMS))
    return {name: size for name, size in zip(STREAMS, found, strict=True) if size is not None}


async def _size(client: Client, name: str) -> int | None:
    try:
        info = await Stream(client, name).info(LIMIT_S)
    except UnavailableError:
        return None
    return info.state.bytes if info is not None else None

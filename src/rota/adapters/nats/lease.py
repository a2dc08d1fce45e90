"""The lease's heartbeat as a stream in memory that keeps the last beat.

In memory, since a beat every half second is nothing to wear a disk with. The price: after all servers
were down at once that stream has no leader before the last of them is back, which may be never.
Meanwhile a beat counts if most servers answer, and is told to whoever listens without being kept.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from rota.adapters.nats.jetstream import Spec, Stream
from rota.errors import UnavailableError
from rota.ports.lease import Beat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from rota.adapters.nats.client import Client

SUBJECT = "rota.lease"
LIVE = "rota.live.lease"
STREAM = Spec(
    name="LEASE",
    subjects=(SUBJECT,),
    storage="memory",
    max_msgs_per_subject=1,
    republish={"src": SUBJECT, "dest": LIVE},
)
#: How long a listener waits before it looks up from its feed; nothing hangs on it.
PATIENCE_S = 60.0
#: The part of a beat's time in which the stream has to take it; a stream that did not is asked again
#: so many seconds later.
STREAM_SHARE = 0.5
AGAIN_S = 5.0


async def no_quorum() -> bool:
    """Return that nobody can tell whether most servers answer."""
    return False


class NatsLease:
    """See :class:`rota.ports.lease.Lease`. Call :meth:`open` once before.

    ``has_quorum`` says whether most of the voters' servers answer now.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream = Stream(client, STREAM.name)
        self._again_at = 0.0
        self.has_quorum: Callable[[], Awaitable[bool]] = no_quorum

    async def open(self) -> None:
        """Make the stream, if it is not there. Safe to call twice.

        Raises:
            UnavailableError: the engine did not agree in time.
        """
        await self._stream.ensure(STREAM)

    async def beat(self, beat: Beat, *, within_s: float) -> None:
        """Return once a quorum of the voters took the beat; one round trip."""
        data, loop = msgspec.json.encode(beat), asyncio.get_running_loop()
        if loop.time() >= self._again_at:
            try:
                await self._stream.refresh(SUBJECT, data, within_s * STREAM_SHARE)
            except UnavailableError:
                if not await self.has_quorum():
                    raise
            else:
                return
            self._again_at = loop.time() + AGAIN_S
        elif not await self.has_quorum():
            raise UnavailableError("most servers of the engine do not answer")
        await self._client.publish(LIVE, data)

    async def follow(self) -> AsyncGenerator[Beat, None]:
        """Yield beats as they come, for ever; what is no beat is passed over."""
        beats = msgspec.json.Decoder(Beat)
        feed = await self._client.feed(LIVE)
        try:
            while True:
                message = await feed.next(PATIENCE_S)
                if message is None:
                    continue
                try:
                    beat = beats.decode(message.data)
                except msgspec.MsgspecError:
                    continue
                yield beat
        finally:
            await self._client.close_feed(feed)

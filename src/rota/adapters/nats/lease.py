"""The lease's heartbeat as a stream in memory that keeps the last beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rota.adapters.nats.jetstream import Spec, Stream
from rota.ports.lease import Beat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

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


class NatsLease:
    """See :class:`rota.ports.lease.Lease`. Call :meth:`open` once before."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream = Stream(client, STREAM.name)

    async def open(self) -> None:
        """Make the stream, if it is not there. Safe to call twice.

        Raises:
            UnavailableError: the engine did not agree in time.
        """
        await self._stream.ensure(STREAM)

    async def beat(self, beat: Beat, *, within_s: float) -> None:
        """Return once a quorum of the voters took the beat; one round trip."""
        await self._stream.refresh(SUBJECT, msgspec.json.encode(beat), within_s)

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

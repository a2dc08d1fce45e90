"""Presence: words on a subject that nobody keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rota.adapters.nats.jetstream import subject_of
from rota.ports.presence import Word

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rota.adapters.nats.client import Client

#: How long a listener waits before it looks up from its feed; nothing hangs on it.
PATIENCE_S = 60.0


class NatsPresence:
    """See :class:`rota.ports.presence.Presence`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def say(self, word: Word) -> None:
        """Tell everybody who hears."""
        subject = f"rota.presence.{subject_of(word.agent)}"
        await self._client.publish(subject, msgspec.json.encode(word))

    async def hear(self) -> AsyncGenerator[Word, None]:
        """Yield what agents say from now on, for ever; what is no word is passed over."""
        words = msgspec.json.Decoder(Word)
        feed = await self._client.feed("rota.presence.>")
        try:
            while True:
                message = await feed.next(PATIENCE_S)
                if message is None:
                    continue
                try:
                    word = words.decode(message.data)
                except msgspec.MsgspecError:
                    continue
                yield word
        finally:
            await self._client.close_feed(feed)

"""Presence: words on a subject that nobody keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from rota.adapters.nats.jetstream import subject_of
from rota.errors import UnavailableError
from rota.ports.presence import Word

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rota.adapters.nats.client import Client

#: How long a listener waits before it looks up from its feed; nothing hangs on it.
PATIENCE_S = 60.0
_HEARD = b"heard"


class NatsPresence:
    """See :class:`rota.ports.presence.Presence`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def say(self, word: Word) -> None:
        """Tell everybody who hears."""
        await self._client.publish(_subject(word), msgspec.json.encode(word))

    async def ask(self, word: Word, *, within_s: float) -> bool:
        """Say it, and return whether it was confirmed."""
        try:
            answer = await self._client.request(
                _subject(word), msgspec.json.encode(word), within_s=within_s
            )
        except UnavailableError:
            return False
        # The engine itself answers where nobody listens.
        return not answer.headers and answer.data == _HEARD

    async def confirm(self, word: Word) -> None:
        """Answer a word that was heard."""
        await self._client.publish(word.answer, _HEARD)

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
                yield replace(word, answer=message.reply or "")
        finally:
            await self._client.close_feed(feed)


def _subject(word: Word) -> str:
    return f"rota.presence.{subject_of(word.agent)}"

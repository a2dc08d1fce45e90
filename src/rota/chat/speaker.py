"""Carries commands out as the users who gave them, and says in their rooms what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rota.chat.hub import Hub
from rota.ports.chat import Command
from rota.ports.chat_wire import Setup
from rota.ports.networks import Said, Saying


class Speaker:
    """Speaks at the agent's socket with the token that the daemon gave."""

    def __init__(self, hub: Hub, setup: Setup, token: str) -> None:
        self._hub, self._setup, self._token = hub, setup, token

    async def perform(self, command: Command) -> Sequence[Said]:
        """Carry a command out and answer it; see the port.

        Raises:
            LaterError: it is not known whether it was answered.
        """
        heard = command.heard
        answer = Saying(
            id=answer_id(command.key),
            room=heard.room,
            thread=heard.thread,
            text=f"{heard.nick}: {' '.join(command.words)}?",
        )
        return [await self._hub.say(command.network, answer)]


def answer_id(key: str) -> str:
    """Return the id of the answer to a command: the same for whoever answers it."""
    return "answer-" + hashlib.sha256(key.encode()).hexdigest()[:24]

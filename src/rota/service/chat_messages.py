"""What is said of the chat networks over REST."""

from __future__ import annotations

import msgspec


class ChatUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user who is known on a network, as ``who`` there."""

    user: str
    role: str
    who: str


class ChatView(msgspec.Struct, frozen=True, kw_only=True):
    """A network of the settings, as the agent that leads finds it.

    ``state`` is ``connected`` or ``troubled``: then ``trouble`` says why. ``speaker`` is the agent that
    leads. ``waiting`` counts the commands that are not answered yet, ``followed`` the builds that are
    followed there.
    """

    name: str
    kind: str
    server: str
    nick: str
    rooms: tuple[str, ...]
    prefix: str
    public: bool
    state: str
    trouble: str
    speaker: str
    users: tuple[ChatUser, ...]
    waiting: int
    followed: int

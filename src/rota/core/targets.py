"""Where notices go, as settings, headers and users' files write it.

``irc:#web`` a room of a network, ``irc:@ann`` the user ann there directly, ``mail:ann@example.org`` an
address, ``pager`` an outlet; in a user's own file ``matrix`` or ``mail`` alone is that user directly.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from rota.core import fields
from rota.core.fields import FieldError, Spot, printed_value

#: The network that is not in ``[chat]``: addresses are its rooms.
MAIL = "mail"
MAX_ROOM = 200

_NETWORK = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_ADDRESS = re.compile(r"[^\s@<>(),;:\"\\\[\]]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_HINT = "such as irc:#web, irc:@ann, mail:ann@example.org, or the name of an outlet"


class Target(msgspec.Struct, frozen=True, order=True):
    """A place for notices.

    ``network`` is the name of a table ``[chat.NAME]`` or ``[outlet.NAME]``, or ``mail``. ``room`` is
    what the network calls the place; ``@name`` is the user of that name; empty is the outlet itself,
    or, in a user's file, that user.
    """

    network: str
    room: str = ""

    @property
    def text(self) -> str:
        """The target as it is written."""
        return f"{self.network}:{self.room}" if self.room else self.network

    @property
    def user(self) -> str:
        """The user that it means; empty if it means a place."""
        return self.room[1:] if self.room.startswith("@") else ""


def network_fault(name: str) -> str | None:
    """Say what is wrong with the name of a network or an outlet, or ``None``."""
    if _NETWORK.fullmatch(name):
        return None
    return "is no name of a network: up to 40 small letters, digits, - and _, the first a letter"


def address_fault(address: str) -> str | None:
    """Say what is wrong with an address for mail, or ``None``: what could add a header or another one."""
    if len(address) <= MAX_ROOM and address.isprintable() and _ADDRESS.fullmatch(address):
        return None
    return "is no address, such as ann@example.org"


def parse_target(text: str) -> Target | str:
    """Return the target that is written so, or what is wrong with it."""
    network, colon, room = text.partition(":")
    if network_fault(network) is not None:
        return f"is no target: {printed_value(text)}"
    if not colon:
        return Target(network)
    if not room or room == "@":
        return f"names nothing after the colon: {printed_value(text)}"
    if len(room) > MAX_ROOM or not room.isprintable() or " " in room:
        return f"has a room with spaces or control characters, or too long a one: {printed_value(text)}"
    if network == MAIL and not room.startswith("@") and (fault := address_fault(room)):
        return f"{fault}: {printed_value(room)}"
    return Target(network, room)


def read_target(value: Any, spot: Spot) -> Target:
    """Read a target."""
    found = parse_target(fields.text(value, spot))
    if isinstance(found, str):
        raise FieldError(found, _HINT)
    return found

"""What the daemon and the process that speaks on its networks tell one another: lines of JSON.

Both are the same program, so there are no versions. The daemon begins with :class:`Begin`; what it
asks for has a number, by which the answer is known. The end of the connection ends the process.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from rota.errors import InputError, LaterError, RotaError
from rota.ports.chat import Command
from rota.ports.networks import Heard, Said, Saying

#: A line longer than this is a fault of its writer, and ends the connection.
MAX_LINE = 1 << 20


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One network to be on. ``secrets`` has the values of those settings that name secrets."""

    name: str
    kind: str
    values: dict[str, object] = {}
    secrets: dict[str, str] = {}
    fault: str = ""  # why it cannot be had, such as a secret that is not there

    def __repr__(self) -> str:
        return f"Wanted({self.name!r}, {self.kind!r})"  # no secret comes into a log


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of the bot is made with."""

    networks: tuple[Wanted, ...] = ()
    socket: str = ""  # the agent's, at which commands are carried out
    url: str = ""  # under which people find the cluster


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """The first line. ``token`` is what the process shows to the agent."""

    setup: Setup
    token: str
    positions: dict[str, str] = {}


class Say(msgspec.Struct, frozen=True, kw_only=True, tag="say"):
    """Something to be said."""

    call: int
    network: str
    saying: Saying


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="ask"):
    """A question whether something was said."""

    call: int
    network: str
    saying: Saying


class Perform(msgspec.Struct, frozen=True, kw_only=True, tag="perform"):
    """A command to be carried out and answered."""

    call: int
    command: Command


class Drop(msgspec.Struct, frozen=True, kw_only=True, tag="drop"):
    """Nobody waits for the answer any more."""

    call: int


Order = Begin | Say | Ask | Perform | Drop


class HeardThat(msgspec.Struct, frozen=True, kw_only=True, tag="heard"):
    """Something was heard."""

    network: str
    heard: Heard


class Standing(msgspec.Struct, frozen=True, kw_only=True, tag="standing"):
    """How a network is, whenever that changes."""

    network: str
    trouble: str = ""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The answer to :class:`Say` and :class:`Perform`."""

    call: int
    said: tuple[Said, ...] = ()


class Carried(msgspec.Struct, frozen=True, kw_only=True, tag="carried"):
    """A command is carried out, and not answered yet."""

    call: int


class Known(msgspec.Struct, frozen=True, kw_only=True, tag="known"):
    """The answer to :class:`Ask`."""

    call: int
    was_said: bool | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The answer to what could not be done."""

    call: int
    kind: Literal["later", "never"]
    message: str
    hint: str = ""
    after_s: float = 0.0

    @property
    def error(self) -> RotaError:
        """The error that it stands for."""
        if self.kind == "never":
            return InputError(self.message, hint=self.hint or None)
        return LaterError(self.message, after_s=self.after_s, hint=self.hint)


Report = HeardThat | Standing | Carried | Done | Known | Failed

_encoder = msgspec.json.Encoder()
_orders = msgspec.json.Decoder(Order)
_reports = msgspec.json.Decoder(Report)


def line(message: Order | Report) -> bytes:
    """Return a message as a line, with its end."""
    return _encoder.encode(message) + b"\n"


def read_order(raw: bytes) -> Order:
    """Return what a line from the daemon says.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    found: Order = _orders.decode(raw)
    return found


def read_report(raw: bytes) -> Report:
    """Return what a line from the process says.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    found: Report = _reports.decode(raw)
    return found

"""A network that a program of somebody's own speaks: rota connects to it and they exchange lines of JSON.

So any network can be joined without a line in here. The program says first what it can, and then
what it hears; it is told what to say, and answers each by its number::

    < {"hello": {"characters": 4000, "lines": 40, "every_s": 1, "burst": 5, "has_threads": true}}
    > {"begin": {"name": "team", "position": "", "token": "…"}}
    < {"heard": {"id": "1", "room": "#web", "who": "account:ann", "nick": "ann", "text": "!ps", "at": "…"}}
    > {"say": {"id": "…", "room": "#web", "text": "…"}, "n": 1}
    < {"n": 1, "said": {"id": "17", "thread": "17"}}
    > {"was_said": {"id": "…", "room": "#web"}, "n": 2}
    < {"n": 2, "was_said": true}

What it will never say it answers by ``"refused": "why"``, what it does not say now by ``"later": 3.5``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import msgspec

from rota.errors import InputError, LaterError
from rota.ports.networks import Abilities, Heard, Said, Saying

MAX_LINE = 1 << 20
#: Until the program answers, or says first what it can.
ANSWER_S = 30.0
HELLO_S = 10.0
#: Between tries to connect; the last one repeats.
DELAYS_S = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
#: What was heard and nobody asked for yet; more is left at the program.
MAX_EARS = 1000


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """Anything that the program may say."""

    hello: Abilities | None = None
    heard: Heard | None = None
    n: int = 0
    said: Said | None = None
    was_said: bool | None = None
    refused: str = ""
    later: float | None = None
    why: str = ""


_decoder = msgspec.json.Decoder(_Line)


def read_line(raw: bytes) -> _Line:
    """Return what the program says in a line.

    Raises:
        ValueError: it is none of what it may say.
    """
    try:
        return _decoder.decode(raw)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


class BridgeNetwork:
    """See :class:`rota.ports.networks.Network`.

    Args:
        name: Its name in the settings.
        server: Where the program listens: ``HOST:PORT`` or ``unix:PATH``.
        token: What it is shown.
    """

    def __init__(self, name: str, *, server: str, token: str = "") -> None:
        self._name, self._server, self._token = name, server, token
        self._path = server.removeprefix("unix:") if server.startswith("unix:") else ""
        self._host, _, port = server.rpartition(":")
        if not self._path and not (self._host and port.isdigit()):
            raise InputError(
                f"{name}: {server!r} is no place of a bridge", hint="HOST:PORT or unix:PATH"
            )
        self._port = 0 if self._path else int(port)
        self._abilities = Abilities()
        self._trouble = "not connected yet"
        self._writer: asyncio.StreamWriter | None = None
        self._ears: asyncio.Queue[Heard] = asyncio.Queue(MAX_EARS)
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[_Line]] = {}

    @property
    def name(self) -> str:
        """Its name in the settings."""
        return self._name

    @property
    def abilities(self) -> Abilities:
        """What the program says that it can."""
        return self._abilities

    @property
    def trouble(self) -> str:
        """Why it is not connected."""
        return self._trouble

    async def run(self, position: str) -> None:
        """Be connected, until cancelled."""
        tries = 0
        while True:
            try:
                async with asyncio.timeout(HELLO_S):
                    reader, writer = await self._open()
            except (OSError, TimeoutError) as error:
                self._trouble = f"cannot connect to {self._server}: {_why(error)}"
            else:
                tries = 0
                position = await self._attend(reader, writer, position)
            await asyncio.sleep(DELAYS_S[min(tries, len(DELAYS_S) - 1)])
            tries += 1

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._path:
            return await asyncio.open_unix_connection(self._path, limit=MAX_LINE)
        return await asyncio.open_connection(self._host, self._port, limit=MAX_LINE)

    async def _attend(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        position: str,
    ) -> str:
        """Read one connection to its end; return how far was heard."""
        try:
            async with asyncio.timeout(HELLO_S):
                first = read_line(await reader.readline())
            if first.hello is None:
                raise ValueError("it did not say first what it can")  # noqa: TRY301 - as what is no JSON
            self._abilities = first.hello
            begin = {
                "name": self._name,
                "position": position,
                "token": self._token,
            }
            writer.write(msgspec.json.encode({"begin": begin}) + b"\n")
            self._writer, self._trouble = writer, ""
            while raw := await reader.readline():
                line = read_line(raw)
                if line.heard is not None:
                    await self._ears.put(line.heard)
                    position = line.heard.position or position
                elif (waiting := self._asked.pop(line.n, None)) is not None and not waiting.done():
                    waiting.set_result(line)
            self._trouble = f"{self._server} ended the connection"
        except (OSError, ValueError, TimeoutError) as error:
            self._trouble = f"{self._server}: {_why(error)}"
        finally:
            self._writer = None
            writer.close()
            for waiting in self._asked.values():
                waiting.cancel()
            self._asked.clear()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()
        return position

    async def heard(self) -> AsyncIterator[Heard]:
        """Yield what people write."""
        while True:
            yield await self._ears.get()

    async def say(self, saying: Saying) -> Said:
        """Say something."""
        line = await self._ask("say", saying)
        return line.said or Said()

    async def was_said(self, saying: Saying) -> bool | None:
        """Whether it was."""
        return (await self._ask("was_said", saying)).was_said

    async def _ask(self, what: str, saying: Saying) -> _Line:
        if self._writer is None:
            raise LaterError(f"{self._name}: {self._trouble}")
        number = next(self._numbers)
        waiting = self._asked[number] = asyncio.get_running_loop().create_future()
        self._writer.write(msgspec.json.encode({what: saying, "n": number}) + b"\n")
        try:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.wait([waiting])
        except TimeoutError:
            raise LaterError(f"{self._name}: no answer within {ANSWER_S:g} s") from None
        finally:
            self._asked.pop(number, None)
        if waiting.cancelled():
            raise LaterError(f"{self._name}: the connection was lost, and perhaps the message")
        line: _Line = waiting.result()
        if line.refused:
            raise InputError(f"{self._name}: {line.refused}")
        if line.later is not None:
            raise LaterError(f"{self._name}: {line.why or 'not now'}", after_s=line.later)
        return line


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {HELLO_S:g} s"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"not understood: {error}" if str(error) else "not understood"

"""One account on one IRC network: connected, and again whenever that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from rota.adapters.irc.connection import Flow, LostError, connect, tls_context
from rota.adapters.irc.ear import Ear, Position
from rota.adapters.irc.handshake import Login
from rota.adapters.irc.session import MAX_LINES, LoginError, Patience, Plan, Session
from rota.core.backoff import Backoff
from rota.errors import InputError, LaterError
from rota.ports.clock import Clock
from rota.ports.networks import Abilities, Heard, Said, Saying

CONFIRM_S = 60.0
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 120.0
#: A connection that lived so long was a good one: the next is tried at once.
GOOD_S = 60.0
TRIES_OF_LOGIN = 3
PATIENT = Patience()


class IrcNetwork:
    """See :class:`rota.ports.networks.Network`.

    Args:
        name: In the settings.
        clock: For when messages came that bear no time.
        server: A name or an address.
        port: Its port.
        tls: ``direct``, ``starttls`` or ``none``.
        ca: A file of certificates instead of the machine's.
        certificate: Key and certificate of ours, as PEM.
        nick: By which people see us.
        account: With the network's services; the nick if it is empty.
        password: Of the account.
        server_password: Of the server.
        rooms: ``#web``, or ``#web KEY``.
        prefix: What commands begin with: who wrote something else in a room is asked about last.
        every_s: Between two lines on average …
        burst: … after so many at once.
        patience: With a silent server.

    Raises:
        InputError: something of it cannot be.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        server: str,
        port: int = 6697,
        tls: str = "direct",
        ca: str = "",
        certificate: str = "",
        nick: str = "rota",
        account: str = "",
        password: str = "",
        server_password: str = "",
        rooms: Sequence[str] = (),
        prefix: str = "",
        every_s: float = 2.0,
        burst: int = MAX_LINES,
        patience: Patience = PATIENT,
    ) -> None:
        self._name = name
        self._server, self._port, self._tls = server, port, tls
        self._context = tls_context(ca, certificate) if tls != "none" else None
        login = Login(
            nick=nick,
            account=account,
            password=password,
            has_certificate=bool(certificate),
            server_password=server_password,
        )
        _check(name, nick=nick, account=account, rooms=rooms, server_password=server_password)
        self._plan = Plan(name, login, tuple(rooms), prefix, patience)
        self._flow = Flow(every_s, burst)
        self._abilities = Abilities(
            characters=MAX_LINES * 200, lines=MAX_LINES, every_s=every_s, burst=max(burst // 2, 1)
        )
        self._ear = Ear(clock)
        self._speaks = asyncio.Lock()
        self._why_not = "not connected yet"
        self._session: Session | None = None

    @property
    def name(self) -> str:
        """Its name in the settings."""
        return self._name

    @property
    def abilities(self) -> Abilities:
        """What IRC can."""
        return self._abilities

    @property
    def trouble(self) -> str:
        """Why we are not connected. What else is not as it should be is in the log."""
        return "" if self._session else self._why_not

    @property
    def nick(self) -> str:
        """Under which we are there, empty while we are not."""
        return self._session.own.current if self._session else ""

    async def heard(self) -> AsyncIterator[Heard]:
        """Yield what people write."""
        while True:
            yield await self._ear.heard.get()

    async def was_said(self, saying: Saying) -> bool | None:
        """Whether we or others here saw that the server took it."""
        return None if self._ear.taken.get(saying.id) is None else True

    # -- connecting --------------------------------------------------------------------------------

    async def run(self, position: str) -> None:
        """Be connected until cancelled.

        Raises:
            InputError: the server will not take us whatever we do.
        """
        self._ear.position = Position.read(position)
        loop = asyncio.get_running_loop()
        backoff, refusals = Backoff(FIRST_RETRY_S, LAST_RETRY_S), 0
        while True:
            began = loop.time()
            try:
                await self._connected()
            except LostError as error:
                self._why_not = str(error)
            except InputError as error:
                raise InputError(f"{self._name}: {error.message}", hint=error.hint) from None
            except LoginError as error:
                # Services that are just starting refuse everybody: once is not enough to believe it.
                self._why_not, refusals = str(error), refusals + 1
                if refusals >= TRIES_OF_LOGIN:
                    raise InputError(
                        f"{self._name}: {error}",
                        hint="see account and password (a secret's name) of the network",
                    ) from None
            if loop.time() - began > GOOD_S:
                backoff.went_well()
                refusals = 0
            await asyncio.sleep(backoff.failed())

    async def _connected(self) -> None:
        connection = await connect(
            self._server, self._port, tls=self._tls, context=self._context, flow=self._flow
        )
        session = Session(self._plan, connection, self._ear)
        farewell = "good-bye"
        try:
            await session.live(self._is_ready)
        except LostError:
            farewell = ""
            raise
        finally:
            self._session = None
            self._why_not = "not connected"
            session.end()
            await connection.close(farewell)

    def _is_ready(self, session: Session) -> None:
        self._session = session

    # -- speaking ----------------------------------------------------------------------------------

    async def say(self, saying: Saying) -> Said:
        """Say something; return when the server has taken it.

        Raises:
            LaterError: not now, or the connection was lost over it.
            InputError: never.
        """
        async with self._speaks:
            session = self._session
            if session is None:
                raise LaterError(f"{self._name}: {self._why_not}")
            try:
                async with asyncio.timeout(CONFIRM_S + MAX_LINES * self._abilities.every_s):
                    return await session.say(saying)
            except TimeoutError:
                raise LaterError(
                    f"{self._name}: the server does not say whether it took it"
                ) from None


def _check(
    name: str, *, nick: str, account: str, rooms: Sequence[str], server_password: str
) -> None:
    """Refuse what no server can be told."""
    if not nick or set(nick) & _NOT_IN_NICKS or nick[0] in "0123456789-" or len(nick) > 30:
        raise InputError(
            f"{name}: {nick!r} cannot be a nick",
            hint="up to 30 letters, digits and signs of -_[]{}|^, a letter first",
        )
    for room in rooms:
        channel, _, key = room.partition(" ")
        if channel[:1] not in "#&+!" or set(channel + key) & set(" ,\a\r\n\0") or key[:1] == ":":
            raise InputError(
                f"{name}: {room!r} cannot be a room",
                hint='rooms = ["#web", "#secret KEY"]',
            )
    for key, value in (("account", account), ("server_password", server_password)):
        if set(value) & set("\r\n\0"):
            raise InputError(f"{name}: {key} has more than one line")


_NOT_IN_NICKS = set(" ,:!@#&*?\r\n\0.$")

"""The first lines of a connection: what both sides can, who we are, and under which nick.

Pure: a line goes in, what is to be answered comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from rota.adapters.irc import sasl
from rota.adapters.irc.lines import Line, line_of

#: What of IRCv3 is of use to us, where it is there.
WANTED = frozenset(
    {
        "account-notify",
        "account-tag",
        "batch",
        "cap-notify",
        "draft/chathistory",
        "echo-message",
        "message-tags",
        "server-time",
    }
)
_REQUEST_BYTES = 400
#: Services have so long to answer, and are asked again after so long, in seconds.
SASL_S, AGAIN_S = 10.0, 300.0
#: So many in a row that the server takes for no nicks, and the fault is in the nick.
STRANGE_NICKS = 3


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are to a network."""

    nick: str
    account: str = ""
    password: str = msgspec.field(default="")
    has_certificate: bool = False
    server_password: str = ""

    @property
    def wants_account(self) -> bool:
        """Whether we are to log in."""
        return bool(self.password or self.has_certificate)


class Handshake:
    """Until the server welcomes us, and later what it can besides."""

    def __init__(self, login: Login, nicks: Iterable[str]) -> None:
        self._login = login
        self._nicks = iter(nicks)
        self._offered: dict[str, str] = {}
        self._asked: set[str] = set()
        self._exchange: sasl.Exchange | None = None
        self._challenge = ""
        self._mechanism = ""
        self.enabled: set[str] = set()
        self._until = self._again = 0.0  # in monotonic seconds; 0 is not yet known
        self._strange_nicks = 0
        self.nick = ""  # as the server calls us
        self.is_welcome = False
        self.account = ""  # as which it knows us
        self.no_account = ""  # why it does not, where it should
        self.is_wrong_login = False  # and trying again would not help
        self.fault = ""  # why it will never take us

    def begin(self) -> Iterator[Line]:
        """Return the first lines."""
        if self._login.server_password:
            yield line_of("PASS", self._login.server_password)
        yield line_of("CAP", "LS", "302")
        self.nick = next(self._nicks)
        yield line_of("NICK", self.nick)
        yield line_of("USER", _user(self._login.nick), "0", "*", "rota, a build system")

    def take(self, line: Line) -> Iterator[Line]:
        """Return what is answered to a line."""
        match line.command:
            case "CAP":
                yield from self._cap(line)
            case "AUTHENTICATE":
                yield from self._authenticate(line.param(0))
            case "900":
                self.account, self.no_account = line.param(2), ""
            case "901":
                self.account = ""
            case "903" | "907":
                yield from self._sasl_ended("")
            case "902" | "904" | "905" | "906":
                self.is_wrong_login = line.command == "904"
                yield from self._sasl_ended(f"the server refuses the login: {line.text}")
            case "001":
                self.is_welcome, self.nick = True, line.param(0)
                if self._login.wants_account and not self.account and not self.no_account:
                    self.no_account = "the server has no SASL, so nobody can log in"
            case "432" | "433" | "436" | "437" if not self.is_welcome:
                # Services that hold a nick for its owner say that it is none: another one is tried.
                self._strange_nicks += line.command == "432"
                if self._strange_nicks >= STRANGE_NICKS:
                    self.fault = f"{self._login.nick!r} is no nick here: {line.text}"
                    return
                self.nick = next(self._nicks)
                yield line_of("NICK", self.nick)
            case "464" if not self.is_welcome:
                self.fault = f"server_password is wrong or missing: {line.text}"
            case _:
                pass

    def due(self, now: float) -> Iterator[Line]:
        """Return what is to be sent now: who is not answered goes on, and tries again later."""
        if self._exchange is not None:
            self._until = self._until or now + SASL_S
            if now > self._until:
                self._until, self._again = 0.0, now + AGAIN_S
                yield line_of("AUTHENTICATE", "*")
                yield from self._sasl_ended("the services do not answer")
            return
        self._until = 0.0
        if self._login.wants_account and not self.account and self.is_welcome:
            self._again = self._again or now + AGAIN_S
            if now > self._again:
                # Not all servers tell it when services come back.
                self._again = now + AGAIN_S
                is_open = "sasl" in self.enabled
                yield from self._log_in() if is_open else [line_of("CAP", "LS", "302")]

    # -- capabilities ----------------------------------------------------------------------------

    def _cap(self, line: Line) -> Iterator[Line]:
        names = line.text.split()
        match line.param(1).upper():
            case "LS":
                self._offered.update(_capability(name) for name in names)
                if line.param(2) != "*":  # there is more to come
                    yield from self._request()
            case "NEW":
                self._offered.update(_capability(name) for name in names)
                yield from self._request()
            case "DEL":
                for name in names:
                    self._offered.pop(name, None)
                    self.enabled.discard(name)
            case "ACK":
                yield from self._acknowledged(names)
            case "NAK":
                # All of a request or nothing: those that can be had are asked for one by one.
                self._asked.difference_update(names)
                if len(names) > 1:
                    for name in names:
                        self._asked.add(name)
                        yield line_of("CAP", "REQ", name)
                yield from self._end()
            case _:
                pass

    def _request(self) -> Iterator[Line]:
        wanted = (WANTED & self._offered.keys()) - self.enabled - self._asked
        if self._login.wants_account and not self.account and "sasl" in self._offered:
            wanted |= {"sasl"} - self._asked
        names: list[str] = []
        for name in sorted(wanted):
            if sum(map(len, names)) + len(names) + len(name) > _REQUEST_BYTES:
                yield line_of("CAP", "REQ", " ".join(names))
                names = []
            names.append(name)
        if names:
            yield line_of("CAP", "REQ", " ".join(names))
        self._asked |= wanted
        yield from self._end()

    def _acknowledged(self, names: list[str]) -> Iterator[Line]:
        for name in names:
            self._asked.discard(name.lstrip("-~="))
            if name.startswith("-"):
                self.enabled.discard(name[1:])
            else:
                self.enabled.add(name.lstrip("~="))
        if "sasl" in names and not self._exchange:
            yield from self._log_in()
        yield from self._end()

    def _end(self) -> Iterator[Line]:
        if not self.is_welcome and not self._asked and not self._exchange:
            yield line_of("CAP", "END")

    # -- SASL ------------------------------------------------------------------------------------

    def _log_in(self) -> Iterator[Line]:
        login = self._login
        offered = [it for it in self._offered.get("sasl", "").upper().split(",") if it]
        self._mechanism = sasl.choose(
            offered, has_password=bool(login.password), has_certificate=login.has_certificate
        )
        if not self._mechanism:
            self.no_account = f"the server logs in by {', '.join(offered)} only"
            return
        self._exchange = sasl.exchange(self._mechanism, login.account or login.nick, login.password)
        self._challenge = ""
        yield line_of("AUTHENTICATE", self._mechanism)

    def _authenticate(self, piece: str) -> Iterator[Line]:
        if self._exchange is None:
            return
        self._challenge += "" if piece == "+" else piece
        if len(piece) == sasl.PIECE and len(self._challenge) < 10 * sasl.PIECE:
            return  # there is more to come
        said, self._challenge = self._challenge, ""
        try:
            answer = sasl.answer(self._exchange, said)
        except sasl.SaslError as error:
            self.no_account, self.is_wrong_login = str(error), False
            yield line_of("AUTHENTICATE", "*")
            return
        for part in sasl.pieces(answer):
            yield line_of("AUTHENTICATE", part)

    def _sasl_ended(self, why_not: str) -> Iterator[Line]:
        self._exchange = None
        self.no_account = self.no_account or why_not if not self.account else ""
        yield from self._end()


def _capability(name: str) -> tuple[str, str]:
    key, _, value = name.partition("=")
    return key, value


def _user(nick: str) -> str:
    """What stands before the ``@``: letters and digits, since servers take little else."""
    return "".join(sign for sign in nick.lower() if sign.isascii() and sign.isalnum())[:9] or "rota"

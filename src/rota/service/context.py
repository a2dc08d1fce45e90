"""What the verbs work with: the picture, the ports, and this agent's own attempts."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec.structs import replace

from rota.core.build import Build
from rota.core.events import Event, Unknown, kind_of
from rota.core.join_token import JoinToken
from rota.core.kept import Kept
from rota.core.levels import LEVEL
from rota.core.rights import Rights, Role
from rota.errors import DeniedError, UnavailableError
from rota.ports.blobs import Blobs
from rota.ports.caches import Caches
from rota.ports.case_index import CaseIndex
from rota.ports.clock import Clock
from rota.ports.ensemble import Ensemble
from rota.ports.identity import Identity
from rota.ports.inspector import Inspector
from rota.ports.journal import Journal
from rota.ports.logs import Logs
from rota.ports.peers import Peers
from rota.ports.probes import Probes
from rota.ports.reports import Reports
from rota.ports.secrets import Secrets
from rota.ports.session import Session, Tty
from rota.ports.store import Author, Store
from rota.service.copies import Copies
from rota.service.counts import Counts
from rota.service.guesses import Guesses
from rota.service.levels import refuse_early
from rota.service.messages import JoinTokenView, Reloaded
from rota.service.search import Searches
from rota.service.speakers import Speakers
from rota.service.waiting import Waits
from rota.service.world import World

#: How long an answer waits for this agent to have folded what it wrote itself. Usually 1 ms.
FOLD_TIMEOUT_S = 5.0
#: In a cluster a write that no quorum confirms is refused soon: its caller can try elsewhere.
WRITE_S = 0.9
#: The chat command that the present request comes of, if any: events that it writes say so.
VIA: contextvars.ContextVar[str] = contextvars.ContextVar("via", default="")
#: The id of the token that the present request showed, if any: events that it writes say so.
TOKEN: contextvars.ContextVar[str] = contextvars.ContextVar("token", default="")
#: From where the present request was sent over TCP: events that it writes say so.
ADDRESS: contextvars.ContextVar[str] = contextvars.ContextVar("address", default="")


class Principal(msgspec.Struct, frozen=True):
    """Who asks: a name for the record, a role, the build it speaks from and the peer, if any.

    ``role`` is over everything. ``rights`` say what else it may on some jobs; without them it is that
    role on each.
    """

    name: str
    role: Role
    build: str = ""
    peer: str = ""  # the agent through which it asks; it is asked itself where that is all
    via: str = ""  # the chat command that it asks for
    speaks: bool = False  # it asks by a process that speaks for users: on a chat network
    builds: bool = False  # it is known by running as somebody as whom builds run
    token: str = ""  # the id of the token that it showed
    address: str = ""  # from where it asks, over TCP
    holds_s: float | None = None  # for so long from when it asked that token holds, if it ends
    rights: Rights | None = None

    @property
    def sees_all(self) -> bool:
        """Whether nothing is hidden from it."""
        return self.role >= Role.VIEWER

    @property
    def is_scoped(self) -> bool:
        """Whether it shows a token that allows less than its user may."""
        return self.rights is not None and self.rights.is_scoped

    def on(self, job: str) -> Role:
        """Return the role on a job."""
        return self.rights.on(job) if self.rights is not None else self.role

    def sees(self, job: str) -> bool:
        """Whether a job, and what was built of it, is there for it."""
        return self.role >= Role.VIEWER or self.on(job) >= Role.VIEWER

    def require(self, role: Role, what: str) -> None:
        """Do nothing if the principal may, whatever it is about.

        Raises:
            DeniedError: it may not.
        """
        if self.role < role:
            raise DeniedError(
                f"{self.name} is {self.role.title}{self._elsewhere}; {what} needs {role.title}",
                known=True,
            )

    def require_anywhere(self, role: Role, what: str) -> None:
        """Do nothing if there could be a job for which the principal may.

        Raises:
            DeniedError: there is none.
        """
        most = self.rights.anywhere if self.rights is not None else self.role
        if most < role:
            raise DeniedError(f"{self.name} is {most.title}; {what} needs {role.title}", known=True)

    def require_on(self, role: Role, job: str, what: str) -> None:
        """Do nothing if the principal may, on a job that it sees.

        Raises:
            DeniedError: it may not.
        """
        if (has := self.on(job)) < role:
            raise DeniedError(
                f"{self.name} is {has.title} of {job}; {what} needs {role.title}", known=True
            )

    @property
    def _elsewhere(self) -> str:
        """What to say of somebody who has more on some jobs, or is kept to them."""
        if self.rights is None or self.rights.anywhere <= self.role:
            return ""
        return " but for some jobs" if self.role is Role.NONE else ", more than that for some jobs"


class Attempts(Protocol):
    """The attempts that run on this agent, as far as the verbs touch them."""

    async def send(self, build: str, data: bytes, *, eof: bool) -> None:
        """Write to the standard input of a build that runs here."""
        ...


class Workspaces(Protocol):
    """The workspaces that this agent keeps."""

    def kept(self) -> Sequence[Kept]:
        """Return what is kept, the oldest first."""
        ...

    def home(self, kept: Kept) -> Path:
        """Return the home of a kept workspace."""
        ...

    def entered(self, kept: Kept) -> int:
        """Return how many shells are open in a workspace."""
        ...

    def remove(self, build: str, ref: str) -> Sequence[Kept]:
        """Let go of all that is kept of a build, and return what it was.

        Raises:
            ConflictError: somebody is in it.
        """
        ...


class Place(Protocol):
    """A workspace that can be entered: of an attempt that runs here, or that is kept."""

    @property
    def is_running(self) -> bool:
        """Whether its attempt runs."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether its attempt has ended meanwhile, and with it all that ran in it."""
        ...

    @property
    def missing(self) -> tuple[str, ...]:
        """What the script's environment had, and that of a shell has not."""
        ...

    def inside(
        self, argv: tuple[str, ...], tty: Tty | None
    ) -> contextlib.AbstractAsyncContextManager[Session]:
        """Run a program there for as long as the context is open.

        Raises:
            ExecutionError: it could not be started.
        """
        ...


class Entrance(Protocol):
    """The workspaces on this agent."""

    async def place(self, build: Build, attempt: int) -> Place | None:
        """Return the workspace of an attempt; ``None`` if there is none here.

        Raises:
            ConflictError: it is being made ready.
        """
        ...


class Door(Protocol):
    """The door through which machines join: tokens are kept by the agent that made them."""

    async def invite(self, by: str, expires_s: float, uses: int) -> JoinTokenView:
        """Make a token; the agent is reachable by other machines once this returns.

        Raises:
            UnavailableError: this agent cannot be reached by others.
        """
        ...

    async def machine_token(self, machine: str) -> JoinToken:
        """Return the token by which that machine of a cloud joins, and no other; any agent takes it.

        Raises:
            UnavailableError: this agent cannot be reached by others.
        """
        ...

    async def invitations(self) -> list[JoinTokenView]:
        """Return the tokens that still open the door, without their secrets."""
        ...

    async def revoke(self, id_: str) -> JoinTokenView:
        """Make a token worthless.

        Raises:
            NotFoundError: there is no such token here.
        """
        ...


class Keys(Protocol):
    """This agent's own key."""

    async def change(self, by: str = "") -> str:
        """Have another key from now on, and return its pin.

        Raises:
            ConflictError: it cannot be changed now; nothing was.
            UnavailableError: it is announced, and not used yet.
        """
        ...


class Main(Protocol):
    """The store's ``main``, as far as the verbs move it."""

    async def commit(
        self,
        changes: Mapping[str, bytes | None],
        *,
        base: str,
        author: Author,
        message: str,
        by: str,
    ) -> str:
        """Commit files (``None`` deletes) to ``main`` at ``base``; return the commit's hash.

        It is in the journal by then, and this agent's store and definitions have it.

        Raises:
            StaleError: ``main`` has moved on from ``base``; this agent has followed it.
            ConflictError: a file would stand where a folder is, or the reverse.
            UnavailableError: it cannot be taken now.
        """
        ...


class Myself(msgspec.Struct, frozen=True, kw_only=True):
    """This agent, as it was started."""

    name: str
    version: str
    pid: int
    data: Path
    labels: dict[str, str]
    slots: int
    url: str = ""
    peer: str = ""
    token: str = ""  # the SHA-256 of the token that callers show, in hex
    pin: str = ""
    host: str = "127.0.0.1"  # by which other agents reach this machine
    level: int = LEVEL  # what it says that it can: less where the way back is to stay open


def no_key() -> bytes:
    """Return no key.

    Raises:
        UnavailableError: always.
    """
    raise UnavailableError("this agent has no key of a cluster")


async def no_sizes() -> Mapping[str, int]:
    """Return that nothing is known of what the engine keeps."""
    return {}


@dataclasses.dataclass(kw_only=True)
class Service:
    """All that a verb's handler may use. Made once by the composition root."""

    me: Myself
    world: World
    journal: Journal
    logs: Logs
    blobs: Blobs
    store: Store
    clock: Clock
    attempts: Attempts
    workspaces: Workspaces
    entrance: Entrance
    main: Main
    stop: Callable[[], None]
    waits: Waits
    counts: Counts
    ensemble: Ensemble | None = None
    reports: Reports | None = None
    case_index: CaseIndex | None = None
    inspector: Inspector | None = None
    peers: Peers | None = None
    caches: Caches | None = None  # what this agent keeps of them
    door: Door | None = None
    keys: Keys | None = None
    probes: Probes | None = None
    secrets: Secrets | None = None
    identity: Identity | None = None  # vouches for people who log in
    copies: Copies | None = None  # what a back-up is made of
    engine_sizes: Callable[[], Awaitable[Mapping[str, int]]] = no_sizes  # bytes, by stream
    reload: Callable[[str], Awaitable[Reloaded]] | None = (
        None  # logs from that level on, if one is given
    )
    ca: str = ""  # the cluster's certificate authority, PEM
    ca_key: Callable[[], bytes] = no_key  # and its key, from which secrets of webhooks are made
    searches: Searches = dataclasses.field(default_factory=Searches)
    guesses: Guesses = dataclasses.field(default_factory=Guesses)
    speakers: Speakers = dataclasses.field(default_factory=Speakers)
    #: What must not be done twice at a time on this agent, by name: see :meth:`turn`.
    turns: weakref.WeakValueDictionary[str, asyncio.Lock] = dataclasses.field(
        default_factory=weakref.WeakValueDictionary
    )

    def turn(self, name: str) -> asyncio.Lock:
        """Return the lock under which those who do the same on this agent take turns.

        It spares them the races they would lose at the store or journal; those with other agents
        remain, and are decided there.
        """
        return self.turns.setdefault(name, asyncio.Lock())

    async def write(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        """Append an event and return its sequence once this agent has folded it.

        So what a caller is told is what the next reader here sees.
        """
        seq = await self.append(event, expect=expect, fence=fence)
        try:
            await self.world.reached(seq, FOLD_TIMEOUT_S)
        except TimeoutError as error:
            raise UnavailableError(
                f"event {seq} was written, but this agent lags behind the journal",
                hint="the request was taken; look again in a moment: rota ps",
            ) from error
        return seq

    async def read_secret(self, name: str) -> bytes:
        """Return the value of a secret of the cluster.

        Raises:
            NotFoundError, UnavailableError: as of :class:`rota.ports.secrets.Secrets`.
        """
        if self.secrets is None:
            raise UnavailableError("this agent reads no secrets")
        return await self.secrets.read(name)

    def refuse_if_stale(self) -> None:
        """Do nothing, unless it is known that no write would be confirmed.

        Raises:
            UnavailableError: no quorum of the voters was heard of lately.
        """
        since = self.world.stale_since
        if since is not None and self._is_among_others():
            raise UnavailableError(
                f"no quorum of the voters was heard of since {since:%H:%M:%S} UTC: nothing can be "
                "written",
                hint="builds that run go on; if most voters are gone for ever: rota recover",
            )

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        """Append an event and return its sequence; in a cluster, or be refused in a second.

        Raises:
            StaleError: as of the journal.
            ConflictError: not all agents know such an event yet.
            UnavailableError: not confirmed; the message says whether it may still be taken.
        """
        refuse_early(self.world, kind_of(event))
        self.refuse_if_stale()
        marks = {"via": VIA.get(), "token": TOKEN.get(), "address": ADDRESS.get()}
        marks = {name: mark for name, mark in marks.items() if mark}
        if marks and not isinstance(event, Unknown):
            event = replace(event, **marks)
        if not self._is_among_others():
            return await self.journal.append(event, expect=expect, fence=fence)
        try:
            async with asyncio.timeout(WRITE_S):
                seq = await self.journal.append(event, expect=expect, fence=fence)
        except TimeoutError:
            raise UnavailableError(
                f"the voters did not confirm within {WRITE_S:g} s; it may still be taken",
                hint="with an idempotency key the same request can safely be sent again",
            ) from None
        self.world.touch()
        return seq

    def _is_among_others(self) -> bool:
        return len(self.world.cluster.picture.agents) > 1

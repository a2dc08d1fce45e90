"""The engine's servers as one group: what its own leader says of it, and what it is asked to do.

Streams are named by us, not listed by the engine: a list omits those that have no leader.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from rota.adapters.nats.bootstrap import Answer, Failure
from rota.adapters.nats.config import ACCOUNT
from rota.adapters.nats.jetstream import Info, Stream
from rota.errors import UnavailableError
from rota.ports.ensemble import Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nats.aio.msg import Msg

    from rota.adapters.nats.client import Client
    from rota.core.voter import Voter

log = logging.getLogger(__name__)

STREAMS = ("JOURNAL", "LOG", "BLOB", "LEASE")
#: How long the group may take to answer a question, and to do as it is told.
ASK_S = 2.0
DO_S = 10.0
TRY_S = 1.0
QUORUM_S = 0.5
RETRY_S = 0.1
#: A server that the group's leader has not heard of for so long is offline: it hears of each one
#: every second, and calls it that only much later, unless it said goodbye.
SILENT_NS = 5 * 10**9
#: What stands before the id of a server whose name nobody remembers.
NAMELESS = "peer-"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NOT_A_MEMBER = 10044


class _Peer(msgspec.Struct):
    name: str = ""
    peer: str = ""
    current: bool = False
    offline: bool = False
    active: int = 0  # nanoseconds since it was heard of


class _Meta(msgspec.Struct):
    leader: str = ""
    cluster_size: int = 0
    replicas: list[_Peer] = []


class _Name(msgspec.Struct):
    name: str = ""


class _Pong(msgspec.Struct):
    server: _Name = msgspec.field(default_factory=_Name)


class _Copy(msgspec.Struct):
    """A server's copy of a stream."""

    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0

    @property
    def holes(self) -> int:
        return self.last_seq - self.first_seq + 1 - self.messages


class _StreamDetail(msgspec.Struct):
    name: str = ""
    state: _Copy = msgspec.field(default_factory=_Copy)


class _AccountDetail(msgspec.Struct):
    stream_detail: list[_StreamDetail] = []


class _JetStream(msgspec.Struct):
    meta_cluster: _Meta = msgspec.field(default_factory=_Meta)
    account_details: list[_AccountDetail] = []


class _Who(msgspec.Struct):
    name: str = ""


class _Report(msgspec.Struct):
    """What a server answers to a question that goes to all."""

    server: _Who
    data: _JetStream = msgspec.field(default_factory=_JetStream)


class _Look(msgspec.Struct):
    """The journal's copies at one time, by server."""

    copies: dict[str, _Copy]

    def lacking(self, former: _Look) -> set[str]:
        """Return whose copy has less than another, or not even what was there a look ago."""
        if not self.copies:
            return set()
        first = min(copy.first_seq for copy in self.copies.values())
        holes = min(copy.holes for copy in self.copies.values())
        last = max((copy.last_seq for copy in former.copies.values()), default=0)
        return {
            name
            for name, copy in self.copies.items()
            if copy.first_seq > first or copy.holes > holes or copy.last_seq < last
        }


_reports = msgspec.json.Decoder(_Report)
_answers = msgspec.json.Decoder(Answer)


class NatsEnsemble:
    """See :class:`rota.ports.ensemble.Ensemble`.

    ``client`` is one for the data, ``system`` one for the ensemble. ``known`` tells of the voters:
    after a restart the group has only the id of a server that did not come back, not its name.
    """

    def __init__(
        self, client: Client, system: Client, known: Callable[[], Iterable[Voter]] = tuple
    ) -> None:
        self._known = known
        self._streams = tuple(Stream(client, name) for name in STREAMS)
        self._system = system
        self._look = _Look({})
        self._suspects: set[str] = set()

    async def seats(self) -> Sequence[Seat]:
        """Return all servers of the group, by name; one question to all."""
        return self._seats(await self._meta())

    def _seats(self, meta: _Meta) -> list[Seat]:
        names = {peer_id(voter.server): voter.server for voter in self._known()}
        seats = [Seat(meta.leader, is_leader=True)]
        for peer in meta.replicas:
            is_named = peer.name != "" and peer_id(peer.name) == peer.peer
            name = peer.name if is_named else names.get(peer.peer, f"{NAMELESS}{peer.peer}")
            is_offline = peer.offline or peer.active > SILENT_NS
            seats.append(Seat(name, is_current=peer.current, is_offline=is_offline))
        return sorted(seats, key=lambda seat: seat.server)

    async def _meta(self) -> _Meta:
        """Return the group as its leader sees it."""
        try:
            reports = await self._ask_all({}, _is_leaders)
        except UnavailableError as error:
            raise UnavailableError(
                "no quorum: the engine's servers have no leader", hint=error.hint or error.message
            ) from error
        return next(filter(_is_leaders, reports)).data.meta_cluster

    async def _ask_all(
        self, wish: dict[str, object], is_last: Callable[[_Report], bool]
    ) -> list[_Report]:
        def ends(message: Msg) -> bool:
            return is_last(_reports.decode(message.data))

        found = await self._system.request_many(
            "$SYS.REQ.SERVER.PING.JSZ", msgspec.json.encode(wish), within_s=ASK_S, is_last=ends
        )
        return [_reports.decode(message.data) for message in found]

    async def copies(self) -> tuple[int, bool]:
        """Return how many copies there are, and whether all are whole; a round trip a stream."""
        infos = await self._infos()
        counts = [_count(info) for info in infos]
        return min(counts, default=0), all(map(_is_whole, infos))

    async def _infos(self) -> list[Info]:
        """Return what is said of each of our streams that is there."""
        found = [await stream.info(ASK_S) for stream in self._streams]
        return [info for info in found if info is not None]

    async def replicate(self, copies: int) -> None:
        """Ask for ``copies`` of every stream of ours."""
        for stream in self._streams:
            await stream.replicate(copies, DO_S)

    async def evacuate(self, server: str) -> None:
        """Ask a living server to hand over what it keeps and leads."""
        await self._depose(server)
        await self._do("$JS.API.SERVER.EVACUATE", {"peer": server}, lambda _: False)

    async def _depose(self, server: str) -> None:
        """Let another server lead the group, if this one does and there is another."""
        async with asyncio.timeout(DO_S):
            while True:
                seats = await self.seats()
                heir = next((s for s in seats if s.server != server and _is_fit(s)), None)
                leads = any(seat.is_leader and seat.server == server for seat in seats)
                if not leads or heir is None:
                    return
                wish = {"placement": {"preferred": heir.server}}
                await self._try("$JS.API.META.LEADER.STEPDOWN", wish)
                await asyncio.sleep(RETRY_S)

    async def keeps(self, server: str) -> bool:
        """Whether ``server`` still keeps a copy of any stream of ours; a round trip a stream."""
        return any(peer_id(server) in _keepers(info) for info in await self._infos())

    async def remove(self, server: str) -> None:
        """Take a server out of the group for good, alive or dead."""
        await self._depose(server)
        if all(seat.server != server for seat in await self.seats()):
            return
        wish = {"peer": server, "peer_id": peer_id(server)}
        await self._do("$JS.API.SERVER.REMOVE", wish, lambda f: f.err_code == _NOT_A_MEMBER)

    async def damaged(self) -> Sequence[str]:
        """Return whose copy of the journal lacks what others have, now and a call ago."""
        seats = await self.seats()
        present = {seat.server for seat in seats if not seat.is_offline}
        current = {seat.server for seat in seats if _is_fit(seat)} & await self._settled()
        look, former = await self._look_at_copies(present), self._look
        lacking = look.lacking(former) & current
        damaged, self._suspects = lacking & self._suspects, lacking
        self._look = look
        return sorted(damaged)

    async def _settled(self) -> set[str]:
        """Return the servers whose copy of the journal has all there is, as its leader says."""
        info = await self._streams[0].info(ASK_S)
        if info is None:
            return set()
        followers = (each for each in info.cluster.replicas if each.current and not each.offline)
        return {info.cluster.leader, *(each.name for each in followers)}

    async def _look_at_copies(self, servers: set[str]) -> _Look:
        heard: dict[str, _Report] = {}

        def is_last(report: _Report) -> bool:
            heard[report.server.name] = report
            return servers <= heard.keys()

        wish: dict[str, object] = {"accounts": True, "streams": True, "account": ACCOUNT}
        try:
            await self._ask_all(wish, is_last)
        except UnavailableError as error:
            log.debug("not all of %s told of their copies: %s", sorted(servers), error.message)
        return _Look(
            {
                name: detail.state
                for name, report in heard.items()
                for account in report.data.account_details
                for detail in account.stream_detail
                if detail.name == STREAMS[0]
            }
        )

    async def reachable(self) -> Sequence[str]:
        """Return the servers that answer; it takes a second."""
        names: set[str] = set()

        def is_last(message: Msg) -> bool:
            names.add(msgspec.json.decode(message.data, type=_Pong).server.name)
            return False

        with suppress(UnavailableError):  # nobody says that this was the last one
            await self._system.request_many(
                "$SYS.REQ.SERVER.PING", b"", within_s=1.0, is_last=is_last
            )
        return sorted(names)

    async def has_quorum(self) -> bool:
        """Return whether most of the voters' servers answer, at the latest after half a second."""
        servers = {voter.server for voter in self._known()}
        heard: set[str] = set()

        def is_last(message: Msg) -> bool:
            heard.add(msgspec.json.decode(message.data, type=_Pong).server.name)
            return 2 * len(heard & servers) > len(servers)

        try:
            await self._system.request_many(
                "$SYS.REQ.SERVER.PING", b"", within_s=QUORUM_S, is_last=is_last
            )
        except UnavailableError:
            return False
        return True

    async def rescue(self, quorum: int) -> Sequence[str]:
        """Let ``quorum`` servers be enough; return who agreed, at the latest after two seconds."""
        agreed: set[str] = set()

        def is_last(message: Msg) -> bool:
            answer = msgspec.json.decode(message.data, type=_Agreed)
            if answer.error is None:
                agreed.add(answer.server)
            else:
                log.warning("no rescue for %s: %s", answer.server, answer.error.description)
            return len(agreed) >= quorum

        wish = msgspec.json.encode({"quorum_needed": quorum})
        try:
            await self._system.request_many(
                "$JS.API.META.RESCUE", wish, within_s=ASK_S, is_last=is_last
            )
        except UnavailableError:
            if not agreed:
                raise UnavailableError(
                    "no server of the engine agreed to go on with fewer",
                    hint="they agree once they have been without a leader for ten seconds",
                ) from None
        return sorted(agreed)

    async def _do(self, subject: str, wish: object, is_done: Callable[[Failure], bool]) -> None:
        """Have the group's leader do something; one that is not ready yet is asked again."""
        loop = asyncio.get_running_loop()
        end = loop.time() + DO_S
        while True:
            failure = await self._try(subject, wish)
            if failure is None or is_done(failure):
                return
            if loop.time() >= end:
                raise UnavailableError(f"the engine's servers refuse: {failure.description}")
            await asyncio.sleep(RETRY_S)

    async def _try(self, subject: str, wish: object) -> Failure | None:
        try:
            raw = await self._system.request(subject, msgspec.json.encode(wish), within_s=TRY_S)
            return _answers.decode(raw.data).error
        except UnavailableError as error:
            return Failure(description=error.message)
        except msgspec.MsgspecError:
            return Failure(description="nobody leads them")


def peer_id(server: str) -> str:
    """Return a server's id in its Raft groups, which follows from its name."""
    if server.startswith(NAMELESS):
        return server.removeprefix(NAMELESS)
    digest = hashlib.sha256(server.encode()).digest()
    return "".join(_DIGITS[byte % len(_DIGITS)] for byte in digest[:8])


def _is_leaders(report: _Report) -> bool:
    """Whether it is the answer of the group's leader: only that one knows of the others."""
    return report.data.meta_cluster.leader == report.server.name


def _is_fit(seat: Seat) -> bool:
    return seat.is_current and not seat.is_offline


def _count(info: Info) -> int:
    wanted = info.config.get("num_replicas", 1)
    return wanted if isinstance(wanted, int) else 1


def _is_whole(info: Info) -> bool:
    """Whether each copy that there should be is there, and up to date."""
    followers = [each for each in info.cluster.replicas if each.current and not each.offline]
    return len(followers) == len(info.cluster.replicas) == _count(info) - 1


def _keepers(info: Info) -> set[str]:
    """Return the ids of the servers that keep a stream."""
    return {peer_id(info.cluster.leader), *(each.peer for each in info.cluster.replicas)}


class _Agreed(msgspec.Struct):
    """What each server answers to a rescue."""

    server: str = ""
    error: Failure | None = None

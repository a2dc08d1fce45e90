"""Whether this agent's journal, history, definitions and logs are what they were.

An inspector reads store and index, apart from the agent. What only the agent can tell is asked here:
whether the journal comes to the chain that the history says, whether the logs have the digests of
their records, and whether other agents have the same history.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Iterator

import msgspec

from rota.core.audit import Flaw, Head, Progress, Step, Summary, read_head
from rota.core.build import Build
from rota.core.chain import Anchor, link, read_anchor
from rota.core.events import HistorySealed, kind_of
from rota.core.records import covered
from rota.errors import ConflictError, InputError, NotFoundError, RotaError, UnavailableError
from rota.ports.logs import LogKey
from rota.ports.peers import Peer
from rota.ports.store import HISTORY
from rota.service import audit_messages as a
from rota.service.context import Principal, Service

_TURN = "audit verify"
PAGE = 200
#: Logs that are read at the same time.
AHEAD = 8
PEER_S = 5.0
#: Between two words of how far it is.
STEP = 1000

_encoder = msgspec.json.Encoder()


async def verify(
    service: Service, request: a.VerifyRequest, who: Principal
) -> AsyncGenerator[bytes]:
    """Yield a line of JSON for each flaw and for how far it is, and one at the end (`Verified`).

    Cost: as of the inspector; and all logs are read, where that is asked for.

    Raises:
        InputError: what was kept is no head.
        ConflictError: somebody else has it verified right now.
        UnavailableError: this agent cannot.
    """
    heads = _heads(request.head)
    turn = service.turn(_TURN)
    if turn.locked():
        raise ConflictError(
            "this agent is being verified already", hint="wait for that; or ask another agent"
        )
    count = _Count()
    async with turn:
        asked = _Asked(service)
        try:
            async with contextlib.aclosing(_steps(service, request, heads, asked, count)) as steps:
                async for step in steps:
                    count.flaws += isinstance(step, Flaw)
                    if not isinstance(step, Summary):
                        count.has_begun = True
                        yield _line(step)
        except UnavailableError as error:
            if not count.has_begun:
                raise
            yield _line(a.BrokeOff(text=error.message, hint=error.hint or ""))
            return
    summary = count.summary
    yield _line(
        a.Verified(
            agent=service.me.name,
            flaws=count.flaws,
            commits=summary.commits,
            records=summary.records,
            deeds=summary.deeds,
            moves=summary.moves,
            events=count.events,
            logs=count.logs,
            gone=count.gone,
            agents=count.agents,
            older=summary.older,
            since=summary.since,
            line=summary.head.line() if summary.head.commit else "",
        )
    )


class _Count:
    """What was looked at."""

    def __init__(self) -> None:
        self.flaws = self.events = self.logs = self.gone = self.agents = 0
        self.summary = Summary()
        self.has_begun = False


async def _steps(
    service: Service, request: a.VerifyRequest, heads: list[Head], asked: _Asked, count: _Count
) -> AsyncGenerator[Step]:
    if service.inspector is None:
        raise UnavailableError("this agent has no inspector")
    # Others first: what they have is then here as well, if all is well.
    async for step in asked.ask():
        yield step
    async with contextlib.aclosing(service.inspector.inspect(heads)) as steps:
        async for step in steps:
            if isinstance(step, Summary):
                count.summary = step
            yield step
    async for step in _main(service, count.summary):
        yield step
    anchors = await _anchors(service, asked.oldest)
    for step in asked.compared(anchors):
        yield step
    count.agents = len(asked.heads)
    async with contextlib.aclosing(_journal(service, anchors, count)) as found:
        async for step in found:
            yield step
    if request.logs:
        async with contextlib.aclosing(_logs(service, count)) as found:
            async for step in found:
                yield step


async def _main(service: Service, summary: Summary) -> AsyncGenerator[Step]:
    """Yield what is wrong where ``main`` is not where the journal moved it."""
    moved = service.world.cluster.picture.refs.get("main", "")
    if moved and summary.main and not await service.store.contains(moved, summary.main):
        text = f"the branch is there, and the journal moved it to {moved}"
        yield Flaw("main", f"commit {summary.main}", text)


class _Place(msgspec.Struct, frozen=True):
    """An anchor, the commit that it stands in, and up to where that covers the journal."""

    commit: str
    anchor: Anchor
    covers: int


async def _anchors(service: Service, oldest: int) -> list[_Place]:
    """Return the anchors that the journal, or what others said, reaches back to; the oldest first."""
    first, _ = await service.journal.bounds()
    first = min(first, oldest) if oldest else first
    found: list[_Place] = []
    last = 2**63
    async with contextlib.aclosing(service.store.log()) as log:
        async for logged in log:
            anchor = read_anchor(logged.message)
            if anchor is None or anchor.seq < first or anchor.seq >= last:
                break
            last = anchor.seq
            found.append(_Place(logged.commit, anchor, covered(logged.message)))
    found.reverse()
    return found


async def _journal(service: Service, places: list[_Place], count: _Count) -> AsyncGenerator[Step]:
    """Fold the chain anew from the oldest anchor that the journal still has."""
    first, _ = await service.journal.bounds()
    # A journal that begins where another one's history ends uses sequences of that one again.
    own = [it for it in places if it.covers >= first]
    start = own[0].anchor if own else Anchor()
    world, picture = service.world, service.world.cluster.picture
    known = {it.anchor.seq: (f"commit {it.commit}", it.anchor.chain) for it in own}
    end = picture.seq
    if picture.chain:
        known.setdefault(end, ("what this agent folded", picture.chain))
    formers: dict[str, None] = {}
    chain, since, is_named = "", start.seq, False
    async with contextlib.aclosing(service.journal.read()) as entries:
        async for entry in entries:
            if entry.seq > end:
                break
            count.events += 1
            if isinstance(entry.event, HistorySealed):
                formers[entry.event.former] = None
            folded = world.digest(entry.seq)
            if folded and folded != entry.digest:
                is_named = True
                text = f"{kind_of(entry.event)} has other bytes than this agent folded"
                yield Flaw("journal", f"event {entry.seq}", text)
            chain = link(chain, entry.seq, entry.digest) if chain else ""
            witness, said = known.get(entry.seq, ("", ""))
            if said:
                if chain not in ("", said) and not is_named:
                    where = f"events {since + 1} to {entry.seq}"
                    text = f"their bytes do not come to the chain that {witness} says"
                    yield Flaw("journal", where, text)
                chain, since, is_named = said, entry.seq, False
            if count.events % STEP == 0:
                yield Progress("journal", entry.seq - first, end - first)
    head = await service.store.head(HISTORY)
    here = {"", *(it.commit for it in places)}
    gone = [it for it in formers if it not in here and not await service.store.contains(head, it)]
    if gone:
        more = f"; nor {len(gone) - 1} that later ones name" if len(gone) > 1 else ""
        text = f"a seal of the journal names it, and the history does not have it{more}"
        yield Flaw("commit", f"commit {gone[0]}", text)


# -- other agents -----------------------------------------------------------------------------


class _Asked:
    """What other agents say their histories end with."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.heads: dict[str, Head] = {}

    @property
    def oldest(self) -> int:
        """The lowest sequence among them; 0 if nobody said any."""
        return min((head.seq for head in self.heads.values()), default=0)

    async def ask(self) -> AsyncGenerator[Step]:
        """Ask all that are up; who does not answer is not compared."""
        peers, me = self._service.peers, self._service.me.name
        agents = self._service.world.cluster.picture.agents.values()
        others = [it for it in agents if it.is_up and it.name != me and it.pin and it.peer]
        if peers is None or not others:
            return
        each = (self._ask(Peer(it.name, it.peer, it.pin)) for it in others)
        for name, head in await asyncio.gather(*each):
            if head is not None:
                self.heads[name] = head
        yield Progress("agents", len(self.heads), len(others))

    async def _ask(self, peer: Peer) -> tuple[str, Head | None]:
        assert self._service.peers is not None
        try:
            raw = await self._service.peers.request(peer, "GET", "/v1/audit/head", within_s=PEER_S)
            view = msgspec.json.decode(raw, type=a.HeadView)
        except (RotaError, msgspec.MsgspecError):
            return peer.name, None
        return peer.name, Head(view.seq, view.chain, view.commit)

    def compared(self, places: list[_Place]) -> Iterator[Flaw]:
        """Yield where another agent has another history, as far as this one reaches."""
        mine = {it.anchor.seq: (it.commit, it.anchor.chain) for it in places}
        last = max(mine, default=0)
        for name, head in sorted(self.heads.items()):
            if head.seq > last:
                continue
            if mine.get(head.seq) != (head.commit, head.chain):
                text = (
                    f"its history has commit {head.commit} for the seal {head.seq}, and this agent's "
                    f"has {mine.get(head.seq, ('none',))[0]}: one of them was changed"
                )
                yield Flaw("agent", name, text)


# -- logs -------------------------------------------------------------------------------------


async def _logs(service: Service, count: _Count) -> AsyncGenerator[Step]:
    """Hash all logs that are there anew, of the newest builds first."""
    before: int | None = None
    while page := service.world.past(job=None, result=None, before=before, limit=PAGE):
        before = page[-1].requested_seq
        wanted = [it for build in page for it in _digests(build)]
        for at in range(0, len(wanted), AHEAD):
            each = (_log(service, *it) for it in wanted[at : at + AHEAD])
            for flaw, is_gone in await asyncio.gather(*each):
                count.logs += not is_gone
                count.gone += is_gone
                if (count.logs + count.gone) % STEP == 0:
                    yield Progress("logs", count.logs + count.gone)
                if flaw is not None:
                    yield flaw


def _digests(build: Build) -> Iterator[tuple[Build, int, int, str]]:
    """Yield the attempts of a build whose logs' digests are on record: number, bytes, digest."""
    for former in build.former:
        if former.log_sha256:
            yield build, former.attempt, former.log_bytes, former.log_sha256
    if build.log_sha256:
        yield build, build.attempt, build.log_bytes, build.log_sha256


async def _log(
    service: Service, build: Build, attempt: int, length: int, expected: str
) -> tuple[Flaw | None, bool]:
    """Return what is wrong with a log, and whether it is not kept any more."""
    digest, size = hashlib.sha256(), 0
    key = LogKey(build.id, attempt)
    try:
        async with contextlib.aclosing(service.logs.read(key)) as pieces:
            async for piece in pieces:
                digest.update(piece)
                size += len(piece)
    except NotFoundError:
        return None, True
    if not size and length:
        return None, True
    where = f"{build.ref}, attempt {attempt}"
    if size != length:
        return Flaw("log", where, f"it has {size} bytes, and the record says {length}"), False
    if digest.hexdigest() != expected:
        text = f"its SHA-256 is {digest.hexdigest()}, and the record says {expected}"
        return Flaw("log", where, text), False
    return None, False


def _heads(text: str) -> list[Head]:
    heads = []
    for line in filter(str.strip, text.split("\n")):
        head = read_head(line)
        if head is None:
            raise InputError(
                f"{line[:100]!r} is no head of a history",
                hint="what rota audit head printed: rota-audit-1 SEQUENCE CHAIN COMMIT",
            )
        heads.append(head)
    return heads


def _line(value: object) -> bytes:
    return _encoder.encode(value) + b"\n"

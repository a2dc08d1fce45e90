"""Streams, as the journal, the logs and the blobs use them.

Nothing here makes a consumer. Reading is by direct get, in batches that bound the memory; following
is a feed of what the server publishes again once it is stored, and every doubt (a reconnect, a hole
in the sequences, a while of silence) is settled by reading. So there is nothing at the server that
could be lost, forgotten or left behind, and a restart of the engine is only a pause.
"""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec

from rota.errors import FencedError, StaleError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping

    from nats.aio.msg import Msg

    from rota.adapters.nats.client import Client

T = TypeVar("T")

#: How long one try of a call may take, and all tries of it together.
TRY_S = 1.0
LIMIT_S = 5.0
RETRY_S = 0.05
#: How long a write waits for its answer before it is asked for again: what is under way while the
#: stream's leader hands over is answered by nobody.
ACK_S = 0.4
#: How soon a write is tried again that another one on the same subject is in the way of.
BUSY_RETRY_S = 0.002
#: A follower looks for itself after so long a silence: between servers a message can get lost.
PATROL_S = 5.0
#: How long a bus that has too few servers for the copies we want is asked again.
ENOUGH_S = 3.0
BATCH = 512
BATCH_BYTES = 1 << 20

_WRONG_LAST = 10071
#: The answer is not known yet: a write on the same subject, or this very one, is under way.
_BUSY = (10164, 10158)
_NO_PEERS = 10005
_NO_CLUSTER = 10074
_NOT_FOUND = 10059
_UNAVAILABLE = 503


class Failure(msgspec.Struct):
    """An error of the server's API."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    seq: int = 0
    error: Failure | None = None


class Bounds(msgspec.Struct, frozen=True):
    """What is there: sequences and, if asked for, the number of messages."""

    first_seq: int = 0
    last_seq: int = 0
    messages: int = 0
    bytes: int = 0
    subjects: dict[str, int] | None = None


class Replica(msgspec.Struct, frozen=True):
    """A copy that follows."""

    name: str = ""
    peer: str = ""
    current: bool = False
    offline: bool = False


class Group(msgspec.Struct, frozen=True):
    """Who keeps a stream."""

    leader: str = ""
    replicas: tuple[Replica, ...] = ()


class Info(msgspec.Struct):
    """What the engine says of a stream."""

    state: Bounds = Bounds()
    config: dict[str, object] = {}
    cluster: Group = Group()
    total: int = 0  # of subjects, if they were asked for
    error: Failure | None = None


class _Message(msgspec.Struct):
    """A message as the stream's leader tells it; the data is in base64."""

    subject: str
    seq: int
    data: bytes = b""


class _Got(msgspec.Struct):
    message: _Message | None = None
    error: Failure | None = None


class Stored(msgspec.Struct, gc=False):
    """A message as it lies in a stream."""

    seq: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def subject(self) -> str:
        """Where it was published."""
        return self.headers["Nats-Subject"]

    @property
    def at(self) -> datetime:
        """When it was stored, to the second, by the server's clock."""
        return datetime.fromisoformat(self.headers["Nats-Time-Stamp"][:19] + "+00:00")


class Spec(msgspec.Struct, frozen=True):
    """A stream to be: what of its configuration is ours to say."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int = -1
    max_age: int = 0  # nanoseconds
    max_msgs_per_subject: int = -1
    duplicate_window: int = 30 * 10**9
    retention: str = "limits"
    storage: str = "file"
    discard: str = "old"
    allow_direct: bool = True
    republish: dict[str, str] | None = None


_SAFE = re.compile(r"[A-Za-z0-9_/+=-]+(\.[A-Za-z0-9_/+=-]+)*")
_acks = msgspec.json.Decoder(_Ack)
_infos = msgspec.json.Decoder(Info)
_gots = msgspec.json.Decoder(_Got)


class Stream:
    """One stream of the engine, by name.

    With several copies any of them answers what is read; it may lag behind, and a bad disk may have
    eaten a part of it. Where something seems to be missing, the stream's leader is asked. In a
    stream that ``is_dense`` every hole seems so: its messages go by age alone.
    """

    def __init__(self, client: Client, name: str, *, is_dense: bool = False) -> None:
        self.client = client
        self.name = name
        self._is_dense = is_dense
        self._direct = f"$JS.API.DIRECT.GET.{name}"

    async def ensure(
        self,
        spec: Spec,
        *,
        first: int = 1,
        as_found: Collection[str] = (),
        within_s: float = 15.0,
    ) -> None:
        """Create the stream, or give it the settings of ``spec``. Safe to call twice.

        Where it is created, its first message will have the sequence ``first``; where it is there,
        the settings ``as_found`` stay as they are.

        Raises:
            UnavailableError: the server did not agree in time.
        """
        wanted = {k: v for k, v in msgspec.to_builtins(spec).items() if v is not None}
        info = await self._api("INFO", b"", within_s)
        if info.error is not None and info.error.err_code == _NOT_FOUND:
            begun = {"first_seq": first} if first > 1 else {}
            await self._create({**wanted, **begun}, within_s)
            return
        if info.error is not None:
            raise self._refusal(info.error)
        wanted = {key: value for key, value in wanted.items() if key not in as_found}
        if any(info.config.get(key) != value for key, value in wanted.items()):
            await self._order("UPDATE", {**info.config, **wanted}, within_s)

    async def _create(self, wanted: dict[str, object], within_s: float) -> None:
        """Make the stream with as many copies as the journal has.

        Never with fewer: right after a restart too few servers may be known for a moment, and
        nobody would look after a stream that got one copy then. Where there is no journal either,
        on a bus, there may be too few for good.
        """
        copies = await self._copies_of_journal()
        if copies is None and self.client.copies > 1:
            if await self._has_created(wanted, self.client.copies):
                return
            copies = 1
        config = {**wanted, "num_replicas": copies or self.client.copies}
        await self._order("CREATE", config, within_s)

    async def _copies_of_journal(self) -> int | None:
        info = await Stream(self.client, "JOURNAL").info()
        copies = None if info is None else info.config.get("num_replicas")
        return copies if isinstance(copies, int) else None

    async def _has_created(self, wanted: dict[str, object], copies: int) -> bool:
        """Make the stream with so many copies; ``False`` if there are too few servers for good."""
        loop = asyncio.get_running_loop()
        end = loop.time() + ENOUGH_S
        while True:
            info = await self._ask("CREATE", {**wanted, "num_replicas": copies}, TRY_S)
            failure = None if info is None else info.error
            if info is not None and failure is None:
                return True
            if failure is not None and not _is_early(failure) and failure.err_code != _NO_CLUSTER:
                raise self._refusal(failure)
            if failure is not None and failure.err_code == _NO_CLUSTER:
                return False
            if loop.time() >= end:
                if failure is not None and failure.err_code == _NO_PEERS:
                    return False
                raise UnavailableError("the engine is not ready", hint=self.client.trouble)
            await asyncio.sleep(RETRY_S)

    async def _ask(self, verb: str, body: object, within_s: float) -> Info | None:
        """Ask the API once; ``None`` if nobody is there to answer."""
        subject = f"$JS.API.STREAM.{verb}.{self.name}"
        raw = await self.client.request(subject, msgspec.json.encode(body), within_s=within_s)
        return None if _is_nobody(raw) else _infos.decode(raw.data)

    async def _order(self, verb: str, config: object, within_s: float) -> None:
        info = await self._api(verb, msgspec.json.encode(config), within_s)
        if info.error is not None:
            raise self._refusal(info.error)

    def _refusal(self, failure: Failure) -> UnavailableError:
        return UnavailableError(
            f"the engine refuses the stream {self.name}: {failure.description}",
            hint=self.client.trouble,
        )

    async def info(self, within_s: float = LIMIT_S) -> Info | None:
        """Return what the engine knows of the stream; ``None`` if there is no such stream.

        Raises:
            UnavailableError: no answer in time, or the stream has no leader.
        """
        info = await self._api("INFO", b"", within_s)
        if info.error is None:
            return info
        if info.error.err_code == _NOT_FOUND:
            return None
        raise self._refusal(info.error)

    async def replicate(self, copies: int, within_s: float) -> None:
        """Ask for so many copies; without the stream nothing happens.

        Raises:
            UnavailableError: the server did not agree in time.
        """
        info = await self.info(within_s)
        if info is not None and info.config.get("num_replicas") != copies:
            await self._order("UPDATE", {**info.config, "num_replicas": copies}, within_s)

    async def bounds(self) -> Bounds:
        """Return what the stream holds, as its leader knows it. Cost: one round trip.

        Raises:
            UnavailableError: no answer in time, or the stream has no leader.
        """
        info = await self._api("INFO", b"", LIMIT_S, is_led=True)
        if info.error is not None:
            raise UnavailableError(
                f"the engine has no stream {self.name}: {info.error.description}",
                hint=self.client.trouble,
            )
        return info.state

    async def subjects(self, pattern: str) -> AsyncGenerator[list[str], None]:
        """Yield the subjects that match ``pattern`` and have a message, in pages; unsorted.

        Cost: the server lists them all for each page of up to a hundred thousand.

        Raises:
            UnavailableError: no answer in time.
        """
        offset = 0
        while True:
            wish = {"subjects_filter": pattern, "offset": offset}
            info = await self._api("INFO", msgspec.json.encode(wish), LIMIT_S)
            if info.error is not None:
                raise UnavailableError(
                    f"the engine has no stream {self.name}: {info.error.description}",
                    hint=self.client.trouble,
                )
            page = list(info.state.subjects or ())
            if page:
                yield page
            offset += len(page)
            if not page or offset >= info.total:
                return

    async def purge(self, *, subject: str | None = None, before: int | None = None) -> None:
        """Forget the messages of ``subject`` (all without it) below the sequence ``before``.

        Raises:
            UnavailableError: no answer in time; it may still have been done.
        """
        wish: dict[str, object] = {}
        if subject is not None:
            wish["filter"] = subject
        if before is not None:
            wish["seq"] = before
        await self._order("PURGE", wish, LIMIT_S)

    async def _api(self, verb: str, body: bytes, within_s: float, *, is_led: bool = False) -> Info:
        """Ask the API; a server that is not ready yet is asked again.

        With ``is_led`` only what a leader says is taken: a server that was started without a quorum
        answers for its own copy at first, which may lack what others have.
        """
        subject = f"$JS.API.STREAM.{verb}.{self.name}"

        async def ask(try_s: float) -> Info | None:
            raw = await self.client.request(subject, body, within_s=try_s)
            info = None if _is_nobody(raw) else _infos.decode(raw.data)
            if info is None or _is_early(info.error) or (is_led and _is_leaderless(info)):
                return None
            return info

        return await patiently(self.client, ask, within_s, try_s=max(TRY_S, within_s / 3))

    async def publish(
        self,
        subject: str,
        data: bytes,
        msg_id: str,
        expect: int | None,
        fence: tuple[str, int] | None = None,
    ) -> int:
        """Store ``data`` and return its sequence once it is on disk.

        An answer that got lost is asked for again, with the same ``msg_id``, so that nothing is
        stored twice; and if the condition then fails because of ourselves, that is success.

        Args:
            subject: Where.
            data: What.
            msg_id: Used for nothing else, ever.
            expect: The last message of ``subject`` must be this one (0: there is none).
            fence: The same for any one subject; not together with ``expect``.

        Raises:
            StaleError: the last message of ``subject`` is not ``expect``.
            FencedError: the last message of the fence's subject is not the fence's.
            UnavailableError: not confirmed within ``LIMIT_S``.
        """
        headers = {"Nats-Msg-Id": msg_id}
        if expect is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expect)
        elif fence is not None:
            headers["Nats-Expected-Last-Subject-Sequence-Subject"] = fence[0]
            headers["Nats-Expected-Last-Subject-Sequence"] = str(fence[1])
        try:
            ack = await self._publish_once(subject, data, headers, min(ACK_S, TRY_S))
        except UnavailableError:
            ack = None
        if ack is None:
            ack = await self._publish_again(subject, data, headers)
            if _is_wrong_last(ack.error):
                # It may be so because of our own first try, which only its answer was lost of.
                after = fence[1] if fence else expect or 0
                if (seq := await self._find(subject, after + 1, msg_id)) is not None:
                    return seq
        return ack.seq if ack.error is None else self._refused(ack.error, fenced=fence is not None)

    async def refresh(self, subject: str, data: bytes, within_s: float) -> None:
        """Store ``data``, which may be stored twice.

        Raises:
            UnavailableError: not confirmed within ``within_s`` seconds.
        """

        async def ask(try_s: float) -> _Ack | None:
            return await self._publish_once(subject, data, {}, try_s)

        ack = await patiently(self.client, ask, within_s, try_s=ACK_S, retry_s=BUSY_RETRY_S)
        if ack.error is not None:
            raise UnavailableError(
                f"the engine refuses to write: {ack.error.description}", hint=self.client.trouble
            )

    async def _publish_once(
        self, subject: str, data: bytes, headers: Mapping[str, str], within_s: float
    ) -> _Ack | None:
        """Return the answer; ``None`` if the server is not ready to give one."""
        raw = await self.client.request(subject, data, headers, within_s=within_s)
        ack = None if _is_nobody(raw) else _acks.decode(raw.data)
        return None if ack is None or _is_early(ack.error) else ack

    async def _publish_again(self, subject: str, data: bytes, headers: Mapping[str, str]) -> _Ack:
        async def ask(try_s: float) -> _Ack | None:
            return await self._publish_once(subject, data, headers, try_s)

        try:
            return await patiently(self.client, ask, LIMIT_S - ACK_S, retry_s=BUSY_RETRY_S)
        except UnavailableError as error:
            self.client.complain()
            raise UnavailableError(
                f"the engine did not confirm within {LIMIT_S:.3g} s",
                hint=self.client.trouble or error.hint or error.message,
            ) from None

    async def _find(self, subject: str, start: int, msg_id: str) -> int | None:
        """Return the sequence of a message of ours, if it is there from ``start`` on."""
        while found := await self.batch(subject, start):
            for each in found:
                if each.headers.get("Nats-Msg-Id") == msg_id:
                    return each.seq
            start = found[-1].seq + 1
        return None

    def _refused(self, failure: Failure, *, fenced: bool) -> int:
        if _is_wrong_last(failure) and fenced:
            raise FencedError("another leader was elected")
        if _is_wrong_last(failure):
            raise StaleError("somebody else wrote first")
        self.client.complain()
        raise UnavailableError(
            f"the engine refuses to write: {failure.description}", hint=self.client.trouble
        )

    async def next(self, subject: str, start: int) -> Stored | None:
        """Return the first message of ``subject`` (or a pattern) from sequence ``start`` on."""
        return await self._get({"seq": max(start, 1), "next_by_subj": subject})

    async def last(self, subject: str) -> Stored | None:
        """Return the last message of ``subject`` (or a pattern)."""
        return await self._get({"last_by_subj": subject})

    async def surely_last(self, subject: str) -> Stored | None:
        """Return the last message of ``subject``, which no other copy has a later one of.

        Only where the stream has no leader that answers soon, it is the last that is known here.
        """
        wish: dict[str, object] = {"last_by_subj": subject}
        try:
            return await self._from_leader(msgspec.json.encode(wish), within_s=TRY_S)
        except UnavailableError:
            return await self._get(wish)

    async def _get(self, wish: dict[str, object]) -> Stored | None:
        body = msgspec.json.encode(wish)

        async def ask(try_s: float) -> list[Stored] | None:
            raw = await self.client.request(self._direct, body, within_s=try_s)
            return None if _is_nobody(raw) else [] if _is_end(raw) else [stored(raw)]

        found = await patiently(self.client, ask, LIMIT_S)
        return found[0] if found else await self._from_leader(body)

    async def _from_leader(self, wish: bytes, within_s: float = LIMIT_S) -> Stored | None:
        """Return a message as the stream's leader has it; ``None`` if there is none.

        Its headers are not taken along, but for the subject.
        """
        subject = f"$JS.API.STREAM.MSG.GET.{self.name}"

        async def ask(try_s: float) -> _Got | None:
            raw = await self.client.request(subject, wish, within_s=try_s)
            got = None if _is_nobody(raw) else _gots.decode(raw.data)
            return None if got is None or _is_early(got.error) else got

        message = (await patiently(self.client, ask, within_s)).message
        if message is None:
            return None
        return Stored(message.seq, {"Nats-Subject": message.subject}, message.data)

    async def batch(self, subject: str, start: int, limit: int = BATCH) -> list[Stored]:
        """Return the next messages of ``subject`` (or a pattern) from ``start`` on; maybe none.

        At most ``limit``, and not many more than ``BATCH_BYTES`` bytes. Cost: one round trip.

        Raises:
            UnavailableError: no answer in time.
        """
        body = msgspec.json.encode(
            {
                "seq": max(start, 1),
                "next_by_subj": subject,
                "batch": limit,
                "max_bytes": BATCH_BYTES,
            }
        )

        async def ask(try_s: float) -> list[Stored] | None:
            raw = await self.client.request_many(
                self._direct, body, within_s=try_s, is_last=_is_end
            )
            return None if _is_nobody(raw[-1]) else [stored(each) for each in raw[:-1]]

        return await patiently(self.client, ask, LIMIT_S, try_s=2 * TRY_S)

    async def _whole(self, subject: str, start: int, last: int) -> list[Stored]:
        """Return the next messages, as :meth:`batch` does; what a bad copy lacks is from the leader.

        ``last`` is the end of what must be there.
        """
        found = await self.batch(subject, start)
        if not found and start <= last:
            missing = await self._from_leader(_next_from(subject, start))
            return [missing] if missing is not None and missing.seq <= last else []
        if not self._is_dense or not found:
            return found
        if found[0].seq != start:
            missing = await self._from_leader(_next_from(subject, start))
            if missing is not None and missing.seq < found[0].seq:
                return [missing]
        end = next((n for n in range(1, len(found)) if found[n].seq != found[n - 1].seq + 1), None)
        return found[:end]

    async def follow(
        self,
        subject: str,
        live: str,
        start: int,
        is_next: Callable[[Stored], bool],
        *,
        limit_bytes: int = 4 << 20,
    ) -> AsyncGenerator[Stored, None]:
        """Yield the messages of ``subject`` from ``start`` on, for ever, in order, each once.

        ``live`` is where they are published again once stored. ``is_next`` says whether a message
        is the very next one; if it is not, what lies between is read.
        """
        feed = await self.client.feed(live, limit_bytes=limit_bytes)
        try:
            last = 0
            while True:
                async for each in self._catch_up(subject, start, last):
                    start = each.seq + 1
                    yield each
                while (message := await feed.next(PATROL_S)) is not None:
                    each = stored(message)
                    if each.seq < start:
                        continue
                    if not is_next(each):
                        last = each.seq
                        break
                    start = each.seq + 1
                    yield each
        finally:
            await self.client.close_feed(feed)

    async def _catch_up(self, subject: str, start: int, last: int) -> AsyncGenerator[Stored, None]:
        """Yield all there is now, up to ``last`` at least, however long it takes."""
        while True:
            try:
                found = await self._whole(subject, start, last)
            except UnavailableError:
                continue
            for each in found:
                start = each.seq + 1
                yield each
            if not found:
                return

    async def scan(self, subject: str, start: int, last: int) -> AsyncGenerator[list[Stored], None]:
        """Yield batches of ``subject`` from ``start`` up to the sequence ``last``."""
        while start <= last:
            found = await self._whole(subject, start, last)
            if not found:
                return
            yield found
            start = found[-1].seq + 1


async def patiently(
    client: Client,
    ask: Callable[[float], Awaitable[T | None]],
    within_s: float,
    *,
    try_s: float = TRY_S,
    retry_s: float = RETRY_S,
) -> T:
    """Ask until there is an answer; ``ask`` gets the seconds it may take, ``None`` is no answer.

    It is asked again after ``retry_s``, then after ever longer up to ``RETRY_S``.

    Raises:
        UnavailableError: none ``within_s`` seconds.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while True:
        failure = UnavailableError("the engine is not ready", hint=client.trouble)
        try:
            answer = await ask(min(try_s, max(end - loop.time(), RETRY_S)))
        except UnavailableError as error:
            failure, answer = error, None
        if answer is not None:
            return answer
        if loop.time() + RETRY_S >= end:
            raise failure
        await asyncio.sleep(retry_s)
        retry_s = min(1.5 * retry_s, RETRY_S)


def _next_from(subject: str, start: int) -> bytes:
    return msgspec.json.encode({"seq": max(start, 1), "next_by_subj": subject})


def _is_end(message: Msg) -> bool:
    """Whether it is a status (end of batch, not found, nobody there), not a stored message."""
    return message.headers is not None and "Status" in message.headers


def _is_nobody(message: Msg) -> bool:
    return message.headers is not None and message.headers.get("Status") == "503"


def _is_early(failure: Failure | None) -> bool:
    """Whether the server will do it in a moment: it has just started, elects, or is at it."""
    return failure is not None and (
        failure.code == _UNAVAILABLE or failure.err_code == _NO_PEERS or failure.err_code in _BUSY
    )


def _is_leaderless(info: Info) -> bool:
    """Whether several servers keep the stream, and it was none that leads them who answered."""
    copies = info.config.get("num_replicas")
    return info.error is None and isinstance(copies, int) and copies > 1 and not info.cluster.leader


def _is_wrong_last(failure: Failure | None) -> bool:
    return failure is not None and failure.err_code == _WRONG_LAST


def stored(message: Msg) -> Stored:
    """Return a message of a stream that came by direct get, or was published again."""
    headers = message.headers or {}
    return Stored(int(headers.get("Nats-Sequence", 0)), headers, message.data)


def subject_of(key: str) -> str:
    """Return ``key`` as part of a subject, dots as they are, unsafe characters percent-encoded."""
    if _SAFE.fullmatch(key):
        return key
    return ".".join(quote(word, safe="/+=") or "%" for word in key.split("."))

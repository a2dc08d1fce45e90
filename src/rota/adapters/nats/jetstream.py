"""Streams, as the journal, the logs and the blobs use them.

Nothing here makes a consumer. Reading is by direct get, in batches that bound the memory; following
is a feed of what the server publishes again once it is stored, and every doubt (a reconnect, a hole
in the sequences, a while of silence) is settled by reading. So there is nothing at the server that
could be lost, forgotten or left behind, and a restart of the engine is only a pause.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec

from rota.errors import StaleError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from nats.aio.msg import Msg

    from rota.adapters.nats.client import Client

T = TypeVar("T")

#: How long one try of a call may take, and all tries of it together.
TRY_S = 1.0
LIMIT_S = 5.0
RETRY_S = 0.05
#: A follower looks for itself after so long a silence: between servers a message can get lost.
PATROL_S = 5.0
BATCH = 512
BATCH_BYTES = 1 << 20

_WRONG_LAST = (10071, 10164)
_NO_PEERS = 10005
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


class _Info(msgspec.Struct):
    state: Bounds = Bounds()
    config: dict[str, object] = {}
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
_infos = msgspec.json.Decoder(_Info)


class Stream:
    """One stream of the engine, by name."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self._direct = f"$JS.API.DIRECT.GET.{name}"

    async def ensure(self, spec: Spec, *, within_s: float = 15.0) -> None:
        """Create the stream, or give it the settings of ``spec``. Safe to call twice.

        Raises:
            UnavailableError: the server did not agree in time.
        """
        wanted = {k: v for k, v in msgspec.to_builtins(spec).items() if v is not None}
        info = await self._api("INFO", b"", within_s)
        if info.error is not None and info.error.err_code == _NOT_FOUND:
            await self._order("CREATE", {**wanted, "num_replicas": 1}, within_s)
        elif any(info.config.get(key) != value for key, value in wanted.items()):
            await self._order("UPDATE", {**info.config, **wanted}, within_s)

    async def _order(self, verb: str, config: object, within_s: float) -> None:
        info = await self._api(verb, msgspec.json.encode(config), within_s)
        if info.error is not None:
            raise UnavailableError(
                f"the engine refuses the stream {self.name}: {info.error.description}",
                hint=self.client.trouble,
            )

    async def bounds(self) -> Bounds:
        """Return what the stream holds, as its leader knows it. Cost: one round trip.

        Raises:
            UnavailableError: no answer in time.
        """
        info = await self._api("INFO", b"", LIMIT_S)
        if info.error is not None:
            raise UnavailableError(
                f"the engine has no stream {self.name}: {info.error.description}",
                hint=self.client.trouble,
            )
        return info.state

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

    async def _api(self, verb: str, body: bytes, within_s: float) -> _Info:
        """Ask the API; a server that is not ready yet is asked again."""
        subject = f"$JS.API.STREAM.{verb}.{self.name}"

        async def ask(try_s: float) -> _Info | None:
            raw = await self.client.request(subject, body, within_s=try_s)
            info = None if _is_nobody(raw) else _infos.decode(raw.data)
            return None if info is None or _is_early(info.error) else info

        return await patiently(self.client, ask, within_s, try_s=max(TRY_S, within_s / 3))

    async def publish(self, subject: str, data: bytes, msg_id: str, expect: int | None) -> int:
        """Store ``data`` and return its sequence once it is on disk.

        An answer that got lost is asked for again, with the same ``msg_id``, so that nothing is
        stored twice; and if the compare-and-set then fails because of ourselves, that is success.

        Raises:
            StaleError: the last message of ``subject`` is not ``expect`` (0: there is none).
            UnavailableError: not confirmed within ``LIMIT_S``.
        """
        headers = {"Nats-Msg-Id": msg_id}
        if expect is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expect)
        try:
            ack = await self._publish_once(subject, data, headers, TRY_S)
        except UnavailableError:
            ack = None
        if ack is None:
            return await self._publish_again(subject, data, headers, msg_id, expect)
        return ack.seq if ack.error is None else self._refused(ack.error)

    async def _publish_once(
        self, subject: str, data: bytes, headers: Mapping[str, str], within_s: float
    ) -> _Ack | None:
        """Return the answer; ``None`` if the server is not ready to give one."""
        raw = await self.client.request(subject, data, headers, within_s=within_s)
        ack = None if _is_nobody(raw) else _acks.decode(raw.data)
        return None if ack is None or _is_early(ack.error) else ack

    async def _publish_again(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str],
        msg_id: str,
        expect: int | None,
    ) -> int:
        async def ask(try_s: float) -> _Ack | None:
            return await self._publish_once(subject, data, headers, try_s)

        try:
            ack = await patiently(self.client, ask, LIMIT_S - TRY_S)
        except UnavailableError as error:
            self.client.complain()
            raise UnavailableError(
                f"the engine did not confirm within {LIMIT_S:.3g} s",
                hint=self.client.trouble or error.hint or error.message,
            ) from None
        if ack.error is None:
            return ack.seq
        if expect is not None and ack.error.err_code in _WRONG_LAST:
            # Who won the compare-and-set is the first after `expect`: it may be our own first try.
            found = await self.next(subject, expect + 1)
            if found is not None and found.headers.get("Nats-Msg-Id") == msg_id:
                return found.seq
        return self._refused(ack.error)

    def _refused(self, failure: Failure) -> int:
        if failure.err_code in _WRONG_LAST:
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

    async def _get(self, wish: dict[str, object]) -> Stored | None:
        body = msgspec.json.encode(wish)

        async def ask(try_s: float) -> list[Stored] | None:
            raw = await self.client.request(self._direct, body, within_s=try_s)
            return None if _is_nobody(raw) else [] if _is_end(raw) else [stored(raw)]

        found = await patiently(self.client, ask, LIMIT_S)
        return found[0] if found else None

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
            while True:
                async for each in self._catch_up(subject, start):
                    start = each.seq + 1
                    yield each
                while (message := await feed.next(PATROL_S)) is not None:
                    each = stored(message)
                    if each.seq < start:
                        continue
                    if not is_next(each):
                        await self._await(subject, each.seq)
                        break
                    start = each.seq + 1
                    yield each
        finally:
            await self.client.close_feed(feed)

    async def _catch_up(self, subject: str, start: int) -> AsyncGenerator[Stored, None]:
        """Yield all there is now, however long the engine takes to answer."""
        while True:
            try:
                found = await self.batch(subject, start)
            except UnavailableError:
                continue
            for each in found:
                start = each.seq + 1
                yield each
            if len(found) < BATCH and sum(len(each.data) for each in found) < BATCH_BYTES:
                return

    async def _await(self, subject: str, seq: int) -> None:
        """Wait until the server that answers us has ``seq`` too; a follower of it may lag."""
        for _ in range(round(LIMIT_S / RETRY_S)):
            try:
                if await self.next(subject, seq) is not None:
                    return
            except UnavailableError:
                continue
            await asyncio.sleep(RETRY_S)

    async def scan(self, subject: str, start: int, last: int) -> AsyncGenerator[list[Stored], None]:
        """Yield batches of ``subject`` from ``start`` up to the sequence ``last``."""
        while start <= last:
            found = await self.batch(subject, start)
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
) -> T:
    """Ask until there is an answer; ``ask`` gets the seconds it may take, ``None`` is no answer.

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
        await asyncio.sleep(RETRY_S)


def _is_end(message: Msg) -> bool:
    """Whether it is a status (end of batch, not found, nobody there), not a stored message."""
    return message.headers is not None and "Status" in message.headers


def _is_nobody(message: Msg) -> bool:
    return message.headers is not None and message.headers.get("Status") == "503"


def _is_early(failure: Failure | None) -> bool:
    """Whether the server will do it in a moment: it has just started, or elects."""
    return failure is not None and (failure.code == _UNAVAILABLE or failure.err_code == _NO_PEERS)


def stored(message: Msg) -> Stored:
    """Return a message of a stream that came by direct get, or was published again."""
    headers = message.headers or {}
    return Stored(int(headers.get("Nats-Sequence", 0)), headers, message.data)


def subject_of(key: str) -> str:
    """Return ``key`` as part of a subject, dots as they are, unsafe characters percent-encoded."""
    if _SAFE.fullmatch(key):
        return key
    return ".".join(quote(word, safe="/+=") or "%" for word in key.split("."))

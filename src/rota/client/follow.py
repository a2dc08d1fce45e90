"""Follows a log or the events across deaths and restarts of agents, without a gap or a repeat.

A log's place is an attempt and a byte offset in it, the events' place is a journal sequence. Both
are the client's: whatever happens to a connection, the next one, to whichever agent, begins where
the last one ended.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple, Protocol

from rota.client.answer import BrokenError, error_event
from rota.client.connection import lines, pieces
from rota.client.http1 import BLOCK, Response
from rota.client.moves import Patience
from rota.client.rest import FOLLOW_PATIENCE_S, Rest
from rota.errors import ConflictError, NotFoundError, UnavailableError

#: How often a build that waits in a queue is asked whether it has begun, once it waits for long.
LONGEST_POLL_S = 0.5
#: What a filtered follow looks at of one line, as the agent does.
MAX_GREP_LINE = 64 * 1024
#: How often the last bytes of a log are asked for once it is over: an agent may lag behind others.
LAST_TRIES = 6


class Piece(NamedTuple):
    """Bytes of the log of an attempt; attempts count from 1."""

    attempt: int
    data: bytes


class Digest(Protocol):
    """A hash under way, as :mod:`hashlib` makes them."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """Return what it has come to."""
        ...


class Start(NamedTuple):
    """Where to begin reading; the fields are those of the verb ``log``, ``None`` where not given."""

    attempt: int | None = None
    offset: int | None = None
    tail: int | None = None
    line: int | None = None


class Event(dict[str, Any]):
    """An event of the journal as REST gives it; ``text`` is its JSON as it came, in one line."""

    def __init__(self, text: str) -> None:
        try:
            fields = json.loads(text)
        except ValueError:
            fields = {}
        super().__init__(fields if isinstance(fields, dict) else {})
        self.text = text


def follow_log(
    rest: Rest,
    build: dict[str, Any],
    start: Start,
    *,
    skip: int = 0,
    patience_s: float = FOLLOW_PATIENCE_S,
) -> Generator[Piece, None, None]:
    """Yield a build's log until the build has finished; then every byte was there, once.

    A build that is tried again is followed into its next attempt, unless one was asked for.
    ``skip`` is how many attempts are known and not wanted.

    Raises:
        UnavailableError: all agents stayed away for longer than ``patience_s``.
    """
    attempt = start.attempt or max(build["attempt"], skip + 1)
    while True:
        build = _begun(rest, build, attempt)
        if build["attempt"] < attempt:
            return  # it was over before it began
        yield from _follow_attempt(rest, build["id"], attempt, start, patience_s)
        if start.attempt:
            return
        # The next attempt, if there is one: another log, read from its own start.
        start = Start(offset=0)
        attempt += 1
        build = rest.call("build", build=build["id"]).json()


def read_log(
    rest: Rest, build: str, start: Start, *, grep: str | None = None, limit: int | None = None
) -> Generator[bytes, None, None]:
    """Yield what there is of a log now.

    Raises:
        UnavailableError: no agent was there, or all stayed away for long.
    """
    patience = rest.patience()
    done, begun = 0, False
    place = start
    while True:
        left = limit - done if limit and not grep else limit
        if begun and limit and left == 0:
            return
        try:
            with rest.opened(
                "log", build=build, grep=grep, limit=left, **place._asdict()
            ) as response:
                offset = _offset(response, place) if begun or not grep else 0
                if not begun and not grep:
                    place = Start(start.attempt, offset)
                begun = True
                # Filtered lines have no place in the log: those that are known are read again.
                skip = done if grep else (place.offset or 0) - offset
                for piece in _behind(pieces(response), skip):
                    patience.reset()
                    yield piece
                    done += len(piece)
                    if not grep:
                        place = place._replace(offset=(place.offset or 0) + len(piece))
        except UnavailableError as error:
            patience.bear(error)
        else:
            return


def follow_events(
    rest: Rest, after: int, kind: str | None = None, *, patience_s: float = FOLLOW_PATIENCE_S
) -> Generator[Event, None, None]:
    """Yield events after a journal sequence, one after another for ever.

    Raises:
        UnavailableError: all agents stayed away for longer than ``patience_s``.
    """
    patience = Patience(rest.where, patience_s, is_sure=True)
    last = str(after)
    while True:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        try:
            with rest.opened(
                "events", headers=headers, after=int(last), kind=kind, follow=True
            ) as response:
                for name, event_id, data in sse(lines(response)):
                    if name == "error":
                        raise error_event(data)
                    last = event_id or last
                    patience.reset()
                    yield Event(data)
            over: UnavailableError = BrokenError("the events ended")
        except UnavailableError as error:
            over = error
        patience.bear(over)


def read_artifact(
    rest: Rest, build: str, path: str, *, start: int = 0, begun: Digest | None = None
) -> Generator[bytes, None, None]:
    """Yield a file that a build left; at the end it is whole, and what the build kept.

    Args:
        rest: Who is asked; where a connection breaks, the next one goes on behind what came.
        build: A build's name.
        path: The artifact's path.
        start: How many bytes the caller has already.
        begun: Their SHA-256, as :mod:`hashlib` has it; it goes on.

    Raises:
        ConflictError: it was kept anew while it was read, or what the caller has is not its beginning.
        UnavailableError: no agent was there, or all stayed away for long.
    """
    import hashlib

    patience, digest = rest.patience(), begun or hashlib.sha256()
    done, etag = start, ""
    while True:
        headers = {"Range": f"bytes={done}-"} if done else {}
        try:
            with rest.opened("artifact", headers=headers, build=build, path=path) as response:
                now = response.headers.get("ETag") or ""
                if etag and now != etag:
                    raise ConflictError(
                        f"{path} was kept anew while it was read", hint="fetch it again"
                    )
                etag = now
                # An agent of an older version knows no ranges, and there may be nothing behind.
                skip = 0 if response.status == 206 else done
                for piece in _behind(pieces(response, BLOCK), skip):
                    patience.reset()
                    digest.update(piece)
                    yield piece
                    done += len(piece)
        except UnavailableError as error:
            patience.bear(error)
        else:
            break
    if etag and etag.strip('"') != digest.hexdigest():
        raise ConflictError(f"{path} is not what the build kept", hint="fetch it again")


def sse(stream: Iterator[bytes]) -> Iterator[tuple[str, str, str]]:
    """Yield the name, id and data of each server-sent event.

    Comments and half events are dropped.
    """
    name, event_id, data = "", "", [""]
    for raw in stream:
        line = raw.removesuffix(b"\r").decode("utf-8", "replace")
        if not line:
            if len(data) > 1:
                yield name, event_id, "\n".join(data[1:])
            name, event_id, data = "", "", [""]
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "id":
            event_id = value
        elif field == "data":
            data.append(value)


def matching(stream: Iterator[Piece], pattern: re.Pattern[bytes]) -> Generator[Piece, None, None]:
    """Yield the lines that match. Filtered here, so that a follow knows its place in the log.

    As the agent does it: a line's first 64 KiB decide, and are all that is shown of it.
    """
    attempt, rest, skipping = 0, b"", False
    for piece in stream:
        if piece.attempt != attempt:
            yield from _unfinished(attempt, rest, pattern)
            attempt, rest, skipping = piece.attempt, b"", False
        *whole, rest = (rest + piece.data).split(b"\n")
        if whole and skipping:
            del whole[0]
            skipping = False
        found = [line[:MAX_GREP_LINE] for line in whole if pattern.search(line[:MAX_GREP_LINE])]
        if found:
            yield Piece(attempt, b"\n".join([*found, b""]))
        if len(rest) > MAX_GREP_LINE:
            if not skipping:
                yield from _unfinished(attempt, rest[:MAX_GREP_LINE], pattern)
            rest, skipping = b"", True
        elif skipping:
            rest = b""
    yield from _unfinished(attempt, rest, pattern)


def _begun(rest: Rest, build: dict[str, Any], attempt: int) -> dict[str, Any]:
    """Return a build once it has come to ``attempt``, or has finished without."""
    delay = 0.01
    while build["attempt"] < attempt and build["state"] != "finished":
        time.sleep(delay)
        delay = min(delay * 2, LONGEST_POLL_S)
        # From inside a build, asking so says that its script waits, and lends its slot.
        wait = 0.01 if rest.inside else None
        build = rest.call("build", build=build["id"], wait=wait).json()
    return build


def _follow_attempt(
    rest: Rest, build: str, attempt: int, start: Start, patience_s: float
) -> Iterator[Piece]:
    """Yield one attempt's log until the attempt is over and all its bytes were there."""
    patience = Patience(rest.where, patience_s, is_sure=True)
    place, tries = start, LAST_TRIES
    while True:
        try:
            for offset, data in _stretch(rest, build, attempt, place):
                place = Start(offset=offset)
                if data:
                    patience.reset()
                    yield Piece(attempt, data)
            size = _size(rest.call("build", build=build).json(), attempt)
            if size is None:
                # An agent that stops ends its answers in good order, though the log goes on.
                raise BrokenError(f"the log of {build} ended before the build did")
        except UnavailableError as error:
            patience.bear(error)
            continue
        tries -= 1
        if (place.offset or 0) >= size or not tries:
            return
        # The agent lags behind; or the rest is not kept any more.
        time.sleep(0.05 * 2 ** (LAST_TRIES - tries - 1))


def _size(build: dict[str, Any], attempt: int) -> int | None:
    """Return how many bytes the log of an attempt has; ``None`` while the attempt is not over."""
    if build["attempt"] == attempt and build["state"] == "finished":
        return int(build.get("log_bytes") or 0)
    if build["attempt"] > attempt or build["state"] in ("finished", "queued"):
        former = [it for it in build.get("former") or () if it["attempt"] == attempt]
        return int(former[0]["log_bytes"] or 0) if former else 0
    return None


def _stretch(rest: Rest, build: str, attempt: int, place: Start) -> Iterator[tuple[int, bytes]]:
    """Yield what one connection gives beyond ``place``, each piece with the offset behind it."""
    with rest.opened(
        "log",
        build=build,
        attempt=attempt,
        offset=place.offset,
        tail=place.tail,
        line=place.line,
        follow=True,
    ) as response:
        offset = _offset(response, place)
        skip = max(0, (place.offset or 0) - offset)
        offset += skip
        yield offset, b""
        for piece in _behind(pieces(response), skip):
            offset += len(piece)
            yield offset, piece


def _offset(response: Response, place: Start) -> int:
    """Return the byte at which an answer begins.

    Raises:
        NotFoundError: behind what was asked for: what is between is gone.
    """
    offset = int(response.headers.get("Rota-Log-Offset") or place.offset or 0)
    if place.offset and offset > place.offset:
        raise NotFoundError(f"bytes {place.offset} to {offset} of the log are not kept any more")
    return offset


def _behind(stream: Iterator[bytes], skip: int) -> Iterator[bytes]:
    """Yield a stream without its first ``skip`` bytes."""
    for piece in stream:
        if len(piece) > skip:
            yield piece[skip:]
        skip = max(0, skip - len(piece))


def _unfinished(attempt: int, line: bytes, pattern: re.Pattern[bytes]) -> Iterator[Piece]:
    if line and pattern.search(line):
        yield Piece(attempt, line + b"\n")

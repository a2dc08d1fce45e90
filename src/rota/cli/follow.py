"""Follows a log or the events across restarts of the agent, without a gap or a repeat.

A log's place is an attempt and a byte offset in it, the events' place is a journal sequence. Both
are the client's: whatever happens to a connection, the next one begins where the last one ended.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from rota.cli.client import BrokenError, BusyError, Client, RefusedError, lines, pieces
from rota.errors import UnavailableError

#: How long an agent may be away before a follower gives up. Counted anew after each byte.
PATIENCE_S = 120.0
#: How often a build that waits in a queue is asked whether it has begun, once it waits for long.
LONGEST_POLL_S = 0.5
#: What a filtered follow looks at of one line, as the agent does.
MAX_GREP_LINE = 64 * 1024


class Piece(NamedTuple):
    """Bytes of the log of an attempt; attempts count from 1."""

    attempt: int
    data: bytes


class Start(NamedTuple):
    """Where to begin reading; the fields are those of the verb ``log``, ``None`` where not given."""

    attempt: int | None = None
    offset: int | None = None
    tail: int | None = None
    line: int | None = None


class Away:
    """Waits between tries, longer each time, and gives up in the end."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self.reset()

    def reset(self) -> None:
        """Forget former failures: there was progress."""
        self._began: float | None = None
        self._delay = 0.05

    def wait(self, error: UnavailableError) -> None:
        """Sleep before the next try.

        Raises:
            UnavailableError: ``error``, once patience is over.
        """
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        if now - self._began > self._patience_s:
            raise error
        time.sleep(self._delay)
        self._delay = min(self._delay * 2, 1.0)


def follow_log(
    client: Client,
    build: dict[str, Any],
    start: Start,
    *,
    skip: int = 0,
    patience_s: float = PATIENCE_S,
) -> Iterator[Piece]:
    """Yield a build's log until the build has finished; then every byte was there, once.

    A build that is tried again is followed into its next attempt, unless one was asked for.
    ``skip`` is how many attempts are known and not wanted.

    Raises:
        UnavailableError: the agent stayed away for longer than ``patience_s``.
    """
    attempt = start.attempt or max(build["attempt"], skip + 1)
    while True:
        build = _begun(client, build, attempt)
        if build["attempt"] < attempt:
            return  # it was over before it began
        yield from _follow_attempt(client, build["id"], attempt, start, patience_s)
        if start.attempt:
            return
        # The next attempt, if there is one: another log, read from its own start.
        start = Start(offset=0)
        attempt += 1
        build = client.call("build", build=build["id"]).json()


def read_log(
    client: Client, build: str, start: Start, *, grep: str | None, limit: int | None
) -> Iterator[bytes]:
    """Yield what there is of a log now.

    Raises:
        UnavailableError: the agent was not there, or stayed away for long.
    """
    away = Away(client.patience_s)
    done, begun = 0, False
    place = start
    while True:
        skip = done if grep else 0
        left = limit - done if limit and not grep else limit
        if begun and limit and left == 0:
            return
        try:
            with client.opened(
                "log", build=build, grep=grep, limit=left, **place._asdict()
            ) as response:
                if not begun and not grep:
                    place = Start(start.attempt, int(response.headers.get("Rota-Log-Offset") or 0))
                begun = True
                for piece in pieces(response):
                    away.reset()
                    if len(piece) > skip:
                        yield piece[skip:]
                        done += len(piece) - skip
                    skip = max(0, skip - len(piece))
                    if not grep and place.offset is not None:
                        place = place._replace(offset=place.offset + len(piece))
        except (BrokenError, RefusedError, BusyError) as error:
            if not begun:
                raise
            away.wait(error)
        else:
            return


def follow_events(
    client: Client, after: int, kind: str | None, *, patience_s: float = PATIENCE_S
) -> Iterator[str]:
    """Yield events after a journal sequence, each as its JSON, one after another for ever."""
    away = Away(patience_s)
    last = str(after)
    while True:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        try:
            with client.opened(
                "events", headers=headers, after=int(last), kind=kind, follow=True
            ) as response:
                for event_id, data in sse(lines(response)):
                    last = event_id or last
                    away.reset()
                    yield data
            over: UnavailableError = BrokenError("the events ended")
        except (BrokenError, RefusedError, BusyError) as error:
            over = error
        away.wait(over)


def sse(stream: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    """Yield the id and data of each server-sent event; comments and half events are dropped."""
    event_id, data = "", [""]
    for raw in stream:
        line = raw.removesuffix(b"\r").decode("utf-8", "replace")
        if not line:
            if len(data) > 1:
                yield event_id, "\n".join(data[1:])
            event_id, data = "", [""]
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            event_id = value
        elif field == "data":
            data.append(value)


def matching(stream: Iterator[Piece], pattern: re.Pattern[bytes]) -> Iterator[Piece]:
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


def event_line(data: str) -> dict[str, Any]:
    """Return an event's JSON as a dictionary; empty if it is none."""
    try:
        event = json.loads(data)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _begun(client: Client, build: dict[str, Any], attempt: int) -> dict[str, Any]:
    """Return a build once it has come to ``attempt``, or has finished without."""
    delay = 0.01
    while build["attempt"] < attempt and build["state"] != "finished":
        time.sleep(delay)
        delay = min(delay * 2, LONGEST_POLL_S)
        build = client.call("build", build=build["id"]).json()
    return build


def _follow_attempt(
    client: Client, build: str, attempt: int, start: Start, patience_s: float
) -> Iterator[Piece]:
    """Yield one attempt's log until the attempt is over."""
    away = Away(patience_s)
    place = start
    while True:
        try:
            for offset, data in _stretch(client, build, attempt, place):
                place = Start(offset=offset)
                if data:
                    away.reset()
                    yield Piece(attempt, data)
            now = client.call("build", build=build).json()
            if now["attempt"] > attempt or now["state"] in ("finished", "queued"):
                return
            # An agent that stops ends its answers in good order, though the log goes on.
            over: UnavailableError = BrokenError(f"the log of {build} ended before the build did")
        except (BrokenError, RefusedError, BusyError) as error:
            over = error
        away.wait(over)


def _stretch(client: Client, build: str, attempt: int, place: Start) -> Iterator[tuple[int, bytes]]:
    """Yield what one connection gives, each piece with the offset behind it."""
    with client.opened(
        "log",
        build=build,
        attempt=attempt,
        offset=place.offset,
        tail=place.tail,
        line=place.line,
        follow=True,
    ) as response:
        offset = int(response.headers.get("Rota-Log-Offset") or place.offset or 0)
        yield offset, b""
        for piece in pieces(response):
            offset += len(piece)
            yield offset, piece


def _unfinished(attempt: int, line: bytes, pattern: re.Pattern[bytes]) -> Iterator[Piece]:
    if line and pattern.search(line):
        yield Piece(attempt, line + b"\n")

"""Part of the bot's duty: who follows a build is told what it asks, what it prints, and how it ends.

What was told is in the journal after it was said. A new leader asks the network before it says
anything again; where that does not know, it is said twice rather than never.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from rota.agent.patience import DELAYS_S, persist_leading
from rota.core.build import Build
from rota.core.chat import END, Followed
from rota.core.chat_text import (
    ending,
    link_to,
    log_link,
    marks,
    saying_id,
    told_id,
    tone,
)
from rota.core.events import ChatTold
from rota.core.fold import Change
from rota.core.states import Result, State
from rota.errors import InputError, LaterError, NotFoundError, RotaError, UnavailableError
from rota.ports.chat import Chat
from rota.ports.clock import Clock
from rota.ports.journal import Entry, Journal
from rota.ports.logs import Logs
from rota.ports.networks import Saying
from rota.service.logs import AttemptLog
from rota.service.world import World

logger = logging.getLogger(__name__)

#: A followed log is shown in batches, no more often than this.
BATCH_S = 3.0
#: So much of a batch is looked at: of more only the end is shown.
BATCH_BYTES = 16 * 1024
#: The last lines of a failed build, with its end.
LAST_LINES = 8
FOLD_S = 60.0
#: Who follows the log of a build that runs already sees so much of what it printed before.
BEFORE_BYTES = 2048

Tail = Callable[[Build, int], Awaitable[str]]
"""Returns the last bytes of an attempt's log, as text."""


async def no_tail(build: Build, attempt: int) -> str:
    """Return nothing."""
    return ""


class Followers:
    """Tells them while this agent leads: :meth:`run` is a task of the duty."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        logs: Logs,
        clock: Clock,
        chat: Chat,
        tail: Tail = no_tail,
    ) -> None:
        self._name, self._world, self._journal = name, world, journal
        self._logs, self._clock, self._chat, self._tail = logs, clock, chat, tail
        self.fence: Callable[[], int] = lambda: 0  # set by who makes this agent one among others
        self._woken: dict[str, asyncio.Event] = {}
        self._sure: set[str] = set()
        self._inherited: set[str] = set()
        self._batched: dict[str, float] = {}
        self._news = asyncio.Event()

    def folded(self, entry: Entry, change: Change) -> None:
        """Note that there may be something to tell; returns at once."""
        chat = self._world.cluster.picture.chat
        if chat.followed:
            self._news.set()

    async def begun(self, build: Build) -> tuple[str, int]:
        """Return what is said first to who follows a build's log, and from where on it is shown."""
        if build.state is State.FINISHED:
            return f"{ending(build)}; it is over, and nothing is left to follow", 0
        if build.state is not State.RUNNING:
            return f"{build.ref} is {build.state}; its log comes here once it runs", 0
        end = await self._source(build, build.attempt).end()
        return f"{build.ref} runs on {build.agent}; its log comes here", max(0, end - BEFORE_BYTES)

    async def run(self) -> None:
        """Tell followers, for ever."""
        self._woken.clear()
        self._batched.clear()
        self._sure.clear()
        chat = self._world.cluster.picture.chat
        self._inherited = {
            _key(note) for places in chat.followed.values() for note in places.values()
        }
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                networks = {
                    note.network for places in chat.followed.values() for note in places.values()
                }
                for network in networks - self._woken.keys():
                    self._woken[network] = asyncio.Event()
                    group.create_task(self._attend(network), name=f"followers {network}")
                for woken in self._woken.values():
                    woken.set()
                await self._news.wait()
                chat = self._world.cluster.picture.chat

    async def _attend(self, network: str) -> None:
        """Tell all on one network, one after the other: what it does not take holds up no other."""
        woken, tries = self._woken[network], 0
        while True:
            woken.clear()
            wait_s: float | None = None
            try:
                for note in self._notes(network):
                    wait_s = _sooner(wait_s, await self._serve(note))
                tries = 0
            except (UnavailableError, NotFoundError) as error:
                # The network, or a log that cannot be read now.
                after_s = error.after_s if isinstance(error, LaterError) else 0.0
                wait_s = max(after_s, DELAYS_S[min(tries, len(DELAYS_S) - 1)])
                tries += 1
                await asyncio.sleep(wait_s)
                continue
            try:
                async with asyncio.timeout(wait_s):
                    await woken.wait()
            except TimeoutError:
                pass

    def _notes(self, network: str) -> list[Followed]:
        followed = self._world.cluster.picture.chat.followed
        return [
            it for places in followed.values() for it in places.values() if it.network == network
        ]

    async def _serve(self, note: Followed) -> float | None:
        """Tell one follower all there is; return after how many seconds to look again, if so."""
        build = note.outcome or self._world.find(note.build)
        if build is None:
            await self._record(note, mark=END, why="the build is gone")
            return None
        for mark, text in marks(note, build, self._prefix(note.network)):
            if mark not in note.told:
                await self._tell(note, mark, self._saying(note, mark, text))
        wait_s = None
        if note.log:
            wait_s = await self._show_log(note, build)
            if wait_s is not None and note.ended == 0:
                return wait_s
        if note.ended:
            mark = f"{END}{note.ended}"
            saying = self._saying(note, mark, ending(build))
            is_shown = note.log or build.result is Result.PASSED
            code = "" if is_shown else await self._last_lines(build)
            url = self._world.definitions.settings.url
            link = link_to(url, build) if build.result is Result.PASSED else log_link(url, build)
            told = Saying(
                id=saying.id,
                room=saying.room,
                thread=saying.thread,
                text=saying.text,
                code=code,
                link=link,
                tone=tone(build),
            )
            await self._tell(note, END, told)
        return None

    async def _show_log(self, note: Followed, build: Build) -> float | None:
        """Show the next batch of a log; return after how many seconds there may be more."""
        if build.state not in (State.RUNNING, State.FINISHED) or not build.attempt:
            return None
        key, now = _key(note), self._clock.monotonic()
        due = self._batched.get(key, 0.0) + BATCH_S
        if now < due and not note.ended:
            return due - now
        attempt = build.attempt
        start = note.offset if attempt == note.attempt else 0
        source = self._source(build, attempt)
        end = await source.end()
        if end <= start:
            return None if note.ended else BATCH_S
        first = max(start, end - BATCH_BYTES)
        data = b"".join([piece async for piece in source.read(first, end)])
        if not note.ended:
            whole = data.rfind(b"\n") + 1
            if not whole and len(data) < BATCH_BYTES:
                return BATCH_S  # a line that goes on
            data = data[: whole or len(data)]
        reached = first + len(data)
        text = f"{build.ref}" + (f", {first - start:,} bytes left out" if first > start else "")
        saying = Saying(
            id=saying_id("log", note.place, note.build, attempt, start),
            room=note.room,
            thread=note.thread,
            text=text,
            code=data.decode("utf-8", "replace"),
            link=log_link(self._world.definitions.settings.url, build) if first > start else "",
        )
        self._batched[key] = now
        await self._tell(note, "", saying, attempt=attempt, offset=reached)
        return BATCH_S

    async def _last_lines(self, build: Build) -> str:
        if build.started_at is None or not build.attempt:
            return ""
        try:
            text = await self._tail(build, build.attempt)
        except RotaError as error:
            logger.info("%s: its last lines cannot be read: %s", build.ref, error.message)
            return ""
        return "\n".join(text.rstrip().splitlines()[-LAST_LINES:])

    def _source(self, build: Build, attempt: int) -> AttemptLog:
        return AttemptLog(self._world, self._logs, build.id, attempt)

    def _prefix(self, network: str) -> str:
        settings = self._world.definitions.settings.chat.get(network)
        return settings.prefix if settings is not None else "!"

    def _saying(self, note: Followed, mark: str, text: str) -> Saying:
        return Saying(id=told_id(note, mark), room=note.room, thread=note.thread, text=text)

    async def _tell(
        self, note: Followed, mark: str, saying: Saying, *, attempt: int = 0, offset: int = 0
    ) -> None:
        """Say something once, and write down that it was said.

        Raises:
            LaterError: it was not said, or nobody knows.
        """
        key = _key(note)
        is_new = key not in self._inherited or key in self._sure
        is_said = not is_new and await self._chat.was_said(note.network, saying)
        why = ""
        if not is_said:
            try:
                await self._chat.say(note.network, saying)
            except LaterError:
                self._inherited.add(key)
                self._sure.discard(key)
                raise
            except (InputError, NotFoundError) as error:
                why = error.message
        self._sure.add(key)
        await self._record(note, mark=mark, attempt=attempt, offset=offset, why=why)

    async def _record(
        self, note: Followed, *, mark: str, attempt: int = 0, offset: int = 0, why: str = ""
    ) -> None:
        event = ChatTold(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            network=note.network,
            room=note.room,
            thread=note.thread,
            build=note.build,
            mark=END if why else mark,  # who cannot be told this is told no more
            attempt=attempt,
            offset=offset,
            why=why[:300],
        )
        seq = await persist_leading("chat", lambda: self._journal.append(event, fence=self.fence()))
        with suppress(TimeoutError):
            await self._world.reached(seq, FOLD_S)


def _key(note: Followed) -> str:
    return f"{note.place} {note.build}"


def _sooner(one: float | None, other: float | None) -> float | None:
    known = [it for it in (one, other) if it is not None]
    return min(known) if known else None

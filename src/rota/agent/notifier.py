"""A leader's duty: what targets are owed they are told, each in its order, none by waiting for another.

All of it is in the picture's outbox, so a new leader goes on where the former one was. Before a
message is said its intent is in the journal; what may have been said already is asked of the
network, and said again where nobody can know. A target that takes nothing is asked more and more
seldom, and given up after a day; what gathered meanwhile is told as one message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime

from rota.agent.patience import persist_leading
from rota.core.backoff import Backoff
from rota.core.build import Build
from rota.core.chat_text import as_here
from rota.core.events import Event, NoticesDropped, NoticesQueued, NoticesSending, NoticesSent
from rota.core.fold import Change
from rota.core.notice_text import Facts, is_direct, is_settled, wording
from rota.core.notices import Audience, is_bad, room_of
from rota.core.outbox import Notice, Outbox, Queue, Sending, message_id
from rota.core.quiet import quiet_until
from rota.core.states import State
from rota.core.targets import Target
from rota.core.zones import find_zone
from rota.errors import InputError, LaterError, RotaError, StaleError
from rota.ports.chat import Chat
from rota.ports.clock import Clock
from rota.ports.journal import Entry, Journal
from rota.ports.networks import Said, Saying
from rota.service.world import World

logger = logging.getLogger(__name__)

#: So many notices that are due at once are told one by one; more are told together.
APART = 5
#: So many are told together at most.
TOGETHER = 50
#: What nobody took for so long is not told any more.
GIVE_UP_S = 24 * 3600.0
#: For a network to say that it took a message; after that nobody knows.
SAY_S = 120.0
#: For the last lines of a log.
TAIL_S = 5.0
FOLD_S = 30.0
#: After a refused write: another agent leads, or this one by another election.
STALE_S = 0.2
#: Longest wait for the end of quiet hours before the clock is looked at again.
LOOK_S = 60.0

Tail = Callable[[Build, int], Awaitable[str]]
"""Returns the last bytes of an attempt's log, as text."""


class Notifier:
    """Tells targets while this agent leads: :meth:`run` is the duty, :meth:`folded` for the loop."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        clock: Clock,
        chat: Chat,
        tail: Tail,
        base: Callable[[], str],
        audience: Callable[[], Audience],
    ) -> None:
        """Make one.

        Args:
            name: This agent's.
            world: Says what is owed.
            journal: What was said is written there.
            clock: For the time of events, quiet hours, and to give up.
            chat: Says it.
            tail: For the last lines of logs.
            base: Returns the URL under which people find builds.
            audience: Returns who is known by what.
        """
        self._name, self._world, self._journal = name, world, journal
        self._clock, self._chat, self._tail = clock, chat, tail
        self._base, self._audience = base, audience
        self.fence: Callable[[], int] = lambda: 0  # set by who makes this agent one among others
        self._attended: dict[str, asyncio.Event] = {}
        self._news = asyncio.Event()

    @property
    def _outbox(self) -> Outbox:
        return self._world.cluster.picture.outbox

    def folded(self, entry: Entry, change: Change) -> None:
        """Note that there may be more to tell; returns at once."""
        if isinstance(entry.event, NoticesQueued):
            self._news.set()

    async def run(self) -> None:
        """Tell targets, for ever."""
        self._attended.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                for target in list(self._outbox.queues):
                    woken = self._attended.get(target)
                    if woken is None:
                        self._attended[target] = asyncio.Event()
                        group.create_task(self._attend(target), name=f"notices {target}")
                    else:
                        woken.set()
                await self._news.wait()

    # -- one target -------------------------------------------------------------------------------

    async def _attend(self, target: str) -> None:
        """Tell a target what it is owed, one message after the other, until it is owed nothing."""
        backoff = Backoff()
        try:
            while (queue := self._outbox.queues.get(target)) is not None:
                try:
                    wait_s = await self._next(target, queue)
                    backoff.went_well()
                except LaterError as error:
                    wait_s = backoff.failed(error.after_s)
                    self._trouble(target, error.message)
                except StaleError as error:
                    logger.info("notices: %s", error)
                    wait_s = STALE_S
                if wait_s:
                    await self._sleep(target, wait_s)
        finally:
            self._attended.pop(target, None)
            self._world.troubles.pop(f"notices {target}", None)

    async def _sleep(self, target: str, wait_s: float) -> None:
        """Wait; what comes meanwhile waits as well."""
        woken = self._attended[target]
        woken.clear()
        queue = self._outbox.queues.get(target)
        may_wake = queue is not None and queue.sending is None
        if not may_wake:
            await asyncio.sleep(wait_s)
            return
        try:
            async with asyncio.timeout(wait_s):
                await woken.wait()
        except TimeoutError:
            pass

    async def _next(self, target: str, queue: Queue) -> float:
        """Do one thing for a target; return how long there is nothing to do then.

        Raises:
            LaterError: it did not take it.
            StaleError: what was written is not folded yet.
        """
        if queue.sending is not None:
            await self._say(target, queue, queue.sending, is_again=True)
            return 0.0
        now = self._clock.now()
        # What waits for no end of quiet hours is due, whatever another agent's clock shows.
        afters = [self._after(it, now) for it in queue.notices]
        due = [it for it, after in zip(queue.notices, afters, strict=True) if after <= now]
        if not due:
            first = min(afters, default=now)
            return min(max((first - now).total_seconds(), 0.05), LOOK_S)
        if await self._drop_settled(target, due):
            return 0.0
        is_digest = due[0].after is not None
        together = due if len(due) > APART or is_digest or queue.left_out else due[:1]
        if is_digest:
            together = [notice for notice in due if notice.after is not None]
        chosen = tuple(notice.id for notice in together[:TOGETHER])
        message = message_id(chosen, queue.left_out)
        event = NoticesSending(
            at=now,
            by=self._name,
            agent=self._name,
            target=target,
            message=message,
            notices=chosen,
            left_out=queue.left_out,
        )
        await self._write(event)
        sending = Sending(message, chosen, now, queue.left_out)
        await self._say(target, queue, sending, is_again=False)
        return 0.0

    def _after(self, notice: Notice, now: datetime) -> datetime:
        """Return when a notice may be told: quiet hours may be over sooner than was said then."""
        if notice.after is None or notice.after <= now:
            return now
        known = self._audience().users.get(notice.user)
        if known is None:
            return notice.after
        until = quiet_until(known.quiet, find_zone(known.timezone or "UTC"), now)
        return now if until is None else min(notice.after, max(until, now))

    async def _drop_settled(self, target: str, due: Sequence[Notice]) -> bool:
        """Drop what is asked for no more; return whether there was any."""
        settled = [it for it in due if is_settled(it, self._world.find(it.build))]
        if settled:
            await self._drop(target, (it.id for it in settled), "it needs no answer any more")
        return bool(settled)

    async def _say(self, target: str, queue: Queue, sending: Sending, *, is_again: bool) -> None:
        """Say a message, if it was not said before, and write down what became of it."""
        notices = [it for it in queue.notices if it.id in sending.notices]
        room = room_of(self._audience(), target)
        if isinstance(room, str) or not notices:
            why = room if isinstance(room, str) else "nothing is left of it"
            await self._drop(target, sending.notices, why)
            return
        saying = await self._saying(notices, sending, room)
        try:
            async with asyncio.timeout(SAY_S):
                if is_again and await self._chat.was_said(room.network, saying):
                    said = Said()
                else:
                    said = await self._chat.say(room.network, saying)
        except TimeoutError:
            await self._give_up(target, notices, f"no answer within {SAY_S:g} s")
        except LaterError as error:
            await self._give_up(target, notices, error.message, error.after_s)
        except InputError as error:
            logger.warning("notices %s: %s", target, error.message)
            await self._drop(target, sending.notices, error.message)
        else:
            self._world.troubles.pop(f"notices {target}", None)
            await self._write(
                NoticesSent(
                    at=self._clock.now(),
                    by=self._name,
                    agent=self._name,
                    target=target,
                    message=sending.message,
                    notices=sending.notices,
                    said=said.id,
                    thread=said.thread,
                )
            )

    async def _give_up(
        self, target: str, notices: Sequence[Notice], why: str, after_s: float = 0.0
    ) -> None:
        """Drop notices that nobody took for too long.

        Raises:
            LaterError: they are not so old.
        """
        if all(self._age_s(notice) > GIVE_UP_S for notice in notices):
            await self._drop(target, (it.id for it in notices), f"given up after a day: {why}")
            return
        raise LaterError(why, after_s=after_s)

    def _age_s(self, notice: Notice) -> float:
        return (self._clock.now() - notice.since_when).total_seconds()

    def _trouble(self, target: str, text: str) -> None:
        key, text = f"notices {target}", f"{target}: {text}"
        if self._world.troubles.get(key) != text:
            logger.warning("notices: %s", text)
        self._world.troubles[key] = text

    # -- words --------------------------------------------------------------------------------------

    async def _saying(self, notices: Sequence[Notice], sending: Sending, room: Target) -> Saying:
        is_alone = len(notices) == 1 and not sending.left_out
        found = [await self._facts(notice, is_alone=is_alone) for notice in notices]
        said = wording(found, left_out=sending.left_out, base=self._base())
        chat = self._world.definitions.settings.chat.get(room.network)
        text = said.text if chat is None else as_here(said.text, chat.prefix)
        return Saying(
            id=sending.message,
            room=room.room,
            thread=said.thread,
            text=text,
            code=said.code,
            link=said.link,
            tone=said.tone,
            subject=said.subject,
        )

    async def _facts(self, notice: Notice, *, is_alone: bool) -> Facts:
        build = self._world.find(notice.build) if notice.build else None
        if build is None or not is_alone:
            return Facts(notice=notice, build=build)
        found = [self._world.find(it) for it in notice.failed]
        failed = [it for it in found if it is not None]
        groups = [it.group for it in (build, *failed) if it.group is not None]
        cells = [self._world.find(cell.build) for it in groups for cell in it.cells]
        named = tuple(it for it in (*failed, *cells) if it is not None and is_bad(it))
        # What fails in a group or a tree is told by the log of the first build that did.
        ran = (it for it in (build, *named) if it.attempt and is_bad(it))
        shown = next(ran, None)
        tail = ""
        if is_direct(notice) and shown is not None and shown.state is State.FINISHED:
            tail = await self._last(shown)
        return Facts(notice=notice, build=build, failed=named, tail=tail)

    async def _last(self, build: Build) -> str:
        try:
            async with asyncio.timeout(TAIL_S):
                return await self._tail(build, build.attempt)
        except (RotaError, TimeoutError) as error:
            logger.info("the log of %s is not quoted: %s", build.ref, error)
            return ""

    # -- the journal ----------------------------------------------------------------------------------

    async def _drop(self, target: str, notices: Iterable[str], why: str) -> None:
        await self._write(
            NoticesDropped(
                at=self._clock.now(),
                by=self._name,
                agent=self._name,
                target=target,
                notices=tuple(notices),
                why=why,
            )
        )

    async def _write(self, event: Event) -> None:
        """Write an event, and return once it is folded here.

        Raises:
            StaleError: it was not, in time.
        """
        seq = await persist_leading(
            "notices", lambda: self._journal.append(event, fence=self.fence())
        )
        try:
            await self._world.reached(seq, FOLD_S)
        except TimeoutError:
            raise StaleError("the journal is not folded") from None

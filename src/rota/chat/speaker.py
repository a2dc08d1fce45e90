"""Carries commands out as the users who gave them, and says in their rooms what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import quote

from rota.chat.hub import Hub
from rota.chat.phrase import HELP, LOGS, phrased
from rota.chat.scroll import Scroll
from rota.cli import line as lines
from rota.cli.mouth import perform
from rota.cli.render import ROOM
from rota.cli.screen import Screen
from rota.cli.table import Mouth, find
from rota.client.answer import ClosedError
from rota.client.client import Client
from rota.client.place import socket_place
from rota.client.wire import ROUTES
from rota.core.chat_text import answer_id, as_here, stranger_text
from rota.core.chat_words import REPEATABLE, first_word
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    LaterError,
    NotFoundError,
    RotaError,
    UnavailableError,
)
from rota.ports.chat import Command
from rota.ports.chat_wire import Setup
from rota.ports.networks import Said, Saying

logger = logging.getLogger(__name__)

#: Commands at the same time, each in a thread.
AT_ONCE = 8
#: How long one may take, and then until it has ended.
LIMIT_S, END_S = 60.0, 5.0
#: How often something is tried again, and of how many that is known.
TRIES, MAX_TRIED = 5, 1000
#: How long an answer is tried to be said, and the pauses between tries; the last one repeats.
SAY_S = 180.0
DELAYS_S = (0.2, 1.0, 5.0)


class Outcome:
    """What came of a command: what it printed, or what went wrong."""

    def __init__(self, *, keep_first: bool) -> None:
        self.keep_first = keep_first
        self.out = Scroll(keep_first=keep_first)
        self.err = Scroll(keep_first=True)
        self.error: RotaError | None = None
        self.is_late = False
        self.status = 0


class Speaker:
    """Speaks at the agent's socket with the token that the daemon gave."""

    def __init__(self, hub: Hub, setup: Setup, token: str) -> None:
        self._hub, self._setup, self._token = hub, setup, token
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="command")
        self._tries: dict[str, int] = {}
        self._prefixes = {it.name: str(it.values.get("prefix") or "!") for it in setup.networks}

    async def perform(
        self, command: Command, carried: Callable[[], Awaitable[None]]
    ) -> Sequence[Said]:
        """Carry a command out, say that it is (``carried``), and answer it; see the port.

        Raises:
            LaterError: it is not known whether it was answered.
        """
        outcome = await self._carry(command)
        if isinstance(outcome.error, UnavailableError) and self._is_tried_again(command):
            raise LaterError(outcome.error.message, hint=outcome.error.hint or "")
        await carried()
        saying = self._saying(command, outcome)
        return [await self._say(command.network, saying, keep_first=outcome.keep_first)]

    async def _say(self, network: str, saying: Saying, *, keep_first: bool) -> Said:
        """Say an answer, again for a while: nobody else has what came of the command.

        Raises:
            LaterError: the network does not take it for longer than that.
        """
        clock, tries = asyncio.get_running_loop(), 0
        until = clock.time() + SAY_S
        while True:
            try:
                if tries and await self._hub.was_said(network, saying):
                    return Said()
                return await self._hub.say(network, saying, keep_first=keep_first)
            except LaterError as error:
                delay = max(error.after_s, DELAYS_S[min(tries, len(DELAYS_S) - 1)])
                if clock.time() + delay > until:
                    raise
            tries += 1
            await asyncio.sleep(delay)

    def _is_tried_again(self, command: Command) -> bool:
        """Whether what could not be done now, such as without a quorum, is done a little later.

        That is so of what twice is once, a few times.
        """
        if first_word(command.line) not in REPEATABLE:
            return False
        tries = self._tries.pop(command.key, 0) + 1
        self._tries[command.key] = tries
        for key in list(self._tries)[:-MAX_TRIED]:
            del self._tries[key]
        return tries <= TRIES

    async def _carry(self, command: Command) -> Outcome:
        outcome = Outcome(keep_first=next(iter(command.line.split()), "") not in LOGS)
        screen = Screen(ROOM, ROOM, stdout=outcome.out, stderr=outcome.err, has_files=False)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, self._run, command, outcome, screen)
        try:
            async with asyncio.timeout(LIMIT_S):
                await asyncio.shield(running)
        except TimeoutError:
            outcome.is_late = True
            screen.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await asyncio.shield(running)
        except asyncio.CancelledError:
            screen.close()
            raise
        return outcome

    def _run(self, command: Command, outcome: Outcome, screen: Screen) -> None:
        """Carry a command out; in a thread of its own."""
        client = self._client(command)

        def is_build(name: str) -> bool:
            try:
                client.build(name)
            except (NotFoundError, InputError, ConflictError):
                return False
            return True

        prefix = self._prefixes.get(command.network, "!")
        try:
            given = lines.words(command.line)
            if not given:
                raise InputError("an empty command", hint=f"{prefix}help")
            words = phrased(given, build=command.build, is_build=is_build, prefix=prefix)
            outcome.status = perform(words, screen, mouth=Mouth.CHAT, client=client)
            if words == ["help"]:
                screen.line(HELP)
        except ClosedError:
            pass
        except RotaError as error:
            outcome.error = error

    def _client(self, command: Command) -> Client:
        return Client(
            socket_place(self._setup.socket, "the bot"),
            moves=False,
            key=command.key,
            headers={
                "Authorization": f"Bearer {self._token}",
                "Rota-Principal": f"{quote(command.user, safe='')};{command.role}",
                "Rota-Via": quote(command.key, safe=""),
            },
        )

    # -- answers ------------------------------------------------------------------------------------

    def _saying(self, command: Command, outcome: Outcome) -> Saying:
        heard = command.heard
        prefix = self._prefixes.get(command.network, "!")
        to = "" if heard.is_direct or heard.thread else f"{heard.nick}: "
        text, code = self._told(outcome, command.line, prefix)
        is_stranger = command.user == f"{command.network}:{heard.nick}"
        if is_stranger and isinstance(outcome.error, DeniedError):
            text = stranger_text(command.network, prefix)
        link = ""
        if code.count("\n") >= self._hub.abilities(command.network).lines:
            link = self._link(command)
        return Saying(
            id=answer_id(command.key),
            room=heard.room,
            thread=heard.thread,
            text=to + text,
            code=code,
            link=link,
            tone="bad" if outcome.error is not None or outcome.is_late else "",
        )

    def _told(self, outcome: Outcome, line: str, prefix: str) -> tuple[str, str]:
        """Return what is said, and what is shown below it."""
        if outcome.is_late:
            return f"it took longer than {LIMIT_S:g} s, and was ended", outcome.out.text
        if outcome.error is not None:
            error = outcome.error
            hint = f"\n{as_here(error.hint, prefix)}" if error.hint else ""
            problems = getattr(error, "problems", ())
            return error.message + hint, "\n".join(str(it) for it in problems)
        shown = (outcome.out.text + outcome.err.text).strip("\n")
        if not shown:
            return "nothing to show" if _only_looks(line) else "done", ""
        if "\n" not in shown:
            return shown, ""
        if not outcome.out.text.strip():
            # A remark, and what to do about it.
            return as_here(shown.replace("\n\nhint: ", "\n"), prefix), ""
        return line.split("\n", 1)[0][:100], shown

    def _link(self, command: Command) -> str:
        """Return where the whole of a log is; empty for all else."""
        if not self._setup.url:
            return ""
        words = command.line.split()
        named = next((word for word in words[1:] if "#" in word), command.build)
        if words[0] not in LOGS or not named:
            return ""
        return f"{self._setup.url}/v1/builds/{quote(named, safe='')}/log"


def _only_looks(line: str) -> bool:
    """Whether a command changes nothing."""
    command = find(next(iter(line.split()), ""))
    return command is not None and all(ROUTES[it].method == "GET" for it in command.verbs)

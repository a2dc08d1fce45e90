"""Shells in workspaces: whoever may run builds enters one, from any agent, and that is on record.

What passes are messages. The caller first says, as a text, what to run and on what terminal
(:class:`Opening`); then bytes are input, and texts are :class:`Told`. Back come bytes whose first one
is the stream, 1 or 2; and texts: :class:`Entered` once, :class:`Ended` at the end, or
:class:`Refused`. An agent that has not the workspace passes all of it on, to the one that has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta

from rota.core.build import Build
from rota.core.durations import format_duration
from rota.core.events import BuildEntered
from rota.core.states import State
from rota.errors import ConflictError, InputError, NotFoundError, RotaError
from rota.ports.channel import Channel
from rota.ports.session import Session, Tty
from rota.service import members
from rota.service import messages as m
from rota.service.builds import find_build
from rota.service.context import Place, Principal, Service
from rota.service.workspaces import not_kept

#: From the connection to the message that says what to run.
OPENING_S = 30.0
SHELL = (
    "/bin/sh",
    "-c",
    "command -v bash >/dev/null 2>&1 && exec bash; exec /bin/sh",
)

Talk = Callable[[Channel], Awaitable[None]]
Size = Annotated[int, Meta(ge=1, le=10_000)]
Word = Annotated[str, Meta(max_length=128 * 1024)]


class Terminal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The terminal at which the caller sits."""

    rows: Size = 24
    columns: Size = 80
    term: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9+._-]{1,64}\Z")] = "xterm"


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to run: a program and its arguments, or a shell; on a terminal, or on pipes."""

    command: Annotated[tuple[Word, ...], Meta(max_length=10_000)] = ()
    tty: Terminal | None = None


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the caller says in between: another size of the terminal, or that its input is over."""

    resize: tuple[Size, Size] | None = None
    eof: bool = False


class Entered(msgspec.Struct, frozen=True):
    """Where the caller is; ``missing`` are variables that the script had, and a shell has not."""

    build: str
    attempt: int
    agent: str
    running: bool
    missing: tuple[str, ...] = ()


class Ended(msgspec.Struct, frozen=True):
    """How it ended: an exit code as a shell would say it; and why, if not by itself."""

    exit: int
    why: str = ""


class Refused(msgspec.Struct, frozen=True):
    """Why nothing was run."""

    error: str
    code: str
    hint: str | None = None


async def shell(service: Service, request: m.ShellRequest, who: Principal) -> Talk:
    """Return what talks with the caller once there is a channel; nothing is run before that.

    Raises:
        NotFoundError: there is no such build, or its workspace is not kept.
        ConflictError: it has not begun, or is being made ready.
        UnavailableError: the agent that has it cannot be reached.
    """
    build = find_build(service.world, request.build)
    attempt = _attempt(build, request.attempt)
    agent = _agent(build, attempt)
    if agent == service.me.name:
        place = await service.entrance.place(build, attempt)
        if place is None:
            raise not_kept(build)
        return lambda channel: _serve(service, build, attempt, place, who, channel)
    if agent is None or who.peer or service.peers is None:
        raise not_kept(build)
    path = f"/v1/builds/{quote(build.id, safe='')}/shell?attempt={attempt}"
    there = await service.peers.open(
        members.peer(service.world, agent), path, headers=members.spoken_for(who)
    )
    return lambda channel: _relay(channel, there)


def _attempt(build: Build, wanted: int) -> int:
    if build.group is not None or not build.attempt:
        if build.group is None and build.state in (State.HELD, State.QUEUED):
            raise ConflictError(
                f"{build.ref} is {build.state}: it has no workspace yet",
                hint=f"what it waits for: rota why {build.ref!r}",
            )
        raise not_kept(build)
    if wanted > build.attempt:
        raise NotFoundError(
            f"{build.ref} has no attempt {wanted}, only {build.attempt}",
            hint="without --attempt it is the last one",
        )
    return wanted or build.attempt


def _agent(build: Build, attempt: int) -> str | None:
    """Return the agent that ran an attempt."""
    former = next((it.agent for it in build.former if it.attempt == attempt), None)
    return former or (build.agent if attempt == build.attempt else None)


# -- on the agent that has it -------------------------------------------------------------------


async def _serve(
    service: Service, build: Build, attempt: int, place: Place, who: Principal, channel: Channel
) -> None:
    try:
        opening = await _opening(channel)
        if opening is None:
            return
        tty = opening.tty
        await service.append(
            BuildEntered(
                at=service.clock.now(),
                by=who.name,
                agent=service.me.name,
                build=build.id,
                attempt=attempt,
                program=opening.command[0][:200] if opening.command else "",
                tty=tty is not None,
            )
        )
        terminal = Tty(tty.rows, tty.columns, tty.term) if tty is not None else None
        async with place.inside(opening.command or SHELL, terminal) as session:
            entered = Entered(
                build=build.ref,
                attempt=attempt,
                agent=service.me.name,
                running=place.is_running,
                missing=place.missing,
            )
            await channel.send(_text({"entered": entered}))
            idle_s = service.world.definitions.settings.workspaces.shell_idle_s
            why = await _converse(session, channel, idle_s)
        if why is not None:
            why = why or (_ended_with(build) if place.is_over else "")
            ended = Ended(exit=session.code if session.code is not None else 255, why=why)
            await channel.send(_text(ended))
    except RotaError as error:
        await channel.send(_text(Refused(error.message, error.code, error.hint)))


def _ended_with(build: Build) -> str:
    return (
        f"the script of {build.ref} has ended, and all that ran with it;"
        f" if its workspace is kept: rota shell {build.ref!r}"
    )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


async def _opening(channel: Channel) -> Opening | None:
    try:
        async with asyncio.timeout(OPENING_S):
            first = await channel.receive()
    except TimeoutError as error:
        raise InputError(f"it was not said within {OPENING_S:g} s what to run") from error
    if first is None:
        return None
    if isinstance(first, bytes):
        raise InputError(
            "the first message is bytes", hint='a text such as {"command": ["ls"]} says what to run'
        )
    try:
        opening = msgspec.json.decode(first, type=Opening)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputError(f"it cannot be read what to run: {error}") from error
    if any("\0" in word for word in opening.command):
        raise InputError("a word of the command has a NUL character")
    return opening


async def _converse(session: Session, channel: Channel, idle_s: float) -> str | None:
    """Pass on what is said until one of both is over; return why, if not by itself.

    ``None`` if the caller is gone.
    """
    loop = asyncio.get_running_loop()
    stirred_at = loop.time()

    async def say() -> str | None:
        nonlocal stirred_at
        while (piece := await session.read()) is not None:
            stirred_at = loop.time()
            await channel.send(bytes((piece[0],)) + piece[1])
        return ""

    async def hear() -> str | None:
        nonlocal stirred_at
        while (message := await channel.receive()) is not None:
            stirred_at = loop.time()
            if isinstance(message, bytes):
                await session.write(message)
            else:
                await _heed(session, message)
        return None

    async def watch() -> str | None:
        while (left := stirred_at + idle_s - loop.time()) > 0:  # noqa: ASYNC110 - time is awaited
            await asyncio.sleep(left)
        return f"nothing was typed or printed for {format_duration(idle_s)}"

    return await _first(say(), hear(), watch())


async def _heed(session: Session, text: str) -> None:
    try:
        told = msgspec.json.decode(text, type=Told)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputError(f"a message cannot be read: {error}") from error
    if told.resize is not None:
        session.resize(*told.resize)
    if told.eof:
        await session.close_input()


async def _first(*works: Coroutine[None, None, str | None]) -> str | None:
    """Return what the first of them returns, and end the others; ``None`` if the caller is gone."""

    async def held(work: Coroutine[None, None, str | None]) -> str | RotaError | None:
        try:
            return await work
        except ConnectionError:
            return None
        except RotaError as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(held(work)) for work in works]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    # Of several that are over, the first one given counts: the last output, then that nobody hears it.
    found = next(task for task in tasks if task in done).result()
    if isinstance(found, RotaError):
        raise found
    return found


# -- on another ---------------------------------------------------------------------------------


async def _relay(channel: Channel, there: Channel) -> None:
    async def pass_on(source: Channel, target: Channel) -> str | None:
        while (message := await source.receive()) is not None:
            await target.send(message)
        return None

    async with _closed(there):
        await _first(pass_on(there, channel), pass_on(channel, there))


@contextlib.asynccontextmanager
async def _closed(channel: Channel) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await channel.close()

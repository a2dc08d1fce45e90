"""An agent as a process: from its options to its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from rota.adapters.git.fetching import from_clone
from rota.adapters.process.reserve import have_room
from rota.bootstrap.daemon import Daemon
from rota.bootstrap.engine import bring_up, engine_of
from rota.bootstrap.machine import Machine
from rota.bootstrap.member import identify
from rota.bootstrap.options import AgentOptions
from rota.daemon.folder import DataFolder
from rota.daemon.heap import share_one_arena
from rota.errors import (
    ConflictError,
    InputError,
    PartedError,
    leaves,
)

logger = logging.getLogger("rota")


def run_agent(options: AgentOptions) -> int:
    """Run an agent until it is told to stop; return the exit status."""
    if options.from_clone is not None and options.join is not None:
        raise InputError("--from-clone begins a cluster of its own, --join enters another's")
    folder = DataFolder(options.data)
    folder.make()
    machine = Machine(options)
    machine.read()
    _close_on_exec(keep=2)
    share_one_arena()
    try:
        with folder.held(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(options, folder, machine))
    except* PartedError as parted:
        logger.warning("begins anew: %s", leaves(parted)[0])
    # In a process without a past; builds and the engine's server are found again by it.
    return os.execv(sys.executable, again(sys.orig_argv))  # noqa: S606 - our own command, no shell


def again(command: Sequence[str]) -> list[str]:
    """Return the command that starts this agent again: what was for its first start is left away."""
    words, kept = iter(command), []
    for word in words:
        if word in ("--ready-fd", "--join", "--from-clone"):
            next(words, None)
        elif not word.startswith(("--ready-fd=", "--join=", "--from-clone=")):
            kept.append(word)
    return kept


def _close_on_exec(keep: int) -> None:
    """Let no script have what our own parent left open, such as make's job server."""
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) > keep:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(entry.name), False)


async def _serve(options: AgentOptions, folder: DataFolder, machine: Machine) -> int:
    stopping, serving = asyncio.Event(), asyncio.current_task()
    have_room()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # Before it is ready nobody waits for the event: what is being started is given up.
        stopping.set()
        if serving is not None and not ready.is_set():
            serving.cancel()

    ready = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # At a terminal it means that this was closed, and ends the agent as it ends any program.
    if not sys.stderr.isatty():
        loop.add_signal_handler(signal.SIGHUP, machine.hangup.set)
    try:
        if options.from_clone is not None:
            await from_clone(options.from_clone, options.data / "store.git")
        member = await identify(options, folder)
        machine.log.agent = member.name
        async with engine_of(options, folder, member) as engine:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    await bring_up(engine, member, options.data)
                    daemon = Daemon(options, folder, member, engine, stack, machine)
                    await daemon.run(stopping, ready)
            except asyncio.CancelledError:
                if not stopping.is_set():
                    raise
                logger.info("told to stop before it was ready")
            except (InputError, ConflictError):
                await engine.stop()  # started wrongly, it is not looked after by anybody
                raise
            # Only here: a daemon that crashed leaves its engine alive, to be taken over.
            await engine.stop()
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
        logger.info("told to stop before it was ready")
    logger.info("stopped")
    return 0

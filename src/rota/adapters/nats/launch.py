"""Bringing a server up: taken over if it lives, started if not, on ports that are free."""

from __future__ import annotations

import logging

import msgspec

from rota.adapters.nats import monitor
from rota.adapters.nats.bootstrap import GRACE_S, end_strays, first_boot, restart
from rota.adapters.nats.child import Child, is_ours
from rota.adapters.nats.config import Folder, State, are_free, free_ports, new_state
from rota.errors import UnavailableError

log = logging.getLogger(__name__)

#: How long a start may take, per try: an election that went wrong takes longer than starting anew.
#: A large store is read before the server answers.
BOOT_PATIENCE_S = (2.0, 4.0, 10.0, 30.0)
PATIENCE_S = (5.0, 20.0, 60.0)
#: How often, and for how long each time, a child to be taken over is asked for its name.
ASKS, ASK_S = 3, 3.0
MAX_LOG_BYTES = 1 << 20


class Launcher:
    """Knows the engine's folder and what stands in its ``engine.json``."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._state: State | None = None

    @property
    def state(self) -> State:
        """The present incarnation.

        Raises:
            UnavailableError: nothing was begun yet.
        """
        if self._state is None:
            raise UnavailableError("the engine was not started")
        return self._state

    async def begin(self) -> Child:
        """Take the living child over, or start one.

        Raises:
            UnavailableError: no child could be brought to answer; the hint has its last words.
        """
        try:
            self.folder.create()
        except OSError as error:
            raise self._unwritable(error) from error
        self._state = self.folder.load() or new_state()
        child = await self._take_over()
        if child is None:
            await end_strays(self.folder)
            child = await self.launch()
        return child

    async def _take_over(self) -> Child | None:
        """Return the child of a former daemon; if it is ours but hangs, end it."""
        state = self.state
        if state.process is None or not is_ours(state.process, self.folder.conf):
            return None
        child = Child(state.process)
        for _ in range(ASKS):
            if await monitor.server_name(state.ports.monitor, ASK_S) == state.name:
                return child
            if child.gone.done():
                return None
        await child.end(GRACE_S)
        return None

    async def launch(self) -> Child:
        """Start a child, trying again with more patience.

        Raises:
            UnavailableError: none could be brought to answer; the hint has its last words.
        """
        failure = UnavailableError("the engine did not start")
        booted = self.state.booted
        start = restart if booted else first_boot
        for patience_s in PATIENCE_S if booted else BOOT_PATIENCE_S:
            try:
                state = self._prepare()
                child = await start(state, self.folder, patience_s)
            except UnavailableError as error:
                failure = error
                log.warning("the engine did not start: %s", error.message)
            except OSError as error:
                raise self._unwritable(error) from error
            else:
                self._note(msgspec.structs.replace(state, booted=True, process=child.pid))
                return child
        raise UnavailableError(failure.message, hint=failure.hint or self._last_words())

    def _prepare(self) -> State:
        """Return the state to start with: ports that are free, and an empty store if never booted."""
        self._rotate_log()
        state = self.state
        if not state.booted:
            self.folder.wipe()
            state = new_state()
        elif not are_free(state.ports):
            state = msgspec.structs.replace(state, ports=free_ports())
        self._state = msgspec.structs.replace(state, process=None)
        self.folder.save(self._state)
        return self._state

    def _note(self, state: State) -> None:
        """Write down who runs. If that fails, the next daemon finds it by its configuration."""
        self._state = state
        try:
            self.folder.save(state)
        except OSError as error:
            log.warning("the engine runs, but %s", self._unwritable(error).message)

    def _rotate_log(self) -> None:
        path = self.folder.log
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_name("engine.log.1"))

    def _last_words(self, lines: int = 5) -> str:
        try:
            words = self.folder.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return f"see {self.folder.log}"
        return "\n".join([f"the last lines of {self.folder.log}:", *words[-lines:]])

    def _unwritable(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"cannot write in {self.folder.home}: {error.strerror}")

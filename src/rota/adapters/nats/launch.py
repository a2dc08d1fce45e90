"""Bringing a server up: taken over if it lives, started if not, on ports that are free."""

from __future__ import annotations

import logging
import shutil
import signal
from typing import TYPE_CHECKING

import msgspec

from rota.adapters.nats import monitor
from rota.adapters.nats.bootstrap import (
    GRACE_S,
    end_strays,
    first_boot,
    restart_alone,
    start_among,
)
from rota.adapters.nats.child import Child, is_ours
from rota.adapters.nats.config import (
    HOST,
    Own,
    Ports,
    State,
    are_free,
    disk_budget,
    free_ports,
    new_own,
)
from rota.errors import UnavailableError

if TYPE_CHECKING:
    from rota.adapters.nats.bootstrap import Site

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

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.folder
        self.state = State()

    def load(self) -> None:
        """Read what a former daemon left.

        Raises:
            UnavailableError: the folder cannot be used, or its data has lost its name.
        """
        try:
            self.folder.create()
        except OSError as error:
            raise self._unwritable(error) from error
        self.state = self.folder.load()
        own = self.state.own
        if own is not None and own.joined and not self.folder.store.exists():
            self._lose(own)

    def _lose(self, own: Own) -> None:
        """Give up a server whose data is gone: it would vote again on what it had decided."""
        if not self.state.others:
            raise UnavailableError(
                f"the engine's data in {self.folder.store} is gone",
                hint=f"bring it back, or move {self.folder.home} away to begin anew",
            )
        log.warning("the data of the engine's server %s is gone: it starts no more", own.name)
        self.update(own=None)

    @property
    def own(self) -> Own:
        """The present incarnation of our server.

        Raises:
            UnavailableError: there is none.
        """
        if self.state.own is None:
            raise UnavailableError("this agent runs no engine server")
        return self.state.own

    def update(self, **changes: object) -> None:
        """Change what is known and write it down.

        Raises:
            UnavailableError: it cannot be written.
        """
        state = msgspec.structs.replace(self.state, **changes)
        if state != self.state:
            try:
                self.folder.save(state)
            except OSError as error:
                raise self._unwritable(error) from error
            self.state = state

    def update_own(self, **changes: object) -> Own:
        """Change what is known of our own server, and write it down."""
        self.update(own=msgspec.structs.replace(self.own, **changes))
        return self.own

    async def begin(self, host: str | None) -> Child:
        """Take the living child over, or start one, for the first time if need be.

        Raises:
            UnavailableError: no child could be brought to answer; the hint has its last words.
        """
        if self.state.own is None:
            self.update(own=new_own(host=host or HOST))
        moves = host is not None and host != self.own.host
        child = await self._take_over()
        if child is not None and not moves:
            return child
        if child is not None:
            await child.end(GRACE_S)
        if moves and host is not None:
            self.update_own(host=host)
        await end_strays(self.site)
        return await self.launch()

    async def _take_over(self) -> Child | None:
        """Return the child of a former daemon; if it is ours but hangs, end it."""
        own = self.own
        if own.process is None or not is_ours(own.process, self.folder.conf):
            return None
        child = Child(own.process)
        for _ in range(ASKS):
            if await monitor.server_name(own.ports.monitor, ASK_S) == own.name:
                self.site.write(self.state, own)
                child.send(signal.SIGHUP)  # in any case: who wrote it last may have died after it
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
        for patience_s in PATIENCE_S if self.own.booted else BOOT_PATIENCE_S:
            try:
                return await self.launch_once(patience_s)
            except UnavailableError as error:
                failure = error
                log.warning("the engine did not start: %s", error.message)
        raise UnavailableError(failure.message, hint=failure.hint or self._last_words())

    async def launch_once(self, patience_s: float) -> Child:
        """Start a child.

        Raises:
            UnavailableError: it could not be brought to answer in time.
        """
        try:
            own = self._prepare()
            if not own.booted:
                child = await first_boot(self.site, own, patience_s)
            elif self.state.others:
                child = await start_among(self.site, self.state, own, patience_s)
            else:
                child = await restart_alone(self.site, self.state, own, patience_s)
        except OSError as error:
            raise self._unwritable(error) from error
        joined = own.joined or not own.booted
        self._note(msgspec.structs.replace(own, booted=True, joined=joined, process=child.pid))
        self.reload(child)
        return child

    def reload(self, child: Child) -> None:
        """Let the child read its configuration again, if that would be another one now."""
        own = self.state.own
        try:
            if own is not None and self.site.write(self.state, own):
                child.send(signal.SIGHUP)
        except OSError as error:
            raise self._unwritable(error) from error

    async def clear(self) -> None:
        """End whatever runs on the folder, and forget the server and its data."""
        await end_strays(self.site)
        self.folder.wipe()
        self.update(own=None)

    def _prepare(self) -> Own:
        """Return what to start with: ports that are free, and an empty store if never booted."""
        self.rotate_log()
        own = self.own
        if not own.booted:
            self.folder.wipe()
            own = new_own(host=own.host)
        elif not are_free(own.ports, own.host):
            own = msgspec.structs.replace(own, ports=_keep_free(own))
        own = msgspec.structs.replace(own, process=None, disk=disk_budget(self.folder))
        self.update(own=own)
        return own

    def _note(self, own: Own) -> None:
        """Write down who runs. If that fails, the next daemon finds it by its configuration."""
        state = msgspec.structs.replace(self.state, own=own)
        try:
            self.folder.save(state)
        except OSError as error:
            log.warning("the engine runs, but %s", self._unwritable(error).message)
        self.state = state

    def rotate_log(self) -> None:
        """Put a large log aside. The child appends to the file it has: so that is emptied."""
        path = self.folder.log
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(path, path.with_name("engine.log.1"))
            with path.open("r+b") as file:
                file.truncate(0)

    def _last_words(self, lines: int = 5) -> str:
        try:
            words = self.folder.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return f"see {self.folder.log}"
        return "\n".join([f"the last lines of {self.folder.log}:", *words[-lines:]])

    def _unwritable(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"cannot write in {self.folder.home}: {error.strerror}")


def _keep_free(own: Own) -> Ports:
    """Return ports to listen on instead of those that are taken; others may know the free ones."""
    fresh = free_ports(own.host)
    old = own.ports
    kept = {
        name: getattr(old, name)
        for name in ("client", "route")
        if are_free(msgspec.structs.replace(fresh, **{name: getattr(old, name)}), own.host)
    }
    return msgspec.structs.replace(fresh, **kept)

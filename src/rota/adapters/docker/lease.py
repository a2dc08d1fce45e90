"""The lease of an attempt in a container, as the daemon holds it: starts the guard, renews, releases."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import rota
from rota.adapters.docker.guard import moment
from rota.adapters.docker.home import Home
from rota.errors import ExecutionError

__all__ = ["Lease", "moment"]

_BEGIN_S = 20.0  # it takes 50 ms; longer only on a machine that is as good as hung
_SOURCE = str(Path(rota.__file__).parents[1])
# Without -S it would load what the interpreter's environment has, for nothing.
_WORDS = ("-I", "-S", "-c")
_GUARD = f"import sys; sys.path.insert(0, {_SOURCE!r}); from rota.adapters.docker.guard import main; main()"


class Lease:
    """The lease of the attempt in ``home``."""

    def __init__(self, home: Home) -> None:
        self._own = home.own

    @property
    def has_expired(self) -> bool:
        """Whether it ran out: the container was killed for it, or is just now."""
        return (self._own / "expired").exists()

    async def begin(self, container: str, engine: Path, until: float) -> None:
        """Start the guard of a container that is made and not started; return when it stands.

        Raises:
            ExecutionError: it does not start.
            OSError: the FIFO or the process cannot be made.
        """
        os.mkfifo(self._own / "lease", 0o600)
        words = [*_WORDS, _GUARD, str(self._own.absolute()), container, str(engine), repr(until)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_BEGIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if not self.renew(until) and not self.has_expired:
            raise ExecutionError("the guard of the attempt's lease could not be started")
        # It sees to it as soon as it gets a processor; before, a short script would be through.
        while until <= moment() and not self.has_expired:  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.005)

    def renew(self, until: float) -> bool:
        """Set when it runs out; False if nobody guards the attempt."""
        return self._tell(f"{until!r}\n".encode("ascii"))

    def release(self) -> None:
        """Let the guard go: nothing of the attempt is left. Safe to call again."""
        if not self._tell(b"end\n"):
            self._tell(b"end\n", "expired")

    def _tell(self, line: bytes, name: str = "lease") -> bool:
        try:
            fd = os.open(self._own / name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False  # nobody holds it open, or its name is gone
        try:
            os.write(fd, line)
        except BlockingIOError:
            pass  # it was stopped for long, and thousands of lines wait there
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

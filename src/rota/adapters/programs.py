"""Programs by asyncio's subprocesses: one run, its output, nothing left of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rota import child
from rota.errors import UnavailableError

#: More is no secret, and no answer of a program that was meant to give one.
MAX_OUTPUT = 256 * 1024
MAX_SAID = 300


class SystemPrograms:
    """See :class:`rota.ports.programs.Programs`."""

    async def output(self, argv: Sequence[str], *, within_s: float) -> bytes:
        """Return what a program wrote to its standard output, once it exited with 0."""
        name = Path(argv[0]).name
        try:
            process = await child.begin(*argv)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise UnavailableError(f"cannot run {argv[0]}: {why}") from error
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(within_s):
                out, said = await asyncio.gather(_all(process.stdout), _all(process.stderr))
                code = await process.wait()
        except TimeoutError:
            raise UnavailableError(f"{name} did not answer within {within_s:g} s") from None
        finally:
            await child.end(process)
        if len(out) > MAX_OUTPUT:
            raise UnavailableError(f"{name} printed more than {MAX_OUTPUT} bytes")
        if code:
            raise UnavailableError(f"{name} exited with {code}{_line(said, out)}")
        return out


async def _all(stream: asyncio.StreamReader) -> bytes:
    """Read to the end; keep what may be wanted, so that a program that talks on is not held up."""
    kept = bytearray()
    while piece := await stream.read(64 * 1024):
        if len(kept) <= MAX_OUTPUT:
            kept += piece
    return bytes(kept)


def _line(said: bytes, out: bytes) -> str:
    """Return the last line of what it complained about; not if it has of the output in it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not lines:
        return ""
    last = lines[-1]
    if any(len(part) > 3 and part in said for part in out.split()):
        return ""
    text = last.decode("utf-8", "replace")
    return ": " + "".join(ch if ch.isprintable() else "?" for ch in text)[:MAX_SAID]

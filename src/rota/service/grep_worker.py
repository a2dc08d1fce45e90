"""The program that searches logs: run as a process of its own, with the standard library alone.

Frames come in and go out, each a length (4 bytes, big endian) and so many bytes. The first one in
is the pattern; its answer is what is wrong with it, empty if nothing is. Each further one is a
piece of a log; its answer is the lines in it that match. An empty one is the log's end.

A pattern that takes too long on one piece ends this process: the kernel's alarm does it, because
Python is deaf to everything while it matches.
"""

import re
import resource
import signal
import struct
import sys

#: A line longer than this is matched by its beginning alone, and shown so.
MAX_LINE = 64 * 1024
MAX_MEMORY = 1 << 30
LENGTH = struct.Struct(">I")


class Lines:
    """Finds the lines that match in pieces that end anywhere."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self._rest = b""
        self._skipping = False  # within a line that was decided by its beginning

    def feed(self, piece: bytes) -> bytes:
        """Return the matching lines that are complete by now, each with its line end."""
        *lines, rest = (self._rest + piece).split(b"\n")
        if self._skipping and lines:
            del lines[0]
            self._skipping = False
        found = [line[:MAX_LINE] for line in lines if self._pattern.search(line[:MAX_LINE])]
        if self._skipping:
            rest = b""
        elif len(rest) > MAX_LINE:
            if self._pattern.search(rest[:MAX_LINE]):
                found.append(rest[:MAX_LINE])
            rest, self._skipping = b"", True
        self._rest = rest
        return b"\n".join([*found, b""])

    def finish(self) -> bytes:
        """Return the last line if it matches and has no line end."""
        if not self._rest or not self._pattern.search(self._rest):
            return b""
        return self._rest + b"\n"


def _receive() -> bytes:
    head = sys.stdin.buffer.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise SystemExit  # whoever asked is gone
    return sys.stdin.buffer.read(LENGTH.unpack(head)[0])


def _send(data: bytes) -> None:
    sys.stdout.buffer.write(LENGTH.pack(len(data)) + data)
    sys.stdout.buffer.flush()


def main(limit_s: float) -> None:
    """Search until the end; ``limit_s`` is the time that each piece may take."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    text = _receive()
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        lines = Lines(re.compile(text))
    except (re.error, OverflowError, RecursionError) as error:
        _send(str(error).encode() or b"it is nested too deeply")
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    _send(b"")
    while piece := _receive():
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        found = lines.feed(piece)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(found)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    _send(lines.finish())


if __name__ == "__main__":
    main(float(sys.argv[1]))

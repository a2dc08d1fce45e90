"""The program that searches logs: run as a process of its own, with the standard library alone.

Frames come in and go out, each a length (4 bytes, big endian) and so many bytes. The first one in
is the pattern; its answer is what is wrong with it, empty if nothing is. Each further one is a
piece of a log; its answer is the lines in it that match. An empty one is the log's end.

Given a number of matches, it is asked about many logs instead: an empty piece ends one of them and
begins the next, and each line comes with its place (`PLACE`: line, offset, length).

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
#: Before each line found: its number from 1, its first byte's offset, and how many bytes come.
PLACE = struct.Struct(">QQI")


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


class Places:
    """Finds the lines that match in one log after another, and where they stand."""

    def __init__(self, pattern: re.Pattern[bytes], limit: int) -> None:
        self._pattern, self._left = pattern, limit
        # What has no character with a meaning must stand there as it is: a quick way to say no.
        plain = pattern.pattern
        self._plain = plain if re.escape(plain).replace(b"\\ ", b" ") == plain else b""
        self._begin()

    def _begin(self) -> None:
        self._rest = b""
        self._number, self._offset = 1, 0  # of the line that `_rest` begins
        self._skipping = False  # within a line that was decided by its beginning

    def feed(self, piece: bytes) -> bytes:
        """Return the matching lines that are complete by now."""
        data = self._rest + piece
        end = data.rfind(b"\n") + 1
        found = self._whole(data[:end]) if end else []
        self._rest = data[end:]
        if len(self._rest) > MAX_LINE or self._skipping:
            if not self._skipping:
                found += self._line(self._rest)
            self._offset += len(self._rest)
            self._rest, self._skipping = b"", True
        return b"".join(found)

    def finish(self) -> bytes:
        """Return the last line if it matches and has no line end; another log begins."""
        found = self._line(self._rest) if self._rest else []
        self._begin()
        return b"".join(found)

    def _whole(self, block: bytes) -> list[bytes]:
        found: list[bytes] = []
        if self._plain and self._plain not in block:
            self._number += block.count(b"\n")
            self._offset += len(block)
            self._skipping = False
            return found
        for line in block[:-1].split(b"\n"):
            if not self._skipping:
                found += self._line(line)
            self._skipping = False
            self._number += 1
            self._offset += len(line) + 1
        return found

    def _line(self, line: bytes) -> list[bytes]:
        line = line[:MAX_LINE]
        if self._left <= 0 or not self._pattern.search(line):
            return []
        self._left -= 1
        return [PLACE.pack(self._number, self._offset, len(line)), line]


def _receive() -> bytes:
    head = sys.stdin.buffer.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise SystemExit  # whoever asked is gone
    return sys.stdin.buffer.read(LENGTH.unpack(head)[0])


def _send(data: bytes) -> None:
    sys.stdout.buffer.write(LENGTH.pack(len(data)) + data)
    sys.stdout.buffer.flush()


def main(limit_s: float, matches: int | None = None) -> None:
    """Search until the end; ``limit_s`` is the time that each piece may take."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    text = _receive()
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        _send(str(error).encode() or b"it is nested too deeply")
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    _send(b"")
    lines = Lines(pattern) if matches is None else Places(pattern, matches)
    while (piece := _receive()) or matches is not None:
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        found = lines.feed(piece) if piece else lines.finish()
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(found)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    _send(lines.finish())


if __name__ == "__main__":
    main(float(sys.argv[1]), *map(int, sys.argv[2:]))

"""The proc-receive hook: asks the agent whether main moves, and passes its answer on to git.

Runs as a program of its own, with the standard library alone (10 ms). It speaks git's pkt-lines
(githooks(5)) on standard input and output; over the descriptor that ``ROTA_ASK`` names it sends
``OLD NEW REF`` lines and reads for each ``ok``, or the words of a refusal. When it runs, what was
pushed is in the repository.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import BinaryIO

NOT_SERVED = "this repository takes a push through its agent only: push to the agent's URL"
GONE = "the agent stopped before it answered: fetch to see what became of it"


def main() -> int:
    """Answer git; return the exit status."""
    reading, writing = sys.stdin.buffer, sys.stdout.buffer
    list(lines(reading))  # its version and features; of those we need none
    writing.write(packet(b"version=1") + b"0000")
    writing.flush()
    commands = list(lines(reading))
    for command, answer in zip(commands, ask(commands), strict=True):
        ref = command.split(b" ")[2]
        report = b"ok %s" % ref if answer == b"ok" else b"ng %s %s" % (ref, answer)
        writing.write(packet(report))
    writing.write(b"0000")
    writing.flush()
    return 0


def lines(reading: BinaryIO) -> Iterator[bytes]:
    """Yield the packets up to the next flush."""
    while size := int(reading.read(4) or b"0", 16):
        yield reading.read(size - 4).rstrip(b"\n")


def packet(data: bytes) -> bytes:
    """Return the bytes of one packet."""
    return b"%04x%s" % (len(data) + 4, data)


def ask(commands: list[bytes]) -> Iterator[bytes]:
    """Yield the agent's answer to each command, one after the other."""
    number = os.environ.get("ROTA_ASK", "")
    if not number:
        yield from (NOT_SERVED.encode() for _ in commands)
        return
    with socket.socket(fileno=int(number)) as agent, agent.makefile("rb") as answers:
        for command in commands:
            try:
                agent.sendall(command + b"\n")
                answer = answers.readline().rstrip(b"\n")
            except OSError:
                answer = b""
            yield answer or GONE.encode()


if __name__ == "__main__":
    sys.exit(main())

"""Text like a compiler's, so that compressing it is as hard as in life."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

#: Odd, so that no piece of a log holds a whole repetition or begins where another does.
BLOCK_BYTES = 1_000_003
_DIRECTORIES = ["src", "lib", "core", "net", "store", "tests", "vendor", "include"]
_WORDS = ["parse", "queue", "index", "build", "agent", "chunk", "label", "event", "frame", "lease"]


def write(path: Path, size: int) -> str:
    """Write ``size`` bytes of text, the same for the same size; return their hex SHA-256."""
    block = _block()
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            piece = block[: size - start]
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _block() -> bytes:
    chance = random.Random(1)
    lines, size = [], 0
    while size < BLOCK_BYTES:
        line = _line(chance)
        lines.append(line)
        size += len(line)
    return b"".join(lines)[:BLOCK_BYTES]


def _line(chance: random.Random) -> bytes:
    folder, word, other = (chance.choice(s) for s in (_DIRECTORIES, _WORDS, _WORDS))
    number = chance.randrange(10_000)
    if number % 7 == 0:
        return f"{folder}/{word}_{other}.c:{number}: warning: unused '{word}{number}'\n".encode()
    token = f"{chance.getrandbits(64):016x}"
    return f"cc -O2 -g -I{folder} -c {folder}/{word}_{other}{number}.c -o out/{token}.o\n".encode()

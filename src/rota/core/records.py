"""What stands on ``history`` about a finished build: where, and in which bytes.

A record is the build itself as JSON, one field a line and sorted, so that ``git diff`` between two
attempts shows what differed. A commit rewrites each folder on the way to its files, so the path
keeps folders below a hundred entries: with a thousand in each, adding a record costs three times
as much once they are full.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rota.core.build import Build
from rota.core.schedules import is_ledger

FOLDER = "builds"
TRAILER = "Journal-Seq"
#: So many builds are named in a commit's message; the others are in its diff.
MAX_NAMED = 20

#: What a build has had since level 2: while it is empty a record is what it was before.
_NOT_YET = b'"log_sha256":"",'

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Build)


def record_path(build: Build) -> str:
    """Return the path of the build's record on ``history``.

    ``web/test#1234567`` lies at ``builds/web/test/@123/45/1234567.json``. A segment of a job's
    name cannot start with ``@``, so the folders of numbers never meet the folder of another job.
    """
    number = build.number
    return f"{FOLDER}/{build.job}/@{number // 10_000:03}/{number // 100 % 100:02}/{number}.json"


def encode(build: Build) -> bytes:
    """Return the record's bytes: the same build gives the same bytes."""
    raw = _encoder.encode(build).replace(_NOT_YET, b"")  # within a text its quotes are escaped
    return msgspec.json.format(raw, indent=2) + b"\n"


def decode(data: bytes) -> Build | None:
    """Return the build that a record holds; ``None`` if it holds none. Never raises."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def message(records: Sequence[bytes], covers: int, told: Sequence[str] = ()) -> str:
    """Return the message of the commit that writes ``records``, the same for the same arguments.

    ``told`` are lines of deeds, and of the anchor. What schedules did is in its diff. Its last line is the trailer that names ``covers``, the journal sequence up to which
    ``history`` is complete with this commit.
    """
    records = [data for data in records if not is_ledger(data)]
    count = len(records)
    lines = [f"history: {count} build{'' if count == 1 else 's'}", ""]
    lines += [_line(data) for data in records[:MAX_NAMED]]
    if count > MAX_NAMED:
        lines.append(f"and {count - MAX_NAMED} more")
    if count:
        lines.append("")
    lines += [*told, f"{TRAILER}: {covers}", ""]
    return "\n".join(lines)


def covered(message: str) -> int:
    """Return what the trailer of a commit's message names; 0 if it has none."""
    for line in reversed(message.splitlines()):
        key, _, value = line.partition(": ")
        if key == TRAILER and value.isascii() and value.isdigit() and len(value) < 17:
            return int(value)
    return 0


def _line(data: bytes) -> str:
    build = decode(data)
    return f"{build.ref} {build.result or build.state}" if build else "a record of another version"

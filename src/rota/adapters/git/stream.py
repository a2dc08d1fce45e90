"""Commits as text for ``git fast-import``: one process writes all objects, and may move a ref.

fast-import moves a ref only to a descendant of what it is at, and takes git's own lock to do so.
A commit whose parent is the expected value is therefore a compare-and-set: when somebody else
moved the ref, it does not contain what they wrote and is refused. A ref that the stream itself
resets to nothing is never written: so a commit is made that is on no branch. ``done`` at the end
means that a stream which breaks off, because we died, moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from rota.ports.store import Author

#: Folders hardly compress; repacking makes deltas of them, later and with nobody waiting.
COMMAND = (
    "-c",
    "pack.compression=0",
    "fast-import",
    "--quiet",
    "--done",
    "--date-format=raw",
)
#: How git writes "no commit" where a hash should be.
NO_COMMIT = "0" * 40
ROTA = Author(name="rota", email="rota@localhost")

_PREPARED = "refs/rota/prepared"
_ESCAPES = {b: f"\\{b:03o}".encode() for b in range(256) if b < 32 or b in b'"\\' or b >= 127}


def commit_stream(
    ref: str | None,
    parent: str,
    changes: Mapping[str, bytes | None],
    *,
    author: Author,
    message: str,
    at: datetime,
) -> bytes:
    """Return the input that makes one commit on the branch ``ref`` and prints its hash.

    Args:
        ref: A branch's name; ``None`` to move none.
        parent: Hash of the parent; ``""`` for a first commit.
        changes: Path -> new content; ``None`` deletes. Files under ``jobs/`` are executable.
        author: Who it is by. The committer is always rota.
        message: With its final line end.
        at: Aware; of author and committer, to the second, written in UTC.
    """
    text = message.encode("utf-8", "replace")
    name = _PREPARED if ref is None else f"refs/heads/{ref}"
    out = [
        f"commit {name}\nmark :1\n".encode(),
        b"author %s\n" % _person(author, at),
        b"committer %s\n" % _person(ROTA, at),
        b"data %d\n%s\n" % (len(text), text),
    ]
    if parent:
        out.append(f"from {parent}\n".encode())
    out += [_change(path, data) for path, data in changes.items()]
    out.append(b"get-mark :1\n")
    if ref is None:
        out.append(f"reset {name}\nfrom {NO_COMMIT}\n\n".encode())
    out.append(b"done\n")
    return b"".join(out)


def encode_path(path: str) -> bytes:
    """Return the path's bytes; the way back of :func:`decode_path`."""
    return path.encode("utf-8", "surrogateescape")


def decode_path(path: bytes) -> str:
    """Return the path as text; bytes that are not UTF-8 become lone surrogates."""
    return path.decode("utf-8", "surrogateescape")


def _change(path: str, data: bytes | None) -> bytes:
    quoted = b'"%s"' % b"".join(_ESCAPES.get(b, bytes((b,))) for b in encode_path(path))
    if data is None:
        return b"D %s\n" % quoted
    mode = b"100755" if path.startswith("jobs/") else b"100644"
    return b"M %s inline %s\ndata %d\n%s\n" % (mode, quoted, len(data), data)


def _person(author: Author, at: datetime) -> bytes:
    # Git's commit format has no way to quote these.
    name, email = (
        "".join(c for c in text if c.isprintable() and c not in "<>").strip()
        for text in (author.name, author.email)
    )
    return f"{name or 'unknown'} <{email}> {int(at.timestamp())} +0000".encode("utf-8", "replace")

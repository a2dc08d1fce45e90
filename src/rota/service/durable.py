"""Small files of an agent that a power cut leaves as they were, or as they are to be."""

from __future__ import annotations

import os
from pathlib import Path

from rota.errors import UnavailableError


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file, for this user's eyes alone. Blocks for some milliseconds: it is synced.

    Raises:
        UnavailableError: it could not be written, and is as it was.
    """
    fresh = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}") from error

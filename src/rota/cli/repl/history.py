"""The lines of former sessions: a file of the user's own, of bounded length."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rota.cli.line import LineError, steps

MAX_BYTES = 512 * 1024
#: Commands whose words may hold what is nobody's business: a value that was refused, or an input.
_PRIVATE = frozenset({"secret", "send", "answer", "emit"})


def history_path(env: Mapping[str, str]) -> Path:
    """Return where the history is (XDG base directories)."""
    state = env.get("XDG_STATE_HOME") or ""
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "rota" / "history"


def prepared(path: Path) -> bool:
    """Whether the file can be written; it is the user's alone, and not longer than it may be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= MAX_BYTES:
                return True
            file.seek(size - MAX_BYTES // 2)
            tail = file.read()
        # An entry begins with a line of its own, "# " and when it was typed.
        start = tail.find(b"\n# ") + 1
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_bytes(tail[start:])
        draft.replace(path)
    except OSError:
        return False
    return True


def is_kept(text: str) -> bool:
    """Whether a line is for the history: none that begins with a space, or may hold a secret."""
    if not text.strip() or text[0].isspace():
        return False
    try:
        found = steps(text)
    except LineError:
        return True
    for step in found:
        words = [word for word in step.words if word != "rota"]
        if words[:1] == ["secret"] and len(words) <= 3:
            continue
        if words and words[0] in _PRIVATE:
            return False
    return True
